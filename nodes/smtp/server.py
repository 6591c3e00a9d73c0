"""One SMTP or LMTP listener: the socket, its connections, and what they share.

It opens no other socket than the one it is told to, and ends each connection when it is stopped: at once where no
transaction is under way, after the grace time where one is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from eventlog.record import new_id
from nodes.config import ListenerKind, split_address
from nodes.smtp.commands import COMMANDS, LMTP_COMMANDS
from nodes.smtp.connection import Connection
from nodes.smtp.intake import Intake
from nodes.smtp.profile import PROFILES, Profile
from nodes.smtp.session import Session

if TYPE_CHECKING:
    from nodes.services import Services

BACKLOG = 1024
HELD_CONTENT_BYTES = 512 * 1024 * 1024  # content that is still arriving, all connections of the listener together
STOP_POLL_S = 0.02


class SmtpListener:
    """A front end that listens; `address` is where."""

    def __init__(self, services: Services, profile: Profile, loop: asyncio.AbstractEventLoop) -> None:
        self.services = services
        self.profile = profile
        self.loop = loop
        self.logger = services.logger.bind(listener=profile.kind)
        self.intake = Intake(services, profile)
        self.commands = LMTP_COMMANDS if profile.lmtp else COMMANDS
        self.starttls = None if profile.implicit_tls else services.tls
        self.address = ""
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._held_bytes = 0
        self._stopping = False
        self._capabilities: dict[tuple[bool, str], bytes] = {}
        self._counters: dict[bytes, Callable[[], None]] = {}

    async def listen(self, address: str) -> None:
        """Binds `host:port`. Raises OSError when it can not."""
        host, port = split_address(address)
        ssl = self.services.tls if self.profile.implicit_tls else None
        self._server = await self.loop.create_server(self._connect, host, port, ssl=ssl, backlog=BACKLOG)
        bound = self._server.sockets[0].getsockname()
        self.address = f"[{bound[0]}]:{bound[1]}" if ":" in bound[0] else f"{bound[0]}:{bound[1]}"

    async def stop(self, grace_s: float) -> None:
        """Accept no more; transactions under way may end within `grace_s` seconds."""
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
        self.intake.stop()
        await asyncio.sleep(0)

    # What connections ask for

    def _connect(self) -> Connection:
        return Connection(self)

    def new_session(self) -> Session:
        """A session with an identity of its own for the audit trail."""
        return Session(self.loop, f"{self.profile.kind} session {new_id().hex()}", self.profile)

    def admit(self, connection: Connection) -> bool:
        """Counts a connection; False when it is one too many."""
        kind = self.profile.kind
        if self._stopping or not self.services.connections.admit(connection.session.client):
            self.services.metrics.connection_refused(kind)
            return False
        self._connections.add(connection)
        self.services.metrics.connection_opened(kind)
        return True

    def release(self, connection: Connection) -> None:
        """A connection that was admitted has ended."""
        self._connections.discard(connection)
        self.services.connections.release(connection.session.client)
        self.services.metrics.connection_closed(self.profile.kind)

    def hold(self, grown_bytes: int) -> bool:
        """Content in memory has grown by so much; False when that is too much."""
        self._held_bytes += grown_bytes
        return grown_bytes <= 0 or self._held_bytes <= HELD_CONTENT_BYTES

    def count(self, verb: bytes) -> None:
        """A command was read."""
        counter = self._counters.get(verb)
        if counter is None:
            labels = self.services.metrics.commands_total.labels(self.profile.kind, verb.decode("ascii"))
            counter = self._counters[verb] = labels.inc
        counter()

    def capabilities(self, *, secure: bool, auth: str) -> bytes:
        """The reply to EHLO or LHLO (RFC 5321 4.1.1.1); `auth` is the mechanisms to log in with."""
        known = self._capabilities.get((secure, auth))
        if known is None:
            known = self._capabilities[secure, auth] = self._render_capabilities(secure, auth)
        return known

    def _render_capabilities(self, secure: bool, auth: str) -> bytes:
        lines = [
            self.services.config.node.hostname,
            "PIPELINING",
            f"SIZE {self.services.config.limits.message_bytes}",
            "8BITMIME",
            "SMTPUTF8",
            "ENHANCEDSTATUSCODES",
        ]
        if self.starttls is not None and not secure:
            lines.append("STARTTLS")
        if auth:
            lines.append(f"AUTH {auth}")
        return ("".join(f"250-{line}\r\n" for line in lines) + "250 HELP\r\n").encode("ascii")


async def start(services: Services, kind: ListenerKind, address: str) -> SmtpListener:
    """Opens the listener of this kind (smtp, submission, submissions, lmtp). Raises OSError when it can not bind."""
    logging.getLogger("mail.log").setLevel(logging.WARNING)  # aiosmtpd tells each connection at level INFO
    listener = SmtpListener(services, PROFILES[kind], asyncio.get_running_loop())
    await listener.listen(address)
    return listener
