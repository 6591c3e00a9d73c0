"""What a run did and saw, as data: every operation with its outcome, the faults, and what the nodes were seen to be.

Times are seconds since the run began, from one monotonic clock in one process, so that "before" means something: an
operation took effect, if it did, between `began_s` and `ended_s`. A message's body is kept as its digest only; the
bytes can be made again from the seed. `history_file` writes all this as JSON lines and reads it back; checkers need
nothing else.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

Facts = Mapping[str, Any]  # what JSON can hold


class Outcome(StrEnum):
    """What the client may conclude from what it was told."""

    ACKNOWLEDGED = "acknowledged"  # a success after all was sent: done for ever, or read as it was
    REFUSED = "refused"  # told that it was not done, or never sent in full: certainly not done
    UNKNOWN = "unknown"  # told neither, or nothing: done once, or not at all, perhaps later


@dataclass(frozen=True)
class Operation:
    """One thing that one client asked of one node, once: nothing is ever asked again under the same number."""

    number: int  # in the order in which they began
    session: str  # the connection, which does one thing at a time
    node: str
    protocol: str  # "smtp", "imap" or "admin"
    action: str
    subject: str  # the account or the address that it is about; several accounts are joined by a blank
    asked: Facts
    began_s: float
    ended_s: float
    outcome: Outcome
    reply: str  # the words that the outcome rests on
    result: Facts = field(default_factory=dict)

    @property
    def acknowledged(self) -> bool:
        return self.outcome is Outcome.ACKNOWLEDGED

    @property
    def may_have_happened(self) -> bool:
        return self.outcome is not Outcome.REFUSED

    def __str__(self) -> str:
        what = " ".join(f"{key}={value}" for key, value in self.asked.items() if key not in ("sha256", "size"))
        shown = f"#{self.number} {self.began_s:.3f}-{self.ended_s:.3f} s {self.session}: {self.action} {self.subject}"
        return f"{shown} {what} -> {self.outcome}: {self.reply}"[:400]


@dataclass(frozen=True)
class Started:
    """An operation that has not ended."""

    number: int
    session: str
    node: str
    protocol: str
    action: str
    subject: str
    asked: Facts
    began_s: float


@dataclass(frozen=True)
class Kill:
    """One SIGKILL, and what followed; None where it did not happen before the end."""

    at_s: float
    node: str
    pid: int
    alive_again_s: float | None = None


@dataclass(frozen=True)
class Band:
    """A fault that lasts: from when to when, None while it lasts."""

    fault: str
    node: str  # several are joined by a blank
    began_s: float
    ended_s: float | None = None
    detail: str = ""


@dataclass(frozen=True)
class Moment:
    """One line of the timeline."""

    at_s: float
    what: str
    node: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Sighting:
    """What a node was seen to be from this moment on ("down", "unready", "up", "leader"), its term and position."""

    at_s: float
    node: str
    state: str
    term: int = 0
    applied: int = 0


@dataclass(frozen=True)
class Footprint:
    """What a node's process held in memory of its own (RssAnon of proc(5): without the database, which is a file)."""

    at_s: float
    node: str
    pid: int
    anonymous_kib: int


@dataclass
class History:
    """Everything that one run did, operations in the order in which they ended."""

    started: float = field(default_factory=time.monotonic, compare=False)
    operations: list[Operation] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    bands: list[Band] = field(default_factory=list)
    timeline: list[Moment] = field(default_factory=list)
    sightings: list[Sighting] = field(default_factory=list)
    footprints: list[Footprint] = field(default_factory=list)
    skipped: int = 0  # operations that were due while too many were under way: never asked
    _under_way: dict[int, Started] = field(default_factory=dict, compare=False)
    _numbers: int = field(default=0, compare=False)

    def now_s(self) -> float:
        return round(time.monotonic() - self.started, 6)

    # -- operations

    def begin(self, session: str, node: str, protocol: str, action: str, subject: str, **asked: Any) -> Started:
        """Notes that something is about to be asked."""
        self._numbers += 1
        started = Started(self._numbers, session, node, protocol, action, subject, asked, self.now_s())
        self._under_way[started.number] = started
        return started

    def end(self, started: Started, outcome: Outcome, reply: str, **result: Any) -> Operation:
        """Notes what became of it. An operation ends once."""
        del self._under_way[started.number]
        ended = Operation(**vars(started), ended_s=self.now_s(), outcome=outcome, reply=reply[:300], result=result)
        self.operations.append(ended)
        return ended

    def end_all(self, reply: str) -> None:
        """Whatever is still under way has an unknown outcome: nobody waits for it any more."""
        for started in list(self._under_way.values()):
            self.end(started, Outcome.UNKNOWN, reply)

    @property
    def deliveries(self) -> list[Operation]:
        return [operation for operation in self.operations if operation.action == "deliver"]

    def with_outcome(self, outcome: Outcome) -> Iterator[Operation]:
        return (operation for operation in self.operations if operation.outcome is outcome)

    def counts(self) -> dict[str, int]:
        return {"total": len(self.operations)} | {o.value: sum(1 for _ in self.with_outcome(o)) for o in Outcome}

    # -- what happens around them

    def note(self, what: str, node: str = "", detail: str = "") -> Moment:
        moment = Moment(round(self.now_s(), 3), what, node, detail)
        self.timeline.append(moment)
        return moment

    def saw(self, node: str, state: str, term: int = 0, applied: int = 0) -> None:
        """Notes what a node is now, if it is not what it was seen to be last; an election is a line of its own."""
        last = next((seen for seen in reversed(self.sightings) if seen.node == node), None)
        if last is not None and (last.state, last.term) == (state, term):
            return
        self.sightings.append(Sighting(self.now_s(), node, state, term, applied))
        if state == "leader" and (last is None or last.state != "leader" or last.term != term):
            self.note("elected", node, f"term {term}")

    @contextmanager
    def fault(self, fault: str, node: str = "", detail: str = "") -> Iterator[None]:
        """The fault lasts as long as the block; also when the block raises."""
        at = self.begin_fault(fault, node, detail)
        try:
            yield
        finally:
            self.end_fault(at)

    def begin_fault(self, fault: str, node: str = "", detail: str = "") -> int:
        """A band that begins now; what it gives is for `end_fault`."""
        self.bands.append(Band(fault, node, self.now_s(), None, detail))
        self.note(fault, node, detail)
        return len(self.bands) - 1

    def end_fault(self, at: int) -> None:
        self.bands[at] = replace(self.bands[at], ended_s=self.now_s())
        self.note(f"{self.bands[at].fault} ends", self.bands[at].node)


def recovery_times(history: History, moments: Sequence[float] | None = None) -> list[float | None]:
    """For each kill (or each of `moments`), seconds to the first 250 of a delivery that began after it; None: none did.

    Deliveries that were under way at the time do not count: their answer may have been on the wire already.
    """
    acknowledged = sorted((one for one in history.deliveries if one.acknowledged), key=lambda one: one.ended_s)
    times: list[float | None] = []
    for at_s in [kill.at_s for kill in history.kills] if moments is None else moments:
        first = next((one.ended_s for one in acknowledged if one.began_s > at_s), None)
        times.append(None if first is None else first - at_s)
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
