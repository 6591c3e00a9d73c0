"""Reading a SEARCH program out of a command (RFC 3501 9, search-key), with limits on depth and number of keys."""

from collections.abc import Callable
from typing import Literal

from nodes.imap import commands
from nodes.imap.commands import Command
from nodes.imap.cursor import Cursor, Readers
from nodes.imap.errors import BadCommand, Refusal
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
    cost_of,
)

KEYS_LIMIT = 1000
DEPTH_LIMIT = 30

_FLAG_KEYS: dict[str, Key] = {
    **{name: HasFlag("\\" + name.lower()) for name in ("ANSWERED", "DELETED", "DRAFT", "FLAGGED", "SEEN")},
    **{"UN" + name: Not(HasFlag("\\" + name.lower())) for name in ("ANSWERED", "DELETED", "DRAFT", "FLAGGED", "SEEN")},
    "ALL": All(),
    "NEW": And((Recent(), Not(HasFlag("\\seen")))),
    "OLD": Not(Recent()),
    "RECENT": Recent(),
}
_CHARSETS = {"US-ASCII": "ascii", "ASCII": "ascii", "UTF-8": "utf-8"}


def search_program(cursor: Cursor) -> Key:
    """[CHARSET x SP] search-key *(SP search-key)"""
    charset = "utf-8"  # without CHARSET, 8-bit strings are taken as what they almost surely are
    if cursor.accept(b"CHARSET "):
        name = cursor.astring().decode("ascii", "replace").upper()
        cursor.space()
        if name not in _CHARSETS:
            raise Refusal("this charset is not supported", "BADCHARSET (US-ASCII UTF-8)")
        charset = _CHARSETS[name]
    return _Reader(cursor, charset).keys(0)


class _Reader:
    def __init__(self, cursor: Cursor, charset: str) -> None:
        self._cursor = cursor
        self._charset = charset
        self._left = KEYS_LIMIT

    def keys(self, depth: int) -> Key:
        keys = [self._key(depth)]
        while self._cursor.peek() == b" ":
            self._cursor.space()
            if self._cursor.peek() == b"":
                break
            keys.append(self._key(depth))
        # Cheap keys first: a message that they exclude is never read.
        return keys[0] if len(keys) == 1 else And(tuple(sorted(keys, key=cost_of)))

    def _key(self, depth: int) -> Key:
        self._left -= 1
        if self._left < 0 or depth > DEPTH_LIMIT:
            raise Refusal("too many search keys", "LIMIT")
        cursor = self._cursor
        if cursor.accept(b"("):
            inner = self.keys(depth + 1)
            cursor.expect(b")")
            return inner
        if cursor.peek() in b"0123456789*" and cursor.peek():
            return Numbers(cursor.sequence_set(), by_uid=False)
        name = cursor.keyword()
        if name in _FLAG_KEYS:
            return _FLAG_KEYS[name]
        if name not in _KEYS:
            raise BadCommand(f"unknown search key {name[:40]}")
        cursor.space()
        return _KEYS[name](self, depth)

    def text(self) -> str:
        """The string to look for, folded so that case does not count."""
        try:
            return self._cursor.astring().decode(self._charset).casefold()
        except UnicodeDecodeError:
            raise BadCommand(f"search string is not {self._charset.upper()}") from None

    def flag(self) -> str:
        return self._cursor.flag().lower()

    def any_header(self) -> Key:
        field = self._cursor.astring().lower()
        self._cursor.space()
        return HeaderHas(field, self.text())

    def uids(self) -> Key:
        return Numbers(self._cursor.sequence_set(), by_uid=True)

    def size(self, relation: Literal["larger", "smaller"]) -> Key:
        return Size(relation, self._cursor.number())

    def dated(self, relation: Literal["before", "on", "since"], sent: bool) -> Key:
        return Dated(relation, self._cursor.date(), sent)

    def negated(self, depth: int) -> Key:
        return Not(self._key(depth + 1))

    def either(self, depth: int) -> Key:
        first = self._key(depth + 1)
        self._cursor.space()
        return Or(first, self._key(depth + 1))


def _field(name: bytes) -> Callable[[_Reader, int], Key]:
    return lambda reader, _depth: HeaderHas(name, reader.text())


_KEYS: dict[str, Callable[[_Reader, int], Key]] = {
    "BCC": _field(b"bcc"),
    "CC": _field(b"cc"),
    "FROM": _field(b"from"),
    "SUBJECT": _field(b"subject"),
    "TO": _field(b"to"),
    "HEADER": lambda reader, _: reader.any_header(),
    "BODY": lambda reader, _: TextHas(reader.text(), headers=False),
    "TEXT": lambda reader, _: TextHas(reader.text(), headers=True),
    "KEYWORD": lambda reader, _: HasFlag(reader.flag()),
    "UNKEYWORD": lambda reader, _: Not(HasFlag(reader.flag())),
    "LARGER": lambda reader, _: reader.size("larger"),
    "SMALLER": lambda reader, _: reader.size("smaller"),
    "BEFORE": lambda reader, _: reader.dated("before", False),
    "ON": lambda reader, _: reader.dated("on", False),
    "SINCE": lambda reader, _: reader.dated("since", False),
    "SENTBEFORE": lambda reader, _: reader.dated("before", True),
    "SENTON": lambda reader, _: reader.dated("on", True),
    "SENTSINCE": lambda reader, _: reader.dated("since", True),
    "UID": lambda reader, _: reader.uids(),
    "NOT": lambda reader, depth: reader.negated(depth),
    "OR": lambda reader, depth: reader.either(depth),
}


def _search(by_uid: bool) -> Callable[[Cursor], Command]:
    def read(cursor: Cursor) -> Command:
        cursor.space()
        return commands.Search(search_program(cursor), by_uid)

    return read


COMMANDS: Readers = {"SEARCH": _search(False)}
UID_COMMANDS: Readers = {"SEARCH": _search(True)}
