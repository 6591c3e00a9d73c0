"""SEARCH, and what SORT, THREAD and ESEARCH have in common with it: a program run over the messages of a mailbox.

Reads go in slices that are short in time, each in one snapshot that is closed before anything is awaited, so that a
long search gives way to everybody else. Rows that cheap keys or the full-text index rule out are not read.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Coroutine, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import islice

from actors.directory import Target
from actors.mailbox import Message
from nodes.imap import search_response
from nodes.imap.errors import BadCommand, Refusal
from nodes.imap.search import All, HeaderHas, Key, ModSeq, Numbers, TextHas, parts_of
from nodes.imap.search_commands import CancelUpdate, Returned, Search, Sort
from nodes.imap.search_match import Candidate, Narrowed, Scope, bound, compile_key, loading
from nodes.imap.search_response import Found
from nodes.imap.search_updates import Placing, Update, keep
from nodes.imap.selected import rows_of
from nodes.imap.session import Session
from nodes.imap.shared import Handler
from nodes.reading import Reading

SLICE_ROWS = 1000  # rows read in one snapshot
SLICE_S = 0.01  # of work before others have their turn
ASIDE_BYTES = 16 * 1024 * 1024  # of a message's size for each text that is looked for: beyond it, in a thread
LARGE_BYTES = 256 * 1024  # a message this large goes there for one text: eight MiB of nothing but tags take seconds
INDEXED_KEYS = 32  # texts that the index is asked about: each answer may name every message

Take = Callable[[int, Message, Reading], None]


@dataclass(frozen=True)
class Searched:
    """A mailbox as a search sees it: whose, where it is another's; its messages by number, recent ones, `$`."""

    owner: Target | None
    folder: bytes
    uids: array[int] | list[int]
    is_recent: Callable[[int], bool]
    saved: AbstractSet[int]


def selected_mailbox(session: Session) -> Searched:
    selected = session.mailbox
    return Searched(selected.owner, selected.folder.id, selected.uids, selected.is_recent, selected.saved)


async def run(session: Session, where: Searched, program: Key, take: Take) -> None:
    """Calls `take` with the number and the row of each message that matches, in order. Raises BadCommand."""
    keys = parts_of(program)
    if session.features.uidonly and any(isinstance(key, Numbers) and _is_numbered(key) for key in keys):
        raise BadCommand("there are no message sequence numbers any more", "UIDREQUIRED")  # RFC 9586 3
    if any(isinstance(key, ModSeq) for key in keys):
        session.enable("CONDSTORE")  # RFC 7162 3.1
    narrowed = await _narrowed(session, where, program)
    scope = Scope(where.uids, round(time.time() * 1000), where.saved, narrowed)
    matches = compile_key(program, scope)
    uids = where.uids
    chosen = bound(program, scope)
    wanted = uids if chosen is None else [uid for uid in sorted(chosen) if _has(uids, uid)]
    texts = sum(isinstance(key, HeaderHas | TextHas) for key in keys)
    at = 0
    while at < len(wanted):
        heavy: Candidate | None = None
        batch = wanted[at : at + SLICE_ROWS]
        at += len(batch)
        until_s = time.perf_counter() + SLICE_S
        with session.reading_of(where.owner) as reading:
            load = loading(reading)
            for row in rows_of(reading.view, where.folder, batch):
                number = bisect_left(uids, row.uid) + 1
                candidate = Candidate(number, row, where.is_recent(row.uid), load)
                if texts and (row.size > LARGE_BYTES or texts * row.size > ASIDE_BYTES):
                    candidate.read()
                    heavy = candidate
                elif matches(candidate):
                    take(number, row, reading)
                if heavy is not None or time.perf_counter() > until_s:
                    at = bisect_left(wanted, row.uid) + 1
                    break
        if heavy is None:
            await asyncio.sleep(0)
        elif await asyncio.to_thread(matches, heavy):
            with session.reading_of(where.owner) as reading:
                take(heavy.number, heavy.row, reading)


def _is_numbered(key: Numbers) -> bool:
    return not key.by_uid and not key.numbers.saved


def _has(uids: array[int] | list[int], uid: int) -> bool:
    at = bisect_left(uids, uid)
    return at < len(uids) and uids[at] == uid


async def _narrowed(session: Session, where: Searched, program: Key) -> Mapping[Key, Narrowed]:
    """What the full-text index knows of the program; nothing of a mailbox as it was, of which it may have less."""
    texts = (key for key in parts_of(program) if isinstance(key, HeaderHas | TextHas))
    keys = set(islice(texts, INDEXED_KEYS))
    index = session.services.fulltext
    if not keys or index is None or session.past is not None:
        return {}
    return await index.narrow((where.owner or session.target).account, where.folder, keys)


def asks_by_modseq(program: Key) -> bool:
    """Whether the response tells a MODSEQ too."""
    return any(isinstance(key, ModSeq) for key in parts_of(program))


def tell(
    session: Session, command: Search | Sort, found: Sequence[Found], returned: Returned, placed: Placing | None
) -> None:
    """The ESEARCH response; `$` and updates where they were asked for."""
    with_modseq = asks_by_modseq(command.program)
    line = search_response.extended(b'TAG "' + command.tag + b'"', found, returned, command.by_uid, with_modseq)
    if line is not None:
        session.write(line)
    if "SAVE" in returned.options:
        session.mailbox.saved = search_response.saved(found, returned)
    if "UPDATE" in returned.options:
        keep(session, Update(command.tag, command.by_uid, command.program, [one.uid for one in found], placed))


async def saving(session: Session, returned: Returned | None, work: Coroutine[None, None, None]) -> None:
    """Awaits `work`; where that was to be saved and is refused, `$` is empty (RFC 5182 2.1)."""
    try:
        await work
    except Refusal:
        if returned is not None and "SAVE" in returned.options:
            session.mailbox.saved = frozenset()
        raise


async def search(session: Session, command: Search) -> str:
    found: list[Found] = []

    def take(number: int, row: Message, _: Reading) -> None:
        found.append(Found(row.uid if command.by_uid else number, row.uid, row.modseq))

    where = selected_mailbox(session)
    if isinstance(command.program, All):
        # What every client asks first; no row has to be read for it.
        found += (Found(uid if command.by_uid else number, uid, 0) for number, uid in enumerate(where.uids, 1))
    else:
        await saving(session, command.returned, run(session, where, command.program, take))
    returned = command.returned
    if returned is None and session.features.rev2:
        returned = Returned(frozenset({"ALL"}))  # RFC 9051 6.4.4: the SEARCH response is no more
    if returned is None:
        session.write(search_response.plain(b"SEARCH", found, asks_by_modseq(command.program)))
    else:
        tell(session, command, found, returned, None)
    return "SEARCH completed"


async def cancel_update(session: Session, command: CancelUpdate) -> str:
    """CANCELUPDATE (RFC 5267 4.3.5)"""
    for tag in command.tags:
        session.mailbox.updates.pop(tag, None)
    return "no further updates"


HANDLERS: dict[type, Handler] = {Search: search, CancelUpdate: cancel_update}
