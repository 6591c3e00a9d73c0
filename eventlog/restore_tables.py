"""The quick way to a restored database: log and bodies are copied, tables are loaded, and only what comes behind them
is folded.

Meanwhile other processes prove every position up to there: they recompute the chain from the records and the hash of
each body, as a fold from zero would. What that does not prove is that the tables are what a fold gives: `restore` with
`refold` does, and `mailraft log rehearse` afterwards.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgpack

from eventlog import members
from eventlog.backup_tables import TABLES_KEPT, Row, TablesHead
from eventlog.fold import Outcome
from eventlog.journal import KIND_CONFIG, KIND_NOOP
from eventlog.record import ERASED_SALT_BYTES
from eventlog.segment_frames import SegmentError
from eventlog.segments import SegmentRecord
from eventlog.store import (
    BODIES,
    BODY_SLOT,
    CHAIN,
    CHAIN_BYTES,
    CONFIGS,
    LOG,
    LOG_HEAD,
    POSITION,
    SLICES,
    Store,
)

Records = Callable[[int, int], Iterator[SegmentRecord]]
Progress = Callable[[int, int], None]

MAP_SIZE_BYTES = 1 << 40
COMMIT_BYTES = 64 * 1024 * 1024
ROWS_AT_ONCE = 2000
ROW_BYTES = 64  # beside its value

_packb = msgpack.Packer(use_bin_type=True, autoreset=True).pack
_unpackb = msgpack.unpackb


class Proof(Protocol):
    """Proves positions in other processes; the block ends them."""

    def result(self) -> object:
        """Returns once all is proven. Raises SegmentError for the first that is not."""


class Checkpoint(Protocol):
    """What a source has besides the log: tables as of a position."""

    def tables(self) -> AbstractContextManager[tuple[TablesHead, Iterator[Row]]]:
        """Them. Raises SegmentError, KeyFileError."""

    def prove(self) -> AbstractContextManager[Proof]:
        """Begins to prove the log up to their position."""

    def fill(self, path: Path, records: Records, progress: Progress | None) -> Loaded:
        """Makes the database in a folder that has none, as of their position; `records`: the log between two.

        Returns when everything up to there is proven. Raises SegmentError, KeyFileError.
        """


class Loaded(NamedTuple):
    """What was loaded, up to a position, and how much."""

    position: int
    at_ms: int
    term: int
    events: int
    bodies: int
    body_bytes: int


class WrittenMeanwhile:
    """Has the system write to disk what was committed while more is folded: only the slower of the two counts."""

    def __init__(self, store: Store) -> None:
        self._file = store.path / "data.mdb"
        self._thread = threading.Thread(target=self._sync)

    def begin(self) -> None:
        """Does nothing while the disk is still busy with what was there before."""
        if not self._thread.is_alive():
            self._thread = threading.Thread(target=self._sync)
            self._thread.start()

    def _sync(self) -> None:
        with contextlib.suppress(OSError), self._file.open("rb") as file:  # what fails is met again at the end
            os.fdatasync(file.fileno())


class Loader:
    """Log, chain and bodies on their way into an empty database, many rows at a time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._disk = WrittenMeanwhile(store)
        self._log: list[tuple[bytes, bytes]] = []
        self._chain: list[tuple[bytes, bytes]] = []
        self._slices: list[tuple[bytes, bytes]] = []
        self._pending_bytes = 0
        self._quarantined: list[tuple[int, int]] = []
        self._last = b""
        self.at_ms = self.term = self.events = self.bodies = self.body_bytes = 0
        self.chain = b""

    def take(self, record: SegmentRecord) -> None:
        """One position, in order. Raises SegmentError for one that can not be read."""
        try:
            self._take(record)
        except (ValueError, TypeError, IndexError, msgpack.UnpackException) as error:
            raise SegmentError(f"position {record.position}: its record can not be read: {error}") from None

    def _take(self, record: SegmentRecord) -> None:
        key, outcome = POSITION.pack(record.position), record.folded[CHAIN_BYTES]
        self._log.append((key, record.value))
        self._chain.append((key, record.folded))
        self.term, kind, self.at_ms = LOG_HEAD.unpack_from(record.value)
        self.chain = record.folded[:CHAIN_BYTES]
        if outcome == Outcome.QUARANTINED:
            self._quarantined.append((record.position, 0))
        if kind != KIND_NOOP and outcome != Outcome.BAD_RECORD:
            self._take_parts(record, kind, outcome)
        self._pending_bytes += record.size_bytes + ROW_BYTES
        if len(self._log) >= ROWS_AT_ONCE:
            self._put()

    def _take_parts(self, record: SegmentRecord, kind: int, outcome: int) -> None:
        data = record.value[LOG_HEAD.size :]
        events, named = _parts(data)
        if outcome == Outcome.COMMITTED:
            self.events += events
        if kind == KIND_CONFIG:
            found = members.pack(members.members_in(data))
            self._store.txn.put(POSITION.pack(record.position), found, db=self._store.db[CONFIGS])
        for ordinal, content in record.bodies:
            tenant, digest, _, size, _ = named[ordinal]
            self._put_body(tenant + digest, (record.position, ordinal, size, ()))
            self._slices.append((BODY_SLOT.pack(record.position, ordinal), content))
            self.bodies += 1
            self.body_bytes += len(content)
        for ordinal, (tenant, digest, salt, size, chunks) in enumerate(named):
            if chunks and outcome == Outcome.COMMITTED and len(salt) != ERASED_SALT_BYTES:
                self._put_body(tenant + digest, (record.position, ordinal, size, chunks))

    def _put_body(self, key: bytes, place: tuple[Any, ...]) -> None:
        self._store.txn.put(key, _packb(place), db=self._store.db[BODIES], overwrite=False)

    def _put(self) -> None:
        for name, rows in ((LOG, self._log), (CHAIN, self._chain), (SLICES, self._slices)):
            with self._store.txn.cursor(db=self._store.db[name]) as cursor:
                cursor.putmulti(rows, append=True)
            rows.clear()
        if self._pending_bytes > COMMIT_BYTES:
            self._store.commit()
            self._disk.begin()
            self._pending_bytes = 0

    def take_tables(self, head: TablesHead, rows: Iterator[Row]) -> None:
        """The tables as of where the log was taken to. Raises SegmentError where the two do not fit."""
        self._put()
        if self.chain != head.chain or self.at_ms != head.at_ms:
            raise SegmentError(f"the tables of position {head.position} are not of this log: its chain is another")
        number, batch = 0, list[tuple[bytes, bytes]]()
        for table, key, value in rows:
            if table != number or len(batch) >= ROWS_AT_ONCE:
                self._put_rows(number, batch)
                number = table
            batch.append((key, value))
            self._pending_bytes += len(key) + len(value)
        self._put_rows(number, batch)
        self._store.put_meta(b"quarantines", tuple(self._quarantined))
        self._store.put_meta(b"folded", (head.position, head.at_ms, head.chain))
        self._store.commit()

    def _put_rows(self, number: int, batch: list[tuple[bytes, bytes]]) -> None:
        with self._store.txn.cursor(db=self._store.db[TABLES_KEPT[number]]) as cursor:
            _, added = cursor.putmulti(batch, append=True)
        if added != len(batch):
            raise SegmentError("the rows of the tables are not in order")
        batch.clear()
        if self._pending_bytes > COMMIT_BYTES:
            self._store.commit()
            self._disk.begin()
            self._pending_bytes = 0


def load(path: Path, checkpoint: Checkpoint, records: Records, progress: Progress | None) -> Loaded:
    """`Checkpoint.fill` for a log that is read record by record."""
    store = Store(path, MAP_SIZE_BYTES, durable=False)
    try:
        return _load(store, checkpoint, records, progress)
    finally:
        store.close()


def _load(store: Store, checkpoint: Checkpoint, records: Records, progress: Progress | None) -> Loaded:
    loader = Loader(store)
    with checkpoint.tables() as (head, rows), checkpoint.prove() as proof:
        for record in records(1, head.position):
            loader.take(record)
            if progress is not None and record.position % ROWS_AT_ONCE == 0:
                progress(record.position, head.position)
        loader.take_tables(head, rows)
        proof.result()
    return Loaded(head.position, head.at_ms, loader.term, loader.events, loader.bodies, loader.body_bytes)


def _parts(data: bytes) -> tuple[int, tuple[tuple[Any, ...], ...]]:
    """How many events a record has, and what bodies it names; the rest of it is passed over."""
    unpacker = msgpack.Unpacker(use_list=False, max_buffer_size=len(data) + 1)
    unpacker.feed(data)
    unpacker.read_array_header()
    unpacker.skip()
    unpacker.skip()
    events = unpacker.read_array_header()
    for _ in range(events):
        unpacker.skip()
    bodies: tuple[tuple[Any, ...], ...] = unpacker.unpack()
    return events, bodies
