"""Token buckets by key, at all nodes of the cell together, without the log.

A bucket holds an hour's tokens and fills again over an hour. What is kept is how much of that hour is missing, so that
a rate that is changed, or is a tenant's own, holds from the next token on. Each node takes from its own copy and tells
the others how much it took; so a client that goes round the nodes has one bucket, but for what it takes within a
second. What is told late or never leaves a bucket too full for a while. Bounded: what was used longest ago is
forgotten, thus full again.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import msgpack

from nodes.failures import KEY_BYTES, TOLD_AT_ONCE

HOUR_S = 3600.0
REMEMBERED = 65_536
SLACK_S = 1e-6  # of sums of fractions


class _Taken(NamedTuple):
    """How much of an hour's tokens was missing, and when."""

    missing_s: float
    at_s: float


class Buckets:
    """`changes` gives what to tell the other nodes, `merge` takes what they tell. Keys are of nodes.failures.key_of."""

    def __init__(
        self,
        now_s: Callable[[], float] = time.monotonic,
        most: int = REMEMBERED,
        full_s: float = HOUR_S,
        most_s: float = HOUR_S,
    ) -> None:
        """`full_s`: how much of its rate a bucket holds; up to `most_s` may be missing, what is beyond is owed."""
        self._now_s = now_s
        self._most = most
        self._full_s = full_s
        self._most_s = most_s
        self._taken: OrderedDict[bytes, _Taken] = OrderedDict()
        self._untold: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._taken)

    def wait_s(self, key: bytes, per_hour: int) -> float:
        """Seconds until there is a token, 0: there is one. Takes none."""
        over_s = self._missing_s(key) + HOUR_S / per_hour - HOUR_S
        return over_s if over_s > SLACK_S else 0.0

    def take(self, key: bytes, per_hour: int, count: int = 1) -> None:
        """Takes one, or so many, here and at the others; never more than there are."""
        self.owe(key, min(HOUR_S * count / per_hour, HOUR_S))

    def owed_s(self, key: bytes) -> float:
        """Seconds until the bucket is no more than empty."""
        return max(0.0, self._missing_s(key) - self._full_s)

    def owe(self, key: bytes, cost_s: float) -> None:
        """Takes so many seconds' worth of the rate, here and at the others."""
        if cost_s <= 0:
            return
        self._take(key, cost_s)
        self._untold[key] = min(self._untold.get(key, 0.0) + cost_s, HOUR_S)
        while len(self._untold) > self._most:
            self._untold.popitem(last=False)

    def changes(self) -> bytes | None:
        """What was taken here and the others do not know yet; None for nothing."""
        told = [self._untold.popitem(last=False) for _ in range(min(TOLD_AT_ONCE, len(self._untold)))]
        packed: bytes | None = msgpack.packb([(key, cost_s) for key, cost_s in told]) if told else None
        return packed

    def merge(self, peer: str, data: bytes) -> None:
        """What another node tells. Raises ValueError for what is no such thing."""
        told = msgpack.unpackb(data, use_list=False, max_array_len=TOLD_AT_ONCE, max_bin_len=KEY_BYTES)
        for key, cost_s in told:
            if len(key) != KEY_BYTES or not 0 < cost_s <= HOUR_S:
                raise ValueError("not a share of a bucket")
            self._take(key, cost_s)

    def _missing_s(self, key: bytes) -> float:
        taken = self._taken.get(key)
        if taken is None:
            return 0.0
        missing_s = taken.missing_s - (self._now_s() - taken.at_s)
        if missing_s <= 0:
            del self._taken[key]
        return max(0.0, missing_s)

    def _take(self, key: bytes, cost_s: float) -> None:
        """Never more than there are: who went too far at several nodes at once does not pay for it afterwards, but
        where something may be owed."""
        self._taken[key] = _Taken(min(self._missing_s(key) + cost_s, self._most_s), self._now_s())
        self._taken.move_to_end(key)
        while len(self._taken) > self._most:
            self._taken.popitem(last=False)
