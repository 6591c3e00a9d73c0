"""A small state machine for the event log's tests: every event leaves a row and moves its stream's counter.

It plays the part of `actors.registry.fold_event`. What it folds can be read back: which records took effect, in which
order, how often.
"""

import time
from typing import Any

import msgpack

from eventlog.errors import UnknownEvent
from eventlog.record import (
    NO_TENANT,
    Body,
    By,
    Event,
    Guard,
    Record,
    Stamp,
    digest_of,
    encode,
    new_id,
    new_salt,
    stream_id,
)
from eventlog.uploads import CHUNK_STORED
from eventlog.views import View

CLIENT = By("client", b"", "test")
STREAM = stream_id("test", "one")
OTHER = stream_id("test", "two")
TENANT = b"tenant-of-tests!"
UPLOAD = stream_id("upload", "one")


def evolve(view: View, event: Event, stamp: Stamp) -> tuple[Any, Any]:
    """Appends the event's data to its stream: row b"e"+count holds it, b"n" counts. `Fail` raises."""
    if event.type == "Fail":
        raise RuntimeError("this event can not be folded")
    if event.type == "OfALaterVersion":
        raise UnknownEvent(event.type)
    if event.type == CHUNK_STORED:
        return None, None
    fact = msgpack.unpackb(event.data, use_list=False)
    count = (view.get(b"n") or 0) + 1
    view.put(b"n", count)
    view.put(b"e" + count.to_bytes(8, "big"), (stamp.record_id, fact))
    return fact, (count, stamp.position)


def event(fact: Any = "x", *, stream: bytes = STREAM, type_: str = "Noted") -> Event:
    return Event(NO_TENANT, stream, type_, 1, bytes(msgpack.packb(fact)), new_salt())


def record(
    *events: Event,
    id_: bytes | None = None,
    expires_ms: int | None = None,
    guards: tuple[Guard, ...] = (),
    bodies: tuple[Body, ...] = (),
) -> Record:
    """A record that expires in a minute unless told otherwise."""
    now_ms = int(time.time() * 1000)
    return Record(
        new_id(now_ms) if id_ is None else id_,
        now_ms + 60_000 if expires_ms is None else expires_ms,
        CLIENT,
        "a test",
        guards,
        events or (event(),),
        bodies,
    )


def body(data: bytes, *chunks: bytes, tenant: bytes = TENANT) -> Body:
    """The body `data`; made of `chunks`, stored before by `chunk_record`, where given."""
    return Body(tenant, digest_of(data), new_salt(), len(data), tuple(UPLOAD + digest_of(chunk) for chunk in chunks))


def chunk_record(data: bytes, *, expires_ms: int | None = None) -> Record:
    """What an uploader proposes for each chunk of a large body."""
    stored = body(data, tenant=UPLOAD)
    return record(event(type_=CHUNK_STORED, stream=UPLOAD), bodies=(stored,), expires_ms=expires_ms)


def encoded(*events: Event, **fields: Any) -> bytes:
    return encode(record(*events, **fields))


def facts(view: Any) -> list[Any]:
    """What has been folded into a stream, in order."""
    return [row[1] for _, row in view.range(b"e")]


def record_ids(view: Any) -> list[bytes]:
    """The ids of the records that took effect on a stream, in order: one entry an event."""
    return [row[0] for _, row in view.range(b"e")]
