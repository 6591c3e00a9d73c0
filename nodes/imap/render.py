"""Response terminals (RFC 3501 9): strings, flags, dates. Pure; what is asked for again and again is kept rendered."""

import re
import time

from nodes.imap import utf7
from nodes.imap.cursor import MONTHS

_PLAIN = re.compile(rb"[\x20\x21\x23-\x5b\x5d-\x7e]*")
_QUOTABLE = re.compile(rb"[\x20-\x7e]*")
_SPECIAL = re.compile(rb'(["\\])')
_QUOTED_LIMIT = 1000  # longer strings go as literals, for the sake of clients that read lines
_FLAGS_KEPT = 4096

CRLF = b"\r\n"


def string(value: bytes) -> bytes:
    """A quoted string where the grammar lets it be one, else a literal. NUL never leaves (CHAR8)."""
    if len(value) <= _QUOTED_LIMIT:
        if _PLAIN.fullmatch(value):
            return b'"' + value + b'"'
        if _QUOTABLE.fullmatch(value):
            return b'"' + _SPECIAL.sub(rb"\\\1", value) + b'"'
    return literal(value.replace(b"\x00", b""))


def nstring(value: bytes | None) -> bytes:
    if value is None:
        return b"NIL"
    if len(value) <= _QUOTED_LIMIT and _PLAIN.fullmatch(value):  # as in `string`, for what nearly all are
        return b'"' + value + b'"'
    return string(value)


def literal(value: bytes) -> bytes:
    return b"{%d}\r\n%b" % (len(value), value)


def mailbox(name: str, utf8: bool = False) -> bytes:
    """A mailbox name, always quoted; in UTF-8 where the client has enabled that (RFC 9051 5.1, RFC 9755 3)."""
    return b'"' + _SPECIAL.sub(rb"\\\1", name.encode() if utf8 else utf7.encode(name)) + b'"'


_flags_text: dict[tuple[str, ...], bytes] = {}


def flags(values: tuple[str, ...], recent: bool = False) -> bytes:
    """A flag list in parentheses."""
    if recent:
        values = (*values, "\\Recent")
    text = _flags_text.get(values)
    if text is None:
        if len(_flags_text) >= _FLAGS_KEPT:
            _flags_text.clear()
        text = _flags_text[values] = ("(" + " ".join(values) + ")").encode("ascii", "replace")
    return text


def date_time(at_ms: int) -> bytes:
    """date-time in UTC, in quotes."""
    t = time.gmtime(at_ms // 1000)
    return b'"%02d-%b-%04d %02d:%02d:%02d +0000"' % (
        t.tm_mday,
        _MONTHS[t.tm_mon],
        t.tm_year,
        t.tm_hour,
        t.tm_min,
        t.tm_sec,
    )


_MONTHS = (b"", *(month.encode() for month in MONTHS))
