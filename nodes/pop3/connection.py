"""The shell around a POP3 session: it moves bytes, has passwords checked and the maildrop opened.

Messages go out in slices, and a client that does not read them is waited for, not buffered for. When a client
vanishes or falls silent, nothing is removed (RFC 1939 3 and 6).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, assert_never

from nodes.logins import door as logins
from nodes.logins import sasl
from nodes.logins.bound_tenants import bind
from nodes.logins.door import Door, LoggedIn, LoginRefused
from nodes.policy.bandwidth import STEP_S
from nodes.pop3 import multiline
from nodes.pop3.events import (
    Answer,
    Authenticate,
    Close,
    Event,
    Listing,
    LogIn,
    Remove,
    Respond,
    Say,
    Send,
    StartTls,
    refusing,
)
from nodes.pop3.maildrop import Entry
from nodes.pop3.opened import Opened
from nodes.pop3.opening import CanNotOpen
from nodes.pop3.refused import answer_to
from nodes.pop3.session import Limits, Session
from nodes.pop3.wire import Gone, Wire
from nodes.trail import CODE, TRAIL, Trail

if TYPE_CHECKING:
    from actors.directory import Target
    from nodes.pop3.server import Pop3Listener

COMMANDS_AT_ONCE = 100
GREETING = b"+OK mailraft POP3 ready"
TIMED_OUT = refusing("No command came in time", "SYS/TEMP", "timed_out")
STOPPING = refusing("The server is stopping", "SYS/TEMP", "stopping")
LOST = refusing("The maildrop is no longer held by this session", "SYS/TEMP", "superseded")
TOO_MANY_CONNECTIONS = refusing("Too many connections", "SYS/TEMP", "too_many_connections")
INTERNAL_ERROR = b"-ERR [SYS/TEMP] Internal error\r\n"


class Unanswered(Exception):
    """The client gave up, or sent what is no answer; `event` is what to do about it."""

    def __init__(self, event: Event) -> None:
        super().__init__()
        self.event = event


class Connection(Wire):
    """One client."""

    def __init__(self, listener: Pop3Listener) -> None:
        super().__init__(listener.services)
        self._listener = listener
        self._maildrop: Opened | None = None  # None: not logged in
        self._failed_logins = 0
        self._opened_s = listener.loop.time()
        self._task: asyncio.Task[None] | None = None
        self._at_rest = True
        self.client = ""
        self.origin = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = transport
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.client, self.origin = peer[0], f"{peer[0]}:{peer[1]}"
        self._trail = Trail(self._listener.kind, self.client)
        if not self._listener.admit(self):
            self._note(TOO_MANY_CONNECTIONS)
            transport.write(TOO_MANY_CONNECTIONS)  # type: ignore[attr-defined]
            transport.close()
            return
        bandwidth = self._services.bandwidth
        self._flow = bandwidth.flow(self.client) if bandwidth is not None else None
        self._task = self._listener.loop.create_task(self._serve())

    # The conversation

    async def _serve(self) -> None:
        TRAIL.set(self._trail)  # of this task
        self._bind_trail()
        tracing = self._services.tracing
        if tracing is not None:
            tracing.opened(self._trail)
        try:
            await self._converse()
        except (Gone, ConnectionError):
            pass
        except Exception:
            self._services.logger.exception("pop3 session failed", code="internal")
            self._transport.write(INTERNAL_ERROR)
        finally:
            self._transport.close()
            if self._flow is not None:
                self._flow.settle()
            try:
                await self._let_go()
            finally:
                self._listener.release(self)
                if tracing is not None:
                    tracing.closed(self._trail)

    async def _converse(self) -> None:
        session = await self._greet()
        while await self._take_up(session):
            self._at_rest = True
            if self._ending:
                self._say_last(self._ending)
                return
            if not await self._receive(session):
                self._say_last(TIMED_OUT)
                return

    async def _greet(self) -> Session:
        timestamp = await self._listener.apop.timestamp()
        limits = self._services.config.limits
        session = Session(
            Limits(limits.line_bytes, limits.errors),
            secure=self._is_secure(),
            offers_tls=self._listener.stls is not None,
            mechanisms=self._door().offer.mechanisms,
            timestamp=timestamp,
        )
        self._transport.write(b" ".join(filter(None, (GREETING, timestamp))) + b"\r\n")
        return session

    async def _take_up(self, session: Session) -> bool:
        """Does all that the input so far asks for; False when the session is to end."""
        event = session.next_event()
        taken = 0
        while event is not None:
            self._at_rest = False
            taken += 1
            if taken % COMMANDS_AT_ONCE == 0:
                await asyncio.sleep(0)  # one read may bring thousands of commands: others have their turn
            if isinstance(event, Say | Close) and isinstance(event.data, Answer):
                self._note(event.data)
            if isinstance(event, Close):
                await self._let_go()  # before the answer: who logs in again at once finds it free
                await self._send(event.data)
                return False
            event = await self._traced(session, event) or session.next_event()
        return True

    def _say_last(self, answer: Answer) -> None:
        self._note(answer)
        self._transport.write(answer)

    def _note(self, answer: Answer) -> None:
        said = answer.decode("utf-8", "replace").strip()
        self._services.refusals.note(answer.error, reply=said, **self._trail.facts())

    def _bind_trail(self) -> None:
        bind(self._trail, self._services, self._listener.kind, self._transport.get_extra_info("ssl_object"))

    async def _let_go(self) -> None:
        opened, self._maildrop = self._maildrop, None
        if opened is not None:
            await opened.let_go()

    async def _receive(self, session: Session) -> bool:
        """Waits for input and gives it to the session; False when none came in time. Raises Gone."""
        while not self._input:
            if self._gone:
                raise Gone
            self._news.clear()
            try:
                async with asyncio.timeout(self._patience_s(session)):
                    await self._news.wait()
            except TimeoutError:
                return False
            if self._ending:
                return True
        await self._rest()
        session.feed(bytes(self._input))
        self._input.clear()
        if not self._transport.is_closing() and not self._transport.is_reading():
            self._transport.resume_reading()
        return True

    def _patience_s(self, session: Session) -> float:
        limits = self._services.config.limits
        if session.is_logged_in:
            return limits.pop3_idle_s
        return max(0.0, self._opened_s + limits.login_s - self._listener.loop.time())

    async def _traced(self, session: Session, event: Event) -> Event | None:
        """Performs it, as a span where traces are made."""
        tracing = self._services.tracing
        if tracing is None:
            return await self._perform(session, event)
        with tracing.command(self._trail, type(event).__name__.lower()) as span:
            if isinstance(event, Say) and isinstance(event.data, Answer):
                span.set_attribute(CODE, event.data.error)
            return await self._perform(session, event)

    async def _perform(self, session: Session, event: Event) -> Event | None:
        match event:
            case Say(data):
                await self._send(data)
                return None
            case Listing():
                for piece in event.pieces():
                    await self._send(piece)
                    await asyncio.sleep(0)
                return None
            case Send(entry, lines):
                return await self._send_message(self._open_maildrop(), session, entry, lines)
            case LogIn(claim, mechanism):
                return await self._log_in(session, logins.admit(self._services, self._door(), claim, mechanism))
            case Authenticate():
                return await self._authenticate(session, event)
            case StartTls(data):
                await self._start_tls(session, data)
                return None
            case Remove(uids):
                return session.removed(await self._open_maildrop().remove(uids))
            case Close():
                return event
            case Respond():
                return None  # nobody asked: `_ask` takes the answers to what it asks
            case _:
                assert_never(event)

    def stop(self) -> None:
        """Close once nothing is under way; no deletion is carried out."""
        self._end(STOPPING)

    def _end(self, farewell: Answer) -> None:
        self._ending = farewell
        if self._at_rest:
            self._news.set()

    def abort(self) -> None:
        """Close now."""
        if self._task is not None:
            self._task.cancel()
        self._transport.abort()

    # What the session asks for

    def _open_maildrop(self) -> Opened:
        assert self._maildrop is not None  # the session asks for its messages only once it is logged in
        return self._maildrop

    async def _send_message(self, opened: Opened, session: Session, entry: Entry, lines: int | None) -> Event | None:
        found = opened.read(entry, lines, utf8=session.utf8)
        if isinstance(found, Answer):
            return Say(found)
        await self._keep_to_bandwidth(opened.target, found.read_bytes)
        await self._send(found.first)
        for piece in multiline.stuffed(*found.parts):
            await self._send(piece)
        return None

    async def _keep_to_bandwidth(self, target: Target, size_bytes: int) -> None:
        """Whoever has been sent more than they may waits for the next message."""
        limits = self._services.login_limits
        if limits is None:
            return
        until_s = self._listener.loop.time() + limits.transferred(target, size_bytes)
        while not self._gone and not self._ending and (left_s := until_s - self._listener.loop.time()) > 0:
            await asyncio.sleep(min(left_s, STEP_S))

    def _door(self) -> Door:
        tls = self._transport.get_extra_info("ssl_object")
        return logins.door(self._services, self._listener.kind, self.client, tls)

    async def _authenticate(self, session: Session, event: Authenticate) -> Event:
        async def ask(challenge: bytes) -> bytes:
            return sasl.decode_response(await self._ask(session, challenge))

        try:
            return await self._log_in(
                session, logins.authenticate(self._services, self._door(), event.mechanism, event.initial, ask)
            )
        except Unanswered as unanswered:
            return unanswered.event

    async def _ask(self, session: Session, challenge: bytes) -> bytes:
        """The client's answer. Raises Gone, Unanswered."""
        await self._send(session.challenge(challenge).data)
        while (event := session.next_event()) is None:
            if not await self._receive(session):
                self._say_last(TIMED_OUT)
                raise Gone
            if self._ending:
                self._say_last(self._ending)
                raise Gone
        if not isinstance(event, Respond):
            raise Unanswered(event)
        return event.line

    async def _log_in(self, session: Session, attempt: Coroutine[Any, Any, LoggedIn]) -> Event:
        try:
            found = await attempt
        except LoginRefused as refused:
            return self._refusal(session, refused)
        try:
            opened = await self._listener.opener.open(found, self.origin, self._trail.cause, self._lose)
        except CanNotOpen as error:
            return session.not_logged_in(error.text, error.code, "" if error.code != "SYS/PERM" else "login_suspended")
        self._maildrop = opened
        if self._flow is not None:
            self._flow.settle()
            self._flow.target = found.target
        opened.enter(self._put_out)
        return session.logged_in(opened.maildrop)

    def _put_out(self, why: str) -> None:
        """The tenant is not served any more."""
        text = why.capitalize().encode("ascii", "replace").decode()
        self._end(refusing(text, "SYS/PERM", "tenant_inactive"))

    def _lose(self) -> None:
        """Another session may have the maildrop now."""
        self._end(LOST)

    def _refusal(self, session: Session, refused: LoginRefused) -> Event:
        """Guesses are counted by connection too, whatever login each of them names."""
        answer = answer_to(session, refused)
        if refused.reason != "wrong":
            return answer
        self._failed_logins += 1
        if refused.close or self._failed_logins >= self._services.config.limits.auth_failures:
            return Close(answer.data) if isinstance(answer, Say | Close) else answer
        return answer

    async def _start_tls(self, session: Session, answer: bytes) -> None:
        """Input that came in clear is thrown away (RFC 2595 4). Raises Gone when the handshake fails."""
        assert self._listener.stls is not None
        if self._transport.is_reading():
            self._transport.pause_reading()
        self._input.clear()
        await self._send(answer)
        try:
            transport = await self._listener.loop.start_tls(
                self._transport, self, self._listener.stls, server_side=True, ssl_handshake_timeout=30.0
            )
        except (OSError, TimeoutError):
            raise Gone from None
        if transport is None:
            raise Gone
        self._transport = transport
        session.tls_started(self._door().offer.mechanisms)
        self._bind_trail()
