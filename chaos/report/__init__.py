"""The report of a run: one structure, shown as JSON for programs, as text in a terminal and as a page for people."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from chaos.checkers import Check
from chaos.checkers.memory import lives
from chaos.final import Final
from chaos.history import History, recovery_times, summary
from chaos.history_file import FILE, write_run
from chaos.report.figures import latencies_ms, longest_silence, outcomes
from chaos.report.page import check_state, page

__all__ = ["Check", "Report"]

SHOWN_VIOLATIONS = 20


@dataclass(frozen=True)
class Report:
    """A judged run."""

    scenario: str
    seed: int
    history: History
    checks: list[Check]
    final: Final

    @property
    def ok(self) -> bool:
        """Nothing was broken, and something was promised: a run without a single success proves nothing."""
        return all(check.ok for check in self.checks) and self.history.counts()["acknowledged"] > 0

    @property
    def verdict(self) -> str:
        """In words; what could not be judged is told from what was broken."""
        if any(check.violations for check in self.checks):
            return "VIOLATED"
        if any(check.undecided for check in self.checks):
            return "NOT DECIDED"
        return "clean" if self.ok else "NOTHING WAS DONE"

    def as_dict(self) -> dict[str, Any]:
        history = self.history
        times = recovery_times(history)
        after_bands = recovery_times(history, [band.began_s for band in history.bands])
        return {
            "scenario": self.scenario,
            "seed": self.seed,
            "ok": self.ok,
            "verdict": self.verdict,
            "attempts": history.counts(),
            "outcomes": outcomes(history.operations),
            "latency": latencies_ms(history.operations),
            "longest_silence": longest_silence(history),
            "recovery": summary(times),
            "kills": [asdict(kill) | {"recovery_s": _rounded(s)} for kill, s in zip(history.kills, times, strict=True)],
            "bands": [
                asdict(band) | {"recovery_s": _rounded(s)} for band, s in zip(history.bands, after_bands, strict=True)
            ],
            "memory": [life._asdict() | {"grew": life.grew} for life in lives(history.footprints)],
            "checks": [_check_dict(check) for check in self.checks],
            "timeline": [asdict(moment) for moment in history.timeline],
        }

    def as_text(self) -> str:
        facts = self.as_dict()
        lines = [f"{self.scenario}, seed {self.seed}: {self.verdict}", ""]
        lines += [f"{m.at_s:9.3f} s  {m.what:<44} {m.node:<4} {m.detail}".rstrip() for m in self.history.timeline]
        lines += ["", "operations  " + "  ".join(f"{name} {count}" for name, count in facts["attempts"].items())]
        lines += [f"  {action:<16} {_numbers(values)}" for action, values in facts["latency"].items()]
        lines += ["recovery  " + "  ".join(f"{name} {value}" for name, value in facts["recovery"].items())]
        silence = facts["longest_silence"]
        lines += [
            f"memory  {life['node']} process {life['pid']}  {life['early_kib'] / 1024:.1f} MiB early, "
            f"{life['late_kib'] / 1024:.1f} MiB late in {life['lasted_s']:.0f} s"
            for life in facts["memory"]
        ]
        lines += [f"longest without a 250  {silence['length_s']} s, from {silence['began_s']} s on", ""]
        for check in self.checks:
            lines += _check_lines(check)
        return "\n".join(lines)

    def as_page(self) -> str:
        """The page as HTML, whole in itself."""
        return page(f"mailraft chaos: {self.scenario}", self.as_dict(), self.history, self.checks)

    def write(self, folder: Path) -> None:
        """report.html, report.json, report.txt, and the history, which can be judged again."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.html").write_text(self.as_page(), encoding="utf-8")
        (folder / "report.json").write_text(json.dumps(self.as_dict(), indent=2) + "\n", encoding="utf-8")
        (folder / "report.txt").write_text(self.as_text() + "\n", encoding="utf-8")
        write_run(folder / FILE, self.scenario, self.seed, self.history, self.final)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _numbers(values: dict[str, float]) -> str:
    shown = (f"{name.removesuffix('_ms')} {value:g} ms" for name, value in values.items() if name != "count")
    return f"{values['count']:>7}  " + "  ".join(shown)


def _check_dict(check: Check) -> dict[str, Any]:
    return {
        "promise": check.promise,
        "ok": check.ok,
        "violations": [violation._asdict() for violation in check.violations],
        "undecided": list(check.undecided),
    }


def _check_lines(check: Check) -> list[str]:
    lines = [f"{check_state(check):<5} {check.promise}"]
    for violation in check.violations[:SHOWN_VIOLATIONS]:
        text = violation.text.replace("\n", "\n      ")
        lines.append(f"      {violation.checker} {violation.node}: {text}")
    if len(check.violations) > SHOWN_VIOLATIONS:
        lines.append(f"      and {len(check.violations) - SHOWN_VIOLATIONS} more")
    return lines + [f"      not decided: {text}" for text in check.undecided]
