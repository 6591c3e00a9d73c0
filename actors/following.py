"""What is followed of another cell's log: the checkpoint of each, and the events as they stand in this log.

A record of the origin goes into one record here, alone or behind others, in which the checkpoint moves and each
followed event stands on its own stream under its own ids, so that a kill at any moment leaves no gap and nothing twice.
`EventFollowed` carries the origin's event as it was and when it was: the fold gives it to its own kind with the
origin's time, so that tables, UIDs and UIDVALIDITY come out the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, assert_never

from actors.errors import NameTaken, Superseded
from actors.kind import Command, Fact
from actors.kind import decode as decode_fact
from actors.names import HOLDER_KEY, NameClaimed, holder
from eventlog.record import Event, Stamp, stream_id
from eventlog.store import GENESIS
from eventlog.views import View

CHECKPOINT_KEY = b"C"


class Checkpoint(NamedTuple):
    """How far the origin's log was followed: its chain there and its time, and how many records were taken from it."""

    position: int
    chain: bytes
    at_ms: int
    records: int


BEGINNING = Checkpoint(0, GENESIS, 0, 0)


@dataclass(frozen=True, slots=True)
class ApplyOrigin(Command):
    """A record of the origin takes effect here; stands first in a record with what is followed of it."""

    ON_REPLICA: ClassVar[bool] = True
    after: int  # the checkpoint that it was asked from
    cell: str
    position: int
    chain: bytes
    at_ms: int
    author: str  # who did it and from where; empty where that is not for us to know
    cause: str


@dataclass(frozen=True, slots=True)
class MoveCheckpoint(Command):
    """Nothing up to `position` was for us."""

    ON_REPLICA: ClassVar[bool] = True
    after: int
    cell: str
    position: int
    chain: bytes
    at_ms: int


@dataclass(frozen=True, slots=True)
class FollowEvent(Command):
    """An event of the origin, for the stream that it is on."""

    ON_REPLICA: ClassVar[bool] = True
    tenant: bytes
    cell: str
    position: int
    ordinal: int  # which event of its record it is
    at_ms: int
    type: str
    version: int
    data: bytes


@dataclass(frozen=True, slots=True)
class OriginApplied(Fact):
    SINCE: ClassVar[int] = 2
    cell: str
    position: int
    chain: bytes
    at_ms: int
    author: str
    cause: str


@dataclass(frozen=True, slots=True)
class CheckpointMoved(Fact):
    SINCE: ClassVar[int] = 2
    cell: str
    position: int
    chain: bytes
    at_ms: int


@dataclass(frozen=True, slots=True)
class EventFollowed(Fact):
    SINCE: ClassVar[int] = 2
    cell: str
    position: int
    ordinal: int
    at_ms: int
    type: str
    version: int
    data: bytes


FollowingCommand = ApplyOrigin | MoveCheckpoint
FollowingFact = OriginApplied | CheckpointMoved


def following_stream(cell: str, tenant: bytes, account: bytes) -> bytes:
    """The stream of what is followed: by what it is, so that another name or certificate goes on where one ended."""
    return stream_id("following", f"{cell}/{tenant.hex()}/{account.hex()}")


def checkpoint(view: View) -> Checkpoint:
    """How far that stream has come; the beginning when nothing was followed yet."""
    row = view.peek(CHECKPOINT_KEY)
    return Checkpoint._make(row) if row else BEGINNING


def decide(view: View, command: FollowingCommand) -> tuple[FollowingFact, ...]:
    """Raises Superseded unless the checkpoint is where the command was prepared: another node was faster."""
    row = view.get(CHECKPOINT_KEY)
    reached = row[0] if row else 0
    if reached != command.after or command.position <= reached:
        raise Superseded(f"the checkpoint is at {reached}, not at {command.after}")
    place = (command.cell, command.position, command.chain, command.at_ms)
    match command:
        case ApplyOrigin():
            return (OriginApplied(*place, command.author, command.cause),)
        case MoveCheckpoint():
            return (CheckpointMoved(*place),)
        case _:
            assert_never(command)


def evolve(view: View, fact: FollowingFact, stamp: Stamp) -> None:
    records = checkpoint(view).records + isinstance(fact, OriginApplied)
    view.put(CHECKPOINT_KEY, (fact.position, fact.chain, fact.at_ms, records))


def decide_followed(view: View, command: FollowEvent) -> tuple[EventFollowed, ...]:
    """Raises NameTaken where a name of the origin is held by somebody of this cell, UnknownEventType."""
    fact = decode_fact(command.type, command.version, command.data)
    if isinstance(fact, NameClaimed):
        view.get(HOLDER_KEY)  # a guard: nobody here may claim it in the same moment
        held = holder(view)
        if held is not None and held.owner != fact.owner:
            raise NameTaken(f"{fact.name.partition(':')[2]} is taken in this cell by another")
    place = (command.cell, command.position, command.ordinal, command.at_ms)
    return (EventFollowed(*place, command.type, command.version, command.data),)


def as_written(event: Event) -> Event:
    """The event as the origin wrote it, where it is one that was followed; any other is given back."""
    if event.type != EventFollowed.TYPE:
        return event
    fact = decode_fact(event.type, event.version, event.data)
    assert isinstance(fact, EventFollowed)
    return event._replace(type=fact.type, version=fact.version, data=fact.data)
