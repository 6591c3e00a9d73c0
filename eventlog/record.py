"""Records: the atomic entries of the log, their encoding and their commitments.

A record is MessagePack: `[format, header, events, bodies]`, where the header is packed by itself so that it can be
hashed without packing it again. An event or body whose payload was erased keeps its commitment in place of the salt,
so the chain over an erased record still verifies. Only `new_id`, which runs before the
log, reads a clock.
"""

import hashlib
import os
import struct
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import msgpack

FORMAT = 1
STREAM_ID_BYTES = 16
DIGEST_BYTES = 32
SALT_BYTES = 16
MAX_KEY_BYTES = 480  # of a row, below LMDB's 511 with the stream in front
MAX_TIME_MS = MAX_SIZE_BYTES = 1 << 62
CHUNK_KEY_BYTES = STREAM_ID_BYTES + DIGEST_BYTES
ERASED_SALT_BYTES = DIGEST_BYTES  # a commitment stands where the salt stood: the lengths tell them apart
SALT_LENGTHS = (SALT_BYTES, ERASED_SALT_BYTES)
NO_TENANT = bytes(16)

RANDOM_AT_ONCE = 256
_random: deque[bytes] = deque()
os.register_at_fork(after_in_child=_random.clear)  # a child must not give out what its parent does

_pack = msgpack.Packer(use_bin_type=True, autoreset=True).pack
_unpackb = msgpack.unpackb
_sha256 = hashlib.sha256
_tuple = tuple.__new__  # of a NamedTuple: as its own constructor, at half the cost; `check` counts the fields
_ENTRY_HEAD = struct.Struct(">QQBQB")
_BYTE = tuple(bytes((number,)) for number in range(256))


class RecordError(ValueError):
    """The bytes are not a record of a format that this version knows."""


class By(NamedTuple):
    """Who did it: kind is account, admin, node, plugin or client; origin says from where, as `imap 192.0.2.7:51234`."""

    kind: str
    id: bytes
    origin: str


class Guard(NamedTuple):
    """A row and the version of it that the decision was made on.

    Key b"" guards the stream's version (its number of events); any other key guards that row, whose version is the
    position of its last write, 0 when it is absent.
    """

    stream: bytes
    key: bytes
    version: int


class Event(NamedTuple):
    """One fact on one stream. `data` is MessagePack; `salt` keeps a low-entropy payload from being guessed back."""

    tenant: bytes
    stream: bytes
    type: str
    version: int
    data: bytes
    salt: bytes


class Body(NamedTuple):
    """A body that the record refers to: keyed by tenant and SHA-256.

    A chunk of a large one is keyed by its upload's stream instead of the tenant, so that it is shared with nothing;
    `chunks` of the whole are upload and digest of each.
    """

    tenant: bytes
    digest: bytes
    salt: bytes
    size: int
    chunks: tuple[bytes, ...] = ()


class Record(NamedTuple):
    """A batch of events over any number of streams, with what must hold for it to take effect."""

    id: bytes
    expires_ms: int
    by: By
    cause: str
    guards: tuple[Guard, ...]
    events: tuple[Event, ...]
    bodies: tuple[Body, ...] = ()


class Stamp(NamedTuple):
    """What the fold tells `evolve` about the record that holds an event. Times are milliseconds since 1970, UTC."""

    position: int
    at_ms: int
    term: int
    record_id: bytes
    by: By
    cause: str
    level: int  # the feature level in force: what a later one added to the tables is not made below it


def new_id(now_ms: int | None = None) -> bytes:
    """16 opaque bytes that sort by the time they were made in (48 bits of milliseconds, 80 random bits)."""
    ms = int(time.time() * 1000) if now_ms is None else now_ms
    return (ms & 0xFFFFFFFFFFFF).to_bytes(6, "big") + new_salt()[:10]


def new_salt() -> bytes:
    """16 random bytes. Many are asked of the system at once; each is given to one caller, whatever its thread."""
    try:
        return _random.pop()
    except IndexError:
        block = os.urandom(SALT_BYTES * RANDOM_AT_ONCE)
        _random.extend(block[at : at + SALT_BYTES] for at in range(SALT_BYTES, len(block), SALT_BYTES))
        return block[:SALT_BYTES]


def stream_id(kind: str, name: str) -> bytes:
    """The id of a stream that is found by a name: a claim on an address, the queue of a domain."""
    return hashlib.sha256(f"mailraft/{kind}/{name}".encode()).digest()[:STREAM_ID_BYTES]


def digest_of(data: bytes) -> bytes:
    """SHA-256 of a body."""
    return hashlib.sha256(data).digest()


class Encoded(NamedTuple):
    """A record with its bytes and, by itself, the packed header that the chain hashes."""

    record: Record
    header: bytes
    data: bytes


def encode(record: Record) -> bytes:
    """A record as the bytes that are proposed, replicated and hashed."""
    return encode_whole(record).data


def encode_whole(record: Record) -> Encoded:
    """The same with what was made on the way, so that nothing need be taken apart again where it was made."""
    header = bytes(_pack(record[:5]))
    return Encoded(record, header, bytes(_pack((FORMAT, header, record.events, record.bodies))))


def decode(data: bytes) -> Record:
    """The record in `data`. Raises RecordError for anything that this version can not have written."""
    return decode_with_header(data)[0]


def decode_with_header(data: bytes) -> tuple[Record, bytes]:
    """The record and the packed header that the chain hashes. Raises RecordError."""
    try:
        record, header = _unpack(data)
        check(record)
    except RecordError:
        raise
    except Exception as error:
        raise RecordError(f"not a record: {error}") from error
    return record, header


def decode_events(data: bytes, stream: bytes) -> tuple[bytes, By, str, list[Event]]:
    """Id, author, cause and one stream's events of a record that took effect, so that it was checked before.

    Time travel reads them by the hundred thousand; nothing else of the record is built.
    """
    _, header, events, _ = _unpackb(data, use_list=False)
    id_, _, by, cause, _ = _unpackb(header, use_list=False)
    return id_, By(*by), cause, [Event(*event) for event in events if event[1] == stream]


def _unpack(data: bytes) -> tuple[Record, bytes]:
    version, header, events, bodies = _unpackb(data, use_list=False)
    if version != FORMAT:
        raise RecordError(f"record format {version} is not known to this version (it knows {FORMAT})")
    id_, expires_ms, by, cause, guards = _unpackb(header, use_list=False)
    parts = (
        id_,
        expires_ms,
        _tuple(By, by),
        cause,
        tuple([_tuple(Guard, guard) for guard in guards]) if guards else (),
        tuple([_tuple(Event, event) for event in events]),
        tuple([_tuple(Body, body) for body in bodies]) if bodies else (),
    )
    return _tuple(Record, parts), header


def check(record: Record) -> None:
    """Raises RecordError unless every field has the type and size that the format demands.

    Whatever passes can be hashed, guarded and folded: a record that is hostile or damaged must not stop a node.
    """
    id_, expires_ms, by, cause, guards, events, bodies = record
    if not _header_is_sound(id_, expires_ms, by, cause):
        raise RecordError("its id, expiry, author or cause has the wrong type or size")
    for stream, key, version in guards:
        if not (type(stream) is type(key) is bytes and len(stream) == STREAM_ID_BYTES and len(key) <= MAX_KEY_BYTES):
            raise RecordError("a guard names a stream and a key of at most 480 bytes")
        if type(version) is not int:
            raise RecordError("a guard's version is a number")
    for tenant, stream, type_, event_version, data, salt in events:
        if not (
            type(tenant) is type(stream) is type(salt) is bytes
            and len(tenant) == len(stream) == STREAM_ID_BYTES
            and len(salt) in SALT_LENGTHS
            and type(type_) is str
            and "\0" not in type_
            and type(event_version) is int
            and 0 < event_version < 256
            and (type(data) is bytes or len(salt) == ERASED_SALT_BYTES)
        ):
            raise RecordError(f"event {type_!r}: a field has the wrong type or size")
    for body in bodies:
        if not _body_is_sound(body):
            raise RecordError("a body's tenant, digest, salt, size or chunks have the wrong type or size")


def _header_is_sound(id_: object, expires_ms: object, by: By, cause: object) -> bool:
    kind, who, origin = by
    return (
        type(id_) is type(who) is bytes
        and len(id_) == STREAM_ID_BYTES
        and type(expires_ms) is int
        and 0 <= expires_ms < MAX_TIME_MS
        and type(kind) is type(origin) is type(cause) is str
    )


def _body_is_sound(body: Body) -> bool:
    tenant, digest, salt, size, chunks = body
    return (
        type(tenant) is type(digest) is type(salt) is bytes
        and len(tenant) == STREAM_ID_BYTES
        and len(digest) == DIGEST_BYTES
        and len(salt) in SALT_LENGTHS
        and type(size) is int
        and 0 <= size < MAX_SIZE_BYTES
        and type(chunks) is tuple
        and (not chunks or all(type(chunk) is bytes and len(chunk) == CHUNK_KEY_BYTES for chunk in chunks))
    )


def event_commitment(event: Event) -> bytes:
    """SHA-256 over salt, place and payload; of an erased event, the commitment that was kept."""
    tenant, stream, type_, version, data, salt = event
    if len(salt) == ERASED_SALT_BYTES:
        return salt
    return _sha256(b"".join((b"E", salt, tenant, stream, _BYTE[version], type_.encode(), b"\0", data))).digest()


def body_commitment(body: Body) -> bytes:
    """SHA-256 over salt, tenant, digest, size and chunks; of an erased body, the commitment that was kept."""
    tenant, digest, salt, size, chunks = body
    if len(salt) == ERASED_SALT_BYTES:
        return salt
    return _sha256(b"".join((b"B", salt, tenant, digest, size.to_bytes(8, "big"), *chunks))).digest()


def chain_hash(
    previous: bytes, index: int, term: int, kind: int, at_ms: int, outcome: int, leaves: Sequence[bytes]
) -> bytes:
    """The chain at `index`: SHA-256 over the chain before it, the entry's place, its outcome and one leaf per part.

    The leaves of a record are the SHA-256 of its header, then one commitment per event and per body.
    """
    return _sha256(previous + _ENTRY_HEAD.pack(index, term, kind, at_ms, outcome) + b"".join(leaves)).digest()


def leaves(record: Record, header: bytes) -> list[bytes]:
    """What the chain hashes of a record."""
    parts = [_sha256(header).digest()]
    parts += map(event_commitment, record.events)
    if record.bodies:
        parts += map(body_commitment, record.bodies)
    return parts


def raw_leaf(data: bytes) -> bytes:
    """What the chain hashes of bytes that are not a record."""
    return hashlib.sha256(data).digest()
