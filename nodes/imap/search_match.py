"""Deciding whether a message matches a SEARCH program: the program compiled to closures over one candidate at a time.

Text is compared decoded and case-folded (RFC 3501 6.4.4). A message is read only when a key needs it and the keys in
front of that have not decided.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from email.utils import parsedate_tz
from functools import lru_cache
from typing import Literal, NamedTuple, assert_never

from actors.mailbox import SYSTEM_FLAGS, Message
from nodes.imap.fetch import MessageText
from nodes.imap.object_ids import email_id, thread_id
from nodes.imap.search import (
    All,
    And,
    Dated,
    HasFlag,
    HasId,
    HeaderHas,
    Key,
    ModSeq,
    Not,
    Numbers,
    Or,
    Recent,
    Saved,
    Size,
    TextHas,
    Within,
)
from nodes.mime import header, searched
from nodes.mime.header import Field
from nodes.reading import Reading


class Candidate:
    """One message that a program looks at. `load` gives its bytes, none where they are not kept.

    What was made of them is kept: a program may ask a thousand times.
    """

    __slots__ = ("_fields", "_headers", "_load", "_more", "_named", "_parts", "_text", "number", "recent", "row")

    def __init__(self, number: int, row: Message, recent: bool, load: Callable[[Message], bytes]) -> None:
        self.number = number
        self.row = row
        self.recent = recent
        self._load = load
        self._text: MessageText | None = None
        self._parts: list[str] = []
        self._more: Iterator[str] | None = None
        self._fields: dict[bytes, list[Field]] | None = None
        self._named: dict[bytes, list[str]] = {}
        self._headers: list[str] | None = None

    def read(self) -> None:
        """Loads the message now, while what it is read from is there."""
        self._text = self._text or MessageText(self._load(self.row))

    @property
    def text(self) -> MessageText:
        if self._text is None:
            self._text = MessageText(self._load(self.row))
        return self._text

    def field_texts(self, name: bytes) -> list[str]:
        """The values of the fields of that name, without case."""
        data = self.text.data
        if self._fields is None:
            self._fields = {}
            for field in header.fields(data, 0, header.header_end(data, 0, len(data))):
                self._fields.setdefault(field.name, []).append(field)
        if name not in self._named:
            self._named[name] = [searched.field_text(data, one) for one in self._fields.get(name, ())]
        return self._named[name]

    def header_texts(self) -> list[str]:
        """The headers of the message and of its parts, without case."""
        if self._headers is None:
            self._headers = list(searched.header_texts(self.text.data, self.text.root))
        return self._headers

    def body_texts(self) -> Iterator[str]:
        """The decoded texts without case: each made once, and only when it is asked for."""
        yield from self._parts
        if self._more is None:
            self._more = searched.body_texts(self.text.data, self.text.root)
        for text in self._more:
            self._parts.append(text)
            yield text


def loading(reading: Reading) -> Callable[[Message], bytes]:
    """What `Candidate` loads by: the message as it is served, nothing where its bytes are not kept."""

    def load(row: Message) -> bytes:
        data = reading.body(row.digest)
        return b"" if data is None else row.trace + data

    return load


class Narrowed(NamedTuple):
    """What an index says of one key: of the messages up to `last_uid`, none but `uids` can match."""

    last_uid: int
    uids: AbstractSet[int]


@dataclass(frozen=True, slots=True)
class Scope:
    """What a program is about: the session's messages by number, when, `$`, and what an index knows of its keys."""

    uids: Sequence[int]
    now_ms: int = 0
    saved: AbstractSet[int] = frozenset()
    narrowed: Mapping[Key, Narrowed] = field(default_factory=dict)


Predicate = Callable[[Candidate], bool]


def compile_key(key: Key, scope: Scope) -> Predicate:
    """The program as a predicate."""
    match key:
        case All():
            return lambda _: True
        case Recent():
            return lambda candidate: candidate.recent
        case HasFlag(flag=flag):
            return _has_flag(flag)
        case Numbers():
            return _numbers(key, scope)
        case Size(relation=relation, size_bytes=size):
            if relation == "larger":
                return lambda candidate: candidate.row.size > size
            return lambda candidate: candidate.row.size < size
        case Dated(relation=relation, day=day, sent=sent):
            return _dated(relation, day, _sent_day if sent else _internal_day)
        case Saved(relation=relation, day=day):
            return _dated(relation, day, _saved_day)
        case HasId(id=id_, of_thread=True):
            return lambda candidate: thread_id(candidate.text.data) == id_
        case HasId(id=id_):
            return lambda candidate: email_id(candidate.row.id) == id_
        case Within(relation=within, interval_s=interval_s):
            moment_ms = scope.now_ms - interval_s * 1000
            if within == "older":
                return lambda candidate: candidate.row.internaldate_ms <= moment_ms
            return lambda candidate: candidate.row.internaldate_ms >= moment_ms
        case ModSeq(least=least):
            return lambda candidate: candidate.row.modseq >= least
        case HeaderHas() | TextHas():
            return _text_key(key, scope.narrowed.get(key))
        case Not(key=inner):
            negated = compile_key(inner, scope)
            return lambda candidate: not negated(candidate)
        case Or(first=one, second=other):
            first, second = compile_key(one, scope), compile_key(other, scope)
            return lambda candidate: first(candidate) or second(candidate)
        case And(keys=keys):
            predicates = [compile_key(one, scope) for one in keys]
            return lambda candidate: all(predicate(candidate) for predicate in predicates)
        case _:
            assert_never(key)


def bound(key: Key, scope: Scope) -> AbstractSet[int] | None:
    """UIDs beyond which nothing can match, as far as an index tells; None where any may."""
    match key:
        case HeaderHas() | TextHas():
            found = scope.narrowed.get(key)
            if found is None:
                return None
            return found.uids | set(scope.uids[bisect_right(scope.uids, found.last_uid) :])
        case And(keys=keys):
            sets = [one for one in (bound(each, scope) for each in keys) if one is not None]
            return frozenset.intersection(*map(frozenset, sets)) if sets else None
        case Or(first=first, second=second):
            one, other = bound(first, scope), bound(second, scope)
            return None if one is None or other is None else one | other
        case _:
            return None


def _has_flag(flag: str) -> Predicate:
    system = SYSTEM_FLAGS.get(flag)
    if system is not None:
        return lambda candidate: system in candidate.row.flags
    return lambda candidate: any(flag == kept.lower() for kept in candidate.row.flags)


def _numbers(key: Numbers, scope: Scope) -> Predicate:
    if key.numbers.saved:
        saved = scope.saved
        return lambda candidate: candidate.row.uid in saved
    uids = scope.uids
    spans = key.numbers.spans((uids[-1] if uids else 0) if key.by_uid else len(uids))
    firsts = [first for first, _ in spans]
    lasts = [last for _, last in spans]

    def within(candidate: Candidate) -> bool:
        number = candidate.row.uid if key.by_uid else candidate.number
        at = bisect_right(firsts, number) - 1
        return at >= 0 and number <= lasts[at]

    return within


def _dated(
    relation: Literal["before", "on", "since"], day: date, day_of: Callable[[Candidate], date | None]
) -> Predicate:
    match relation:
        case "before":
            return lambda candidate: (found := day_of(candidate)) is not None and found < day
        case "on":
            return lambda candidate: day_of(candidate) == day
        case "since":
            return lambda candidate: (found := day_of(candidate)) is not None and found >= day
        case _:
            assert_never(relation)


@lru_cache(maxsize=4096)
def _day_of_unix(days: int) -> date:
    return datetime.fromtimestamp(days * 86400, UTC).date()


def _internal_day(candidate: Candidate) -> date | None:
    return _day_of_unix(candidate.row.internaldate_ms // 86_400_000)


def _saved_day(candidate: Candidate) -> date | None:
    saved_ms = candidate.row.saved_ms
    return _day_of_unix((candidate.row.internaldate_ms if saved_ms is None else saved_ms) // 86_400_000)


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
    except (ValueError, IndexError, TypeError, OverflowError):
        return None


def _text_key(key: HeaderHas | TextHas, narrowed: Narrowed | None) -> Predicate:
    """What the index rules out is not read; what it does not is."""
    if isinstance(key, HeaderHas):
        name, text = key.field, key.text

        def has(candidate: Candidate) -> bool:
            return any(text in value for value in candidate.field_texts(name))
    else:
        text, headers = key.text, key.headers

        def has(candidate: Candidate) -> bool:
            return _text_has(candidate, text, headers)

    if narrowed is None:
        return has
    last_uid, uids = narrowed
    return lambda candidate: (candidate.row.uid > last_uid or candidate.row.uid in uids) and has(candidate)


def _text_has(candidate: Candidate, wanted: str, headers: bool) -> bool:
    """In the decoded texts, and with `headers` in the header too, in those of the parts as well."""
    if headers and any(wanted in text for text in candidate.header_texts()):
        return True
    return any(wanted in text for text in candidate.body_texts())
