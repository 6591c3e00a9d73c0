"""Entries that are on disk before the database has them: a small file beside it, written in place, one sync a tick.

An acknowledgement needs its entries on disk and nothing else. A commit of LMDB for one record writes a dozen pages all
over a file that grows, and syncs twice; here it is one write into blocks that are there already, and one sync. The
entries are in the database's open transaction at the same time, and it commits them with whatever comes next; each of
its commits says up to which frame of this file it holds everything (docs/ADR/0048-ahead-of-the-database.md).

A frame begins with a block, so that no write touches what was acknowledged before. It is whole or it is the end: its
check sum covers the database that it belongs to, its number and its bytes. Frames of an earlier turn have lower
numbers. Only the consensus thread uses this.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from eventlog.database_folder import sync_folder
from eventlog.errors import DamagedDatabase, SyncFailed

FILE = "ahead"  # in the database's folder
BLOCK_BYTES = 4096
ID_BYTES = 16

_MAGIC = b"mra1"
_HEAD = struct.Struct(f">4s{ID_BYTES}sQII")  # of which database, number, bytes, check sum of all this and the bytes


class Ahead:
    """The file of one database, which is known by `id_`."""

    FILE_BYTES: ClassVar[int] = 1024 * 1024

    def __init__(self, folder: Path, id_: bytes, held: int, *, durable: bool = True) -> None:
        self.number = held  # of the last frame
        self._path = folder / FILE
        self.id = id_
        self._durable = durable
        self._at = 0  # where the next frame goes
        self._file: int | None = None
        self._usable = True

    def frames(self, held: int) -> list[bytes]:
        """Frames behind number `held`, up to which the database holds them. Raises DamagedDatabase if one is missing.

        The next one has the number behind these; before it is written, the database must hold them for good.
        """
        self.number = held
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return []
        found = dict(self._found(data))
        while self.number + 1 in found:
            self.number += 1
        if any(number > self.number for number in found):
            raise DamagedDatabase(f"{self._path}: frame {self.number + 1} is missing, and later ones are there")
        return [found[number] for number in range(held + 1, self.number + 1)]

    def _found(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        for at in range(0, len(data), BLOCK_BYTES):
            frame = self._frame(data, at)
            if frame is not None:
                yield frame

    def _frame(self, data: bytes, at: int) -> tuple[int, bytes] | None:
        """Number and bytes of the frame that begins here; None if there is no whole one of this database."""
        if at + _HEAD.size > len(data):
            return None
        magic, id_, number, size, check_sum = _HEAD.unpack_from(data, at)
        payload = data[at + _HEAD.size : at + _HEAD.size + size]
        if magic != _MAGIC or id_ != self.id or len(payload) != size:
            return None
        return (number, payload) if check_sum == _check_sum(id_, number, payload) else None

    def takes(self, size_bytes: int) -> bool:
        """Whether a frame of so many bytes can be written."""
        return self._usable and self._at + _blocks(size_bytes) <= self.FILE_BYTES and self._is_open()

    def write(self, payload: bytes) -> bool:
        """Makes a frame durable; False if it could not be written. Raises SyncFailed if it may be on disk or not."""
        assert self._file is not None, "asked before whether it takes a frame"
        self.number += 1  # not used again even if this fails
        head = _HEAD.pack(_MAGIC, self.id, self.number, len(payload), _check_sum(self.id, self.number, payload))
        frame = head + payload
        if not self._put(frame.ljust(_blocks(len(payload)), b"\0")):  # whole blocks: nothing need be read for them
            self._usable = False
            return False
        self._at += _blocks(len(payload))
        return True

    def _put(self, frame: bytes) -> bool:
        assert self._file is not None
        try:
            written = os.pwrite(self._file, frame, self._at)
        except OSError:
            return False  # a file system that copies on write may be full
        if self._durable:
            try:
                os.fdatasync(self._file)
            except OSError as error:
                raise SyncFailed(f"{self._path} is written and may not be on disk: {error}") from error
        return written == len(frame)

    def begin_again(self) -> None:
        """The database holds all frames for good: the next one goes in the place of the first."""
        self._at = 0

    def wipe(self) -> None:
        """Overwrites every frame: something that they may hold was erased. The database must hold them for good."""
        self.begin_again()
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_size:
                self._fill()

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _is_open(self) -> bool:
        if self._file is None:
            try:
                if not self._path.exists() or self._path.stat().st_size != self.FILE_BYTES:
                    self._fill()
                self._file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            except OSError:
                self._usable = False  # without it, ticks wait for the database as ever
        return self._usable

    def _fill(self) -> None:
        """With zeros, whose blocks are then there: nothing but them is written later, no length and no place."""
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(file, bytes(self.FILE_BYTES), 0)
            if self._durable:
                os.fsync(file)
        finally:
            os.close(file)
        if self._durable:
            sync_folder(self._path.parent)


def _blocks(size_bytes: int) -> int:
    return -(-(_HEAD.size + size_bytes) // BLOCK_BYTES) * BLOCK_BYTES


def _check_sum(id_: bytes, number: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(id_ + number.to_bytes(8, "big")))
