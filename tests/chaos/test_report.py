"""A report is clean only if every check passed and something was acknowledged; both forms say the same."""

import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from chaos.checkers import Check, Violation
from chaos.final import Final
from chaos.history import Band, History, Kill, Operation, Outcome
from chaos.history_file import FILE, read_run
from chaos.report import Report
from chaos.report.figures import MOST_BUCKETS, throughput


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
    assert "seed 7" in (tmp_path / "run" / "report.html").read_text()
    assert read_run(tmp_path / "run" / FILE) == ("leader-kill", 7, clean.history, clean.final)
    assert "seed 7: clean" in (tmp_path / "run" / "report.txt").read_text()


def test_a_violation_makes_it_fail_and_is_shown() -> None:
    broken = report(history(Outcome.ACKNOWLEDGED), Violation("delivery", "n3", "lost: attempt 0"))
    assert not broken.ok
    assert broken.verdict == "VIOLATED"
    assert "lost: attempt 0" in broken.as_text()
    assert broken.as_dict()["checks"][0]["violations"] == [
        {"checker": "delivery", "node": "n3", "text": "lost: attempt 0"}
    ]


def test_a_run_in_which_nothing_was_acknowledged_proves_nothing() -> None:
    nothing = report(history(Outcome.REFUSED))
    assert not nothing.ok
    assert nothing.verdict == "NOTHING WAS DONE"


SVG = "{http://www.w3.org/2000/svg}"


def eventful() -> History:
    """Two seconds with everything that a plot shows."""
    past = History(skipped=3)
    for number, (protocol, action, outcome) in enumerate(
        [
            ("smtp", "deliver", Outcome.ACKNOWLEDGED),
            ("imap", "store", Outcome.UNKNOWN),
            ("imap", "read", Outcome.ACKNOWLEDGED),
            ("admin", "quota", Outcome.REFUSED),
        ]
    ):
        subject = "a@b.test"
        ended_s = 0.25 + number / 2
        operation = Operation(number, "s", "n1", protocol, action, subject, {}, 0.1, ended_s, outcome, "<said> & done")
        past.operations.append(operation)
    past.kills.append(Kill(0.5, "n1", 42))
    past.bands += [Band("partition", "n1 n2", 0.2, 0.9, "<both ways>"), Band("pause", "n3", 0.3), Band("late", "", 1.9)]
    past.saw("n1", "leader", 3)
    past.saw("n2", "up", 3)
    return past


def page_of(past: History, *violations: Violation) -> ElementTree.Element:
    return ElementTree.fromstring(report(past, *violations).as_page().partition("\n")[2])


def titles(page: ElementTree.Element) -> list[str]:
    return [title.text or "" for title in page.iter(f"{SVG}title")]


def test_the_page_is_well_formed_and_whole_in_itself() -> None:
    text = report(eventful()).as_page()
    ElementTree.fromstring(text.partition("\n")[2])
    assert not re.search(r"<script|<link|<img|@import|url\(", text)
    assert re.findall(r"https?://[^\"']*", text) == ["http://www.w3.org/2000/svg"]


def test_the_plot_shows_every_kind_fault_election_kill_and_node() -> None:
    shown = "\n".join(titles(page_of(eventful())))
    for text in ("deliveries: 1", "IMAP reads: 1", "unknown: 1", "refused: 1", "partition n1 n2", "0.20 s to 0.90 s"):
        assert text in shown
    for text in ("pause n3: 0.30 s to the end", "n1 elected, term 3", "n1 killed at 0.50 s", "n2 up, term 3"):
        assert text in shown


def test_a_kill_is_counted_and_listed_as_one_fault() -> None:
    past = eventful()
    past.bands = [Band("kill", "n1", 0.5, 1.5, "pid 42")]
    page = page_of(past)
    tiles = {tile.findtext("b") + (tile[0].tail or "") for tile in page.iter("li")}  # type: ignore[operator]
    assert {"1faults", "1kills among them"} <= tiles
    assert [cell.text for cell in page.iter("td")].count("kill") == 1


def test_nothing_is_drawn_outside_of_the_plot() -> None:
    svg = next(page_of(eventful()).iter(f"{SVG}svg"))
    _, _, width, height = map(float, svg.attrib["viewBox"].split())
    for rect in svg.iter(f"{SVG}rect"):
        x, y, w, h = (float(rect.attrib[name]) for name in ("x", "y", "width", "height"))
        assert 0 <= x <= x + w <= width + 3, rect.attrib
        assert 0 <= y <= y + h <= height, rect.attrib
    for polygon in svg.iter(f"{SVG}polygon"):
        points = [tuple(map(float, pair.split(","))) for pair in polygon.attrib["points"].split()]
        assert all(0 <= x <= width and 0 <= y <= height for x, y in points)


def test_a_run_in_which_nothing_happened_has_a_page_too() -> None:
    assert list(page_of(History()).iter(f"{SVG}svg"))


def test_the_page_shows_a_violation_with_its_operations_escaped() -> None:
    page = page_of(eventful(), Violation("linearizability", "n1", "stale read\n  #1 <b>told</b>"))
    shown = [pre.text for pre in page.iter("pre")]
    assert shown == ["linearizability n1: stale read\n  #1 <b>told</b>"]


def test_what_was_not_decided_is_no_pass() -> None:
    undecided = Report(
        "x", 1, history(Outcome.ACKNOWLEDGED), [Check("one order", [], ("INBOX: too many steps",))], Final({})
    )
    assert not undecided.ok
    assert undecided.verdict == "NOT DECIDED"
    assert "OPEN  one order" in undecided.as_text()
    assert "not decided: INBOX: too many steps" in undecided.as_text()
    assert "not decided: INBOX: too many steps" in undecided.as_page()


def test_throughput_is_counted_by_half_second_and_by_longer_steps_where_a_run_is_long() -> None:
    counts = throughput(eventful())
    assert counts.bucket_s == 0.5
    assert counts.kinds["deliveries"] == [1, 0, 0, 0]
    assert counts.failures == {"refused": [0, 0, 0, 1], "unknown": [0, 1, 0, 0]}
    long = eventful()
    long.operations.append(replace(long.operations[0], ended_s=3600.0))
    assert len(throughput(long).kinds["deliveries"]) <= MOST_BUCKETS + 1
    assert sum(throughput(long).kinds["deliveries"]) == 2
