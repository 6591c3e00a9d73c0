"""The mailbox that a session has selected: which messages it knows by which number, and what it has yet to be told.

Changes arrive from the log at any time and only wait here; numbers move solely in `announce`, which a session calls
where RFC 3501 7.4.1 allows it. So a sequence number always means what the client was last told. Everything is keyed
by UID, which is never used twice, and told at most once, so it does not matter where between two slices of the first
scan a change fell.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from actors.mailbox import Change, FlagsOfMany, Folder, Message, message, messages
from actors.mailbox_acl import EVERY, RIGHTS
from nodes.imap import render
from nodes.imap.features import Features
from nodes.imap.sequence import compact

if TYPE_CHECKING:
    from actors.directory import Target
    from eventlog.log import Applied
    from eventlog.views import View
    from nodes.imap.scan import Scan
    from nodes.imap.search_updates import Update

ALL_RIGHTS = frozenset(RIGHTS)
RECENT_MARKS = 100_000
FLAG_TEXTS = 1000


class RecentMarks:
    """\\Recent, as far as one node can know: the first session on this node that is told of a message has it.

    RFC 3501 2.3.2: where it can not be determined whether a session is the first (another node may have shown the
    message, or this node has restarted), the message counts as recent.
    """

    def __init__(self) -> None:
        self._marks: OrderedDict[bytes, int] = OrderedDict()

    def mark(self, folder_id: bytes) -> int:
        """The highest UID that a session was told of."""
        return self._marks.get(folder_id, 0)

    def claim(self, folder_id: bytes, uid: int) -> None:
        """All up to `uid` have been told to a session that may have them as recent."""
        self._marks[folder_id] = max(uid, self._marks.pop(folder_id, 0))
        while len(self._marks) > RECENT_MARKS:
            self._marks.popitem(last=False)


class Selected:
    """One selected mailbox of one session. `cause` tells the session's own changes from others'."""

    def __init__(self, folder: Folder, read_only: bool, cause: str, marks: RecentMarks, features: Features) -> None:
        self.folder = folder
        self.read_only = read_only
        self.owner: Target | None = None  # whose it is, where it is another's
        self.rights: frozenset[str] = ALL_RIGHTS
        self.uids: array[int] = array("I")
        self.first_unseen = 0  # sequence number, 0 for none
        self.keywords: set[str] = set()
        self.saved: frozenset[int] = frozenset()  # UIDs that a search has saved: `$` (RFC 5182)
        self.updates: dict[bytes, Update] = {}  # searches that are kept up to date (RFC 5267), by tag
        self.folder_changed = False  # the folder came under another name, or went: look before the next answer
        self.told_modseq = 0  # all up to this one has been told, or was there when the mailbox was selected
        self._features = features
        self._cause = cause
        self._marks = marks
        self._recent: list[tuple[int, int]] = []  # UIDs above the first and up to the second, ascending
        self._added: set[int] = set()
        self._expunged: set[int] = set()
        self._flags: dict[int, tuple[tuple[str, ...] | None, int]] = {}  # and MODSEQ; None: the client knows them
        self._own_silent = False
        self._noted_modseq = 0
        self._modseq_due = False  # what was told of says more, or less, than the MODSEQs beside it

    # -- first scan

    def take(self, scan: Scan) -> None:
        """What the first scan found, or one before."""
        self.uids = scan.uids[:]
        self.first_unseen = scan.first_unseen
        for flags in scan.flag_sets:
            self._learn(flags)

    def settle(self) -> None:
        """After the first scan: what changed meanwhile is part of it, and recent messages are this session's now."""
        known = self._added.difference(self.uids) if self._added else ()
        if known or self._expunged:
            self.uids = array("I", sorted({*known, *self.uids} - self._expunged))
        self._added.clear()
        self._expunged.clear()
        self._flags.clear()
        self._take_recent()

    def _take_recent(self) -> None:
        """Messages that no session here was told of before are recent, and after SELECT this session's alone."""
        if self._features.rev2:
            return  # RFC 9051: there is no such thing; it stays recent for others
        mark = self._marks.mark(self.folder.id)
        highest = self.uids[-1] if self.uids else 0
        if highest <= mark:
            return
        if self._recent and self._recent[-1][1] >= mark:
            self._recent[-1] = (self._recent[-1][0], highest)
        else:
            self._recent.append((mark, highest))
        if not self.read_only:
            self._marks.claim(self.folder.id, highest)

    # -- what the log says

    def applied(self, items: list[Applied]) -> bool:
        """Notes changes; True when there is something to tell."""
        told = False
        for item in items:
            if isinstance(item.result, list):
                own = item.stamp.cause == self._cause
                for change in item.result:
                    if isinstance(change, Change) and change.folder in (self.folder.id, EVERY):
                        self._note(change, own)
                        told = True
                    elif isinstance(change, FlagsOfMany) and change.folder == self.folder.id:
                        self._note_many(change, own)
                        told = True
        return told

    def _note_many(self, many: FlagsOfMany, own: bool) -> None:
        if own and self._own_silent and not self._flags and not self._features.condstore:
            self._noted_modseq = max(self._noted_modseq, many.modseq)
            return
        for uid, flags, modseq in many.states():
            self._note(Change(many.folder, uid, "flags", flags, modseq), own)

    def _note(self, change: Change, own: bool) -> None:
        if change.kind != "folder":
            self._noted_modseq = max(self._noted_modseq, change.modseq)
        match change.kind:
            case "added":
                self._added.add(change.uid)
            case "expunged":
                self._expunged.add(change.uid)
            case "flags":
                # A silent STORE is silent about what it did itself, not about what others did before it.
                if not (own and self._own_silent) or self._flags.get(change.uid, _UNKNOWN)[0] is not None:
                    self._flags[change.uid] = (change.flags, change.modseq)
                elif self._features.condstore:  # nor about its MODSEQ (RFC 7162 3.1.3)
                    self._flags[change.uid] = (None, change.modseq)
            case "folder":
                self.folder_changed = True

    def silence_own_flags(self, silent: bool) -> None:
        """While `silent`, this session's own flag changes are not to be told (STORE FLAGS.SILENT)."""
        self._own_silent = silent

    # -- what the client is told

    def modseq_with(self, expunged: Iterable[int]) -> int:
        """Up to where the client knows all, if it knows that these messages went; for when it is told no more."""
        if self._flags or self._added or not self._expunged.issubset(expunged):
            return self.told_modseq
        return max(self.told_modseq, self._noted_modseq)

    def qualified(self, reply: bytes) -> bytes:
        """Where an expunge waits, what else was told has a higher MODSEQ: the client is kept from skipping over it.

        And once it has been told: VANISHED has no MODSEQ of its own that the client could go on from.
        """
        due, self._modseq_due = self._modseq_due, bool(self._expunged)
        if not (due or self._expunged) or not reply.startswith(b"OK ") or reply.startswith(b"OK ["):
            return reply
        return b"OK [HIGHESTMODSEQ %d] " % self.told_modseq + reply[3:]

    def has_news_for(self, expunges: bool) -> bool:
        """Whether there is something that may be told where `expunges` says so."""
        return bool(self._added or self._flags or self.folder_changed or (expunges and self._expunged))

    @property
    def has_news(self) -> bool:
        return bool(self._expunged or self._added or self._flags or self.folder_changed)

    def announce(self, expunges: bool, with_uid: bool) -> list[bytes]:
        """Untagged responses for what is waiting, EXPUNGE only where `expunges` allows it. Numbers move here."""
        if self._expunged and not expunges:
            told_modseq = self.told_modseq
        else:
            told_modseq = max(self.told_modseq, self._noted_modseq)
        lines: list[bytes] = []
        if expunges and self._expunged:
            lines += self._announce_expunged()
        if self._added:
            lines += self._announce_added()
        if self._flags:
            lines += self._announce_flags(with_uid or self._features.qresync)
        self.told_modseq = told_modseq
        return lines

    def _announce_expunged(self) -> list[bytes]:
        """From the highest number down, so that no number moves before it was told; by UID under QRESYNC."""
        gone = self._expunged
        self._added -= gone
        numbers = {uid: at + 1 for uid in gone if (at := self._index(uid)) is not None}
        if numbers:
            self.uids = _without(self.uids, sorted(number - 1 for number in numbers.values()))
        for uid in gone:
            self._flags.pop(uid, None)
        self._expunged = set()
        if self._features.vanishes:
            self._modseq_due = self._features.qresync
            return [b"* VANISHED %b\r\n" % compact(sorted(numbers))] if numbers else []
        return [b"* %d EXPUNGE\r\n" % number for number in sorted(numbers.values(), reverse=True)]

    def _announce_added(self) -> list[bytes]:
        """A message that came and went before it was told of is never told of."""
        highest = self.uids[-1] if self.uids else 0
        arrived = sorted(uid for uid in self._added - self._expunged if uid > highest)
        self._expunged -= self._added.difference(self.uids)
        self._added = set()
        if not arrived:
            return []
        self.uids.extend(arrived)
        self._take_recent()
        if self._features.rev2:
            return [b"* %d EXISTS\r\n" % len(self.uids)]
        return [b"* %d EXISTS\r\n* %d RECENT\r\n" % (len(self.uids), self.recent_count)]

    def _announce_flags(self, with_uid: bool) -> list[bytes]:
        lines: list[bytes] = []
        waiting, self._flags = self._flags, {}
        for uid in sorted(waiting):
            at = self._index(uid)
            if at is None or uid in self._expunged:
                continue
            flags, modseq = waiting[uid]
            items = [b"UID %d" % uid] if with_uid and not self._features.uidonly else []
            if flags is not None:
                if self._learn(flags):
                    lines.append(self.flags_line())
                items.append(b"FLAGS " + render.flags(flags, self.is_recent(uid)))
            if self._features.condstore:
                items.append(b"MODSEQ (%d)" % modseq)
            if self._features.uidonly:
                lines.append(b"* %d UIDFETCH (%b)\r\n" % (uid, b" ".join(items)))
            else:
                lines.append(b"* %d FETCH (%b)\r\n" % (at + 1, b" ".join(items)))
        return lines

    def flags_line(self) -> bytes:
        """FLAGS (RFC 3501 7.2.6): the system flags and the keywords that were seen here."""
        keywords = self.keywords.union(REV2_KEYWORDS) if self._features.rev2 else self.keywords
        return b"* FLAGS " + render.flags((*_SYSTEM_FLAGS, *sorted(keywords))) + b"\r\n"

    def _learn(self, flags: tuple[str, ...]) -> bool:
        """Whether a keyword among them is new here."""
        fresh = [flag for flag in flags if flag[:1] != "\\" and flag not in self.keywords]
        if len(self.keywords) < FLAG_TEXTS:
            self.keywords.update(fresh)
            return bool(fresh)
        return False

    # -- questions

    def waiting(self, expunges: bool) -> tuple[set[int], set[int]]:
        """UIDs of what `announce` will tell: messages that have gone, and messages that came or have other flags."""
        gone = set(self._expunged) if expunges else set()
        return gone, (self._added | self._flags.keys()) - self._expunged

    def has(self, uid: int) -> bool:
        """Whether the client knows of it."""
        return self._index(uid) is not None

    def _index(self, uid: int) -> int | None:
        at = bisect_left(self.uids, uid)
        return at if at < len(self.uids) and self.uids[at] == uid else None

    def number(self, uid: int) -> int:
        """The sequence number of a UID that the session knows."""
        return bisect_left(self.uids, uid) + 1

    def is_recent(self, uid: int) -> bool:
        if not self._recent or self._features.rev2:
            return False
        at = bisect_left(self._recent, uid, key=_above)
        return at > 0 and uid <= self._recent[at - 1][1]

    @property
    def recent_count(self) -> int:
        return sum(bisect_right(self.uids, last) - bisect_right(self.uids, above) for above, last in self._recent)


def _without(uids: array[int], places: list[int]) -> array[int]:
    """What is left when those at these places (ascending) go."""
    left, start = array("I"), 0
    for at in places:
        left += uids[start:at]
        start = at + 1
    return left + uids[start:]


def _above(span: tuple[int, int]) -> int:
    return span[0]


_UNKNOWN: tuple[tuple[str, ...] | None, int] = (None, 0)
_SYSTEM_FLAGS = ("\\Answered", "\\Flagged", "\\Deleted", "\\Seen", "\\Draft")
REV2_KEYWORDS = ("$Forwarded", "$MDNSent", "$Junk", "$NonJunk", "$Phishing")  # RFC 9051 2.3.2


def permanent_flags(rights: frozenset[str]) -> tuple[str, ...]:
    """What the client may set for good (RFC 3501 7.1), by its rights to the mailbox (RFC 4314 5.1.1)."""
    needed = {"\\Seen": "s", "\\Deleted": "t"}
    return tuple(flag for flag in (*_SYSTEM_FLAGS, "\\*") if needed.get(flag, "w") in rights)


def rows_of(view: View, folder_id: bytes, uids: array[int] | list[int]) -> Iterator[Message]:
    """The rows of these UIDs (ascending) that are still there: in one sweep where they lie close, else one by one."""
    if not uids:
        return
    if uids[-1] - uids[0] < 4 * len(uids):
        at = 0
        for row in messages(view, folder_id, uids[0], uids[-1]):
            while uids[at] < row.uid:
                at += 1
            if uids[at] == row.uid:
                yield row
        return
    for uid in uids:
        found = message(view, folder_id, uid)
        if found is not None:
            yield found
