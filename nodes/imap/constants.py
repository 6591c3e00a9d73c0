"""FETCH of what never changes for a UID (RFC 3501 2.3.1.1), kept as bytes by account, folder and what was asked for.

Used where a scan says that the mailbox is as the session knows it, so that no row need be read to know which messages
are there, nor for the flags beside. All of it goes when something is erased from the log.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nodes.imap import render
from nodes.imap.selected import rows_of

if TYPE_CHECKING:
    from actors.mailbox import Message
    from nodes.imap.fetch import MessageText, Plan
    from nodes.imap.scan import Scan
    from nodes.imap.selected import Selected
    from nodes.imap.session import Session
    from nodes.reading import Reading

    Read = Callable[[Session, Reading, Plan, Message], MessageText | None]

KEPT_BYTES = 32 * 1024 * 1024
TEXT_LIMIT_BYTES = 16 * 1024
TEXT_COST_BYTES = 250  # of what holds it
BATCH_MESSAGES = 1000
READ_BYTES = 256 * 1024  # of messages in one go
READ_S = 0.02  # of work before others have their turn
HELD_BYTES = 4 * 1024 * 1024  # of texts for one write: an ENVELOPE may be twelve times the message
DIGESTS = "digests"  # in place of what was asked for: which body each message has

Text = tuple[bytes, bytes]  # what stands in front of the flags and behind them; without flags there is no second


class Texts:
    """What was told of messages, least recently used out first."""

    def __init__(self, limit_bytes: int = KEPT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._used_bytes = 0
        self._kept: OrderedDict[tuple[Any, ...], tuple[dict[int, Text], list[int]]] = OrderedDict()

    def get(self, key: tuple[Any, ...]) -> Mapping[int, Text]:
        """By UID."""
        found = self._kept.get(key)
        if found is None:
            return {}
        self._kept.move_to_end(key)
        return found[0]

    def put(self, key: tuple[Any, ...], texts: Mapping[int, Text]) -> None:
        """A mailbox that would take more than half of the room by itself is kept as far as that goes."""
        by_uid, size = self._kept.setdefault(key, ({}, [0]))
        for uid, text in texts.items():
            cost = len(text[0]) + len(text[1]) + TEXT_COST_BYTES
            if cost > TEXT_LIMIT_BYTES or size[0] + cost > self._limit_bytes // 2 or uid in by_uid:
                continue
            by_uid[uid] = text
            size[0] += cost
            self._used_bytes += cost
        self._kept.move_to_end(key)
        while self._used_bytes > self._limit_bytes:
            _, (_, dropped) = self._kept.popitem(last=False)
            self._used_bytes -= dropped[0]

    def clear(self) -> None:
        self._kept.clear()
        self._used_bytes = 0


async def send(
    session: Session, selected: Selected, plan: Plan, scan: Scan, uids: Sequence[int], missing: list[int], read: Read
) -> int:
    """The responses of a plan that `is_constant`; gives how many messages were there. `missing`: without a body."""
    key = (session.selected_account, selected.folder.id, plan.items)
    is_all, found = len(uids) == len(scan.uids), 0
    at = 0
    while at < len(uids):
        batch = list(uids[at : at + BATCH_MESSAGES])
        numbers = range(at + 1, at + len(batch) + 1) if is_all else list(map(selected.number, batch))
        flags = _flags(selected, plan, scan, batch, numbers)
        texts, stopped = await _texts(session, selected, plan, key, batch, missing, read)
        if stopped is not None:
            batch = batch[: batch.index(stopped)]
            numbers = numbers[: len(batch)]
        at += len(batch)
        told = [(number, uid) for number, uid in zip(numbers, batch, strict=True) if uid in texts]
        found += len(told)
        if flags is None:
            session.write(b"".join([b"* %d FETCH (%b)\r\n" % (number, texts[uid][0]) for number, uid in told]))
        else:
            lines = [(number, texts[uid][0], flags[number], texts[uid][1]) for number, uid in told]
            session.write(b"".join([b"* %d FETCH (%bFLAGS %b%b)\r\n" % line for line in lines]))
        await session.drain()
        await asyncio.sleep(0)
    return found + len(missing)


def _flags(
    selected: Selected, plan: Plan, scan: Scan, uids: Sequence[int], numbers: Sequence[int]
) -> dict[int, bytes] | None:
    """By number, where they are asked for."""
    if "FLAGS" not in plan.items:
        return None
    texts = flag_texts(selected, scan, uids, numbers)
    return dict(zip(numbers, texts, strict=True))


def flag_texts(selected: Selected, scan: Scan, uids: Sequence[int], numbers: Sequence[int]) -> list[bytes]:
    """The flags of messages as a scan knows them, \\Recent among them."""
    texts = scan.rendered(numbers, render.flags)
    if not selected.recent_count:
        return texts
    recent = scan.rendered(numbers, lambda flags: render.flags(flags, recent=True))
    return [recent[at] if selected.is_recent(uid) else texts[at] for at, uid in enumerate(uids)]


async def _texts(
    session: Session,
    selected: Selected,
    plan: Plan,
    key: tuple[Any, ...],
    uids: Sequence[int],
    missing: list[int],
    read: Read,
) -> tuple[Mapping[int, Text], int | None]:
    """The texts of these messages, or of those in front of the one that it tells: then they are enough for a write."""
    kept = session.shared.texts.get(key)
    left = [uid for uid in uids if uid not in kept]
    if not left:
        return kept, None
    texts = {uid: kept[uid] for uid in uids if uid in kept}
    if new := _of_digests(session, plan, key, left):
        session.shared.texts.put(key, new)
        texts.update(new)
        left = [uid for uid in left if uid not in new]
    held = 0
    while left and held < HELD_BYTES:
        new, left = _read(session, selected, plan, left, missing, read)
        held += sum(len(before) + len(behind) for before, behind in new.values())
        session.shared.texts.put(key, new)
        texts.update(new)
        if (text := session.last_text) is not None and text[1].takes_long(plan.derived):
            await text[1].take_apart(plan.derived)
        await asyncio.sleep(0)
    return texts, left[0] if left else None


def _of_digests(session: Session, plan: Plan, key: tuple[Any, ...], uids: list[int]) -> dict[int, Text]:
    """Of messages whose digest somebody has seen, what is kept of that."""
    digests = session.shared.texts.get((*key[:2], DIGESTS))
    found = ((uid, plan.of_digest(uid, digests[uid][0])) for uid in uids if uid in digests)
    return {uid: text for uid, text in found if text is not None}


def _read(
    session: Session, selected: Selected, plan: Plan, uids: list[int], missing: list[int], read: Read
) -> tuple[dict[int, Text], list[int]]:
    """Texts of the first of these messages, and the UIDs that are left."""
    texts: dict[int, Text] = {}
    digests: dict[int, Text] = {}
    read_bytes, until_s, is_cut = 0, time.perf_counter() + READ_S, False
    with session.reading() as reading:
        for row in rows_of(reading.view, selected.folder.id, uids):
            text = None
            if plan.may_need_body and plan.needs_body(row):
                text = read(session, reading, plan, row)
                if text is None:
                    missing.append(row.uid)
                    continue
                if plan.needs_parts and text.takes_long(plan.derived):
                    session.last_text = (row.id, text)
                    return texts, uids[uids.index(row.uid) :]  # it is the next, taken apart
                read_bytes += len(text.data)
            texts[row.uid] = plan.constant(row, text)
            read_bytes += sum(map(len, texts[row.uid]))
            digests[row.uid] = row.digest, b""
            is_cut = read_bytes >= READ_BYTES or time.perf_counter() > until_s
            if is_cut:
                break
    session.shared.texts.put((session.selected_account, selected.folder.id, DIGESTS), digests)
    return texts, uids[uids.index(row.uid) + 1 :] if is_cut else []
