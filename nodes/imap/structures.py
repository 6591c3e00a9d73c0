"""Rendered structures of messages by tenant and digest of the body: in memory, and behind that in a file of the node.

The file is a cache that nothing depends on: it is no part of the log, of its tables or of a backup. It goes as a whole
when something is erased from the log, so that nothing of it is left on the disk, and when it can not be trusted: made
by another parser, at a time when the machine ran before (it is never synced), full, or damaged.
"""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections import OrderedDict
from pathlib import Path

import lmdb

FOLDER = "structures"  # in node.data_dir
PARSER_VERSION = 1  # raise it with whatever changes what nodes/mime finds or nodes/imap renders
MEMORY_BYTES = 16 * 1024 * 1024
ENTRY_BYTES = 64 * 1024
ENTRY_COST_BYTES = 200
FILE_BYTES = 1 << 30
WRITE_AFTER_S = 2.0
WRITE_BYTES = 4 * 1024 * 1024  # that wait: more is not kept
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_STAMP = b"stamp"

Key = tuple[str, bytes, bytes]


class StructureCache:
    """By (attribute, tenant, digest), least recently used out of memory first. Event loop only."""

    def __init__(self, limit_bytes: int = MEMORY_BYTES, file: StructureFile | None = None) -> None:
        self._limit_bytes = limit_bytes
        self._used_bytes = 0
        self._kept: OrderedDict[Key, bytes] = OrderedDict()
        self._file = file

    def get(self, attribute: str, tenant: bytes, digest: bytes) -> bytes | None:
        key = (attribute, tenant, digest)
        text = self._kept.get(key)
        if text is not None:
            self._kept.move_to_end(key)
        elif self._file is not None and (text := self._file.get(key)) is not None:
            self._keep(key, text)
        return text

    def put(self, attribute: str, tenant: bytes, digest: bytes, text: bytes) -> None:
        key = (attribute, tenant, digest)
        if len(text) > ENTRY_BYTES or key in self._kept:
            return
        self._keep(key, text)
        if self._file is not None:
            self._file.put(key, text)

    def _keep(self, key: Key, text: bytes) -> None:
        self._kept[key] = text
        self._used_bytes += len(text) + ENTRY_COST_BYTES
        while self._used_bytes > self._limit_bytes:
            _, dropped = self._kept.popitem(last=False)
            self._used_bytes -= len(dropped) + ENTRY_COST_BYTES

    def clear(self, erased_at: int) -> None:
        """Something was erased from the log, as it says at this position."""
        self._kept.clear()
        self._used_bytes = 0
        if self._file is not None:
            self._file.clear(erased_at)

    async def close(self) -> None:
        """Writes what waits; the next use opens the file again."""
        if self._file is not None:
            await self._file.close()


class StructureFile:
    """The file. `erased_at`: where the log says last that something was erased from it; the file says it too."""

    def __init__(self, folder: Path, erased_at: int) -> None:
        self._folder = folder
        self._erased_at = erased_at
        self._env: lmdb.Environment | None = None
        self._lock = threading.Lock()  # of the environment: it is written to in a thread
        self._waiting: dict[bytes, bytes] = {}
        self._waiting_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Future[None] | None = None

    def get(self, key: Key) -> bytes | None:
        env = self._env or self._opened()
        if env is None:
            return None
        try:
            with env.begin() as reading:
                return reading.get(_packed(key))
        except lmdb.Error:
            self._remove()
            return None

    def put(self, key: Key, text: bytes) -> None:
        """It is written soon, with others."""
        if self._waiting_bytes >= WRITE_BYTES:
            return
        self._waiting[_packed(key)] = text
        self._waiting_bytes += len(text)
        if self._timer is None and self._writing is None:
            self._timer = asyncio.get_running_loop().call_later(WRITE_AFTER_S, self._write_soon)

    def clear(self, erased_at: int) -> None:
        self._erased_at = erased_at
        self._waiting, self._waiting_bytes = {}, 0
        self._remove()

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._write_soon()
        if self._writing is not None:
            await asyncio.wait((self._writing,))
        with self._lock:
            if self._env is not None:
                self._env.close()
                self._env = None

    # -- writing

    def _write_soon(self) -> None:
        self._timer = None
        if self._waiting and self._writing is None and (env := self._env or self._opened()) is not None:
            waiting, self._waiting, self._waiting_bytes = self._waiting, {}, 0
            work = asyncio.get_running_loop().run_in_executor(None, self._write, env, sorted(waiting.items()))
            self._writing = work
            work.add_done_callback(self._written)

    def _write(self, env: lmdb.Environment, rows: list[tuple[bytes, bytes]]) -> None:
        with self._lock:
            if env is not self._env:
                return  # it has been cleared meanwhile
            with env.begin(write=True) as writing, writing.cursor() as cursor:
                cursor.putmulti(rows)

    def _written(self, work: asyncio.Future[None]) -> None:
        self._writing = None
        if not work.cancelled() and isinstance(work.exception(), lmdb.Error):
            self._remove()  # it is full, or worse: what is asked for comes again

    # -- the file

    def _opened(self) -> lmdb.Environment | None:
        """None where there can be none: then there is memory alone."""
        stamp = f"{PARSER_VERSION} {self._erased_at} {_boot_id()}".encode()
        with self._lock:
            for _ in range(2):
                try:
                    self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                    self._env = lmdb.open(str(self._folder), map_size=FILE_BYTES, sync=False, readahead=False)
                    with self._env.begin(write=True) as writing:
                        found = writing.get(_STAMP)
                        if found is None:
                            writing.put(_STAMP, stamp)
                    if found in (None, stamp):
                        return self._env
                except (lmdb.Error, OSError):
                    pass
                self._drop()
        return None

    def _remove(self) -> None:
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        if self._env is not None:
            self._env.close()
            self._env = None
        shutil.rmtree(self._folder, ignore_errors=True)


def _packed(key: Key) -> bytes:
    attribute, tenant, digest = key
    return tenant + digest + attribute.encode("ascii")


def _boot_id() -> str:
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""
