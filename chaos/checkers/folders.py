"""Each folder as one set of messages: reads of all of it behind a barrier fit one order of what adds and removes.

What is true of every message by itself need not be true of them together: of two reads, one may have seen the first
message without the second and the other the second without the first.
"""

import functools
import operator
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from chaos.checkers.linearizability import SHRINKING_STEPS, Call, check, shortest_beginning
from chaos.checkers.mailbox import WRITES
from chaos.checkers.models import Set, set_of
from chaos.checkers.objects import Judgement, Object, call_of, judge_objects
from chaos.checkers.sightings import FolderSighting
from chaos.history import Operation

MOST_NARROWING = 20_000_000  # elements times calls: each element is looked at through all calls


def check_folders(operations: Iterable[Operation], sightings: Iterable[FolderSighting]) -> Judgement:
    """Every folder that was read whole, behind a barrier, and did not show the same each time.

    Where it did, the search message by message says all that there is to say.
    """
    folders: dict[tuple[str, str], _Folder] = defaultdict(_Folder)
    for one in operations:
        if one.action in WRITES and one.may_have_happened:
            for account in one.subject.split():
                for folder, does, identity in _effects(one):
                    found = folders[account, folder]
                    found.calls.append(call_of(one, (does, found.element(identity)), True))
    for seen in sightings:
        if seen.current and seen.whole:
            folders[seen.account, seen.folder].saw(seen)
    objects = [
        Object(f"{folder} of {account}", Set(), found.telling_calls(), fewest_elements)
        for (account, folder), found in folders.items()
        if len(found.shown) > 1
    ]
    return judge_objects("linearizability of folders", objects, lambda *_: "as a set")


@dataclass
class _Folder:
    """The calls on one folder, whose messages are numbered as they come."""

    calls: list[Call] = field(default_factory=list)
    shown: set[int] = field(default_factory=set)  # every set that a read showed
    _elements: dict[str, int] = field(default_factory=dict)

    def element(self, identity: str) -> int:
        return self._elements.setdefault(identity, len(self._elements))

    def saw(self, seen: FolderSighting) -> None:
        held = set_of(self.element(shown.identity) for shown in seen.messages)
        label = f"{seen.began_s:.3f}-{seen.ended_s:.3f} s {seen.source} shows {len(seen.messages)} messages"
        self.shown.add(held)
        self.calls.append(Call(("read",), held, seen.began_s, seen.ended_s, label))

    def telling_calls(self) -> list[Call]:
        """Without open adds of what no read ever shows: they may as well have come last, or never."""
        ever = functools.reduce(operator.or_, self.shown, 0)
        return [c for c in self.calls if not (c.is_open and c.asked[0] == "add" and not ever >> c.asked[1] & 1)]


def fewest_elements(calls: list[Call]) -> list[Call]:
    """A history of a set that is not linearizable, seen through as few of its elements as show it.

    Leaving out all that is about one element, in reads too, leaves a linearizable history linearizable. A history that
    is too long for that is shown as it is.
    """
    elements = _elements(calls)
    if len(elements) * len(calls) > MOST_NARROWING:
        return calls
    for element in elements:
        alone = _through(calls, {element})
        if check(Set(), alone, SHRINKING_STEPS).linearizable is False:
            return alone
    calls = shortest_beginning(Set(), calls)
    kept = _elements(calls)
    step = max(1, len(kept) // 2)
    while step:
        for at in range(0, len(kept), step):
            fewer = kept[:at] + kept[at + step :]
            if check(Set(), _through(calls, set(fewer)), SHRINKING_STEPS).linearizable is False:
                kept = fewer
                break
        else:
            step //= 2
    return _through(calls, set(kept))


def _elements(calls: list[Call]) -> list[int]:
    """All that something was done to, or that was shown."""
    shown = functools.reduce(operator.or_, (call.result for call in calls if call.asked == ("read",)), 0)
    done = {call.asked[1] for call in calls if call.asked != ("read",)}
    return sorted(done | {element for element in range(shown.bit_length()) if shown >> element & 1})


def _through(calls: list[Call], kept: set[int]) -> list[Call]:
    mask = set_of(kept)
    reads = (call for call in calls if call.asked == ("read",))
    seen = [call._replace(result=call.result & mask) for call in reads]
    return seen + [call for call in calls if call.asked != ("read",) and call.asked[1] in kept]


def _effects(one: Operation) -> Iterator[tuple[str, str, str]]:
    """(folder, "add" or "remove", identity): what it adds where, and removes from where."""
    identity = str(one.asked["identity"])
    match one.action:
        case "deliver":
            yield "INBOX", "add", identity
        case "append":
            yield one.asked["folder"], "add", identity
        case "expunge":
            yield one.asked["folder"], "remove", identity
        case "copy" | "move":
            yield one.asked["target"], "add", identity
            if one.action == "move":
                yield one.asked["folder"], "remove", identity
