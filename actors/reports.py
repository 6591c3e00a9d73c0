"""Reports on mail authentication: what is collected for others' (DMARC aggregate, RFC 7489 7.2; TLS, RFC 8460), what
was sent, and what others, and feedback loops (RFC 5965), have reported to us.

One stream, found by name. Counting commutes; a report goes out in one record with the end of what was collected for
it, so that it is sent once whoever sends it. Everything is bounded, and what goes beyond a bound is counted.
Rows: c settings, g what a report is about, r its lines, o sent, i received, u received by what identifies them, n how
many of each are kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple, assert_never

from actors.errors import NameTaken, NoSuchItem, TooLarge
from actors.kind import Command, Fact
from eventlog.record import Stamp, stream_id
from eventlog.views import View

REPORTS = stream_id("reports", "root")
DAY_MS = 86_400_000
MAX_GROUPS = 5000  # reports that are collected at one time
MAX_LINES = 2000  # of one report
MAX_KEPT = 2000  # received, and sent, each
MAX_ADDRESSES = 50
SETTINGS_KEY = b"c"

Line = tuple[tuple[Any, ...], int]  # what it says, how many messages or connections it stands for


class Settings(NamedTuple):
    """Who reports: nothing is collected before `sender` is set. `addresses`: where others' reports come in."""

    sender: str = ""
    organisation: str = ""
    addresses: tuple[str, ...] = ()


class Subject(NamedTuple):
    """What a report is about: kind "dmarc" or "tls", a day since 1970 in UTC, a domain with a policy."""

    kind: str
    day: int
    domain: str


class Collected(NamedTuple):
    """A report that grows. `policy` is the last that was seen; `left_out` stands for lines beyond the bound."""

    subject: Subject
    policy: tuple[Any, ...]
    first_ms: int
    last_ms: int
    lines: int
    left_out: int


class Sent(NamedTuple):
    subject: Subject
    at_ms: int
    outcome: str
    recipients: tuple[str, ...]
    results: int


class Received(NamedTuple):
    """`content` is MessagePack, as nodes/reports/incoming.py makes it."""

    id: bytes
    at_ms: int
    kind: str
    organisation: str
    report_id: str
    domain: str
    begin_s: int
    end_s: int
    address: str
    content: bytes


# Commands and events


@dataclass(frozen=True, slots=True)
class SetReporting(Command):
    sender: str
    organisation: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CountResults(Command):
    """What one node has seen of a subject since it last said so."""

    kind: str
    day: int
    domain: str
    policy: tuple[Any, ...]
    first_ms: int
    last_ms: int
    lines: tuple[Line, ...]
    PIPELINES: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class FinishReport(Command):
    """It is sent, in this same record, or nobody wants it."""

    kind: str
    day: int
    domain: str
    outcome: str
    recipients: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TakeReport(Command):
    """Somebody's report has come in."""

    id: bytes
    tenant: bytes
    at_ms: int
    kind: str
    organisation: str
    report_id: str
    domain: str
    begin_s: int
    end_s: int
    address: str
    content: bytes


ReportCommand = SetReporting | CountResults | FinishReport | TakeReport


@dataclass(frozen=True, slots=True)
class ReportingSet(Fact):
    SINCE: ClassVar[int] = 3
    sender: str
    organisation: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ResultsCounted(Fact):
    SINCE: ClassVar[int] = 3
    kind: str
    day: int
    domain: str
    policy: tuple[Any, ...]
    first_ms: int
    last_ms: int
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class ReportFinished(Fact):
    SINCE: ClassVar[int] = 3
    kind: str
    day: int
    domain: str
    outcome: str
    recipients: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReportReceived(Fact):
    SINCE: ClassVar[int] = 3
    id: bytes
    at_ms: int
    kind: str
    organisation: str
    report_id: str
    domain: str
    begin_s: int
    end_s: int
    address: str
    content: bytes


ReportFact = ReportingSet | ResultsCounted | ReportFinished | ReportReceived


def decide(view: View, command: ReportCommand) -> tuple[ReportFact, ...]:
    """Raises NoSuchItem (nothing is collected for that report, or it was sent), NameTaken, TooLarge."""
    match command:
        case SetReporting(sender, organisation, addresses):
            if len(addresses) > MAX_ADDRESSES:
                raise TooLarge(f"at most {MAX_ADDRESSES} addresses")
            return (ReportingSet(sender, organisation, addresses),)
        case CountResults():
            return (ResultsCounted(*_values(command)),)
        case FinishReport(kind, day, domain, outcome, recipients):
            if view.get(_group_key(Subject(kind, day, domain))) is None:
                raise NoSuchItem("nothing is collected for that report, or it was sent")
            return (ReportFinished(kind, day, domain, outcome, recipients),)
        case TakeReport():
            if view.get(_identity_key(command.kind, command.organisation, command.report_id)) is not None:
                raise NameTaken("the report has come before")
            return (ReportReceived(command.id, command.at_ms, *_values(command)[3:]),)
        case _:
            assert_never(command)


def _values(command: CountResults | TakeReport) -> tuple[Any, ...]:
    names = (field.name for field in fields(command))
    return tuple(getattr(command, name) for name in names)


def evolve(view: View, fact: ReportFact, stamp: Stamp) -> None:
    match fact:
        case ReportingSet(sender, organisation, addresses):
            view.put(SETTINGS_KEY, (sender, organisation, addresses))
        case ResultsCounted():
            _counted(view, fact)
        case ReportFinished():
            _finished(view, fact, stamp)
        case ReportReceived():
            _received(view, fact)
        case _:
            assert_never(fact)


def _counted(view: View, fact: ResultsCounted) -> None:
    subject = Subject(fact.kind, fact.day, fact.domain)
    key = _group_key(subject)
    row = view.get(key)
    if row is None:
        kept = view.get(b"ng") or 0
        if kept >= MAX_GROUPS:
            return
        view.put(b"ng", kept + 1)
        row = (tuple(subject), (), fact.first_ms, fact.last_ms, 0, 0)
    lines, left_out = row[4], row[5]
    for what, count in fact.lines:
        line_key = b"r" + key[1:] + _digest(repr(what))
        before = view.get(line_key)
        if before is None and lines >= MAX_LINES:
            left_out += count
            continue
        lines += before is None
        view.put(line_key, (what, (before[1] if before else 0) + count))
    span = (min(row[2], fact.first_ms), max(row[3], fact.last_ms))
    view.put(key, (row[0], fact.policy or row[1], *span, lines, left_out))


def _finished(view: View, fact: ReportFinished, stamp: Stamp) -> None:
    subject = Subject(fact.kind, fact.day, fact.domain)
    key = _group_key(subject)
    if view.get(key) is None:
        return
    count = 0
    for line_key, row in list(view.range(b"r" + key[1:])):
        count += row[1]
        view.delete(line_key)
    view.delete(key)
    view.put(b"ng", (view.get(b"ng") or 1) - 1)
    _keep(
        view, b"o", _time_key(stamp.at_ms, key[1:]), (tuple(subject), stamp.at_ms, fact.outcome, fact.recipients, count)
    )


def _received(view: View, fact: ReportReceived) -> None:
    identity = _identity_key(fact.kind, fact.organisation, fact.report_id)
    if view.get(identity) is not None:
        return
    span = (fact.begin_s, fact.end_s)
    who = (fact.kind, fact.organisation, fact.report_id, fact.domain)
    gone = _keep(
        view, b"i", _time_key(fact.at_ms, fact.id), (fact.id, fact.at_ms, *who, *span, fact.address, fact.content)
    )
    view.put(identity, fact.id)
    if gone is not None:
        view.delete(_identity_key(gone[2], gone[3], gone[4]))


def _keep(view: View, table: bytes, key: bytes, row: tuple[Any, ...]) -> Any:
    """Puts a row; the oldest of its table goes where there are too many, and is given back."""
    kept = (view.get(b"n" + table) or 0) + (view.get(table + key) is None)
    view.put(table + key, row)
    gone = None
    if kept > MAX_KEPT:
        oldest, gone = next(view.range(table))
        view.delete(oldest)
        kept -= 1
    view.put(b"n" + table, kept)
    return gone


def _group_key(subject: Subject) -> bytes:
    return b"g" + subject.day.to_bytes(4, "big", signed=True) + subject.kind[:1].encode() + _digest(subject.domain)


def _time_key(at_ms: int, id_: bytes) -> bytes:
    return max(0, at_ms).to_bytes(8, "big") + id_[:21]


def _identity_key(kind: str, organisation: str, report_id: str) -> bytes:
    return b"u" + _digest(repr((kind, organisation, report_id)))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]


# Reading


def settings(view: View) -> Settings:
    row = view.peek(SETTINGS_KEY)
    return Settings() if row is None else Settings(*row)


def collected(view: View) -> Iterator[Collected]:
    """The reports that are collected, the oldest day first."""
    for _, row in view.range(b"g"):
        yield Collected(Subject(*row[0]), *row[1:])


def lines(view: View, subject: Subject) -> list[Line]:
    """What was collected for a report, in no order that means anything."""
    return [(tuple(row[0]), row[1]) for _, row in view.range(b"r" + _group_key(subject)[1:])]


def sent(view: View) -> list[Sent]:
    """Finished reports, the newest first."""
    return [Sent(Subject(*row[0]), *row[1:]) for _, row in view.range(b"o")][::-1]


def received(view: View) -> list[Received]:
    """What others have reported, the newest first."""
    return [Received(*row) for _, row in view.range(b"i")][::-1]
