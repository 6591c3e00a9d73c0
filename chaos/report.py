"""The report of a run: one structure, shown as JSON for programs and as text for people."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from chaos.checkers import Check
from chaos.final import Final
from chaos.history import History, recovery_times, summary
from chaos.history_file import FILE, write_run

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
        """Nothing was broken, and something was promised: a run without a single 250 proves nothing."""
        return all(check.ok for check in self.checks) and self.history.counts()["acknowledged"] > 0

    def as_dict(self) -> dict[str, Any]:
        times = recovery_times(self.history)
        return {
            "scenario": self.scenario,
            "seed": self.seed,
            "ok": self.ok,
            "attempts": self.history.counts(),
            "recovery": summary(times),
            "kills": [
                asdict(kill) | {"recovery_s": None if time_s is None else round(time_s, 3)}
                for kill, time_s in zip(self.history.kills, times, strict=True)
            ],
            "checks": [
                {
                    "promise": check.promise,
                    "ok": check.ok,
                    "violations": [violation._asdict() for violation in check.violations],
                }
                for check in self.checks
            ],
            "timeline": [asdict(moment) for moment in self.history.timeline],
        }

    def as_text(self) -> str:
        counts, recovery = self.history.counts(), summary(recovery_times(self.history))
        lines = [f"{self.scenario}, seed {self.seed}: {'clean' if self.ok else 'VIOLATED'}", ""]
        lines += [f"{m.at_s:9.3f} s  {m.what:<44} {m.node:<4} {m.detail}".rstrip() for m in self.history.timeline]
        lines += ["", "attempts  " + "  ".join(f"{name} {count}" for name, count in counts.items())]
        lines += ["recovery  " + "  ".join(f"{name} {value}" for name, value in recovery.items())]
        for check in self.checks:
            lines.append(f"{'FAIL' if not check.ok else 'ok':<5} {check.promise}")
            lines += [f"      {v.checker} {v.node}: {v.text}" for v in check.violations[:SHOWN_VIOLATIONS]]
            if len(check.violations) > SHOWN_VIOLATIONS:
                lines.append(f"      and {len(check.violations) - SHOWN_VIOLATIONS} more")
        return "\n".join(lines)

    def write(self, folder: Path) -> None:
        """report.json, report.txt, and the history."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").write_text(json.dumps(self.as_dict(), indent=2) + "\n")
        (folder / "report.txt").write_text(self.as_text() + "\n")
        write_run(folder / FILE, self.scenario, self.seed, self.history, self.final)
