"""The wire of a POP3 connection: what comes is held until it is wanted, what goes waits while the client does not read.

Nothing is buffered without bound in either direction, and whoever moves more than they may rests for a while.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from nodes.policy.bandwidth import STEP_S

if TYPE_CHECKING:
    from nodes.policy.bandwidth import Flow
    from nodes.pop3.events import Answer
    from nodes.services import Services

HELD_INPUT_BYTES = 64 * 1024


class Gone(Exception):
    """The client has closed the connection."""


class Wire(asyncio.Protocol):
    """The bytes of one client."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._transport: Any = None
        self._input = bytearray()
        self._news = asyncio.Event()  # input has come, or the client has gone
        self._writable = asyncio.Event()
        self._writable.set()
        self._gone = False
        # what is said before the connection is closed, as soon as nothing is under way
        self._ending: Answer | None = None
        self._flow: Flow | None = None
        self._slowed = False  # it has moved more than it may

    # asyncio's side

    def data_received(self, data: bytes) -> None:
        """Input is held until the session wants it."""
        self._count(len(data))
        self._input += data
        self._news.set()
        if len(self._input) > HELD_INPUT_BYTES and self._transport.is_reading():
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """The client sends no more: as if it had gone, once what it asked for is answered."""
        self._gone = True
        self._news.set()
        return not self._is_secure()

    def connection_lost(self, error: Exception | None) -> None:
        """The client has gone."""
        self._gone = True
        self._news.set()
        self._writable.set()

    def pause_writing(self) -> None:
        """The client reads slower than we write."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._writable.set()

    # the session's side

    async def _send(self, data: bytes) -> None:
        """Writes, then waits while the client does not read, or has moved more than it may. Raises Gone."""
        self._transport.write(data)
        self._count(len(data))
        await self._rest()
        if not self._writable.is_set():
            try:
                async with asyncio.timeout(self._services.config.limits.pop3_idle_s):
                    await self._writable.wait()
            except TimeoutError:
                raise Gone from None
        if self._transport.is_closing():
            raise Gone

    def _count(self, size_bytes: int) -> None:
        """So many octets came or went."""
        if self._flow is not None and self._flow.moved(size_bytes) > 0:
            self._slowed = True

    async def _rest(self) -> None:
        """Waits until no more was moved than may be: nothing is read or sent meanwhile."""
        while self._slowed and self._flow is not None:
            owed_s = self._flow.owed_s()
            self._slowed = owed_s > 0 and not self._gone and not self._ending
            if self._slowed:
                await asyncio.sleep(min(owed_s, STEP_S))

    def _is_secure(self) -> bool:
        return self._transport.get_extra_info("sslcontext") is not None
