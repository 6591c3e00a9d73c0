"""The IMAP listeners of a node: sockets, limits, and the tasks of the sessions.

`imaps` speaks TLS from the first byte, `imap` offers STARTTLS. Opens no other socket than the one it is told to.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from eventlog.record import new_id
from nodes.config.node import ListenerKind
from nodes.imap import (
    acl,
    append,
    compression,
    folders,
    idle,
    listing,
    login,
    messages,
    metadata,
    multi_search,
    notify,
    quota,
    searching,
    sorting,
    status,
    sync,
)  # fmt: skip
from nodes.imap.connection import Connection
from nodes.imap.errors import Farewell
from nodes.imap.node_wide import node_wide
from nodes.imap.session import TLS_HANDSHAKE_S, Session
from nodes.imap.shared import Held, Shared
from nodes.listening import place

if TYPE_CHECKING:
    from nodes.services import Services

_BACKLOG = 512
_FAREWELL_S = 0.2

HANDLERS = {
    **login.HANDLERS,
    **folders.HANDLERS,
    **append.HANDLERS,
    **metadata.HANDLERS,
    **quota.HANDLERS,
    **acl.HANDLERS,
    **listing.HANDLERS,
    **idle.HANDLERS,
    **messages.HANDLERS,
    **status.HANDLERS,
    **sync.HANDLERS,
    **compression.HANDLERS,
    **notify.HANDLERS,
    **searching.HANDLERS,
    **sorting.HANDLERS,
    **multi_search.HANDLERS,
}


class ImapListener:
    """One listening socket and the sessions that came through it."""

    def __init__(self, services: Services, kind: ListenerKind) -> None:
        self._services = services
        self._kind = kind
        self._wide = wide = node_wide(services)
        kept = (wide.marks, wide.structures, wide.scans, wide.texts)
        self._shared = Shared(services, kind, *kept, HANDLERS, Held())
        self._sessions: dict[asyncio.Task[None], Session] = {}
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        """`host:port` as bound."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def open(self, address: str) -> None:
        """Raises OSError when the address can not be bound."""
        tls = self._services.tls if self._kind == "imaps" else None
        loop = asyncio.get_running_loop()
        secure = tls is not None
        handshake_s = TLS_HANDSHAKE_S if secure else None
        self._server = await loop.create_server(
            lambda: Connection(self._opened, secure),
            ssl=tls,
            **place(address, _BACKLOG),
            ssl_handshake_timeout=handshake_s,
        )
        self._wide.scans_ahead.begin()

    def reload(self) -> None:
        """Each session reads what `services` has when it begins."""

    def retire(self) -> None:
        """Accepts no more; sessions go on."""
        if self._server is not None:
            self._server.close()

    async def stop(self, grace_s: float) -> None:
        """Accepts no more; each session says BYE, after the command it is at if that ends within `grace_s`."""
        if self._server is not None:
            self._server.close()
        for session in self._sessions.values():
            session.stop()
        tasks = list(self._sessions)
        if tasks:
            await asyncio.wait(tasks, timeout=max(grace_s, _FAREWELL_S))
        for task, session in list(self._sessions.items()):
            session.connection.abort()
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)
        await self._wide.close()

    def _opened(self, connection: Connection) -> None:
        if not self._services.connections.admit(connection.peer):
            self._services.metrics.connection_refused(self._kind)
            self._services.refusals.note("too_many_connections", listener=self._kind, client=connection.peer)
            connection.write(Farewell("too many connections", "UNAVAILABLE").reply())
            connection.close()
            return
        self._services.metrics.connection_opened(self._kind)
        if self._services.bandwidth is not None:
            connection.flow = self._services.bandwidth.flow(connection.peer)
        session = Session(self._shared, connection, new_id().hex())
        task = asyncio.get_running_loop().create_task(session.run())
        self._sessions[task] = session
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        session = self._sessions.pop(task)
        self._services.connections.release(session.connection.peer)
        self._services.metrics.connection_closed(self._kind)


async def start(services: Services, kind: ListenerKind, address: str) -> ImapListener:
    """Opens an `imap` or `imaps` listener. Raises OSError when the address can not be bound."""
    listener = ImapListener(services, kind)
    await listener.open(address)
    return listener
