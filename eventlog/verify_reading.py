"""Takes the entries of a log apart for who proves it: what the chain hashes of one, and what the indexes say of it.

A long log is read at several times the speed at which records are built; what is not exactly what `record.encode`
writes is read as the fold reads it.
"""

from collections.abc import Collection, Sequence
from hashlib import sha256
from typing import Any

import msgpack

from eventlog.fold import Outcome
from eventlog.journal import KIND_CONFIG, KIND_NOOP
from eventlog.members import MEMBERS
from eventlog.record import (
    DIGEST_BYTES,
    ERASED_SALT_BYTES,
    FORMAT,
    SALT_BYTES,
    STREAM_ID_BYTES,
    Body,
    RecordError,
    body_commitment,
    decode_with_header,
    leaves,
    raw_leaf,
)
from eventlog.store import StoredRecord
from eventlog.uploads import CHUNK_STORED

_NO_BODIES: tuple[tuple[Body, bool], ...] = ()
_NONE: tuple[tuple[int, bytes], ...] = ()
_OF_MEMBERS = (MEMBERS,)
Read = tuple[tuple[tuple[Body, bool], ...], list[bytes], Sequence[tuple[int, bytes]], Collection[bytes], bytes]

_unpackb = msgpack.unpackb


def read(stored: StoredRecord) -> Read:
    """The bodies that an entry names, each with whether its bytes may be gone; its leaves in the chain; what is left of
    events that were erased: ordinal and SHA-256; the streams that it is on if it took effect, each once; and its packed
    header, empty where it has none.
    """
    if stored.kind == KIND_NOOP:
        return _NO_BODIES, [], _NONE, (), b""
    if stored.outcome == Outcome.BAD_RECORD:
        return _NO_BODIES, [raw_leaf(stored.data)], _NONE, (), b""
    try:
        found = _parts(stored.data)
    except Exception:  # whatever is wrong with it: what is not the bytes of a record is hashed as it is
        found = _slowly(stored.data)
    return found if stored.kind != KIND_CONFIG else (*found[:3], _OF_MEMBERS, found[4])


def _parts(data: bytes) -> Read:
    """What `record.leaves` gives of a record, without building it.

    Raises for anything that is not exactly what `record.encode` writes; types are checked where a value of another
    one would give the same hash.
    """
    version, header, events, bodies = _unpackb(data, use_list=False)
    if type(version) is not int or version != FORMAT:
        raise RecordError
    parts = [sha256(header).digest()]
    chunk = False
    erased: list[tuple[int, bytes]] = []
    for tenant, stream, type_, number, payload, salt in events:
        if len(stream) != STREAM_ID_BYTES:
            raise RecordError
        if len(salt) == SALT_BYTES:
            if len(tenant) != 16 or type(number) is not int:
                raise RecordError
            place = b"E%b%b%b%c%b\0" % (salt, tenant, stream, number, type_.encode())
            parts.append(sha256(place + payload).digest())
        elif len(salt) == ERASED_SALT_BYTES and type(stream) is bytes:
            erased.append((len(parts) - 1, sha256(payload).digest()))
            parts.append(bytes(salt))
        else:
            raise RecordError
        chunk = chunk or type_ == CHUNK_STORED
    streams = (stream,) if len(events) == 1 else {event[1] for event in events}
    if not bodies:
        return _NO_BODIES, parts, erased, streams, header
    named = [_body(fields) for fields in bodies]
    parts.extend(map(body_commitment, named))
    return tuple([(body, chunk) for body in named]), parts, erased, streams, header


def _body(fields: Any) -> Body:
    body = Body(*fields)
    if len(body.digest) != DIGEST_BYTES or type(body.size) is not int:
        raise RecordError
    return body


def _slowly(data: bytes) -> Read:
    """The fold's own reading, for what the fast one does not take."""
    try:
        record, header = decode_with_header(data)
    except RecordError:
        return _NO_BODIES, [raw_leaf(data)], _NONE, (), b""
    bodies = tuple((body, True) for body in record.bodies)
    return bodies, leaves(record, header), _NONE, {event.stream for event in record.events}, header
