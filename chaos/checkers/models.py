"""What registers, compare-and-set registers and sets do when one client at a time uses them.

Operations are tuples. A result of None stands for one that nobody learned, and fits always.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any

Step = tuple[bool, Hashable]


@dataclass(frozen=True)
class Register:
    """("write", v); ("read",) gives v; ("is", v) gives whether it holds v; ("cas", old, new) gives whether it was old.

    A compare-and-set whose result is False tells that the register held something else.
    """

    value: Hashable = None

    def initial(self) -> Hashable:
        return self.value

    def step(self, state: Hashable, asked: Any, result: Any) -> Step:
        match asked:
            case ("read",):
                return result == (state,) or result is None, state
            case ("is", value):
                return result is None or result == (state == value), state
            case ("write", value):
                return True, value
            case ("cas", old, new):
                done = state == old
                return result is None or result == done, new if done else state
            case _:
                raise ValueError(f"not an operation of a register: {asked!r}")

    def is_read(self, asked: Any) -> bool:
        return bool(asked[0] in ("read", "is"))

    def helps(self, asked: Any, read: Any, seen: Any) -> bool:
        if asked[0] not in ("write", "cas"):
            return False
        value = asked[-1]
        return bool(seen == (value,) if read[0] == "read" else seen == (value == read[1]))


@dataclass(frozen=True)
class Set:
    """Elements are numbers from 0 on, a set is a number whose bits they are: quick to compare, small to remember.

    ("add", x); ("remove", x); ("read",) gives the whole set; ("has", x) gives whether x is in it.
    """

    def initial(self) -> Hashable:
        return 0

    def step(self, state: Any, asked: Any, result: Any) -> Step:
        match asked:
            case ("read",):
                return result is None or result == state, state
            case ("has", element):
                return result is None or result == bool(state >> element & 1), state
            case ("add", element):
                return True, state | 1 << element
            case ("remove", element):
                return True, state & ~(1 << element)
            case _:
                raise ValueError(f"not an operation of a set: {asked!r}")

    def is_read(self, asked: Any) -> bool:
        return bool(asked[0] in ("read", "has"))

    def helps(self, asked: Any, read: Any, seen: Any) -> bool:
        if asked[0] not in ("add", "remove"):
            return False
        present = seen >> asked[1] & 1 if read[0] == "read" else seen and asked[1] == read[1]
        return bool(present) is bool(asked[0] == "add")


def set_of(elements: Iterable[int]) -> int:
    """The number that stands for this set."""
    return sum(1 << element for element in set(elements))
