"""APPEND and REPLACE: what the client sent, or has put together out of what lies here, becomes messages.

All messages of one command are one record of the log: all of them arrive, or none (RFC 3502). Pieces that lie on this
server are copied out in short reads, and no message grows beyond the limit that one sent by the client would have.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from actors import mailbox as actor
from actors.facts import message_facts
from actors.mailbox import Change, Folder, folder, message
from actors.runtime import NewBody
from eventlog.record import digest_of, new_id
from nodes.imap import imap_url, places
from nodes.imap.append_commands import Append, AppendMessage, Replace, Url
from nodes.imap.errors import BadCommand, Refusal
from nodes.imap.fetch import MessageText
from nodes.imap.sequence import compact, uids_of_sequence_numbers, uids_of_uids
from nodes.imap.session import Session
from nodes.imap.shared import Handler

THREAD_BYTES = 1024 * 1024  # a message this large is hashed in a thread


class _Ready(NamedTuple):
    """A message as the mailbox takes it, with its bytes."""

    message: actor.NewMessage
    flags: tuple[str, ...]
    body: NewBody


_Texts = dict[bytes, MessageText]  # the message that the last URL was about: many are of parts of one


async def append(session: Session, command: Append) -> str:
    target = _target(session, command.name)
    ready = await _all_ready(session, command.messages)
    steps = [session.step(session.place, actor.Append(target.id, one.message, one.flags)) for one in ready]
    done = await session.ask_all(steps, _bodies(ready))
    return _append_uid(session, done.results) + "APPEND completed"


async def replace(session: Session, command: Replace) -> str:
    """RFC 8508: the new message comes and the old one goes in one record, and the old one alone."""
    selected = session.writable_mailbox
    place = session.place
    target = _target(session, command.name)
    if session.place != place:
        raise Refusal("a message is replaced in mailboxes of one owner", "CANNOT")
    named = uids_of_uids if command.by_uid else uids_of_sequence_numbers
    uids = named(command.old, selected.uids)
    if uids is None:
        raise BadCommand(f"no such message: there are {len(selected.uids)}")
    if not uids:
        raise Refusal("there is no message of that UID", "EXPUNGEISSUED")
    (new,) = await _all_ready(session, (command.message,))
    step = actor.ReplaceMessage(selected.folder.id, uids[0], target.id, new.message, new.flags)
    done = await session.ask(step, (new.body,))
    session.write(b"* OK " + _append_uid(session, done.results).encode("ascii") + b"the new message is there\r\n")
    return "REPLACE completed"


def _target(session: Session, name: str) -> Folder:
    if (reason := session.read_only) is not None:
        raise Refusal(reason, "NOPERM")
    return places.enter(session, name, "i", "TRYCREATE")  # RFC 3501 6.3.11


# -- what is appended


async def _all_ready(session: Session, wanted: Sequence[AppendMessage]) -> list[_Ready]:
    """Together they may be as large as what the framer would have taken. Raises Refusal."""
    left_bytes = session.limits.message_bytes + session.limits.literal_bytes
    ready: list[_Ready] = []
    texts: _Texts = {}
    for one in wanted:
        data = await _data(session, one.pieces, left_bytes, texts)
        left_bytes -= len(data)
        ready.append(await _ready(session, one, data))
    return ready


async def _ready(session: Session, wanted: AppendMessage, data: bytes) -> _Ready:
    if not data:
        raise Refusal("an empty message is none; nothing was appended", "CANNOT")  # RFC 3502 6.3.11
    digest = await asyncio.to_thread(digest_of, data) if len(data) > THREAD_BYTES else digest_of(data)
    internaldate_ms = time.time_ns() // 1_000_000 if wanted.internaldate_ms is None else wanted.internaldate_ms
    facts = message_facts(data)
    made = actor.NewMessage(
        new_id(), digest, len(data), internaldate_ms, b"", facts.message_id, facts.references, facts.sent_ms
    )
    return _Ready(made, wanted.flags, NewBody(session.target.tenant, data, digest))


def _bodies(ready: Sequence[_Ready]) -> tuple[NewBody, ...]:
    """Each body once: a record names none twice."""
    return tuple({one.message.digest: one.body for one in ready}.values())


async def _data(session: Session, pieces: Sequence[bytes | Url], left_bytes: int, texts: _Texts) -> bytes:
    if len(pieces) == 1 and isinstance(pieces[0], bytes):
        return pieces[0]
    left_bytes = min(left_bytes, session.limits.message_bytes)
    found: list[bytes] = []
    for piece in pieces:
        data = piece if isinstance(piece, bytes) else _linked(session, piece, texts)
        left_bytes -= len(data)
        if left_bytes < 0:
            raise Refusal(f"put together it has more than {session.limits.message_bytes} bytes", "TOOBIG")
        found.append(data)
        await asyncio.sleep(0)
    return b"".join(found)


def _linked(session: Session, url: Url, texts: _Texts) -> bytes:
    """The bytes that a URL of CATENATE stands for. Raises Refusal with BADURL (RFC 4469 4)."""
    found = imap_url.parse(url.text, session.services.config.node.hostname, session.target.address)
    data = None if found is None else _part(session, found, texts)
    if data is None:
        shown = "".join(c if "!" <= c <= "~" and c not in '"\\]' else "?" for c in url.text[:300])
        raise Refusal("there is nothing of that URL", f'BADURL "{shown}"')
    return data


def _part(session: Session, url: imap_url.MessageUrl, texts: _Texts) -> bytes | None:
    place = places.find(session, url.mailbox)
    if place is None or "r" not in place.rights or url.uidvalidity not in (None, place.folder.uidvalidity):
        return None
    where = place.folder
    with session.reading_of(place.owner) as reading:
        row = message(reading.view, where.id, url.uid)
        if row is None:
            return None
        text = texts.get(row.id)
        body = reading.body(row.digest) if text is None else b""
    if text is None:
        if body is None:
            return None
        texts.clear()
        text = texts[row.id] = MessageText(row.trace + body)
    return text.section(url.section)


# -- where it went


def _append_uid(session: Session, results: Sequence[Any]) -> str:
    """APPENDUID (RFC 4315 3, RFC 3502 6) with a blank behind it, of the mailbox that the messages went to."""
    added = [change for result in results for change in result if isinstance(change, Change) and change.kind == "added"]
    if not added:
        return ""
    with session.reading() as reading:
        where = folder(reading.view, added[0].folder)
    uids = compact(change.uid for change in added if change.folder == added[0].folder).decode("ascii")
    return f"[APPENDUID {where.uidvalidity} {uids}] " if where else ""


HANDLERS: dict[type, Handler] = {Append: append, Replace: replace}
