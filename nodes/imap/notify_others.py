"""NOTIFY (RFC 5465) of what others share: messages that come, go and change in their mailboxes, as far as one may read.

Groups that name such mailboxes, or subscribed ones, are about them; `personal` and `inboxes` are not. Whose mailboxes
are watched is looked up when the client asks; who may read is looked up each time something is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from actors.mailbox import DELIMITER, INBOX, Change, FlagsOfMany, folder, subscriptions
from actors.mailbox_rows import subscription_key, superior_names
from nodes.imap import places
from nodes.imap.notify_commands import MESSAGE_EVENTS, EventGroup
from nodes.imap.status import write_status

if TYPE_CHECKING:
    from actors.directory import Target
    from actors.mailbox import Folder
    from eventlog.log import Applied
    from nodes.imap.session import Session

OWNERS_LIMIT = 200  # whose mailboxes one session watches

_KINDS = {"added": "MESSAGENEW", "expunged": "MESSAGEEXPUNGE", "flags": "FLAGCHANGE"}
_READ = frozenset("lr")


class OfOthers:
    """What one session has asked to be told of others' mailboxes, and what it has yet to be told."""

    def __init__(self, session: Session, groups: Sequence[EventGroup]) -> None:
        self._session = session
        self._groups = [group for group in groups if group.which in ("SUBSCRIBED", "SUBTREE", "MAILBOXES")]
        self._dirty: dict[tuple[bytes, bytes], set[str]] = {}
        self._owners: dict[bytes, tuple[str, Target]] = {}
        self._unwatch: list[Callable[[], None]] = []
        if session.past is None and any(group.events & MESSAGE_EVENTS for group in self._groups):
            self._watch()

    def _watch(self) -> None:
        concerned = [one for one in places.sharing(self._session) if any(_reaches(g, one[0]) for g in self._groups)]
        for prefix, owner in concerned[:OWNERS_LIMIT]:
            self._owners[owner.account] = prefix, owner
            applied = partial(self._applied, owner.account)
            self._unwatch.append(self._session.services.log.subscribe(owner.account, applied))

    def close(self) -> None:
        for unwatch in self._unwatch:
            unwatch()
        self._unwatch.clear()

    def _applied(self, account: bytes, items: list[Applied]) -> None:
        for item in items:
            for folder_id, kind in kinds_of(item.result):
                self._dirty.setdefault((account, folder_id), set()).add(kind)
        self._session.connection.wake()

    @property
    def has_news(self) -> bool:
        return bool(self._dirty)

    async def tell(self) -> None:
        dirty, self._dirty = self._dirty, {}
        for (account, folder_id), kinds in dirty.items():
            prefix, owner = self._owners[account]
            with self._session.reading_of(owner) as reading:
                found = folder(reading.view, folder_id)
            if found is not None and self._session.rights_in(owner, folder_id) >= _READ:
                await self._tell_status(owner, found._replace(name=prefix + found.name), kinds, ())

    async def tell_standing(self) -> None:
        """RFC 5465 4: how each of them stands."""
        if not self._owners:
            return
        with self._session.reading_of(None) as reading:
            subscribed = frozenset(subscriptions(reading.view))
        for place in places.shared_with(self._session, subscribed):
            if place.owner is not None and place.owner.account in self._owners and place.rights >= _READ:
                await self._tell_status(place.owner, place.folder, MESSAGE_EVENTS, ("UIDVALIDITY",))

    async def _tell_status(
        self, owner: Target, found: Folder, kinds: set[str] | frozenset[str], first: tuple[str, ...]
    ) -> None:
        session = self._session
        if session.selected is not None and session.selected.folder.id == found.id:
            return
        wanted = self._events_of(found.name) & kinds
        if wanted:
            items = dict.fromkeys((*first, *status_items(wanted, session.features.condstore)))
            session.place = owner
            await write_status(session, found, tuple(items))
            session.place = None
            await session.drain()

    def _events_of(self, name: str) -> frozenset[str]:
        with self._session.reading_of(None) as reading:
            subscribed = reading.view.peek(subscription_key(name)) is not None
        return next((group.events for group in self._groups if covers(group, name, subscribed)), frozenset())


def kinds_of(result: Any) -> Iterator[tuple[bytes, str]]:
    """The mailboxes in which a record changed messages, and which event of NOTIFY that is."""
    for change in result if isinstance(result, list) else ():
        if isinstance(change, FlagsOfMany):
            yield change.folder, _KINDS["flags"]
        elif isinstance(change, Change) and change.kind in _KINDS:
            yield change.folder, _KINDS[change.kind]


def status_items(events: frozenset[str] | set[str], condstore: bool) -> tuple[str, ...]:
    """What tells of these events (RFC 5465 5.1 to 5.3)."""
    items = ["MESSAGES"] if events - {"FLAGCHANGE"} else []
    if "MESSAGENEW" in events:
        items.append("UIDNEXT")
    if "FLAGCHANGE" in events:
        items += ["UIDVALIDITY", "UNSEEN"]
    return (*items, "HIGHESTMODSEQ") if condstore else tuple(items)


def covers(group: EventGroup, name: str, subscribed: bool) -> bool:
    """Whether a group is about a mailbox; costs the same however many names the group has."""
    match group.which:
        case "INBOXES":
            return name == INBOX
        case "SUBSCRIBED":
            return subscribed
        case "SUBTREE":
            return name in group.names or any(above in group.names for above in superior_names(name))
        case "MAILBOXES":
            return name in group.names
        case _:
            return True


def _reaches(group: EventGroup, prefix: str) -> bool:
    """Whether a group may be about a mailbox whose name begins like this."""
    if group.which == "SUBSCRIBED":
        return True
    return any(name.startswith(prefix) or prefix.startswith(name + DELIMITER) for name in group.names)
