"""Chunks of large bodies: stored by records of their own, claimed by the record that needs them, else collected.

The log keeps this account itself, because it decides which bytes stay on disk: a row a chunk, under one stream, with
the number of records that claimed it. A chunk that nobody claimed within CLAIM_MS of log time is collected by an event
that the leader proposes; it is decided again in the fold, so a claim that came first wins.
"""

from typing import Any

import msgpack

from eventlog.record import NO_TENANT, Body, By, Event, Record, encode, new_id, new_salt, stream_id
from eventlog.views import View

UPLOADS = stream_id("log", "uploads")
CHUNK_STORED = "BodyChunkStored"  # on the upload's own stream; its record carries the chunk as a body
CHUNKS_COLLECTED = "BodyChunksCollected"
CLAIM_MS = 60 * 60 * 1000
COLLECT_AT_MOST = 256
EXPIRES_MS = 60_000

_CHUNK = b"c"  # tenant + digest -> (at_ms, claims)


def stored(view: View, body: Body, at_ms: int) -> None:
    """A chunk's record took effect."""
    key = _CHUNK + body.tenant + body.digest
    _, claims = view.peek(key) or (0, 0)
    view.put(key, (at_ms, claims))


def all_there(view: View, body: Body) -> bool:
    """Whether every chunk that `body` is made of is still kept."""
    return all(view.peek(_CHUNK + body.tenant + chunk) is not None for chunk in body.chunks)


def claim(view: View, body: Body) -> None:
    """A record that is made of these chunks took effect."""
    for chunk in body.chunks:
        key = _CHUNK + body.tenant + chunk
        at_ms, claims = view.peek(key)
        view.put(key, (at_ms, claims + 1))


def unclaimed(view: View, before_ms: int) -> list[tuple[bytes, bytes]]:
    """Tenant and digest of chunks stored before `before_ms` that nothing claims, at most COLLECT_AT_MOST."""
    found: list[tuple[bytes, bytes]] = []
    for key, (at_ms, claims) in view.range(_CHUNK):
        if claims == 0 and at_ms < before_ms:
            found.append((key[1:17], key[17:]))
            if len(found) == COLLECT_AT_MOST:
                break
    return found


def collection(chunks: list[tuple[bytes, bytes]], before_ms: int, now_ms: int, node: str) -> tuple[bytes, bytes]:
    """Id and bytes of the record that collects chunks still unclaimed, and stored before `before_ms`, when folded."""
    data = bytes(msgpack.packb((before_ms, chunks)))
    event = Event(NO_TENANT, UPLOADS, CHUNKS_COLLECTED, 1, data, new_salt())
    by = By("node", node.encode(), "collector")
    record = Record(new_id(now_ms), now_ms + EXPIRES_MS, by, "unclaimed chunks", (), (event,))
    return record.id, encode(record)


def collect(view: View, event: Event) -> list[tuple[bytes, bytes]]:
    """Folds that event: removes the rows and gives tenant and digest of each chunk whose bytes go."""
    before_ms, chunks = msgpack.unpackb(event.data, use_list=False)
    gone: list[tuple[bytes, bytes]] = []
    for tenant, digest in chunks:
        key = _CHUNK + tenant + digest
        row: Any = view.peek(key)
        if row is not None and row[1] == 0 and row[0] < before_ms:
            view.delete(key)
            gone.append((tenant, digest))
    return gone
