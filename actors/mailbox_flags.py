"""Flags and MODSEQs of many messages in one row, for what changes thousands of them at once.

A row of an account's stream:
  g + folder id + UID // 1024: [flag sets, which of them each message has, [[count, MODSEQ], ...]]
The second is text with a character for each UID from the first of the block on, up to the last that the block knows: 0
for a message that is not there, else the ordinal of its set, counted from 1. Where a block knows a message, the flags
and the MODSEQ in the message's own row are of before and count no more. A block is made by ManyFlagsChanged alone
(actors/mailbox_spread.py), so a mailbox that never saw one has none, and rows as they ever were.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby, repeat
from typing import NamedTuple

from eventlog.views import View

BLOCK_UIDS = 1024
PREFIX = b"g"
NOT_THERE = "\0"
SOUGHT_SETS = 50

Flags = tuple[str, ...]
State = tuple[Flags, int]  # flags and MODSEQ
Runs = tuple[tuple[int, int], ...]  # how many, and their MODSEQ
BlockRow = tuple[tuple[Flags, ...], str, Runs]


class FlagsOfMany(NamedTuple):
    """What a change found and left of messages whose UIDs follow one another from `first` on: as a block has it."""

    folder: bytes
    first: int
    flag_sets: tuple[Flags, ...]
    which: str
    runs: Runs

    def states(self) -> Iterator[tuple[int, Flags, int]]:
        """UID, flags and MODSEQ of each message that was there and that the change was about."""
        modseqs = expanded(self.runs)
        for at, character in enumerate(self.which):
            if character != NOT_THERE:
                yield self.first + at, self.flag_sets[ord(character) - 1], modseqs[at]

    @property
    def modseq(self) -> int:
        """The highest."""
        return max((modseq for _, modseq in self.runs), default=0)


class Block:
    """1024 UIDs from `base` on, as far as they are known."""

    __slots__ = ("base", "flag_sets", "runs", "which")

    def __init__(self, base: int, row: BlockRow | None) -> None:
        self.base = base
        self.flag_sets: list[Flags] = list(row[0]) if row else []
        self.which = row[1] if row else ""
        self.runs: Runs = row[2] if row else ()

    @property
    def end(self) -> int:
        """The first UID that it does not know of."""
        return self.base + len(self.which)

    def ordinal_of(self, flags: Flags) -> int:
        if flags not in self.flag_sets:
            self.flag_sets.append(flags)
        return self.flag_sets.index(flags) + 1

    def take(self, rows: Iterable[tuple[int, Flags, int]]) -> None:
        """Messages that it does not know yet, ascending."""
        ordinals = {flags: at for at, flags in enumerate(self.flag_sets, 1)}
        which, modseqs, at = [self.which], expanded(self.runs), self.end
        for uid, flags, modseq in rows:
            if uid > at:
                which.append(NOT_THERE * (uid - at))
                modseqs += repeat(0, uid - at)
            which.append(chr(ordinals.setdefault(flags, len(ordinals) + 1)))
            modseqs.append(modseq)
            at = uid + 1
        self.flag_sets, self.which, self.runs = list(ordinals), "".join(which), compressed(modseqs)

    def row(self) -> BlockRow | None:
        """What is kept of it: None where no message is left."""
        used = ordinals_in(self.which, len(self.flag_sets))
        if not used:
            return None
        if len(used) < len(self.flag_sets):
            self.which = self.which.translate({one: chr(at) for at, one in enumerate(used, 1)})
            self.flag_sets = [self.flag_sets[one - 1] for one in used]
        return tuple(self.flag_sets), self.which, self.runs


class FlagBlocks:
    """The blocks of a folder over any view, each read once; those that were changed are written by `save`."""

    def __init__(self, view: View, folder_id: bytes) -> None:
        self._view = view
        self._folder_id = folder_id
        self._read: dict[int, tuple[Block, list[int]] | None] = {}
        self._changed: set[int] = set()

    def state(self, uid: int) -> State | None:
        """None where the message's own row says it."""
        found = self._known(uid)
        if found is None:
            return None
        block, modseqs = found
        at = uid - block.base
        return block.flag_sets[ord(block.which[at]) - 1], modseqs[at]

    def set(self, uid: int, state: State) -> bool:
        """Notes the state of a message that a block knows; False where none does."""
        found = self._known(uid)
        if found is None:
            return False
        block, modseqs = found
        at = uid - block.base
        block.which = block.which[:at] + chr(block.ordinal_of(state[0])) + block.which[at + 1 :]
        modseqs[at] = state[1]
        self._changed.add(uid // BLOCK_UIDS)
        return True

    def remove(self, uid: int) -> None:
        """The message has gone."""
        found = self._known(uid)
        if found is not None:
            block, at = found[0], uid % BLOCK_UIDS
            block.which = block.which[:at] + NOT_THERE + block.which[at + 1 :]
            self._changed.add(uid // BLOCK_UIDS)

    def save(self) -> None:
        for number in sorted(self._changed):
            found = self._read[number]
            assert found is not None
            found[0].runs = compressed(found[1])
            save(self._view, self._folder_id, found[0])
        self._changed.clear()

    def _known(self, uid: int) -> tuple[Block, list[int]] | None:
        number = uid // BLOCK_UIDS
        try:
            found = self._read[number]
        except KeyError:
            block = read(self._view, self._folder_id, number)
            found = self._read[number] = None if block is None else (block, expanded(block.runs))
        if found is None or uid >= found[0].end or found[0].which[uid - found[0].base] == NOT_THERE:
            return None
        return found


def block_key(folder_id: bytes, number: int) -> bytes:
    return PREFIX + folder_id + number.to_bytes(4, "big")


def read(view: View, folder_id: bytes, number: int) -> Block | None:
    row: BlockRow | None = view.peek(block_key(folder_id, number))
    return None if row is None else Block(number * BLOCK_UIDS, row)


def save(view: View, folder_id: bytes, block: Block) -> None:
    """In a fold."""
    key, row = block_key(folder_id, block.base // BLOCK_UIDS), block.row()
    if row is None:
        view.delete(key)
    else:
        view.put(key, row)


def forget(view: View, folder_id: bytes) -> None:
    """In the fold of what deletes a folder."""
    for key, _ in list(view.range(PREFIX + folder_id)):
        view.delete(key)


def ordinals_in(which: str, count: int) -> list[int]:
    """Which of the ordinals up to `count` occur, ascending. Few are sought one by one, at the speed of memory."""
    if count > SOUGHT_SETS:
        return sorted(map(ord, set(which) - {NOT_THERE}))
    return [at for at in range(1, count + 1) if chr(at) in which]


def expanded(runs: Runs) -> list[int]:
    return list(chain.from_iterable(repeat(modseq, count) for count, modseq in runs))


def compressed(modseqs: Iterable[int]) -> Runs:
    return tuple((len(list(run)), modseq) for modseq, run in groupby(modseqs))


def part(runs: Runs, start: int, stop: int) -> Runs:
    """The runs of `expanded(runs)[start:stop]`."""
    if start == 0 and len(runs) == 1 and runs[0][0] <= stop:
        return runs
    return compressed(expanded(runs)[start:stop])


def replaced(runs: Runs, start: int, stop: int, modseq: int) -> Runs:
    """The runs with one MODSEQ from one offset up to but not including another, which is not behind their end."""
    count = sum(count for count, _ in runs)
    if (start, stop) == (0, count):
        return ((count, modseq),)
    modseqs = expanded(runs)
    modseqs[start:stop] = [modseq] * (stop - start)
    return compressed(modseqs)


def spans_of_sorted(uids: Sequence[int]) -> list[tuple[int, int]]:
    """Ascending UIDs as spans; no work for each of those that follow one another."""
    spans: list[tuple[int, int]] = []
    at = 0
    while at < len(uids):
        # The first index behind `at` where a UID is further away than its index is.
        beyond = bisect_left(range(at, len(uids)), True, key=lambda other: uids[other] - other > uids[at] - at)
        spans.append((uids[at], uids[at + beyond - 1]))
        at += beyond
    return spans
