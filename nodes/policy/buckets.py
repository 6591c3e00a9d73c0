"""Token buckets by key, at all nodes of the cell together, without the log.

A bucket holds an hour's tokens and fills again over an hour. Each node takes from its own copy and tells the others how
many it took; so a client that goes round the nodes has one bucket, but for what it takes within a second. What is told
late or never leaves a bucket too full for a while. Bounded: what was used longest ago is forgotten, thus full again.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import msgpack

from nodes.failures import KEY_BYTES, MOST_COUNT, TOLD_AT_ONCE

HOUR_S = 3600.0
REMEMBERED = 65_536


class _Taken(NamedTuple):
    """How many tokens were missing, and when."""

    tokens: float
    at_s: float


class Buckets:
    """`changes` gives what to tell the other nodes, `merge` takes what they tell. Keys are of nodes.failures.key_of."""

    def __init__(self, per_hour: int, now_s: Callable[[], float] = time.monotonic, most: int = REMEMBERED) -> None:
        self._per_hour = per_hour
        self._now_s = now_s
        self._most = most
        self._taken: OrderedDict[bytes, _Taken] = OrderedDict()
        self._untold: OrderedDict[bytes, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._taken)

    def wait_s(self, key: bytes) -> float:
        """Seconds until there is a token, 0: there is one. Takes none."""
        over = self._missing(key) + 1 - self._per_hour
        return max(0.0, over * HOUR_S / self._per_hour)

    def take(self, key: bytes) -> None:
        """Takes one, here and at the others."""
        self._take(key, 1)
        self._untold[key] = self._untold.get(key, 0) + 1
        while len(self._untold) > self._most:
            self._untold.popitem(last=False)

    def changes(self) -> bytes | None:
        """What was taken here and the others do not know yet; None for nothing."""
        told = [self._untold.popitem(last=False) for _ in range(min(TOLD_AT_ONCE, len(self._untold)))]
        packed: bytes | None = msgpack.packb(told) if told else None
        return packed

    def merge(self, peer: str, data: bytes) -> None:
        """What another node tells. Raises ValueError for what is no such thing."""
        told = msgpack.unpackb(data, use_list=False, max_array_len=TOLD_AT_ONCE, max_bin_len=KEY_BYTES)
        for key, tokens in told:
            if len(key) != KEY_BYTES or not 0 < tokens < MOST_COUNT:
                raise ValueError("not a number of tokens")
            self._take(key, tokens)

    def _missing(self, key: bytes) -> float:
        taken = self._taken.get(key)
        if taken is None:
            return 0.0
        missing = taken.tokens - (self._now_s() - taken.at_s) * self._per_hour / HOUR_S
        if missing <= 0:
            del self._taken[key]
        return max(0.0, missing)

    def _take(self, key: bytes, tokens: int) -> None:
        """Never more than there are: who went too far at several nodes at once does not pay for it afterwards."""
        missing = min(self._missing(key) + tokens, float(self._per_hour))
        self._taken[key] = _Taken(missing, self._now_s())
        self._taken.move_to_end(key)
        while len(self._taken) > self._most:
            self._taken.popitem(last=False)
