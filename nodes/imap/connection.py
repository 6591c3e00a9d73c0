"""One client's socket: bytes that arrived, bytes to send, and nothing of IMAP.

Bounded in both directions: reading pauses when what arrived is not taken, and `drain` waits for a client that does not
read, for so long and no longer. All of it lives on the event loop.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from nodes.policy.bandwidth import STEP_S

if TYPE_CHECKING:
    from actors.directory import Target
    from nodes.imap.compression import Compression
    from nodes.policy.bandwidth import Flow

INPUT_HIGH_BYTES = 256 * 1024
OUTPUT_HIGH_BYTES = 1024 * 1024
GATHERED_BYTES = 64 * 1024
CLOSE_S = 10.0


class ConnectionLost(Exception):
    """The client has gone, or did not read for too long."""


class Connection(asyncio.Protocol):
    """`opened` is called with the connection once it is there; over TLS, once the handshake is done."""

    def __init__(self, opened: Callable[[Connection], None], secure: bool) -> None:
        self._opened = opened
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._arrived = bytearray()
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._cut_off: asyncio.TimerHandle | None = None
        self._compression: Compression | None = None
        self.written_bytes = 0
        self.flow: Flow | None = None  # what limits it moves within
        self._rested: asyncio.Future[None] | None = None  # it has moved more than it may, and rests until then
        self.secure = secure
        self.ended = False  # the client will send no more
        self.lost = False
        self.peer = ""  # the address without port
        self.peer_port = 0

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's is one without inheriting from it
        self._transport = transport
        transport.set_write_buffer_limits(high=OUTPUT_HIGH_BYTES)
        name = transport.get_extra_info("peername")
        if isinstance(name, tuple):
            self.peer, self.peer_port = str(name[0]), int(name[1])
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._opened(self)

    def data_received(self, data: bytes) -> None:
        self._count(len(data))
        if self._compression is None:
            self._arrived += data
        else:
            self._compression.feed(data)
            self._inflate()
        if (len(self._arrived) > INPUT_HIGH_BYTES or self._is_behind) and self._transport is not None:
            self._transport.pause_reading()
        self.wake()

    def eof_received(self) -> bool:
        self.ended = True
        self.wake()
        return not self.secure  # a client that only stopped sending still gets its answers

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = self.lost = True
        if self._cut_off is not None:
            self._cut_off.cancel()
        self.resume_writing()
        self.hurry()
        self.wake()

    def pause_writing(self) -> None:
        if self._writable is None:
            self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        waiting, self._writable = self._writable, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    # -- reading

    def wake(self) -> None:
        """Ends the present or the next `wait`."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self, timeout_s: float) -> bool:
        """Until bytes arrive, the client ends, or `wake` is called; False when none of it happens in time."""
        if self._arrived or self.ended:
            return True
        self._waiter = self._loop.create_future()
        timer = self._loop.call_later(timeout_s, self._expire, self._waiter, timeout_s)
        try:
            await self._waiter
            return True
        except TimeoutError:
            return False
        finally:
            timer.cancel()
            self._waiter = None

    def _expire(self, waiter: asyncio.Future[None], timeout_s: float) -> None:
        if waiter.done():
            return
        if self._rested is not None:  # it is not silent, it is not read
            self._loop.call_later(timeout_s, self._expire, waiter, timeout_s)
        else:
            waiter.set_exception(TimeoutError())

    @property
    def has_input(self) -> bool:
        return bool(self._arrived)

    def take(self) -> bytes:
        """What arrived since the last call."""
        data = bytes(self._arrived)
        self._arrived.clear()
        self._inflate()
        self._read_again()
        return data

    def _read_again(self) -> None:
        if self._transport is not None and not self.lost and not self._is_behind and self._rested is None:
            self._transport.resume_reading()

    def compress(self, compression: Compression) -> None:
        """From here on, both directions are compressed (RFC 4978)."""
        self.flush()
        self._compression = compression

    @property
    def compressed(self) -> bool:
        return self._compression is not None

    @property
    def _is_behind(self) -> bool:
        """Whether bytes have arrived that stand for more than may be held at a time."""
        return self._compression is not None and self._compression.waits

    def _inflate(self) -> None:
        if self._compression is None:
            return
        try:
            self._arrived += self._compression.inflated(INPUT_HIGH_BYTES - len(self._arrived))
        except zlib.error:
            self.abort()  # nothing that follows can be understood

    @property
    def tls(self) -> ssl.SSLObject | None:
        """The TLS of this connection; None in clear."""
        found = self._transport.get_extra_info("ssl_object") if self._transport is not None else None
        return cast("ssl.SSLObject | None", found)

    # -- writing

    def write(self, data: bytes) -> None:
        """Gathers small pieces; they leave with `drain`, or when there are enough of them."""
        self.written_bytes += len(data)
        self._gathered.append(data)
        self._gathered_bytes += len(data)
        if self._gathered_bytes >= GATHERED_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._gathered and self._transport is not None and not self.lost:
            data = b"".join(self._gathered) if len(self._gathered) > 1 else self._gathered[0]
            data = data if self._compression is None else self._compression.deflated(data)
            self._transport.write(data)
            self._count(len(data))
        self._gathered = []
        self._gathered_bytes = 0

    async def drain(self, timeout_s: float) -> None:
        """Sends what was gathered and waits until the client has taken most of it, and while it rests.

        Raises ConnectionLost.
        """
        self.flush()
        if self._rested is not None:
            await asyncio.shield(self._rested)
        if self._writable is not None:
            try:
                async with asyncio.timeout(timeout_s):
                    await asyncio.shield(self._writable)
            except TimeoutError:
                self.abort()
                raise ConnectionLost("the client does not read") from None
        if self.lost:
            raise ConnectionLost("the client has gone")

    # -- pace

    def belongs_to(self, target: Target) -> None:
        """Somebody has logged in: what is moved from here on counts for them, too."""
        if self.flow is not None:
            self.flow.settle()
            self.flow.target = target

    def hurry(self) -> None:
        """It rests no more: it is to end, or has."""
        if self.flow is not None:
            self.flow.settle()
            self.flow = None
        self._rest_ended()

    def _count(self, size_bytes: int) -> None:
        """So many octets came or went; whoever moves more than they may is neither read nor answered for a while."""
        if self.flow is None or self.flow.moved(size_bytes) <= 0 or self._rested is not None:
            return
        self._rested = self._loop.create_future()
        if self._transport is not None:
            self._transport.pause_reading()
        self._look_at_rest()

    def _look_at_rest(self) -> None:
        owed_s = self.flow.owed_s() if self.flow is not None else 0.0
        if owed_s > 0:
            self._loop.call_later(min(owed_s, STEP_S), self._look_at_rest)
        else:
            self._rest_ended()

    def _rest_ended(self) -> None:
        rested, self._rested = self._rested, None
        if rested is not None and not rested.done():
            rested.set_result(None)
            if len(self._arrived) <= INPUT_HIGH_BYTES:
                self._read_again()

    # -- the rest of its life

    async def start_tls(self, context: ssl.SSLContext, timeout_s: float) -> None:
        """The handshake of STARTTLS. Call it in the same step that wrote the OK. Raises ConnectionLost."""
        self.flush()
        assert self._transport is not None
        try:
            transport = await self._loop.start_tls(
                self._transport, self, context, server_side=True, ssl_handshake_timeout=timeout_s
            )
        except (OSError, ssl.SSLError) as error:
            self.abort()
            raise ConnectionLost(f"TLS handshake failed: {error}") from None
        if transport is None:
            raise ConnectionLost("the client has gone")
        self._transport = transport
        self._transport.set_write_buffer_limits(high=OUTPUT_HIGH_BYTES)
        self.secure = True

    def close(self) -> None:
        """Sends what is left, then closes; a client that does not take it in time is cut off."""
        self.flush()
        if self._transport is not None and not self.lost:
            self._transport.close()
            self._cut_off = self._loop.call_later(CLOSE_S, self.abort)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
