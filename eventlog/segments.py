"""Segments: a range of folded positions of a log as a file, or a stream, that stands by itself.

Its header says of which cell it is, which positions it holds, and the chain before and after them. Then comes, position
by position, what a fold from zero needs: the entry as the log stores it, its chain row with the outcome, and the bytes
of the bodies that it introduced. A body that an entry names and that is not here was brought by an earlier entry, or is
gone. Nothing is held in memory but a frame or two. What a reader was given is proven only when it has been read to its
end (eventlog/segment_frames.py tells the layout of the bytes; eventlog/segment_source.py takes it from a database).
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import msgpack

from eventlog.database_folder import sync_folder
from eventlog.journal import KIND_NOOP
from eventlog.record import Body, RecordError, chain_hash, decode_with_header, digest_of, leaves, raw_leaf
from eventlog.segment_frames import FRAME_BYTES, SALT_BYTES, FrameReader, FrameWriter, Read, SegmentError, Write
from eventlog.segment_keys import KeyRing
from eventlog.store import CHAIN_BYTES, LOG_HEAD

FORMAT = 1
SEGMENT_BYTES = 64 * 1024 * 1024  # of records and bodies, before they are compressed
PARTIAL = ".partial"

ROW_OVERHEAD = 64

_pack = msgpack.Packer(use_bin_type=True, autoreset=True).pack


class SegmentHeader(NamedTuple):
    """Which positions of which cell a segment holds. Times are milliseconds since 1970; `key_id` None is not encrypted.

    `chain_before` is the chain at `first - 1`, `chain_after` the one at `last`.
    """

    cell: str
    first: int
    last: int
    chain_before: bytes
    chain_after: bytes
    first_at_ms: int
    last_at_ms: int
    last_term: int
    key_id: str | None = None
    salt: bytes = b""


class SegmentRecord(NamedTuple):
    """One position: the stored entry (LOG_HEAD, then the record), its chain row (hash, outcome), its new bodies."""

    position: int
    value: bytes
    folded: bytes
    bodies: tuple[tuple[int, bytes], ...]  # ordinal and bytes of each that is kept

    @property
    def size_bytes(self) -> int:
        return len(self.value) + sum(len(data) for _, data in self.bodies) + ROW_OVERHEAD


class SegmentReport(NamedTuple):
    """What a verified segment holds; `digest` is the SHA-256 that it ends with."""

    header: SegmentHeader
    bodies: int
    body_bytes: int
    digest: bytes


# -- writing ----------------------------------------------------------------------------------------------------------


class SegmentEncoder:
    """Writes one segment as a stream. `add` its positions in order, then `finish`; `close` it in any case.

    Raises SegmentError if what it is given is not what the header says.
    """

    def __init__(
        self, write: Write, header: SegmentHeader, keys: KeyRing | None = None, frame_bytes: int = FRAME_BYTES
    ) -> None:
        self._frame_bytes = frame_bytes
        if keys is None:
            header, key = header._replace(key_id=None, salt=b""), None
        else:
            header = header._replace(key_id=keys.current, salt=os.urandom(SALT_BYTES))
            key = keys.key(keys.current)
        self.header = header
        self.bodies = self.body_bytes = 0
        self._next = header.first
        self._chain = header.chain_before
        self._rows: list[bytes] = []
        self._size_bytes = 0
        self._frames = FrameWriter(write, _packed_header(header), key, header.salt)

    def add(self, record: SegmentRecord) -> None:
        if record.position != self._next or record.position > self.header.last:
            raise SegmentError(f"position {record.position} was given where {self._next} is next")
        row = bytes(_pack(record))
        if self._rows and self._size_bytes + len(row) > self._frame_bytes:
            self._flush()
        self._rows.append(row)
        self._size_bytes += len(row)
        self._next += 1
        self._chain = record.folded[:CHAIN_BYTES]
        self.bodies += len(record.bodies)
        self.body_bytes += sum(len(data) for _, data in record.bodies)

    def finish(self) -> bytes:
        """Ends the segment; gives its digest."""
        if self._next != self.header.last + 1 or self._chain != self.header.chain_after:
            raise SegmentError(
                f"the segment ends at {self._next - 1}, or with another chain, where its header says {self.header.last}"
            )
        return self._frames.finish(b"".join(self._rows))

    def close(self) -> None:
        self._frames.close()

    def _flush(self) -> None:
        self._frames.add(b"".join(self._rows))
        self._rows.clear()
        self._size_bytes = 0


class SegmentWriter(SegmentEncoder):
    """A segment as a file: under its name only when it is whole and on disk. Use it as a context manager.

    Leaving the block well finishes it; with an exception nothing is left. `digest` and `size_bytes` are known then.
    """

    def __init__(
        self, path: Path, header: SegmentHeader, keys: KeyRing | None = None, frame_bytes: int = FRAME_BYTES
    ) -> None:
        self.path = path
        self.digest = b""
        self.size_bytes = 0
        self._partial = path.with_name(path.name + PARTIAL)
        self._file = os.fdopen(os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
        super().__init__(self._file.write, header, keys, frame_bytes)

    def __enter__(self) -> "SegmentWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self.digest = self.finish()
                self._file.flush()
                os.fsync(self._file.fileno())
                self.size_bytes = self._file.tell()
                self._partial.replace(self.path)
                sync_folder(self.path.parent)
        finally:
            self.close()
            with contextlib.suppress(OSError):  # of a full disk: what counts was synced before
                self._file.close()
            self._partial.unlink(missing_ok=True)


# -- reading ----------------------------------------------------------------------------------------------------------


def read_stream(read: Read, name: str, keys: KeyRing | None = None) -> tuple[SegmentHeader, Iterator[SegmentRecord]]:
    """Header and positions of a segment that comes as a stream. Raises SegmentError, KeyFileError."""
    frames = FrameReader(read, name)
    header = _unpacked_header(frames)
    return header, _records(frames, header, _key_of(header, keys, name))


def read_segment(path: Path, keys: KeyRing | None = None) -> Iterator[SegmentRecord]:
    """The positions in a file, in order. Raises SegmentError that names the file, at the latest at its end."""
    with path.open("rb") as file:
        _, records = read_stream(file.read, path.name, keys)
        with contextlib.closing(records):  # type: ignore[type-var]
            yield from records


def read_header(path: Path) -> SegmentHeader:
    """What a file says of itself; an encrypted one can not lie about it, once its first frame has been opened."""
    with path.open("rb") as file:
        return _unpacked_header(FrameReader(file.read, path.name))


def check_digest(path: Path) -> bytes:
    """Reads a file to its end and compares its digest, which is given: no key is needed. Raises SegmentError."""
    with path.open("rb") as file:
        FrameReader(file.read, path.name).check()
        file.seek(-32, os.SEEK_END)
        return file.read()


def verify_segment(path: Path, keys: KeyRing | None = None) -> SegmentReport:
    """Reads all, recomputes the chain from the records, and every body's hash. Raises SegmentError for the first fault.

    The chain before the segment is taken on trust: that it is the one after the segment before is the caller's to see.
    """
    header = read_header(path)
    chain, bodies, body_bytes = header.chain_before, 0, 0
    for record in read_segment(path, keys):
        named, chain = chain_of(chain, record)
        if record.folded[:CHAIN_BYTES] != chain:
            raise SegmentError(f"{path.name}: position {record.position} does not fit the chain")
        for ordinal, data in record.bodies:
            if ordinal >= len(named) or digest_of(data) != named[ordinal].digest:
                raise SegmentError(f"{path.name}: a body of position {record.position} is not what it was")
            bodies, body_bytes = bodies + 1, body_bytes + len(data)
    with path.open("rb") as file:
        file.seek(-32, os.SEEK_END)
        return SegmentReport(header, bodies, body_bytes, file.read())


def chain_of(before: bytes, record: SegmentRecord) -> tuple[tuple[Body, ...], bytes]:
    """The bodies that an entry names, and the chain at it as its bytes and its outcome make it."""
    term, kind, at_ms = LOG_HEAD.unpack_from(record.value)
    bodies: tuple[Body, ...] = ()
    parts: list[bytes] = []
    if kind != KIND_NOOP:
        data = record.value[LOG_HEAD.size :]
        try:
            found, header = decode_with_header(data)
            bodies, parts = found.bodies, leaves(found, header)
        except RecordError:
            parts = [raw_leaf(data)]
    outcome = record.folded[CHAIN_BYTES] if record.folded else 0
    return bodies, chain_hash(before, record.position, term, kind, at_ms, outcome, parts)


def _key_of(header: SegmentHeader, keys: KeyRing | None, name: str) -> bytes | None:
    if header.key_id is None:
        return None
    if keys is None:
        raise SegmentError(f"{name}: it is encrypted under the key {header.key_id}, and no key was given")
    return keys.key(header.key_id)


def _records(frames: FrameReader, header: SegmentHeader, key: bytes | None) -> Iterator[SegmentRecord]:
    position, chain = header.first - 1, header.chain_before
    with contextlib.closing(frames.frames(key, header.salt)) as parts:  # type: ignore[type-var]
        for data in parts:
            for record in _rows(frames, data):
                position += 1
                if record.position != position:
                    raise frames.error(f"position {record.position} stands where {position} belongs")
                chain = record.folded[:CHAIN_BYTES]
                yield record
    if position != header.last or chain != header.chain_after:
        raise frames.error(f"it ends at position {position}, or with another chain, and not at {header.last}")


def _rows(frames: FrameReader, data: bytes) -> Iterator[SegmentRecord]:
    unpacker = msgpack.Unpacker(use_list=False, max_buffer_size=len(data) + 1)
    unpacker.feed(data)
    try:
        for row in unpacker:
            record = SegmentRecord(*row)
            if not _is_sound(record):
                raise frames.error("a position in it has the wrong types or sizes")
            yield record
        if unpacker.tell() != len(data):
            raise frames.error("a frame of it ends within a position")
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise frames.error(f"a frame of it is damaged: {error}") from None


def _is_sound(record: SegmentRecord) -> bool:
    return (
        type(record.position) is int
        and type(record.value) is bytes
        and len(record.value) >= LOG_HEAD.size
        and type(record.folded) is bytes
        and len(record.folded) == CHAIN_BYTES + 1
        and type(record.bodies) is tuple
        and all(type(ordinal) is int and type(data) is bytes for ordinal, data in record.bodies)
    )


def _packed_header(header: SegmentHeader) -> bytes:
    return bytes(_pack({"format": FORMAT, **header._asdict()}))


def _unpacked_header(frames: FrameReader) -> SegmentHeader:
    try:
        fields: dict[str, Any] = msgpack.unpackb(frames.header)
        if fields.pop("format") != FORMAT:
            raise ValueError("of another format")
        header = SegmentHeader(**fields)
    except (ValueError, TypeError, KeyError, AttributeError, msgpack.UnpackException) as error:
        raise frames.error(f"its header can not be read: {error}") from None
    numbers = (header.first, header.last, header.first_at_ms, header.last_at_ms, header.last_term)
    hashes = (header.chain_before, header.chain_after)
    if (
        not all(type(number) is int for number in numbers)
        or not all(type(one) is bytes and len(one) == CHAIN_BYTES for one in hashes)
        or not (type(header.cell) is str and type(header.salt) is bytes)
        or not (header.key_id is None or type(header.key_id) is str)
        or not 0 < header.first <= header.last
    ):
        raise frames.error("its header is damaged")
    return header
