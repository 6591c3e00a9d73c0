"""The connections to one milter: so many at one time. Those that idle make room for what is needed; others wait."""

from __future__ import annotations

import asyncio
from typing import Protocol

from nodes.filters.health import Busy
from nodes.filters.milter_connection import Limits, MilterConnection


class Holder(Protocol):
    """Who holds a connection; it can do without one that idles, and open another later."""

    def let_go(self) -> None: ...


class Pool:
    """`take` before a connection is opened, `give_back` once it is closed; between, say when it is idle."""

    def __init__(self, address: str, limits: Limits, most: int) -> None:
        self.limits = limits
        self._address = address
        self._free = asyncio.Semaphore(most)
        self._idle: dict[Holder, None] = {}  # the one that idles longest first
        self._waiting = 0

    async def take(self) -> None:
        """Makes room for one more. Raises Busy if there was none in time."""
        if self._free.locked() and self._idle:
            next(iter(self._idle)).let_go()
        self._waiting += 1
        try:
            async with asyncio.timeout(self.limits.connect_s):
                await self._free.acquire()
        except TimeoutError:
            raise Busy from None
        finally:
            self._waiting -= 1

    async def open(self) -> MilterConnection:
        """Raises what MilterConnection.open does."""
        return await MilterConnection.open(self._address, self.limits)

    def give_back(self, holder: Holder) -> None:
        """Its connection is closed."""
        self._idle.pop(holder, None)
        self._free.release()

    def works(self, holder: Holder) -> None:
        self._idle.pop(holder, None)

    def idles(self, holder: Holder) -> None:
        """It needs its connection again perhaps; but who waits needs one now."""
        if self._waiting:
            holder.let_go()
        else:
            self._idle[holder] = None

    def close(self) -> None:
        """All that idle."""
        for holder in list(self._idle):
            holder.let_go()
