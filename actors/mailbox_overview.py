"""UIDs and flags of all messages of a folder, for who wants nothing else of them: hardly any work for those in blocks.

A block (mailbox_flags.py) knows every message up to its end; those that it does not know are read row by row.
"""

from __future__ import annotations

from itertools import islice
from typing import NamedTuple

from actors.mailbox_flags import BLOCK_UIDS, PREFIX, Block, Flags, FlagsOfMany
from actors.mailbox_rows import MAX_UID
from eventlog.views import View

BLOCK_COST_ROWS = 32  # what a block takes, in rows


class Rows(NamedTuple):
    """Messages in no block, by UID, ascending."""

    uids: list[int]
    flags: list[Flags]


Piece = FlagsOfMany | Rows


def overview(view: View, folder_id: bytes, first: int, last: int, most: int) -> tuple[list[Piece], int]:
    """The messages with first <= UID <= last, as many as `most` rows take; and the UID to go on from, 0 at the end."""
    pieces: list[Piece] = []
    for key, row in view.range(PREFIX + folder_id, (first // BLOCK_UIDS).to_bytes(4, "big")):
        block = Block(int.from_bytes(key[-4:], "big") * BLOCK_UIDS, row)
        if most <= 0 or block.base > last:
            break
        if first < block.base:
            pieces.append(rows := _rows(view, folder_id, first, block.base - 1, most))
            most -= len(rows.uids)
            first = block.base if most > 0 else rows.uids[-1] + 1
        if most > 0 and first < block.end:
            stop = min(block.end, last + 1)
            which = block.which[first - block.base : stop - block.base]
            pieces.append(FlagsOfMany(folder_id, first, tuple(block.flag_sets), which, ()))
            most -= BLOCK_COST_ROWS
            first = stop
    if most > 0 and first <= last:
        pieces.append(rows := _rows(view, folder_id, first, last, most))
        first = rows.uids[-1] + 1 if len(rows.uids) == most else last + 1
    return pieces, first if first <= last else 0


def _rows(view: View, folder_id: bytes, first: int, last: int, most: int) -> Rows:
    end = (last + 1).to_bytes(4, "big") if last < MAX_UID else None
    rows = list(islice(view.range(b"m" + folder_id, first.to_bytes(4, "big"), end), most))
    return Rows([int.from_bytes(key[-4:], "big") for key, _ in rows], [row[4] for _, row in rows])
