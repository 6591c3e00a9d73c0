"""What a scan of a mailbox found: the UIDs of its messages, and the flags of each, in six bytes a message.

Changes are by UID, which is never used twice, so one that the scan had read already does no harm. It holds no text of
messages.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable
from itertools import pairwise

from actors.mailbox import SEEN, Change, FlagsOfMany
from actors.mailbox_flags import NOT_THERE, SOUGHT_SETS, ordinals_in
from actors.mailbox_overview import Piece, Rows

MOST_FLAG_SETS = 1 << 14
MESSAGE_BYTES = 6
SET_BYTES = 500

Flags = tuple[str, ...]
News = Change | FlagsOfMany

_UTF_16 = f"utf-16-{sys.byteorder[0]}e"  # numbers of sets are below those that UTF-16 writes otherwise


class Scan:
    """The messages of a folder by UID, ascending, gathered slice by slice."""

    def __init__(self) -> None:
        self.uids: array[int] = array("I")
        self.is_whole = True  # whether it can tell the flags of each message
        self.flag_sets: dict[Flags, int] = {}
        self._flags: array[int] = array("H")
        self._first_unseen: int | None = None

    @classmethod
    def of(cls, flag_sets: Iterable[Flags], uids: bytes, flags: bytes) -> Scan:
        """What `packed` gave. Raises ValueError where these bytes are no arrays, of one length."""
        found = cls()
        found.flag_sets = {one: number for number, one in enumerate(flag_sets)}
        found.uids.frombytes(uids)
        found._flags.frombytes(flags)
        if len(found.uids) != len(found._flags):
            raise ValueError("not as many flags as messages")
        return found

    def packed(self) -> tuple[list[Flags], bytes, bytes]:
        return list(self.flag_sets), self.uids.tobytes(), self._flags.tobytes()

    def take(self, pieces: Iterable[Piece]) -> None:
        """The next messages."""
        for piece in pieces:
            if isinstance(piece, Rows):
                self.uids.extend(piece.uids)
                self._flags.extend([self._number_of(flags) for flags in piece.flags])
            elif NOT_THERE not in piece.which:
                self.uids.extend(range(piece.first, piece.first + len(piece.which)))
                self._flags.frombytes(self._numbers(piece))
            else:
                there = [at for at, one in enumerate(piece.which, piece.first) if one != NOT_THERE]
                self.uids.extend(there)
                self._flags.frombytes(self._numbers(piece._replace(which=piece.which.replace(NOT_THERE, ""))))
        self._first_unseen = None

    def _number_of(self, flags: Flags) -> int:
        which = self.flag_sets.get(flags)
        if which is not None:
            return which
        if len(self.flag_sets) >= MOST_FLAG_SETS:
            self.is_whole = False
            return 0
        return self.flag_sets.setdefault(flags, len(self.flag_sets))

    def _numbers(self, many: FlagsOfMany) -> bytes:
        """Those of the sets of these messages, all of which are there, as the array has them."""
        used = ordinals_in(many.which, len(many.flag_sets))
        table = {at: chr(self._number_of(many.flag_sets[at - 1])) for at in used}
        return many.which.translate(table).encode(_UTF_16)

    @property
    def size_bytes(self) -> int:
        return MESSAGE_BYTES * len(self.uids) + SET_BYTES * len(self.flag_sets)

    @property
    def first_unseen(self) -> int:
        """A sequence number, 0 for none."""
        if self._first_unseen is None:
            unseen = [which for flags, which in self.flag_sets.items() if SEEN not in flags]
            if len(unseen) > SOUGHT_SETS:
                sets = set(unseen)
                self._first_unseen = next((at for at, one in enumerate(self._flags, 1) if one in sets), 0)
            else:
                text = self._text()
                self._first_unseen = min(filter(None, (text.find(chr(which)) + 1 for which in unseen)), default=0)
        return self._first_unseen

    @property
    def unseen_count(self) -> int:
        unseen = [which for flags, which in self.flag_sets.items() if SEEN not in flags]
        if len(unseen) > SOUGHT_SETS:
            return sum(map(set(unseen).__contains__, self._flags))
        text = self._text()
        return sum(text.count(chr(which)) for which in unseen)

    def with_flag(self, flag: str) -> list[int]:
        """UIDs of the messages that have it."""
        sets = {which for flags, which in self.flag_sets.items() if flag in flags}
        if not sets.intersection(self._flags):
            return []
        return [uid for uid, which in zip(self.uids, self._flags, strict=True) if which in sets]

    def _text(self) -> str:
        """A character for each message: text is searched faster than an array."""
        return self._flags.tobytes().decode(_UTF_16)

    def rendered(self, numbers: Iterable[int], render: Callable[[Flags], bytes]) -> list[bytes]:
        """The flags of the messages of these sequence numbers; `render` is asked once for each set of them."""
        texts, flags = list(map(render, self.flag_sets)), self._flags
        return [texts[flags[number - 1]] for number in numbers]

    # -- what the log says

    def followed(self, changes: Iterable[News]) -> Scan:
        """The scan after these changes: this one, or where messages went another, for who still reads this one."""
        self._first_unseen = None
        gone: list[int] = []
        for change in changes:
            if isinstance(change, FlagsOfMany):
                self.spread(change)
            elif change.kind == "expunged":
                gone.append(change.uid)
            elif change.kind in ("added", "flags"):
                self.set(change.uid, change.flags, is_new=change.kind == "added")
        return self.without((uid, uid) for uid in sorted(gone)) if gone else self

    def set(self, uid: int, flags: Flags, is_new: bool) -> None:
        """Of a message that is there, or, where it `is_new`, that may not be there yet."""
        if not self.uids or uid > self.uids[-1]:
            if is_new:  # as mostly: a message has come
                self.uids.append(uid)
                self._flags.append(self._number_of(flags))
            return
        at = bisect_left(self.uids, uid)
        if at < len(self.uids) and self.uids[at] == uid:
            self._flags[at] = self._number_of(flags)
        elif is_new:
            self.uids.insert(at, uid)
            self._flags.insert(at, self._number_of(flags))

    def spread(self, many: FlagsOfMany) -> None:
        """At the speed of memory where the messages follow one another, as they mostly do."""
        first = bisect_left(self.uids, many.first)
        count = len(many.which)
        is_dense = first + count <= len(self.uids) and self.uids[first + count - 1] == many.first + count - 1
        if is_dense and NOT_THERE not in many.which:
            self._flags[first : first + count] = array("H", self._numbers(many))
            return
        for at, one in enumerate(many.which, many.first):
            if one != NOT_THERE:
                self.set(at, many.flag_sets[ord(one) - 1], is_new=False)

    def without(self, gone: Iterable[tuple[int, int]]) -> Scan:
        """Another, of the messages that are in none of these spans of UIDs, which are sorted and disjoint."""
        bounds = [0]
        for first, last in gone:
            bounds += bisect_left(self.uids, first), bisect_left(self.uids, last + 1)
        bounds.append(len(self.uids))
        left = Scan()
        left.flag_sets, left.is_whole = dict(self.flag_sets), self.is_whole
        for start, stop in list(pairwise(bounds))[::2]:
            left.uids += self.uids[start:stop]
            left._flags += self._flags[start:stop]
        return left
