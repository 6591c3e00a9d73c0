"""The fake disk: a real LMDB file without its fsync, and a power that goes at the worst moments.

A commit that returned is on disk, in the model as in LMDB with its fsync. One that the power interrupts is not there:
either none of it was written, or it is torn, that is, any of its pages may be old, new or garbage, but the meta page,
which LMDB writes last and after a flush, still names the commit before. So a node comes back with exactly that one.
A commit that need not last is whole or not there after the power went, as long as no other followed it: its pages
are on disk, and the page that names them may be. What is written ahead of the database is likewise there once it was
written, and may be torn, its own frame alone, where the power interrupts that.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import lmdb

from eventlog.ahead import BLOCK_BYTES, FILE, ID_BYTES, Ahead
from eventlog.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

MAP_BYTES = 64 * 1024 * 1024
PAGE_BYTES = 4096
META_PAGES = 2
PLENTY_BYTES = 1 << 30


class PowerLost(Exception):
    """The power goes in the middle of a tick: nothing of it is on disk."""


class Disk:
    """One node's disk, over all of its lives. `fail_at_commit` is asked before each commit: None, "lost" or "torn".

    unsynced: commits return before they are on disk; undone: none of them is asked to last; ahead_unsynced: nor is
    what is written ahead of them; ahead_reused: that is overwritten though the commit that holds it may be undone.
    Mistakes that are put back to see them found.
    """

    def __init__(
        self,
        path: Path,
        rng: random.Random,
        *,
        unsynced: bool = False,
        undone: bool = False,
        ahead_unsynced: bool = False,
        ahead_reused: bool = False,
    ) -> None:
        self.path = path
        self.rng = rng
        self.full = False
        self.slow_s = 0.0
        self.fail_at_commit: Callable[[], str | None] = lambda: None
        self.store: SimulatedStore | None = None
        self.unsynced = unsynced
        self.undone = undone
        self.ahead_unsynced = ahead_unsynced
        self.ahead_reused = ahead_reused
        self._newest_frame: int | None = None  # where the newest frame is that no commit holds
        self._on_disk: bytes | None = None
        self._meta_before: bytes | None = None  # the pages that name the newest commit, as they were before it
        self.undid = False  # the power took the newest commit along, which did not need to last

    def open(self) -> SimulatedStore:
        """The store of a new life."""
        self.store = SimulatedStore(self)
        return self.store

    def power_off(self) -> None:
        """What was not committed is gone."""
        if self.store is not None:
            self.store.close()
            self.store = None
        self.undid = self._meta_before is not None and self.rng.random() < 0.5
        if self.undid and self._meta_before is not None:
            with (self.path / "data.mdb").open("r+b") as file:
                file.write(self._meta_before)
        self._meta_before = None
        if self.ahead_unsynced and self._newest_frame is not None and self.rng.random() < 0.5:
            with (self.path / FILE).open("r+b") as file:
                file.seek(self._newest_frame)
                file.write(bytes(BLOCK_BYTES))
        self._newest_frame = None
        if self._on_disk is not None:
            (self.path / "data.mdb").write_bytes(self._on_disk)

    def meta(self) -> bytes:
        """The pages that name the newest commit and the one before."""
        with (self.path / "data.mdb").open("rb") as file:
            return file.read(META_PAGES * PAGE_BYTES)

    def committed(self, undone_as: bytes | None) -> None:
        """The operating system has what was written; the disk has it at once, or now and then.

        `undone_as`: the meta pages that it may still name, of a commit that need not last.
        """
        self._meta_before = undone_as
        self._newest_frame = None
        if self.unsynced and (self._on_disk is None or self.rng.random() < 0.1):
            self._on_disk = (self.path / "data.mdb").read_bytes()

    def written_ahead(self, at: int) -> None:
        """The operating system has a frame, and the disk."""
        self._newest_frame = at

    def latency_s(self) -> float:
        """How long the fsync of a tick takes."""
        quick_s = self.rng.uniform(0.0002, 0.004)
        return quick_s + self.rng.uniform(0.0, self.slow_s) if self.slow_s else quick_s

    def tear(self, before: bytes) -> None:
        """Makes of the file what a commit leaves that was interrupted before its meta page was written."""
        path = self.path / "data.mdb"
        after = path.read_bytes()
        pages = [before[at : at + PAGE_BYTES] for at in range(0, META_PAGES * PAGE_BYTES, PAGE_BYTES)]
        for at in range(META_PAGES * PAGE_BYTES, len(after), PAGE_BYTES):
            old, new = before[at : at + PAGE_BYTES], after[at : at + PAGE_BYTES]
            pages.append(new if new == old else self._torn_page(old, new))
        path.write_bytes(b"".join(pages))

    def torn_frame(self, frame: bytes) -> bytes:
        """What is left of a frame whose write the power interrupts: any of its blocks, or garbage, but not all."""
        blocks = [frame[at : at + BLOCK_BYTES].ljust(BLOCK_BYTES, b"\0") for at in range(0, len(frame), BLOCK_BYTES)]
        torn = [self._torn_page(b"", block) for block in blocks]
        torn[self.rng.randrange(len(torn))] = self.rng.randbytes(BLOCK_BYTES)
        return b"".join(torn)

    def _torn_page(self, old: bytes, new: bytes) -> bytes:
        old = old.ljust(PAGE_BYTES, b"\0")
        match self.rng.randrange(4):
            case 0:
                return old
            case 1:
                return new
            case 2:
                return new[: PAGE_BYTES // 2] + old[PAGE_BYTES // 2 :]
            case _:
                return self.rng.randbytes(PAGE_BYTES)


class SimulatedStore(Store):
    """The node's store, whose commits may meet a full disk or the end of the power."""

    MERGE_AT: ClassVar[int] = 8  # a run is short

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.armed = False  # in a tick, not while the node starts
        super().__init__(disk.path, MAP_BYTES, durable=False)

    @property
    def txn(self) -> Any:
        """A write in the middle of a tick may find the disk full, too."""
        if self.armed and self._disk.full and self._disk.rng.random() < 0.02:
            raise lmdb.MapFullError("mdb_put: the simulation's disk is full")
        return super().txn

    def commit(self, *, last: bool = True) -> None:
        if not self.armed or not self.dirty:
            super().commit()
            return
        before_meta = None if last and not self._disk.undone else self._disk.meta()
        if self._disk.full and self._disk.rng.random() < 0.5:
            raise lmdb.MapFullError("mdb_txn_commit: the simulation's disk is full")
        match self._disk.fail_at_commit():
            case "lost":
                raise PowerLost
            case "torn":
                before = (self.path / "data.mdb").read_bytes()
                super().commit(last=last)
                self.close()
                self._disk.tear(before)
                raise PowerLost
        super().commit(last=last)
        self._disk.committed(before_meta)

    def free_bytes(self) -> int:
        return 0 if self._disk.full else PLENTY_BYTES

    def _new_id(self) -> bytes:
        return bytes(ID_BYTES)

    def _make_ahead(self, id_: bytes, held: int) -> Ahead:
        return SimulatedAhead(self, self._disk, id_, held)

    def _committed(self, held: int, last: bool) -> None:
        super()._committed(held, last or self._disk.ahead_reused)


class SimulatedAhead(Ahead):
    """What is written ahead of the database, with the same dangers."""

    FILE_BYTES: ClassVar[int] = 24 * BLOCK_BYTES  # a run is short

    def __init__(self, store: SimulatedStore, disk: Disk, id_: bytes, held: int) -> None:
        super().__init__(disk.path, id_, held, durable=False)
        self._usable = not disk.unsynced
        self._store = store
        self._disk = disk

    def _put(self, frame: bytes) -> bool:
        disk, at = self._disk, self._at
        if not self._store.armed:
            return super()._put(frame)
        if disk.full and disk.rng.random() < 0.5:
            return False
        match disk.fail_at_commit():
            case "lost":
                raise PowerLost
            case "torn":
                super()._put(disk.torn_frame(frame))
                raise PowerLost
        disk.written_ahead(at)
        return super()._put(frame)
