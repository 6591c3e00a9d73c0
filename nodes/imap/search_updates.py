"""Searches and sorts whose results are kept up to date (RFC 5267 4): ADDTO and REMOVEFROM as the mailbox changes.

A result belongs to the selected mailbox and goes with it. What may change it is what a session is told of anyway:
messages that came, went, or have other flags; those alone are looked at again, when the client is told of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from actors.mailbox import Message
from nodes.imap.search import ROW, Key, Numbers, Within, cost_of, parts_of
from nodes.imap.search_match import Candidate, Scope, compile_key, loading
from nodes.imap.selected import rows_of
from nodes.imap.sequence import compact

if TYPE_CHECKING:
    from nodes.imap.selected import Selected
    from nodes.imap.session import Session
    from nodes.reading import Reading

UPDATES_LIMIT = 10  # of one session
SORTED_LIMIT = 20_000  # messages of a sort that is kept
READ_LIMIT = 1000  # messages that are read again at once for all results, where their texts decide
READ_BYTES = 8 * 1024 * 1024


# Of a sort: the UIDs in order, of those that it has and those that came.
Placing = Callable[[Iterable[int], Iterable[Message], "Reading"], list[int]]


@dataclass(slots=True)
class Update:
    """One result; `place` None for a search."""

    tag: bytes
    by_uid: bool
    program: Key
    found: list[int]  # UIDs in the order of the result
    place: Placing | None = None
    members: set[int] = field(init=False)

    def __post_init__(self) -> None:
        self.members = set(self.found)


def why_not(selected: Selected, update: Update) -> str | None:
    """Why a result is not kept up to date; None where it is."""
    if any(
        isinstance(key, Within) or (isinstance(key, Numbers) and not key.by_uid) for key in parts_of(update.program)
    ):
        return "what time or numbers decide is not kept up to date"
    if len(selected.updates) >= UPDATES_LIMIT and update.tag not in selected.updates:
        return f"{UPDATES_LIMIT} searches are kept up to date already"
    if update.place is not None and len(update.found) > SORTED_LIMIT:
        return f"a sort of more than {SORTED_LIMIT} messages is not kept up to date"
    return None


def keep(session: Session, update: Update) -> None:
    """UPDATE (4.3.1): from here on the client is told of changes, or now that it will not be."""
    selected = session.mailbox
    reason = why_not(selected, update)
    if reason is None:
        selected.updates[update.tag] = update
    else:
        _refuse(session, update.tag, reason)


def _refuse(session: Session, tag: bytes, reason: str) -> None:
    session.write(b'* NO [NOUPDATE "' + tag + b'"] ' + reason.encode("ascii") + b"\r\n")


def before_news(session: Session, selected: Selected, gone: set[int]) -> None:
    """REMOVEFROM for messages that the client is about to be told the end of, while they have their numbers."""
    for update in selected.updates.values():
        _remove(session, selected, update, gone & update.members)


def after_news(session: Session, selected: Selected, changed: set[int]) -> None:
    """Looks again at messages that came or have other flags, now that the client knows of them."""
    known = sorted(uid for uid in changed if selected.has(uid))
    reading_ones = {tag: uids for tag, update in selected.updates.items() if (uids := _read_again(update, known))}
    if _is_too_much(session, selected, list(reading_ones.values())):
        for tag in reading_ones:
            del selected.updates[tag]
            _refuse(session, tag, "too much has changed at once")
    for update in list(selected.updates.values()):
        with session.reading_of(selected.owner) as reading:
            _look_again(session, selected, update, known, reading)


def _read_again(update: Update, known: list[int]) -> list[int]:
    """The messages, of those that changed, whose texts say where they stand in a result."""
    if cost_of(update.program) > ROW:
        return known
    return [] if update.place is None else [uid for uid in known if uid not in update.members]


def _is_too_much(session: Session, selected: Selected, wanted: list[list[int]]) -> bool:
    """Whether reading these messages would hold up the others."""
    if sum(map(len, wanted)) > READ_LIMIT:
        return True
    with session.reading_of(selected.owner) as reading:
        sizes = [row.size for uids in wanted for row in rows_of(reading.view, selected.folder.id, uids)]
    return sum(sizes) > READ_BYTES


def _look_again(session: Session, selected: Selected, update: Update, known: list[int], reading: Reading) -> None:
    matches = compile_key(update.program, Scope(selected.uids, saved=selected.saved))
    load = loading(reading)
    came: list[Message] = []
    went: set[int] = set()
    for row in rows_of(reading.view, selected.folder.id, known):
        candidate = Candidate(selected.number(row.uid), row, selected.is_recent(row.uid), load)
        is_member = row.uid in update.members
        if is_member and not matches(candidate):
            went.add(row.uid)
        elif not is_member and matches(candidate):
            came.append(row)
    _remove(session, selected, update, went)
    if came:
        _add(session, selected, update, came, reading)


def _remove(session: Session, selected: Selected, update: Update, uids: set[int]) -> None:
    if not uids:
        return
    pairs: list[tuple[int, Iterable[int]]]
    if update.place is None:
        pairs = [(0, sorted(uids))]
    else:  # from the end, so that no position moves before it was told
        pairs = [(at + 1, (uid,)) for at, uid in reversed(list(enumerate(update.found))) if uid in uids]
    update.found = [uid for uid in update.found if uid not in uids]
    update.members -= uids
    _tell(session, selected, update, b"REMOVEFROM", pairs)


def _add(session: Session, selected: Selected, update: Update, rows: list[Message], reading: Reading) -> None:
    fresh = {row.uid for row in rows}
    pairs: list[tuple[int, Iterable[int]]]
    if update.place is None:
        update.found = sorted([*update.found, *fresh])
        pairs = [(0, sorted(fresh))]
    else:
        update.found = update.place(update.found, rows, reading)
        pairs = [(at, (uid,)) for at, uid in enumerate(update.found, 1) if uid in fresh]
    update.members |= fresh
    _tell(session, selected, update, b"ADDTO", pairs)


def _tell(
    session: Session, selected: Selected, update: Update, what: bytes, pairs: list[tuple[int, Iterable[int]]]
) -> None:
    """A context-position is 0 where there is no order (4.3.3)."""
    shown = [
        b"%d %b" % (position, compact(uid if update.by_uid else selected.number(uid) for uid in uids))
        for position, uids in pairs
    ]
    by_uid = b" UID" if update.by_uid else b""
    session.write(b'* ESEARCH (TAG "%b")%b %b (%b)\r\n' % (update.tag, by_uid, what, b" ".join(shown)))
