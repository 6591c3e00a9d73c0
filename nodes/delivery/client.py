"""An SMTP client (RFC 5321): a session with one server, and message after message over it.

Commands are pipelined where the server takes that (RFC 2920), content is streamed. What is known of a recipient is kept
apart from what happened to the connection: a peer that goes away between two replies has still said the first. After
the end of a message no outcome is assumed: without a reply it is unknown.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from actors.mail_options import MailOptions, RecipientOptions
from nodes.config.delivery import DeliverySection
from nodes.delivery import parameters
from nodes.delivery.attempt import Read
from nodes.delivery.content import DotStuffing, has_ascii_header, is_ascii, opened
from nodes.delivery.parameters import Features, Unsendable
from nodes.delivery.replies import Reply, features
from nodes.delivery.wire import PeerFailed, ProtocolError, Wire

CLOSING = 421
QUIT_TIMEOUT_S = 2.0

Status = Literal["delivered", "deferred", "failed", "unknown"]


class Refused(PeerFailed):
    """The server takes no mail from us in this session: its greeting, EHLO, STARTTLS or AUTH got this reply."""

    def __init__(self, stage: str, reply: Reply) -> None:
        super().__init__(f"{reply.text} (in reply to {stage})")
        self.stage = stage
        self.reply = reply


class Answer(NamedTuple):
    """What is known of one recipient."""

    status: Status
    code: int
    enhanced: str
    text: str


class Message(NamedTuple):
    """One transaction."""

    sender: str
    recipients: tuple[tuple[str, RecipientOptions], ...]
    size: int
    read: Read
    options: MailOptions


@dataclass
class Sent:
    """What became of a transaction. `failure`: the session ended in it. `reached`: some reply to it came."""

    answers: dict[str, Answer] = field(default_factory=dict)
    failure: PeerFailed | None = None
    reached: bool = False

    def of_rest(self, recipients: list[str], answer: Answer) -> None:
        """For whom nothing is known yet, this is."""
        for address in recipients:
            self.answers.setdefault(address, answer)


class Session:
    """A conversation over `wire` with the server `host` (its name, or its address in brackets)."""

    def __init__(self, wire: Wire, host: str, config: DeliverySection) -> None:
        self.wire = wire
        self.host = host
        self.address = ""
        self.offered: Features = {}
        self.messages = 0
        self.opened_s = time.monotonic()
        self.tls = ""  # protocol, cipher and how the server was verified, once TLS is spoken
        self.verified = ""  # by whom: "nobody", "pkix", "dane"
        self._config = config
        self._name = ""
        self._needs_reset = False
        self._is_closing = False

    @property
    def is_reusable(self) -> bool:
        """Whether another message may follow."""
        most = parameters.most_messages(self.offered) or self._config.messages_per_connection
        young = time.monotonic() - self.opened_s < self._config.connection_age_s
        full = self.messages >= min(most, self._config.messages_per_connection)
        return self.wire.is_idle and not self._is_closing and young and not full

    async def greet(self, name: str) -> None:
        """The greeting and EHLO by our `name`, or HELO where that is all the server knows. Raises PeerFailed."""
        greeting = await self.wire.reply("the connection", self._config.greeting_timeout_s)
        if not greeting.is_positive:
            raise Refused("the connection", greeting)
        self._name = name
        await self._hello()

    async def start_tls(self, context: ssl.SSLContext, server_hostname: str | None) -> None:
        """STARTTLS and EHLO once more (RFC 3207). Raises PeerFailed, TlsFailed among them."""
        reply = await self._command("STARTTLS", "STARTTLS")
        if reply.code != 220:
            raise Refused("STARTTLS", reply)
        await self.wire.start_tls(context, server_hostname, self._config.tls_timeout_s)
        secure = self.wire.ssl_object
        cipher = secure.cipher() if secure is not None else None
        self.tls = f"{cipher[1]} {cipher[0]}" if cipher else "TLS"
        await self._hello()

    async def send(self, message: Message, sent: Sent) -> None:
        """One transaction; `sent` is filled as it goes on. Raises Unsendable where the server lacks what it needs."""
        lines, recipients = await self._lines(message, sent)
        if not recipients:
            return
        self.messages += 1
        try:
            await self._transact(message, lines, recipients, sent)
        except PeerFailed as failure:
            sent.failure = failure
            self._is_closing = True
            sent.of_rest(recipients, Answer("deferred", 0, "4.4.2", str(failure)))

    async def quit(self) -> None:
        """Says goodbye, and waits for no more than a moment."""
        if self.wire.is_idle:
            with contextlib.suppress(PeerFailed):
                self.wire.send(b"QUIT\r\n")
                await self.wire.reply("QUIT", QUIT_TIMEOUT_S)
        self.wire.close()

    async def command(self, line: str, stage: str) -> Reply:
        """One command of an extension, and its reply. Raises PeerFailed."""
        return await self._command(line, stage)

    async def _hello(self) -> None:
        reply = await self._command(f"EHLO {self._name}", "EHLO")
        if reply.is_positive:
            self.offered = features(reply)
            return
        if not reply.is_permanent or self.tls:
            raise Refused("EHLO", reply)
        self.offered = {}
        reply = await self._command(f"HELO {self._name}", "HELO")
        if not reply.is_positive:
            raise Refused("HELO", reply)

    async def _lines(self, message: Message, sent: Sent) -> tuple[list[bytes], list[str]]:
        """MAIL and each RCPT, and whose they are; for whom there is none, `sent` says why. Raises Unsendable."""
        offered, options = self.offered, message.options
        if options.body == "8BITMIME" and "8BITMIME" not in offered and not await is_ascii(message.read):
            raise Unsendable(554, "5.6.3", "the message has 8-bit content, which the server does not take")
        forms = {address: parameters.ascii_address(address) for address, _ in message.recipients}
        sender, needed = parameters.ascii_address(message.sender), False
        if options.utf8 or sender is None or None in forms.values():
            needed = "SMTPUTF8" in offered or sender is None or not await has_ascii_header(message.read)
        if needed:
            forms, sender = {address: address for address in forms}, message.sender
        now_ms = time.time_ns() // 1_000_000
        assert sender is not None
        lines = [parameters.mail_line(sender, message.size, options, offered, utf8=needed, now_ms=now_ms)]
        for address, asked in message.recipients:
            form = forms[address]
            if form is None or not parameters.is_sendable(form):
                text = "the address needs SMTPUTF8, which the server does not offer" if form is None else "bad address"
                sent.answers[address] = Answer("failed", 553, "5.6.7" if form is None else "5.1.3", text)
                continue
            lines.append(parameters.rcpt_line(form, asked, offered, utf8=needed))
        return lines, [address for address in forms if address not in sent.answers]

    async def _transact(self, message: Message, lines: list[bytes], recipients: list[str], sent: Sent) -> None:
        chunked = message.options.body == "BINARYMIME"
        pipelined = "PIPELINING" in self.offered
        await self._begin()
        queue = [*lines, b"DATA"] if not chunked else lines
        if pipelined:
            self.wire.send(b"\r\n".join(queue) + b"\r\n", len(queue))
        mail = await self._next(lines[0], "MAIL", pipelined)
        sent.reached = self._needs_reset = True
        accepted = []
        if mail.is_positive or pipelined:
            for address, line in zip(recipients, lines[1:], strict=True):
                reply = await self._next(line, "RCPT", pipelined)
                if not mail.is_positive:
                    continue
                if reply.is_positive:
                    accepted.append(address)
                else:
                    sent.answers[address] = answer_of(reply, "RCPT")
        if not mail.is_positive:
            sent.of_rest(recipients, answer_of(mail, "MAIL"))
        if chunked:
            if accepted:
                await self._send_chunks(message, accepted, sent)
        elif pipelined or accepted:
            data = await self._next(b"DATA", "DATA", pipelined, self._config.data_timeout_s)
            await self._after_data(data, message, accepted, sent)

    async def _begin(self) -> None:
        """RSET where the last transaction was left in the middle."""
        if self._needs_reset:
            self.wire.send(b"RSET\r\n")
            reset = await self._reply("RSET", self._config.command_timeout_s)
            if not reset.is_positive:
                raise ProtocolError(f"{reset.text} (in reply to RSET)")
        self._needs_reset = False

    async def _after_data(self, data: Reply, message: Message, accepted: list[str], sent: Sent) -> None:
        if data.code != 354:
            sent.of_rest(accepted, answer_of(data, "DATA"))
            return
        if not accepted:  # all were refused, but DATA was on its way (RFC 2920 3.1)
            self.wire.send(b".\r\n")
            await self._reply("the end of nothing", self._config.end_timeout_s)
            return
        await self._send_content(message, accepted, sent)

    async def _send_content(self, message: Message, accepted: list[str], sent: Sent) -> None:
        stuffing, last = DotStuffing(), b""
        async with opened(message.read) as parts:
            async for part in parts:
                if last:
                    await self.wire.send_content(last, self._config.block_timeout_s)
                    if self.wire.has_spoken:
                        await self._spoke_too_early(accepted, sent)
                        return
                last = stuffing.part(part)
        self.wire.send(last + stuffing.end())
        await self._finish(accepted, sent)

    async def _send_chunks(self, message: Message, accepted: list[str], sent: Sent) -> None:
        """RFC 3030: binary content, each part acknowledged before the next."""
        async with opened(message.read) as parts:
            async for part in parts:
                self.wire.send(b"BDAT %d\r\n" % len(part))
                await self.wire.send_content(part, self._config.block_timeout_s)
                reply = await self._reply("BDAT", self._config.block_timeout_s)
                if not reply.is_positive:
                    sent.of_rest(accepted, answer_of(reply, "BDAT"))
                    return
        self.wire.send(b"BDAT 0 LAST\r\n")
        await self._finish(accepted, sent)

    async def _finish(self, accepted: list[str], sent: Sent) -> None:
        try:
            reply = await self._reply("the end of the message", self._config.end_timeout_s)
        except (PeerFailed, asyncio.CancelledError) as failure:
            sent.of_rest(accepted, Answer("unknown", 0, "4.4.2", str(failure) or "given up before the reply came"))
            raise
        self._needs_reset = False
        sent.of_rest(accepted, answer_of(reply, "the end of the message", ended=True))

    async def _spoke_too_early(self, accepted: list[str], sent: Sent) -> None:
        """A reply in the middle of the content: the rest is not sent, so the message was not taken."""
        reply = await self._reply("a part of the message", self._config.block_timeout_s)
        self._is_closing = True
        if not reply.is_positive:
            sent.of_rest(accepted, answer_of(reply, "a part of the message"))
        raise ProtocolError(f"{reply.text} (before the end of the message)")

    async def _next(self, line: bytes, stage: str, pipelined: bool, timeout_s: float | None = None) -> Reply:
        if not pipelined:
            self.wire.send(line + b"\r\n")
        return await self._reply(stage, timeout_s or self._config.command_timeout_s)

    async def _command(self, line: str, stage: str) -> Reply:
        self.wire.send(line.encode() + b"\r\n")
        return await self._reply(stage, self._config.command_timeout_s)

    async def _reply(self, stage: str, timeout_s: float) -> Reply:
        reply = await self.wire.reply(stage, timeout_s)
        self._is_closing = self._is_closing or reply.code == CLOSING
        return reply


def answer_of(reply: Reply, stage: str, *, ended: bool = False) -> Answer:
    """What a reply means for a recipient. `ended`: all was sent, so a reply out of order leaves the outcome open."""
    text = f"{reply.text} (in reply to {stage})"
    if reply.is_positive and ended:
        return Answer("delivered", reply.code, reply.enhanced or "2.0.0", text)
    if reply.code < 400:
        return Answer("unknown" if ended else "deferred", reply.code, "4.5.0", text)
    if reply.code == 552 and stage == "RCPT" and reply.enhanced in ("", "5.5.3"):
        # RFC 5321 4.5.3.1.10: too many recipients, as some still say it
        return Answer("deferred", 452, "4.5.3", text)
    status: Status = "failed" if reply.is_permanent else "deferred"
    return Answer(status, reply.code, reply.enhanced or f"{reply.code // 100}.0.0", text)
