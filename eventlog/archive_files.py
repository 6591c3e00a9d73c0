"""Writing the segment files of the archive, by a process of its own beside the node: nothing of the database changes.

A segment holds the entries as they are, and the bodies that they brought and that no row of any table names now: what a
mailbox shows stays in the database. That is a matter of room alone, since readers find a body wherever it is, so nodes
need not agree on it. A file counts when it was read again from the disk and its chain, recomputed, leads from where the
segment before ends to where the log's own archival says (`eventlog.custody`).

`python -m eventlog.archive_files write DATA CELL FIRST-LAST ...` prints a line for each: first, last, and the newest
redaction that the entries show. `... erase DATA FROM TO` carries out the redactions behind FROM up to TO; `... sift
DATA LAST` takes along, up to LAST, the bodies that no table names any more.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import closing
from itertools import chain
from pathlib import Path

import msgpack

from eventlog.archived import ArchiveError, Segment
from eventlog.backup_erasure import Wanted
from eventlog.body_index import fresh_as_rows
from eventlog.custody import CUSTODY, ArchivedSegment, Redaction, redaction_in
from eventlog.record import DIGEST_BYTES, decode_events
from eventlog.restore import Progress
from eventlog.segment_frames import SegmentError
from eventlog.segment_source import describe, records_of
from eventlog.segments import SegmentHeader, SegmentRecord, SegmentWriter, read_header, read_segment, verify_segment
from eventlog.store import (
    BODIES,
    CHAIN,
    CHAIN_BYTES,
    GENESIS,
    LOG_HEAD,
    POSITION,
    SLICES,
    TABLES,
    Snapshot,
    Store,
    open_for_reading,
)
from eventlog.tables import FRESH

REDACTED = b"redacted"  # of META: the newest redaction that was folded
MOST_SEGMENTS = 256  # that one archival names
SIFT_BYTES = 1024 * 1024  # of bodies, for which a file is written anew
FRAME_BYTES = 256 * 1024  # what is unpacked to read one position
SLICE_ROWS = 50_000  # of a table, in one short read
_DIGESTS = re.compile(rb"\xc4\x20(?=(.{32}))", re.DOTALL)  # MessagePack: 32 bytes follow
_unpackb = msgpack.unpackb


def write(store: Store, cell: str, segments: list[Segment]) -> Iterator[tuple[Segment, int]]:
    """Writes the files, one after the other; gives each, and the newest redaction that its entries show.

    Raises SegmentError where the log is not what its chain says: then nothing may leave the database.
    """
    store.archive.folder.mkdir(mode=0o700, exist_ok=True)
    gone = _not_live(store, segments[0].first, segments[-1].last)
    for segment in segments:
        redacted = int(store.get_meta(REDACTED, 0))
        header = describe(store, cell, segment.first, segment.last)
        assert header is not None
        path = store.archive.path(segment)
        with SegmentWriter(path, header, frame_bytes=FRAME_BYTES) as writer:
            for record in records_of(store, segment.first, segment.last):
                writer.add(_without_live(record, gone))
        check(store, path, segment)
        yield segment, redacted


def plan(store: Store, first: int, last: int, most_bytes: int, most: int) -> list[ArchivedSegment]:
    """The positions from `first` to `last` in at most `most` segments, each of about so many bytes. For an archival."""
    found: list[ArchivedSegment] = []
    while first <= last and len(found) < most:
        header = describe(store, "", first, last, most_bytes)
        if header is None:
            break
        found.append(ArchivedSegment(first, header.last, header.chain_before, header.chain_after))
        first = header.last + 1
    return found


def damaged(store: Store, progress: Progress) -> Iterator[ArchiveError]:
    """Reads every segment from its start to its end, chain and bodies too; gives what is wrong with which."""
    with store.env.begin() as txn:
        segments = store.archive.segments(txn, store.db)
    for segment in segments:
        path = store.archive.path(segment)
        try:
            check(store, path, segment)
        except (OSError, SegmentError) as error:
            yield ArchiveError(path, segment, "is missing" if isinstance(error, FileNotFoundError) else str(error))
        progress(segment.last, segments[-1].last)


def sift(store: Store, last: int) -> Iterator[Segment]:
    """Writes files anew that can take along bodies which no table names any more, where that is worth it; gives them.

    A file keeps what it holds: a body may have come to life again, and be nowhere else.
    """
    with store.env.begin() as txn:
        segments = [one for one in store.archive.segments(txn, store.db) if one.last <= last]
    segments = [one for one in segments if _in_database(store, one) >= SIFT_BYTES]
    gone = _not_live(store, 1, last) if segments else set()
    for segment in segments:
        path = store.archive.path(segment)
        try:
            held = {(record.position, ordinal) for record in _segment(path) for ordinal, _ in record.bodies}
            if _size_of(store, segment, gone, held) >= SIFT_BYTES:
                with SegmentWriter(path, read_header(path), frame_bytes=FRAME_BYTES) as writer:
                    for record in records_of(store, segment.first, segment.last):
                        writer.add(_without_live(record, gone, held))
                check(store, path, segment)
                yield segment
        except (SegmentError, OSError) as error:
            raise ArchiveError(path, segment, f"can not be written anew ({error})") from None


def _in_database(store: Store, segment: Segment) -> int:
    """How many bytes of bodies that its positions brought are in the database."""
    with store.env.begin(buffers=True) as txn, txn.cursor(db=store.db[SLICES]) as cursor:
        end, size_bytes = POSITION.pack(segment.last + 1), 0
        for key, value in cursor if cursor.set_range(POSITION.pack(segment.first)) else ():
            if bytes(key) >= end:
                break
            size_bytes += len(value)
    return size_bytes


def _size_of(store: Store, segment: Segment, gone: set[bytes], held: set[tuple[int, int]]) -> int:
    """How many bytes of bodies a file would take along."""
    size_bytes = 0
    for record in records_of(store, segment.first, segment.last):
        kept = _without_live(record, gone, held).bodies
        size_bytes += sum(len(data) for ordinal, data in kept if (record.position, ordinal) not in held)
    return size_bytes


def check(store: Store, path: Path, segment: Segment) -> SegmentHeader:
    """Reads a file to its end and compares it with the chain in the database. Raises SegmentError."""
    header = verify_segment(path).header
    with store.env.begin() as txn:
        before = txn.get(POSITION.pack(segment.first - 1), default=GENESIS, db=store.db[CHAIN])[:CHAIN_BYTES]
        after = txn.get(POSITION.pack(segment.last), default=b"", db=store.db[CHAIN])[:CHAIN_BYTES]
    if (header.first, header.last) != segment:
        raise SegmentError(f"{path}: it holds the positions {header.first} to {header.last}")
    if (header.chain_before, header.chain_after) != (before, after):
        raise SegmentError(f"{path}: its chain is not the log's")
    return header


def _without_live(
    record: SegmentRecord, gone: set[bytes], held: AbstractSet[tuple[int, int]] = frozenset()
) -> SegmentRecord:
    """The record with the bodies that are gone, or that its file holds already."""
    if not record.bodies:
        return record
    named = _unpackb(record.value[LOG_HEAD.size :], use_list=False)[3]
    bodies = [one for one in record.bodies if named[one[0]][1] in gone or (record.position, one[0]) in held]
    return record._replace(bodies=tuple(bodies))


def _not_live(store: Store, first: int, last: int) -> set[bytes]:
    """The digests of bodies that these positions brought and that no row of any table names."""
    found: set[bytes] = set()
    made_of: dict[bytes, tuple[bytes, ...]] = {}  # large bodies, by digest
    # one that is merged meanwhile is read twice rather than never
    fresh = fresh_as_rows(_rows(store, FRESH)) if FRESH in store.db else ()
    for key, value in chain(fresh, _rows(store, BODIES)):
        position, _, _, chunks = _unpackb(value, use_list=False)
        if chunks:
            made_of[key[-DIGEST_BYTES:]] = chunks
        elif first <= position <= last:
            found.add(key[-DIGEST_BYTES:])
    large = set(made_of)
    for _, value in _rows(store, TABLES):
        named = _DIGESTS.findall(value)
        found.difference_update(named)
        large.difference_update(named)
    for digest in made_of.keys() - large:  # live, and so are its chunks
        found.difference_update(chunk[-DIGEST_BYTES:] for chunk in made_of[digest])
    return found


def _rows(store: Store, name: bytes) -> Iterator[tuple[bytes, bytes]]:
    """A table in short reads, so that the node can reuse its pages meanwhile."""
    key: bytes | None = b""
    while key is not None:
        rows: list[tuple[bytes, bytes]] = []
        with store.env.begin() as txn, txn.cursor(db=store.db[name]) as cursor:
            if cursor.set_range(key):
                for row in cursor:
                    rows.append(row)
                    if len(rows) > SLICE_ROWS:
                        break
        yield from rows[:SLICE_ROWS]
        key = rows[SLICE_ROWS][0] if len(rows) > SLICE_ROWS else None


# -- redaction --------------------------------------------------------------------------------------------------------


def erase(store: Store, after: int, last: int) -> Iterator[Segment]:
    """Writes the files anew that hold what the redactions behind `after` up to `last` name; gives them."""
    with store.snapshot() as snapshot, store.env.begin() as txn:
        wanted = Wanted(redactions(snapshot, after, last))
        segments = store.archive.segments(txn, store.db)
    for segment in segments:
        if not wanted.may_be_in(segment.first, segment.last, with_bodies=True):
            continue
        path = store.archive.path(segment)
        try:
            changed = wanted.changed(_segment(path))
            if changed:
                with SegmentWriter(path, read_header(path), frame_bytes=FRAME_BYTES) as writer:
                    for record in _segment(path):
                        writer.add(changed.get(record.position, record))
                check(store, path, segment)
                yield segment
        except (SegmentError, FileNotFoundError) as error:
            raise ArchiveError(path, segment, f"can not be written anew ({error})") from None


def redactions(snapshot: Snapshot, after: int, last: int) -> Iterator[Redaction]:
    """Those that took effect behind a position, up to another."""
    for position, value in snapshot.stream_entries(CUSTODY, last):
        if position > after:
            for event in decode_events(value[LOG_HEAD.size :], CUSTODY)[3]:
                redaction = redaction_in(event)
                if redaction is not None:
                    yield redaction


def _segment(path: Path) -> Iterator[SegmentRecord]:
    with closing(read_segment(path)) as records:  # type: ignore[type-var]
        yield from records


if __name__ == "__main__":
    task, data, *rest = sys.argv[1:]
    with open_for_reading(Path(data)) as opened:
        if task == "write":
            due = [Segment(*map(int, one.split("-"))) for one in rest[1:]]
            for done, shows in write(opened, rest[0], due):
                print(done.first, done.last, shows, flush=True)
        elif task == "sift":
            for done in sift(opened, int(rest[0])):
                print(done.first, done.last, flush=True)
        else:
            for done in erase(opened, int(rest[0]), int(rest[1])):
                print(done.first, done.last, flush=True)
