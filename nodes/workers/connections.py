"""Client connections of all processes of a node together, against the limits of the node.

Each process counts its own and tells the node of each address whose count has changed, with the next turn of its event
loop; the node tells the others. So a limit is exceeded by no more than what comes in within a turn of two loops.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable

from nodes.config.node import LimitsSection
from nodes.logins.security import ConnectionLimit

Counts = list[tuple[str, int]]  # by address


class SharedConnections(ConnectionLimit):
    """`tell` is given what has changed here: addresses and how many connections each has now."""

    def __init__(self, limits: LimitsSection, tell: Callable[[Counts], None]) -> None:
        super().__init__(limits)
        self._tell = tell
        self._elsewhere: dict[str, Counter[str]] = {}
        self._sums: Counter[str] = Counter()
        self._sum = 0
        self._changed: set[str] = set()

    @property
    def open(self) -> int:
        """Connections at the moment, of all processes."""
        return self._total + self._sum

    def admit(self, address: str) -> bool:
        here = self._total + self._sum < self._limits.connections
        of_address = self._by_address[address] + self._sums[address]
        if not here or of_address >= self._limits.connections_per_address or not super().admit(address):
            return False
        self._change(address)
        return True

    def release(self, address: str) -> None:
        super().release(address)
        self._change(address)

    def heard(self, teller: str, counts: Iterable[tuple[str, int]]) -> None:
        """Another process has so many connections of these addresses."""
        known = self._elsewhere.setdefault(teller, Counter())
        for address, count in counts:
            change = count - known[address]
            self._sum += change
            for counter in (known, self._sums):
                counter[address] += change
                if counter[address] <= 0:
                    del counter[address]

    def gone(self, teller: str) -> None:
        """Another process has ended, and its connections with it."""
        self.heard(teller, [(address, 0) for address in self._elsewhere.get(teller, ())])
        self._elsewhere.pop(teller, None)

    def of(self, teller: str) -> Counts:
        """What another process has told."""
        return list(self._elsewhere.get(teller, {}).items())

    def _change(self, address: str) -> None:
        if not self._changed:
            asyncio.get_running_loop().call_soon(self._tell_changed)
        self._changed.add(address)

    def _tell_changed(self) -> None:
        changed, self._changed = self._changed, set()
        self._tell([(address, self._by_address.get(address, 0)) for address in changed])
