"""Is a history of concurrent operations on one object the history of some sequence of them?

Wing and Gong's search ("Testing and verifying concurrent objects", 1993) with Lowe's memory of what was tried ("Testing
for linearizability", 2017), as in Porcupine: of the operations that have begun before any open one must have ended, one
is put next, until all are placed or nothing is left to try. An operation of unknown outcome never has to be placed: it
may take effect at any time after it began, or never. Objects are checked one by one (Herlihy and Wing: a history is
linearizable exactly if it is for every object), which keeps each search small.

Two things are added that change the order of the search, never its answer: what can be read now is read now, since a
read that fits changes nothing for anyone; and operations that lead to what the next read has seen are tried first.

Two more leave out what can not change the answer: an open operation is not placed where it changes nothing, as it may
as well come later or never; and where the same closed operations led to the same state, only those ways are followed
that used up no more open ones than another did. An outage leaves many open operations behind, on one object a dozen,
of which all orders would be tried otherwise.
"""

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

MOST_STEPS = 3_000_000  # some seconds
STEPS_A_CALL = 20  # of a long history, in which each call must be placed at least once
SHRINKING_STEPS = 5_000  # for each attempt to make a part smaller, of which there are many
OPEN = math.inf


class Call(NamedTuple):
    """One operation on the object. Unknown outcome: `result` is None and `ended_s` is OPEN."""

    asked: tuple[Any, ...]
    result: Any
    began_s: float
    ended_s: float
    label: str = ""

    @property
    def is_open(self) -> bool:
        return self.ended_s == OPEN

    def left_open(self) -> "Call":
        """The same, if nobody had learned what became of it."""
        return self._replace(result=None, ended_s=OPEN)


class Model(Protocol):
    """The object as it would be if one client at a time used it."""

    def initial(self) -> Hashable: ...

    def step(self, state: Hashable, asked: Any, result: Any) -> tuple[bool, Hashable]:
        """(whether this may happen in this state with this result, the state after it); result None: any."""
        ...

    def is_read(self, asked: Any) -> bool:
        """Whether it never changes the state."""
        ...

    def helps(self, asked: Any, read: Any, seen: Any) -> bool:
        """Whether a read that has seen this may need that `asked` came before it. A hint: True is never wrong."""
        ...


class Verdict(NamedTuple):
    """`linearizable`: None if that could not be decided in so many steps."""

    linearizable: bool | None
    steps: int


def check(model: Model, calls: Iterable[Call], most_steps: int | None = None) -> Verdict:
    """Searches for an order of the calls that the model allows and that time does not contradict.

    most_steps: when it gives up; a number that grows with the history, if not said.
    """
    telling = [call for call in calls if not (call.is_open and model.is_read(call.asked))]
    telling.sort(key=lambda call: call.began_s)
    return _Search(model, telling, most_steps or max(MOST_STEPS, STEPS_A_CALL * len(telling))).run()


@dataclass
class _Search:
    """`_next[i]` is the call that began after call i and is not placed; -1 is both ends of that list. Sets are bits."""

    model: Model
    calls: Sequence[Call]
    most_steps: int
    _steps: int = 0
    _placed: int = 0  # a bit for each call
    _tried: dict[tuple[int, Hashable], list[int]] = field(default_factory=dict)  # with which open calls, each minimal

    def run(self) -> Verdict:
        count = len(self.calls)
        self._open = sum(1 << index for index, call in enumerate(self.calls) if call.is_open)
        self._next = [*range(1, count), -1, 0 if count else -1]
        self._before = [-1, *range(count - 1), count - 1] if count else [-1]
        waiting = sum(1 for call in self.calls if not call.is_open)
        state = self.model.initial()
        path: list[tuple[int, Hashable, list[int]]] = []  # what was placed, the state before it, what else to try there
        options = self._options(state)
        while waiting:
            placed = self._place_one(options, state)
            if placed is not None:
                path.append((placed[0], state, options))
                waiting -= not self.calls[placed[0]].is_open
                state = placed[1]
                options = self._options(state)
            elif not path:
                return Verdict(False, self._steps)
            else:
                index, state, options = path.pop()
                waiting += not self.calls[index].is_open
                self._take_back(index)
            if self._steps > self.most_steps:
                return Verdict(None, self._steps)
        return Verdict(True, self._steps)

    def _place_one(self, options: list[int], state: Hashable) -> tuple[int, Hashable] | None:
        """Places the first option that fits and leads somewhere new; gives it and the state after it."""
        while options:
            index = options.pop()
            call = self.calls[index]
            self._steps += 1
            fits, after = self.model.step(state, call.asked, call.result)
            if fits and not (call.is_open and after == state) and self._is_new(self._placed | 1 << index, after):
                self._placed |= 1 << index
                before, following = self._before[index], self._next[index]
                self._next[before], self._before[following] = following, before
                return index, after
        return None

    def _is_new(self, placed: int, state: Hashable) -> bool:
        """Whether nobody came here yet with as many calls, or fewer, still to be placed; remembers who did."""
        used = placed & self._open
        ways = self._tried.setdefault((placed & ~self._open, state), [])
        if any(way & ~used == 0 for way in ways):
            return False
        ways[:] = [way for way in ways if used & ~way]
        ways.append(used)
        return True

    def _take_back(self, index: int) -> None:
        self._placed &= ~(1 << index)
        self._next[self._before[index]] = self._before[self._next[index]] = index

    def _options(self, state: Hashable) -> list[int]:
        """What may come next, the best last: of calls that began before any that is not placed ended."""
        found: list[int] = []
        first_end_s, first = OPEN, -1
        index = self._next[-1]
        while index != -1 and self.calls[index].began_s <= first_end_s:
            call = self.calls[index]
            if self.model.is_read(call.asked):
                fits, _ = self.model.step(state, call.asked, call.result)
                if fits:
                    return [index]
            found.append(index)
            if call.ended_s < first_end_s:
                first_end_s, first = call.ended_s, index
            index = self._next[index]
        wanted = self.calls[first] if first != -1 and self.model.is_read(self.calls[first].asked) else None
        found.sort(key=lambda i: self._rank(i, wanted), reverse=True)
        return found

    def _rank(self, index: int, wanted: Call | None) -> tuple[bool, float]:
        call = self.calls[index]
        helps = wanted is None or self.model.helps(call.asked, wanted.asked, wanted.result)
        return not helps, call.ended_s


def smallest_part(model: Model, calls: Iterable[Call], most_steps: int = SHRINKING_STEPS) -> list[Call]:
    """Of a history that is not linearizable: as few calls as show it, in the order in which they began.

    First the shortest beginning of the history that shows it, then, one call after another, what it can do without: a
    read that is left out, a write that is left open. The calls that stay can not be explained wherever one puts the
    others. Nothing is taken away where the search would not be decided.
    """
    part = shortest_beginning(model, calls, most_steps)
    for call in sorted(part, key=lambda call: call.began_s, reverse=True):
        if call.is_open:
            continue
        rest = [other for other in part if other is not call]
        tried = rest if model.is_read(call.asked) else [*rest, call.left_open()]
        if check(model, tried, most_steps).linearizable is False:
            part = tried
    return sorted((call for call in part if not call.is_open), key=lambda call: call.began_s)


def shortest_beginning(model: Model, calls: Iterable[Call], most_steps: int = SHRINKING_STEPS) -> list[Call]:
    """Up to the first moment at which the history is seen not to be linearizable; what ends later is left open.

    What is linearizable is so up to every moment, so that moment can be found by halving.
    """
    calls = sorted(calls, key=lambda call: call.began_s)
    ends_s = sorted({call.ended_s for call in calls if not call.is_open}) or [0.0]
    low, high = 0, len(ends_s) - 1
    while low < high:
        middle = (low + high) // 2
        if check(model, _until(calls, ends_s[middle]), most_steps).linearizable is False:
            high = middle
        else:
            low = middle + 1
    return [call for call in _until(calls, ends_s[low]) if not (call.is_open and model.is_read(call.asked))]


def _until(calls: list[Call], moment_s: float) -> list[Call]:
    begun = (call for call in calls if call.began_s <= moment_s)
    return [call if call.ended_s <= moment_s else call.left_open() for call in begun]
