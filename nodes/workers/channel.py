"""One end of the socket between a node and a worker: frames as between nodes (eventlog/frames.py), in both directions.

Whatever is wrong with what comes in, or an other end that does not read, ends the channel, and with it the worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import structlog

from eventlog.errors import FrameError
from eventlog.frames import FrameReader, frame_parts

MOST_UNREAD_BYTES = 64 * 1024 * 1024  # sent and not read by the other end

Message = dict[str, Any]

_log = structlog.get_logger("mailraft.workers")


class Channel(asyncio.Protocol):
    """`take` gets each message, in order; `lost` is called once, with why."""

    def __init__(self, take: Callable[[Message], None], lost: Callable[[str], None]) -> None:
        self._take = take
        self._lost = lost
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._why = "the other end closed it"

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def send(self, message: Message) -> None:
        """Nothing where the channel is closed."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        try:
            transport.writelines(frame_parts(message))
        except FrameError as error:
            self.abort(str(error))
            return
        if transport.get_write_buffer_size() > MOST_UNREAD_BYTES:
            self.abort("the other end does not read")

    def close(self) -> None:
        """What was sent still goes."""
        if self._transport is not None:
            self._transport.close()

    def abort(self, why: str) -> None:
        """At once; `lost` is told why."""
        self._why = why
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one without saying so

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._reader.feed(data):
                self._take(message)
        except Exception as error:
            _log.error("a message between the node and a worker can not be used", error=repr(error), exc_info=True)
            self.abort(repr(error))

    def connection_lost(self, error: Exception | None) -> None:
        self._lost(str(error) if error is not None else self._why)
