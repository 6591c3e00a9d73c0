"""What a run did and saw: every delivery attempt with its outcome, and the timeline of faults.

Times are seconds since the run began, from one monotonic clock. An attempt's body is kept as its digest only: the
bytes can be made again from the seed.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """What the client may conclude from what it was told."""

    ACKNOWLEDGED = "acknowledged"  # 250 after the final dot: there for ever
    REFUSED = "refused"  # 5xx, or the final dot was never sent: certainly not there
    UNKNOWN = "unknown"  # 4xx or silence after the final dot: there once or not at all


@dataclass(frozen=True)
class Attempt:
    """One delivery attempt; `identity` stands in its message and nowhere else."""

    identity: str
    node: str
    recipients: tuple[str, ...]
    sha256: str
    size: int
    began_s: float
    ended_s: float
    outcome: Outcome
    reply: str


@dataclass(frozen=True)
class Kill:
    """One SIGKILL of a leader, and what followed; None where it did not happen before the end."""

    at_s: float
    node: str
    pid: int
    alive_again_s: float | None = None


@dataclass(frozen=True)
class Moment:
    """One line of the timeline."""

    at_s: float
    what: str
    node: str = ""
    detail: str = ""


@dataclass
class History:
    """Everything that one run did, in the order in which it ended."""

    started: float = field(default_factory=time.monotonic)
    attempts: list[Attempt] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    timeline: list[Moment] = field(default_factory=list)

    def now_s(self) -> float:
        return time.monotonic() - self.started

    def note(self, what: str, node: str = "", detail: str = "") -> Moment:
        moment = Moment(round(self.now_s(), 3), what, node, detail)
        self.timeline.append(moment)
        return moment

    def with_outcome(self, outcome: Outcome) -> Iterator[Attempt]:
        return (attempt for attempt in self.attempts if attempt.outcome is outcome)

    def counts(self) -> dict[str, int]:
        return {"total": len(self.attempts)} | {o.value: sum(1 for _ in self.with_outcome(o)) for o in Outcome}


def recovery_times(history: History) -> list[float | None]:
    """For each kill, seconds from it to the first 250 of an attempt that began after it; None: there was none.

    Attempts that were under way at the kill do not count: their answer may have been on the wire already.
    """
    acknowledged = sorted(history.with_outcome(Outcome.ACKNOWLEDGED), key=lambda attempt: attempt.ended_s)
    times: list[float | None] = []
    for kill in history.kills:
        first = next((a.ended_s for a in acknowledged if a.began_s > kill.at_s), None)
        times.append(None if first is None else first - kill.at_s)
    return times


def percentile(values: list[float], percent: float) -> float:
    """The nearest-rank percentile of a non-empty list."""
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * percent // 100))
    return ordered[int(rank) - 1]


def summary(times: list[float | None]) -> dict[str, Any]:
    """Count, median, 95th percentile and maximum of recovery times; `never` counts kills that nothing followed."""
    known = [t for t in times if t is not None]
    result: dict[str, Any] = {"kills": len(times), "never": len(times) - len(known)}
    if known:
        for name, percent in (("median_s", 50), ("p95_s", 95), ("max_s", 100)):
            result[name] = round(percentile(known, percent), 3)
    return result
