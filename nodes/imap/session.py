"""One client's session: takes commands as they arrive, has them carried out one after another, answers each.

This module holds what all commands share: state, replies, writing through the actors, telling of changes. What each
command does is in login.py, folders.py, listing.py and messages.py, found by the command's type in `COMMANDS`
(server.py puts them together). A session touches its mailbox only in its own task; the log's changes merely wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from actors.errors import CommandRefused, NoSuchAccount, NoSuchFolder, replica_text
from actors.groups import groups_of
from actors.mailbox import Acting, folder
from actors.mailbox_acl import held
from actors.runtime import Context, Done, NewBody
from eventlog.errors import LogError
from eventlog.record import By
from nodes.imap import capability, commands, search_updates
from nodes.imap.connection import Connection, ConnectionLost
from nodes.imap.cursor import Cursor
from nodes.imap.errors import BadCommand, Farewell, Refusal, Uncertain, no_such_mailbox, printable, refusal_of
from nodes.imap.features import Features
from nodes.imap.fetch import MessageText
from nodes.imap.framing import Continuation, Frame, Framer, Limits, Oversize
from nodes.imap.grammar import read_command, read_tag
from nodes.imap.selected import Selected
from nodes.imap.shared import Shared
from nodes.imap.states import State, adds_messages, is_legal, may_announce_expunges, names_numbers, works_on_selected
from nodes.logins import door as logins
from nodes.logins.bound_tenants import bind
from nodes.logins.door import Door
from nodes.reading import Present
from nodes.trail import CODE, TRAIL, Trail

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from actors.directory import Target
    from actors.kind import Command as ActorCommand
    from nodes.imap.notify import Notices
    from nodes.imap.past_sharing import PastOfOthers
    from nodes.past import PastMailbox
    from nodes.reading import Reading

Step = tuple[bytes, "ActorCommand"]

STALLED_COMMAND_S = 300.0  # a client that stops in the middle of a command
UNREAD_S = 120.0  # a client that does not read what it asked for
TLS_HANDSHAKE_S = 30.0
HELD_BYTES = 512 * 1024 * 1024
PAUSE_STEP_S = 0.5  # in which a session that is held back looks whether it is to end
KEPT_TEXT_S = 10.0  # how long a large message is kept for the client's next piece of it


class Session:
    """`run` it once; it returns when the connection is over."""

    def __init__(self, shared: Shared, connection: Connection, identity: str) -> None:
        self.shared = shared
        self.services = shared.services
        self.connection = connection
        self.trail = Trail(shared.kind, connection.peer, identity)
        self.cause = self.trail.cause
        self.logger = shared.services.logger
        limits = shared.services.config.limits
        self.limits = limits
        self.framer = Framer(Limits(limits.line_bytes, limits.literal_bytes, limits.message_bytes))
        self.state = State.NOT_AUTHENTICATED
        self.account: Target | None = None
        self.past: PastMailbox | None = None  # what is shown where the log-in named a moment
        self.past_of_others: PastOfOthers | None = None
        self.selected: Selected | None = None
        self.place: Target | None = None  # whose mailbox the present command is about, where it is not one's own
        self.features = Features()
        self.notices: Notices | None = None
        self.failed_logins = 0
        self.last_text: tuple[bytes, MessageText] | None = None  # of a large message that is fetched in pieces
        self.after_reply: Callable[[], Awaitable[None]] | None = None  # what a handler has done behind its reply
        self._unwatch: Callable[[], None] | None = None
        self.leave: Callable[[], None] = lambda: None  # the list of those who are logged in
        self._held_bytes = 0
        self._bad_commands = 0
        self._sent_bytes = 0
        self._told_slow = False
        self._told = ("other", "")  # the last command, and what it was refused for
        self.idling = False
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
            self.place = self._place_of(command)
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

    # -- the account and its mailbox

    @property
    def target(self) -> Target:
        """The account that is logged in."""
        assert self.account is not None
        return self.account

    @property
    def who(self) -> tuple[bytes, ...]:
        """The account, and the groups that it is in now: all that lists of others may name."""
        with self.services.log.snapshot() as snapshot:
            return (self.target.account, *groups_of(snapshot.view(self.target.tenant), self.target.account))

    @property
    def mailbox(self) -> Selected:
        """The selected mailbox."""
        assert self.selected is not None
        return self.selected

    @property
    def read_only(self) -> str | None:
        """Why nothing of this account can be changed in this session; None where it can."""
        if self.past is not None:
            return f"this is the mailbox as of {self.past.moment}: nothing can be changed"
        home = self.services.runtime.homes.of(self.target.tenant)
        return None if home is None else replica_text(home)

    @property
    def writable_mailbox(self) -> Selected:
        """The selected mailbox; raises Refusal after EXAMINE, and where it is a look back or a replica."""
        if (reason := self.read_only) is not None:
            raise Refusal(reason, "NOPERM")
        if self.mailbox.read_only:
            raise Refusal("the mailbox is selected read-only", "CANNOT")
        return self.mailbox

    def reading(self) -> AbstractContextManager[Reading]:
        """A short read of the mailbox that the present command is about: see `reading_of`."""
        return self.reading_of(self.place)

    def reading_of(self, place: Target | None) -> AbstractContextManager[Reading]:
        """A short read of another's mailbox, or of one's own: as it was where the log-in named a moment."""
        if self.past is None:
            return Present(self.services.log, place or self.target)()
        if place is None:
            return self.past()
        others = self.past_of_others.of(place) if self.past_of_others is not None else None
        if others is None:
            raise no_such_mailbox()
        return others()

    def shows(self, owner: Target) -> bool:
        """Whether there is anything to be seen of another's mailboxes: in a look back only what has been opened."""
        return self.past is None or (self.past_of_others is not None and self.past_of_others.of(owner) is not None)

    def rights_in(self, owner: Target, folder_id: bytes) -> frozenset[str]:
        """What this account may do with another's folder; in a look back what it might then and may now."""
        with self.reading_of(owner) as reading:
            return self.rights_among(owner, [folder_id], reading)[0]

    def rights_among(self, owner: Target, folder_ids: Sequence[bytes], reading: Reading) -> list[frozenset[str]]:
        """The same of several, through a reading of the owner's mailbox."""
        read = reading.view.peek
        if self.past is None:
            return [held(read, one, self.who) for one in folder_ids]
        # who was in which group then is not known here: what was granted by a line of one's own counts
        alone = self.who[:1]
        with Present(self.services.log, owner)() as present:
            now = present.view.peek
            return [held(read, one, alone) & held(read, one, self.who) & held(now, one, self.who) for one in folder_ids]

    def _place_of(self, command: commands.Command) -> Target | None:
        """Where what is selected is another's: whose, as long as it may be read. Raises Farewell."""
        selected = self.selected
        if selected is None or selected.owner is None or not works_on_selected(command):
            return None
        selected.rights = self.rights_in(selected.owner, selected.folder.id)
        if not selected.rights >= {"l", "r"}:
            raise Farewell("the selected mailbox was deleted", error="no_such_folder")
        return selected.owner

    @property
    def selected_account(self) -> bytes:
        """Whose mailbox the present command is about."""
        return (self.place or self.target).account

    @property
    def origin(self) -> str:
        """Where the client is, for the record."""
        return f"{self.shared.kind} {self.connection.peer}:{self.connection.peer_port}"

    async def ask(self, command: ActorCommand, bodies: Sequence[NewBody] = (), timeout_s: float | None = None) -> Done:
        """Has a change made where the present command is about; answered once it is folded here. Raises Refusal."""
        if bodies:
            return await self.ask_all((self.step(self.place, command),), bodies)
        context = self._context(timeout_s)
        stream, asked = self.step(self.place, command)
        try:
            return await self.services.runtime.ask(stream, asked, context)
        except (CommandRefused, LogError) as error:
            raise self._refusal_of(error) from error

    async def ask_all(self, steps: Sequence[Step], bodies: Sequence[NewBody] = ()) -> Done:
        """Has changes made in one record, all or none. Raises Refusal."""
        context = self._context(None)
        try:
            return await self.services.runtime.transact(steps, context, bodies)
        except (CommandRefused, LogError) as error:
            raise self._refusal_of(error) from error

    def step(self, place: Target | None, command: ActorCommand) -> Step:
        """A change of another's mailbox, by this account's rights to it; or of one's own, where `place` is None."""
        if place is None:
            return self.target.account, command
        return place.account, Acting(self.target.account, command, groups=self.who[1:])

    def _refusal_of(self, error: CommandRefused | LogError) -> Refusal:
        if self.place is not None and isinstance(error, NoSuchFolder | NoSuchAccount):
            return no_such_mailbox()
        return refusal_of(error)

    def _context(self, timeout_s: float | None) -> Context:
        """For a change by this session. Raises Refusal where it can make none."""
        if (reason := self.read_only) is not None:
            raise Refusal(reason, "NOPERM")
        by = By("account", self.target.account, self.origin)
        return Context(by, self.cause, self.target.tenant, timeout_s or self.services.config.raft.propose_timeout_s)

    def select(self, selected: Selected) -> None:
        """Begins to watch; the caller then scans, settles and answers."""
        self.deselect()
        self.selected = selected
        selected.owner = self.place
        if self.past is not None:
            return  # the past is quiet

        def applied(items: list[Any]) -> None:
            if selected.applied(items) and (self.idling or self.notices is not None):
                self.connection.wake()

        self._unwatch = self.services.log.subscribe((self.place or self.target).account, applied)

    def deselect(self) -> None:
        if self._unwatch is not None:
            self._unwatch()
        self._unwatch = None
        self.selected = None
        self.last_text = None
        if self.state is State.SELECTED:
            self.state = State.AUTHENTICATED

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
