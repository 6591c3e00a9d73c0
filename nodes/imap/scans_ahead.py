"""Scans of large mailboxes that mail comes into, made before anybody selects them: in the background, bit by bit.

A mailbox is looked at once, and again when a thousand messages more have come. What others use is not driven out of
memory for it: then the scan is in the file alone, and brought up to date from there.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

from actors.mailbox import Change, counters
from actors.mailbox_overview import overview
from nodes.imap.scan import Scan

if TYPE_CHECKING:
    from collections.abc import Callable

    from eventlog.log import Applied
    from eventlog.store import Snapshot
    from nodes.imap.scans import Scans

AHEAD_MESSAGES = 1000
SLICE_ROWS = 500
PAUSE_TIMES = 20  # as long as a slice took: it takes a twentieth of the node's time at most
LEAST_PAUSE_S = 0.005
WAITING = 1000  # mailboxes; more are left to who selects them
REMEMBERED = 20_000

Key = tuple[bytes, bytes]  # account and folder


class ScansAhead:
    """Event loop only."""

    def __init__(self, scans: Scans, snapshot: Callable[[], Snapshot]) -> None:
        self._scans = scans
        self._snapshot = snapshot
        self._looked: OrderedDict[Key, int] = OrderedDict()  # and the UID at which to look again
        self._waiting: list[Key] = []
        self._task: asyncio.Task[None] | None = None
        self._listeners = 0

    def applied(self, items: list[Applied]) -> None:
        """What the log tells of its changes, all of them."""
        newest: dict[Key, int] = {}
        for _, event, _, result in items if self._listeners else ():
            change = result[0] if type(result) is list and result else None
            if type(change) is not Change:
                continue
            folder, uid, kind, *_ = change
            if uid >= AHEAD_MESSAGES and kind == "added":
                newest[event.stream, folder] = uid
        for key, uid in newest.items():
            self._note(key, uid)

    def _note(self, key: Key, uid: int) -> None:
        if uid < self._looked.get(key, 0) or len(self._waiting) >= WAITING or self._scans.follows(*key):
            return
        self._looked[key] = uid + AHEAD_MESSAGES
        self._looked.move_to_end(key)
        if len(self._looked) > REMEMBERED:
            self._looked.popitem(last=False)
        self._waiting.append(key)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._make_all())

    def begin(self) -> None:
        """There is a listener more."""
        self._listeners += 1

    async def stop(self) -> None:
        """There is a listener less: after the last one nothing is made any more."""
        self._listeners -= 1
        if self._task is not None and not self._listeners:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _make_all(self) -> None:
        try:
            while self._waiting:
                await self._make(*self._waiting.pop(0))
        finally:
            self._task = None

    async def _make(self, account: bytes, folder: bytes) -> None:
        with self._snapshot() as snapshot:
            now = counters(snapshot.view(account), folder)
        if now.messages < AHEAD_MESSAGES or self._scans.follows(account, folder):
            return
        begun = self._scans.begin(account, folder, now.highestmodseq)
        try:
            found = self._scans.read(account, folder)
            scan = found or await self._scanned(account, folder, now.uidnext - 1)
        except BaseException:
            self._scans.leave(account, begun)
            raise
        if self._scans.has_room(len(scan.uids)):
            self._scans.keep(account, folder, begun, scan, is_read=scan is found)
        else:
            self._scans.put_away(account, folder, begun, scan)

    async def _scanned(self, account: bytes, folder: bytes, last: int) -> Scan:
        """Up to the UID that was the last when the scan began to follow what comes."""
        loop = asyncio.get_running_loop()
        scan, first = Scan(), 1
        while first:
            began_s = loop.time()
            with self._snapshot() as snapshot:
                pieces, first = overview(snapshot.view(account), folder, first, last, SLICE_ROWS)
            scan.take(pieces)
            await asyncio.sleep(max(LEAST_PAUSE_S, PAUSE_TIMES * (loop.time() - began_s)))
        return scan
