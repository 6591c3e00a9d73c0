"""A report is clean only if every check passed and something was acknowledged; both forms say the same."""

import json
from pathlib import Path

from chaos.checkers import Check, Violation
from chaos.final import Final
from chaos.history import History, Kill, Operation, Outcome
from chaos.history_file import FILE, read_run
from chaos.report import Report


def history(*outcomes: Outcome) -> History:
    past = History(
        operations=[
            Operation(i, "smtp-n1", "n1", "smtp", "deliver", "a@b.test", {}, 2.0, 2.5, outcome, "")
            for i, outcome in enumerate(outcomes)
        ],
        kills=[Kill(1.0, "n2", 42, 3.0)],
    )
    past.note("kill leader", "n2", "pid 42")
    return past


def report(past: History, *violations: Violation) -> Report:
    return Report("leader-kill", 7, past, [Check("nothing is lost", list(violations))], Final({}))


def test_a_run_without_violations_is_clean_and_tells_its_recovery_times(tmp_path: Path) -> None:
    clean = report(history(Outcome.ACKNOWLEDGED, Outcome.REFUSED))
    assert clean.ok
    clean.write(tmp_path / "run")
    written = json.loads((tmp_path / "run" / "report.json").read_text())
    assert written["recovery"] == {"kills": 1, "never": 0, "median_s": 1.5, "p95_s": 1.5, "max_s": 1.5}
    assert written["attempts"] == {"total": 2, "acknowledged": 1, "refused": 1, "unknown": 0}
    assert written["kills"][0]["recovery_s"] == 1.5
    assert read_run(tmp_path / "run" / FILE) == ("leader-kill", 7, clean.history, clean.final)
    assert "seed 7: clean" in (tmp_path / "run" / "report.txt").read_text()


def test_a_violation_makes_it_fail_and_is_shown() -> None:
    broken = report(history(Outcome.ACKNOWLEDGED), Violation("delivery", "n3", "lost: attempt 0"))
    assert not broken.ok
    assert "lost: attempt 0" in broken.as_text()
    assert broken.as_dict()["checks"][0]["violations"] == [
        {"checker": "delivery", "node": "n3", "text": "lost: attempt 0"}
    ]


def test_a_run_in_which_nothing_was_acknowledged_proves_nothing() -> None:
    assert not report(history(Outcome.REFUSED)).ok
