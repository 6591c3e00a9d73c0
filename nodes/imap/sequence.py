"""Sequence sets (RFC 3501 9, sequence-set) and their resolution against the messages of a session."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import NamedTuple

STAR = 0  # `*`: no message has the number 0
NUMBER_LIMIT = 2**32 - 1


class SequenceSet(NamedTuple):
    """Pairs of first and last number, either of which may be STAR, in either order, as the client wrote them.

    With `saved` it has none: it is `$`, the messages that a search has saved (RFC 5182).
    """

    ranges: tuple[tuple[int, int], ...]
    saved: bool = False

    def __str__(self) -> str:
        if self.saved:
            return "$"
        return ",".join(_number(a) if a == b else f"{_number(a)}:{_number(b)}" for a, b in self.ranges)

    def spans(self, largest: int) -> list[tuple[int, int]]:
        """Sorted, disjoint (first, last) with `*` put in as `largest`; adjoining ranges are united."""
        pairs = sorted(
            (min(a, b), max(a, b)) for a, b in ((first or largest, last or largest) for first, last in self.ranges)
        )
        spans: list[tuple[int, int]] = []
        for first, last in pairs:
            if spans and first <= spans[-1][1] + 1:
                spans[-1] = (spans[-1][0], max(spans[-1][1], last))
            else:
                spans.append((first, last))
        return spans


def _number(value: int) -> str:
    return str(value) if value != STAR else "*"


def uids_of_sequence_numbers(wanted: SequenceSet, uids: array[int]) -> array[int] | None:
    """The UIDs behind message sequence numbers; None where one is no message's (RFC 3501 2.3.1.2: an error)."""
    count = len(uids)
    chosen = array("I")
    for first, last in wanted.spans(count):
        if not 1 <= first <= last <= count:
            return None
        chosen.extend(uids[first - 1 : last])
    return chosen


def uids_of_uids(wanted: SequenceSet, uids: array[int]) -> array[int]:
    """Those of the session's UIDs that the set names; others are ignored without an error (RFC 3501 6.4.8)."""
    chosen = array("I")
    if not uids:
        return chosen
    for first, last in wanted.spans(uids[-1]):
        chosen.extend(uids[bisect_left(uids, first) : bisect_right(uids, last)])
    return chosen


def compact(numbers: Iterable[int]) -> bytes:
    """A uid-set in ascending order with ranges put together (RFC 4315 4)."""
    pieces: list[bytes] = []
    first = last = -1
    for number in numbers:
        if number == last + 1 and first >= 0:
            last = number
            continue
        if first >= 0:
            pieces.append(b"%d" % first if first == last else b"%d:%d" % (first, last))
        first = last = number
    if first >= 0:
        pieces.append(b"%d" % first if first == last else b"%d:%d" % (first, last))
    return b",".join(pieces)
