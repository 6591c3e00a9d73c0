"""Writes of the fold before they reach LMDB: one layer a record (thrown away if it fails), one a tick.

A tick's rows are flushed together, sorted, in the tick's transaction; a row that a hundred records of the tick write
(a folder's UIDNEXT) is packed and written once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import msgpack

from eventlog.record import MAX_KEY_BYTES
from eventlog.store import POSITION, TABLES, Store, pack_row
from eventlog.views import range_bounds

if TYPE_CHECKING:
    from eventlog.store import Transaction

Row = tuple[int, Any] | None  # position and value; None is a deletion
_unpackb = msgpack.unpackb


class Overlay:
    """Table rows over LMDB. `commit_record` keeps what the record wrote, `drop_record` forgets it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._tick: dict[bytes, Row] = {}
        self.record: dict[bytes, Row] = {}  # always the same dictionary: a view puts into it
        self._read: dict[bytes, Row] = {}

    def get(self, key: bytes) -> Row:
        if key in self.record:
            return self.record[key]
        if key in self._tick:
            return self._tick[key]
        if key in self._read:
            return self._read[key]
        value = self._store.txn.get(key, db=self._store.db[TABLES])
        row = None if value is None else (POSITION.unpack_from(value)[0], _unpackb(value[8:], use_list=False))
        self._read[key] = row
        return row

    def count(self, stream: bytes, position: int) -> None:
        """One event more on a stream: how many there are is its version."""
        head = self.get(stream)
        self.record[stream] = (position, 1 if head is None else head[1] + 1)

    def range(self, first: bytes, end: bytes | None) -> Iterator[tuple[bytes, Any]]:
        found = dict(_scan(self._store.txn, self._store.db[TABLES], first, end))
        for layer in (self._tick, self.record):
            for key, row in layer.items():
                if key >= first and (end is None or key < end):
                    found[key] = row
        return iter(sorted((key, row[1]) for key, row in found.items() if row is not None))

    @property
    def rows_in_record(self) -> int:
        return len(self.record)

    def commit_record(self) -> None:
        self._tick.update(self.record)
        self.record.clear()

    def drop_record(self) -> None:
        self.record.clear()

    def flush(self) -> None:
        """Writes the tick's rows into the tick's transaction."""
        written = sorted([(key, pack_row(*row)) for key, row in self._tick.items() if row is not None])
        self._store.put_many(TABLES, written)
        if len(written) < len(self._tick):
            txn, table = self._store.txn, self._store.db[TABLES]
            for key in sorted([key for key, row in self._tick.items() if row is None]):
                txn.delete(key, db=table)
        self.forget()

    def forget(self) -> None:
        """Drops everything not flushed: after a flush, or after a tick that could not be written."""
        self._tick.clear()
        self.record.clear()
        self._read.clear()


class OverlayView:
    """One stream in the fold: what `evolve` reads and writes."""

    __slots__ = ("_get", "_overlay", "_position", "_written", "stream")

    def __init__(self, overlay: Overlay, stream: bytes, position: int) -> None:
        self.stream = stream
        self._overlay = overlay
        self._get: Callable[[bytes], Row] = overlay.get
        self._written = overlay.record
        self._position = position

    def beside(self, stream: bytes) -> OverlayView:
        """Another stream in the same record: for sums over many streams, which the fold alone can keep."""
        return OverlayView(self._overlay, stream, self._position)

    def get(self, key: bytes) -> Any:
        row = self._get(self.stream + key)
        return None if row is None else row[1]

    peek = get

    def version(self, key: bytes) -> int:
        row = self._get(self.stream + key)
        if row is None:
            return 0
        return int(row[0] if key else row[1])

    def range(self, prefix: bytes, start: bytes = b"", stop: bytes | None = None) -> Iterator[tuple[bytes, Any]]:
        skip = len(self.stream)
        for key, value in self._overlay.range(*range_bounds(self.stream + prefix, start, stop)):
            if len(key) > skip:
                yield key[skip:], value

    def put(self, key: bytes, value: Any) -> None:
        if len(key) > MAX_KEY_BYTES:
            raise ValueError(f"a row's key has at most {MAX_KEY_BYTES} bytes, not {len(key)}")
        self._written[self.stream + key] = (self._position, value)

    def delete(self, key: bytes) -> None:
        self._written[self.stream + key] = None


def _scan(txn: Transaction, table: Any, first: bytes, end: bytes | None) -> Iterator[tuple[bytes, Row]]:
    with txn.cursor(db=table) as cursor:
        if cursor.set_range(first):
            for key, value in cursor:
                if end is not None and key >= end:
                    return
                yield key, (POSITION.unpack_from(value)[0], _unpackb(value[8:], use_list=False))
