"""How much a filter is asked at one time: others wait, but not for ever, and do not fill the memory meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from nodes.filters.health import Busy


class Room:
    """Bytes of the messages that wait for filters or are with them, all filters of a node together."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._held_bytes = 0

    @contextmanager
    def held(self, size_bytes: int) -> Iterator[None]:
        """Raises Busy if there is no room; there is always some for one message."""
        if self._held_bytes and self._held_bytes + size_bytes > self._most_bytes:
            raise Busy
        self._held_bytes += size_bytes
        try:
            yield
        finally:
            self._held_bytes -= size_bytes


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
