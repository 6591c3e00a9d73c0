"""What is done with a backup: let it grow, prove it, read from it, drop what is old or was erased.

Progress is told as positions done, of how many.
"""

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

from eventlog.backup_manifest import BackupError, Chain, Listed, ListedTables
from eventlog.backup_set import BackupSet, check_listed
from eventlog.backup_tables import Row, TablesHead, read_tables, tables_of, write_file
from eventlog.custody import CUSTODY
from eventlog.restore import Head, Progress
from eventlog.restore_tables import Loaded, Records, load
from eventlog.segment_frames import SegmentError
from eventlog.segment_keys import KeyRing
from eventlog.segment_source import describe, records_of
from eventlog.segments import SEGMENT_BYTES, SegmentHeader, SegmentRecord, read_segment, verify_segment
from eventlog.store import CHAIN_BYTES, GENESIS, LOG_HEAD, Store

Clock = Callable[[], int]  # ms


class Feed(Protocol):
    """What a backup grows from: a node's database, or a running cluster."""

    cell: str

    def last(self) -> int:
        """The newest folded position."""

    def segment(self, first: int, last: int) -> tuple[SegmentHeader, Iterator[SegmentRecord]]:
        """From `first` on as much as makes a segment, at most to `last`."""

    def tables(self) -> AbstractContextManager[tuple[TablesHead, Iterator[Row]]]:
        """The tables as of a position that is folded."""


class StoreFeed:
    """A node's database, of a node that runs or not."""

    def __init__(self, store: Store, cell: str, most_bytes: int = SEGMENT_BYTES) -> None:
        self.cell = cell
        self._store = store
        self._most_bytes = most_bytes

    def last(self) -> int:
        with self._store.snapshot() as snapshot:
            return snapshot.position

    def segment(self, first: int, last: int) -> tuple[SegmentHeader, Iterator[SegmentRecord]]:
        header = describe(self._store, self.cell, first, last, self._most_bytes)
        if header is None:
            raise SegmentError(f"nothing is folded at position {first}")
        return header, records_of(self._store, first, header.last)

    def tables(self) -> AbstractContextManager[tuple[TablesHead, Iterator[Row]]]:
        return tables_of(self._store, self.cell)


class Grown(NamedTuple):
    """What a run added: positions `first` to `last` (none where first > last), in how many segments of which size.

    `acts` says whether acts on the log itself may be among them: redactions, quarantines.
    """

    first: int
    last: int
    segments: int = 0
    size_bytes: int = 0
    acts: bool = False


def grow(
    backup: BackupSet,
    feed: Feed,
    now_ms: Clock,
    progress: Progress | None = None,
    *,
    full: bool = False,
    tables_every: int = 0,
) -> Grown:
    """Adds what the log has and the backup lacks; all of it where `full` begins a new chain. Call it `locked`.

    With `tables_every`, tables too, once so many positions came since the last ones.
    What an earlier run did not finish is cleared away. Raises BackupError for the backup of another log.
    """
    backup.clear()
    if feed.cell != backup.cell:
        raise BackupError(f"{backup.folder} is the backup of the cell {backup.cell}, and this is {feed.cell}")
    if full or not backup.chains:
        backup.begin(now_ms())
    tables = _tables_due(backup, feed, tables_every)
    first, last = backup.current.last + 1, max(feed.last(), tables[0].position if tables is not None else 0)
    if last < first - 1:
        raise BackupError(f"{backup.folder} goes to position {first - 1}, and the log only to {last}")
    done = Grown(first, last)
    while backup.current.last < last:
        header, records = feed.segment(backup.current.last + 1, last)
        acts = False
        with backup.writer(header) as writer:
            for record in records:
                acts = acts or CUSTODY in record.value
                writer.add(record)
        backup.add(writer, now_ms())
        done = Grown(first, last, done.segments + 1, done.size_bytes + writer.size_bytes, done.acts or acts)
        if progress is not None:
            progress(header.last - first + 1, last - first + 1)
    if tables is not None:
        backup.add_tables(*tables)
    return done


def _tables_due(backup: BackupSet, feed: Feed, every: int) -> tuple[TablesHead, bytes] | None:
    """Writes a file of tables if it is time for one; it is listed when the segments have come as far."""
    newest = backup.tables[-1].head.position if backup.tables else 0
    if not every or feed.last() - newest < every:
        return None
    with feed.tables() as (head, rows):
        return write_file(backup.tables_path(head.position), head, rows, backup.keys)


class BackupReport(NamedTuple):
    """Of a backup that was read from its start to its end, all chains of it."""

    chains: int
    segments: int
    positions: int
    bodies: int
    body_bytes: int
    head: bytes


def verify_backup(backup: BackupSet, progress: Progress | None = None) -> BackupReport:
    """Reads everything: digests, the chain within and across segments, bodies. Raises SegmentError naming the file."""
    total = sum(chain.last for chain in backup.chains)
    done = segments = bodies = body_bytes = 0
    for chain in backup.chains:
        for segment in chain.segments:
            report = _verify_listed(backup, segment)
            segments, bodies, body_bytes = segments + 1, bodies + report.bodies, body_bytes + report.body_bytes
            done += segment.header.last - segment.header.first + 1
            if progress is not None:
                progress(done, total)
    for tables in backup.tables:
        _verify_tables(backup, tables)
    return BackupReport(len(backup.chains), segments, done, bodies, body_bytes, backup.longest.chain_after)


def _verify_tables(backup: BackupSet, tables: ListedTables) -> None:
    with open_tables(backup, tables) as (_, rows):
        for _row in rows:
            pass


@contextlib.contextmanager
def open_tables(backup: BackupSet, tables: ListedTables) -> Iterator[tuple[TablesHead, Iterator[Row]]]:
    """Tables that are listed, for reading. Raises SegmentError for a file that is another, or is not there."""
    path = backup.folder / tables.file
    try:
        with path.open("rb") as file:
            file.seek(-len(tables.digest), os.SEEK_END)
            digest = file.read()
            file.seek(0)
            head, rows = read_tables(file.read, tables.file, backup.keys)
            if head != tables.head or digest != tables.digest:
                raise SegmentError(f"{tables.file}: it is not the file that is listed")
            yield head, rows
    except OSError as error:
        raise SegmentError(f"{tables.file}: can not be read: {error.strerror}") from None


def _verify_listed(backup: BackupSet, segment: Listed) -> Listed:
    check_listed(backup, segment)
    report = verify_segment(backup.path(segment), backup.keys)
    if report.digest != segment.digest:
        raise SegmentError(f"{segment.file}: it is not the segment that is listed: its digest is another")
    return segment


def compare_head(backup: BackupSet, feed: Feed) -> None:
    """Whether the end of the backup is a place in that log. Raises BackupError if it is not."""
    end = backup.longest
    if feed.cell != backup.cell:
        raise BackupError(f"{backup.folder} is the backup of the cell {backup.cell}, and this is {feed.cell}")
    if feed.last() < end.last:
        raise BackupError(f"{backup.folder} goes to position {end.last}, and the log only to {feed.last()}")
    if end.last and feed.segment(end.last, end.last)[0].chain_after != end.chain_after:
        raise BackupError(
            f"{backup.folder}: the chain at position {end.last} is not the log's: one of them was altered"
        )


def prune(backup: BackupSet, before_ms: int) -> list[Chain]:
    """Removes the chains that ended before a time and that a newer one goes as far as. Call it `locked`.

    Gives what was removed. The chain that is restored from is never among it.
    """
    old = [
        chain
        for chain in backup.chains
        if chain.last_written_ms < before_ms
        and any(newer.number > chain.number and newer.last >= chain.last for newer in backup.chains)
    ]
    for chain in old:
        backup.remove(chain)
    return old


class BackupProof:
    """Segments that are read to their ends by other processes: digests, the chain, every body."""

    def __init__(self, tasks: list[Future[None]]) -> None:
        self._tasks = tasks

    def result(self) -> None:
        """Returns once all of it is proven. Raises SegmentError that names the file."""
        for task in self._tasks:
            task.result()


def _prove(folder: Path, segment: Listed, keys: KeyRing | None) -> None:
    """In a process of its own: the file must be what is listed, and its chain what its records make it."""
    report = verify_segment(folder / segment.file, keys)
    if report.header != segment.header or report.digest != segment.digest:
        raise SegmentError(f"{segment.file}: it is not the segment that is listed")


class BackupCheckpoint:
    """Tables of a backup, and the segments that lead to them."""

    def __init__(self, backup: BackupSet, tables: ListedTables, segments: list[Listed]) -> None:
        self._backup = backup
        self._tables = tables
        self._segments = segments

    def tables(self) -> AbstractContextManager[tuple[TablesHead, Iterator[Row]]]:
        return open_tables(self._backup, self._tables)

    def fill(self, path: Path, records: Records, progress: Progress | None) -> Loaded:
        return load(path, self, records, progress)

    @contextlib.contextmanager
    def prove(self) -> Iterator[BackupProof]:
        """Begins to read every segment in processes of their own, one a core but for this one's."""
        workers = max(1, (os.cpu_count() or 2) - 1)
        pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
        try:
            keys = self._backup.keys
            yield BackupProof([pool.submit(_prove, self._backup.folder, one, keys) for one in self._segments])
        finally:
            pool.shutdown(cancel_futures=True)


class BackupSource:
    """A backup to recover from: the chain in it that goes furthest."""

    def __init__(self, backup: BackupSet) -> None:
        self.cell = backup.cell
        self._backup = backup
        self._segments = backup.longest.segments

    def head(self) -> Head:
        if not self._segments:
            return Head(0, 0, 0, GENESIS)
        header = self._segments[-1].header
        return Head(header.last, header.last_at_ms, header.last_term, header.chain_after)

    def at(self, position: int) -> Head:
        for record in self.records(position, position):
            term, _, at_ms = LOG_HEAD.unpack_from(record.value)
            return Head(position, at_ms, term, record.folded[:CHAIN_BYTES])
        raise BackupError(f"{self._backup.folder} has no position {position}")

    def position_at(self, at_ms: int) -> int:
        found = 0
        for segment in self._segments:
            if segment.header.last_at_ms > at_ms:
                return self._position_within(segment, at_ms, found)
            found = segment.header.last
        return found

    def _position_within(self, segment: Listed, at_ms: int, found: int) -> int:
        if segment.header.first_at_ms > at_ms:
            return found
        for record in self._read(segment):
            if LOG_HEAD.unpack_from(record.value)[2] > at_ms:
                break
            found = record.position
        return found

    def records(self, first: int, last: int) -> Iterator[SegmentRecord]:
        for segment in self._segments:
            if segment.header.first > last:
                return
            if segment.header.last >= first:
                yield from (record for record in self._read(segment) if first <= record.position <= last)

    def checkpoint(self, last: int) -> BackupCheckpoint | None:
        """The newest tables as of a position up to `last`, those whose key is there; None where there are none."""
        keys = self._backup.keys
        listed = [one for one in self._backup.tables if one.head.position <= last]
        usable = [one for one in listed if one.head.key_id is None or (keys is not None and one.head.key_id in keys)]
        if not usable:
            return None
        position = usable[-1].head.position
        segments = [one for one in self._segments if one.header.first <= position]
        return BackupCheckpoint(self._backup, usable[-1], segments)

    def _read(self, segment: Listed) -> Iterator[SegmentRecord]:
        check_listed(self._backup, segment)
        return read_segment(self._backup.path(segment), self._backup.keys)
