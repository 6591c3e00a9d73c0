"""One SMTP or LMTP connection: aiosmtpd's protocol class with a read loop of its own.

Of aiosmtpd it keeps Session, Envelope, the handler hooks and the connection's life. Its loop (a task that reads line by
line and drains after each reply) costs more than the rest of a delivery, so here commands are executed in
`data_received` itself; only what must wait (a commit, a check, a handshake) is a task, during which input is held back.
Replies to pipelined commands leave in one write (RFC 2920). It never touches a table.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from nodes.logins import sasl
from nodes.logins.bound_tenants import bind
from nodes.smtp import replies
from nodes.smtp.collecting import Waiting as Waiting
from nodes.smtp.refusing import Refusing
from nodes.smtp.replies import Refused
from nodes.smtp.session import Session
from nodes.smtp.states import OUT_OF_ORDER, TRANSITIONS, State
from nodes.trail import CODE, TRAIL
from nodes.waiting import within

if TYPE_CHECKING:
    from nodes.smtp.server import Peer, SmtpListener
    from nodes.tracing import Tracing

HELD_INPUT_BYTES = 64 * 1024  # while a command waits for its outcome; beyond it the client is not read
HTTP_VERBS = frozenset((b"GET", b"POST", b"PUT", b"CONNECT", b"OPTIONS"))  # a browser that was lured here
NAME_ADDRESSES = frozenset((b"MAIL", b"RCPT"))  # nothing of other commands is logged: a password may be in them
BRING_MAIL = frozenset((b"RCPT", b"DATA", b"BDAT"))
SUCCESS = frozenset((b"", b"2", b"3"))  # first octet of a reply; b"": the command has answered itself
COMMANDS_AT_ONCE = 100  # of one client, before the others have their turn
CONTENT_A_COMMAND = 2048  # bytes of content that count as much as a command


class Connection(Refusing):
    """The protocol object of one client."""

    def __init__(self, listener: SmtpListener, peer: Peer | None = None) -> None:
        """`peer`: who the client is, where a proxy has told it."""
        self._peer = peer
        self._input = b""
        self._challenged: asyncio.Future[bytes] | None = None  # the command that waits for a line
        self._skipping = False  # inside a line that is too long
        self._resting = True  # its input waits: for the greeting, or for the others, when it has had its turn
        self._farewell = b""  # said when no transaction is under way any more
        self.leave: Callable[[], None] = lambda: None  # the list of those who are logged in
        self._ended = False  # the client sends no more
        self.admitted_as: str | None = None  # the address that counts for the limits
        self.failed_logins = 0
        super().__init__(listener)

    # The connection's life

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected; aiosmtpd goes on with `_handle_client`."""
        super().connection_made(transport)  # begins a task, which has the trail that the session began
        self.session.set_peer(self._peer or self.session.peer)
        self.session.secure = self.listener.profile.implicit_tls
        self.session.cipher = transport.get_extra_info("cipher")
        self._bind_trail()

    def _create_session(self) -> Session:
        session = self.listener.new_session()
        TRAIL.set(session.trail)
        return session

    def _bind_trail(self) -> None:
        tls = self.transport.get_extra_info("ssl_object") if self.transport is not None else None
        bind(self.session.trail, self.listener.services, self.listener.profile.kind, tls)

    async def _handle_client(self) -> None:
        """aiosmtpd's read loop; here only what comes before commands, which are executed as they arrive."""
        if self.admitted_as is None:
            if not self.listener.admit(self.session.client):
                self.close_with(replies.TOO_MANY_CONNECTIONS)
                return
            self.admitted_as = self.session.client
        self.listener.opened(self)
        self.begin_flow()
        if not await self._may_be_greeted():
            return
        self._write(self.listener.greeting)
        self._go_on()
        self._close_if_done()
        host_names = self.listener.services.host_names
        if host_names.wanted(self.session.client):
            await host_names.look_up(self.session.client)  # meanwhile commands are taken; mail does not wait for it

    async def _may_be_greeted(self) -> bool:
        """Asks the checks, and waits for those who can not (RFC 5321 4.3.1); False: the client was told why not."""
        refusal = await self.check_client() if self.listener.intake.checks.connected else b""
        if not refusal and self.rules.greeting_delay_s and self.listener.profile.kind == "smtp":
            await asyncio.sleep(self.rules.greeting_delay_s)
            refusal = replies.EARLY_TALKER if self._input else b""
        if refusal:
            self.close_with(refusal)
        return not refusal

    def begin_flow(self) -> None:
        """What this client moves counts from here on, for who has logged in where somebody has."""
        bandwidth = self.listener.services.bandwidth
        if bandwidth is not None:
            if self._flow is not None:
                self._flow.settle()
            self._flow = bandwidth.flow(self.session.client)
            self._flow.target = self.session.account
            self._flow.tenants = lambda: self.envelope.tenants

    async def check_client(self) -> bytes:
        """The refusal of a check that looks at clients; b"" when none refuses."""
        try:
            await within(self.rules.checks_s, self.listener.intake.check_client(self.session))
        except Refused as refused:
            return refused.reply
        except Exception:
            self.listener.logger.exception("smtp check failed", code="check_failed")
            return replies.NOT_NOW
        return b""

    def connection_lost(self, error: Exception | None) -> None:
        """The client has gone; a commit that is under way goes on."""
        if self.session is not None:  # of a handshake that failed there is none
            TRAIL.set(self.session.trail)
        self._end_pause()  # before asyncio's own, which forgets our task: it has an attribute of that name
        super().connection_lost(error)
        self._deaf = True
        if self._flow is not None:
            self._flow.settle()
        self.leave()
        self._forget_content()
        if self._challenged is not None:
            self._challenged.cancel()
        if self.admitted_as is not None:
            self.listener.release(self.admitted_as)
            self.listener.closed(self)
            self.admitted_as = None
            for check in self.listener.intake.checks.disconnected:
                check.disconnected(self.session)

    def eof_received(self) -> bool | None:
        """The client sends no more; what it asked for is still answered."""
        if self._pausing or (self._task is None and not self._resting):
            self._close()
            return False
        if self._challenged is not None:
            self._challenged.cancel()
        self._ended = True
        return not self.session.secure

    def stop(self) -> None:
        """Close as soon as no transaction is under way."""
        self._end(replies.STOPPING)

    def put_out(self, why: str) -> None:
        """The same, as the tenant is not served any more."""
        self.session.put_out = why
        self._end(replies.put_out(why))

    def _end(self, farewell: bytes) -> None:
        self._farewell = farewell
        if self._pausing or self._may_stop():
            self.close_with(farewell)

    def abort(self) -> None:
        """Close now; what is under way has no answer, and the client knows it."""
        if self._task is not None:
            self._task.cancel()
        if self.transport is not None:
            self.transport.abort()  # type: ignore[attr-defined]

    def _may_stop(self) -> bool:
        return self._task is None and self.session.state in (State.CONNECTED, State.READY)

    def _we_are_due(self) -> bool:
        return self._task is not None and self._challenged is None

    # Bytes in

    def data_received(self, data: bytes) -> None:
        """Executes what has arrived."""
        TRAIL.set(self.session.trail)  # a loop may give all connections of a listener one and the same context
        self._count(len(data))
        if self._input:
            data = self._input + data
        if not self._resting:
            self._process(data)
        elif not self._deaf:
            self._input = data
            if len(data) > HELD_INPUT_BYTES:
                self._held = True
                self._stop_reading()

    def _process(self, data: bytes) -> None:
        """Executes what `data` holds, as far as nothing waits and this turn goes; keeps the rest."""
        at = taken = 0
        size = len(data)
        while at < size and not self._deaf:
            if self._content is not None:
                taken += size // CONTENT_A_COMMAND
                data = self._take_content(self._content, data[at:] if at else data)
                at, size = 0, len(data)
                continue
            if taken >= COMMANDS_AT_ONCE or (self._task is not None and self._challenged is None):
                break
            taken += 1
            end = data.find(b"\n", at)
            if end < 0:
                break
            self._take_line(data[at:end])
            at = end + 1
        rest = b"" if self._deaf else data[at:]
        if taken >= COMMANDS_AT_ONCE and self._task is None and not self._deaf:
            self._rest(rest)
        elif rest or self._input:
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
        elif self._farewell and self._may_stop():
            self.close_with(self._farewell)

    def _keep(self, rest: bytes) -> None:
        self._input = rest
        if self._task is not None and self._challenged is None:
            if len(rest) > HELD_INPUT_BYTES and not self._held:
                self._held = True
                self._stop_reading()
        elif len(rest) > self.limits.smtp_line_bytes:
            self._skipping = True
            self._input = b""

    def _take_line(self, line: bytes) -> None:
        """A line without its LF."""
        self._heard_s = self.loop.time()
        too_long = self._skipping or len(line) > self.limits.smtp_line_bytes
        self._skipping = False
        body, is_ended, rest = line.partition(b"\r")
        if self._challenged is not None:
            self._answer_challenge(b"*" if too_long else line.rstrip(b"\r"))
        elif too_long:
            self.say(replies.LINE_TOO_LONG)
        elif is_ended and not rest:
            self._execute(body)
        elif self.rules.bare_line_ends == "accept":
            self._execute(line.rstrip(b"\r"))
        else:
            self.say(replies.BARE_END_OF_COMMAND)  # RFC 5321 2.3.8

    def _execute(self, line: bytes) -> None:
        tracing = self.listener.services.tracing
        if tracing is None:
            self._carry_out(line)
            return
        began_ns, self._told = time.time_ns(), ""
        self._carry_out(line)
        if self._task is None:  # else it has a span of its own
            tracing.did(self.session.trail, self._verb, began_ns, self._told)

    @property
    def _verb(self) -> str:
        return self._asked.partition(b" ")[0].decode("ascii", "replace").upper() or "other"

    def _carry_out(self, line: bytes) -> None:
        verb, _, argument = line.partition(b" ")
        verb = verb.upper()
        session = self.session
        listener = self.listener
        checks = listener.intake.checks
        asked = checks.strangers_command if session.account is None else checks.command
        if asked and not self._may_command(asked):
            return
        execute = listener.commands.get(verb)
        if execute is None:
            self._refuse_unknown(verb)
            return
        listener.counted[verb] += 1
        self._asked = line if verb in NAME_ADDRESSES else verb
        if verb not in BRING_MAIL:
            self._idle_commands += 1
            if self._idle_commands > self.rules.idle_commands:
                self.close_with(replies.TOO_MANY_COMMANDS)
                return
        next_state = TRANSITIONS[session.state].get(verb)
        if next_state is None:
            self._refuse(OUT_OF_ORDER[session.state][verb])
            return
        try:
            result = execute(self, argument)
        except Refused as refused:
            self._refuse(refused.reply)
            return
        if not isinstance(result, bytes):
            self._begin(result, session.state, next_state)
            return
        if result:
            if result[:1] in SUCCESS:
                session.state = next_state
            self.say(result)

    def _refuse_unknown(self, verb: bytes) -> None:
        self.listener.counted[b"other"] += 1
        self._asked = b""
        if verb in HTTP_VERBS:
            self.close_with(replies.NOT_SMTP)
        else:
            self._refuse(replies.NOT_RECOGNISED)

    # Commands that wait

    def _begin(self, waiting: Waiting, on_failure: State, on_success: State) -> None:
        self._task = self.loop.create_task(self._finish(waiting, on_failure, on_success))

    async def _finish(self, waiting: Waiting, on_failure: State, on_success: State) -> None:
        """Runs a command that waits, answers it and goes on with what came meanwhile."""
        tracing = self.listener.services.tracing
        try:
            reply = await (waiting if tracing is None else self._traced(tracing, waiting))
        except Refused as refused:
            reply = refused.reply
        except Exception:
            reply = self._failed()
        if reply[:1] == b"5" and not await self._held_back():
            return
        self._task = None
        self._heard_s = self.loop.time()
        self.session.state = on_success if reply[:1] in SUCCESS else on_failure
        if reply:
            self.say(reply)
        self._go_on()
        self._close_if_done()

    async def _traced(self, tracing: Tracing, waiting: Waiting) -> bytes:
        with tracing.command(self.session.trail, self._verb) as span:
            try:
                reply = await waiting
            except Refused as refused:
                reply = refused.reply
            except Exception:
                reply = self._failed()
            if code := replies.error_of(reply):
                span.set_attribute(CODE, code)
            return reply

    def _failed(self) -> bytes:
        self.listener.logger.exception("smtp command failed", code="internal")
        return replies.INTERNAL_ERROR

    def _go_on(self) -> None:
        self._resting = False
        if self._held:
            self._held = False
            self._read_again()
        if self._input:
            self._process(self._input)
        elif self._replies:
            self._flush()

    def begin_tls(self) -> Waiting:
        """STARTTLS was accepted: what the client sent in clear after it is thrown away (RFC 3207 4.2)."""
        self._deaf = True
        return self._upgrade()

    async def _upgrade(self) -> bytes:
        self._write(replies.GO_AHEAD_WITH_TLS)
        self._input = b""
        self._deaf, self._resting = False, True  # what comes now may come with the last of the handshake (TLS 1.3)
        if await self._shake_hands():
            self.begin_anew(secure=True)
            self._bind_trail()
        return b""

    def begin_anew(self, *, secure: bool) -> Session:
        """Another session over the same connection, as STARTTLS and XCLIENT begin it."""
        earlier = self.session
        self.session = self.listener.new_session()
        self.session.succeed(earlier)
        self.session.secure = secure
        self.session.cipher = self.transport.get_extra_info("cipher") if self.transport is not None else None
        self._set_rset_state()
        self.begin_flow()
        return self.session

    async def challenge(self, prompt: bytes) -> bytes:
        """The client's decoded answer to a 334 reply (RFC 4954 4). Raises Refused when it gives up, sasl.Malformed."""
        self._challenged = self.loop.create_future()
        self._heard_s = self.loop.time()
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
