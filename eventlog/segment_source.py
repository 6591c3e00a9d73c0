"""Where the content of a segment comes from: a node's database, running or not, read in short snapshots.

A live node goes on meanwhile, and can reuse its pages. Segments hold only what is folded; a recovery from nodes that
are stopped also takes what the longest log has beyond that, as the leader that they would elect does.
"""

from collections.abc import Iterator

from eventlog.archived import bodies_at, slots_from
from eventlog.restore import Head
from eventlog.restore_tables import Checkpoint
from eventlog.segment_frames import SegmentError
from eventlog.segments import ROW_OVERHEAD, SegmentHeader, SegmentRecord
from eventlog.store import CHAIN, GENESIS, LOG, LOG_HEAD, POSITION, SLICES, Store, read_value

SLICE_BYTES = 4 * 1024 * 1024  # read in one snapshot
SLICE_POSITIONS = 2000


class StoreSource:
    """A node's database to recover from; with `tail`, also what it holds and has not folded."""

    def __init__(self, store: Store, cell: str, *, tail: bool = False) -> None:
        self.cell = cell
        self._store = store
        self._tail = tail

    def head(self) -> Head:
        with self._store.snapshot() as snapshot:
            position = snapshot.position
        if self._tail:
            with self._store.env.begin() as txn, txn.cursor(db=self._store.db[LOG]) as cursor:
                position = POSITION.unpack(cursor.key())[0] if cursor.last() else 0
        return self.at(position) if position else Head(0, 0, 0, GENESIS)

    def at(self, position: int) -> Head:
        with self._store.snapshot() as snapshot:
            stored = snapshot.record(position)
        if stored is None:
            raise SegmentError(f"position {position} is missing in {self._store.path}")
        return Head(position, stored.at_ms, stored.term, stored.chain or b"")

    def position_at(self, at_ms: int) -> int:
        """Log time never goes back, so the place is found by halving."""
        low, high = 0, self.head().position
        with self._store.env.begin() as txn:
            while low < high:
                middle = (low + high + 1) // 2
                value = read_value(txn, self._store.db, self._store.archive, middle)
                if value is None:
                    raise SegmentError(f"position {middle} is missing in {self._store.path}")
                low, high = (middle, high) if LOG_HEAD.unpack_from(value)[2] <= at_ms else (low, middle - 1)
        return low

    def records(self, first: int, last: int) -> Iterator[SegmentRecord]:
        return records_of(self._store, first, last)

    def checkpoint(self, last: int) -> Checkpoint | None:
        """None: what a node's tables are worth after whatever made a restore necessary, only a fold tells."""
        return None


def describe(
    store: Store, cell: str, first: int = 1, last: int | None = None, most_bytes: int | None = None
) -> SegmentHeader | None:
    """The header of a segment from `first` on: to `last`, or as far as is folded, or until it would hold `most_bytes`.

    None where nothing is folded there yet. Raises SegmentError for positions that the log does not have.
    """
    with store.snapshot() as snapshot:
        end = snapshot.position if last is None else last
        if end > snapshot.position:
            raise SegmentError(f"position {end} is not folded yet: the log is at {snapshot.position}")
        if first > end:
            return None
        if most_bytes is not None:
            end = _last_within(store, first, end, most_bytes)
        before, begin, close = snapshot.record(first - 1), snapshot.record(first), snapshot.record(end)
    if begin is None or close is None or close.chain is None or (before is None) != (first == 1):
        raise SegmentError(f"the log has no positions {first} to {end}: some are missing")
    chain_before = GENESIS if before is None or before.chain is None else before.chain
    return SegmentHeader(cell, first, end, chain_before, close.chain, begin.at_ms, close.at_ms, close.term)


def records_of(store: Store, first: int, last: int) -> Iterator[SegmentRecord]:
    """The positions from `first` to `last`, read a slice at a time. Raises SegmentError for one that is missing."""
    while first <= last:
        rows = _read_slice(store, first, min(last, first + SLICE_POSITIONS - 1))
        for row in rows:
            if row.position != first:
                break
            first += 1
            yield row
        if not rows or rows[-1].position != first - 1:
            raise SegmentError(f"position {first} is missing in {store.path}")


def _read_slice(store: Store, first: int, last: int) -> list[SegmentRecord]:
    rows: list[SegmentRecord] = []
    size_bytes = 0
    with store.env.begin() as txn, slots_from(txn, store.db, first) as slots:
        for key, value, archived in store.archive.rows(txn, store.db, first, last):
            if size_bytes > SLICE_BYTES:
                break
            bodies = bodies_at(txn, store.db, key, slots, archived)
            folded = txn.get(key, default=b"", db=store.db[CHAIN])
            rows.append(SegmentRecord(POSITION.unpack(key)[0], value, folded, tuple(bodies)))
            size_bytes += rows[-1].size_bytes
    return rows


def _last_within(store: Store, first: int, last: int, most_bytes: int) -> int:
    """How far a segment from `first` goes until it holds `most_bytes`; at least one position. Reads sizes alone."""
    left, start = most_bytes, POSITION.pack(first)
    with store.env.begin() as txn, slots_from(txn, store.db, first) as slots:
        for place, entry, archived in store.archive.rows(txn, store.db, first, last):
            if archived is None:
                break
            first += 1
            left -= len(entry) + ROW_OVERHEAD + sum(len(d) for _, d in bodies_at(txn, store.db, place, slots, archived))
            if left <= 0 or first > last:
                return first - 1
    start = POSITION.pack(first)
    with (
        store.env.begin(buffers=True) as sizes,
        sizes.cursor(db=store.db[LOG]) as log,
        sizes.cursor(db=store.db[SLICES]) as slices,
    ):
        slices.set_range(start)
        log.set_range(start)
        for key, value in log:
            position = int(POSITION.unpack(key)[0])
            left -= len(value) + ROW_OVERHEAD
            while bytes(slices.key()[: POSITION.size]) == key:
                left -= len(slices.value())
                slices.next()
            if left <= 0 or position >= last:
                return position
    return last
