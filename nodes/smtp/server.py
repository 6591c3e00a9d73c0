"""One SMTP or LMTP listener: the socket, its connections, and what they share.

It opens no other socket than the one it is told to, and ends each connection when it is stopped: at once where no
transaction is under way, after the grace time where one is.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from nodes.config.node import ListenerKind
from nodes.listening import bound_socket, place
from nodes.smtp.commands import COMMANDS, LMTP_COMMANDS
from nodes.smtp.connection import Connection
from nodes.smtp.door import Door
from nodes.smtp.extensions import Extensions, Offer, Standing
from nodes.smtp.intake import Intake
from nodes.smtp.profile import PROFILES, Profile
from nodes.smtp.session import Session
from nodes.tls.trust import Trust
from nodes.trail import Trail

if TYPE_CHECKING:
    from nodes.services import Services

BACKLOG = 1024
HELD_CONTENT_BYTES = 512 * 1024 * 1024  # content that is still arriving, all connections of a listener together
STOP_POLL_S = 0.02

Peer = tuple[str, int]  # IP address and port


class SmtpListener:
    """A front end that listens; `address` is where."""

    def __init__(self, services: Services, profile: Profile, loop: asyncio.AbstractEventLoop) -> None:
        self.services = services
        self.profile = profile
        self.loop = loop
        self.logger = services.logger.bind(listener=profile.kind)
        self.intake = Intake(services, profile)
        self.commands = LMTP_COMMANDS if profile.lmtp else COMMANDS
        self.counted = services.metrics.verbs(profile.kind)  # how many of each command were read
        kind = "LMTP" if profile.lmtp else "ESMTP"
        self.greeting = f"220 {services.config.node.hostname} {kind} mailraft\r\n".encode()
        self._offers_starttls = services.tls is not None and not profile.implicit_tls
        self._heed_rules()
        self.address = ""
        self._server: asyncio.Server | Door | None = None
        self.open_connections: set[Connection] = set()
        self.held_bytes = 0
        self._most_held_bytes = HELD_CONTENT_BYTES // max(1, services.config.node.workers)
        self._stopping = False

    async def listen(self, address: str) -> None:
        """Binds `host:port`. Raises OSError when it can not."""
        if self.profile.implicit_tls or self.profile.kind in self.services.config.smtp.proxy_protocol:
            listening = bound_socket(address, BACKLOG)
            bound, self._server = listening.getsockname(), Door(self, listening)
        else:
            self._server = await self.loop.create_server(self._connect, **place(address, BACKLOG))
            bound = self._server.sockets[0].getsockname()
        self.address = f"[{bound[0]}]:{bound[1]}" if ":" in bound[0] else f"{bound[0]}:{bound[1]}"

    def reload(self) -> None:
        """Sessions go on; from now on by what `services` has now."""
        self._heed_rules()
        self.intake.reload()
        if isinstance(self._server, Door):
            self._server.reload()

    def _heed_rules(self) -> None:
        rules = self.services.config.smtp
        self._extensions = Extensions(self.services.config, self.profile)
        self._priority, self._xclient = Trust(rules.priority_from), Trust(rules.xclient_from)

    def retire(self) -> None:
        """Accept no more; sessions go on."""
        if self._server is not None:
            self._server.close()

    async def stop(self, grace_s: float) -> None:
        """Accept no more; transactions under way may end within `grace_s` seconds."""
        self._stopping = True
        if self._server is not None:
            self._server.close()
        for connection in list(self.open_connections):
            connection.stop()
        deadline_s = self.loop.time() + grace_s
        while self.open_connections and self.loop.time() < deadline_s:
            await asyncio.sleep(STOP_POLL_S)
        for connection in list(self.open_connections):
            connection.abort()
        self.intake.stop()
        await asyncio.sleep(0)

    # What connections ask for

    def _connect(self) -> Connection:
        return Connection(self)

    def new_session(self) -> Session:
        """A session with an identity of its own, for the audit trail and the lines of the log."""
        return Session(self.loop, Trail(self.profile.kind), self.profile)

    def admit(self, address: str) -> bool:
        """Counts a connection from `address`; False when it is one too many."""
        kind = self.profile.kind
        if self._stopping or not self.services.connections.admit(address):
            self.services.metrics.connection_refused(kind)
            return False
        self.services.metrics.connection_opened(kind)
        return True

    def release(self, address: str) -> None:
        """A connection that was admitted as one from `address` has ended."""
        self.services.connections.release(address)
        self.services.metrics.connection_closed(self.profile.kind)

    def opened(self, connection: Connection) -> None:
        """It is to be told when the listener stops."""
        self.open_connections.add(connection)
        if self.services.tracing is not None:
            self.services.tracing.opened(connection.session.trail)

    def closed(self, connection: Connection) -> None:
        """It has ended."""
        self.open_connections.discard(connection)
        if self.services.tracing is not None:
            self.services.tracing.closed(connection.session.trail)

    def hold(self, grown_bytes: int) -> bool:
        """Content in memory has grown by so much; False when that is too much."""
        self.held_bytes += grown_bytes
        return grown_bytes <= 0 or self.held_bytes <= self._most_held_bytes

    def offer(self, session: Session, mechanisms: str) -> Offer:
        """What EHLO or LHLO offers this session; `mechanisms`: those to log in with, "" for none."""
        standing = Standing(
            secure=session.secure,
            starttls=self._offers_starttls and not session.secure,
            mechanisms=mechanisms,
            priority=self._priority.covers(session.client),
            xclient=self._xclient.covers(session.client),
        )
        return self._extensions.offer(standing)

    def trusts_xclient(self, address: str | None) -> bool:
        """Whether a peer at this address may speak for others."""
        return address is not None and self._xclient.covers(address)


async def start(services: Services, kind: ListenerKind, address: str) -> SmtpListener:
    """Opens the listener of this kind (smtp, submission, submissions, lmtp). Raises OSError when it can not bind."""
    logging.getLogger("mail.log").setLevel(logging.WARNING)  # aiosmtpd tells each connection at level INFO
    listener = SmtpListener(services, PROFILES[kind], asyncio.get_running_loop())
    await listener.listen(address)
    return listener
