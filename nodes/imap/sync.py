"""Keeping a client's copy in step: ENABLE (RFC 5161), and what QRESYNC tells of messages that went (RFC 7162 3.2).

UIDs that went are looked up by MODSEQ; where that reaches too far back, every UID that is not there counts as gone.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import islice

from actors.mailbox import counters, expunged_since
from nodes.imap.selected import Selected
from nodes.imap.sequence import SequenceSet
from nodes.imap.session import Session
from nodes.imap.shared import Handler
from nodes.imap.sync_commands import Enable, Resync

SPANS_AT_ONCE = 1000  # of UIDs in one VANISHED response
MATCHES_TRIED = 1000

Span = tuple[int, int]


async def enable(session: Session, command: Enable) -> str:
    enabled = [told for name in dict.fromkeys(command.names) if (told := session.enable(name))]
    session.write(b"* ENABLED" + b"".join(b" " + name.encode("ascii") for name in enabled) + b"\r\n")
    return "ENABLE completed"


def vanished(session: Session, selected: Selected, since: int, asked: Sequence[Span], kept: int = 0) -> list[Span]:
    """Those of the UIDs asked for that went with a MODSEQ above `since`; of up to `kept` it is known that none did."""
    with session.reading() as reading:
        view = reading.view
        gone = expunged_since(view, selected.folder.id, since)
        if gone is None:
            gone = [(kept + 1, counters(view, selected.folder.id).uidnext - 1)]
    return list(_absent(_common(gone, asked), selected.uids))


def write_vanished(session: Session, spans: Sequence[Span]) -> None:
    """VANISHED (EARLIER): of what the session's sequence numbers never counted."""
    for at in range(0, len(spans), SPANS_AT_ONCE):
        session.write(b"* VANISHED (EARLIER) " + _uid_set(spans[at : at + SPANS_AT_ONCE]) + b"\r\n")


def vanished_for(session: Session, selected: Selected, resync: Resync) -> list[Span]:
    """What a SELECT with QRESYNC tells of, by what the client kept."""
    asked = [(1, _END)] if resync.known is None else resync.known.spans(_END)
    return vanished(session, selected, resync.modseq, asked, _matched(selected.uids, resync.matches))


def is_unchanged(session: Session, selected: Selected, since: int) -> bool:
    """Whether nothing in the mailbox has a MODSEQ above `since`."""
    with session.reading() as reading:
        return counters(reading.view, selected.folder.id).highestmodseq <= since


_END = 2**32 - 1


def _matched(uids: array[int], matches: tuple[SequenceSet, SequenceSet] | None) -> int:
    """The highest UID up to which nothing went: the client has the number for it that it has here.

    Nothing ever comes in between, so what stands at one number on both sides has the same messages in front of it.
    """
    if matches is None:
        return 0
    for number, uid in islice(zip(_downwards(matches[0]), _downwards(matches[1])), MATCHES_TRIED):
        if number <= len(uids) and uids[number - 1] == uid:
            return uid
    return 0


def _downwards(numbers: SequenceSet) -> Iterator[int]:
    for first, last in reversed(numbers.spans(_END)):
        yield from range(last, first - 1, -1)


def _common(ones: Sequence[Span], others: Sequence[Span]) -> Iterator[Span]:
    """What is in both; each sorted and disjoint."""
    at = other_at = 0
    while at < len(ones) and other_at < len(others):
        (first, last), (other_first, other_last) = ones[at], others[other_at]
        if max(first, other_first) <= min(last, other_last):
            yield max(first, other_first), min(last, other_last)
        if last < other_last:
            at += 1
        else:
            other_at += 1


def _absent(spans: Iterator[Span], uids: Sequence[int]) -> Iterator[Span]:
    """The spans without these UIDs (ascending)."""
    for first, last in spans:
        for uid in uids[bisect_left(uids, first) : bisect_right(uids, last)]:
            if first < uid:
                yield first, uid - 1
            first = uid + 1
        if first <= last:
            yield first, last


def _uid_set(spans: Sequence[Span]) -> bytes:
    return b",".join(b"%d" % first if first == last else b"%d:%d" % (first, last) for first, last in spans)


HANDLERS: dict[type, Handler] = {Enable: enable}
