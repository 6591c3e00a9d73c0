"""Reading what was archived: positions of the log that have left the database for segment files beside it.

The rows of the log stay what they are wherever they stand: in the database, where they go first and win, or in a file
of its folder `archive`, which `META` lists. A file is looked into a frame at a time (eventlog/segment_frames.py), found
by halving; the newest frames are kept in memory. Files are replaced whole when something in them is redacted, so what
is kept belongs to one file as it was. Threads may share an Archive.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgpack
import zstandard

from eventlog.body_index import leads_to
from eventlog.errors import LogError
from eventlog.segment_frames import FRAME, MAX_FRAME_BYTES, FrameReader, SegmentError
from eventlog.tables import BODY_SLOT, LOG, LOG_HEAD, META, POSITION, SLICES
from eventlog.tails import whole

if TYPE_CHECKING:
    import lmdb

    Transaction = lmdb.Transaction[bytes]
    Tables = dict[bytes, Any]

FOLDER = "archive"  # in the database's folder
ARCHIVED = b"archive"  # of META: first and last position of each segment, in order, from position 1 on
KEPT_BYTES = 16 * 1024 * 1024  # of frames, unpacked
KEPT_FILES = 64
FIRST_BYTES = 32  # of a frame: more than what stands before the end of its first position

_unpackb = msgpack.unpackb


class ArchiveError(LogError):
    """A segment is missing or damaged, so its positions can not be read here; the text names file and positions."""

    code = "archive_damaged"

    def __init__(self, path: Path, segment: Segment, why: str) -> None:
        super().__init__(
            f"{path}: {why}, so positions {segment.first} to {segment.last} can not be read here "
            "(mailraft log archive repair)"
        )
        self.segment = segment
        self.why = why


class Segment(NamedTuple):
    """The positions that one file holds."""

    first: int
    last: int

    @property
    def file(self) -> str:
        return f"segment-{self.first:012}-{self.last:012}"


class Row(NamedTuple):
    """One position as a segment holds it: eventlog.segments.SegmentRecord, as it was read."""

    position: int
    value: bytes
    folded: bytes
    bodies: tuple[tuple[int, bytes], ...]


class _File(NamedTuple):
    """A segment file as it was when it was looked at, and where its frames stand in it."""

    identity: tuple[int, int, int]
    frames: tuple[tuple[int, int], ...]  # offset and length of what is packed
    firsts: dict[int, int]  # the first position of frames that were looked into


class Archive:
    """The segment files in one folder. Raises ArchiveError for one that is missing or damaged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._listed: tuple[bytes | None, tuple[Segment, ...]] = (None, ())
        self._files: OrderedDict[Segment, _File] = OrderedDict()
        self._frames: OrderedDict[tuple[Segment, int], tuple[_File, list[Row], int]] = OrderedDict()
        self._kept_bytes = 0

    def path(self, segment: Segment) -> Path:
        return self.folder / segment.file

    # -- with the database ----------------------------------------------------------------------------------------

    def segments(self, txn: Transaction, db: Tables) -> tuple[Segment, ...]:
        """What has been archived, as of a transaction."""
        packed = txn.get(ARCHIVED, db=db[META])
        before, found = self._listed
        if packed != before:
            found = () if packed is None else tuple(Segment(*one) for one in _unpackb(packed))
            self._listed = packed, found
        return found

    def value(self, txn: Transaction, db: Tables, position: int) -> bytes | None:
        """The stored entry at a position that the database itself does not have; None if it is not archived."""
        row = self._row(txn, db, position)
        return None if row is None else row.value

    def body(self, txn: Transaction, db: Tables, position: int, ordinal: int) -> bytes | None:
        """The bytes of a body that a position brought, if they are archived and were not dropped since."""
        row = self._row(txn, db, position)
        return None if row is None else dict(kept_bodies(txn, db, row)).get(ordinal)

    def rows(self, txn: Transaction, db: Tables, first: int, last: int) -> Iterator[tuple[bytes, bytes, Row | None]]:
        """Key and stored entry of positions from `first` on, in order, wherever they are, and the archive's own row."""
        with txn.cursor(db=db[LOG]) as cursor:
            there = cursor.set_range(POSITION.pack(first))
            for segment in self._overlapping(txn, db, first, last):
                for row in self._from(segment, max(first, segment.first), min(last, segment.last)):
                    key, value = POSITION.pack(row.position), row.value
                    if there and cursor.key() == key:
                        value, there = whole(txn, db, key, cursor.value()), cursor.next()
                    yield key, value, row
            end = POSITION.pack(last)
            for key, value in cursor if there else ():
                if key > end:
                    return
                yield key, whole(txn, db, key, value), None
                if key == end:
                    return  # before the cursor looks at what is behind, which may be damaged

    def _overlapping(self, txn: Transaction, db: Tables, first: int, last: int) -> tuple[Segment, ...]:
        found = self.segments(txn, db)
        if not found or first > found[-1].last:
            return ()
        at = bisect_left(found, first, key=lambda one: one.last)
        return tuple(one for one in found[at:] if one.first <= last)

    def _row(self, txn: Transaction, db: Tables, position: int) -> Row | None:
        for segment in self._overlapping(txn, db, position, position):
            return next(self._from(segment, position, position), None)
        return None

    # -- in a file --------------------------------------------------------------------------------------------------

    def _from(self, segment: Segment, first: int, last: int) -> Iterator[Row]:
        """The rows of one file from `first` to `last`."""
        number: int | None = None
        while first <= last:
            found, number = self._frame(segment, first, number)
            rows = found[first - found[0].position : last + 1 - found[0].position]
            if not rows or rows[0].position != first:
                raise self._error(segment, f"position {first} is not where it should be")
            yield from rows
            first += len(rows)
            number += 1

    def _frame(self, segment: Segment, position: int, number: int | None) -> tuple[list[Row], int]:
        """The rows of the frame that holds a position, which is frame `number` where the caller knows."""
        path = self.path(segment)
        try:
            with path.open("rb") as file:
                with self._lock:
                    return self._kept(file.fileno(), path, segment, position, number)
        except OSError as error:
            raise self._error(segment, "is missing" if isinstance(error, FileNotFoundError) else str(error)) from None
        except (
            SegmentError,
            zstandard.ZstdError,
            msgpack.UnpackException,
            ValueError,
            TypeError,
            LookupError,
        ) as error:
            raise self._error(segment, f"is damaged ({error})") from None

    def _error(self, segment: Segment, why: str) -> ArchiveError:
        return ArchiveError(self.path(segment), segment, why)

    def _kept(
        self, descriptor: int, path: Path, segment: Segment, position: int, number: int | None
    ) -> tuple[list[Row], int]:
        file = self._file(descriptor, path, segment)
        if number is None:
            number = self._find(descriptor, file, position)
        kept = self._frames.get((segment, number))
        if kept is not None and kept[0] is file:
            self._frames.move_to_end((segment, number))
            return kept[1], number
        packed = _read(descriptor, *file.frames[number])
        data = _unpacked(packed)
        rows = [Row(*row) for row in _unpacker(data)]
        self._keep(segment, number, file, rows, len(data))
        return rows, number

    def _keep(self, segment: Segment, number: int, file: _File, rows: list[Row], size_bytes: int) -> None:
        before = self._frames.pop((segment, number), None)
        self._kept_bytes += size_bytes - (before[2] if before is not None else 0)
        self._frames[segment, number] = (file, rows, size_bytes)
        while self._kept_bytes > KEPT_BYTES and len(self._frames) > 1:
            self._kept_bytes -= self._frames.popitem(last=False)[1][2]

    def _file(self, descriptor: int, path: Path, segment: Segment) -> _File:
        stat = os.fstat(descriptor)
        identity = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        known = self._files.get(segment)
        if known is None or known.identity != identity:
            known = self._files[segment] = _File(identity, tuple(_frames(descriptor, path.name)), {})
        self._files.move_to_end(segment)
        while len(self._files) > KEPT_FILES:
            self._files.popitem(last=False)
        return known

    def _find(self, descriptor: int, file: _File, position: int) -> int:
        """The number of the last frame that begins at or before a position."""
        low, high = 0, len(file.frames) - 1
        while low < high:
            middle = (low + high + 1) // 2
            if middle not in file.firsts:
                file.firsts[middle] = _first_position(_read(descriptor, *file.frames[middle]))
            low, high = (middle, high) if file.firsts[middle] <= position else (low, middle - 1)
        return low


def kept_bodies(txn: Transaction, db: Tables, row: Row) -> Iterator[tuple[int, bytes]]:
    """The bodies in a segment's row that the database's index still leads to: others were dropped since.

    They are gone from the file once it is written anew (eventlog/archive.py).
    """
    if not row.bodies:
        return
    named: tuple[tuple[Any, ...], ...] = _unpackb(row.value[LOG_HEAD.size :], use_list=False)[3]
    for ordinal, data in row.bodies:
        if leads_to(txn, db, named[ordinal][0] + named[ordinal][1], row.position, ordinal):
            yield ordinal, data


def bodies_at(txn: Transaction, db: Tables, key: bytes, slots: Any, row: Row | None) -> list[tuple[int, bytes]]:
    """The bodies that the position of a key brought, wherever they are; `slots` is a cursor that stands there."""
    found = dict(kept_bodies(txn, db, row)) if row is not None else {}
    while slots.key()[: POSITION.size] == key:
        found[BODY_SLOT.unpack(slots.key())[1]] = whole(txn, db, slots.key(), slots.value())
        slots.next()
    return sorted(found.items())


def slots_from(txn: Transaction, db: Tables, first: int) -> Any:
    """A cursor over the bodies in the database, at the first that a position from `first` on brought."""
    cursor = txn.cursor(db=db[SLICES])
    cursor.set_range(BODY_SLOT.pack(first, 0))
    return cursor


def _frames(descriptor: int, name: str) -> Iterator[tuple[int, int]]:
    """Where the frames of a file stand, by the lengths in front of them."""
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        FrameReader(file.read, name)
        number, last = 0, 0
        while not last:
            found, last, length = FRAME.unpack(_exactly(file.read(FRAME.size), FRAME.size))
            if found != number or last > 1 or length > 2 * MAX_FRAME_BYTES:
                raise SegmentError(f"frame {number} is damaged")
            yield file.tell(), length
            file.seek(length, os.SEEK_CUR)
            number += 1


def _read(descriptor: int, offset: int, length: int) -> bytes:
    return _exactly(os.pread(descriptor, length, offset), length)


def _exactly(data: bytes, length: int) -> bytes:
    if len(data) != length:
        raise SegmentError("it ends too early")
    return data


def _unpacked(packed: bytes) -> bytes:
    if not 0 <= zstandard.frame_content_size(packed) <= MAX_FRAME_BYTES:
        raise SegmentError("a frame of it would be too large")
    return zstandard.ZstdDecompressor().decompress(packed, allow_extra_data=False)


def _unpacker(data: bytes) -> Any:
    unpacker = msgpack.Unpacker(use_list=False, max_buffer_size=len(data) + 1)
    unpacker.feed(data)
    return unpacker


def _first_position(packed: bytes) -> int:
    """The position that a frame begins with; of the frame no more is unpacked than that."""
    with zstandard.ZstdDecompressor().stream_reader(packed) as reader:
        unpacker = _unpacker(reader.read(FIRST_BYTES))
    unpacker.read_array_header()
    return int(unpacker.unpack())
