"""Scans of mailboxes (scan.py), kept for who selects one next: they follow the log, and a file has them for later.

Whatever changes a message raises the HIGHESTMODSEQ of its folder in the same record (actors/mailbox_fold.py), so a
scan is good where that is what it has followed up to. What has changed since a scan was written is read when it is
wanted again (scan_file.py), so it is written when that has become much, when memory is short, and at the end.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from actors.mailbox import Change, FlagsOfMany, counters
from nodes.imap import scan_file
from nodes.imap.scan import MESSAGE_BYTES, News, Scan

if TYPE_CHECKING:
    from collections.abc import Callable

    from eventlog.log import Applied
    from eventlog.store import Snapshot
    from nodes.imap.cache_file import CacheFile

    Follow = Callable[[bytes, Callable[[list[Applied]], None]], Callable[[], None]]

KEPT_BYTES = 32 * 1024 * 1024
LEAST_MESSAGES = 500  # fewer are scanned as soon as they are looked up
LEAST_UNWRITTEN = 500  # changes
UNWRITTEN_SHARE = 16  # of the messages, which may have changed before a scan is written again

_NEWS = (Change, FlagsOfMany)  # not their union, which would be made anew for each message

Key = tuple[bytes, bytes]  # account and folder


class Kept:
    """A scan that follows the log, from before its first slice was read on: `modseq` says up to where."""

    def __init__(self, modseq: int) -> None:
        self.modseq = modseq
        self.scan: Scan | None = None
        self.unwritten = 1  # changes since it was written, or more than there were
        self._waiting: list[News] = []  # until the last slice has been read

    def follow(self, changes: list[News]) -> None:
        known = self.modseq
        news = [change for change in changes if change.modseq > known]
        if not news:
            return
        self.modseq = max([change.modseq for change in news])
        self.unwritten += len(news)
        if self.scan is None:
            self._waiting += news
        else:
            self.scan = self.scan.followed(news)

    def finish(self, scan: Scan) -> Scan:
        self.scan = scan.followed(self._waiting)
        self._waiting = []
        return self.scan


@dataclass
class Entry:
    kept: Kept
    size_bytes: int


class Scans:
    """Scans by account and folder, least recently used out first. `follow` is `EventLog.subscribe`."""

    def __init__(
        self,
        follow: Follow,
        limit_bytes: int = KEPT_BYTES,
        file: CacheFile | None = None,
        snapshot: Callable[[], Snapshot] | None = None,
    ) -> None:
        """`snapshot`: of the log, where there is a file."""
        self._follow_stream = follow
        self._unfollow: dict[bytes, Callable[[], None]] = {}
        self._limit_bytes = limit_bytes
        self._used_bytes = 0
        self._file = file
        self._snapshot = snapshot
        self._kept: OrderedDict[Key, Entry] = OrderedDict()
        self._begun: dict[bytes, list[tuple[bytes, Kept]]] = {}  # by account: those that are being made, and these

    def get(self, account: bytes, folder: bytes, modseq: int) -> Scan | None:
        """The scan of a folder whose HIGHESTMODSEQ is `modseq` now."""
        found = self._kept.get((account, folder))
        if found is None or found.kept.modseq != modseq:
            return None
        self._kept.move_to_end((account, folder))
        return found.kept.scan

    def begin(self, account: bytes, folder: bytes, modseq: int) -> Kept:
        """Before the first slice of a scan is read, with what HIGHESTMODSEQ was then; `keep` or `leave` follows."""
        begun = Kept(modseq)
        if account not in self._begun:
            self._unfollow[account] = self._follow_stream(account, self.applied)
        self._begun.setdefault(account, []).append((folder, begun))
        return begun

    def read(self, account: bytes, folder: bytes) -> Scan | None:
        """What the file has, as of now; after `begin`, in place of slices."""
        if self._file is None or self._snapshot is None or (data := self._file.get(account + folder)) is None:
            return None
        with self._snapshot() as snapshot:
            return scan_file.read(snapshot, account, folder, data)

    def keep(self, account: bytes, folder: bytes, begun: Kept, scan: Scan, is_read: bool = False) -> None:
        """All slices have been read, or it `is_read` from the file."""
        key, scan = (account, folder), begun.finish(scan)
        self._drop(key)
        if len(scan.uids) < LEAST_MESSAGES or not self._fits(scan):
            self.leave(account, begun)
            return
        self._kept[key] = Entry(begun, scan.size_bytes)
        self._used_bytes += scan.size_bytes
        if not is_read:
            self._write(key, begun)
        self._make_room()

    def put_away(self, account: bytes, folder: bytes, begun: Kept, scan: Scan) -> None:
        """All slices have been read, and it is to be in the file alone."""
        begun.finish(scan)
        self._write((account, folder), begun)
        self.leave(account, begun)

    def leave(self, account: bytes, begun: Kept) -> None:
        """A scan is not followed any more."""
        left = [one for one in self._begun.get(account, ()) if one[1] is not begun]
        if left:
            self._begun[account] = left
        elif self._begun.pop(account, None) is not None:
            self._unfollow.pop(account)()

    def follows(self, account: bytes, folder: bytes) -> bool:
        """Whether there is a scan of it, or one is being made."""
        return any(one == folder for one, _ in self._begun.get(account, ()))

    def has_room(self, messages: int) -> bool:
        """Whether a scan of so many would drive out no other."""
        return self._used_bytes + messages * MESSAGE_BYTES <= self._limit_bytes

    # -- what the log says

    def applied(self, items: list[Applied]) -> None:
        """What the log tells of the changes of an account that there are scans of."""
        found: dict[bytes, list[object]] = {}  # of a tick together: a mailbox may get a hundred messages in one
        begun = self._begun
        for _, event, _, result in items:
            stream = event.stream
            if stream in begun and type(result) is list:
                found.setdefault(stream, []).extend(result)
        for stream, results in found.items():
            for folder, kept in tuple(begun.get(stream, ())):
                self._follow((stream, folder), kept, results)

    def _follow(self, key: Key, kept: Kept, result: list[object]) -> None:
        folder = key[1]
        kept.follow([one for one in result if isinstance(one, _NEWS) and one.folder == folder and _is_of_messages(one)])
        entry = self._kept.get(key)
        if entry is None or entry.kept is not kept or kept.scan is None:
            return
        self._used_bytes += kept.scan.size_bytes - entry.size_bytes
        entry.size_bytes = kept.scan.size_bytes
        if not self._fits(kept.scan):
            self._drop(key)
        elif kept.unwritten > max(LEAST_UNWRITTEN, len(kept.scan.uids) // UNWRITTEN_SHARE):
            self._write(key, kept)
        self._make_room()

    def _fits(self, scan: Scan) -> bool:
        return scan.is_whole and scan.size_bytes <= self._limit_bytes

    def _make_room(self) -> None:
        while self._used_bytes > self._limit_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: Key) -> None:
        entry = self._kept.pop(key, None)
        if entry is not None:
            self._used_bytes -= entry.size_bytes
            self.leave(key[0], entry.kept)
            if entry.kept.unwritten:
                self._write(key, entry.kept)

    # -- the file

    def _write(self, key: Key, kept: Kept) -> None:
        """Later, where the log has gone on already from what is kept."""
        if self._file is None or self._snapshot is None or kept.scan is None or not kept.scan.is_whole:
            return
        with self._snapshot() as snapshot:
            now = counters(snapshot.view(key[0]), key[1])
            if now.highestmodseq == kept.modseq:
                self._file.put(b"".join(key), scan_file.written(snapshot, now, kept.scan))
                kept.unwritten = 0

    def clear(self, erased_at: int) -> None:
        """Something was erased from the log, as it says at this position: the file goes, and is written anew."""
        if self._file is not None:
            self._file.clear(erased_at)
            for entry in self._kept.values():
                entry.kept.unwritten = max(1, entry.kept.unwritten)

    async def close(self) -> None:
        """Writes what the file does not have."""
        if self._file is not None:
            for key, entry in self._kept.items():
                if entry.kept.unwritten:
                    self._write(key, entry.kept)
            await self._file.close()


def _is_of_messages(change: News) -> bool:
    """Whether it is about messages of its folder."""
    return isinstance(change, FlagsOfMany) or change.kind != "folder"
