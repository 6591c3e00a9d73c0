"""A file of a node that keeps what would cost time to find out again, and that nothing depends on.

It is no part of the log, of its tables or of a backup. It goes as a whole when something is erased from the log, so
that nothing of it is left on the disk, and when it can not be trusted: written by another version, at a time when the
machine ran before (it is never synced), full, or damaged.
"""

from __future__ import annotations

import asyncio
import shutil
import threading
from pathlib import Path

import lmdb

WRITE_AFTER_S = 2.0
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_STAMP = b"stamp"


class CacheFile:
    """An LMDB file in a folder of its own, read on the event loop and written to in a thread, a while later.

    `version`: of what is written. `erased_at`: where the log says last that something was erased from it; the file
    says it too. `waiting_bytes`: may wait to be written; more than that is not kept.
    """

    def __init__(self, folder: Path, version: int, erased_at: int, size_bytes: int, waiting_bytes: int) -> None:
        self._folder = folder
        self._version = version
        self._erased_at = erased_at
        self._size_bytes = size_bytes
        self._most_waiting_bytes = waiting_bytes
        self._env: lmdb.Environment | None = None
        self._lock = threading.Lock()  # of the environment: it is written to in a thread
        self._waiting: dict[bytes, bytes] = {}
        self._waiting_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Future[None] | None = None

    def open(self) -> None:
        """So that whoever asks first does not wait for it."""
        self._env = self._env or self._opened()

    def get(self, key: bytes) -> bytes | None:
        """What was written last; while a later value is being written, the one before."""
        waiting = self._waiting.get(key)
        if waiting is not None:
            return waiting
        env = self._env or self._opened()
        if env is None:
            return None
        try:
            with env.begin() as reading:
                return reading.get(key)
        except lmdb.Error:
            self._remove()
            return None

    def put(self, key: bytes, value: bytes) -> None:
        """It is written soon, with others."""
        if self._waiting_bytes >= self._most_waiting_bytes:
            return
        self._waiting_bytes += len(value) - len(self._waiting.get(key, b""))
        self._waiting[key] = value
        if self._timer is None and self._writing is None:
            self._begin_timer()

    def clear(self, erased_at: int) -> None:
        """Something was erased from the log, as it says at this position."""
        self._erased_at = erased_at
        self._waiting, self._waiting_bytes = {}, 0
        self._remove()

    async def close(self) -> None:
        """Writes what waits; the next use opens the file again."""
        self._write_soon()
        while self._writing is not None:
            await asyncio.wait((self._writing,))
            self._write_soon()
        with self._lock:
            if self._env is not None:
                self._env.close()
                self._env = None

    # -- writing

    def _begin_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(WRITE_AFTER_S, self._write_soon)

    def _write_soon(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
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
        if self._waiting:
            self._begin_timer()

    # -- the file

    def _opened(self) -> lmdb.Environment | None:
        """None where there can be none: then there is memory alone."""
        stamp = f"{self._version} {self._erased_at} {_boot_id()}".encode()
        with self._lock:
            for _ in range(2):
                try:
                    self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                    self._env = lmdb.open(str(self._folder), map_size=self._size_bytes, sync=False, readahead=False)
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


def _boot_id() -> str:
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""
