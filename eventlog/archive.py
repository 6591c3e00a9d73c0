"""The archivist of a node: what the log says may be archived leaves its database for segment files beside it.

The log's own archival (`eventlog.custody`) names positions; each node carries it out by itself. A child process writes
a segment and proves it (`eventlog.archive_files`); only then META lists it, and its rows are removed between two ticks,
some at a time, while readers find each row where it still is or in the file. Whatever is killed, and when, the next
start goes on: a file that is not listed is written again, rows of a listed one are removed.

After each archival, older segments take along the mail that was expunged since.

Redactions go into the files too: `erase` has them written anew before the database is (`eventlog.erasure`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncGenerator, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import lmdb
import structlog

from eventlog.archive_files import REDACTED, check, redactions
from eventlog.archived import ARCHIVED, ArchiveError, Segment
from eventlog.custodian import Custodian
from eventlog.custody import CUSTODY, ArchivedSegment, archival_in
from eventlog.database_folder import sync_folder
from eventlog.errors import LogError
from eventlog.record import decode_events
from eventlog.segment_frames import SegmentError
from eventlog.segments import PARTIAL, read_segment
from eventlog.store import BODY_SLOT, LOG, LOG_HEAD, POSITION, SLICES, Snapshot, Store

if TYPE_CHECKING:
    from eventlog.log import EventLog

SWEPT = b"archive_swept"  # of META: up to this position nothing is left in the database
SIFTED = b"archive_sifted"  # the last position of the newest archival that was carried out
CARRIED_OUT = b"archive_erased"  # the newest redaction that the files show
RETRY_S = 30.0
AT_ONCE = 16  # segments that one child process writes
SWEEP_ROWS = 500  # removed between two ticks

T = TypeVar("T")
_log = structlog.get_logger("mailraft.archive")


class ArchivistError(LogError):
    """A segment could not be written; its positions stay in the database."""

    code = "archive_failed"


class ArchiveStatus(NamedTuple):
    """Last positions: that may be archived, that are in files, that have left the database. `error`: it tries again."""

    wanted: int
    archived: int
    swept: int
    segments: int
    size_bytes: int
    error: str | None


class Archivist(Custodian):
    """Of one node. Event loop only, but for what runs between two ticks."""

    def __init__(self, log: EventLog) -> None:
        super().__init__(log)
        self._busy = asyncio.Lock()

    def status(self) -> ArchiveStatus:
        store, error = self._log.store, self._error
        segments = self.segments()
        wanted = segments[-1].last if segments else 0
        try:
            with store.snapshot() as snapshot:
                wanted = max((one.last for one in archivals(snapshot)), default=0)
        except ArchiveError as damage:
            error = str(damage)
        size_bytes = 0
        for segment in segments:
            with contextlib.suppress(OSError):
                size_bytes += store.archive.path(segment).stat().st_size
        last = segments[-1].last if segments else 0
        return ArchiveStatus(wanted, last, store.get_meta(SWEPT, 0), len(segments), size_bytes, error)

    def segments(self) -> tuple[Segment, ...]:
        """What is in files, in order."""
        store = self._log.store
        with store.env.begin() as txn:
            return store.archive.segments(txn, store.db)

    async def install(self, segment: Segment, file: Path) -> None:
        """Puts a file that came from elsewhere in the place of one that is missing or damaged, once it is proven.

        Raises SegmentError for one that is not what this node's chain says.
        """
        store = self._log.store
        async with self._busy:
            await asyncio.to_thread(check, store, file, segment)
            file.replace(store.archive.path(segment))
            sync_folder(store.archive.folder)
            # it may come from a node that has not carried out yet what this one has
            await self._do(partial(store.put_meta, CARRIED_OUT, 0))
            await self._carry_out_all()
        self._wanted.set()

    async def erase(self, last: int) -> None:
        """Carries out the redactions up to a position in the files. Raises ArchivistError, ArchiveError."""
        async with self._busy:
            await self._carry_out(last)

    # -- the work -------------------------------------------------------------------------------------------------

    async def _do(self, work: Callable[[], T]) -> T:
        """Runs what writes to the database, alone; what it wrote is seen by the time this returns, or was undone."""
        result = await self._log.between_ticks(work)
        await self._log.between_ticks(_nothing)  # a tick begins when the one before is written
        return result

    async def _run(self) -> None:
        self._clear()
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                async with self._busy:
                    if await self._archive():
                        self._wanted.set()  # there may be more; what waits to erase goes first
                self._error = None
            except (OSError, LogError, lmdb.Error) as error:
                self._error = f"{type(error).__name__}: {error}"
                _log.error("the log is not archived yet", code="archive_failed", error=self._error, again_in_s=RETRY_S)
                asyncio.get_running_loop().call_later(RETRY_S, self._wanted.set)

    def _clear(self) -> None:
        """Removes what a killed run left."""
        for path in self._log.store.archive.folder.glob(f"*{PARTIAL}"):
            path.unlink(missing_ok=True)

    async def _archive(self) -> bool:
        """Archives some of what is due; whether anything was."""
        await self._sweep()
        due = self._due()[:AT_ONCE]
        if not due:
            await self._sift()
            return False
        self._require_room()
        await self._carry_out_all()
        names = [f"{one.first}-{one.last}" for one in due]
        async with contextlib.aclosing(self._child("write", self._log.config.cell_id, *names)) as written:
            async for first, last, shows in written:
                if not await self._do(partial(self._take_over, Segment(first, last), shows)):
                    break  # something was redacted meanwhile: once more
                await self._sweep()
                _log.info("archived", first=first, last=last)
        return True

    async def _sift(self) -> None:
        """Once after each archival: segments of before take along what was expunged since."""
        store, segments = self._log.store, self.segments()
        last = segments[-1].last if segments else 0
        if last <= int(store.get_meta(SIFTED, 0)):
            return
        await self._carry_out_all()
        async with contextlib.aclosing(self._child("sift", str(last))) as written:
            async for first, end in written:
                segment = Segment(first, end)
                await self._remove(segment, await asyncio.to_thread(_slots, store, segment))
                _log.info("expunged mail has left the database", first=first, last=end)
        await self._do(partial(store.put_meta, SIFTED, last))

    def _due(self) -> list[Segment]:
        """What the log says may be archived and no file holds yet."""
        with self._log.store.snapshot() as snapshot:
            wanted = [Segment(one.first, one.last) for one in archivals(snapshot)]
        segments = self.segments()
        last = segments[-1].last if segments else 0
        return [one for one in wanted if one.first > last]

    def _require_room(self) -> None:
        store = self._log.store
        disk = os.statvfs(store.path)
        if disk.f_bavail * disk.f_frsize < self._log.config.reserve_bytes * 2:
            raise ArchivistError("the disk has no room for segments beside the database")

    def _take_over(self, segment: Segment, shows: int) -> bool:
        """Lists a segment: from here on its rows may go. False if a file shows what was redacted since."""
        store = self._log.store
        if not self._shows_nothing_redacted() or store.get_meta(REDACTED, 0) != shows:
            return False
        store.put_meta(ARCHIVED, (*store.archive.segments(store.txn, store.db), segment))
        return True

    async def _sweep(self) -> None:
        """Removes from the database what is in files."""
        store = self._log.store
        for segment in self.segments():
            if segment.last > int(store.get_meta(SWEPT, 0)):
                await self._remove(segment, await asyncio.to_thread(_slots, store, segment))
                await self._do(partial(self._put_swept, segment))

    async def _remove(self, segment: Segment, slots: list[bytes]) -> None:
        """Rows of the log, then the bodies that the file has."""
        positions = range(segment.first, segment.last + 1)
        for at in range(0, len(positions), SWEEP_ROWS):
            keys = [POSITION.pack(position) for position in positions[at : at + SWEEP_ROWS]]
            while not await self._do(partial(self._delete, segment, LOG, keys)):
                await self._carry_out_all()
        for at in range(0, len(slots), SWEEP_ROWS):
            keys = slots[at : at + SWEEP_ROWS]
            while not await self._do(partial(self._delete, segment, SLICES, keys)):
                await self._carry_out_all()

    def _delete(self, segment: Segment, name: bytes, keys: list[bytes]) -> bool:
        """Removes rows; not while a file shows what was redacted since, and the rows do not.

        That the segment is listed is read again: the tick that listed it may not have been written.
        """
        store = self._log.store
        if not self._shows_nothing_redacted():
            return False
        if segment not in store.archive.segments(store.txn, store.db):
            raise ArchivistError(f"{segment.file} is not listed: the database could not be written")
        for key in keys:
            store.delete(name, key)
        return True

    def _put_swept(self, segment: Segment) -> None:
        store = self._log.store
        if segment in store.archive.segments(store.txn, store.db):
            store.put_meta(SWEPT, segment.last)

    def _shows_nothing_redacted(self) -> bool:
        store = self._log.store
        return bool(store.get_meta(REDACTED, 0) <= store.get_meta(CARRIED_OUT, 0))

    async def _carry_out_all(self) -> None:
        await self._carry_out(int(self._log.store.get_meta(REDACTED, 0)))

    async def _carry_out(self, last: int) -> None:
        """Has the files written anew that show what redactions up to a position name."""
        store = self._log.store
        done, segments = int(store.get_meta(CARRIED_OUT, 0)), self.segments()
        if last <= done:
            return
        if segments:
            async with contextlib.aclosing(self._child("erase", str(done), str(last))) as written:
                async for first, end in written:
                    _log.info("what was redacted is erased from the archive", first=first, last=end)
        with store.snapshot() as snapshot:
            named = set[int]()
            for found in redactions(snapshot, done, last):
                named.update(one.position for one in found.events)
                named.update(one.position for one in found.bodies)
        await self._do(partial(self._end_erasure, sorted(named), last))

    def _end_erasure(self, named: list[int], last: int) -> None:
        """The rows that stood for redacted entries go: the files show them as they are now."""
        store = self._log.store
        segments = store.archive.segments(store.txn, store.db)
        if segments and store.get_meta(REDACTED, 0) == last:  # else one of them may have been redacted once more
            for position in named:
                if position <= segments[-1].last:
                    store.delete(LOG, POSITION.pack(position))
        store.put_meta(CARRIED_OUT, last)

    async def _child(self, task: str, *arguments: str) -> AsyncGenerator[tuple[int, ...], None]:
        """The numbers that a child process prints, line by line. Raises ArchivistError if it ends badly."""
        root = str(Path(__file__).resolve().parent.parent)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "eventlog.archive_files", task, str(self._log.store.path), *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH")) if p)},
        )
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            async for line in process.stdout:
                yield tuple(map(int, line.split()))
            said = (await process.stderr.read()).decode(errors="replace").strip().splitlines()
            if await process.wait() != 0:
                raise ArchivistError(said[-1] if said else f"the child ended with status {process.returncode}")
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()


def _nothing() -> None:
    pass


def archivals(snapshot: Snapshot) -> list[ArchivedSegment]:
    """What the log says may be archived, in order. Raises ArchiveError."""
    found: list[ArchivedSegment] = []
    for _, value in snapshot.stream_entries(CUSTODY):
        for event in decode_events(value[LOG_HEAD.size :], CUSTODY)[3]:
            found += archival_in(event) or ()
    return found


def _slots(store: Store, segment: Segment) -> list[bytes]:
    """The keys of the bodies that a file holds. Raises ArchiveError."""
    path = store.archive.path(segment)
    try:
        return [
            BODY_SLOT.pack(record.position, ordinal) for record in read_segment(path) for ordinal, _ in record.bodies
        ]
    except (OSError, SegmentError) as error:
        raise ArchiveError(path, segment, str(error)) from None
