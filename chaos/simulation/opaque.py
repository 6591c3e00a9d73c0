"""Opaque records: a state machine too simple to be wrong, beside the actors.

Each event leaves a row and moves its stream's counter, so that which records took effect, in which order and how
often can be read back from the tables and compared with the log.
"""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import msgpack

from eventlog.record import (
    NO_TENANT,
    Body,
    By,
    Event,
    Guard,
    Record,
    Stamp,
    digest_of,
    new_id,
    new_salt,
    stream_id,
)
from eventlog.uploads import CHUNK_STORED
from eventlog.views import View

NOTED = "Noted"
BY = By("client", b"", "simulation")
STREAMS = tuple(stream_id("simulation", str(number)) for number in range(4))
TENANT = b"simulated-tenant"
UPLOAD = stream_id("upload", "simulation")
COUNT = b"n"


def note(view: View, event: Event, stamp: Stamp) -> tuple[Any, Any]:
    """Folds one event: row b"e" + count holds the record's id, b"n" counts."""
    count = (view.get(COUNT) or 0) + 1
    view.put(COUNT, count)
    view.put(b"e" + count.to_bytes(8, "big"), stamp.record_id)
    return None, count


def noted_ids(view: Any) -> list[bytes]:
    """The ids of the records that took effect on a stream, in order: one an event."""
    return [row for _, row in view.range(b"e")]


class Opaque(NamedTuple):
    """A record to propose, and the bytes that go with it."""

    record: Record
    data: tuple[bytes, ...]


def draw(rng: random.Random, now_ms: int, guards: tuple[Guard, ...]) -> Opaque:
    """A record with plain events, small bodies, a chunk of a large body, or a large body made of chunks."""
    kind = rng.choice(("plain", "plain", "bodies", "chunk", "large"))
    stream, type_ = rng.choice(STREAMS), NOTED
    data: tuple[bytes, ...] = ()
    bodies: tuple[Body, ...] = ()
    if kind == "bodies":
        data = tuple(b"body %d" % rng.randint(0, 40) for _ in range(2))
        bodies = tuple(_body(TENANT, piece) for piece in data)
    elif kind == "chunk":
        guards, stream, type_ = (), UPLOAD, CHUNK_STORED
        data = (b"chunk %d" % rng.randint(0, 1),)
        bodies = (_body(UPLOAD, data[0]),)
    elif kind == "large":
        chunks = tuple(b"chunk %d" % rng.randint(0, 1) for _ in range(2))
        data = (b"",)
        bodies = (_body(TENANT, b"".join(chunks), *chunks),)
    events = tuple(_event(stream, type_, rng) for _ in range(1 if kind == "chunk" else rng.randint(1, 2)))
    expires_ms = now_ms + rng.choice((2_000, 60_000))
    return Opaque(Record(new_id(now_ms), expires_ms, BY, "", guards, events, bodies), data)


def plain(rng: random.Random, now_ms: int) -> Record:
    """A record with one event that nothing refuses."""
    return Record(new_id(now_ms), now_ms + 60_000, BY, "", (), (_event(rng.choice(STREAMS), NOTED, rng),))


def _event(stream: bytes, type_: str, rng: random.Random) -> Event:
    fact: Any = rng.randint(0, 1 << 40)
    if type_ == CHUNK_STORED:
        fact = (bytes(32), 7, 0)  # digest, size, ordinal: nothing reads them here
    return Event(NO_TENANT, stream, type_, 1, bytes(msgpack.packb(fact)), new_salt())


def _body(tenant: bytes, data: bytes, *chunks: bytes) -> Body:
    return Body(tenant, digest_of(data), new_salt(), len(data), tuple(UPLOAD + digest_of(chunk) for chunk in chunks))
