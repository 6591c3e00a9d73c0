"""A checkpoint: what a node has folded, as a stream from which a new node starts. Committed state only.

In it are the tables, the chain, ids, streams and the index of bodies in one snapshot, then log and bodies by position
in short reads, so that the source can reuse its pages meanwhile. Never in it are a peer's term and vote, its commit
index, or its uncommitted tail with the bodies that only the tail brought. Rows come in key order, so the receiver
appends them to a fresh file, which appears under its name only when the digest at the end of the stream fits.

The stream is frames: four bytes of length, then MessagePack `[kind, ...]`, at most MAX_FRAME_BYTES each.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import lmdb
import msgpack

from eventlog.errors import DamagedDatabase, LogError
from eventlog.store import (
    BODIES,
    BODY_SLOT,
    CHAIN,
    CHAIN_BYTES,
    FOLDED,
    LOG,
    LOG_HEAD,
    META,
    POSITION,
    SLICES,
    Store,
    read_fold_head,
)

if TYPE_CHECKING:
    Transaction = lmdb.Transaction[bytes]

FORMAT = 1
MAX_FRAME_BYTES = 1 << 20
MAX_VALUE_BYTES = 1 << 26  # of one row; a record with its events is far below
BATCH_BYTES = 480 * 1024  # of rows in one frame, with what packing adds
PART_BYTES = 480 * 1024  # a longer value is cut
ROW_OVERHEAD_BYTES = 12
SLICE_BYTES = 4 * 1024 * 1024  # of log and bodies that one read transaction gathers
COMMIT_BYTES = 64 * 1024 * 1024  # of rows in one transaction of the receiver
MAP_SIZE_BYTES = 1 << 40

TABLES_SENT: Final = (*FOLDED, BODIES, LOG, SLICES)  # the order in which they come
LENGTH: Final = struct.Struct(">I")

Progress = Callable[[int, int], None]  # bytes done, of about how many
Out = Callable[[bytes], object]
Read = Callable[[int], bytes]
Rows = Iterable[tuple[bytes, bytes]]

_packb = msgpack.Packer(use_bin_type=True, autoreset=True, buf_size=MAX_FRAME_BYTES).pack


class Kind(IntEnum):
    """What a frame holds."""

    HEAD = 0
    ROWS = 1  # table, then keys and values by turns
    PART = 2  # table, key, a piece of its value, whether more follows
    END = 3  # SHA-256 over all frames before


class CheckpointError(LogError):
    """The stream is torn, altered, of another cell or of a version that is not known; nothing is left of it."""


class CheckpointHead(NamedTuple):
    """Where a checkpoint stands. `size_bytes` is about what the source's file holds: for progress only."""

    cell_id: str
    position: int
    at_ms: int
    chain: bytes
    members: tuple[tuple[str, str, bool], ...]  # name, address, whether it votes
    size_bytes: int


# -- the source ----------------------------------------------------------------------------------------------------


def write_checkpoint(store: Store, out: Out, progress: Progress | None = None, *, cell_id: str = "") -> CheckpointHead:
    """Streams what the store has folded, as of now, to `out`. Works beside the writer of a running node.

    Raises lmdb.Error, DamagedDatabase where the log has a hole, and whatever `out` raises.
    """
    stream = _Stream(out, progress)
    with store.env.begin() as txn:
        head = _head(store, txn, cell_id)
        stream.begin(head)
        for number, name in enumerate(TABLES_SENT):
            if name not in (LOG, SLICES):
                for frame in _frames(number, _committed(txn, store, name, head.position)):
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
        used = txn.stat(store.db[name])
        size_bytes += used["psize"] * (used["leaf_pages"] + used["overflow_pages"])
    return CheckpointHead(cell_id, position, at_ms, chain, (), size_bytes)


def _committed(txn: Transaction, store: Store, name: bytes, last: int) -> Iterator[tuple[bytes, bytes]]:
    """The rows of a table; of the index of bodies, those that the uncommitted tail did not introduce."""
    with txn.cursor(db=store.db[name]) as cursor:
        if name != BODIES:
            yield from cursor
            return
        for key, value in cursor:
            if msgpack.unpackb(value)[0] <= last:
                yield key, value


def _slice(store: Store, first: int, last: int) -> tuple[list[bytes], int]:
    """Frames of log and bodies from `first` on, gathered in one short read; and the position to go on from."""
    log: list[tuple[bytes, bytes]] = []
    bodies: list[tuple[bytes, bytes]] = []
    size = 0
    with store.env.begin() as txn, txn.cursor(store.db[LOG]) as entries, txn.cursor(store.db[SLICES]) as slots:
        slots.set_range(BODY_SLOT.pack(first, 0))
        rows = entries if entries.set_range(POSITION.pack(first)) else ()
        for position, (key, value) in enumerate(rows, first):
            if position > last or size > SLICE_BYTES or key != POSITION.pack(position):
                break
            log.append((key, value))
            size += len(value)
            while slots.key()[: POSITION.size] == key:
                bodies.append(slots.item())
                size += len(bodies[-1][1])
                slots.next()
    if not log:
        raise DamagedDatabase(f"{store.path}: there is no record {first}")
    frames = [*_frames(TABLES_SENT.index(LOG), log), *_frames(TABLES_SENT.index(SLICES), bodies)]
    return frames, first + len(log)


class _Stream:
    """Frames on their way out, counted and hashed."""

    def __init__(self, out: Out, progress: Progress | None) -> None:
        self._out = out
        self._progress = progress
        self._digest = hashlib.sha256()
        self._done = self._total = 0

    def begin(self, head: CheckpointHead) -> None:
        self._total = head.size_bytes
        self.put(bytes(_packb((Kind.HEAD, FORMAT, head._asdict(), TABLES_SENT))))

    def put(self, frame: bytes) -> None:
        length = LENGTH.pack(len(frame))
        self._digest.update(length)
        self._digest.update(frame)
        self._out(length)
        self._out(frame)
        self._done += len(frame)
        if self._progress is not None:
            self._progress(self._done, max(self._done, self._total))

    def end(self) -> None:
        frame = bytes(_packb((Kind.END, self._digest.digest())))
        self._out(LENGTH.pack(len(frame)))
        self._out(frame)


def _frames(table: int, rows: Rows) -> Iterator[bytes]:
    """Rows of one table, packed: many to a frame, a long one over several."""
    batch: list[bytes] = []
    size = 0
    for key, value in rows:
        row_bytes = len(key) + len(value) + ROW_OVERHEAD_BYTES
        if size + row_bytes > BATCH_BYTES and batch:
            yield bytes(_packb((Kind.ROWS, table, batch)))
            batch, size = [], 0
        if len(value) > PART_BYTES:
            yield from _parts(table, key, value)
            continue
        batch += (key, value)
        size += row_bytes
    if batch:
        yield bytes(_packb((Kind.ROWS, table, batch)))


def _parts(table: int, key: bytes, value: bytes) -> Iterator[bytes]:
    for start in range(0, len(value), PART_BYTES):
        piece = value[start : start + PART_BYTES]
        yield bytes(_packb((Kind.PART, table, key, piece, start + PART_BYTES < len(value))))


# -- the receiver --------------------------------------------------------------------------------------------------


def load_checkpoint(
    read: Read,
    path: Path,
    progress: Progress | None = None,
    *,
    cell_id: str | None = None,
    map_size_bytes: int = MAP_SIZE_BYTES,
) -> CheckpointHead:
    """Makes the database of a node that has none, in the folder `path`, from a stream.

    `read(n)` gives up to n bytes, none at the end. The file is written in a folder beside and moved into place when
    it is whole and on disk. Raises CheckpointError for a stream that is not whole, not known or not of `cell_id`,
    lmdb.Error or OSError where it can not be written; then there is no database.
    """
    if (path / "data.mdb").exists():
        raise CheckpointError(f"{path}: there is a database already")
    beside = path.with_name(f"{path.name}.joining")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        head = _receive(_Frames(read), beside, progress, cell_id, map_size_bytes)
        _move(beside / "data.mdb", path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return head


def _receive(
    frames: _Frames, folder: Path, progress: Progress | None, cell_id: str | None, map_size_bytes: int
) -> CheckpointHead:
    head = frames.head()
    if cell_id is not None and head.cell_id != cell_id:
        raise CheckpointError(f"the checkpoint is of the cell {head.cell_id}, this node is of {cell_id}")
    with contextlib.closing(Store(folder, map_size_bytes, durable=False)) as store:
        loader = _Loader(store)
        for table, rows in frames.rows():
            loader.add(table, rows)
            if progress is not None:
                progress(frames.done, max(frames.done, head.size_bytes))
        loader.finish(head)
        store.env.sync(True)
    return head


def _move(file: Path, folder: Path) -> None:
    """Gives the file its place, for good: its bytes are on disk already."""
    folder.mkdir(parents=True, exist_ok=True)
    file.rename(folder / file.name)
    for directory in (folder, folder.parent):
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class _Frames:
    """Frames from a stream: their form and the digest are checked, their rows are not."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._digest = hashlib.sha256()
        self.done = 0

    def head(self) -> CheckpointHead:
        """The first frame. Raises CheckpointError."""
        match self._next():
            case (Kind.HEAD, version, dict(fields), tables) if (version, tables) == (FORMAT, TABLES_SENT):
                pass
            case (Kind.HEAD, *_):
                raise CheckpointError("the checkpoint is of a format that this version does not know")
            case _:
                raise CheckpointError("this is not a checkpoint")
        try:
            return CheckpointHead(**fields)
        except TypeError:
            raise CheckpointError("the checkpoint's head lacks a field") from None

    def rows(self) -> Iterator[tuple[int, tuple[bytes, ...]]]:
        """Table, then keys and values by turns. Ends with the stream, if the digest fits. Raises CheckpointError."""
        value = bytearray()
        while True:
            before = self._digest.digest()
            match self._next():
                case (Kind.ROWS, int(table), tuple(rows)):
                    yield table, rows
                case (Kind.PART, int(table), bytes(key), bytes(piece), bool(more)) if len(value) < MAX_VALUE_BYTES:
                    value += piece
                    if not more:
                        yield table, (key, bytes(value))
                        value.clear()
                case (Kind.END, bytes(digest)) if digest == before:
                    return
                case _:
                    raise CheckpointError("the checkpoint was altered on its way")

    def _next(self) -> Any:
        length = self._exactly(LENGTH.size)
        (size,) = LENGTH.unpack(length)
        if size > MAX_FRAME_BYTES:
            raise CheckpointError("the checkpoint was altered on its way: a frame is too long")
        frame = self._exactly(size)
        self._digest.update(length)
        self._digest.update(frame)
        self.done += size
        try:
            return msgpack.unpackb(frame, use_list=False)
        except ValueError as error:
            raise CheckpointError(f"the checkpoint was altered on its way: {error}") from None

    def _exactly(self, size: int) -> bytes:
        data = self._read(size)
        if len(data) == size:
            return data
        pieces = [data]
        missing = size - len(data)
        while missing and pieces[-1]:
            pieces.append(self._read(missing))
            missing -= len(pieces[-1])
        if missing:
            raise CheckpointError("the checkpoint ends too early")
        return b"".join(pieces)


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
            pairs = list(zip(rows[::2], rows[1::2], strict=True))
            with self._store.txn.cursor(db=self._store.db[TABLES_SENT[table]]) as cursor:
                _, added = cursor.putmulti(pairs, append=True)
        except (TypeError, ValueError, lmdb.BadValsizeError) as error:
            raise CheckpointError(f"the checkpoint was altered on its way: {error}") from None
        if added != len(pairs):
            raise CheckpointError("the checkpoint's rows are not in order")
        self._pending_bytes += sum(map(len, rows))
        if self._pending_bytes > COMMIT_BYTES:
            self._store.commit()
            self._pending_bytes = 0

    def finish(self, head: CheckpointHead) -> None:
        """The head of the fold, and what Raft may take from it: all of the log is committed.

        The term is that of the last entry, which no log may be ahead of; this node has voted for nobody.
        Raises CheckpointError where log, chain and head do not fit.
        """
        store = self._store
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
