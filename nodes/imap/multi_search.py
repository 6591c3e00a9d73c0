"""ESEARCH over several mailboxes (RFC 7377): one response for each in which something was found."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator, Iterable
from itertools import islice
from typing import NamedTuple, assert_never

from actors.mailbox import DELIMITER, INBOX, Folder, Message, folders, messages, subscriptions
from actors.mailbox_rows import is_inferior
from nodes.imap import render, search_response
from nodes.imap.errors import BadCommand
from nodes.imap.places import ALL, Place, shared_with
from nodes.imap.search_commands import MultiSearch, Sources
from nodes.imap.search_response import Found
from nodes.imap.searching import Searched, asks_by_modseq, run, saving, selected_mailbox
from nodes.imap.session import Session
from nodes.imap.shared import Handler
from nodes.reading import Reading

UIDS_AT_ONCE = 5000


class _Mailbox(NamedTuple):
    folder: Folder
    searched: Searched


async def multi_search(session: Session, command: MultiSearch) -> str:
    with_modseq = asks_by_modseq(command.program)
    async for mailbox in _mailboxes(session, command):
        found: list[Found] = []

        def take(_: int, row: Message, __: Reading, found: list[Found] = found) -> None:
            found.append(Found(row.uid, row.uid, row.modseq))

        await saving(session, command.returned, run(session, mailbox.searched, command.program, take))
        correlator = b'TAG "%b" MAILBOX %b UIDVALIDITY %d' % (
            command.tag,
            render.mailbox(mailbox.folder.name, session.features.utf8),
            mailbox.folder.uidvalidity,
        )
        line = search_response.extended(correlator, found, command.returned, True, with_modseq)
        if found and line is not None:
            session.write(line)
        if "SAVE" in command.returned.options:
            session.mailbox.saved = search_response.saved(found, command.returned)
        await session.drain()
    return "ESEARCH completed"


async def _mailboxes(session: Session, command: MultiSearch) -> AsyncIterator[_Mailbox]:
    """Each mailbox once, in the order of LIST. Raises BadCommand where the selected one is named and there is none."""
    if any(source.filter in _SELECTED for source in command.sources) and session.selected is None:
        raise BadCommand("no mailbox is selected")
    for place in [one for one in _all(session) if _is_wanted(session, one, command.sources)]:
        if _is_selected(session, place):
            yield _Mailbox(place.folder, selected_mailbox(session))
        else:
            uids = await _uids(session, place)
            yield _Mailbox(place.folder, Searched(place.owner, place.folder.id, uids, lambda _: False, frozenset()))


def _all(session: Session) -> list[Place]:
    """One's own mailboxes, and those of others that one may read (RFC 7377 2.2)."""
    with session.reading_of(None) as reading:
        own = [Place(None, one, ALL) for one in folders(reading.view)]
        subscribed = frozenset(subscriptions(reading.view))
    return own + [place for place in shared_with(session, subscribed) if "r" in place.rights]


def _is_selected(session: Session, place: Place) -> bool:
    selected = session.selected
    return selected is not None and (selected.owner, selected.folder.id) == (place.owner, place.folder.id)


_SELECTED = ("selected", "selected-delayed")


def _is_wanted(session: Session, place: Place, sources: Iterable[Sources]) -> bool:
    return any(_names(session, source, place) for source in sources)


def _names(session: Session, source: Sources, place: Place) -> bool:
    """Whether a filter (RFC 5465 6, RFC 7377 2.2) means this mailbox."""
    folder = place.folder
    match source.filter:
        case "selected" | "selected-delayed":
            return _is_selected(session, place)
        case "inboxes":
            return folder.name == INBOX
        case "personal":
            return place.owner is None
        case "subscribed":
            return folder.subscribed
        case "mailboxes":
            return folder.name in source.names
        case "subtree":
            return any(not name or folder.name == name or is_inferior(folder.name, name) for name in source.names)
        case "subtree-one":
            superior = folder.name.rpartition(DELIMITER)[0]
            return any(name in (folder.name, superior) for name in source.names)
        case _:
            assert_never(source.filter)


async def _uids(session: Session, place: Place) -> array[int]:
    uids = array("I")
    first = 1
    while True:
        with session.reading_of(place.owner) as reading:
            some = [row.uid for row in islice(messages(reading.view, place.folder.id, first), UIDS_AT_ONCE)]
        uids.extend(some)
        if len(some) < UIDS_AT_ONCE:
            return uids
        first = some[-1] + 1
        await asyncio.sleep(0)


HANDLERS: dict[type, Handler] = {MultiSearch: multi_search}
