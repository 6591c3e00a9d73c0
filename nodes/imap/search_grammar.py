"""Reading a SEARCH program out of a command (RFC 3501 9, search-key), with limits on depth and number of keys.

The commands around it are read in search_command_grammar.py.
"""

from collections.abc import Callable
from typing import Literal

from nodes.imap.cursor import Cursor
from nodes.imap.errors import BadCommand, Refusal
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
    cost_of,
)
from nodes.mime.searched import folded

KEYS_LIMIT = 1000
DEPTH_LIMIT = 30

_FLAG_KEYS: dict[str, Key] = {
    **{name: HasFlag("\\" + name.lower()) for name in ("ANSWERED", "DELETED", "DRAFT", "FLAGGED", "SEEN")},
    **{"UN" + name: Not(HasFlag("\\" + name.lower())) for name in ("ANSWERED", "DELETED", "DRAFT", "FLAGGED", "SEEN")},
    "ALL": All(),
    "SAVEDATESUPPORTED": All(),
    "NEW": And((Recent(), Not(HasFlag("\\seen")))),
    "OLD": Not(Recent()),
    "RECENT": Recent(),
}
_CHARSETS = {"US-ASCII": "ascii", "ASCII": "ascii", "UTF-8": "utf-8"}


def search_program(cursor: Cursor) -> Key:
    """[CHARSET x SP] search-key *(SP search-key)"""
    if cursor.accept(b"CHARSET "):
        if not cursor.takes_charset:
            raise BadCommand("all text is UTF-8, once that is enabled")  # RFC 9755 3
        return charset_and_program(cursor)
    # Without CHARSET, 8-bit strings are taken as what they almost surely are.
    return _Reader(cursor, "utf-8").keys(0)


def charset_and_program(cursor: Cursor) -> Key:
    """search-criteria of RFC 5256: the charset, which must be there, and the keys."""
    name = cursor.astring().decode("ascii", "replace").upper()
    cursor.space()
    if name not in _CHARSETS:
        raise Refusal("this charset is not supported", "BADCHARSET (US-ASCII UTF-8)")
    return _Reader(cursor, _CHARSETS[name]).keys(0)


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
        if cursor.peek() in b"0123456789*$" and cursor.peek():
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
            return folded(self._cursor.astring().decode(self._charset))
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

    def within(self, relation: Literal["older", "younger"]) -> Key:
        interval_s = self._cursor.number()
        if interval_s == 0:
            raise BadCommand("an interval is at least a second")
        return Within(relation, interval_s)

    def modseq(self) -> Key:
        """[entry-name SP entry-type-req SP] mod-sequence-valzer (RFC 7162 7)"""
        cursor = self._cursor
        if cursor.peek() == b'"':
            cursor.string()
            cursor.space()
            if cursor.keyword() not in ("PRIV", "SHARED", "ALL"):
                raise BadCommand("expected priv, shared or all")
            cursor.space()
        return ModSeq(cursor.modseq())

    def saved(self, relation: Literal["before", "on", "since"]) -> Key:
        return Saved(relation, self._cursor.date())

    def id(self, of_thread: bool) -> Key:
        return HasId(self._cursor.atom().encode("ascii"), of_thread)

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
    "OLDER": lambda reader, _: reader.within("older"),
    "YOUNGER": lambda reader, _: reader.within("younger"),
    "MODSEQ": lambda reader, _: reader.modseq(),
    "SAVEDBEFORE": lambda reader, _: reader.saved("before"),
    "SAVEDON": lambda reader, _: reader.saved("on"),
    "SAVEDSINCE": lambda reader, _: reader.saved("since"),
    "EMAILID": lambda reader, _: reader.id(False),
    "THREADID": lambda reader, _: reader.id(True),
    "UID": lambda reader, _: reader.uids(),
    "NOT": lambda reader, depth: reader.negated(depth),
    "OR": lambda reader, depth: reader.either(depth),
}
