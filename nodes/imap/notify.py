"""NOTIFY (RFC 5465): a client is told of what happens in any of its mailboxes, while it waits and between commands.

Changes are gathered as they are folded, by mailbox and kind, whoever made them at whichever node; what is told is how
things stand when the client is next spoken to, so that a storm costs a line and not a storm of lines. What can not be
gathered like that (names that come and go) is bounded: beyond that the client is told that it has missed some.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

from actors.mailbox import SERVER, AnnotationsSet, Folder, folder, folders
from actors.mailbox_annotations import OWNER
from actors.mailbox_rows import subscription_key
from actors.mailbox_terms import (
    FolderCreated,
    FolderDeleted,
    FolderRenamed,
    FolderSubscribed,
    FolderUnsubscribed,
)
from nodes.imap import commands, messages, render
from nodes.imap.commands import Section
from nodes.imap.content_commands import Binary
from nodes.imap.errors import Refusal
from nodes.imap.notify_commands import MESSAGE_EVENTS, EventGroup, Notify
from nodes.imap.notify_others import OfOthers, covers, kinds_of, status_items
from nodes.imap.sequence import SequenceSet
from nodes.imap.shared import Handler
from nodes.imap.states import State
from nodes.imap.status import write_status

if TYPE_CHECKING:
    from eventlog.log import Applied
    from nodes.imap.session import Session

NAMES_LIMIT = 1000  # changes of names and annotations that wait to be told
FOLDERS_AT_ONCE = 64

NameChange = FolderCreated | FolderDeleted | FolderRenamed | FolderSubscribed | FolderUnsubscribed | AnnotationsSet


class Notices:
    """What one session has asked for, and what it has yet to be told of that."""

    def __init__(self, session: Session, groups: tuple[EventGroup, ...]) -> None:
        self._session = session
        self._groups = [group for group in groups if not group.is_selected]
        self._selected = next((group for group in groups if group.is_selected), None)
        self._dirty: dict[bytes, set[str]] = {}
        self._names: list[NameChange] = []
        self._overflown = False
        self._fetched_uid = self._highest_uid()
        self._unwatch: Callable[[], None] | None = None
        self._others = OfOthers(session, self._groups)
        if session.past is None:  # the past is quiet
            self._unwatch = session.services.log.subscribe(session.target.account, self._applied)

    def close(self) -> None:
        self._others.close()
        if self._unwatch is not None:
            self._unwatch()

    # -- what the log says

    def _applied(self, items: list[Applied]) -> None:
        for item in items:
            for folder_id, kind in kinds_of(item.result):
                self._dirty.setdefault(folder_id, set()).add(kind)
            if isinstance(item.fact, NameChange):
                self._note_name(item.fact)
        self._session.connection.wake()

    def _note_name(self, fact: NameChange) -> None:
        if isinstance(fact, AnnotationsSet):  # what is in them is not told, and not kept
            fact = dataclasses.replace(fact, changes=tuple((entry, None) for entry, _ in fact.changes))
        if len(self._names) < NAMES_LIMIT:
            self._names.append(fact)
        else:
            self._overflown = True

    @property
    def has_news(self) -> bool:
        """Whether there may be something to tell."""
        return bool(self._dirty or self._names or self._others.has_news or self._has_selected_news)

    @property
    def _has_selected_news(self) -> bool:
        session = self._session
        if self._selected is None or session.selected is None or session.state is not State.SELECTED:
            return False
        if not self._selected.events:
            return False
        return session.selected.has_news_for(self._selected.which == "SELECTED") or self._has_unfetched

    # -- what the client is told

    async def tell_all(self) -> None:
        """Before the session waits for its client: until nothing is left. Raises ConnectionLost."""
        while self.has_news and not self._overflown:
            await self._tell()
            await self._session.drain()
        if self._overflown:
            self._session.write(b"* OK [NOTIFICATIONOVERFLOW] too much happened: NOTIFY is over\r\n")  # RFC 5465 5.8
            self.close()
            self._session.notices = None
            await self._session.drain()

    async def _tell(self) -> None:
        await self._tell_selected()
        self._session.place = None
        await self._others.tell()
        await self._tell_names()
        dirty, self._dirty = self._dirty, {}
        for folder_id, kinds in dirty.items():
            await self._tell_status(folder_id, kinds)

    async def _tell_names(self) -> None:
        names, self._names = self._names, []
        for told, fact in enumerate(names, 1):
            self._tell_name(fact)
            if told % FOLDERS_AT_ONCE == 0:
                await self._session.drain()
                await asyncio.sleep(0)

    async def _tell_selected(self) -> None:
        session, group = self._session, self._selected
        if group is None or session.selected is None or not self._has_selected_news:
            return
        session.place = session.selected.owner
        session.tell(session.selected, expunges=group.which == "SELECTED", with_uid=True)
        if self._has_unfetched:
            wanted = SequenceSet(((self._fetched_uid + 1, self._highest_uid()),))
            self._fetched_uid = self._highest_uid()
            items = (*(() if "UID" in group.fetched else ("UID",)), *map(_peeking, group.fetched))
            with contextlib.suppress(Refusal):  # bytes that are missing here are told of where they are asked for
                await messages.send(session, session.selected, commands.Fetch(wanted, items, by_uid=True))

    def selected_anew(self) -> None:
        """A mailbox was selected: what is in it is not new."""
        self._fetched_uid = self._highest_uid()

    @property
    def _has_unfetched(self) -> bool:
        return self._selected is not None and bool(self._selected.fetched) and self._highest_uid() > self._fetched_uid

    def _highest_uid(self) -> int:
        selected = self._session.selected
        return selected.uids[-1] if selected is not None and selected.uids else 0

    async def _tell_status(self, folder_id: bytes, kinds: set[str]) -> None:
        """RFC 5465 5.1 to 5.3: of a mailbox that is not selected."""
        selected = self._session.selected
        if selected is not None and selected.folder.id == folder_id:
            return
        with self._session.reading_of(None) as reading:
            found = folder(reading.view, folder_id)
        if found is None:
            return
        wanted = self._events_of(found.name, found.subscribed) & kinds
        if wanted:
            await write_status(self._session, found, status_items(wanted, self._session.features.condstore))

    async def tell_standing(self) -> None:
        """RFC 5465 4: how each mailbox stands whose messages are asked for."""
        self._session.place = None
        with self._session.reading_of(None) as reading:
            present: list[Folder] = folders(reading.view)
        selected = self._session.selected
        for told, found in enumerate(present, 1):
            wanted = self._events_of(found.name, found.subscribed) & MESSAGE_EVENTS
            if wanted and (selected is None or selected.folder.id != found.id):
                items = ("UIDVALIDITY", *status_items(wanted, self._session.features.condstore))
                await write_status(self._session, found, tuple(dict.fromkeys(items)))
            if told % FOLDERS_AT_ONCE == 0:
                await self._session.drain()
                await asyncio.sleep(0)
        await self._others.tell_standing()

    def _tell_name(self, fact: NameChange) -> None:
        match fact:
            case FolderCreated(name=name):
                self._list(name, "MAILBOXNAME", b"()")
            case FolderDeleted(name=name):
                self._list(name, "MAILBOXNAME", b"(\\NonExistent)")
            case FolderRenamed(old_name=old, new_name=name):
                if "MAILBOXNAME" in self._events_of(old, self._is_subscribed(old)):
                    self._list(name, "MAILBOXNAME", b"()", old, always=True)
                else:
                    self._list(name, "MAILBOXNAME", b"()", old)
            case FolderSubscribed(name=name):
                self._list(name, "SUBSCRIPTIONCHANGE", b"(\\Subscribed)", subscribed=True)
            case FolderUnsubscribed(name=name):
                self._list(name, "SUBSCRIPTIONCHANGE", b"()", subscribed=True)
            case AnnotationsSet():
                self._tell_metadata(fact)

    def _list(
        self,
        name: str,
        event: str,
        attributes: bytes,
        old: str = "",
        *,
        always: bool = False,
        subscribed: bool | None = None,
    ) -> None:
        if subscribed is None:
            subscribed = self._is_subscribed(name)
        if not always and event not in self._events_of(name, subscribed):
            return
        utf8 = self._session.features.utf8
        line = b'* LIST %b "/" %b' % (attributes, render.mailbox(name, utf8))
        # RFC 5465 5.4, RFC 5258 6: the name that it had
        self._session.write(line + (b' ("OLDNAME" (%b))\r\n' % render.mailbox(old, utf8) if old else b"\r\n"))

    def _tell_metadata(self, fact: AnnotationsSet) -> None:
        """RFC 5465 5.6, 5.7: which entries, not what is in them; what others keep for themselves is not told."""
        written = [entry for entry, _ in fact.changes if fact.reader == OWNER or not entry.startswith("/private/")]
        if not written:
            return
        with self._session.reading_of(None) as reading:
            found = folder(reading.view, fact.folder_id)
        if found is not None:
            wanted = "MAILBOXMETADATACHANGE" in self._events_of(found.name, found.subscribed)
        else:
            wanted = fact.folder_id == SERVER and any("SERVERMETADATACHANGE" in group.events for group in self._groups)
        if wanted:
            name = render.mailbox(found.name if found else "", self._session.features.utf8)
            entries = b" ".join(render.string(entry.encode()) for entry in written)
            self._session.write(b"* METADATA %b %b\r\n" % (name, entries))

    # -- who asked for what

    def _is_subscribed(self, name: str) -> bool:
        with self._session.reading_of(None) as reading:
            return reading.view.peek(subscription_key(name)) is not None

    def _events_of(self, name: str, subscribed: bool) -> frozenset[str]:
        """By the first group that names the mailbox (RFC 5465 6)."""
        return next((group.events for group in self._groups if covers(group, name, subscribed)), frozenset())


def _peeking(item: commands.FetchItem) -> commands.FetchItem:
    """Being told of a message is not reading it."""
    return dataclasses.replace(item, peek=True) if isinstance(item, Section | Binary) else item


async def notify(session: Session, command: Notify) -> str:
    if session.notices is not None:
        session.notices.close()
        session.notices = None
    if command.groups:
        session.notices = Notices(session, command.groups)
        if command.status:
            await session.notices.tell_standing()
    return "NOTIFY completed"


HANDLERS: dict[type, Handler] = {Notify: notify}
