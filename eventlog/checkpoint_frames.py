"""The form of a checkpoint's stream: frames of four bytes of length, then MessagePack `[kind, ...]`.

First a head, then rows of tables in the order of TABLES_SENT, at last SHA-256 over all frames before. A frame is at
most MAX_FRAME_BYTES long, so a row that is longer comes in parts. What reads it takes nothing on trust.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from typing import Any, Final, NamedTuple

import msgpack

from eventlog.errors import LogError
from eventlog.members import Member, Members
from eventlog.store import BODIES, CONFIGS, FOLDED, LOG, SLICES

FORMAT = 1
MAX_FRAME_BYTES = 1 << 20
MAX_VALUE_BYTES = 1 << 26  # of one row; a record with its events is far below
BATCH_BYTES = 480 * 1024  # of rows in one frame, with what packing adds
PART_BYTES = 480 * 1024  # a longer value is cut
ROW_OVERHEAD_BYTES = 12
TABLES_SENT: Final = (*FOLDED, CONFIGS, BODIES, LOG, SLICES)  # the order in which they come
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

    code = "checkpoint_failed"


class CheckpointHead(NamedTuple):
    """Where a checkpoint stands. `size_bytes` is about what the source's file holds: for progress only."""

    cell_id: str
    position: int
    at_ms: int
    chain: bytes
    members: Members
    size_bytes: int


class FrameWriter:
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


def pack_rows(table: int, rows: Rows) -> Iterator[bytes]:
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


class FrameReader:
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
            members = tuple(Member(*member) for member in fields.pop("members"))
            return CheckpointHead(**fields, members=members)
        except (KeyError, TypeError):
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
