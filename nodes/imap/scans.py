"""What a scan of a mailbox found, kept for who selects it next: UIDs, and the flags of each, in six bytes a message.

A scan that is kept follows the log: each change of its mailbox is put into it. Whatever changes a message raises the
HIGHESTMODSEQ of its folder in the same record (actors/mailbox_fold.py), so a scan is good where that is what it has
followed up to. Changes are by UID, which is never used twice, so one that the scan had read already does no harm. It
holds no text of messages.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from actors.mailbox import Change, FlagsOfMany
from actors.mailbox_flags import NOT_THERE

if TYPE_CHECKING:
    from actors.mailbox import Message
    from eventlog.log import Applied

KEPT_BYTES = 32 * 1024 * 1024
LEAST_MESSAGES = 500  # fewer are scanned as soon as they are looked up
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

    def take(self, rows: Iterable[Message]) -> None:
        """The next messages."""
        sets, uids, flags = self.flag_sets, self.uids, self._flags
        for row in rows:
            uids.append(row.uid)
            which = sets.get(row.flags)
            flags.append(self._number_of(row.flags) if which is None else which)
        self._first_unseen = None

    def _number_of(self, flags: Flags) -> int:
        which = self.flag_sets.get(flags)
        if which is not None:
            return which
        if len(self.flag_sets) >= MOST_FLAG_SETS:
            self.is_whole = False
            return 0
        return self.flag_sets.setdefault(flags, len(self.flag_sets))

    @property
    def size_bytes(self) -> int:
        return MESSAGE_BYTES * len(self.uids) + SET_BYTES * len(self.flag_sets)

    @property
    def first_unseen(self) -> int:
        """A sequence number, 0 for none."""
        if self._first_unseen is None:
            text = self._flags.tobytes()
            found = [self._first_of(text, which) for flags, which in self.flag_sets.items() if "\\Seen" not in flags]
            self._first_unseen = min(filter(None, found), default=0)
        return self._first_unseen

    def _first_of(self, text: bytes, which: int) -> int:
        """The sequence number of the first message with these flags, 0 for none."""
        wanted = array("H", (which,)).tobytes()
        at = text.find(wanted)
        while at % len(wanted) and at >= 0:
            at = text.find(wanted, at + 1)
        return at // len(wanted) + 1 if at >= 0 else 0

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
                self._spread(change)
            elif change.kind == "expunged":
                gone.append(change.uid)
            elif change.kind in ("added", "flags"):
                self._set(change.uid, change.flags, is_new=change.kind == "added")
        return self._without(gone) if gone else self

    def _set(self, uid: int, flags: Flags, is_new: bool) -> None:
        at = len(self.uids) if not self.uids or uid > self.uids[-1] else bisect_left(self.uids, uid)
        if at < len(self.uids) and self.uids[at] == uid:
            self._flags[at] = self._number_of(flags)
        elif is_new:
            self.uids.insert(at, uid)
            self._flags.insert(at, self._number_of(flags))

    def _spread(self, many: FlagsOfMany) -> None:
        """At the speed of memory where the messages follow one another, as they mostly do."""
        first = bisect_left(self.uids, many.first)
        count = len(many.which)
        is_dense = first + count <= len(self.uids) and self.uids[first + count - 1] == many.first + count - 1
        if not is_dense or NOT_THERE in many.which:
            for uid, flags, _ in many.states():
                self._set(uid, flags, is_new=False)
            return
        table = {at: chr(self._number_of(flags)) for at, flags in enumerate(many.flag_sets, 1)}
        self._flags[first : first + count] = array("H", many.which.translate(table).encode(_UTF_16))

    def _without(self, gone: Iterable[int]) -> Scan:
        left = Scan()
        left.uids, left._flags, left.flag_sets = self.uids[:], self._flags[:], dict(self.flag_sets)
        left.is_whole = self.is_whole
        for uid in gone:
            at = bisect_left(left.uids, uid)
            if at < len(left.uids) and left.uids[at] == uid:
                del left.uids[at], left._flags[at]
        return left


class Kept:
    """A scan that follows the log, from before its first slice was read on: `modseq` says up to where."""

    def __init__(self, modseq: int) -> None:
        self.modseq = modseq
        self.scan: Scan | None = None
        self._waiting: list[News] = []  # until the last slice has been read

    def follow(self, changes: list[News]) -> None:
        news = [change for change in changes if change.modseq > self.modseq]
        if not news:
            return
        self.modseq = max(change.modseq for change in news)
        if self.scan is None:
            self._waiting += news
        else:
            self.scan = self.scan.followed(news)

    def finish(self, scan: Scan) -> None:
        self.scan = scan.followed(self._waiting)
        self._waiting = []


class Scans:
    """Scans by account and folder, least recently used out first."""

    def __init__(self, limit_bytes: int = KEPT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._used_bytes = 0
        self._kept: OrderedDict[tuple[bytes, bytes], tuple[Kept, int]] = OrderedDict()
        self._begun: dict[bytes, list[tuple[bytes, Kept]]] = {}  # by account: those that are being made, and these

    def get(self, account: bytes, folder: bytes, modseq: int) -> Scan | None:
        """The scan of a folder whose HIGHESTMODSEQ is `modseq` now."""
        found = self._kept.get((account, folder))
        if found is None or found[0].modseq != modseq:
            return None
        self._kept.move_to_end((account, folder))
        return found[0].scan

    def begin(self, account: bytes, folder: bytes, modseq: int) -> Kept:
        """Before the first slice of a scan is read, with what HIGHESTMODSEQ was then; `keep` or `leave` follows."""
        begun = Kept(modseq)
        self._begun.setdefault(account, []).append((folder, begun))
        return begun

    def keep(self, account: bytes, folder: bytes, begun: Kept, scan: Scan) -> None:
        """All slices have been read."""
        begun.finish(scan)
        self._drop(account, folder)
        if begun.scan is None or len(scan.uids) < LEAST_MESSAGES or not self._fits(begun.scan):
            self.leave(account, begun)
            return
        self._kept[account, folder] = begun, begun.scan.size_bytes
        self._used_bytes += begun.scan.size_bytes
        self._make_room()

    def leave(self, account: bytes, begun: Kept) -> None:
        """A scan is not followed any more."""
        left = [one for one in self._begun.get(account, ()) if one[1] is not begun]
        if left:
            self._begun[account] = left
        else:
            self._begun.pop(account, None)

    def applied(self, items: list[Applied]) -> None:
        """What the log tells of its changes, all of them."""
        if not self._begun:
            return
        for item in items:
            begun = self._begun.get(item.event.stream)
            if begun is not None and isinstance(item.result, list):
                for folder, kept in tuple(begun):
                    self._follow(item.event.stream, folder, kept, item.result)

    def _follow(self, account: bytes, folder: bytes, kept: Kept, result: list[object]) -> None:
        kept.follow([one for one in result if isinstance(one, Change | FlagsOfMany) and _is_of(one, folder)])
        if (account, folder) in self._kept and self._kept[account, folder][0] is kept and kept.scan is not None:
            size_bytes = kept.scan.size_bytes
            self._used_bytes += size_bytes - self._kept[account, folder][1]
            self._kept[account, folder] = kept, size_bytes
            if not self._fits(kept.scan):
                self._drop(account, folder)
            self._make_room()

    def _fits(self, scan: Scan) -> bool:
        return scan.is_whole and scan.size_bytes <= self._limit_bytes

    def _make_room(self) -> None:
        while self._used_bytes > self._limit_bytes:
            self._drop(*next(iter(self._kept)))

    def _drop(self, account: bytes, folder: bytes) -> None:
        found = self._kept.pop((account, folder), None)
        if found is not None:
            self._used_bytes -= found[1]
            self.leave(account, found[0])


def _is_of(change: News, folder: bytes) -> bool:
    """Whether it is about messages of the folder."""
    return change.folder == folder and (isinstance(change, FlagsOfMany) or change.kind != "folder")
