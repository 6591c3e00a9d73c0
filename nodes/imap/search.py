"""SEARCH programs (RFC 3501 6.4.4): the keys as data, and what a program needs to know of a message.

Reading the keys out of a command is search_grammar.py's; deciding whether a message matches is search_match.py's.
"""

from dataclasses import dataclass
from datetime import date
from typing import Literal, NamedTuple

from nodes.imap.sequence import SequenceSet


class All(NamedTuple):
    """Every message."""


class Recent(NamedTuple):
    """\\Recent is set."""


@dataclass(frozen=True, slots=True)
class HasFlag:
    """The flag or keyword, in lower case, is set."""

    flag: str


@dataclass(frozen=True, slots=True)
class Numbers:
    """Message sequence numbers, or with `by_uid` UIDs; `$` (RFC 5182) means the same by either."""

    numbers: SequenceSet
    by_uid: bool


@dataclass(frozen=True, slots=True)
class Size:
    """LARGER and SMALLER: strictly."""

    relation: Literal["larger", "smaller"]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Dated:
    """BEFORE, ON, SINCE and with `sent` their SENT forms; the time of day is disregarded."""

    relation: Literal["before", "on", "since"]
    day: date
    sent: bool


@dataclass(frozen=True, slots=True)
class Saved:
    """SAVEDBEFORE, SAVEDON, SAVEDSINCE (RFC 8514 4.3); where the date was not kept, by the internal date."""

    relation: Literal["before", "on", "since"]
    day: date


@dataclass(frozen=True, slots=True)
class HasId:
    """EMAILID and THREADID (RFC 8474 5.4): a message's own, or that of its thread."""

    id: bytes
    of_thread: bool


@dataclass(frozen=True, slots=True)
class Within:
    """OLDER and YOUNGER (RFC 5032): by the internal date, in seconds before now."""

    relation: Literal["older", "younger"]
    interval_s: int


@dataclass(frozen=True, slots=True)
class ModSeq:
    """MODSEQ (RFC 7162 3.1.5): changed at or after; the name of an entry is read and all entries are meant."""

    least: int


@dataclass(frozen=True, slots=True)
class HeaderHas:
    """The field (lower case) is there and its text holds `text` (case-folded)."""

    field: bytes
    text: str


@dataclass(frozen=True, slots=True)
class TextHas:
    """BODY, or with `headers` TEXT: the message's text holds `text` (case-folded)."""

    text: str
    headers: bool


@dataclass(frozen=True, slots=True)
class Not:
    key: "Key"


@dataclass(frozen=True, slots=True)
class Or:
    first: "Key"
    second: "Key"


@dataclass(frozen=True, slots=True)
class And:
    keys: tuple["Key", ...]


Key = (
    All
    | Recent
    | HasFlag
    | Numbers
    | Size
    | Dated
    | Saved
    | HasId
    | Within
    | ModSeq
    | HeaderHas
    | TextHas
    | Not
    | Or
    | And
)


ROW, HEADER, BODY = 0, 1, 2


def cost_of(key: Key) -> int:
    """What must be read to decide: ROW the message's row, HEADER its header, BODY all of it."""
    match key:
        case HeaderHas() | Dated(sent=True) | HasId(of_thread=True):
            return HEADER
        case TextHas():
            return BODY
        case Not(key=inner):
            return cost_of(inner)
        case Or(first=first, second=second):
            return max(cost_of(first), cost_of(second))
        case And(keys=keys):
            return max((cost_of(key) for key in keys), default=ROW)
        case _:
            return ROW


def parts_of(key: Key) -> tuple[Key, ...]:
    """The keys that a key is made of, itself first."""
    match key:
        case Not(key=inner):
            return (key, *parts_of(inner))
        case Or(first=first, second=second):
            return (key, *parts_of(first), *parts_of(second))
        case And(keys=keys):
            return (key, *(part for one in keys for part in parts_of(one)))
        case _:
            return (key,)
