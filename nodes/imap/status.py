"""STATUS (RFC 3501 6.3.10; RFC 7162, 7889, 8438, 8474, 9051, 9208), alone and as LIST asks for it (RFC 5819)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice

from actors.mailbox import DELETED, Folder, Message, counters, folder, messages
from nodes.imap import commands, places, render
from nodes.imap.object_ids import mailbox_id
from nodes.imap.session import Session
from nodes.imap.shared import Handler

SLICE_ROWS = 5000  # looked at in one snapshot

Value = int | bytes


async def status(session: Session, command: commands.Status) -> str:
    found = places.enter(session, command.name, "r")
    await write_status(session, found, command.items)
    return "STATUS completed"


async def write_status(session: Session, found: Folder, items: tuple[str, ...]) -> None:
    """Nothing if the folder has gone meanwhile."""
    if "HIGHESTMODSEQ" in items:
        session.enable("CONDSTORE")  # RFC 7162 3.1.7
    slow = {item: await count(session, found) for item, count in _COUNTED.items() if item in items}
    with session.reading() as reading:
        if folder(reading.view, found.id) is None:
            return
        counted = counters(reading.view, found.id)
    values: dict[str, Value] = {
        "MESSAGES": counted.messages,
        "UIDNEXT": counted.uidnext,
        "UIDVALIDITY": found.uidvalidity,
        "UNSEEN": counted.unseen,
        "SIZE": counted.size_bytes,
        "HIGHESTMODSEQ": counted.highestmodseq,
        "MAILBOXID": b"(%b)" % mailbox_id(found.id),
        "APPENDLIMIT": session.limits.message_bytes,
        **slow,
    }
    pairs = b" ".join(item.encode("ascii") + b" " + _shown(values[item]) for item in items)
    session.write(b"* STATUS %b (%b)\r\n" % (render.mailbox(found.name, session.features.utf8), pairs))


def _shown(value: Value) -> bytes:
    return value if isinstance(value, bytes) else b"%d" % value


async def _recent(session: Session, found: Folder) -> int:
    mark = session.shared.marks.mark(found.id)
    if mark == 0:  # nothing was shown to anybody here yet: all are recent, without looking at each
        with session.reading() as reading:
            return counters(reading.view, found.id).messages
    return await _sum(session, found, mark + 1, lambda _: 1)


async def _deleted(session: Session, found: Folder) -> int:
    return await _sum(session, found, 1, lambda row: DELETED in row.flags)


async def _deleted_bytes(session: Session, found: Folder) -> int:
    """RFC 9208 4.1.4"""
    return await _sum(session, found, 1, lambda row: row.size if DELETED in row.flags else 0)


async def _sum(session: Session, found: Folder, first: int, value: Callable[[Message], int]) -> int:
    """Over the messages from a UID on; slice by slice, so that others take their turn."""
    total = 0
    while True:
        with session.reading() as reading:
            rows = list(islice(messages(reading.view, found.id, first), SLICE_ROWS))
        total += sum(map(value, rows))
        if len(rows) < SLICE_ROWS:
            return total
        first = rows[-1].uid + 1
        await asyncio.sleep(0)


_COUNTED = {"RECENT": _recent, "DELETED": _deleted, "DELETED-STORAGE": _deleted_bytes}

HANDLERS: dict[type, Handler] = {commands.Status: status}
