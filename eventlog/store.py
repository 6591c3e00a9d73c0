"""The LMDB environment of one node: its tables, the one write transaction of a tick, and read snapshots.

Log, bodies, Raft's own state and everything folded live in one file, so that one commit (one fsync) makes all of a
tick durable or none of it. Only the consensus thread opens write transactions. No read transaction may be held across
an await.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import lmdb
import msgpack

from eventlog.ahead import ID_BYTES, Ahead
from eventlog.archived import FOLDER, Archive
from eventlog.body_index import BodyIndex, leads_to
from eventlog.errors import DamagedDatabase, SyncFailed
from eventlog.levels import NEWEST
from eventlog.record import Record, RecordError, decode
from eventlog.tables import (
    ADDED,
    BODIES,
    BODY_SLOT,
    CHAIN,
    CHAIN_BYTES,
    CONFIGS,
    FOLDED,
    FRESH,
    GENESIS,
    IDS,
    LOG,
    LOG_HEAD,
    META,
    NAMES,
    POSITION,
    SLICES,
    STREAMS,
    TABLES,
    TAILS,
    Place,
)
from eventlog.tails import tail_bytes, whole
from eventlog.views import range_bounds

if TYPE_CHECKING:
    Transaction = lmdb.Transaction[bytes]

__all__ = [
    "BODIES", "BODY_SLOT", "CHAIN", "CHAIN_BYTES", "CONFIGS", "FOLDED", "GENESIS", "IDS", "LOG", "LOG_HEAD", "META",
    "NAMES", "POSITION", "SLICES", "STREAMS", "TABLES", "Place", "Snapshot", "Store", "StoredRecord", "TableView",
    "in_use", "joined_mark", "open_for_reading", "pack_row", "read_fold_head", "read_slot",
    "read_value", "sync_folder", "unpack_row",
]  # fmt: skip

Row = tuple[bytes, bytes]  # key and value

FORMATS = (1, 2, 3)  # 2: rows may have tails; 3: new bodies in an index of their own, entries in a file beside it
AHEAD_SINCE = 3
READ_MAP_BYTES = MAP_ROOM_BYTES = 1 << 36  # address space only: room for a file that grows meanwhile
MAX_READERS = 4096  # of all processes; 64 bytes of the lock file each
APPENDED = (LOG, SLICES)  # whose rows may have tails
LATER = (*APPENDED, TAILS, FRESH)  # whose rows wait for their like
AHEAD = b"ahead"  # of META: by what the file of entries knows this database, and up to which frame it holds them

_unpackb = msgpack.unpackb
_packb = msgpack.Packer(use_bin_type=True, autoreset=True).pack


def unpack_row(value: bytes) -> Any:
    """The value of a table row, without the position in front."""
    return _unpackb(value[8:], use_list=False)


def pack_row(position: int, value: Any) -> bytes:
    return POSITION.pack(position) + bytes(_packb(value))


class Store:
    """One LMDB environment. Raises lmdb.Error; the caller decides what a failure means."""

    MERGE_AT: ClassVar[int] = 16_384  # so many new bodies are merged into the index by digest

    def __init__(self, path: Path, map_size_bytes: int, *, durable: bool = True, readonly: bool = False) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.map_size_bytes = map_size_bytes
        self.archive = Archive(path / FOLDER)
        self._durable = durable
        self.readonly = readonly
        self._txn: Transaction | None = None
        self._later: dict[bytes, list[Row]] = {name: [] for name in LATER}
        self._waits = False  # whether anything is in there
        self.changed: set[Place] | None = None  # rows written since somebody wanted to know; None: nobody does
        self.readers: set[int] = set()  # ids of the snapshots that are open in this process
        self._open()

    def _open(self) -> None:
        self.env = lmdb.open(
            str(self.path),
            map_size=self.map_size_bytes,
            max_dbs=len(NAMES) + 4,
            max_readers=MAX_READERS,
            sync=self._durable,
            metasync=False,  # `commit` does it where it is asked for
            readahead=False,
            readonly=self.readonly,
            max_spare_txns=4,
        )
        readonly = self.readonly
        self.db = {name: self.env.open_db(name, create=not readonly) for name in NAMES if self._has(name, readonly)}
        self._check_format(readonly)
        self.bodies = BodyIndex(self, self.MERGE_AT)
        self.ahead = None if readonly or self._format < AHEAD_SINCE else self._open_ahead()

    def replace_file(self, file: Path) -> None:
        """Puts `file`, a closed and synced database of equal content, in this one's place, and opens it.

        Nobody else may have this one open, and no transaction may be. A crash leaves the one or the other, whole.
        """
        self.close()
        try:
            (self.path / "lock.mdb").unlink(missing_ok=True)  # it goes with the file that it was made for
            os.replace(file, self.path / "data.mdb")
            sync_folder(self.path)
        finally:
            self._open()

    def _has(self, name: bytes, readonly: bool) -> bool:
        if not readonly or name not in ADDED:
            return True
        with self.env.begin() as txn:
            return txn.get(name) is not None

    def _check_format(self, readonly: bool) -> None:
        with self.env.begin(write=not readonly) as txn:
            found = txn.get(b"format", db=self.db[META])
            if found is None and not readonly:
                self._format = FORMATS[0]  # until the cell may write what an earlier release can not read
                txn.put(b"format", _packb(self._format), db=self.db[META])
                txn.put(b"born", _packb(NEWEST), db=self.db[META])  # the feature level of the program that made it
            elif found is None or _unpackb(found) not in FORMATS:
                raise DamagedDatabase(f"{self.path}: not a database of a format that this version knows, {FORMATS}")
            else:
                self._format = int(_unpackb(found))
                if self._format >= AHEAD_SINCE and not readonly and txn.get(AHEAD, db=self.db[META]) is None:
                    txn.put(AHEAD, _packb((self._new_id(), 0)), db=self.db[META])
        self._layout = self._format  # with what the tick under way changes

    # -- entries that are on disk before the database has them ----------------------------------------------------

    def _open_ahead(self) -> Ahead:
        """Whoever has the database open with this may commit without `last` and write there before it is durable."""
        if self._durable:
            self._sync()  # what another life of the node has left may be in the operating system's memory alone
        id_, self._held = self.get_meta(AHEAD)
        return self._make_ahead(id_, self._held)

    def _new_id(self) -> bytes:
        return os.urandom(ID_BYTES)

    def _make_ahead(self, id_: bytes, held: int) -> Ahead:
        return Ahead(self.path, id_, held, durable=self._durable)

    def frames_ahead(self) -> list[bytes]:
        """What is on disk and not in the database, in order. Raises DamagedDatabase."""
        return [] if self.ahead is None else self.ahead.frames(self._held)

    def wipe_ahead(self) -> None:
        """Leaves nothing in that file, where something that it may hold was erased. No transaction may be open."""
        if self.ahead is not None:
            if self._durable:
                self._sync()
            self.ahead.wipe()

    # -- the write transaction of a tick ------------------------------------------------------------------------

    @property
    def txn(self) -> Transaction:
        """The tick's write transaction, begun when it is first needed."""
        if self._txn is None:
            self._txn = self.env.begin(write=True)
            if self.changed is not None:
                self._txn = cast("Transaction", _Watched(self._txn, self.db, self.changed))
        return self._txn

    def put_later(self, name: bytes, key: bytes, value: bytes, head: bytes = b"") -> None:
        """Puts a row together with its like, at the latest when the tick commits: one call for many is cheaper.

        `head` stands before the value. For the tables of LATER; who reads these through `txn` calls `settle` first.
        """
        over = tail_bytes(len(head) + len(value)) if self._layout > 1 and name != FRESH else 0
        if over:
            self._later[TAILS].append((key, value[-over:]))
            stored = b"".join((head, memoryview(value)[:-over])) if head else value[:-over]
        else:
            stored = head + value
        self._later[name].append((key, stored))
        self._waits = True

    def put_many(self, name: bytes, rows: Sequence[Row], *, append: bool = False, overwrite: bool = True) -> None:
        """Puts rows, in this order. With `append` each key must be beyond all that the table has.

        Without `overwrite` a row that is there stays as it is.
        """
        if not rows:
            return
        txn, table = self.txn, self.db[name]
        if self.changed is not None:
            self.changed.update((name, key) for key, _ in rows)
        with txn.cursor(db=table) as cursor:
            _, added = cursor.putmulti(rows, append=append, overwrite=overwrite)
        assert added == len(rows) or not append, f"{name!r} is not in order"

    def settle(self) -> None:
        """Puts what waits."""
        if self._waits:
            self._waits = False
            later = self._later
            self.put_many(LOG, later[LOG], append=True)
            self.put_many(SLICES, later[SLICES])
            self.put_many(TAILS, sorted(later[TAILS]))
            self.bodies.put_fresh(later[FRESH])
            for rows in later.values():
                rows.clear()

    @property
    def keeps_fresh(self) -> bool:
        """Whether new bodies go into an index of their own."""
        return self._layout > 2

    def use_newest_format(self) -> bool:
        """From here on rows may have tails, and new bodies an index: an earlier release can not read that.

        Whether that is new: then the commit must last.
        """
        if self._layout == FORMATS[-1]:
            return False
        self._layout = FORMATS[-1]
        self.put_meta(b"format", FORMATS[-1])
        self.put_meta(AHEAD, (self._new_id(), 0))
        return True

    def tidy(self) -> None:
        """Work that is due now and then, some of it in each tick that writes anyway."""
        if self.dirty:
            self.bodies.tidy()

    def replace(self, name: bytes, key: bytes, value: bytes) -> None:
        """Puts a row of APPENDED, whole, in place of one that is there."""
        self.settle()
        txn = self.txn
        txn.put(key, value, db=self.db[name])
        txn.delete(key, db=self.db[TAILS])

    def delete(self, name: bytes, key: bytes) -> None:
        """Removes a row of APPENDED, with its tail."""
        self.settle()
        txn = self.txn
        txn.delete(key, db=self.db[name])
        txn.delete(key, db=self.db[TAILS])

    @property
    def dirty(self) -> bool:
        return self._txn is not None or self._waits

    def commit(self, *, last: bool = True) -> None:
        """Makes the tick durable: returns after the fsync. On failure the whole tick is undone and the error raised.

        Without `last` readers see it, and it outlives the process; the end of the power may undo it, whole, unless
        another commit has ended since. Raises SyncFailed when it is not known what is on disk.
        """
        self.settle()
        if self._txn is not None:
            held = self._note_held(self._txn)
            txn, self._txn = self._txn, None
            try:
                txn.commit()
            except lmdb.Error:
                with contextlib.suppress(lmdb.Error):
                    txn.abort()
                raise
            if last and self._durable:
                self._sync()
            self._committed(held, last)

    def _note_held(self, txn: Transaction) -> int:
        """Says in the commit up to which frame ahead of it the database holds everything."""
        if self.ahead is None:
            return 0
        if self.ahead.number != self._held:
            txn.put(AHEAD, _packb((self.ahead.id, self.ahead.number)), db=self.db[META])
        return self.ahead.number

    def _committed(self, held: int, last: bool) -> None:
        self._format = self._layout
        if self.ahead is not None:
            self._held = held
            if last:
                self.ahead.begin_again()
        elif self._format >= AHEAD_SINCE:
            self.ahead = self._open_ahead()

    def _sync(self) -> None:
        """Has the disk keep the page that names the newest commit, as LMDB would: what it names is there already."""
        try:
            self.env.sync(True)
        except lmdb.Error as error:  # readers may have seen the tick: it can not be undone
            raise SyncFailed(f"a commit is written and may not be on disk: {error}") from error

    def abort(self) -> None:
        """The tick under way never happened."""
        self._drop()
        self.bodies.reload()

    def _drop(self) -> None:
        self._later = {name: [] for name in LATER}
        self._waits = False
        self._layout = self._format
        txn, self._txn = self._txn, None
        if txn is not None:
            txn.abort()

    def close(self) -> None:
        self._drop()
        if self.ahead is not None:
            self.ahead.close()
        self.env.close()

    # -- small facts --------------------------------------------------------------------------------------------

    def get_meta(self, key: bytes, default: Any = None) -> Any:
        with self.env.begin() as txn:
            value = txn.get(key, db=self.db[META])
        return default if value is None else _unpackb(value, use_list=False)

    def put_meta(self, key: bytes, value: Any) -> None:
        self.txn.put(key, _packb(value), db=self.db[META])

    def free_bytes(self) -> int:
        """Room for new data: the least of what the disk and the map have left, counting pages that LMDB can reuse."""
        info, page = self.env.info(), self.env.stat()["psize"]
        in_map = self.map_size_bytes - (info["last_pgno"] + 1) * page
        disk = os.statvfs(self.path)
        return max(0, min(disk.f_bavail * disk.f_frsize, in_map))

    def snapshot(self) -> Snapshot:
        return Snapshot(self)


class _Watched:
    """A write transaction that notes which rows it writes."""

    def __init__(self, txn: Transaction, db: dict[bytes, Any], changed: set[Place]) -> None:
        self._txn = txn
        self._names = {id(handle): name for name, handle in db.items()}
        self._changed = changed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._txn, name)

    def put(self, key: bytes, value: bytes, db: Any, **how: Any) -> bool:
        self._changed.add((self._names[id(db)], key))
        return self._txn.put(key, value, db=db, **how)

    def delete(self, key: bytes, db: Any) -> bool:
        self._changed.add((self._names[id(db)], key))
        return self._txn.delete(key, db=db)

    def pop(self, key: bytes, db: Any) -> bytes | None:
        self._changed.add((self._names[id(db)], key))
        return self._txn.pop(key, db=db)


def sync_folder(path: Path) -> None:
    """Makes renames inside a folder durable."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def in_use(path: Path, *, alone: bool = False) -> Iterator[None]:
    """Keeps the file of a database from being replaced while another process reads it.

    With `alone`, for who wants to replace it: raises BlockingIOError while anybody reads. The lock is the folder's own,
    because looking must leave nothing behind, and LMDB's locks would go with a second handle on its lock file.
    """
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
        yield
    finally:
        os.close(folder)


def joined_mark(path: Path) -> Path:
    """Beside the database's folder, not in it: what says that there was a database, if its disk is not there."""
    return path.parent / f"{path.name}.joined"


@contextlib.contextmanager
def open_for_reading(path: Path) -> Iterator[Store]:
    """The database in a folder, of a stopped node or of one that runs; nothing of it is changed."""
    with in_use(path):
        size = (path / "data.mdb").stat().st_size
        store = Store(path, max(size * 2, READ_MAP_BYTES), readonly=True)
        try:
            yield store
        finally:
            store.close()


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
