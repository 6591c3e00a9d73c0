"""A checkpoint: what a node has folded, as a stream from which a new node starts. Committed state only.

In it are the tables, the chain, ids, streams and the index of bodies in one snapshot, then log and bodies by position
in short reads, so that the source can reuse its pages meanwhile. Never in it are a peer's term and vote, its commit
index, or its uncommitted tail with the bodies that only the tail brought. Rows come in key order, so the receiver
appends them to a fresh file, which appears under its name only when the digest at the end of the stream fits.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import lmdb

from eventlog import levels
from eventlog.archived import bodies_at, slots_from
from eventlog.body_index import index_rows
from eventlog.checkpoint_frames import (
    TABLES_SENT,
    CheckpointError,
    CheckpointHead,
    FrameReader,
    FrameWriter,
    Out,
    Progress,
    Read,
    pack_rows,
)
from eventlog.database_folder import sync_folder
from eventlog.errors import DamagedDatabase
from eventlog.members import Members, unpack
from eventlog.store import (
    APPENDED,
    BODIES,
    BODY_SLOT,
    CHAIN,
    CHAIN_BYTES,
    CONFIGS,
    LOG,
    LOG_HEAD,
    META,
    POSITION,
    SLICES,
    TABLES,
    Store,
    TableView,
    read_fold_head,
)
from eventlog.tables import TAILS
from eventlog.tails import Row, parted

__all__ = ["CheckpointError", "CheckpointHead", "Progress", "load_checkpoint", "write_checkpoint"]

if TYPE_CHECKING:
    Transaction = lmdb.Transaction[bytes]

SLICE_BYTES = 4 * 1024 * 1024  # of log and bodies that one read transaction gathers
COMMIT_BYTES = 8 * 1024 * 1024  # of rows in one transaction of the receiver
MAP_SIZE_BYTES = 1 << 40


# -- the source ----------------------------------------------------------------------------------------------------


def write_checkpoint(store: Store, out: Out, progress: Progress | None = None, *, cell_id: str = "") -> CheckpointHead:
    """Streams what the store has folded, as of now, to `out`. Works beside the writer of a running node.

    Raises lmdb.Error, DamagedDatabase where the log has a hole, and whatever `out` raises.
    """
    stream = FrameWriter(out, progress)
    with store.env.begin() as txn:
        head = _head(store, txn, cell_id)
        stream.begin(head)
        for number, name in enumerate(TABLES_SENT):
            if name in store.db and name not in (LOG, SLICES):
                for frame in pack_rows(number, _committed(txn, store, name, head.position)):
                    stream.put(frame)
    first = 1
    while first <= head.position:
        frames, first = _slice(store, first, head.position)
        for frame in frames:
            stream.put(frame)
    stream.end()
    return head


def _head(store: Store, txn: Transaction, cell_id: str) -> CheckpointHead:
    position, at_ms, chain = read_fold_head(txn, store.db[META])
    size_bytes = 0
    for name in TABLES_SENT:
        if name in store.db:
            used = txn.stat(store.db[name])
            size_bytes += used["psize"] * (used["leaf_pages"] + used["overflow_pages"])
    return CheckpointHead(cell_id, position, at_ms, chain, _members(txn, store, position), size_bytes)


def _members(txn: Transaction, store: Store, position: int) -> Members:
    """Those of the newest configuration that is folded; none in a log that names none yet."""
    if CONFIGS not in store.db:  # a database of the first release
        return ()
    rows = [value for _, value in _committed(txn, store, CONFIGS, position)]
    return unpack(rows[-1]) if rows else ()


def _committed(txn: Transaction, store: Store, name: bytes, last: int) -> Iterator[tuple[bytes, bytes]]:
    """The rows of a table; of configurations and the index of bodies, those that the tail did not bring."""
    with txn.cursor(db=store.db[name]) as cursor:
        if name == CONFIGS:
            yield from (row for row in cursor if POSITION.unpack(row[0])[0] <= last)
        elif name == BODIES:
            yield from index_rows(txn, store.db, last)
        else:
            yield from cursor


def _slice(store: Store, first: int, last: int) -> tuple[list[bytes], int]:
    """Frames of log and bodies from `first` on, gathered in one short read; and the position to go on from."""
    log: list[tuple[bytes, bytes]] = []
    bodies: list[tuple[bytes, bytes]] = []
    size = 0
    with store.env.begin() as txn, slots_from(txn, store.db, first) as slots:
        rows = store.archive.rows(txn, store.db, first, last)
        for position, (key, value, archived) in enumerate(rows, first):
            if size > SLICE_BYTES or key != POSITION.pack(position):
                break
            log.append((key, value))
            brought = bodies_at(txn, store.db, key, slots, archived)
            bodies += [(BODY_SLOT.pack(position, ordinal), data) for ordinal, data in brought]
            size += len(value) + sum(len(data) for _, data in brought)
    if not log:
        raise DamagedDatabase(f"{store.path}: there is no record {first}")
    frames = [*pack_rows(TABLES_SENT.index(LOG), log), *pack_rows(TABLES_SENT.index(SLICES), bodies)]
    return frames, first + len(log)


# -- the receiver --------------------------------------------------------------------------------------------------


def load_checkpoint(
    read: Read,
    path: Path,
    progress: Progress | None = None,
    *,
    cell_id: str | None = None,
    member: str | None = None,
    map_size_bytes: int = MAP_SIZE_BYTES,
) -> CheckpointHead:
    """Makes the database of a node that has none, in the folder `path`, from a stream.

    `read(n)` gives up to n bytes, none at the end. The file is written in a folder beside and moved into place when
    it is whole and on disk. Raises CheckpointError for a stream that is not whole, not known, not of `cell_id` or of
    a cell that does not know `member`, lmdb.Error or OSError where it can not be written; then there is no database.
    """
    if (path / "data.mdb").exists():
        raise CheckpointError(f"{path}: there is a database already")
    beside = path.with_name(f"{path.name}.joining")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        frames = FrameReader(read)
        head = frames.head()
        _refuse_foreign(head, cell_id, member)
        _receive(frames, head, beside, progress, map_size_bytes)
        _move(beside / "data.mdb", path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return head


def _refuse_foreign(head: CheckpointHead, cell_id: str | None, member: str | None) -> None:
    if cell_id is not None and head.cell_id != cell_id:
        raise CheckpointError(f"the checkpoint is of the cell {head.cell_id}, this node is of {cell_id}")
    if member is not None and member not in [one.name for one in head.members]:
        raise CheckpointError(f"{member} is no member of the cell yet")


def _receive(
    frames: FrameReader, head: CheckpointHead, folder: Path, progress: Progress | None, map_size_bytes: int
) -> None:
    with contextlib.closing(Store(folder, map_size_bytes, durable=False)) as store:
        loader = _Loader(store)
        for table, rows in frames.rows():
            loader.add(table, rows)
            if progress is not None:
                progress(frames.done, max(frames.done, head.size_bytes))
        loader.finish(head)
        store.env.sync(True)


def _move(file: Path, folder: Path) -> None:
    """Gives the file its place, for good: its bytes are on disk already."""
    folder.mkdir(parents=True, exist_ok=True)
    file.rename(folder / file.name)
    for directory in (folder, folder.parent):
        sync_folder(directory)


class _Loader:
    """Appends rows to a fresh store, many to a transaction."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pending_bytes = 0

    def add(self, table: int, rows: tuple[bytes, ...]) -> None:
        """Keys and values by turns, in the order of their keys. Raises CheckpointError where they are not."""
        if not 0 <= table < len(TABLES_SENT):
            raise CheckpointError(f"the checkpoint has a table {table}, which this version does not know")
        try:
            pairs, tails = self._as_stored(TABLES_SENT[table], list(zip(rows[::2], rows[1::2], strict=True)))
            with self._store.txn.cursor(db=self._store.db[TABLES_SENT[table]]) as cursor:
                _, added = cursor.putmulti(pairs, append=True)
            self._store.put_many(TAILS, tails)
        except (TypeError, ValueError, lmdb.BadValsizeError) as error:
            raise CheckpointError(f"the checkpoint was altered on its way: {error}") from None
        if added != len(pairs):
            raise CheckpointError("the checkpoint's rows are not in order")
        self._pending_bytes += sum(map(len, rows))
        if self._pending_bytes > COMMIT_BYTES:
            self._store.commit()
            self._pending_bytes = 0

    def _as_stored(self, name: bytes, rows: list[Row]) -> tuple[list[Row], list[Row]]:
        """Rows and their tails, if the cell is at the level for that: its tables came before."""
        if name not in APPENDED:
            return rows, []
        if levels.in_force(TableView(self._store.txn, self._store.db[TABLES], levels.LEVEL)) < levels.TAILS_SINCE:
            return rows, []
        self._store.use_newest_format()
        return parted(rows)

    def finish(self, head: CheckpointHead) -> None:
        """The head of the fold, and what Raft may take from it: all of the log is committed.

        The term is that of the last entry, which no log may be ahead of; this node has voted for nobody.
        Raises CheckpointError where log, chain and head do not fit.
        """
        store = self._store
        store.put_meta(b"born", levels.OLDEST)  # it came with a log, and founds no cell
        if head.position:
            term = self._last_term(head)
            store.put_meta(b"term", (term, None))
            store.put_meta(b"commit", head.position)
            store.put_meta(b"folded", (head.position, head.at_ms, head.chain))
        store.commit()

    def _last_term(self, head: CheckpointHead) -> int:
        key, db, txn = POSITION.pack(head.position), self._store.db, self._store.txn
        chain, entry = txn.get(key, db=db[CHAIN], default=b""), txn.get(key, db=db[LOG])
        whole = txn.stat(db[LOG])["entries"] == txn.stat(db[CHAIN])["entries"] == head.position
        if entry is None or chain[:CHAIN_BYTES] != head.chain or not whole:
            raise CheckpointError("the checkpoint's log does not end where its head says")
        return int(LOG_HEAD.unpack_from(entry)[0])
