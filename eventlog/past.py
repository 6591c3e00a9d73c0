"""A stream's tables as they were, written to a database of their own that others can read through.

Folding a long history takes seconds and a mailbox may have a million rows, so it is done once, by a process of its
own, and what comes out is read from a file like the live tables, with no memory of its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb

from eventlog.fold import Evolve
from eventlog.replay import view_as_of
from eventlog.store import MAP_ROOM_BYTES, TABLES, Snapshot, TableView, pack_row

COMMIT_ROWS = 20_000


def write_past(snapshot: Snapshot, stream: bytes, evolve: Evolve, position: int, folder: Path) -> int:
    """Folds a stream up to and including `position` into a new database in `folder`; gives the number of rows."""
    rows = view_as_of(snapshot, stream, evolve, position=position).rows()
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    env = lmdb.open(str(partial), map_size=MAP_ROOM_BYTES, max_dbs=1, sync=False, readahead=False)
    table = env.open_db(TABLES)
    keys = sorted(rows)
    for first in range(0, len(keys), COMMIT_ROWS):
        with env.begin(write=True, db=table) as txn:
            for key in keys[first : first + COMMIT_ROWS]:
                written, value = rows[key]
                txn.put(stream + key, pack_row(written, value), append=True)
    env.close()
    partial.rename(folder)
    return len(keys)


class PastTables:
    """What `write_past` wrote, for reading."""

    def __init__(self, folder: Path) -> None:
        size = (folder / "data.mdb").stat().st_size
        self._env = lmdb.open(str(folder), map_size=size * 2, readonly=True, lock=False, max_dbs=1, readahead=False)
        self._table = self._env.open_db(TABLES, create=False)
        self.folder = folder

    @contextmanager
    def view(self, stream: bytes) -> Iterator[TableView]:
        """The rows of the stream; never hold it across an await."""
        with self._env.begin() as txn:
            yield TableView(txn, self._table, stream)

    def remove(self) -> None:
        """Closes it and removes its files."""
        self._env.close()
        shutil.rmtree(self.folder, ignore_errors=True)
