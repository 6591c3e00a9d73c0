"""One SMTP or LMTP connection: aiosmtpd's protocol class with a read loop of its own.

Of aiosmtpd it keeps Session, Envelope, the handler hooks, the idle timer and the STARTTLS upgrade. Its loop (a task
that reads line by line and drains after each reply) costs more than the rest of a delivery, so here commands are
executed in `data_received` itself; only what must wait (a commit, a password check, a handshake) is a task, during
which input is held back. Replies to pipelined commands leave in one write (RFC 2920). It never touches a table.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import aiosmtpd.smtp

from nodes import sasl
from nodes.smtp import replies
from nodes.smtp.content import Content, DataScanner
from nodes.smtp.replies import Refused
from nodes.smtp.session import Envelope, Session
from nodes.smtp.states import OUT_OF_ORDER, TRANSITIONS, State

if TYPE_CHECKING:
    from nodes.smtp.server import SmtpListener

HELD_INPUT_BYTES = 64 * 1024  # while a command waits for its outcome; beyond it the client is not read
HTTP_VERBS = frozenset((b"GET", b"POST", b"PUT", b"CONNECT", b"OPTIONS"))  # a browser that was lured here
SUCCESS = frozenset((b"", b"2", b"3"))  # first octet of a reply; b"": the command has answered itself
PERMANENT = ord("5")
COMMANDS_AT_ONCE = 100  # of one client, before the others have their turn
CONTENT_A_COMMAND = 2048  # bytes of content that count as much as a command

Waiting = Coroutine[Any, Any, bytes]


class Connection(aiosmtpd.smtp.SMTP):
    """The protocol object of one client."""

    session: Session
    envelope: Envelope

    def __init__(self, listener: SmtpListener) -> None:
        config = listener.services.config
        self.listener = listener
        self.limits = config.limits
        self._input = b""
        self._replies: list[bytes] = []
        self._scanner: DataScanner | None = None
        self._counted_bytes = 0  # what the listener knows of the content held here
        self._no_room = False
        self._task: asyncio.Task[None] | None = None  # the command that waits
        self._challenged: asyncio.Future[bytes] | None = None  # the command that waits for a line
        self._skipping = False  # inside a line that is too long
        self._deaf = False  # what follows is not read: closing, or TLS begins
        self._held = False  # not read, since too much input waits
        self._resting = True  # its input waits: for the greeting, or for the others, when it has had its turn
        self._unread = False  # not read, since it does not read its replies
        self._stopping = False
        self._ended = False  # the client sends no more
        self._admitted = False
        self._errors = 0
        self.failed_logins = 0
        self._heard_s = 0.0
        super().__init__(
            listener.intake,
            hostname=config.node.hostname,
            ident="mailraft",
            enable_SMTPUTF8=True,
            tls_context=listener.starttls,
            timeout=config.limits.smtp_idle_s,
            auth_require_tls=False,  # who may log in is decided by nodes.security
            loop=listener.loop,
        )

    def __dir__(self) -> tuple[str, ...]:
        """Nothing: aiosmtpd looks for methods by their names' prefix in each new connection, and ours are in tables."""
        return ()

    # The connection's life

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected, or has finished its TLS handshake (RFC 3207 4.2: then everything starts anew)."""
        super().connection_made(transport)
        self.session.secure = transport.get_extra_info("sslcontext") is not None
        self.session.set_peer(self.session.peer)
        if self.session.secure:
            # what was sent in clear is forgotten; what comes now may come with the last of the handshake (TLS 1.3)
            self._input = b""
            self._deaf = False

    def _create_session(self) -> Session:
        session = self.listener.new_session()
        if self.session is not None:
            session.inherit(self.session)
        return session

    def _create_envelope(self) -> Envelope:
        return Envelope()

    def _set_rset_state(self) -> None:
        self.envelope = Envelope()

    async def _handle_client(self) -> None:
        """aiosmtpd's read loop; here only what comes before commands, which are executed as they arrive."""
        self._admitted = self.listener.admit(self)
        if not self._admitted:
            self.close_with(replies.TOO_MANY_CONNECTIONS)
            return
        if self.listener.intake.checks.connected and not await self._check_client():
            return
        kind = "LMTP" if self.listener.profile.lmtp else "ESMTP"
        self._write(f"220 {self.hostname} {kind} mailraft\r\n".encode())
        self._go_on()
        self._close_if_done()
        host_names = self.listener.services.host_names
        if host_names.wanted(self.session.client):
            await host_names.look_up(self.session.client)  # meanwhile commands are taken; mail does not wait for it

    async def _check_client(self) -> bool:
        """Whether this client may talk to us; otherwise it was told why not, and the connection is closed."""
        try:
            await self.listener.intake.check_client(self.session)
        except Refused as refused:
            self.close_with(refused.reply)
            return False
        except Exception:
            self.listener.logger.exception("smtp check failed", cause=self.session.cause)
            self.close_with(replies.NOT_NOW)
            return False
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """The client has gone; a commit that is under way goes on."""
        super().connection_lost(error)
        self._deaf = True
        self._scanner = None
        self._count_content(0)
        if self._challenged is not None:
            self._challenged.cancel()
        if self._admitted:
            self._admitted = False
            self.listener.release(self)
            for check in self.listener.intake.checks.disconnected:
                check.disconnected(self.session)

    def eof_received(self) -> bool | None:
        """The client sends no more; what it asked for is still answered."""
        if self._task is None and not self._resting:
            self._close()
            return False
        if self._challenged is not None:
            self._challenged.cancel()
        self._ended = True
        return not self.session.secure

    def stop(self) -> None:
        """Close as soon as no transaction is under way."""
        self._stopping = True
        if self._may_stop():
            self.close_with(replies.STOPPING)

    def abort(self) -> None:
        """Close now; what is under way has no answer, and the client knows it."""
        if self._task is not None:
            self._task.cancel()
        if self.transport is not None:
            self.transport.abort()  # type: ignore[attr-defined]

    def _may_stop(self) -> bool:
        return self._task is None and self.session.state in (State.CONNECTED, State.READY)

    # Idle time

    def _reset_timeout(self, duration: float | None = None) -> None:
        self._heard_s = self.loop.time()
        if self._timeout_handle is None:
            self._timeout_handle = self.loop.call_later(self._timeout_duration, self._timeout_cb)

    def _timeout_cb(self) -> None:
        """One timer a connection, set again for what is left, instead of one for each command."""
        left_s = self._timeout_duration - (self.loop.time() - self._heard_s)
        if self._task is not None and self._challenged is None:
            left_s = self._timeout_duration  # it is the client who waits
        if left_s > 0:
            self._timeout_handle = self.loop.call_later(left_s, self._timeout_cb)
        else:
            self.close_with(replies.TIMED_OUT)

    # Bytes in

    def data_received(self, data: bytes) -> None:
        """Executes what has arrived."""
        self._heard_s = self.loop.time()
        data = self._input + data if self._input else data
        if self._resting:
            self._input = data
            if len(data) > HELD_INPUT_BYTES:
                self._held = True
                self._stop_reading()
        else:
            self._process(data)

    def _process(self, data: bytes) -> None:
        """Executes what `data` holds, as far as nothing waits and this turn goes; keeps the rest."""
        at = taken = 0
        while at < len(data) and not self._deaf:
            if self._scanner is not None:
                taken += len(data) // CONTENT_A_COMMAND
                data = self._take_content(self._scanner, data[at:] if at else data)
                at = 0
                continue
            if taken >= COMMANDS_AT_ONCE or (self._task is not None and self._challenged is None):
                break
            taken += 1
            end = data.find(b"\n", at)
            if end < 0:
                break
            line = data[at:end]
            at = end + 1
            self._take_line(line[:-1] if line.endswith(b"\r") else line)
        rest = b"" if self._deaf else data[at:]
        if taken >= COMMANDS_AT_ONCE and self._task is None and not self._deaf:
            self._rest(rest)
        else:
            self._keep(rest)
        if self._replies:
            self._flush()

    def _rest(self, rest: bytes) -> None:
        """Leaves the event loop to others: one read may bring megabytes of commands, and the log must have its turn."""
        self._input = rest
        self._held = self._resting = True
        self._stop_reading()
        self.loop.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._go_on()
        self._close_if_done()

    def _close_if_done(self) -> None:
        """After the last command of a client that has ended, or between commands when the listener stops."""
        if self._resting or self._deaf or self._task is not None:
            return
        if self._ended:
            self._close()
        elif self._stopping and self._may_stop():
            self.close_with(replies.STOPPING)

    def _keep(self, rest: bytes) -> None:
        self._input = rest
        if self._task is not None and self._challenged is None:
            if len(rest) > HELD_INPUT_BYTES and not self._held:
                self._held = True
                self._stop_reading()
        elif len(rest) > self.limits.smtp_line_bytes:
            self._skipping = True
            self._input = b""

    def _take_content(self, scanner: DataScanner, data: bytes) -> bytes:
        """Gives `data` to the scanner; returns what is left for the commands after the content."""
        content = scanner.feed(data)
        if content is None:
            if not self._count_content(scanner.held_bytes):
                scanner.discard()
                self._no_room = True
            return b""
        self._count_content(0)
        self._scanner = None
        self._begin(self._deliver(content), State.READY, State.READY)
        return content.rest

    def _count_content(self, held_bytes: int) -> bool:
        grown, self._counted_bytes = held_bytes - self._counted_bytes, held_bytes
        return grown == 0 or self.listener.hold(grown)

    def _take_line(self, line: bytes) -> None:
        too_long = self._skipping or len(line) > self.limits.smtp_line_bytes
        self._skipping = False
        if self._challenged is not None:
            self._answer_challenge(b"*" if too_long else line)
        elif too_long:
            self.say(replies.LINE_TOO_LONG)
        else:
            self._execute(line)

    def _execute(self, line: bytes) -> None:
        verb, _, argument = line.partition(b" ")
        verb = verb.upper()
        session = self.session
        execute = self.listener.commands.get(verb)
        if execute is None:
            self._refuse_unknown(verb)
            return
        self.listener.count(verb)
        next_state = TRANSITIONS[session.state].get(verb)
        if next_state is None:
            self.say(OUT_OF_ORDER[session.state][verb])
            return
        try:
            result = execute(self, argument)
        except Refused as refused:
            self.say(refused.reply)
            return
        if not isinstance(result, bytes):
            self._begin(result, session.state, next_state)
            return
        if result[:1] in SUCCESS:
            session.state = next_state
        if result:
            self.say(result)

    def _refuse_unknown(self, verb: bytes) -> None:
        self.listener.count(b"other")
        if verb in HTTP_VERBS:
            self.close_with(replies.NOT_SMTP)
        else:
            self.say(replies.NOT_RECOGNISED)

    # Commands that wait

    def _begin(self, waiting: Waiting, on_failure: State, on_success: State) -> None:
        self._task = self.loop.create_task(self._finish(waiting, on_failure, on_success))

    async def _finish(self, waiting: Waiting, on_failure: State, on_success: State) -> None:
        """Runs a command that waits, answers it and goes on with what came meanwhile."""
        try:
            reply = await waiting
        except Refused as refused:
            reply = refused.reply
        except Exception:
            self.listener.logger.exception("smtp command failed", cause=self.session.cause)
            reply = replies.INTERNAL_ERROR
        self._task = None
        self.session.state = on_success if reply[:1] in SUCCESS else on_failure
        if reply:
            self.say(reply)
        self._go_on()
        self._close_if_done()

    def _go_on(self) -> None:
        self._resting = False
        if self._held:
            self._held = False
            self._read_again()
        self._process(self._input)

    def expect_content(self) -> None:
        """DATA was accepted: what follows is content."""
        self._scanner = DataScanner(self.limits.message_bytes)
        self._no_room = False

    async def _deliver(self, content: Content) -> bytes:
        """The message is complete; whatever becomes of it, the transaction is over."""
        envelope = self.envelope
        self._set_rset_state()
        if self._no_room:
            return replies.TOO_MUCH_AT_ONCE
        return await self.listener.intake.handle_DATA(self, self.session, envelope, content)

    def begin_tls(self) -> Waiting:
        """STARTTLS was accepted: what the client sent in clear after it is thrown away (RFC 3207 4.2)."""
        self._deaf = True
        return self._upgrade()

    async def _upgrade(self) -> bytes:
        with contextlib.suppress(aiosmtpd.smtp.TLSSetupException):
            await self.smtp_STARTTLS("")
        if self.session.secure:
            self._deaf = False
        else:
            self._close()
            self.connection_lost(None)  # asyncio tells it only to those whose handshake succeeded
        return b""

    async def push(self, status: str | bytes) -> None:
        """A reply of aiosmtpd's own code, which lacks the enhanced status code."""
        text = status.decode() if isinstance(status, bytes) else status
        self._write(replies.reply(int(text[:3]), f"{text[0]}.0.0", text[4:]))

    async def challenge(self, prompt: bytes) -> bytes:
        """The client's decoded answer to a 334 reply (RFC 4954 4). Raises Refused when it gives up, sasl.Malformed."""
        self._challenged = self.loop.create_future()
        self._replies.append(b"334 %b\r\n" % base64.b64encode(prompt))
        self._flush()
        self.loop.call_soon(self._go_on)
        line = await self._challenged
        if line == b"*":
            raise Refused(replies.AUTH_ABORTED)
        return sasl.decode_response(line)

    def _answer_challenge(self, line: bytes) -> None:
        assert self._challenged is not None
        challenged, self._challenged = self._challenged, None
        if not challenged.done():
            challenged.set_result(line)

    # Bytes out

    def say(self, reply: bytes) -> None:
        """Adds a reply; too many permanent refusals end the connection."""
        self._replies.append(reply)
        if reply[0] == PERMANENT:
            self._errors += 1
            if self._errors >= self.limits.errors:
                self.close_with(replies.TOO_MANY_ERRORS)

    def close_with(self, reply: bytes) -> None:
        """The last reply of this connection."""
        self._replies.append(reply)
        self._flush()
        self._close()

    def _flush(self) -> None:
        pending, self._replies = self._replies, []
        self._write(pending[0] if len(pending) == 1 else b"".join(pending))

    def _write(self, data: bytes) -> None:
        transport = self.transport
        if transport is not None and not transport.is_closing():
            transport.write(data)  # type: ignore[attr-defined]

    def _close(self) -> None:
        self._deaf = True
        transport = self.transport
        if transport is not None and not transport.is_closing():
            transport.close()

    def pause_writing(self) -> None:
        """The client does not read its replies: it is not read either."""
        super().pause_writing()
        self._unread = True
        self._stop_reading()

    def resume_writing(self) -> None:
        """The client has read its replies."""
        super().resume_writing()
        self._unread = False
        self._read_again()

    def _stop_reading(self) -> None:
        transport: Any = self.transport
        if transport is not None and not transport.is_closing() and transport.is_reading():
            transport.pause_reading()

    def _read_again(self) -> None:
        transport: Any = self.transport
        if self._held or self._unread or transport is None or transport.is_closing():
            return
        if not transport.is_reading():
            transport.resume_reading()
