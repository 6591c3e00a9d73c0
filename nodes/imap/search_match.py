"""Deciding whether a message matches a SEARCH program: the program compiled to closures over one candidate at a time.

Text is compared decoded and case-folded (RFC 3501 6.4.4). A message is read only when a key needs it and the keys in
front of that have not decided.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from email.utils import parsedate_tz
from functools import lru_cache
from typing import assert_never

from actors.mailbox import SYSTEM_FLAGS, Message
from nodes.imap.fetch import MessageText
from nodes.imap.search import (
    All,
    And,
    Dated,
    HasFlag,
    HeaderHas,
    Key,
    Not,
    Numbers,
    Or,
    Recent,
    Size,
    TextHas,
)
from nodes.mime import header
from nodes.mime.text import decode_header, leaf_parts, part_text


class Candidate:
    """One message that a program looks at. `load` gives its bytes, none where they are not kept."""

    __slots__ = ("_folded", "_load", "_text", "number", "recent", "row")

    def __init__(self, number: int, row: Message, recent: bool, load: Callable[[Message], bytes]) -> None:
        self.number = number
        self.row = row
        self.recent = recent
        self._load = load
        self._text: MessageText | None = None
        self._folded: list[str] | None = None

    @property
    def text(self) -> MessageText:
        if self._text is None:
            self._text = MessageText(self._load(self.row))
        return self._text

    @property
    def folded_parts(self) -> list[str]:
        """The decoded text parts without case: made once, however many keys ask for it."""
        if self._folded is None:
            self._folded = list(_folded_parts(self.text))
        return self._folded


Predicate = Callable[[Candidate], bool]


def compile_key(key: Key, uids: Sequence[int]) -> Predicate:
    """The program as a predicate; `uids` are those of the session's messages, by sequence number."""
    match key:
        case All():
            return lambda _: True
        case Recent():
            return lambda candidate: candidate.recent
        case HasFlag(flag=flag):
            return _has_flag(flag)
        case Numbers():
            return _numbers(key, uids)
        case Size(relation=relation, size_bytes=size):
            if relation == "larger":
                return lambda candidate: candidate.row.size > size
            return lambda candidate: candidate.row.size < size
        case Dated():
            return _dated(key)
        case HeaderHas(field=field, text=text):
            return lambda candidate: _header_has(candidate.text, field, text)
        case TextHas(text=text, headers=headers):
            return lambda candidate: _text_has(candidate, text, headers)
        case Not(key=inner):
            negated = compile_key(inner, uids)
            return lambda candidate: not negated(candidate)
        case Or(first=one, second=other):
            first, second = compile_key(one, uids), compile_key(other, uids)
            return lambda candidate: first(candidate) or second(candidate)
        case And(keys=keys):
            predicates = [compile_key(one, uids) for one in keys]
            return lambda candidate: all(predicate(candidate) for predicate in predicates)
        case _:
            assert_never(key)


def _has_flag(flag: str) -> Predicate:
    system = SYSTEM_FLAGS.get(flag)
    if system is not None:
        return lambda candidate: system in candidate.row.flags
    return lambda candidate: any(flag == kept.lower() for kept in candidate.row.flags)


def _numbers(key: Numbers, uids: Sequence[int]) -> Predicate:
    spans = key.numbers.spans((uids[-1] if uids else 0) if key.by_uid else len(uids))
    firsts = [first for first, _ in spans]
    lasts = [last for _, last in spans]

    def within(candidate: Candidate) -> bool:
        number = candidate.row.uid if key.by_uid else candidate.number
        at = bisect_right(firsts, number) - 1
        return at >= 0 and number <= lasts[at]

    return within


def _dated(key: Dated) -> Predicate:
    day_of = _sent_day if key.sent else _internal_day
    day = key.day
    match key.relation:
        case "before":
            return lambda candidate: (found := day_of(candidate)) is not None and found < day
        case "on":
            return lambda candidate: day_of(candidate) == day
        case "since":
            return lambda candidate: (found := day_of(candidate)) is not None and found >= day
        case _:
            assert_never(key.relation)


@lru_cache(maxsize=4096)
def _day_of_unix(days: int) -> date:
    return datetime.fromtimestamp(days * 86400, UTC).date()


def _internal_day(candidate: Candidate) -> date | None:
    return _day_of_unix(candidate.row.internaldate_ms // 86_400_000)


def _sent_day(candidate: Candidate) -> date | None:
    """The day that the Date field names, in its own time zone (RFC 3501 6.4.4, SENTON)."""
    data = candidate.text.data
    end = header.header_end(data, 0, len(data))
    value = header.first(data, header.fields(data, 0, end), b"date")
    if value is None:
        return None
    try:
        parsed = parsedate_tz(value[:200].decode("latin-1"))
        return date(*parsed[:3]) if parsed else None
    except (ValueError, IndexError, TypeError):
        return None


def _header_has(text: MessageText, field: bytes, wanted: str) -> bool:
    data = text.data
    end = header.header_end(data, 0, len(data))
    return any(
        wanted in decode_header(header.value_of(data, found)).casefold()
        for found in header.fields(data, 0, end)
        if found.name == field
    )


def _text_has(candidate: Candidate, wanted: str, headers: bool) -> bool:
    """In the decoded text parts, and with `headers` in the message's own header too."""
    if headers:
        data = candidate.text.data
        block = data[: header.header_end(data, 0, len(data))]
        if wanted in decode_header(header.unfold(block)).casefold():
            return True
    return any(wanted in part for part in candidate.folded_parts)


def _folded_parts(text: MessageText) -> Iterator[str]:
    data = text.data
    for part in leaf_parts(text.root):
        found = part_text(data, part, header.first(data, part.fields, b"content-transfer-encoding"))
        if found is not None:
            yield found.casefold()
