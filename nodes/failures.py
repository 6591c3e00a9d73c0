"""How often something has happened lately, by key, at all nodes of the cell together, without the log.

Each node counts its own and tells the others, who keep the last that they heard of each: a count is the sum of them.
What is told late or never makes a count too low for a while, never wrong for long. A key that was quiet for the whole
window counts nothing. Bounded: what was touched longest ago is forgotten first. Keys are hashes: what clients type in
the place of a name may be a password.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from typing import NamedTuple

import msgpack

NEVER_S = float("-inf")
REMEMBERED = 65_536
KEY_BYTES = 16
TOLD_AT_ONCE = 1000  # of what has changed; 30 bytes each
TOLD_AGAIN = 100  # of what has not, for those who missed it
MOST_COUNT = 1 << 31
MOST_AGE_MS = 1 << 40


def key_of(kind: str, *parts: str) -> bytes:
    """The key of what a kind of counting is about."""
    hashed = blake2b(kind.encode(), digest_size=KEY_BYTES)
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        hashed.update(len(encoded).to_bytes(4, "big") + encoded)
    return hashed.digest()


class Seen(NamedTuple):
    """How often, and when last."""

    times: int
    last_s: float


NOT_YET = Seen(0, NEVER_S)


@dataclass(slots=True)
class _Entry:
    own: Seen = NOT_YET
    others: dict[str, Seen] = field(default_factory=dict)

    def all(self) -> Iterator[Seen]:
        yield self.own
        yield from self.others.values()


class SharedCounts:
    """`changes` gives what to tell the other nodes, `merge` takes what they tell."""

    def __init__(self, window_s: float, now_s: Callable[[], float] = time.monotonic) -> None:
        self._window_s = window_s
        self._now_s = now_s
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._changed: OrderedDict[bytes, None] = OrderedDict()
        self._round: Iterator[bytes] = iter(())

    def __len__(self) -> int:
        return len(self._entries)

    def remember_for(self, window_s: float) -> None:
        """Another window, from now on."""
        self._window_s = window_s

    def count(self, key: bytes) -> int:
        """How often lately, at all nodes."""
        entry = self._entries.get(key)
        if entry is None:
            return 0
        oldest_s = self._now_s() - self._window_s
        count = sum(seen.times for seen in entry.all() if seen.last_s >= oldest_s)
        if not count:
            del self._entries[key]
        return count

    def quiet_s(self, key: bytes) -> float:
        """Seconds since it last happened at any node; infinite where it did not."""
        entry = self._entries.get(key)
        return self._now_s() - max(seen.last_s for seen in entry.all()) if entry is not None else float("inf")

    def add(self, key: bytes) -> int:
        """It has happened here, once more; gives the count."""
        before = self.count(key)
        entry = self._touch(key)
        fresh = entry.own.last_s >= self._now_s() - self._window_s
        entry.own = Seen(entry.own.times + 1 if fresh else 1, self._now_s())
        self._tell(key)
        return before + 1

    def clear(self, key: bytes) -> None:
        """It counts for nothing any more, at any node."""
        if self._entries.pop(key, None) is not None:
            self._tell(key)

    def changes(self) -> bytes | None:
        """What the others do not know yet, and a little of what they should know already; None for nothing at all."""
        keys = [self._changed.popitem(last=False)[0] for _ in range(min(TOLD_AT_ONCE, len(self._changed)))]
        told = [(key, seen.times, self._age_ms(seen)) for key in keys for seen in (self._own(key),)]
        told += self._again()
        packed: bytes | None = msgpack.packb(told) if told else None
        return packed

    def merge(self, peer: str, data: bytes) -> None:
        """What another node tells. Raises ValueError for what is no such thing."""
        told = msgpack.unpackb(data, use_list=False, max_array_len=TOLD_AT_ONCE + TOLD_AGAIN, max_bin_len=KEY_BYTES)
        now_s = self._now_s()
        for key, count, age_ms in told:
            if len(key) != KEY_BYTES or not 0 <= count < MOST_COUNT or not 0 <= age_ms < MOST_AGE_MS:
                raise ValueError("not a count")
            if count:
                self._touch(key).others[peer] = Seen(count, now_s - age_ms / 1000)
            else:
                self._entries.pop(key, None)

    # -- parts

    def _own(self, key: bytes) -> Seen:
        entry = self._entries.get(key)
        return entry.own if entry is not None else Seen(0, self._now_s())

    def _age_ms(self, seen: Seen) -> int:
        return max(0, int((self._now_s() - seen.last_s) * 1000))

    def _again(self) -> list[tuple[bytes, int, int]]:
        """In turn, so that a node that has just started knows after a while what it missed."""
        found = []
        oldest_s = self._now_s() - self._window_s
        for key in islice(self._round, TOLD_AGAIN):
            entry = self._entries.get(key)
            if entry is None:
                continue
            if all(seen.last_s < oldest_s for seen in entry.all()):
                del self._entries[key]
            elif entry.own.times and entry.own.last_s >= oldest_s:
                found.append((key, entry.own.times, self._age_ms(entry.own)))
        if not found:
            self._round = iter(tuple(self._entries))
        return found

    def _touch(self, key: bytes) -> _Entry:
        entry = self._entries.setdefault(key, _Entry())
        self._entries.move_to_end(key)
        while len(self._entries) > REMEMBERED:
            self._entries.popitem(last=False)
        return entry

    def _tell(self, key: bytes) -> None:
        self._changed[key] = None
        while len(self._changed) > REMEMBERED:
            self._changed.popitem(last=False)
