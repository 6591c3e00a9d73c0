"""Messages between the nodes of a cell: one outgoing connection to each peer, over mutual TLS, on the event loop.

A peer is who its certificate says it is. What a connection loses, Raft sends again; nothing here retries. Messages are
written only when they are handed over, which the tick does after its fsync.

A connection is taken from any node of this cell: one that is unknown here may lead, in a configuration that has not
arrived yet. What it may say is for the engine to decide. It is answered on its own connection: its address is unknown.
One that was removed is refused in the handshake, by who made the contexts; that alert is how it learns of it.
"""

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

import structlog

from eventlog.errors import FrameError
from eventlog.frames import FrameReader, frame_parts

PeerName = Callable[[Any], str | None]  # the TLS object of a connection -> the node's name, if it is one of this cell
RECONNECT_S = (0.05, 1.0)
CONNECT_TIMEOUT_S = 3.0
CLOSE_TIMEOUT_S = 1.0  # a peer in the middle of its handshake does not keep a node from stopping
STEADY_S = 1.0  # a connection that lived so long was a good one
SILENCE_MS = 5000
MAX_UNSENT_BYTES = 64 * 1024 * 1024
REVOKED = "ALERT_CERTIFICATE_REVOKED"  # in libssl's name of the alert, whatever stands before

_log = structlog.get_logger("mailraft.transport")


class _Messages(asyncio.Protocol):
    """Messages that come in on a connection, from whichever side it was made."""

    def __init__(self, owner: "PeerTransport") -> None:
        self._owner = owner
        self._reader = FrameReader()
        self._peer: str | None = None
        self._transport: asyncio.Transport | None = None

    def data_received(self, data: bytes) -> None:
        if self._peer is None or self._transport is None:
            return
        try:
            for message in self._reader.feed(data):
                self._owner.on_message(self._peer, message)
        except FrameError as error:
            _log.warning("peer disconnected", peer=self._peer, reason=str(error))
            self._transport.abort()


class _Incoming(_Messages):
    """A peer's connection to us. We write to it only if we have none of our own to that peer."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class is not a subclass of asyncio's
        self._peer = self._owner.identify(transport)
        if self._peer is None:
            _log.warning("peer refused", code="peer_refused", reason="its certificate names no node of this cell")
            self._transport.abort()
            return
        self._owner.incoming[self._transport] = self._peer

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.incoming.pop(self._transport, None)


class _Outgoing(_Messages):
    """Our connection to a peer, who answers on one of its own if it knows our address, and else on this."""

    def __init__(self, owner: "PeerTransport") -> None:
        super().__init__(owner)
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def begin(self, peer: str, transport: asyncio.Transport) -> None:
        """The other side has proved to be `peer`."""
        self._peer, self._transport = peer, transport

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)
        if isinstance(exc, ssl.SSLError) and REVOKED in (exc.reason or ""):
            self._owner.on_revoked()


class PeerTransport:
    """Keeps one connection to every peer. Callbacks run on the event loop."""

    def __init__(
        self,
        name: str,
        listen: str,
        peers: Mapping[str, str],
        *,
        server_ssl: ssl.SSLContext,
        client_ssl: ssl.SSLContext,
        peer_name: PeerName,
        on_message: Callable[[str, dict[str, Any]], None],
        on_connected: Callable[[str], None],
        on_disconnected: Callable[[str], None],
        on_revoked: Callable[[], None] = lambda: None,
    ) -> None:
        """on_revoked: a peer, which has proved to be one, refuses this node's certificate as revoked."""
        self.name = name
        self._listen = listen
        self._peers: dict[str, str] = {}
        self._first_peers = peers
        self._server_ssl = server_ssl
        self._client_ssl = client_ssl
        self._peer_name = peer_name
        self.on_message = on_message
        self._on_connected = on_connected
        self._on_disconnected = on_disconnected
        self.on_revoked = on_revoked
        self._links: dict[str, asyncio.Transport] = {}
        self._protocols: dict[str, _Outgoing] = {}
        self.incoming: dict[asyncio.Transport | None, str] = {}
        self._encoded: tuple[dict[str, Any], tuple[bytes, ...]] = ({}, ())
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._server: asyncio.Server | None = None
        self._stopping = False

    async def start(self) -> None:
        """Listens and begins to connect. Raises OSError if the address can not be bound."""
        loop = asyncio.get_running_loop()
        host, port = split_address(self._listen)
        self._server = await loop.create_server(lambda: _Incoming(self), host, port, ssl=self._server_ssl)
        self.connect_to(self._first_peers)

    def connect_to(self, peers: Mapping[str, str]) -> None:
        """Connects to these, by name and address, and to no others."""
        wanted = {peer: address for peer, address in peers.items() if peer != self.name}
        for peer in [peer for peer, address in self._peers.items() if wanted.get(peer) != address]:
            self._tasks.pop(peer).cancel()
        added = [peer for peer, address in wanted.items() if self._peers.get(peer) != address]
        self._peers = wanted
        for peer in sorted(added):
            self._tasks[peer] = asyncio.get_running_loop().create_task(self._keep_connected(peer))

    def recheck(self) -> None:
        """Ends connections with those whose certificates are not good any more; a member makes another at once."""
        for transport in [*self._links.values(), *self.incoming]:
            if transport is not None and not transport.is_closing() and self.identify(transport) is None:
                _log.warning("peer disconnected", reason="its certificate is not taken any more")
                transport.abort()

    async def stop(self) -> None:
        self._stopping = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for transport in [*self._links.values(), *self.incoming]:
            if transport is not None:
                transport.abort()
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._server.wait_closed(), CLOSE_TIMEOUT_S)

    def is_connected(self, peer: str) -> bool:
        return peer in self._links

    def send(self, peer: str, message: dict[str, Any]) -> bool:
        """Hands a message over; False if there is no connection. A peer that does not read is disconnected.

        What goes to several peers in a row (a leader's entries) is encoded once.
        """
        transport = self._links.get(peer) if peer in self._peers else self._incoming_from(peer)
        if transport is None:
            return False
        if transport.is_closing():
            self._lost_unheard(peer)
            return False
        if transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            _log.warning("peer disconnected", peer=peer, reason="it does not read")
            transport.abort()
            return False
        if message != self._encoded[0]:
            self._encoded = (message, frame_parts(message))
        transport.writelines(self._encoded[1])
        return True

    def _lost_unheard(self, peer: str) -> None:
        """A connection that is closed may not say so (the call that would have told us failed): another is made."""
        protocol = self._protocols.get(peer)
        if protocol is not None:
            protocol.connection_lost(None)

    def _incoming_from(self, peer: str) -> asyncio.Transport | None:
        """Where to answer one whose address is not known."""
        return next((transport for transport, name in self.incoming.items() if name == peer), None)

    def identify(self, transport: asyncio.BaseTransport) -> str | None:
        """The name in the peer's certificate, if it is that of another node of this cell."""
        name = self._peer_name(transport.get_extra_info("ssl_object"))
        return name if name != self.name else None

    async def _keep_connected(self, peer: str) -> None:
        delay_s = RECONNECT_S[0]
        while True:
            began_s = time.monotonic()
            with contextlib.suppress(OSError, asyncio.TimeoutError):
                await self._connect(peer)
            if time.monotonic() - began_s > STEADY_S:
                delay_s = RECONNECT_S[0]
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, RECONNECT_S[1])

    async def _connect(self, peer: str) -> None:
        """One connection from its beginning to its end."""
        host, port = split_address(self._peers[peer])
        connecting = asyncio.get_running_loop().create_connection(
            lambda: _Outgoing(self), host, port, ssl=self._client_ssl, server_hostname=host
        )
        async with asyncio.timeout(CONNECT_TIMEOUT_S):  # before Python 3.12, wait_for may swallow a cancellation
            transport, protocol = await connecting
        if self.identify(transport) != peer:
            _log.warning("peer refused", code="peer_refused", peer=peer, reason="its certificate is for another name")
            transport.abort()
            return
        _limit_silence(transport)
        protocol.begin(peer, transport)
        self._links[peer], self._protocols[peer] = transport, protocol
        self._on_connected(peer)
        try:
            await protocol.lost
        finally:
            self._links.pop(peer, None)
            self._protocols.pop(peer, None)
            if self._stopping:
                transport.abort()
            else:
                transport.close()  # what was handed over still leaves
            self._on_disconnected(peer)


def _limit_silence(transport: asyncio.BaseTransport) -> None:
    """A peer that acknowledges nothing for so long is gone, whatever TCP hopes for."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_MS)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port`; an IPv6 host stands in brackets."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
