"""What one client's session has told one milter, and what it said.

The milter hears of a client with its first recipient: so a client that brings no mail costs it nothing, and what it
refuses earlier (a client, a HELO, a sender) each recipient is refused for. Everything it was told can be told again,
over another connection, whenever the first one is gone: it was restarted, or others needed its place.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

from nodes.filters import milter_protocol as protocol
from nodes.filters.health import Health
from nodes.filters.milter_connection import MilterConnection
from nodes.filters.milter_pool import Pool
from nodes.filters.milter_protocol import CONTINUE, Change, Command, Decision
from nodes.mime.header import fields, header_end
from nodes.smtp.replies import reply

if TYPE_CHECKING:
    from nodes.smtp.session import Envelope, Session

CHANGED_ITS_MIND = Decision(
    "refuse", reply(451, "4.7.1", "A filter refuses a recipient now, send the message again", error="filter_refused")
)

# stages that a filter asks for macros by (mfapi.h, SMFIM_*)
_STAGES = {
    protocol.CONNECT: 0,
    protocol.HELO: 1,
    protocol.MAIL: 2,
    protocol.RCPT: 3,
    protocol.DATA: 4,
    protocol.END: 5,
    protocol.EOH: 6,
}


class Client(NamedTuple):
    """What a milter's connection is about; with another it has to begin anew."""

    address: str
    helo: str
    secure: bool
    account: str


class Told(NamedTuple):
    """A message as a milter is told of it: our lines for it, the client's bytes, the id that it is known by."""

    lines: bytes
    data: bytes
    message_id: str


class Talk:
    """With one milter, on behalf of one client. Its public methods raise Down."""

    def __init__(self, pool: Pool, health: Health, hostname: str, host_name_of: Callable[[str], str | None]) -> None:
        self._pool = pool
        self._health = health
        self._hostname = hostname
        self._host_name_of = host_name_of
        self._connection: MilterConnection | None = None
        self._client = Client("", "", False, "")
        self._envelope: Envelope | None = None  # the transaction that it knows of
        self._of_client = self._of_message = CONTINUE
        self._works = False
        self._is_over = False

    async def recipient(self, session: Session, envelope: Envelope, address: str) -> Decision:
        """What it says to one more recipient."""
        async with self._working(session) as connection:
            decided = await self._catch_up(connection, session, envelope)
            if decided.move != "continue":
                return decided
            decision = await self._tell(connection, protocol.RCPT, _path(address), {"{rcpt_addr}": address})
            if decision.move in ("accept", "discard"):
                self._of_message = decision
            return decision

    async def message(self, session: Session, envelope: Envelope, told: Told) -> tuple[Decision, list[Change]]:
        """What it says to the message, and what it wants changed."""
        async with self._working(session) as connection:
            decision, changes = await self._catch_up(connection, session, envelope), list[Change]()
            if decision.move == "continue":
                decision = await self._content(connection, told)
            if decision.move == "continue":
                decision, changes = await connection.end(
                    self._asked_for(connection, protocol.END, {"i": told.message_id})
                )
            else:
                connection.abort()
            self._envelope, self._of_message = None, CONTINUE
            return decision, changes

    def let_go(self) -> None:
        """Closes what is open; where it works, as soon as that is done."""
        if self._works:
            self._is_over = True
        elif self._connection is not None:
            self._connection.close()
            self._forget()

    # -- parts

    @asynccontextmanager
    async def _working(self, session: Session) -> AsyncIterator[MilterConnection]:
        client = _client_of(session)
        if self._connection is not None and (client != self._client or self._connection.has_ended()):
            self.let_go()
        self._client = client
        self._works = True
        self._pool.works(self)
        has_place = self._connection is not None
        try:
            if not has_place:
                await self._pool.take()
                has_place = True
            async with self._health.asked(self._pool.limits.message_s):
                if self._connection is None:
                    self._connection = await self._pool.open()
                    self._of_client = await self._introduce(self._connection, session)
                yield self._connection
        except BaseException:
            self._works = False
            if self._connection is not None:
                self.let_go()
            elif has_place:
                self._forget()
            raise
        self._works = False
        if self._is_over:
            self.let_go()
        else:
            self._pool.idles(self)

    def _forget(self) -> None:
        self._connection = self._envelope = None
        self._of_client = self._of_message = CONTINUE
        self._pool.give_back(self)

    async def _introduce(self, connection: MilterConnection, session: Session) -> Decision:
        """CONNECT and HELO; what it decides of the client."""
        address = self._client.address
        name = session.client_name or self._host_name_of(address) or ""
        known = {"j": self._hostname, "v": "mailraft", "{daemon_name}": session.profile.kind}
        known |= {"{client_addr}": address, "{client_name}": name or "unknown", "_": f"{name or 'unknown'} [{address}]"}
        told = protocol.connection_data(name, address)
        decision = await self._tell(connection, protocol.CONNECT, told, known)
        if decision.move != "continue":
            return decision
        cipher, version, bits = session.cipher or ("", "", 0)
        tls = {"{tls_version}": version, "{cipher}": cipher, "{cipher_bits}": str(bits or "")}
        return await self._tell(connection, protocol.HELO, protocol.text(self._client.helo), tls)

    async def _catch_up(self, connection: MilterConnection, session: Session, envelope: Envelope) -> Decision:
        """It knows of the transaction; what it has decided of it already."""
        if self._of_client.move != "continue":
            return self._of_client
        if self._envelope is not envelope:
            if self._envelope is not None:
                connection.abort()
            self._envelope = envelope
            self._of_message = await self._begin(connection, envelope)
        return self._of_message

    async def _begin(self, connection: MilterConnection, envelope: Envelope) -> Decision:
        """MAIL, and the recipients that were taken before it could be asked."""
        sender = envelope.mail_from or ""
        known = {"{mail_addr}": sender, "{auth_authen}": self._client.account}
        if self._client.account:
            known["{auth_type}"] = "SASL"
        parameters = ["SMTPUTF8"] if envelope.smtp_utf8 else []
        decision = await self._tell(connection, protocol.MAIL, _path(sender) + protocol.texts(parameters), known)
        for recipient in envelope.rcpt_tos:
            if decision.move != "continue":
                return decision
            decision = await self._tell(connection, protocol.RCPT, _path(recipient), {"{rcpt_addr}": recipient})
            if decision.move == "refuse":
                return CHANGED_ITS_MIND
        return decision

    async def _content(self, connection: MilterConnection, told: Told) -> Decision:
        """From DATA to the last of the body."""
        macros = {"i": told.message_id}
        decision = await self._tell(connection, protocol.DATA, b"", macros)
        end = header_end(told.data, 0, len(told.data))
        for name, value in (*header_fields(told.lines, len(told.lines)), *header_fields(told.data, end)):
            if decision.move != "continue":
                return decision
            data = protocol.header_data(name, value, connection.agreed.steps)
            decision = await connection.tell(protocol.HEADER, data)
        if decision.move == "continue":
            decision = await self._tell(connection, protocol.EOH, b"", macros)
        for at in range(end, len(told.data), protocol.CHUNK_BYTES):
            if decision.move != "continue":
                break
            decision = await connection.tell(protocol.BODY, told.data[at : at + protocol.CHUNK_BYTES])
        return CONTINUE if decision.move == "skip" else decision

    async def _tell(
        self, connection: MilterConnection, command: Command, data: bytes, known: protocol.Macros
    ) -> Decision:
        return await connection.tell(command, data, self._asked_for(connection, command, known))

    def _asked_for(self, connection: MilterConnection, command: Command, known: protocol.Macros) -> protocol.Macros:
        wanted = connection.agreed.wanted.get(_STAGES[command])
        return known if wanted is None else {name: value for name, value in known.items() if name in wanted}


def header_fields(data: bytes, end: int) -> Iterator[tuple[bytes, bytes]]:
    """The name of each field as it is written, and what stands after its colon."""
    for one in fields(data, 0, end):
        yield (
            data[one.start : one.value - 1].rstrip(b" \t"),
            data[one.value : one.end].removesuffix(b"\n").removesuffix(b"\r"),
        )


def _client_of(session: Session) -> Client:
    account = session.account.address if session.account is not None else ""
    return Client(session.client.partition("%")[0], session.host_name, session.secure, account)


def _path(address: str) -> bytes:
    return protocol.text(f"<{address}>")
