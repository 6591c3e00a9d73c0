"""STORE on thousands of messages as one event: UIDs as spans, and in the tables a row for 1024 of them.

FlagsChanged writes a row for each message and stays what it is; this does the same to what clients see, flags, MODSEQs
and counts, with work that hardly grows with the number of messages (docs/ADR/0029-imap-speed.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from actors.errors import TooLarge
from actors.mailbox_expunged import united
from actors.mailbox_flags import (
    BLOCK_UIDS,
    NOT_THERE,
    Block,
    FlagsOfMany,
    Runs,
    compressed,
    expanded,
    ordinals_in,
    part,
    read,
    replaced,
    save,
)
from actors.mailbox_rows import (
    EMPTY_USAGE,
    MAX_UID,
    SEEN,
    USAGE_KEY,
    CountersRow,
    UsageRow,
    apply_flags,
    counters,
    counters_key,
    normalise_flags,
)
from actors.mailbox_terms import ManyFlagsChanged, SpreadFlags
from eventlog.views import View

Spans = tuple[tuple[int, int], ...]  # first and last UID, ascending and disjoint

BLOCKS_PER_RECORD = 16
MOST_SPANS = 1000


def decide(view: View, command: SpreadFlags) -> tuple[ManyFlagsChanged, ...]:
    """Of an open mailbox and a folder that is there. Raises TooLarge, InvalidName."""
    flags, spans = normalise_flags(command.flags), _clipped(view, command)
    if len(spans) > MOST_SPANS:
        raise TooLarge(f"at most {MOST_SPANS} spans of messages in one record")
    if not any(_has_messages(view, command.folder_id, *span) for span in spans):
        return ()
    return (ManyFlagsChanged(command.folder_id, spans, command.mode, flags, command.unchanged_since),)


def slices(view: View, command: SpreadFlags) -> tuple[SpreadFlags, ...]:
    """Steps over so many blocks each, and so many spans."""
    pieces: list[list[tuple[int, int]]] = []
    blocks: set[int] = set()
    for number, first, last in _pieces(_clipped(view, command)):
        if not pieces or len(blocks | {number}) > BLOCKS_PER_RECORD or len(pieces[-1]) == MOST_SPANS:
            pieces.append([])
            blocks = set()
        blocks.add(number)
        pieces[-1].append((first, last))
    parts = (tuple(united(piece)) for piece in pieces)
    return tuple(
        SpreadFlags(command.folder_id, part, command.mode, command.flags, command.unchanged_since) for part in parts
    )


def _clipped(view: View, command: SpreadFlags) -> Spans:
    """What of the spans there may be messages for."""
    last = counters(view, command.folder_id).uidnext - 1
    return tuple((one, min(other, last)) for one, other in united(command.spans) if 0 < one <= last)


def evolve(view: View, fact: ManyFlagsChanged) -> list[FlagsOfMany]:
    """As the fold of FlagsChanged: tells of each message that was there and passed `unchanged_since`."""
    row: CountersRow | None = view.get(counters_key(fact.folder_id))
    if row is None:
        return []
    usage: UsageRow = view.get(USAGE_KEY) or EMPTY_USAGE
    modseq = usage[2] + 1
    told: list[FlagsOfMany] = []
    unseen_delta, has_changed, block = 0, False, Block(0, None)
    for number, first, last in _pieces(fact.spans):
        if number * BLOCK_UIDS != block.base or not told:
            block = _whole(view, fact.folder_id, number, row[0])
        done = _spread(block, fact, first - block.base, last - block.base + 1, modseq)
        told.append(FlagsOfMany(fact.folder_id, first, tuple(block.flag_sets), done.which, done.runs))
        if done.has_changed:
            has_changed, unseen_delta = True, unseen_delta + done.unseen_delta
            save(view, fact.folder_id, block)
    if has_changed:
        uidnext, _, count, unseen, size_bytes = row
        view.put(counters_key(fact.folder_id), (uidnext, modseq, count, unseen + unseen_delta, size_bytes))
        view.put(USAGE_KEY, (usage[0], usage[1], modseq, usage[3]))
    return [one for one in told if one.which.strip(NOT_THERE)]


class _Done(NamedTuple):
    which: str  # of those that it was about
    runs: Runs
    has_changed: bool
    unseen_delta: int


def _spread(block: Block, fact: ManyFlagsChanged, start: int, stop: int, modseq: int) -> _Done:
    """Changes the messages of a block from one offset up to but not including another."""
    which = block.which[start:stop]
    asked = (
        which if fact.unchanged_since is None else _passed(which, part(block.runs, start, stop), fact.unchanged_since)
    )
    ordinals = ordinals_in(asked, len(block.flag_sets))
    table, unseen_delta = _changes(block, fact, asked, ordinals)
    if not table:
        return _Done(asked, part(block.runs, start, stop), False, 0)
    after = asked.translate(table)
    left = after
    if len(table) == len(ordinals) and asked == which:
        block.runs = replaced(block.runs, start, start + len(which), modseq)
    else:
        left = "".join([new if new != NOT_THERE else old for new, old in zip(after, which, strict=True)])
        modseqs = expanded(block.runs)
        for at, one in enumerate(asked, start):
            if ord(one) in table:
                modseqs[at] = modseq
        block.runs = compressed(modseqs)
    block.which = block.which[:start] + left + block.which[start + len(left) :]
    return _Done(after, part(block.runs, start, stop), True, unseen_delta)


def _passed(which: str, runs: Runs, unchanged_since: int) -> str:
    """Those of the messages that nobody has changed since."""
    modseqs = zip(which, expanded(runs), strict=True)
    return "".join([one if modseq <= unchanged_since else NOT_THERE for one, modseq in modseqs])


def _changes(block: Block, fact: ManyFlagsChanged, asked: str, ordinals: list[int]) -> tuple[dict[int, str], int]:
    """Which of the ordinals become which others, and how many more are unseen."""
    table: dict[int, str] = {}
    unseen_delta = 0
    for one in ordinals:
        before = block.flag_sets[one - 1]
        after = apply_flags(before, fact.mode, fact.flags)
        if after != before:
            table[one] = chr(block.ordinal_of(after))
            if difference := (SEEN in before) - (SEEN in after):
                unseen_delta += difference * asked.count(chr(one))
    return table, unseen_delta


def _whole(view: View, folder_id: bytes, number: int, uidnext: int) -> Block:
    """The block with all the messages that are there."""
    base = number * BLOCK_UIDS
    block = read(view, folder_id, number) or Block(base, None)
    stop = min(uidnext, base + BLOCK_UIDS)
    if block.end < stop:
        rows = _rows(view, folder_id, block.end, stop)
        block.take((int.from_bytes(key[-4:], "big"), row[4], row[5]) for key, row in rows)
    return block


def _rows(view: View, folder_id: bytes, first: int, stop: int) -> Iterator[tuple[bytes, Any]]:
    end = stop.to_bytes(4, "big") if stop <= MAX_UID else None
    return view.range(b"m" + folder_id, first.to_bytes(4, "big"), end)


def _has_messages(view: View, folder_id: bytes, first: int, last: int) -> bool:
    return next(_rows(view, folder_id, first, last + 1), None) is not None


def _pieces(spans: Spans) -> Iterator[tuple[int, int, int]]:
    """The spans cut at the ends of blocks: the number of the block, first and last UID."""
    for first, last in spans:
        while first <= last:
            number = first // BLOCK_UIDS
            end = min(last, number * BLOCK_UIDS + BLOCK_UIDS - 1)
            yield number, first, end
            first = end + 1
