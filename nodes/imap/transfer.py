"""COPY and MOVE between mailboxes of different accounts of a tenant, and between folders of another's.

Each group of messages is one record over both streams: what is moved is in one of them at every moment. The messages
are appended as they are, with their flags as far as the account may set them there; bodies are kept once per tenant.
"""

from __future__ import annotations

from typing import NamedTuple

from actors import mailbox as actor
from actors.facts import message_facts
from actors.mailbox import Message, usage
from actors.runtime import NewBody
from nodes.imap.errors import Refusal
from nodes.imap.mailbox_access import Step
from nodes.imap.places import Place
from nodes.imap.selected import Selected, rows_of
from nodes.imap.session import Session

GROUP_MESSAGES = 50
GROUP_BYTES = 4 * 1024 * 1024


class _Group(NamedTuple):
    rows: list[Message]
    bodies: dict[bytes, NewBody]


async def transfer(
    session: Session, selected: Selected, uids: list[int], target: Place, move: bool
) -> list[tuple[int, int]]:
    """Gives UID there and UID here of what was copied. Raises Refusal; of a MOVE, what was moved stays moved."""
    target.require("i")
    _require_room(session, selected, uids, target)
    pairs: list[tuple[int, int]] = []
    left = uids
    while left:
        group, rest = _group(session, selected, left)
        try:
            pairs += await _given(session, selected, group, target, move)
        except Refusal as refusal:
            if refusal.code != "EXPUNGEISSUED":
                raise
            continue  # somebody else took or marked some of them: those that are left are looked at again
        left = rest
    return pairs


async def _given(
    session: Session, selected: Selected, group: _Group, target: Place, move: bool
) -> list[tuple[int, int]]:
    """One record; of a MOVE refused where one of the messages has gone or has other flags by now."""
    if not group.rows:
        return []
    steps: list[Step] = [session.step(target.owner, _appended(target, row, group)) for row in group.rows]
    if move:
        uids, modseqs = tuple(row.uid for row in group.rows), tuple(row.modseq for row in group.rows)
        gone = actor.Expunge(selected.folder.id, uids, force=True, modseqs=modseqs)
        steps.append(session.step(selected.owner, gone))
    done = await session.ask_all(steps, tuple(group.bodies.values()))
    return [(row.uid, result[0].uid) for row, result in zip(group.rows, done.results) if result]


def _require_room(session: Session, selected: Selected, uids: list[int], target: Place) -> None:
    """A COPY is whole or not at all (RFC 3501 6.4.7): its room is looked for before the first group."""
    with session.reading() as reading:
        sizes = [row.size for row in rows_of(reading.view, selected.folder.id, uids)]
    with session.reading_of(target.owner) as reading:
        if not usage(reading.view).has_room(sum(sizes), len(sizes)):
            raise Refusal("the mailbox is full", "OVERQUOTA")


def _group(session: Session, selected: Selected, uids: list[int]) -> tuple[_Group, list[int]]:
    """Some messages with their bodies, and the UIDs that are left. Raises Refusal where a body is missing."""
    group = _Group([], {})
    size_bytes = 0
    with session.reading() as reading:
        for row in rows_of(reading.view, selected.folder.id, uids[:GROUP_MESSAGES]):
            if size_bytes and size_bytes + row.size > GROUP_BYTES:
                break
            data = reading.body(row.digest)
            if data is None:
                raise Refusal("the text of some of the messages is missing on this server", "SERVERBUG")
            size_bytes += row.size
            group.rows.append(row)
            group.bodies[row.digest] = NewBody(session.target.tenant, data, row.digest)
    last = group.rows[-1].uid if group.rows else uids[:GROUP_MESSAGES][-1]
    return group, [uid for uid in uids if uid > last]


def _appended(target: Place, row: Message, group: _Group) -> actor.Append:
    facts = message_facts(group.bodies[row.digest].data)
    message = actor.NewMessage(
        row.id,
        row.digest,
        row.size,
        row.internaldate_ms,
        row.trace,
        facts.message_id,
        facts.references,
        facts.sent_ms,
    )
    return actor.Append(target.folder.id, message, row.flags)
