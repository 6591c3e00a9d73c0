"""When something was seen first and last, by key, known to all nodes of the cell, without the log.

Each node tells the others what it sees and, in turn, all that it knows; the earliest first time and the latest last
time hold, so that it does not matter how often, in which order and by whom a mark is told: a node that was killed
learns again what it knew from those that were not. Bounded: what was seen longest ago is forgotten first.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

import msgpack

from nodes.failures import KEY_BYTES, MOST_AGE_MS, MOST_COUNT, TOLD_AGAIN, TOLD_AT_ONCE

SLACK_S = 1.0  # a last time is later only by more than messages take, or nodes would tell each other for ever


class Mark(NamedTuple):
    """Times of the node's own clock, and how often at the node that saw it most."""

    first_s: float
    last_s: float
    times: int


class Marks:
    """`changes` gives what to tell the other nodes, `merge` takes what they tell. Keys are of nodes.failures.key_of."""

    def __init__(self, keep_s: float, most: int, now_s: Callable[[], float] = time.monotonic) -> None:
        self._keep_s = keep_s
        self._most = most
        self._now_s = now_s
        self._marks: OrderedDict[bytes, Mark] = OrderedDict()
        self._changed: OrderedDict[bytes, None] = OrderedDict()
        self._round: Iterator[bytes] = iter(())

    def __len__(self) -> int:
        return len(self._marks)

    def keep(self, keep_s: float, most: int) -> None:
        """So many, for so long, from now on."""
        self._keep_s, self._most = keep_s, most

    def get(self, key: bytes) -> Mark | None:
        """What is known of a key that was seen within the time that marks are kept."""
        mark = self._marks.get(key)
        if mark is not None and mark.last_s < self._now_s() - self._keep_s:
            del self._marks[key]
            return None
        return mark

    def age_s(self, key: bytes) -> float | None:
        """Seconds since it was seen first; None: it was not."""
        mark = self.get(key)
        return self._now_s() - mark.first_s if mark is not None else None

    def quiet_s(self, key: bytes) -> float | None:
        """Seconds since it was seen last; None: it was not."""
        mark = self.get(key)
        return self._now_s() - mark.last_s if mark is not None else None

    def note(self, key: bytes) -> None:
        """It is seen now."""
        now_s = self._now_s()
        mark = self.get(key) or Mark(now_s, now_s, 0)
        self._put(key, Mark(mark.first_s, now_s, min(mark.times + 1, MOST_COUNT - 1)))
        self._changed[key] = None
        while len(self._changed) > self._most:
            self._changed.popitem(last=False)

    def changes(self) -> bytes | None:
        """What the others do not know yet, and some of what they should know already; None for nothing at all."""
        keys = [self._changed.popitem(last=False)[0] for _ in range(min(TOLD_AT_ONCE, len(self._changed)))]
        again = list(islice(self._round, TOLD_AGAIN))
        if not again:
            self._round = iter(tuple(self._marks))
        told = [(key, *self._ages_ms(mark), mark.times) for key in keys + again if (mark := self.get(key)) is not None]
        packed: bytes | None = msgpack.packb(told) if told else None
        return packed

    def merge(self, peer: str, data: bytes) -> None:
        """What another node tells. Raises ValueError for what is no such thing."""
        told = msgpack.unpackb(data, use_list=False, max_array_len=TOLD_AT_ONCE + TOLD_AGAIN, max_bin_len=KEY_BYTES)
        now_s = self._now_s()
        for key, first_ms, last_ms, times in told:
            if len(key) != KEY_BYTES or not 0 <= last_ms <= first_ms < MOST_AGE_MS or not 0 < times < MOST_COUNT:
                raise ValueError("not a mark")
            self._learn(key, Mark(now_s - first_ms / 1000, now_s - last_ms / 1000, times))

    # -- parts

    def _learn(self, key: bytes, told: Mark) -> None:
        if told.last_s < self._now_s() - self._keep_s:
            return
        known = self.get(key) or told
        later = told.last_s > known.last_s + SLACK_S
        merged = Mark(
            min(known.first_s, told.first_s),
            told.last_s if later else known.last_s,
            max(known.times, told.times),
        )
        if later or key not in self._marks:
            self._put(key, merged)
        else:
            self._marks[key] = merged

    def _ages_ms(self, mark: Mark) -> tuple[int, int]:
        now_s = self._now_s()
        return int((now_s - mark.first_s) * 1000), int((now_s - mark.last_s) * 1000)

    def _put(self, key: bytes, mark: Mark) -> None:
        self._marks[key] = mark
        self._marks.move_to_end(key)
        while len(self._marks) > self._most:
            self._marks.popitem(last=False)
