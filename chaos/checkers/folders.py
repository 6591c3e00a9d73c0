"""Each folder as one set of messages: reads of all of it behind a barrier fit one order of what adds and removes.

What is true of every message by itself need not be true of them together: of two reads, one may have seen the first
message without the second and the other the second without the first.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from chaos.checkers.linearizability import SHRINKING_STEPS, Call, check, shortest_beginning
from chaos.checkers.mailbox import WRITES
from chaos.checkers.models import Set
from chaos.checkers.objects import Judgement, Object, call_of, judge_objects
from chaos.checkers.sightings import FolderSighting
from chaos.history import Operation


def check_folders(operations: Iterable[Operation], sightings: Iterable[FolderSighting]) -> Judgement:
    """Each folder as one set of messages: reads of all of it behind a barrier, and what adds to it and removes."""
    calls: dict[tuple[str, str], list[Call]] = defaultdict(list)
    for one in operations:
        if one.action in WRITES and one.may_have_happened:
            for account in one.subject.split():
                for folder, asked in _set_operations(one):
                    calls[account, folder].append(call_of(one, asked, True))
    for seen in sightings:
        if seen.current and seen.whole:
            held = frozenset(shown.identity for shown in seen.messages)
            label = f"{seen.began_s:.3f}-{seen.ended_s:.3f} s {seen.source} shows {len(held)} messages"
            calls[seen.account, seen.folder].append(Call(("read",), held, seen.began_s, seen.ended_s, label))
    objects = [
        Object(f"{folder} of {account}", Set(), _seen_at_all(found), fewest_elements)
        for (account, folder), found in calls.items()
    ]
    return judge_objects("linearizability of folders", objects, lambda *_: "as a set")


def fewest_elements(calls: list[Call]) -> list[Call]:
    """A history of a set that is not linearizable, seen through as few of its elements as show it.

    Leaving out all that is about one element, in reads too, leaves a linearizable history linearizable.
    """
    for element in sorted({call.asked[1] for call in calls if call.asked[0] != "read"}):
        alone = _through(calls, {element})
        if check(Set(), alone, SHRINKING_STEPS).linearizable is False:
            return alone
    calls = shortest_beginning(Set(), calls)
    kept = {call.asked[1] for call in calls if call.asked[0] != "read"}
    kept |= {element for call in calls if call.asked[0] == "read" and not call.is_open for element in call.result}
    step = max(1, len(kept) // 2)
    while step:
        for at in range(0, len(kept), step):
            fewer = kept - set(sorted(kept)[at : at + step])
            if check(Set(), _through(calls, fewer), SHRINKING_STEPS).linearizable is False:
                kept = fewer
                break
        else:
            step //= 2
    return _through(calls, kept)


def _through(calls: list[Call], kept: set[str]) -> list[Call]:
    reads = (call for call in calls if call.asked[0] == "read" and not call.is_open)
    seen = [call._replace(result=call.result & kept) for call in reads]
    return seen + [call for call in calls if call.asked[0] != "read" and call.asked[1] in kept]


def _set_operations(one: Operation) -> Iterator[tuple[str, tuple[str, str]]]:
    """What it adds to which folder, and removes from which."""
    identity = str(one.asked["identity"])
    match one.action:
        case "deliver":
            yield "INBOX", ("add", identity)
        case "append":
            yield one.asked["folder"], ("add", identity)
        case "expunge":
            yield one.asked["folder"], ("remove", identity)
        case "copy" | "move":
            yield one.asked["target"], ("add", identity)
            if one.action == "move":
                yield one.asked["folder"], ("remove", identity)


def _seen_at_all(calls: list[Call]) -> list[Call]:
    """Without open adds of what no read ever shows: they may as well have come last, or never."""
    shown = {identity for call in calls if call.asked == ("read",) for identity in call.result}
    return [call for call in calls if not (call.is_open and call.asked[0] == "add" and call.asked[1] not in shown)]
