"""Reads of one node's database: a consistent snapshot of everything, the rows of one stream in it, an entry of the log.

A snapshot is one of LMDB's read transactions: it takes no locks, and keeps pages from being used again as long as it is
open. None may be held across an await.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import lmdb
import msgpack

from eventlog.body_index import leads_to
from eventlog.record import Record, RecordError, decode
from eventlog.tables import (
    BODY_SLOT,
    CHAIN,
    CHAIN_BYTES,
    GENESIS,
    LOG,
    LOG_HEAD,
    META,
    POSITION,
    SLICES,
    STREAMS,
    TABLES,
)
from eventlog.tails import whole
from eventlog.views import range_bounds

if TYPE_CHECKING:
    from eventlog.archived import Archive
    from eventlog.store import Store

    Transaction = lmdb.Transaction[bytes]

_unpackb = msgpack.unpackb


class StoredRecord:
    """An entry of the log as it is on disk, with what the fold said of it."""

    __slots__ = ("at_ms", "chain", "data", "kind", "outcome", "position", "term")

    def __init__(self, position: int, value: bytes, folded: bytes | None) -> None:
        self.position = position
        self.term, self.kind, self.at_ms = LOG_HEAD.unpack_from(value)
        self.data = value[LOG_HEAD.size :]
        self.chain: bytes | None = folded[:CHAIN_BYTES] if folded else None
        self.outcome: int | None = folded[CHAIN_BYTES] if folded else None

    @property
    def record(self) -> Record | None:
        """The record, or None for an entry without one (a leader's no-op) or one that can not be read."""
        try:
            return decode(self.data) if self.data else None
        except RecordError:
            return None


class TableView:
    """A read-only view of one stream in a snapshot."""

    def __init__(self, txn: Transaction, table: Any, stream: bytes) -> None:
        self.stream = stream
        self._txn = txn
        self._table = table

    def get(self, key: bytes) -> Any:
        value = self._txn.get(self.stream + key, db=self._table)
        return None if value is None else _unpackb(value[8:], use_list=False)

    peek = get

    def version(self, key: bytes) -> int:
        value = self._txn.get(self.stream + key, db=self._table)
        if value is None:
            return 0
        return int(_unpackb(value[8:])) if not key else int(POSITION.unpack_from(value)[0])

    def row(self, key: bytes) -> tuple[int, Any]:
        """Version and value of a row, read at once; 0 and None where there is none."""
        value = self._txn.get(self.stream + key, db=self._table)
        return (0, None) if value is None else (POSITION.unpack_from(value)[0], _unpackb(value[8:], use_list=False))

    def range(self, prefix: bytes, start: bytes = b"", stop: bytes | None = None) -> Iterator[tuple[bytes, Any]]:
        first, end = range_bounds(self.stream + prefix, start, stop)
        skip = len(self.stream)
        with self._txn.cursor(db=self._table) as cursor:
            if cursor.set_range(first):
                for key, value in cursor:
                    if end is not None and key >= end:
                        return
                    if len(key) > skip:
                        yield key[skip:], _unpackb(value[8:], use_list=False)

    def put(self, key: bytes, value: Any) -> None:
        raise TypeError("a snapshot is read-only")

    def delete(self, key: bytes) -> None:
        raise TypeError("a snapshot is read-only")


class Snapshot:
    """A consistent read of everything, without locks. Use `with store.snapshot() as s:` and never across an await."""

    def __init__(self, store: Store) -> None:
        self._store = store
        store.readers.add(id(self))
        self._db = store.db
        self._archive = store.archive
        try:
            self._txn = store.env.begin()
        except lmdb.ReadersFullError:  # a read that ended keeps its place until its object is gone: some are in cycles
            gc.collect()
            store.env.reader_check()
            self._txn = store.env.begin()
        self.position, self.at_ms, self.chain = read_fold_head(self._txn, self._db[META])

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *_: object) -> None:
        self._txn.abort()
        self._store.readers.discard(id(self))

    close = __exit__

    def __del__(self) -> None:
        self._store.readers.discard(id(self))  # one that nobody closed

    def view(self, stream: bytes) -> TableView:
        """The rows of one stream as of this snapshot."""
        return TableView(self._txn, self._db[TABLES], stream)

    def record(self, position: int) -> StoredRecord | None:
        """The entry at a position of the log, or None where there is none. Raises ArchiveError."""
        value = self._value(position)
        return None if value is None else StoredRecord(position, value, self.folded(position))

    def folded(self, position: int) -> bytes | None:
        """What the fold wrote down at a position: chain and outcome."""
        return self._txn.get(POSITION.pack(position), db=self._db[CHAIN])

    def _value(self, position: int) -> bytes | None:
        """The stored entry, wherever it is."""
        return read_value(self._txn, self._db, self._archive, position)

    def records(self, first: int = 1, last: int | None = None) -> Iterator[StoredRecord]:
        """The folded entries from `first` to `last` (to the end where None), in order. Raises ArchiveError."""
        end = self.position if last is None else min(last, self.position)
        for key, value, _ in self._archive.rows(self._txn, self._db, max(1, first), end):
            yield StoredRecord(POSITION.unpack(key)[0], value, self._txn.get(key, db=self._db[CHAIN]))

    def entries_of_kind(self, kind: int, first: int, last: int) -> Iterator[tuple[int, int, bytes]]:
        """Position, time and data of the entries of one kind from `first` to `last`, folded or not."""
        for key, value, _ in self._archive.rows(self._txn, self._db, first, last):
            _, found, at_ms = LOG_HEAD.unpack_from(value)
            if found == kind:
                yield POSITION.unpack(key)[0], at_ms, value[LOG_HEAD.size :]

    def stream_positions(self, stream: bytes, last: int | None = None, after: int = -1) -> Iterator[int]:
        """The positions above `after` whose records took effect on a stream, in order."""
        with self._txn.cursor(db=self._db[STREAMS]) as cursor:
            if cursor.set_range(stream + POSITION.pack(after + 1)):
                for key in cursor.iternext(keys=True, values=False):
                    if not key.startswith(stream):
                        return
                    position = POSITION.unpack_from(key, len(stream))[0]
                    if last is not None and position > last:
                        return
                    yield position

    def last_stream_position(self, stream: bytes, last: int) -> int | None:
        """The newest position up to and including `last` whose record took effect on a stream; None without one."""
        with self._txn.cursor(db=self._db[STREAMS]) as cursor:
            beyond = cursor.set_range(stream + POSITION.pack(last + 1))
            found = cursor.prev() if beyond else cursor.last()
            if not found or not cursor.key().startswith(stream):
                return None
            return int(POSITION.unpack_from(cursor.key(), len(stream))[0])

    def stream_entries(self, stream: bytes, last: int | None = None, after: int = -1) -> Iterator[tuple[int, bytes]]:
        """Position and stored bytes (LOG_HEAD, then the record) of each record that took effect on a stream."""
        for position in self.stream_positions(stream, last, after):
            value = self._value(position)
            if value is not None:
                yield position, value

    def has_body(self, tenant: bytes, digest: bytes) -> bool:
        return self._store.bodies.find(self._txn, tenant + digest) is not None

    def body(self, tenant: bytes, digest: bytes) -> bytes | None:
        """The bytes of a body, or None if they are not kept (never stored, or dropped)."""
        return self._body(tenant + digest)

    def _body(self, key: bytes) -> bytes | None:
        """The bytes of the body, or of the chunk, under a key; None if they, or a piece of them, are not kept."""
        place = self._store.bodies.find(self._txn, key)
        if place is None:
            return None
        if not place.chunks:
            return self.introduced(place.position, place.ordinal)
        pieces = [self._body(chunk) for chunk in place.chunks]
        return None if any(piece is None for piece in pieces) else b"".join(p for p in pieces if p is not None)

    def finds_body_at(self, tenant: bytes, digest: bytes, position: int, ordinal: int) -> bool:
        """Whether the index leads from a body's digest to what that record brought, and to nothing else."""
        return leads_to(self._txn, self._db, tenant + digest, position, ordinal)

    def introduced(self, position: int, ordinal: int) -> bytes | None:
        """The bytes that a record brought with it as its body of that ordinal, if they are kept."""
        return read_slot(self._txn, self._db, self._archive, position, ordinal)

    def keys(self, name: bytes, start: bytes = b"") -> Iterator[bytes]:
        """The keys of one LMDB table from `start` on, in the order in which they stand there."""
        with self._txn.cursor(db=self._db[name]) as cursor:
            if cursor.set_range(start):
                yield from cursor.iternext(keys=True, values=False)

    def value(self, name: bytes, key: bytes) -> bytes | None:
        """What one LMDB table leads to from a key, as stored."""
        return self._txn.get(key, db=self._db[name])

    def raw(self, name: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Every row of one LMDB table as stored, for digests and checks."""
        with self._txn.cursor(db=self._db[name]) as cursor:
            yield from cursor


def read_fold_head(txn: Transaction, meta: Any) -> tuple[int, int, bytes]:
    """What has been folded: position, log time in ms, chain hash."""
    head = txn.get(b"folded", db=meta)
    if head is None:
        return 0, 0, GENESIS
    position, at_ms, chain = _unpackb(head, use_list=False)
    return position, at_ms, chain


def read_value(txn: Transaction, db: dict[bytes, Any], archive: Archive, position: int) -> bytes | None:
    """The stored entry at a position, wherever it is."""
    key = POSITION.pack(position)
    value = txn.get(key, db=db[LOG])
    return whole(txn, db, key, value) if value is not None else archive.value(txn, db, position)


def read_slot(txn: Transaction, db: dict[bytes, Any], archive: Archive, position: int, ordinal: int) -> bytes | None:
    """The bytes that a record brought as its body of that ordinal, wherever they are; None if they are not kept."""
    key = BODY_SLOT.pack(position, ordinal)
    data = txn.get(key, db=db[SLICES])
    return whole(txn, db, key, data) if data is not None else archive.body(txn, db, position, ordinal)
