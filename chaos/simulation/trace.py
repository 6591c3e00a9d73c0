"""What happened in a run: the last events as lines for people, and a digest of all of them.

Two runs with the same digest took the same steps; a seed is worth something only while that is so.
"""

from __future__ import annotations

import hashlib
from collections import deque

from chaos.simulation.clock import BEGIN_S, Clock

KEEP = 400


class Trace:
    """Lines are `seconds  node  what`. `limit`: how many of the last are kept; None for all."""

    def __init__(self, clock: Clock, limit: int | None = KEEP) -> None:
        self._clock = clock
        self._lines: deque[str] = deque(maxlen=limit)
        self._digest = hashlib.blake2b(digest_size=8)
        self.steps = 0

    def add(self, who: str, what: str) -> None:
        line = f"{self._clock.now - BEGIN_S:10.6f}  {who:<7} {what}"
        self._lines.append(line)
        self._digest.update(line.encode())
        self.steps += 1

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    def lines(self, last: int | None = None) -> list[str]:
        found = list(self._lines)
        return found if last is None else found[-last:]
