"""Judges of a finished run. Each takes what was promised and what is there, and gives the violations; none acts."""

from typing import NamedTuple


class Violation(NamedTuple):
    """One broken promise: the checker that found it, where, and what it is."""

    checker: str
    node: str
    text: str
