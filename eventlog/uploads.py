"""Chunks of large bodies: stored by records of their own, claimed by the record that needs them, else collected.

The log keeps this account itself, because it decides which bytes stay on disk: a row a chunk, under one stream, with
the number of records that claimed it. A chunk that nobody claimed within CLAIM_MS of log time is collected by an event
that the leader proposes; it is decided again in the fold, so a claim that came first wins.
"""

from itertools import islice
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

_CHUNK = b"c"  # upload + digest -> (at_ms, claims)
_UNCLAIMED = b"u"  # at_ms + upload + digest -> (): what the collector reads


def stored(view: View, body: Body, at_ms: int) -> None:
    """A chunk's record took effect."""
    key = body.tenant + body.digest
    if view.peek(_CHUNK + key) is None:
        view.put(_CHUNK + key, (at_ms, 0))
        view.put(_unclaimed_key(at_ms, key), ())


def all_there(view: View, body: Body) -> bool:
    """Whether every chunk that `body` is made of is still kept."""
    return all(view.peek(_CHUNK + chunk) is not None for chunk in body.chunks)


def claim(view: View, body: Body) -> None:
    """A record that is made of these chunks took effect."""
    for chunk in body.chunks:
        at_ms, claims = view.peek(_CHUNK + chunk)
        view.put(_CHUNK + chunk, (at_ms, claims + 1))
        if claims == 0:
            view.delete(_unclaimed_key(at_ms, chunk))


def unclaimed(view: View, before_ms: int) -> list[bytes]:
    """Upload and digest of chunks stored before `before_ms` that nothing claims, at most COLLECT_AT_MOST."""
    rows = view.range(_UNCLAIMED, b"", max(0, before_ms).to_bytes(8, "big"))
    return [key[9:] for key, _ in islice(rows, COLLECT_AT_MOST)]


def _unclaimed_key(at_ms: int, key: bytes) -> bytes:
    return _UNCLAIMED + at_ms.to_bytes(8, "big") + key


def collection(chunks: list[bytes], before_ms: int, now_ms: int, node: str) -> tuple[bytes, bytes]:
    """Id and bytes of the record that collects chunks still unclaimed, and stored before `before_ms`, when folded."""
    data = bytes(msgpack.packb((before_ms, chunks)))
    event = Event(NO_TENANT, UPLOADS, CHUNKS_COLLECTED, 1, data, new_salt())
    by = By("node", node.encode(), "collector")
    record = Record(new_id(now_ms), now_ms + EXPIRES_MS, by, "unclaimed chunks", (), (event,))
    return record.id, encode(record)


def collect(view: View, event: Event) -> list[bytes]:
    """Folds that event: removes the rows and gives the key of each chunk whose bytes go."""
    before_ms, chunks = msgpack.unpackb(event.data, use_list=False)
    gone: list[bytes] = []
    for key in chunks:
        row: Any = view.peek(_CHUNK + key)
        if row is not None and row[1] == 0 and row[0] < before_ms:
            view.delete(_CHUNK + key)
            view.delete(_unclaimed_key(row[0], key))
            gone.append(key)
    return gone
