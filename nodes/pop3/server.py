"""One POP3 listener: the socket and its connections. It opens no other socket than the one it is told to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from nodes.config.node import ListenerKind
from nodes.listening import place
from nodes.pop3.apop import Greetings
from nodes.pop3.connection import Connection
from nodes.pop3.opening import Opener

if TYPE_CHECKING:
    from nodes.services import Services

BACKLOG = 256
STOP_POLL_S = 0.02


class Pop3Listener:
    """A front end that listens; `address` is where."""

    def __init__(self, services: Services, kind: ListenerKind, loop: asyncio.AbstractEventLoop) -> None:
        self.services = services
        self.kind = kind
        self.loop = loop
        self.stls = services.tls if kind == "pop3" else None
        self.opener = Opener(services, kind)
        self.apop = Greetings(services)
        self.address = ""
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._stopping = False

    async def listen(self, address: str) -> None:
        """Binds `host:port`. Raises OSError when it can not."""
        ssl = self.services.tls if self.kind == "pop3s" else None
        self._server = await self.loop.create_server(lambda: Connection(self), ssl=ssl, **place(address, BACKLOG))
        bound = self._server.sockets[0].getsockname()
        self.address = f"[{bound[0]}]:{bound[1]}" if ":" in bound[0] else f"{bound[0]}:{bound[1]}"

    def reload(self) -> None:
        """Each session reads what `services` has when it begins."""

    def retire(self) -> None:
        """Accepts no more; sessions go on."""
        if self._server is not None:
            self._server.close()

    async def stop(self, grace_s: float) -> None:
        """Accept no more; what is under way may end within `grace_s` seconds."""
        self._stopping = True
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.stop()
        deadline_s = self.loop.time() + grace_s
        while self._connections and self.loop.time() < deadline_s:
            await asyncio.sleep(STOP_POLL_S)
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)

    def admit(self, connection: Connection) -> bool:
        """Counts a connection; False when it is one too many."""
        if self._stopping or not self.services.connections.admit(connection.client):
            self.services.metrics.connection_refused(self.kind)
            return False
        self._connections.add(connection)
        self.services.metrics.connection_opened(self.kind)
        return True

    def release(self, connection: Connection) -> None:
        """A connection that was admitted has ended."""
        self._connections.discard(connection)
        self.services.connections.release(connection.client)
        self.services.metrics.connection_closed(self.kind)


async def start(services: Services, kind: ListenerKind, address: str) -> Pop3Listener:
    """Opens the listener of this kind (pop3, pop3s). Raises OSError when it can not bind."""
    listener = Pop3Listener(services, kind, asyncio.get_running_loop())
    await listener.listen(address)
    return listener
