"""How many messages a filter is asked about at one time: others wait, but not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nodes.filters.health import Busy


class Slots:
    """`at_once` of them."""

    def __init__(self, at_once: int) -> None:
        self._free = asyncio.Semaphore(at_once)

    @asynccontextmanager
    async def one(self, patience_s: float) -> AsyncIterator[None]:
        """A slot for the block. Raises Busy if none was free in time."""
        try:
            async with asyncio.timeout(patience_s):
                await self._free.acquire()
        except TimeoutError:
            raise Busy from None
        try:
            yield
        finally:
            self._free.release()
