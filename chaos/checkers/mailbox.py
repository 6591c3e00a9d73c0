"""What happens to messages in mailboxes has an order, and every read fits it.

Three promises, each searched message by message (chaos.checkers.life); folders as whole sets are in folders.py:

- Reads over the admin API that are not marked stale are linearizable with all writes, over any protocol and any node.
- Reads over IMAP show what their own node had folded: to everybody who stays with one node its mailboxes are
  linearizable, where what others ask of other nodes comes about at some time after they asked.
- In the end every node shows the same state, which some order of all operations explains.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from chaos.checkers.life import Flags, Life
from chaos.checkers.linearizability import Call
from chaos.checkers.objects import Judgement, Object, call_of, joined, judge_objects
from chaos.checkers.sightings import FolderSighting
from chaos.history import Operation

Key = tuple[str, str]  # account, identity
WRITES = ("deliver", "append", "store", "copy", "move", "expunge")


class Read(NamedTuple):
    """One answer that shows an account's mailbox, or one folder of it."""

    source: str
    node: str
    current: bool
    folder: str | None  # None: all of them
    began_s: float
    ended_s: float
    lowest: dict[str, int]  # by folder: the first UID that it would show
    held: dict[str, dict[str, Flags]]  # by identity: the folders that hold it


def check_linearizable(operations: Iterable[Operation], sightings: Iterable[FolderSighting]) -> Judgement:
    """Admin reads and the final observation, with all writes."""
    return _Mailboxes(operations, sightings).judge("linearizability", None)


def check_nodes(
    operations: Iterable[Operation], sightings: Iterable[FolderSighting], nodes: Iterable[str]
) -> Judgement:
    """All reads at one node, with its own writes as they ended and the others' left open; node after node."""
    mailboxes = _Mailboxes(operations, sightings)
    return joined(mailboxes.judge(f"consistency at {node}", node) for node in nodes)


class _Mailboxes:
    def __init__(self, operations: Iterable[Operation], sightings: Iterable[FolderSighting]) -> None:
        self.writes: dict[Key, list[Operation]] = defaultdict(list)
        for one in operations:
            if one.action in WRITES and one.may_have_happened:
                for account in one.subject.split():
                    self.writes[account, str(one.asked["identity"])].append(one)
        sightings = list(sightings)
        self.uids = {
            (seen.account, seen.folder, shown.identity): shown.uid for seen in sightings for shown in seen.messages
        }
        self.reads: dict[str, list[Read]] = defaultdict(list)
        for account, read in _reads(sightings):
            self.reads[account].append(read)

    def judge(self, checker: str, node: str | None) -> Judgement:
        return judge_objects(checker, self._objects(node), _name if node is None else _name_at_node)

    def _objects(self, node: str | None) -> Iterator[Object]:
        for account, all_reads in self.reads.items():
            reads = [read for read in all_reads if (read.current if node is None else read.node == node)]
            timeline = _Timeline(reads)
            identities = {identity for owner, identity in self.writes if owner == account} | timeline.shown.keys()
            for identity in sorted(identities):
                calls = self._calls(account, identity, node, timeline)
                if calls:
                    yield Object(f"message {identity} of {account}", Life(), calls)

    def _calls(self, account: str, identity: str, node: str | None, timeline: "_Timeline") -> list[Call]:
        writes = [_write(one) for one in self.writes.get((account, identity), ()) if node in (None, one.node)]
        if node is not None:
            others = (one for one in self.writes.get((account, identity), ()) if one.node != node)
            writes += [_write(one).left_open() for one in others]
        reads = [
            call
            for read in timeline.about(identity, writes)
            if (call := self._read(account, identity, read)) is not None
        ]
        return writes + _telling(reads, writes)

    def _read(self, account: str, identity: str, read: Read) -> Call | None:
        """None: it could not have shown the message, wherever it was."""
        held = read.held.get(identity, {})
        label = f"{read.began_s:.3f}-{read.ended_s:.3f} s {read.source} shows {_shown(held)}"
        if read.folder is None:
            return Call(("read",), frozenset(held.items()), read.began_s, read.ended_s, label)
        lowest = read.lowest[read.folder]
        if not held and lowest > 1 and self.uids.get((account, read.folder, identity), 0) < lowest:
            return None
        label = f"{label} in {read.folder}"
        return Call(("read", read.folder), (held.get(read.folder),), read.began_s, read.ended_s, label)


class _Timeline:
    """Reads in the order in which they began, to be asked for those that say something about one message."""

    def __init__(self, reads: Iterable[Read]) -> None:
        self.reads = sorted(reads, key=lambda read: read.began_s)
        self._began_s = [read.began_s for read in self.reads]
        self.shown: dict[str, list[int]] = defaultdict(list)
        for at, read in enumerate(self.reads):
            for identity in read.held:
                self.shown[identity].append(at)

    def about(self, identity: str, writes: list[Call]) -> list[Read]:
        """Those that show it, those next after one that did, those during its life, some after it, and the last."""
        chosen = {at + more for at in self.shown.get(identity, ()) for more in (0, 1, 2)} | {len(self.reads) - 1}
        if writes:
            began_s = min(call.began_s for call in writes)
            ended_s = max([call.ended_s for call in writes if not call.is_open], default=began_s)
            chosen.update(range(bisect_left(self._began_s, began_s), bisect_right(self._began_s, ended_s) + 3))
        return [self.reads[at] for at in sorted(chosen) if 0 <= at < len(self.reads)]


def _reads(sightings: Iterable[FolderSighting]) -> Iterator[tuple[str, Read]]:
    """Folders that one answer showed together are one read of the whole mailbox."""
    whole: dict[tuple[str, str], Read] = {}
    for seen in sightings:
        if seen.kind == "answer":
            continue
        read = whole.get((seen.source, seen.account))
        if read is None:
            folder = None if seen.kind == "mailbox" else seen.folder
            read = Read(seen.source, seen.node, seen.current, folder, seen.began_s, seen.ended_s, {}, {})
            whole[seen.source, seen.account] = read
            yield seen.account, read
        read.lowest[seen.folder] = seen.first
        for shown in seen.messages:
            read.held.setdefault(shown.identity, {})[seen.folder] = shown.flags or frozenset()


def _write(one: Operation) -> Call:
    asked: tuple[Any, ...]
    match one.action:
        case "deliver":
            asked = ("add", "INBOX", frozenset())
        case "append":
            asked = ("add", one.asked["folder"], frozenset(one.asked["flags"]))
        case "store":
            asked = ("store", one.asked["folder"], one.asked["mode"], frozenset(one.asked["flags"]))
        case "expunge":
            asked = ("expunge", one.asked["folder"])
        case _:
            asked = (one.action, one.asked["folder"], one.asked["target"])
    return call_of(one, asked, True)


def _telling(reads: list[Call], writes: list[Call]) -> list[Call]:
    """Without reads that repeat others: of equal ones with no end of a write among them, the first and the last do."""
    ends_s = sorted([w.began_s for w in writes] + [w.ended_s for w in writes if not w.is_open])
    kept: dict[tuple[Any, Any, int, int], list[Call]] = {}
    for call in reads:
        began, ended = bisect_right(ends_s, call.began_s), bisect_right(ends_s, call.ended_s)
        alike = kept.setdefault((call.asked, call.result, began, ended), [])
        if began == ended and len(alike) == 2:
            alike.pop()
        alike.append(call)
    return [call for alike in kept.values() for call in alike]


def _name(part: list[Call], calls: list[Call]) -> str:
    """What is wrong, as people call it: by the last read that nothing explains, and by what reads show after it."""
    reads = [call for call in part if call.asked[0] == "read"]
    if not reads:
        return "contradictory answers"
    seen = max(reads, key=lambda call: call.ended_s)
    if problem := _never_asked_for(_held(seen), calls):
        return problem
    later = [call for call in calls if call.asked == seen.asked and call.began_s > seen.ended_s and not call.is_open]
    if any(call.result != seen.result for call in later):
        return "stale read"
    if not _held(seen):
        return "lost message"
    kinds = {call.asked[0] for call in part}
    return "resurrected message" if kinds & {"expunge", "move"} else "lost update"


def _held(read: Call) -> dict[str, Flags]:
    """By folder: the flags that it shows there."""
    if len(read.asked) == 1:
        return dict(read.result)
    return {} if read.result == (None,) else {read.asked[1]: read.result[0]}


def _never_asked_for(held: dict[str, Flags], calls: list[Call]) -> str:
    """What is shown that no operation could have brought about; empty if there is no such thing."""
    places = {call.asked[2] for call in calls if call.asked[0] in ("copy", "move")}
    places |= {call.asked[1] for call in calls if call.asked[0] == "add"}
    flags = {flag for call in calls if call.asked[0] in ("add", "store") for flag in call.asked[-1]}
    if held.keys() - places:
        return "a message that nobody put there"
    if any(shown - flags for shown in held.values()):
        return "flags that nobody set"
    return ""


def _name_at_node(part: list[Call], calls: list[Call]) -> str:
    """A node that shows less than it showed or acknowledged has gone back; nothing else can be wrong with one alone."""
    return "a node went back in time" if len(part) > 1 else _name(part, calls)


def _shown(held: dict[str, Flags]) -> str:
    return ", ".join(f"{folder} ({' '.join(sorted(flags))})" for folder, flags in sorted(held.items())) or "nothing"
