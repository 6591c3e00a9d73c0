"""What a client may ask of searching: SEARCH, SORT, THREAD, ESEARCH over several mailboxes, CANCELUPDATE.

Made by search_grammar.py, carried out by searching.py and the modules beside it.
"""

from dataclasses import dataclass
from typing import Literal

from nodes.imap.search import Key

ResultOption = Literal["MIN", "MAX", "ALL", "COUNT", "SAVE", "UPDATE", "CONTEXT"]


@dataclass(frozen=True, slots=True)
class Returned:
    """The result options of RFC 4731, RFC 5182, RFC 5267 and RFC 9394; `partial` as the client wrote its range."""

    options: frozenset[ResultOption]
    partial: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Search:
    """SEARCH (RFC 3501 6.4.4); `returned` None where there is no RETURN, so that the answer is a SEARCH response."""

    program: Key
    by_uid: bool
    returned: Returned | None = None
    tag: bytes = b""


SortBy = Literal["ARRIVAL", "CC", "DATE", "FROM", "SIZE", "SUBJECT", "TO", "DISPLAYFROM", "DISPLAYTO"]


@dataclass(frozen=True, slots=True)
class SortKey:
    """One criterion of RFC 5256 3 or RFC 5957 3."""

    by: SortBy
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class Sort:
    """SORT (RFC 5256 3), with the RETURN of RFC 5267 3."""

    keys: tuple[SortKey, ...]
    program: Key
    by_uid: bool
    returned: Returned | None = None
    tag: bytes = b""


@dataclass(frozen=True, slots=True)
class Thread:
    """THREAD (RFC 5256 3)"""

    algorithm: Literal["ORDEREDSUBJECT", "REFERENCES"]
    program: Key
    by_uid: bool


Filter = Literal[
    "selected", "selected-delayed", "inboxes", "personal", "subscribed", "subtree", "subtree-one", "mailboxes"
]


@dataclass(frozen=True, slots=True)
class Sources:
    """One filter-mailboxes (RFC 7377 2.2, RFC 5465 6): `names` for the last three kinds."""

    filter: Filter
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MultiSearch:
    """ESEARCH (RFC 7377)"""

    sources: tuple[Sources, ...]
    program: Key
    returned: Returned
    tag: bytes


@dataclass(frozen=True, slots=True)
class CancelUpdate:
    """CANCELUPDATE (RFC 5267 4.3.5)"""

    tags: tuple[bytes, ...]
