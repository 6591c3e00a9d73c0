"""The index of bodies, in two parts: by tenant and digest, and, what is new, in the order of positions.

Digests are at random, so a row under one dirties a page of its own, and a page is most of what a small message costs.
New rows therefore go to `fresh`, dozens to a page, and a dictionary in memory leads to them; by many thousand they are
merged into `bodies` in the order of their keys, a slice a tick. While that goes on a row stands in both parts. Whatever
the dictionary says is compared with the row in the reader's own transaction; where it has forgotten what an older
transaction still sees, that reads the rows themselves.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import msgpack

from eventlog.tables import BODIES, BODY_SLOT, FRESH, META, POSITION

if TYPE_CHECKING:
    import lmdb

    from eventlog.store import Store

    Transaction = lmdb.Transaction[bytes]
    Tables = dict[bytes, Any]

KEY_BYTES = 48  # tenant, or upload, and digest
SLOT_BYTES = BODY_SLOT.size
MERGE_ROWS = (64, 1024)  # rows that one tick merges: twice what came since, between these
REMOVE_TIMES = 4  # rows in the order of positions share pages: so many times more of them go in one tick
FULL_TIMES = 4  # beyond so many times `merge_at` nothing more waits: memory is bounded where nobody merges

_packb = msgpack.Packer(use_bin_type=True, autoreset=True).pack
_unpackb = msgpack.unpackb


class Place(NamedTuple):
    """What introduced a body, and of what chunks it is made."""

    position: int
    ordinal: int
    size: int
    chunks: tuple[bytes, ...]


class BodyIndex:
    """Of one store. The consensus thread writes; readers on other threads only look into the dictionary."""

    def __init__(self, store: Store, merge_at: int) -> None:
        self._store = store
        self._merge_at = merge_at
        self._forgot = 0  # the dictionary may lack what a transaction before this one sees
        self._fresh: dict[bytes, bytes] = {}  # key of a body -> slot and size
        self._seen = b""  # of a store that is only read: up to which slot its rows are in the dictionary for good
        self.reload()

    def reload(self) -> None:
        """Takes everything from disk again: at start, and after a tick that could not be written."""
        self._merging: list[tuple[bytes, bytes]] | None = None  # what is yet to be merged, the last key first
        self._merged_to = b""  # the last slot of these
        self._came = 0
        self._last_slot = b""
        fresh: dict[bytes, bytes] = {}
        if FRESH in self._store.db and not self._store.readonly:
            with self._store.env.begin() as txn:
                for slot, value in txn.cursor(db=self._store.db[FRESH]):
                    fresh[value[:KEY_BYTES]] = slot + value[KEY_BYTES:]
                    self._last_slot = slot
        self._fresh = fresh

    # -- reading ------------------------------------------------------------------------------------------------------

    def find(self, txn: Transaction, key: bytes) -> Place | None:
        """Where a body is, as of a transaction. Raises what msgpack does for a row that was altered."""
        found = self._fresh.get(key)
        if found is not None and _leads_to(txn, self._store.db, found[:SLOT_BYTES], key):
            return _place(found)
        row = txn.get(key, db=self._store.db[BODIES])
        if row is not None:
            return Place(*_unpackb(row, use_list=False))
        return self._find_forgotten(txn, key) if FRESH in self._store.db else None

    def _find_forgotten(self, txn: Transaction, key: bytes) -> Place | None:
        if self._store.readonly:
            self._catch_up(txn)
            found = self._fresh.get(key)
            if found is not None and _leads_to(txn, self._store.db, found[:SLOT_BYTES], key):
                return _place(found)
        if txn.id() >= self._forgot:
            return None
        return next(
            (_place(slot + value[KEY_BYTES:]) for slot, value in self._rows(txn) if value[:KEY_BYTES] == key), None
        )

    def _catch_up(self, txn: Transaction) -> None:
        """Reads the rows that another process has written since; those of the uncommitted tail may yet be others."""
        head = txn.get(b"folded", db=self._store.db[META])
        settled = BODY_SLOT.pack(_unpackb(head)[0] if head is not None else 0, 0xFFFF)
        if len(self._fresh) > 2 * FULL_TIMES * self._merge_at:
            self._forgot = txn.id()
            self._fresh, self._seen = {}, b""
        with txn.cursor(db=self._store.db[FRESH]) as cursor:
            there = cursor.set_range(self._seen)
            for slot, value in cursor if there else ():
                key, found = value[:KEY_BYTES], slot + value[KEY_BYTES:]
                if self._fresh.get(key, found) != found:
                    self._forgot = txn.id()
                self._fresh[key] = found
                self._seen = slot if self._seen < slot <= settled else self._seen

    def _rows(self, txn: Transaction) -> Iterator[tuple[bytes, bytes]]:
        with txn.cursor(db=self._store.db[FRESH]) as cursor:
            yield from cursor

    # -- writing ------------------------------------------------------------------------------------------------------

    def add(self, key: bytes, position: int, ordinal: int, size: int) -> bool:
        """A body is introduced; False where it is there already."""
        slot, size_bytes = BODY_SLOT.pack(position, ordinal), POSITION.pack(size)
        if not self._waits(slot):
            return key not in self._fresh and self._put(key, Place(position, ordinal, size, ()))
        if key in self._fresh or self._store.txn.get(key, db=self._store.db[BODIES]) is not None:
            return False
        self._store.put_later(FRESH, slot, key + size_bytes)
        self._fresh[key] = slot + size_bytes
        self._came += 1
        return True

    def _waits(self, slot: bytes) -> bool:
        """Whether a new row is to be merged later; not one in the place of an entry that was cut off, amid a merge."""
        if not self._store.keeps_fresh or len(self._fresh) >= FULL_TIMES * self._merge_at:
            return False
        return self._merging is None or slot > self._merged_to

    def add_composite(self, key: bytes, place: Place) -> None:
        """The same of one that is made of chunks, which is large and goes where it stays."""
        if key not in self._fresh:
            self._put(key, place)

    def _put(self, key: bytes, place: Place) -> bool:
        return self._store.txn.put(key, bytes(_packb(place)), db=self._store.db[BODIES], overwrite=False)

    def remove(self, key: bytes) -> Place | None:
        """Forgets a body; gives where it was."""
        self._store.settle()
        txn, db = self._store.txn, self._store.db
        found, row = self._fresh.get(key), txn.pop(key, db=db[BODIES])  # it stands in both while it is merged
        if found is not None:
            self._forgot = txn.id()
            txn.delete(found[:SLOT_BYTES], db=db[FRESH])
            del self._fresh[key]
            return _place(found)
        return None if row is None else Place(*_unpackb(row, use_list=False))

    def put_fresh(self, rows: list[tuple[bytes, bytes]]) -> None:
        """Puts rows that waited: for the store to call. A redaction may have brought earlier ones back in between."""
        if rows:
            rows.sort()
            self._store.put_many(FRESH, rows, append=rows[0][0] > self._last_slot)
            self._last_slot = max(self._last_slot, rows[-1][0])

    # -- merging ------------------------------------------------------------------------------------------------------

    def tidy(self) -> None:
        """A slice of the merge, where one is due: in a tick that writes anyway."""
        if self._merging is None:
            if len(self._fresh) >= self._merge_at:
                self._merging = sorted(self._fresh.items(), reverse=True)
                self._merged_to = max(found for _, found in self._merging)[:SLOT_BYTES]
            return
        count = min(max(MERGE_ROWS[0], 2 * self._came), MERGE_ROWS[1])
        self._came = 0
        if self._merging:
            self._merge(self._merging, count)
        else:
            self._remove_merged(REMOVE_TIMES * count)

    def _merge(self, waiting: list[tuple[bytes, bytes]], count: int) -> None:
        part = waiting[: -count - 1 : -1]
        del waiting[-count:]
        rows = [(key, bytes(_packb(_place(found)))) for key, found in part if self._fresh.get(key) == found]
        self._store.put_many(BODIES, rows, overwrite=False)

    def _remove_merged(self, count: int) -> None:
        self._store.settle()
        txn, table = self._store.txn, self._store.db[FRESH]
        with txn.cursor(db=table) as cursor:
            rows = [row for row, _ in zip(cursor, range(count), strict=False) if row[0] <= self._merged_to]
        self._forgot = txn.id()
        for slot, value in rows:
            txn.delete(slot, db=table)
            key = value[:KEY_BYTES]
            if self._fresh.get(key, b"")[:SLOT_BYTES] == slot:
                del self._fresh[key]
        if len(rows) < count:
            self._merging = None


def leads_to(txn: Transaction, db: Tables, key: bytes, position: int, ordinal: int) -> bool:
    """Whether the index leads from a body's key to what that record brought, and to nothing else."""
    if FRESH in db and _leads_to(txn, db, BODY_SLOT.pack(position, ordinal), key):
        return True
    row = txn.get(key, db=db[BODIES])
    try:
        place = None if row is None else _unpackb(row, use_list=False)
    except Exception:  # it was altered
        return False
    return isinstance(place, tuple) and place[:2] == (position, ordinal) and place[3:] == ((),)


def index_rows(txn: Transaction, db: Tables, last: int) -> Iterator[tuple[bytes, bytes]]:
    """The index as one table, by key, as it was kept before it had two parts: without what came after `last`."""
    fresh: list[tuple[bytes, bytes]] = []
    if FRESH in db:
        with txn.cursor(db=db[FRESH]) as cursor:
            fresh = sorted((value[:KEY_BYTES], _row(slot, value)) for slot, value in cursor)
    before = b""
    with txn.cursor(db=db[BODIES]) as cursor:
        for key, row in heapq.merge(cursor, fresh):
            if key != before and _unpackb(row)[0] <= last:
                yield key, row
            before = key


def fresh_as_rows(rows: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """Rows of `fresh` in the form of those of `bodies`."""
    return ((value[:KEY_BYTES], _row(slot, value)) for slot, value in rows)


def _leads_to(txn: Transaction, db: Tables, slot: bytes, key: bytes) -> bool:
    value = txn.get(slot, db=db[FRESH])
    return value is not None and value[:KEY_BYTES] == key


def _place(found: bytes) -> Place:
    position, ordinal = BODY_SLOT.unpack_from(found)
    return Place(position, ordinal, POSITION.unpack_from(found, SLOT_BYTES)[0], ())


def _row(slot: bytes, value: bytes) -> bytes:
    return bytes(_packb(_place(slot + value[KEY_BYTES:])))
