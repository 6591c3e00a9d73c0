"""A stopped node's own tables as what a restore begins with, while other processes prove the log that they are of.

The file is copied as a whole, and what is not committed state of the cell is taken out of the copy: nothing is quicker.
Where a part of the log is in archived segments, it is read record by record like any other source. Nothing proves that
the tables are what the log folds to: whoever takes them trusts that disk as the node itself would when it starts. `log
rehearse` folds the log again and compares, afterwards.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

from eventlog.backup_tables import Row, TablesHead, tables_of
from eventlog.journal import LmdbJournal
from eventlog.levels import NEWEST
from eventlog.restore_tables import MAP_SIZE_BYTES, Loaded, Progress, Records, load
from eventlog.segment_frames import SegmentError
from eventlog.segment_source import StoreSource
from eventlog.store import META, Store
from eventlog.surviving import Task
from eventlog.verify import RANGE, VerifyReport, joined, verify_range

KEPT = (b"folded", b"format")  # of META: the rest is a node's own, or is written again
LEAST_RANGE = 1000  # records that are worth a task of their own


class StoreProof:
    """The log of a database, read by other processes a range at a time: the chain, and every body."""

    def __init__(self, tasks: list[Future[VerifyReport]]) -> None:
        self._tasks = tasks

    def result(self, progress: Progress | None = None) -> VerifyReport:
        """Returns once all of it is proven. Raises SegmentError that names the position."""
        reports: list[VerifyReport] = []
        for task in self._tasks:
            reports.append(task.result())
            if not reports[-1].ok:
                raise SegmentError(f"position {reports[-1].first_bad}: {reports[-1].problems[0]}")
            if progress is not None:
                progress(len(reports), len(self._tasks))
        return joined(reports)


class StoreCheckpoint:
    """Of a database that nobody writes meanwhile, which has folded up to `position`."""

    def __init__(self, store: Store, cell: str, position: int) -> None:
        self._store = store
        self._cell = cell
        self._position = position

    def tables(self) -> AbstractContextManager[tuple[TablesHead, Iterator[Row]]]:
        return tables_of(self._store, self._cell)

    def fill(self, path: Path, records: Records, progress: Progress | None) -> Loaded:
        with self._store.env.begin() as txn:
            archived = self._store.archive.segments(txn, self._store.db)
        return load(path, self, records, progress) if archived else self._copy(path, progress)

    def _copy(self, path: Path, progress: Progress | None) -> Loaded:
        def told(done: int, of: int) -> None:
            if progress is not None:
                progress(self._position * done // of, self._position)

        with self.prove() as proof:
            path.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._store.path / "data.mdb", path / "data.mdb")
            copy = Store(path, MAP_SIZE_BYTES, durable=False)
            try:
                term, at_ms = _cut_off(copy, self._position)
            finally:
                copy.close()
            report = proof.result(told)
        return Loaded(self._position, at_ms, term, report.events, report.bodies, report.body_bytes)

    @contextlib.contextmanager
    def prove(self) -> Iterator[StoreProof]:
        """Begins to verify the log, by a process a core."""
        size = max(LEAST_RANGE, min(RANGE, -(-self._position // (os.cpu_count() or 1))))
        firsts = range(1, self._position + 1, size)
        path = str(self._store.path)
        pool = ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn"))
        try:
            ranges = [Task(path, first, min(self._position, first + size - 1)) for first in firsts]
            yield StoreProof([pool.submit(verify_range, one) for one in ranges])
        finally:
            pool.shutdown(cancel_futures=True)


def _cut_off(copy: Store, position: int) -> tuple[int, int]:
    """Leaves of a node's database what is folded, and nothing that is about this node. Gives the last term and time."""
    journal = LmdbJournal(copy)
    journal.deleteEntriesFrom(position)
    quarantines = tuple((at, 0) for at, _ in copy.get_meta(b"quarantines", ()) if at <= position)
    with copy.txn.cursor(db=copy.db[META]) as cursor:
        for key in list(cursor.iternext(keys=True, values=False)):
            if key not in KEPT:
                copy.txn.delete(key, db=copy.db[META])
    if quarantines:
        copy.put_meta(b"quarantines", quarantines)
    copy.put_meta(b"born", NEWEST)  # as of every database that this program makes
    copy.commit()
    return journal.last_term, journal.last_at_ms


class TrustedSource(StoreSource):
    """A stopped node's database to recover from, whose disk is trusted: its tables are a checkpoint."""

    def checkpoint(self, last: int) -> StoreCheckpoint | None:
        """Its tables; None where they are of a later moment than `last`."""
        with self._store.snapshot() as snapshot:
            position = snapshot.position
        return StoreCheckpoint(self._store, self.cell, position) if 0 < position <= last else None
