"""A stopped node's own tables as what a restore begins with, while other processes prove the log that they are of.

Nothing proves that they are what the log folds to: whoever takes them trusts that disk as the node itself would when it
starts. `log rehearse` folds the log again and compares, afterwards.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import AbstractContextManager

from eventlog.backup_tables import Row, TablesHead, tables_of
from eventlog.segment_frames import SegmentError
from eventlog.segment_source import StoreSource
from eventlog.store import Store
from eventlog.verify import RANGE, VerifyReport, verify_range


class StoreProof:
    """The log of a database, read by other processes a range at a time: the chain, and every body."""

    def __init__(self, tasks: list[Future[VerifyReport]]) -> None:
        self._tasks = tasks

    def result(self) -> None:
        """Returns once all of it is proven. Raises SegmentError that names the position."""
        for task in self._tasks:
            report = task.result()
            if not report.ok:
                raise SegmentError(f"position {report.first_bad}: {report.problems[0]}")


class StoreCheckpoint:
    """Of a database that nobody writes meanwhile, which has folded up to `position`."""

    def __init__(self, store: Store, cell: str, position: int) -> None:
        self._store = store
        self._cell = cell
        self._position = position

    def tables(self) -> AbstractContextManager[tuple[TablesHead, Iterator[Row]]]:
        return tables_of(self._store, self._cell)

    @contextlib.contextmanager
    def prove(self) -> Iterator[StoreProof]:
        """Begins to verify the log, by a process a core but for this one's."""
        firsts = range(1, self._position + 1, RANGE)
        path = str(self._store.path)
        workers = max(1, (os.cpu_count() or 2) - 1)
        pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
        try:
            ranges = [(path, first, min(self._position, first + RANGE - 1), ()) for first in firsts]
            yield StoreProof([pool.submit(verify_range, one) for one in ranges])
        finally:
            pool.shutdown(cancel_futures=True)


class TrustedSource(StoreSource):
    """A stopped node's database to recover from, whose disk is trusted: its tables are a checkpoint."""

    def checkpoint(self, last: int) -> StoreCheckpoint | None:
        """Its tables; None where they are of a later moment than `last`."""
        with self._store.snapshot() as snapshot:
            position = snapshot.position
        return StoreCheckpoint(self._store, self.cell, position) if 0 < position <= last else None
