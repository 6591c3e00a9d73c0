"""Commands on the messages of the selected mailbox: FETCH, STORE, COPY, MOVE, EXPUNGE, CLOSE.

Reads go in batches, each in one snapshot that is closed before anything is awaited. UIDs, not numbers, go to the
tables, so what others do meanwhile can not make a number mean another message.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Sequence
from typing import Any

from actors import mailbox as actor
from actors.mailbox import Change, FlagsOfMany, Folder, Message, Mode, counters, spans_of_sorted
from eventlog.levels import SYNC_SINCE
from nodes.imap import commands, constants, places, sync
from nodes.imap.errors import BadCommand, Refusal, no_such_mailbox
from nodes.imap.fetch import MessageText, Plan
from nodes.imap.places import Place
from nodes.imap.scan import Scan
from nodes.imap.search_response import page_of
from nodes.imap.selected import Selected, rows_of
from nodes.imap.sequence import SequenceSet, compact, uids_of_sequence_numbers, uids_of_uids
from nodes.imap.session import Session
from nodes.imap.shared import Handler
from nodes.imap.transfer import transfer
from nodes.reading import Reading

BATCH_MESSAGES = 1000  # rows read in one snapshot
SPREAD_MESSAGES = 64  # so many, and so many in each span: from here on a STORE is one change of spans
BATCH_BYTES = 1024 * 1024  # bodies read in one snapshot, the last one in full
BATCH_S = 0.02  # of work before others have their turn
KEPT_TEXT_BYTES = 128 * 1024  # a message this large is kept while a client fetches it in pieces
MARK_SEEN_S = 2.0  # reading goes on without a majority; waiting long for \\Seen would not help the reader


def _chosen(selected: Selected, wanted: SequenceSet, by_uid: bool) -> array[int]:
    """The UIDs that a command names. Raises BadCommand for a number that is no message's."""
    if wanted.saved:
        return array("I", (uid for uid in selected.uids if uid in selected.saved))
    if by_uid:
        return uids_of_uids(wanted, selected.uids)
    found = uids_of_sequence_numbers(wanted, selected.uids)
    if found is None:
        raise BadCommand(f"no such message: there are {len(selected.uids)}")
    return found


def _body(reading: Reading, row: Message) -> bytes | None:
    """The message as it is served: trace headers, then the client's bytes. None where they are not kept."""
    data = reading.body(row.digest)
    return None if data is None else row.trace + data


# -- FETCH


async def fetch(session: Session, command: commands.Fetch) -> str:
    selected = session.mailbox
    if "MODSEQ" in command.items:
        session.enable("CONDSTORE")  # RFC 7162 3.1
    if command.vanished:
        _write_vanished(session, selected, command)
    await send(session, selected, command)
    return "FETCH completed"


def _write_vanished(session: Session, selected: Selected, command: commands.Fetch) -> None:
    """RFC 7162 3.2.6: in front of all FETCH responses."""
    if not session.features.qresync:
        raise BadCommand("ENABLE QRESYNC comes first")
    asked = command.messages.spans(selected.uids[-1] if selected.uids else 0)
    sync.write_vanished(session, sync.vanished(session, selected, command.changed_since or 0, asked))


async def send(session: Session, selected: Selected, command: commands.Fetch) -> None:
    """The FETCH responses that a command asks for, and \\Seen where it sets that. Raises Refusal."""
    uids = _chosen(selected, command.messages, command.by_uid)
    plan = _plan(session, command)
    since = command.changed_since or 0
    unseen: list[int] = []
    missing: list[int] = []
    found, at, in_pieces = 0, 0, session.last_text
    if since and sync.is_unchanged(session, selected, since):
        return
    # where flags and what never changes are asked for
    scan = _scan_of(session, selected) if plan.is_constant and not since and command.partial is None else None
    if scan is not None and plan.tells_flags_alone:
        await _send_flags(session, selected, plan, scan, uids)
        return
    if scan is not None:
        found = await constants.send(session, selected, plan, scan, uids, missing, _text)
        at = len(uids)
    if command.partial is not None:
        uids = array("I", page_of(await _changed(session, selected, uids, since), command.partial))
    while at < len(uids):
        rows, at = _fetch_batch(session, selected, plan, uids, at, missing, since)
        if (text := session.last_text) is not None and plan.needs_parts and text[1].takes_long(plan.derived):
            await text[1].take_apart(plan.derived)
        found += len(rows)
        if plan.sets_seen:
            unseen += [row.uid for row in rows if actor.SEEN not in row.flags and row.modseq > since]
        await session.drain()
        await asyncio.sleep(0)
    if not plan.is_partial:
        session.last_text = in_pieces
    if unseen and not selected.read_only:
        await _mark_seen(session, selected, unseen)
    if missing:
        session.logger.error(
            "messages have no body in the log", code="body_missing", uids=missing[:20], count=len(missing)
        )
        raise Refusal("the text of some of the messages is missing on this server", "SERVERBUG")
    if found < len(uids) and not command.by_uid:
        raise Refusal("some of the messages were expunged", "EXPUNGEISSUED")  # RFC 2180 4.1.2


def _scan_of(session: Session, selected: Selected) -> Scan | None:
    """Where the mailbox is as the session knows it: its scan."""
    if session.past is not None:
        return None
    with session.reading() as reading:
        modseq = counters(reading.view, selected.folder.id).highestmodseq
    scan = session.shared.scans.get(session.selected_account, selected.folder.id, modseq)
    return scan if scan is not None and scan.uids == selected.uids else None


async def _send_flags(session: Session, selected: Selected, plan: Plan, scan: Scan, uids: Sequence[int]) -> None:
    """No row is read. What changes meanwhile is told behind it, as ever."""
    is_all = len(uids) == len(scan.uids)
    for at in range(0, len(uids), BATCH_MESSAGES):
        batch = uids[at : at + BATCH_MESSAGES]
        numbers = range(at + 1, at + len(batch) + 1) if is_all else list(map(selected.number, batch))
        session.write(plan.flags(numbers, batch, constants.flag_texts(selected, scan, batch, numbers)))
        await session.drain()
        await asyncio.sleep(0)


async def _changed(session: Session, selected: Selected, uids: array[int], since: int) -> Sequence[int]:
    """Those that changed since: PARTIAL counts what else is asked for leaves (RFC 9394 3.2)."""
    if not since:
        return uids
    found: list[int] = []
    for at in range(0, len(uids), BATCH_MESSAGES):
        with session.reading() as reading:
            rows = rows_of(reading.view, selected.folder.id, uids[at : at + BATCH_MESSAGES])
            found += [row.uid for row in rows if row.modseq > since]
        await asyncio.sleep(0)
    return found


def _plan(session: Session, command: commands.Fetch) -> Plan:
    """RFC 7162 3.2.4: under QRESYNC the UID is always told; RFC 9586 3.3: a UIDFETCH response begins with it."""
    items = command.items
    if session.features.uidonly and len(items) > 1:
        items = tuple(item for item in items if item != "UID")
    elif session.features.qresync and "UID" not in items:
        items = ("UID", *items)
    return Plan(items, session.target.tenant, session.shared.structures, session.features.uidonly)


def _fetch_batch(
    session: Session, selected: Selected, plan: Plan, uids: Sequence[int], at: int, missing: list[int], since: int
) -> tuple[list[Message], int]:
    """Writes the responses for some messages from `at` on, if changed since; gives all rows and where to go on.

    A message whose bytes are not here goes to `missing`: a client must not keep it as an empty one.
    """
    batch = list(uids[at : at + BATCH_MESSAGES])
    rows: list[Message] = []
    read_bytes, until_s = 0, time.perf_counter() + BATCH_S
    with session.reading() as reading:
        for row in rows_of(reading.view, selected.folder.id, batch):
            rows.append(row)
            if row.modseq <= since:
                continue
            text = None
            if plan.may_need_body and plan.needs_body(row):
                text = _text(session, reading, plan, row)
                if text is None:
                    missing.append(row.uid)
                    continue
                if plan.needs_parts and text.takes_long(plan.derived):
                    session.last_text = (row.id, text)
                    return rows[:-1], at + batch.index(row.uid)  # it is the first of the next batch, taken apart
                read_bytes += len(text.data)
            number = 0 if plan.uidonly else selected.number(row.uid)
            line = plan.render(number, row, text, selected.is_recent(row.uid))
            session.write(line)
            read_bytes += len(line)
            if read_bytes >= BATCH_BYTES or time.perf_counter() > until_s:
                return rows, at + batch.index(row.uid) + 1
    return rows, at + len(batch)


def _text(session: Session, reading: Reading, plan: Plan, row: Message) -> MessageText | None:
    if session.last_text is not None and session.last_text[0] == row.id:
        return session.last_text[1]
    data = _body(reading, row)
    if data is None:
        return None
    text = MessageText(data)
    if plan.is_partial and len(text.data) >= KEPT_TEXT_BYTES:
        session.last_text = (row.id, text)
    return text


async def _mark_seen(session: Session, selected: Selected, uids: Sequence[int]) -> None:
    """RFC 3501 6.4.5: BODY[...] sets \\Seen. What was read stays read if that can not be recorded now."""
    if "s" not in selected.rights:
        return
    try:
        change = _flags_change(session, selected, uids, "add", (actor.SEEN,), None)
        await session.ask(change, timeout_s=MARK_SEEN_S)
    except Refusal as refusal:
        session.logger.warning("messages were fetched but could not be marked as seen", reason=refusal.text)


# -- STORE


async def store(session: Session, command: commands.Store) -> str:
    selected = session.writable_mailbox
    uids = _chosen(selected, command.messages, command.by_uid)
    if not uids:
        return "STORE completed"
    mode: Mode = command.mode
    since = command.unchanged_since
    if since is not None:
        session.enable("CONDSTORE")  # RFC 7162 3.1
    selected.silence_own_flags(command.silent)
    try:
        done = await session.ask(_flags_change(session, selected, uids, mode, command.flags, since))
    finally:
        selected.silence_own_flags(False)
    if since is None:
        return "STORE completed"
    return _modified(session, selected, uids, done.results, command.by_uid) + "STORE completed"


def _flags_change(
    session: Session, selected: Selected, uids: Sequence[int], mode: Mode, flags: tuple[str, ...], since: int | None
) -> actor.ChangeFlags | actor.SpreadFlags:
    """Of many messages, one change of spans of them: where the cell may write that, and by the rights of an owner."""
    if len(uids) >= SPREAD_MESSAGES and selected.owner is None and session.services.log.feature_level >= SYNC_SINCE:
        spans = spans_of_sorted(uids)
        if len(spans) * SPREAD_MESSAGES <= len(uids):
            return actor.SpreadFlags(selected.folder.id, tuple(spans), mode, flags, since)
    return actor.ChangeFlags(selected.folder.id, tuple(uids), mode, flags, since)


def _modified(session: Session, selected: Selected, uids: Sequence[int], results: Sequence[Any], by_uid: bool) -> str:
    """MODIFIED (RFC 7162 3.1.3) with a blank behind it: those that somebody else had changed; empty where none was.

    What has gone is not among them: the client will be told that it has.
    """
    stored: set[int] = set()
    for change in (change for result in results for change in result):
        if isinstance(change, FlagsOfMany):
            stored.update(uid for uid, _, _ in change.states())
        elif isinstance(change, Change):
            stored.add(change.uid)
    left = [uid for uid in uids if uid not in stored]
    with session.reading() as reading:
        left = [row.uid for row in rows_of(reading.view, selected.folder.id, left)]
    if not left:
        return ""
    numbers = compact(uid if by_uid else selected.number(uid) for uid in left)
    return f"[MODIFIED {numbers.decode('ascii')}] "


# -- COPY, MOVE


async def copy(session: Session, command: commands.Copy) -> str:
    selected = session.writable_mailbox if command.move else session.mailbox
    name = "MOVE" if command.move else "COPY"
    uids = tuple(_chosen(selected, command.messages, command.by_uid))
    target = places.find(session, command.name)
    if target is None:
        raise no_such_mailbox("TRYCREATE")  # RFC 3501 6.4.7
    if not uids:
        return f"{name} completed: no such messages"
    code = _copy_uid(target.folder, await _transferred(session, selected, uids, target, command.move))
    if not command.move:
        return f"{code}COPY completed"
    # RFC 6851 4.3: COPYUID stands in front of the EXPUNGE responses, which MOVE may have even by number.
    if code:
        session.write(b"* OK " + code.encode("ascii") + b"moved\r\n")
    return _told(session, command) + "MOVE completed"


async def _transferred(
    session: Session, selected: Selected, uids: tuple[int, ...], target: Place, move: bool
) -> list[tuple[int, int]]:
    """UIDs of the messages where they were and where they are now."""
    if selected.owner is not None or target.owner is not None:
        return await transfer(session, selected, list(uids), target, move)
    command = actor.MoveMessages if move else actor.CopyMessages
    done = await session.ask(command(selected.folder.id, uids, target.folder.id))
    return [
        (change.source_uid, change.uid)
        for result in done.results
        for change in result
        if change.kind == "added" and change.folder == target.folder.id and change.source_uid
    ]


def _copy_uid(target: Folder, pairs: list[tuple[int, int]]) -> str:
    """COPYUID (RFC 4315 3) with a blank behind it; empty where nothing was copied."""
    if not pairs:
        return ""
    pairs = sorted(pairs)
    sources, copies = compact(pair[0] for pair in pairs), compact(pair[1] for pair in pairs)
    return f"[COPYUID {target.uidvalidity} {sources.decode('ascii')} {copies.decode('ascii')}] "


# -- EXPUNGE, CLOSE


async def expunge(session: Session, command: commands.Expunge) -> str:
    """EXPUNGE, and UID EXPUNGE (RFC 4315 2.1), which leaves other \\Deleted messages alone."""
    selected = session.writable_mailbox
    if await _expunge(session, selected, command.uids):
        return _told(session, command) + "EXPUNGE completed"
    return "EXPUNGE completed"


def _told(session: Session, command: commands.Command) -> str:
    """HIGHESTMODSEQ (RFC 7162 3.2.7) with a blank behind it, once all that happened has been told; empty without it."""
    if not session.features.qresync:
        return ""
    session.announce(command)
    return f"[HIGHESTMODSEQ {session.mailbox.told_modseq}] "


async def _expunge(session: Session, selected: Selected, only: SequenceSet | None) -> list[int]:
    """Gives the UIDs that were to go."""
    deleted = await _deleted(session, selected)
    if only is not None:
        named = set(_chosen(selected, only, by_uid=True))
        deleted = [uid for uid in deleted if uid in named]
    if deleted:
        await session.ask(actor.Expunge(selected.folder.id, tuple(deleted)))
    return deleted


async def _deleted(session: Session, selected: Selected) -> list[int]:
    """The UIDs of the messages that carry \\Deleted now, of those that the client knows."""
    if (scan := _scan_of(session, selected)) is not None:
        return scan.with_flag(actor.DELETED)
    found: list[int] = []
    for at in range(0, len(selected.uids), BATCH_MESSAGES):
        with session.reading() as reading:
            rows = rows_of(reading.view, selected.folder.id, selected.uids[at : at + BATCH_MESSAGES])
            found += [row.uid for row in rows if actor.DELETED in row.flags]
        await asyncio.sleep(0)
    return found


async def close(session: Session, _: commands.Close) -> str:
    """RFC 3501 6.4.2: expunges without a word, not after EXAMINE; with the MODSEQ of that (RFC 7162 3.2.8)."""
    selected = session.mailbox
    code = ""
    may_expunge = not selected.read_only and "e" in selected.rights  # RFC 4314 4
    if may_expunge and (gone := await _expunge(session, selected, None)) and session.features.qresync:
        code = f"[HIGHESTMODSEQ {selected.modseq_with(gone)}] "
    session.deselect()
    return f"{code}CLOSE completed"


async def unselect(session: Session, _: commands.Unselect) -> str:
    session.deselect()
    return "UNSELECT completed"


HANDLERS: dict[type, Handler] = {
    commands.Fetch: fetch,
    commands.Store: store,
    commands.Copy: copy,
    commands.Expunge: expunge,
    commands.Close: close,
    commands.Unselect: unselect,
}
