"""What a session sees of mailboxes, and how it has them changed: its account's, and others' as far as rights go.

A read is one short snapshot, of the present or, where the log-in named a moment, of then. A change is asked of the
actor of the mailbox that the present command is about; who may make none is refused before anything is proposed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from actors.errors import CommandRefused, NoSuchAccount, NoSuchFolder, replica_text
from actors.groups import groups_of
from actors.mailbox import Acting
from actors.mailbox_acl import held
from actors.runtime import Context, Done, NewBody
from eventlog.errors import LogError
from eventlog.record import By
from nodes.imap import commands
from nodes.imap.connection import Connection
from nodes.imap.errors import Farewell, Refusal, no_such_mailbox, refusal_of
from nodes.imap.fetch import MessageText
from nodes.imap.selected import Selected
from nodes.imap.shared import Shared
from nodes.imap.states import State, works_on_selected
from nodes.reading import Present

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from actors.directory import Target
    from actors.kind import Command as ActorCommand
    from nodes.imap.notify import Notices
    from nodes.imap.past_sharing import PastOfOthers
    from nodes.past import PastMailbox
    from nodes.reading import Reading

Step = tuple[bytes, "ActorCommand"]


class MailboxAccess:
    """The part of a session that reads and writes; who has not logged in has no use for it."""

    def __init__(self, shared: Shared, connection: Connection, cause: str) -> None:
        self.shared = shared
        self.services = shared.services
        self.connection = connection
        self.cause = cause
        self.state = State.NOT_AUTHENTICATED
        self.account: Target | None = None
        self.past: PastMailbox | None = None  # what is shown where the log-in named a moment
        self.past_of_others: PastOfOthers | None = None
        self.selected: Selected | None = None
        self.place: Target | None = None  # whose mailbox the present command is about, where it is not one's own
        self.notices: Notices | None = None
        self.last_text: tuple[bytes, MessageText] | None = None  # of a large message that is fetched in pieces
        self.idling = False
        self._unwatch: Callable[[], None] | None = None

    # -- whose

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

    # -- reading

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

    def place_of(self, command: commands.Command) -> Target | None:
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

    # -- writing

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

    # -- the selected mailbox

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
