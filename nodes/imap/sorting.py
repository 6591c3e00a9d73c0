"""SORT and THREAD (RFC 5256, RFC 5957): a search whose result is put in order by what the headers say.

A header is parsed once; what was found in it is kept by the body's digest (sort_keys.py). Comparing goes to a thread
where there is much to compare.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from actors.mailbox import Message
from nodes.imap import search_response, threads
from nodes.imap.search_commands import Returned, Sort, SortBy, SortKey, Thread
from nodes.imap.search_response import Found
from nodes.imap.search_updates import Placing
from nodes.imap.searching import asks_by_modseq, run, saving, selected_mailbox, tell
from nodes.imap.session import Session
from nodes.imap.shared import Handler
from nodes.imap.sort_keys import SortKeyCache, SortKeys, cache_of, sort_keys
from nodes.imap.threads import Threaded
from nodes.reading import Reading

AT_ONCE = 2000  # messages that are compared on the event loop

_NO_KEYS = sort_keys(b"")
_NOTHING = Returned(frozenset())


class Sorted(NamedTuple):
    """One message that was found. `keys` are those of an empty header where none of them is asked for."""

    number: int
    row: Message
    keys: SortKeys

    @property
    def sent_ms(self) -> int:
        """RFC 5256 2.2: the internal date stands in for a Date that is missing or can not be read."""
        return self.row.internaldate_ms if self.keys.sent_ms is None else self.keys.sent_ms


_BY: dict[SortBy, Callable[[Sorted], Any]] = {
    "ARRIVAL": lambda one: one.row.internaldate_ms,
    "CC": lambda one: one.keys.cc,
    "DATE": lambda one: one.sent_ms,
    "FROM": lambda one: one.keys.sender,
    "SIZE": lambda one: one.row.size,
    "SUBJECT": lambda one: one.keys.subject,
    "TO": lambda one: one.keys.to,
    "DISPLAYFROM": lambda one: one.keys.display_from,
    "DISPLAYTO": lambda one: one.keys.display_to,
}
_OF_THE_ROW = frozenset({"ARRIVAL", "SIZE"})


def in_order(found: list[Sorted], keys: Sequence[SortKey]) -> list[Sorted]:
    """Sorts in place, the last key first; messages that compare equal stay in the mailbox's order."""
    for key in reversed(keys):
        found.sort(key=_BY[key.by], reverse=key.reverse)
    return found


async def sort(session: Session, command: Sort) -> str:
    found: list[Sorted] = []
    with_headers = any(key.by not in _OF_THE_ROW for key in command.keys)
    take = _taking(session, found, with_headers)
    await saving(session, command.returned, run(session, selected_mailbox(session), command.program, take))
    await _aside(len(found), lambda: in_order(found, command.keys))
    shown = [Found(one.row.uid if command.by_uid else one.number, one.row.uid, one.row.modseq) for one in found]
    if command.returned is None:
        session.write(search_response.plain(b"SORT", shown, asks_by_modseq(command.program)))
    else:
        tell(session, command, shown, command.returned, _placing(session, command, found))
    return "SORT completed"


def _placing(session: Session, command: Sort, found: list[Sorted]) -> Placing:
    """Puts messages that join a result that is kept up to date in their places."""
    by_uid = {one.row.uid: one for one in found} if "UPDATE" in (command.returned or _NOTHING).options else {}

    def place(kept: Iterable[int], came: Iterable[Message], reading: Reading) -> list[int]:
        more: list[Sorted] = []
        take = _taking(session, more, with_headers=True)
        for row in came:
            take(0, row, reading)
        by_uid.update((one.row.uid, one) for one in more)
        members = {*kept, *(one.row.uid for one in more)}
        for uid in by_uid.keys() - members:
            del by_uid[uid]
        return [one.row.uid for one in in_order([by_uid[uid] for uid in sorted(members)], command.keys)]

    return place


async def thread(session: Session, command: Thread) -> str:
    found: list[Sorted] = []
    await run(session, selected_mailbox(session), command.program, _taking(session, found, with_headers=True))
    messages = [Threaded(one.row.uid if command.by_uid else one.number, one.sent_ms, one.keys) for one in found]
    algorithm = threads.references if command.algorithm == "REFERENCES" else threads.ordered_subject
    text = await _aside(len(messages), lambda: threads.response(algorithm(messages)))
    session.write(b"* THREAD" + (b" " + text if text else b"") + b"\r\n")
    return "THREAD completed"


async def _aside(size: int, work: Callable[[], Any]) -> Any:
    return work() if size <= AT_ONCE else await asyncio.to_thread(work)


def _taking(session: Session, found: list[Sorted], with_headers: bool) -> Callable[[int, Message, Reading], None]:
    cache = cache_of(session.services.log)
    tenant = session.target.tenant

    def take(number: int, row: Message, reading: Reading) -> None:
        keys = _keys(cache, tenant, row, reading) if with_headers else _NO_KEYS
        found.append(Sorted(number, row._replace(flags=(), trace=b""), keys))

    return take


def _keys(cache: SortKeyCache, tenant: bytes, row: Message, reading: Reading) -> SortKeys:
    keys = cache.get(tenant, row.digest)
    if keys is None:
        keys = sort_keys(reading.body(row.digest) or b"")
        cache.put(tenant, row.digest, keys)
    return keys


HANDLERS: dict[type, Handler] = {Sort: sort, Thread: thread}
