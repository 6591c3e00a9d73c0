"""What goes over the wire between a source and a follower: MessagePack frames, each with its length in front.

`Skipped` are entries that hold nothing for the follower: their place in the log and their leaves. An `Entry` is one
that does: what is for the follower in full, of the rest the leaf. The bytes of its bodies come behind it in `Piece`s.
A `Head` says how far the source is, once all before it was sent. `Walk` recomputes the chain from what came.
"""

from __future__ import annotations

import asyncio
import hashlib
import struct
from typing import Any, NamedTuple, Protocol

import msgpack

from eventlog.record import (
    DIGEST_BYTES,
    Body,
    By,
    Event,
    Guard,
    Record,
    RecordError,
    body_commitment,
    chain_hash,
    check,
    event_commitment,
)
from eventlog.store import CHAIN_BYTES

FORMAT = 1
MOST_FRAME_BYTES = 16 * 1024 * 1024  # above what one proposal may hold
PIECE_BYTES = 256 * 1024
SKIP_AT_ONCE = 1024
_LENGTH = struct.Struct(">I")
_pack = msgpack.Packer(use_bin_type=True, autoreset=True).pack


class WireError(Exception):
    """What came is not what the protocol allows, or does not verify."""


class Place(NamedTuple):
    """Where an entry stands in the source's log, and what its fold said of it."""

    position: int
    term: int
    kind: int
    at_ms: int
    outcome: int


class Skipped(NamedTuple):
    """Entries from `first` on: term, kind, at_ms, outcome and leaves of each."""

    first: int
    entries: tuple[tuple[int, int, int, int, bytes], ...]


class Entry(NamedTuple):
    """A record with something for the follower. A part that is not is its leaf (32 bytes).

    `header` is the packed header, or its leaf. `altered` are numbers of events that were sealed anew for the way, each
    with its leaf. `kept` says of each whole body whether its bytes follow. `erasure`, if any, is what it redacts of
    what the follower was sent (nodes/follower/erasures.py).
    """

    place: tuple[int, int, int, int, int]
    chain: bytes
    header: bytes
    whole_header: bool
    events: tuple[Any, ...]
    bodies: tuple[Any, ...]
    altered: tuple[tuple[int, bytes], ...]
    kept: tuple[bool, ...]
    erasure: tuple[Any, ...] | None = None


class Piece(NamedTuple):
    """The next bytes of the body that is due."""

    data: bytes


class Head(NamedTuple):
    """How far the source's log goes, and that all up to there was sent."""

    position: int
    at_ms: int
    chain: bytes


class Horizon(NamedTuple):
    """How far the source's log goes now, for the lag; all up to there is still to come."""

    position: int
    at_ms: int


class End(NamedTuple):
    """The source ends it: category and text as in the admin API's errors."""

    category: str
    message: str


Frame = Skipped | Entry | Piece | Head | Horizon | End
_TYPES: tuple[type[Any], ...] = (Skipped, Entry, Piece, Head, Horizon, End)
_NUMBER = {type_: number for number, type_ in enumerate(_TYPES)}


class Reader(Protocol):
    """What frames are read from: an HTTP answer's content."""

    async def readexactly(self, n: int) -> bytes: ...


def pack(frame: Frame) -> bytes:
    """A frame as bytes, its length in front."""
    data = bytes(_pack((_NUMBER[type(frame)], *frame)))
    return _LENGTH.pack(len(data)) + data


async def read(reader: Reader) -> Frame | None:
    """The next frame; None where the source has closed in between. Raises WireError, asyncio.IncompleteReadError."""
    try:
        head = await reader.readexactly(_LENGTH.size)
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    length = _LENGTH.unpack(head)[0]
    if length > MOST_FRAME_BYTES:
        raise WireError(f"a frame of {length} bytes; {MOST_FRAME_BYTES} are allowed")
    return unpack(await reader.readexactly(length))


def unpack(data: bytes) -> Frame:
    """Raises WireError."""
    try:
        number, *fields = msgpack.unpackb(data, use_list=False, max_array_len=100_000)
        frame: Frame = _TYPES[number](*fields)
    except (ValueError, TypeError, IndexError, msgpack.UnpackException) as error:
        raise WireError(f"not a frame: {error}") from None
    return frame


class Walk:
    """The chain of a log, entry after entry, from a position whose chain is known."""

    def __init__(self, position: int, chain: bytes) -> None:
        self.position = position
        self.chain = chain
        self.at_ms = 0

    def skip(self, frame: Skipped) -> None:
        """Raises WireError for entries that are not the next ones."""
        if frame.first != self.position + 1:
            raise WireError(f"position {frame.first} came where {self.position + 1} is next")
        try:
            for term, kind, at_ms, outcome, leaves in frame.entries:
                self._step(Place(self.position + 1, term, kind, at_ms, outcome), [leaves])
        except (TypeError, ValueError, struct.error) as error:
            raise WireError(f"entries that were left out are damaged: {error}") from None

    def take(self, entry: Entry) -> tuple[Place, Record | None, dict[int, Event], list[Body]]:
        """Place, header (None where it is not for us), events by number and bodies of an entry, once it fits the chain.

        Raises WireError where it does not.
        """
        try:
            place = Place(*entry.place)
            header = _header(entry.header) if entry.whole_header else None
            altered = dict(entry.altered)
            leaves = [hashlib.sha256(entry.header).digest() if entry.whole_header else _leaf(entry.header)]
            events = {n: Event(*part) for n, part in enumerate(entry.events) if type(part) is tuple}
            bodies = [Body(*part) for part in entry.bodies if type(part) is tuple]
            for number, part in enumerate(entry.events):
                kept = number in events and number not in altered
                leaves.append(event_commitment(events[number]) if kept else _leaf(altered.get(number, part)))
            leaves += [body_commitment(Body(*part)) if type(part) is tuple else _leaf(part) for part in entry.bodies]
            _check(list(events.values()), bodies)
            if place.position != self.position + 1 or len(entry.kept) != len(bodies):
                raise WireError(f"position {place.position} came where {self.position + 1} is next")
            self._step(place, leaves)
        except (TypeError, ValueError, struct.error) as error:
            raise WireError(f"a record is damaged: {error}") from None
        if self.chain != entry.chain:
            raise WireError(f"the source's log does not verify at position {place.position}: its chain is another")
        return place, header, events, bodies

    def check(self, head: Head) -> None:
        """Raises WireError unless all up to the head came, and leads to its chain."""
        if head.position != self.position or head.chain != self.chain:
            raise WireError(f"the source's log does not verify up to position {head.position}")

    def _step(self, place: Place, leaves: list[bytes]) -> None:
        self.chain = chain_hash(self.chain, place.position, place.term, place.kind, place.at_ms, place.outcome, leaves)
        self.position, self.at_ms = place.position, place.at_ms


def _leaf(value: Any) -> bytes:
    if type(value) is not bytes or len(value) != DIGEST_BYTES:
        raise WireError("a leaf has 32 bytes")
    return value


def _header(packed: bytes) -> Record:
    """A record of a header alone."""
    id_, expires_ms, by, cause, guards = msgpack.unpackb(packed, use_list=False)
    return Record(id_, expires_ms, By(*by), cause, tuple(Guard(*guard) for guard in guards), ())


def _check(events: list[Event], bodies: list[Body]) -> None:
    try:
        check(Record(bytes(16), 0, By("", b"", ""), "", (), tuple(events), tuple(bodies)))
    except RecordError as error:
        raise WireError(str(error)) from None


assert CHAIN_BYTES == DIGEST_BYTES
