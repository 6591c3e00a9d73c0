"""What was redacted is erased from this node's disk: the database is written anew beside the live one and swapped in.

A child process copies the rows of one snapshot (`eventlog.rewrite`) while the node goes on and notes which rows it
writes; those are copied after it, in ever smaller rounds. The last round and the swap happen before a tick, on the
consensus thread, while nobody reads: the pause is that of a few hundred rows and one fsync. The rename is atomic, so a
crash leaves the old file or the new one, and the work is taken up again at the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import lmdb
import structlog

from eventlog.archive_files import REDACTED
from eventlog.custodian import Custodian
from eventlog.errors import LogError
from eventlog.rewrite import MAP_SIZE_BYTES, copy_places
from eventlog.store import Place, Store, in_use

if TYPE_CHECKING:
    from eventlog.log import EventLog

FOLDER = "rewrite"  # in the database's folder: the file must be on the same disk
ERASED = b"erased"  # of META: the newest redaction whose bytes are gone from the file
RETRY_S = 30.0
BUSY_S = 0.05
SLICE_ROWS = 500  # copied before the event loop has its turn
LAST_ROWS = 1000  # few enough to be copied while everything waits
MAX_ROUNDS = 50

Aside = Callable[[], AbstractAsyncContextManager[None]]

_log = structlog.get_logger("mailraft.erasure")


class ErasureError(LogError):
    """The file could not be written anew; what was redacted is still in the old one's free pages."""

    code = "erasure_failed"


class ErasureStatus(NamedTuple):
    """Positions of redactions, 0 for none: the newest folded here, and the newest whose bytes are gone."""

    redacted: int
    erased: int
    progress: float  # of the copy under way, 0 to 1
    error: str | None  # why the last attempt failed; it is made again


class Eraser(Custodian):
    """Erases, on one node, whatever is redacted. Event loop only, but for what runs between two ticks."""

    def __init__(self, log: EventLog) -> None:
        super().__init__(log)
        self._progress = 0.0
        self._rewrites = 0  # how often the file was written anew by this process
        self._asked = False
        self.others_aside: Aside = (
            contextlib.nullcontext
        )  # while it is entered, other processes of this node do not read

    def start(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)  # of an attempt that a crash ended
        super().start()

    def status(self) -> ErasureStatus:
        store = self._log.store
        return ErasureStatus(store.get_meta(REDACTED, 0), store.get_meta(ERASED, 0), self._progress, self._error)

    async def rewrite(self) -> None:
        """Has the file written anew although nothing is to be erased, so that the disk gets back what it holds no more.

        Returns when that is done. Raises ErasureError if it failed; it is tried again.
        """
        before, self._asked, self._error = self._rewrites, True, None
        self._wanted.set()
        while self._rewrites == before:
            await asyncio.sleep(BUSY_S)
            if self._error is not None:
                raise ErasureError(self._error)

    @property
    def _folder(self) -> Path:
        return self._log.store.path / FOLDER

    async def _run(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            status = self.status()
            if status.redacted <= status.erased and not self._asked:
                continue
            try:
                await self._erase()
                self._error, self._asked = None, False
                self._rewrites += 1
            except (OSError, LogError, lmdb.Error) as error:
                self._error = f"{type(error).__name__}: {error}"
                _log.error(
                    "what was redacted is not erased yet", code="erasure_failed", error=self._error, again_in_s=RETRY_S
                )
                asyncio.get_running_loop().call_later(RETRY_S, self._wanted.set)
            else:
                self._wanted.set()  # another may have been folded meanwhile

    async def _erase(self) -> None:
        log, store = self._log, self._log.store
        self._require_room()
        shutil.rmtree(self._folder, ignore_errors=True)
        try:
            target = await log.between_ticks(self._begin)
            await log.archivist.erase(target)
            await self._copy()
            fresh = Store(self._folder, MAP_SIZE_BYTES, durable=False)
            try:
                await self._follow(fresh)
                while not await self._try_swap(fresh, target):
                    await asyncio.sleep(BUSY_S)
                    await self._follow(fresh)
            finally:
                fresh.close()
        finally:
            store.changed = None
            self._progress = 0.0
            shutil.rmtree(self._folder, ignore_errors=True)
        _log.info("what was redacted is erased from this node's file", position=target)

    async def _try_swap(self, fresh: Store, target: int) -> bool:
        async with self.others_aside():
            return await self._log.between_ticks(lambda: self._swap(fresh, target))

    def _require_room(self) -> None:
        store = self._log.store
        size = (store.path / "data.mdb").stat().st_size
        disk = os.statvfs(store.path)
        if disk.f_bavail * disk.f_frsize < size + self._log.config.reserve_bytes:
            raise ErasureError(f"the disk has no room for a second copy of the database ({size} bytes)")

    def _begin(self) -> int:
        store = self._log.store
        if store.dirty:
            raise ErasureError("the last tick is not written yet")
        store.changed = set()
        return int(store.get_meta(REDACTED, 0))

    async def _copy(self) -> None:
        command = [sys.executable, "-P", "-m", "eventlog.rewrite", str(self._log.store.path), str(self._folder)]
        root = str(Path(__file__).resolve().parent.parent)
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH")) if p)},
        )
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            async for line in process.stdout:
                done, total = map(int, line.split())
                self._progress = min(1.0, done / max(total, 1))
            said = (await process.stderr.read()).decode(errors="replace").strip().splitlines()
            if await process.wait() != 0:
                raise ErasureError(said[-1] if said else f"the copy ended with status {process.returncode}")
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()

    async def _follow(self, fresh: Store) -> None:
        """Copies what was written since, until little is left."""
        for _ in range(MAX_ROUNDS):
            places = sorted(await self._log.between_ticks(self._take_changed))
            for at in range(0, len(places), SLICE_ROWS):
                copy_places(self._log.store, fresh, places[at : at + SLICE_ROWS])
                await asyncio.sleep(0)
            if len(places) <= LAST_ROWS:
                return

    def _take_changed(self) -> set[Place]:
        store = self._log.store
        if store.dirty:  # its writes are noted in the set that there was when it began
            raise ErasureError("the last tick is not written yet")
        changed, store.changed = store.changed or set(), set()
        return changed

    def _swap(self, fresh: Store, target: int) -> bool:
        """The last rows, and the rename. False while somebody reads."""
        store = self._log.store
        if store.readers or store.dirty:
            return False
        try:
            with in_use(store.path, alone=True):
                copy_places(store, fresh, store.changed or ())
                fresh.put_meta(ERASED, target)
                fresh.commit()
                fresh.env.sync(True)
                fresh.close()
                store.changed = None
                store.wipe_ahead()
                store.replace_file(self._folder / "data.mdb")
        except BlockingIOError:
            return False
        return True
