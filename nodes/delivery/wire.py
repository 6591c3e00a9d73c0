"""One TCP connection to an SMTP server: commands and content out, replies in, each wait with its limit.

An asyncio protocol around the reply parser. It knows nothing of what commands mean (client.py does). TLS begins on the
same object (RFC 3207); whatever came in clear behind the reply to STARTTLS is an attack and ends the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import Iterator
from typing import cast

from nodes.delivery.replies import BadReply, Reply, ReplyParser

WRITE_BUFFER_BYTES = 256 * 1024
UNASKED_REPLIES = 4  # beyond what was asked for: a 421 or two are fair, more is noise


class PeerFailed(Exception):
    """The session is over without an answer: the text says why, as in "no reply to MAIL within 300 s"."""


class ConnectionLost(PeerFailed):
    """The peer closed the connection, or the network did."""


class Stalled(PeerFailed):
    """The peer let the time for its answer pass, or reads nothing."""


class ProtocolError(PeerFailed):
    """The peer does not speak SMTP."""


class TlsFailed(PeerFailed):
    """The handshake failed; `error` says why where the TLS library did."""

    def __init__(self, text: str, error: BaseException | None = None) -> None:
        super().__init__(text)
        self.error = error


class Wire(asyncio.Protocol):
    """Made by `open_wire`. Not safe for two tasks at a time."""

    def __init__(self) -> None:
        self._parser = ReplyParser()
        self._replies: deque[Reply] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._failure: PeerFailed | None = None
        self._expected = 1  # replies that the peer still owes us; the greeting is the first
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)

    def data_received(self, data: bytes) -> None:
        try:
            self._replies.extend(self._parser.feed(data))
            if len(self._replies) > self._expected + UNASKED_REPLIES:
                raise BadReply("replies that nothing was asked for")
        except BadReply as error:
            self._fail(ProtocolError(str(error)))
        self._wake()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(ConnectionLost(str(error) if error else "the server closed the connection"))

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # What the client uses

    @property
    def is_idle(self) -> bool:
        """Open, and nothing has come that was not asked for: fit for another message."""
        return self._failure is None and not self._replies and self._parser.is_between_replies and not self._expected

    @property
    def has_spoken(self) -> bool:
        """A reply is there, or the connection is gone: what is being sent may be in vain."""
        return bool(self._replies) or self._failure is not None

    @property
    def ssl_object(self) -> ssl.SSLObject | None:
        found: ssl.SSLObject | None = self._open.get_extra_info("ssl_object")
        return found

    def send(self, data: bytes, replies: int = 1) -> None:
        """Commands, to which so many replies are owed. Never waits."""
        self._expected += replies
        if self._failure is None:
            self._open.write(data)

    async def send_content(self, data: bytes, timeout_s: float) -> None:
        """A part of a message, when the peer takes it. Raises Stalled, ConnectionLost."""
        if self._failure is not None:
            raise self._failure
        self._open.write(data)
        if self._writable.is_set():
            await asyncio.sleep(0)  # what the server says meanwhile is heard, and others have their turn
        else:
            with self._limit(timeout_s, "the server reads no more of the message"):
                async with asyncio.timeout(timeout_s):
                    await self._writable.wait()
        if self._failure is not None:
            raise self._failure

    async def reply(self, to: str, timeout_s: float) -> Reply:
        """The next reply; `to` names what it answers. Raises PeerFailed."""
        with self._limit(timeout_s, f"no reply to {to}"):
            async with asyncio.timeout(timeout_s):
                while not self._replies:
                    if self._failure is not None:
                        raise type(self._failure)(f"{self._failure} ({to})")
                    self._waiter = asyncio.get_running_loop().create_future()
                    await self._waiter
        self._expected -= 1
        return self._replies.popleft()

    async def start_tls(self, context: ssl.SSLContext, server_hostname: str | None, timeout_s: float) -> None:
        """The handshake. Raises TlsFailed, after which the connection is closed."""
        if not self.is_idle:
            self.close()
            raise TlsFailed("the server sent something in clear behind its reply to STARTTLS")
        loop, plain = asyncio.get_running_loop(), self._open
        plain.pause_reading()
        try:
            async with asyncio.timeout(timeout_s):
                secure = await loop.start_tls(plain, self, context, server_hostname=server_hostname)
        except (OSError, TimeoutError, ssl.SSLError, asyncio.IncompleteReadError) as error:
            self.close()
            raise TlsFailed(_tls_reason(error), error) from None
        if secure is None:  # lost meanwhile
            raise TlsFailed("the connection was lost in the TLS handshake")
        self._transport = secure

    def close(self) -> None:
        """At once; what is not sent is not sent."""
        self._fail(ConnectionLost("closed"))
        if self._transport is not None:
            self._transport.abort()

    @property
    def _open(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport

    @contextlib.contextmanager
    def _limit(self, timeout_s: float, text: str) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            self.close()
            raise Stalled(f"{text} within {timeout_s:g} s") from None

    def _fail(self, failure: PeerFailed) -> None:
        self._failure = self._failure or failure
        self._writable.set()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


async def open_wire(connected: socket.socket) -> Wire:
    """A wire over a socket that is connected."""
    loop = asyncio.get_running_loop()
    _, wire = await loop.create_connection(Wire, sock=connected)
    return wire


def _tls_reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not valid: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS handshake: {(error.reason or str(error)).replace('_', ' ').lower()}"
    if isinstance(error, TimeoutError):
        return "the TLS handshake took too long"
    return f"the connection was lost in the TLS handshake ({error})"
