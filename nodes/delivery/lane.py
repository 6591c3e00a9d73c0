"""What one node knows of one domain's queue: which items are due when, within bounded memory, and what is under way.

The tables have everything; a lane keeps the next WINDOW items of them. What does not fit, or is due only later, is
found by going through the tables again, a slice at a time, from where the last slice ended: a million items that wait
cost one pass, not one pass for each window.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from actors.queue import Item

WINDOW = 2000
SLICE = 500  # rows read at a time
LOOKAHEAD_MS = 60_000
BEGIN = b""


class Due(NamedTuple):
    at_ms: int
    priority: int
    item_id: bytes


class Lane:
    """One domain's queue as this node sees it. Times are milliseconds since 1970."""

    def __init__(self, domain: str, stream: bytes, limit: int) -> None:
        self.domain = domain
        self.stream = stream
        self.limit = self._full = limit  # attempts at a time: 1 after a throttle, then one more with each success
        self.claimed: deque[Item] = deque()  # ours, not yet tried
        self.sending = 0
        self.claiming = False
        self.open_since_ms = 0  # what was due before could not be sent by anybody: it is due since then
        self.throttled_until_ms = 0
        self.throttle_level = 0
        self.suspended = False
        self.agenda_ms: float = math.inf  # when the manager will look at it
        self._due: dict[bytes, int] = {}
        self._later: list[Due] = []
        self._ready: list[tuple[int, int, bytes]] = []  # -priority, at_ms, id
        self._scan_from: bytes | None = BEGIN  # behind this id; None: no pass is under way
        self._scan_at_ms: float = math.inf  # when the next pass begins
        self._seen_later_ms: float = math.inf  # the first that this pass has left for another

    def note(self, item_id: bytes, at_ms: int, priority: int, now_ms: int) -> None:
        """The item is due then, whatever was known of it before."""
        if self._due.get(item_id) == at_ms:
            return
        if at_ms > now_ms + LOOKAHEAD_MS or (len(self._due) >= WINDOW and priority <= 0):
            self._due.pop(item_id, None)
            self._scan_at_ms = min(self._scan_at_ms, at_ms)
            return
        self._due[item_id] = at_ms
        heapq.heappush(self._later, Due(at_ms, priority, item_id))

    def forget(self, *item_ids: bytes) -> None:
        """They have gone, or are not to be tried."""
        for item_id in item_ids:
            self._due.pop(item_id, None)

    def take(self, now_ms: int, most: int) -> list[bytes]:
        """Up to so many that are due, the urgent first; the lane knows nothing of them any more."""
        self._make_ready(now_ms)
        taken: list[bytes] = []
        while self._ready and len(taken) < most:
            _, at_ms, item_id = heapq.heappop(self._ready)
            if self._due.get(item_id) == at_ms:
                del self._due[item_id]
                taken.append(item_id)
        return taken

    def has_due(self, now_ms: int) -> bool:
        self._make_ready(now_ms)
        return bool(self._ready)

    def next_ms(self) -> float:
        """When something is to be done at the earliest: an item tried, or the tables read."""
        if self._ready or self._wants_slice():
            return 0
        return min(self._later[0].at_ms if self._later else math.inf, self._scan_at_ms)

    def _make_ready(self, now_ms: int) -> None:
        while self._later and self._later[0].at_ms <= now_ms:
            one = heapq.heappop(self._later)
            if self._due.get(one.item_id) == one.at_ms:
                heapq.heappush(self._ready, (-one.priority, one.at_ms, one.item_id))
        while self._ready and self._due.get(self._ready[0][2]) != self._ready[0][1]:
            heapq.heappop(self._ready)

    # -- the tables ------------------------------------------------------------------------------------------------

    def rescan(self) -> None:
        """Go through the tables again from the beginning."""
        self._scan_at_ms = 0

    def wants_slice(self, now_ms: int) -> bool:
        """Whether a slice of the tables should be read now."""
        if self._scan_from is None and self._scan_at_ms <= now_ms:
            self._scan_from, self._scan_at_ms, self._seen_later_ms = BEGIN, math.inf, math.inf
        return self._wants_slice()

    def _wants_slice(self) -> bool:
        return self._scan_from is not None and len(self._due) < WINDOW // 2

    @property
    def scan_from(self) -> bytes:
        """The item behind which the next slice begins."""
        return self._scan_from or BEGIN

    def read(self, rows: Iterator[tuple[bytes, int | None, int]], now_ms: int) -> None:
        """Takes a slice: id, when it is due (None: not at all) and priority of items in the order of their ids."""
        for _ in range(SLICE):
            row = next(rows, None)
            if row is None:
                self._scan_from = None
                self._scan_at_ms = min(self._scan_at_ms, self._seen_later_ms)
                return
            item_id, at_ms, priority = row
            if at_ms is None:
                pass
            elif at_ms > now_ms + LOOKAHEAD_MS:
                self._seen_later_ms = min(self._seen_later_ms, at_ms)
            elif len(self._due) >= WINDOW:
                return  # the next slice begins with this one
            else:
                self.note(item_id, at_ms, priority, now_ms)
            self._scan_from = item_id

    # -- how much at a time ----------------------------------------------------------------------------------------

    def throttled(self, until_ms: int, level: int) -> None:
        """The domain is left alone until then, and tried with one message at first."""
        self.throttled_until_ms, self.throttle_level = until_ms, level
        self.open_since_ms = until_ms
        self.limit = 1 if until_ms else self._full
        if not until_ms:
            self.rescan()  # what was to wait for the end of the throttle is due

    def succeeded(self) -> None:
        """A message was taken: one more at a time from now on."""
        self.limit, self.throttle_level = min(self.limit + 1, self._full), 0

    @property
    def idle(self) -> bool:
        """Nothing is known of it that the tables would not say again."""
        busy = self._due or self.claimed or self.sending or self.claiming or self._scan_from is not None
        return not busy and self._scan_at_ms == math.inf
