"""Connections whose first octets are not SMTP: a PROXY header, a TLS handshake, or one after the other.

They are accepted by hand, since each must be counted before it may begin a handshake, and since the PROXY header comes
before anything else. Who is refused before SMTP begins is closed without a word: it would not be understood.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING

from nodes.smtp import replies
from nodes.smtp.connection import Connection
from nodes.smtp.proxy import BadProxyHeader, read_header
from nodes.smtp.wire import TLS_SHUTDOWN_S
from nodes.tls.trust import Trust

if TYPE_CHECKING:
    from nodes.smtp.server import Peer, SmtpListener

ACCEPT_PAUSE_S = 0.1  # after a failed accept: no descriptors are left, and soon there may be


class Door:
    """Accepts the connections of one listening socket."""

    def __init__(self, listener: SmtpListener, listening: socket.socket) -> None:
        config = listener.services.config
        self._listener = listener
        self._listening = listening
        self._behind_proxy = listener.profile.kind in config.smtp.proxy_protocol
        self.reload()
        self._tls = listener.services.tls if listener.profile.implicit_tls else None
        self._waiting: set[asyncio.Task[None]] = set()
        self._accepting = listener.loop.create_task(self._accept())

    def reload(self) -> None:
        """For who comes from now on."""
        config = self._listener.services.config
        self._rules = config.smtp
        self._most = config.limits.connections  # that may be waited for at one time
        self._proxies = Trust(config.smtp.proxy_from)

    def close(self) -> None:
        """Accepts no more."""
        self._accepting.cancel()
        for task in self._waiting:
            task.cancel()
        self._listening.close()

    async def _accept(self) -> None:
        loop = self._listener.loop
        while True:
            try:
                accepted, address = await loop.sock_accept(self._listening)
            except OSError:
                await asyncio.sleep(ACCEPT_PAUSE_S)
                continue
            if len(self._waiting) >= self._most or (self._behind_proxy and not self._proxies.covers(address[0])):
                accepted.close()
                continue
            task = loop.create_task(self._let_in(accepted, (address[0], address[1])))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)

    async def _let_in(self, accepted: socket.socket, peer: Peer) -> None:
        passed_on = False
        try:
            if self._behind_proxy:
                peer = await self._client_of(accepted) or peer
            passed_on = await self._connect(accepted, peer)
        except (BadProxyHeader, OSError, ssl.SSLError, asyncio.CancelledError):
            pass  # an OSError is also a time-out, of the header or of the handshake
        finally:
            if not passed_on:
                with contextlib.suppress(OSError):
                    accepted.close()

    async def _client_of(self, accepted: socket.socket) -> Peer | None:
        async def read_exactly(size: int) -> bytes:
            data = b""
            while len(data) < size:
                part = await self._listener.loop.sock_recv(accepted, size - len(data))
                if not part:
                    raise BadProxyHeader("closed")
                data += part
            return data

        async with asyncio.timeout(self._rules.proxy_s):
            return (await read_header(read_exactly)).peer

    async def _connect(self, accepted: socket.socket, peer: Peer) -> bool:
        """Makes the connection's protocol object, which from then on answers for it; False: one too many."""
        if not self._listener.admit(peer[0]):
            kind = self._listener.profile.kind
            self._listener.services.refusals.note("too_many_connections", listener=kind, client=peer[0])
            if self._tls is None:
                await self._listener.loop.sock_sendall(accepted, replies.TOO_MANY_CONNECTIONS)
            return False
        connection = Connection(self._listener, peer)
        connection.admitted_as = peer[0]
        try:
            await self._listener.loop.connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=self._rules.tls_handshake_s if self._tls else None,
                ssl_shutdown_timeout=TLS_SHUTDOWN_S if self._tls else None,
            )
        finally:
            if connection.transport is None and connection.admitted_as is not None:  # it was never made
                connection.admitted_as = None
                self._listener.release(peer[0])
        return True
