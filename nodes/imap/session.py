"""One client's session: takes commands as they arrive, has them carried out one after another, answers each.

This module holds what all commands share: state, replies, telling of changes; reading and writing mailboxes is in
mailbox_access.py. What each command does is in login.py, folders.py, listing.py and messages.py, found by the command's
type in `COMMANDS` (server.py puts them together). A session touches its mailbox only in its own task; the log's changes
merely wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from actors.mailbox import folder
from actors.mailbox_acl import held
from nodes.imap import capability, commands, search_updates
from nodes.imap.connection import Connection, ConnectionLost
from nodes.imap.cursor import Cursor
from nodes.imap.errors import BadCommand, Farewell, Refusal, Uncertain, printable
from nodes.imap.features import Features
from nodes.imap.framing import Continuation, Frame, Framer, Limits, Oversize
from nodes.imap.grammar import read_command, read_tag
from nodes.imap.mailbox_access import MailboxAccess
from nodes.imap.selected import Selected
from nodes.imap.shared import Shared
from nodes.imap.states import State, adds_messages, is_legal, may_announce_expunges, names_numbers
from nodes.logins import door as logins
from nodes.logins.bound_tenants import bind
from nodes.logins.door import Door
from nodes.trail import CODE, TRAIL, Trail

STALLED_COMMAND_S = 300.0  # a client that stops in the middle of a command
UNREAD_S = 120.0  # a client that does not read what it asked for
TLS_HANDSHAKE_S = 30.0
HELD_BYTES = 512 * 1024 * 1024
PAUSE_STEP_S = 0.5  # in which a session that is held back looks whether it is to end
KEPT_TEXT_S = 10.0  # how long a large message is kept for the client's next piece of it


class Session(MailboxAccess):
    """`run` it once; it returns when the connection is over."""

    def __init__(self, shared: Shared, connection: Connection, identity: str) -> None:
        self.trail = Trail(shared.kind, connection.peer, identity)
        super().__init__(shared, connection, self.trail.cause)
        self.logger = shared.services.logger
        limits = shared.services.config.limits
        self.limits = limits
        self.framer = Framer(Limits(limits.line_bytes, limits.literal_bytes, limits.message_bytes))
        self.features = Features()
        self.failed_logins = 0
        self.after_reply: Callable[[], Awaitable[None]] | None = None  # what a handler has done behind its reply
        self.leave: Callable[[], None] = lambda: None  # the list of those who are logged in
        self._held_bytes = 0
        self._bad_commands = 0
        self._sent_bytes = 0
        self._told_slow = False
        self._told = ("other", "")  # the last command, and what it was refused for
        self.stopping = ""  # why the session ends as soon as the present command is done
        self._login_by_s = asyncio.get_running_loop().time() + limits.login_s

    # -- its life

    async def run(self) -> None:
        TRAIL.set(self.trail)  # of this task
        self.bind_trail()
        tracing = self.services.tracing
        if tracing is not None:
            tracing.opened(self.trail)
        try:
            await self._converse()
        except Farewell as farewell:
            self._note(farewell)
            self.write(farewell.reply())
        except ConnectionLost:
            pass
        except Exception:
            self.logger.exception("imap session failed", code="internal")
            self.write(Farewell("internal error; the session ends", "SERVERBUG").reply())
        finally:
            self.deselect()
            self.leave()
            if self.notices is not None:
                self.notices.close()
            if self.past is not None:
                self.services.past.close(self.target, self.past)
            if self.past_of_others is not None:
                self.past_of_others.close()
            self.shared.held.bytes -= self._held_bytes
            self.connection.close()
            if tracing is not None:
                tracing.closed(self.trail)

    async def _converse(self) -> None:
        self.write(b"* OK [CAPABILITY " + self.capabilities() + b"] ")
        self.write(self.services.config.node.hostname.encode("ascii", "replace") + b" mailraft ready\r\n")
        while self.state is not State.LOGOUT:
            await self.drain()
            step = self.framer.next_frame()
            self._hold()
            match step:
                case Frame():
                    await self._perform(step)
                    if not self.framer.buffered:
                        self.connection.flush()  # nothing follows that an answer could go with
                    await asyncio.sleep(0)  # whoever sends many commands at once takes turns with the others
                case Continuation():
                    self.write(b"+ OK\r\n")
                case Oversize():
                    self._answer_oversize(step)
                case _:
                    await self.receive(partial=self.framer.in_command)

    def stop(self, why: str = "the server is stopping") -> None:
        """Say BYE now, or as soon as the present command is done."""
        self.stopping = why
        self.connection.hurry()
        self.connection.wake()

    def bind_trail(self) -> None:
        """Lines name the tenant that the connection is bound to."""
        bind(self.trail, self.services, self.shared.kind, self.connection.tls)

    def _note(self, refused: Refusal | Farewell, command: commands.Command | None = None) -> None:
        name = type(command).__name__.lower() if command is not None else ""
        said = printable(refused.text).decode()
        self.services.refusals.note(refused.error, command=name, reply=said, **self.trail.facts())

    # -- input and output

    def write(self, data: bytes) -> None:
        self.connection.write(data)

    async def drain(self) -> None:
        await self.connection.drain(UNREAD_S)

    async def receive(self, partial: bool = False) -> None:
        """Waits for bytes and gives them to the framer. Raises Farewell, ConnectionLost."""
        await self.drain()
        if self.notices is not None:
            await self.notices.tell_all()
        if self.stopping:
            raise Farewell(self.stopping, error="stopping")
        if self.connection.has_input:
            await asyncio.sleep(0)  # a little that stands for a lot (compression) must not keep the others waiting
        patience_s = self._patience_s(partial)
        if self.last_text is not None and not await self.connection.wait(min(KEPT_TEXT_S, patience_s)):
            self.last_text = None
        if not await self.connection.wait(patience_s):
            raise Farewell("you were silent for too long", error="timed_out")
        if self.stopping:
            raise Farewell(self.stopping, error="stopping")
        self.take_input()

    def take_input(self) -> None:
        data = self.connection.take()
        if not data and self.connection.ended:
            raise ConnectionLost("the client has gone")
        self.framer.feed(data)
        self._hold()
        if self.shared.held.bytes > HELD_BYTES and self._held_bytes > self.limits.literal_bytes:
            raise Farewell("the server holds too many unfinished messages", "UNAVAILABLE", "too_much_mail")

    def _hold(self) -> None:
        """Counts what has arrived of this session's unfinished command."""
        grown, self._held_bytes = self.framer.buffered - self._held_bytes, self.framer.buffered
        self.shared.held.bytes += grown

    def _patience_s(self, partial: bool) -> float:
        if self.state is State.NOT_AUTHENTICATED:
            return max(0.0, self._login_by_s - asyncio.get_running_loop().time())
        return min(STALLED_COMMAND_S, self.limits.imap_idle_s) if partial else self.limits.imap_idle_s

    async def line(self) -> bytes:
        """One bare line of the client: a SASL response, or what ends IDLE. Raises Farewell, ConnectionLost."""
        while True:
            found = self.framer.next_line()
            if isinstance(found, bytes):
                return found
            if isinstance(found, Oversize):
                raise Farewell("line too long", "TOOBIG", "line_too_long")
            await self.receive()

    # -- commands

    async def _perform(self, frame: Frame) -> None:
        """Answers a command, as a span where traces are made."""
        tracing = self.services.tracing
        if tracing is None:
            return await self._answer(frame)
        self._told = ("other", "")
        with tracing.command(self.trail, "command") as span:
            await self._answer(frame)
            name, code = self._told
            span.update_name(name)
            if code:
                span.set_attribute(CODE, code)

    async def _answer(self, frame: Frame) -> None:
        tag = read_tag(frame.text)
        if tag is None:
            if frame.text.strip():
                self.write(b"* BAD no tag\r\n")
                self._count_bad()
            return
        self.last_text, kept = None, self.last_text
        command: commands.Command | None = None
        refused: Refusal | None = None
        reply = b""
        try:
            command = read_command(Cursor(frame, self.features.utf8, not self.features.utf8_accept), tag)
            if isinstance(command, commands.Fetch):
                self.last_text = kept
            if not is_legal(self.state, command):
                raise BadCommand(f"not in the state {self.state.value!r}")
            if self.features.uidonly and names_numbers(command):
                raise BadCommand("there are no message sequence numbers any more", "UIDREQUIRED")  # RFC 9586 3
            if self.past_of_others is not None:
                await self.past_of_others.open_for(command)
            self.place = self.place_of(command)
            reply = b"OK " + (await self.shared.handlers[type(command)](self, command)).encode("ascii")
        except Refusal as refusal:
            if isinstance(refusal, Uncertain) and adds_messages(command):
                # who is cut off looks at what is there first; who is told NO appends once more
                raise Farewell(refusal.text, refusal.code, refusal.error) from None
            self._note(refusal, command)
            refused, reply = refusal, refusal.reply()
        finally:
            self.place = None  # what is told between commands is of one's own mailboxes
        if command is not None:
            self.announce(command)
            if self.features.condstore and self.selected is not None:
                reply = self.selected.qualified(reply)
        name = type(command).__name__.lower() if command else "other"
        self._told = (name, refused.error if refused is not None else "")
        self.services.metrics.command(self.shared.kind, name)
        self.write(tag + b" " + reply + b"\r\n")
        await self._keep_to_bandwidth()
        if isinstance(refused, BadCommand):
            self._count_bad()
        after, self.after_reply = self.after_reply, None
        if after is not None:
            await after()

    async def _keep_to_bandwidth(self) -> None:
        """Whoever has been sent more than they may gets the next answer later; the first time they are told so."""
        limits = self.services.login_limits
        sent, self._sent_bytes = self.connection.written_bytes - self._sent_bytes, self.connection.written_bytes
        if limits is None or self.account is None:
            return
        pause_s = limits.transferred(self.account, sent)
        if not pause_s:
            return
        if not self._told_slow:
            self.write(b"* OK [ALERT] as much was sent as may be in an hour: answers come slowly for a while\r\n")
            self._told_slow = True
        await self.drain()
        loop = asyncio.get_running_loop()
        until_s = loop.time() + pause_s
        while not self.stopping and not self.connection.lost and (left_s := until_s - loop.time()) > 0:
            await asyncio.sleep(min(left_s, PAUSE_STEP_S))

    def _answer_oversize(self, oversize: Oversize) -> None:
        kind = BadCommand if oversize.status == b"BAD" else Refusal
        refusal = kind(oversize.text, oversize.code, "line_too_long")
        self._note(refusal)
        self.write(oversize.tag + b" " + refusal.reply() + b"\r\n")
        self._count_bad()
        if oversize.fatal:
            raise Farewell(oversize.text, oversize.code, "line_too_long")

    def _count_bad(self) -> None:
        self._bad_commands += 1
        if self._bad_commands >= self.limits.errors:
            raise Farewell("too many bad commands", error="too_many_errors")

    def capabilities(self) -> bytes:
        if self.state is not State.NOT_AUTHENTICATED:
            withheld = self.services.config.imap.withheld
            return capability.after_login(append_limit_bytes=self.limits.message_bytes, withheld=withheld)
        start_tls = self.services.tls is not None and not self.connection.secure
        return capability.before_login(start_tls=start_tls, mechanisms=self.door.offer.mechanisms)

    @property
    def door(self) -> Door:
        """How one may log in over this connection as it is."""
        return logins.door(self.services, self.shared.kind, self.connection.peer, self.connection.tls)

    # -- untagged responses

    def announce(self, command: commands.Command) -> None:
        """Tells what changed, as far as this command allows it. Raises Farewell when the mailbox has gone."""
        if self.state is State.SELECTED and self.selected is not None:
            by_uid = getattr(command, "by_uid", False)
            self.tell(self.selected, may_announce_expunges(command), with_uid=by_uid)

    def enable(self, name: str) -> str | None:
        """Switches something on for the rest of the session; gives its name, None where there is no such thing."""
        if name in self.services.config.imap.withheld:
            return None
        had_condstore = self.features.condstore
        known = self.features.enable(name)
        if self.features.condstore and not had_condstore and self.state is State.SELECTED:
            self.write(b"* OK [HIGHESTMODSEQ %d] from here on\r\n" % self.mailbox.told_modseq)  # RFC 7162 3.1.2
        return known

    def tell(self, selected: Selected, expunges: bool, with_uid: bool) -> None:
        if selected.folder_changed:
            with self.reading_of(selected.owner) as reading:
                found = folder(reading.view, selected.folder.id)
                may_stay = selected.owner is None or {"l", "r"} <= held(reading.view.peek, selected.folder.id, self.who)
            if found is None or not may_stay:
                raise Farewell("the selected mailbox was deleted", error="no_such_folder")
            selected.folder_changed = False
        gone, changed = selected.waiting(expunges) if selected.updates else (set[int](), set[int]())
        search_updates.before_news(self, selected, gone)
        for line in selected.announce(expunges, with_uid):
            self.write(line)
        if changed:
            search_updates.after_news(self, selected, changed)
