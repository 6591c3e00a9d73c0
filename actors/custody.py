"""Custody: what administrators did to the log itself, on one stream of every cell.

The effect on the log is the fold's own work (eventlog/custody.py); the rows here say what was done, so that anyone can
look it up. Rows, each with the position of the entry that did it: q + position, a record that is passed over;
e + position + ordinal, an event that was redacted; b + tenant (or upload) + digest, a body that was. a holds the last
position that may leave the database.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, assert_never

from actors.errors import NotAllowed
from actors.kind import Command, Fact
from eventlog import custody
from eventlog.record import Stamp
from eventlog.views import View

CUSTODY = custody.CUSTODY
MAX_REASON_CHARACTERS = 1000
_ARCHIVED = b"a"


@dataclass(frozen=True, slots=True)
class Quarantine(Command):
    """Pass over the record that the fold is stalled at; a leader that is not stalled there refuses it."""

    position: int
    reason: str


@dataclass(frozen=True, slots=True)
class Redact(Command):
    """Erase these; the same record carries what the mailboxes and queues that show them do about it."""

    events: tuple[custody.RedactedEvent, ...]
    bodies: tuple[custody.RedactedBody, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class ArchiveLog(Command):
    """Let these positions, which follow what is archived already, leave the database on every node."""

    segments: tuple[custody.ArchivedSegment, ...]


CustodyCommand = Quarantine | Redact | ArchiveLog


@dataclass(frozen=True, slots=True)
class RecordQuarantined(Fact):
    """Of the first level: a stalled cell can not raise its level, and the way out must not wait for that."""

    position: int
    reason: str


@dataclass(frozen=True, slots=True)
class LogRedacted(Fact):
    events: tuple[tuple[int, int, custody.Fields, bytes], ...]  # as custody.RedactedEvent
    bodies: tuple[tuple[int, int, bytes], ...]  # as custody.RedactedBody
    reason: str
    SINCE: ClassVar[int] = 2


@dataclass(frozen=True, slots=True)
class LogArchived(Fact):
    segments: tuple[tuple[int, int, bytes, bytes], ...]  # as custody.ArchivedSegment
    SINCE: ClassVar[int] = 3


CustodyFact = RecordQuarantined | LogRedacted | LogArchived

assert LogArchived.TYPE == custody.LOG_ARCHIVED
assert RecordQuarantined.TYPE == custody.RECORD_QUARANTINED
assert LogRedacted.TYPE == custody.LOG_REDACTED


def decide(view: View, command: CustodyCommand) -> tuple[CustodyFact, ...]:
    """Raises NotAllowed. A quarantine reads nothing by `get`: it has no guards."""
    if not isinstance(command, ArchiveLog) and not 0 < len(command.reason) <= MAX_REASON_CHARACTERS:
        raise NotAllowed(f"a reason has 1 to {MAX_REASON_CHARACTERS} characters")
    match command:
        case Quarantine():
            return (RecordQuarantined(command.position, command.reason),)
        case Redact():
            # what is left of an event was hashed as it stood: no other redaction may come between
            if any(view.get(_event_key(one.position, one.ordinal)) is not None for one in command.events):
                raise NotAllowed("some of it was redacted meanwhile")
            return (LogRedacted(tuple(map(tuple, command.events)), tuple(map(tuple, command.bodies)), command.reason),)  # type: ignore[arg-type]
        case ArchiveLog():
            _check_follows(view.get(_ARCHIVED) or 0, command)
            return (LogArchived(tuple(map(tuple, command.segments))),)  # type: ignore[arg-type]
        case _:
            assert_never(command)


def _check_follows(last: int, command: ArchiveLog) -> None:
    """Raises NotAllowed for segments that leave something out, or that somebody else has archived meanwhile."""
    for one in command.segments:
        if one.first != last + 1 or one.last < one.first:
            raise NotAllowed(f"position {one.first} does not follow what is archived, which ends at {last}")
        last = one.last


def archived_to(view: View) -> int:
    """The last position that may leave the database; 0 where none may."""
    return view.peek(_ARCHIVED) or 0


def evolve(view: View, fact: CustodyFact, stamp: Stamp) -> None:
    match fact:
        case RecordQuarantined():
            view.put(b"q" + fact.position.to_bytes(8, "big"), stamp.position)
        case LogRedacted():
            for position, ordinal, _, _ in fact.events:
                view.put(_event_key(position, ordinal), stamp.position)
            for _, _, key in fact.bodies:
                view.put(b"b" + key, stamp.position)
        case LogArchived():
            view.put(_ARCHIVED, max([view.peek(_ARCHIVED) or 0, *(last for _, last, _, _ in fact.segments)]))
        case _:
            assert_never(fact)


def event_redacted_at(view: View, position: int, ordinal: int) -> int | None:
    """The position of the redaction of an event; None for one that was not redacted."""
    found: int | None = view.peek(_event_key(position, ordinal))
    return found


def body_redacted_at(view: View, tenant: bytes, digest: bytes) -> int | None:
    """Likewise for a body, of a tenant or (a chunk) of an upload. It may have come again since."""
    found: int | None = view.peek(b"b" + tenant + digest)
    return found


def last_redaction(view: View) -> int:
    """The position of the newest redaction, 0 where there was none."""
    return max((row for prefix in (b"e", b"b") for _, row in view.range(prefix)), default=0)


def _event_key(position: int, ordinal: int) -> bytes:
    return b"e" + position.to_bytes(8, "big") + ordinal.to_bytes(4, "big")
