"""Judges of a finished run. Each takes what was promised and what is there, and gives the violations; none acts."""

from typing import NamedTuple


class Violation(NamedTuple):
    """One broken promise: the checker that found it, where, and what it is."""

    checker: str
    node: str
    text: str


class Check(NamedTuple):
    """One promise, and what broke it. `undecided`: what could not be judged, which is not a pass."""

    promise: str
    violations: list[Violation]
    undecided: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.violations and not self.undecided
