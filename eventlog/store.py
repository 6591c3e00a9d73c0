"""The LMDB environment of one node: its tables, and the one write transaction of a tick.

Log, bodies, Raft's own state and everything folded live in one file, so that one commit (one fsync) makes all of a
tick durable or none of it. Only the consensus thread opens write transactions. Reads are in `eventlog.snapshot`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import lmdb
import msgpack

from eventlog.ahead import ID_BYTES, Ahead
from eventlog.archived import FOLDER, Archive
from eventlog.body_index import BodyIndex
from eventlog.database_folder import in_use, joined_mark, sync_folder
from eventlog.errors import DamagedDatabase, SyncFailed
from eventlog.levels import NEWEST
from eventlog.snapshot import Snapshot, StoredRecord, TableView, read_fold_head, read_slot, read_value
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
    pack_row,
    unpack_row,
)
from eventlog.tails import tail_bytes
from eventlog.watched import Watched

if TYPE_CHECKING:
    Transaction = lmdb.Transaction[bytes]

__all__ = [
    "BODIES", "BODY_SLOT", "CHAIN", "CHAIN_BYTES", "CONFIGS", "FOLDED", "GENESIS", "IDS", "LOG", "LOG_HEAD", "META",
    "NAMES", "POSITION", "SLICES", "STREAMS", "TABLES", "Place", "Snapshot", "Store", "StoredRecord", "TableView",
    "in_use", "joined_mark", "open_for_reading", "pack_row", "read_fold_head", "read_slot",
    "read_value", "unpack_row",
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
                self._txn = cast("Transaction", Watched(self._txn, self.db, self.changed))
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
