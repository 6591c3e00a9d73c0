"""LIST and LSUB (RFC 3501 6.3.8, 6.3.9; RFC 5258, 5819, 6154).

What a client sees as the tree of mailboxes is made from the folders and subscriptions of one snapshot: names above a
mailbox that are none themselves are shown as such. Pure, but for the handler at the end.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from actors.mailbox import (
    DELIMITER,
    INBOX,
    Folder,
    folder,
    folders,
    subscriptions,
    superior_names,
)
from nodes.imap import commands, metadata, places, render
from nodes.imap.acl import my_rights_line
from nodes.imap.places import Place
from nodes.imap.session import Session
from nodes.imap.shared import Handler
from nodes.imap.status import write_status

NAMES_AT_ONCE = 64


class Entry(NamedTuple):
    """One line of a LIST or LSUB response."""

    name: str
    attributes: tuple[str, ...]
    child_info: bool  # RFC 5258 3.5: mailboxes below match the selection
    folder: Folder | None  # None where there is none, and where it is not selected itself


def matches(pattern: str, name: str) -> bool:
    """Whether a mailbox pattern (`*` anything, `%` anything but the delimiter) takes a name.

    Bit n of `reached` says that what is read of the pattern takes the first n characters of the name: a few operations
    on one integer for each character of the pattern, whatever the pattern is.
    """
    if pattern == "*":
        return True
    places: dict[str, int] = {}
    for at, character in enumerate(name):
        places[character] = places.get(character, 0) | 1 << at
    everywhere = (1 << (len(name) + 1)) - 1
    within = (everywhere >> 1) & ~places.get(DELIMITER, 0)
    reached = 1
    for wanted in pattern:
        if wanted == "*":
            reached = everywhere & -(reached & -reached)  # all from the lowest on
        elif wanted == "%":
            # a carry runs from each reached place to the end of its level
            reached |= ((reached & within) + within) ^ within
        else:
            reached = (reached & places.get(wanted, 0)) << 1
        if not reached:
            return False
    return bool(reached >> len(name) & 1)


class Tree:
    """All names of one account: its folders, its subscriptions and the names above them."""

    def __init__(self, present: Iterable[Folder], subscribed: Iterable[str]) -> None:
        self.folders = {found.name: found for found in present}
        self.subscribed = frozenset(subscribed)
        self._sorted = sorted(self.folders)

    def has_children(self, name: str) -> bool:
        return _has_below(self._sorted, name)

    def entries(self, command: commands.List) -> Iterator[Entry | None]:
        """What the command lists, in order; None for each name that was looked at and is not: the caller may pause."""
        patterns = [command.reference + pattern for pattern in command.patterns]
        return self._lsub(patterns) if command.lsub else self._list(patterns, command)

    def _list(self, patterns: Sequence[str], command: commands.List) -> Iterator[Entry | None]:
        selection = command.selection - {"REMOTE"}
        recursive = "RECURSIVEMATCH" in selection
        selected = sorted(name for name in self._names(selection) if self._is_selected(name, selection))
        chosen = frozenset(selected)
        listed = set(selected)
        if not selection:
            listed.update(above for name in selected for above in superior_names(name))
        elif recursive:
            for name in selected:
                yield None
                if not _is_listed(patterns, name):  # RFC 5258 3.5: who is listed speaks for itself
                    listed.update(superior_names(name))
        show_subscribed = "SUBSCRIBED" in command.returned or "SUBSCRIBED" in selection
        noselect = "\\NonExistent" if selection or command.returned else "\\Noselect"
        for name in _in_order(listed):
            if not _is_listed(patterns, name):
                yield None
                continue
            attributes = self._attributes(name, noselect, show_subscribed)
            found = self.folders.get(name) if name in chosen else None
            yield Entry(name, attributes, recursive and _has_below(selected, name), found)

    def _names(self, selection: frozenset[str]) -> Iterable[str]:
        return self.subscribed if "SUBSCRIBED" in selection else self.folders

    def _is_selected(self, name: str, selection: frozenset[str]) -> bool:
        if "SPECIAL-USE" not in selection:
            return True
        found = self.folders.get(name)
        return found is not None and found.special_use is not None

    def _attributes(self, name: str, absent: str, show_subscribed: bool) -> tuple[str, ...]:
        found = self.folders.get(name)
        attributes = [] if found else [absent]
        if show_subscribed and name in self.subscribed:
            attributes.append("\\Subscribed")
        attributes.append("\\HasChildren" if self.has_children(name) else "\\HasNoChildren")
        if found and found.special_use:
            attributes.append(found.special_use)
        return tuple(attributes)

    def _lsub(self, patterns: Sequence[str]) -> Iterator[Entry | None]:
        """RFC 3501 6.3.9: with `%`, a name whose inferiors are subscribed and which is not comes as \\Noselect."""
        names = set(self.subscribed)
        if any("%" in pattern for pattern in patterns):
            names.update(above for name in self.subscribed for above in superior_names(name))
        for name in _in_order(names):
            attributes = () if name in self.subscribed else ("\\Noselect",)
            yield Entry(name, attributes, False, None) if _is_listed(patterns, name) else None


def _is_listed(patterns: Sequence[str], name: str) -> bool:
    return any(matches(pattern, name) or (name == INBOX and matches(pattern.upper(), name)) for pattern in patterns)


def _in_order(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: (name != INBOX, name))


def _has_below(names: Sequence[str], name: str) -> bool:
    """Whether sorted `names` hold one below `name`."""
    at = bisect_left(names, name + DELIMITER)
    return at < len(names) and names[at].startswith(name + DELIMITER)


def render_entry(entry: Entry, response: bytes, utf8: bool) -> bytes:
    line = b"* %b %b %b %b" % (response, render.flags(entry.attributes), b'"/"', render.mailbox(entry.name, utf8))
    return line + (b' ("CHILDINFO" ("SUBSCRIBED"))\r\n' if entry.child_info else b"\r\n")


# -- handlers


async def list_mailboxes(session: Session, command: commands.List) -> str:
    response = b"LSUB" if command.lsub else b"LIST"
    if command.patterns == ("",):
        # RFC 3501 6.3.8: asks for the delimiter and the root of the reference.
        session.write(b'* %b (\\Noselect) "/" ""\r\n' % response)
        return f"{response.decode('ascii')} completed"
    with session.reading() as reading:
        view = reading.view
        subscribed = subscriptions(view)
        own = folders(view)
    shared = {place.folder.id: place for place in places.shared_with(session, frozenset(subscribed))}
    tree = Tree([*(place.folder for place in shared.values()), *own], subscribed)
    for looked_at, entry in enumerate(tree.entries(command), 1):
        if entry is not None:
            session.write(render_entry(entry, response, session.features.utf8))
            if entry.folder is not None:
                place = shared.get(entry.folder.id) or Place(None, entry.folder, places.ALL)
                await _write_beside(session, command, place)
        if looked_at % NAMES_AT_ONCE == 0:
            await asyncio.sleep(0)  # others take their turn
    return f"{response.decode('ascii')} completed"


async def _write_beside(session: Session, command: commands.List, place: Place) -> None:
    """What else is to be returned of a mailbox that LIST has selected; nothing if it has gone meanwhile.

    A mailbox that is listed for those below it alone has none of it (RFC 5819 3, RFC 8440 4).
    """
    found = place.folder
    if "MYRIGHTS" in command.returned:
        session.write(my_rights_line(place, session.features.utf8))  # RFC 8440
    if "r" not in place.rights or not (command.status or command.metadata):
        return
    session.place = place.owner
    if command.status:
        await write_status(session, found, command.status)
    if command.metadata:
        with session.reading() as reading:
            if folder(reading.view, found.id) is not None:
                session.write(metadata.listed(session, reading.view, found.id, command.metadata, found.name))
    session.place = None


HANDLERS: dict[type, Handler] = {commands.List: list_mailboxes}
