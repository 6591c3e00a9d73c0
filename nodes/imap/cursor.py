"""Reading the terminals of RFC 3501 9 out of one framed command.

A cursor moves over a Frame's text; each method takes one thing or raises BadCommand. It never backtracks over more than
one token, so a command costs time in proportion to its length.
"""

import re
import unicodedata
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone

from nodes.imap import utf7
from nodes.imap.commands import Command
from nodes.imap.errors import BadCommand, Refusal
from nodes.imap.framing import Frame
from nodes.imap.sequence import NUMBER_LIMIT, STAR, SequenceSet

_ATOM = re.compile(rb"[!#$&'+,\-./0-9:;<=>?@A-Z\[^_`a-z|}~]+")
_ASTRING = re.compile(rb"[!#$&'+,\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]+")
_LIST_MAILBOX = re.compile(rb"[!#$%&'*+,\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]+")
_QUOTED = re.compile(rb'"((?:[^"\\\r\n\x00]|\\["\\])*)"')
_ESCAPE = re.compile(rb'\\(["\\])')
_LITERAL = re.compile(rb"\{\d+\+?\}\r?\n")
_NUMBER = re.compile(rb"\d{1,20}")
_SEQUENCE_SET = re.compile(rb"[0-9*:,]+")
_FLAG = re.compile(rb"\\?[!#$&'+,\-./0-9:;<=>?@A-Z\[^_`a-z|}~]{1,128}")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]*={0,2}")
_DATE = re.compile(r"(\d{1,2})-([A-Za-z]{3})-(\d{4})")
_DATE_TIME = re.compile(r"([ \d]\d)-([A-Za-z]{3})-(\d{4}) (\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)")

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

NAME_LIMIT_BYTES = 1000
MODSEQ_END = 1 << 63
ITEMS_LIMIT = 200  # of one FETCH, LIST or STATUS

_SYSTEM_FLAGS = {name.lower(): name for name in ("\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft")}


class Cursor:
    """Where the reading of one command stands. `utf8`: mailbox names are UTF-8, not modified UTF-7."""

    def __init__(self, frame: Frame, utf8: bool = False, takes_charset: bool = True) -> None:
        self._utf8 = utf8
        self.takes_charset = takes_charset  # whether SEARCH may name one (RFC 9755 3)
        self._text = frame.text.removesuffix(b"\n").removesuffix(b"\r")
        self._literals = frame.literals
        self._next_literal = 0
        self.at = 0

    # -- single characters

    def peek(self) -> bytes:
        return self._text[self.at : self.at + 1]

    def starts_with(self, token: bytes) -> bool:
        """Whether `token` (upper case) comes next, in any case."""
        return self._text[self.at : self.at + len(token)].upper() == token

    def accept(self, token: bytes) -> bool:
        """Takes `token` (upper case) if it comes next, in any case."""
        if not self.starts_with(token):
            return False
        self.at += len(token)
        return True

    def expect(self, token: bytes) -> None:
        if not self.accept(token):
            raise BadCommand(f"expected {token.decode('ascii')!r} at byte {self.at}")

    def space(self) -> None:
        self.expect(b" ")

    def end(self) -> None:
        """Trailing blanks are forgiven, as real clients send them."""
        if self._text[self.at :].strip(b" "):
            raise BadCommand(f"unexpected text at byte {self.at}")

    def rest(self) -> bytes:
        """What has not been read yet."""
        return self._text[self.at :]

    def text_since(self, start: int) -> bytes:
        return self._text[start : self.at]

    # -- tokens

    def _take(self, pattern: re.Pattern[bytes], what: str) -> bytes:
        found = pattern.match(self._text, self.at)
        if found is None:
            raise BadCommand(f"expected {what} at byte {self.at}")
        self.at = found.end()
        return found[0]

    def atom(self) -> str:
        return self._take(_ATOM, "an atom").decode("ascii")

    def keyword(self) -> str:
        """An atom in upper case."""
        return self.atom().upper()

    def number(self) -> int:
        value = int(self._take(_NUMBER, "a number"))
        if value > NUMBER_LIMIT:
            raise BadCommand("number too large")
        return value

    def modseq(self) -> int:
        """A MODSEQ, 63 bits (RFC 7162 7); 0 where the command takes it."""
        value = int(self._take(_NUMBER, "a MODSEQ"))
        if value >= MODSEQ_END:
            raise BadCommand("MODSEQ too large")
        return value

    def string(self) -> bytes:
        """string = quoted / literal"""
        if self.peek() == b"{":
            return self.literal()
        quoted = self._take(_QUOTED, "a string")[1:-1]
        return _ESCAPE.sub(rb"\1", quoted) if b"\\" in quoted else quoted

    def literal(self) -> bytes:
        self._take(_LITERAL, "a literal")
        if self._next_literal >= len(self._literals):
            raise BadCommand("literal without its bytes")
        value = self._literals[self._next_literal]
        self._next_literal += 1
        return value

    def nstring(self) -> bytes | None:
        return None if self.accept(b"NIL") else self.string()

    def astring(self) -> bytes:
        if self.peek() in (b'"', b"{"):
            return self.string()
        return self._take(_ASTRING, "a string")

    def take_base64(self) -> bytes:
        return self._take(_BASE64, "base64")

    # -- names, sets, flags, dates

    def text(self) -> str:
        """An astring as text: UTF-8, as log-in names and passwords are sent."""
        try:
            return self.astring().decode("utf-8")
        except UnicodeDecodeError:
            raise BadCommand("not UTF-8") from None

    def mailbox(self) -> str:
        return mailbox_name(self.astring(), self._utf8)

    def list_mailbox(self) -> str:
        if self.peek() in (b'"', b"{"):
            raw = self.string()
        else:
            raw = self._take(_LIST_MAILBOX, "a mailbox pattern")
        return mailbox_name(raw, self._utf8)

    def sequence_set(self) -> SequenceSet:
        if self.accept(b"$"):  # RFC 5182
            return SequenceSet((), saved=True)
        text = self._take(_SEQUENCE_SET, "a sequence set").decode("ascii")
        return SequenceSet(tuple(_range(item) for item in text.split(",")))

    def flag(self) -> str:
        """A flag that may be stored; a system flag comes in its one spelling."""
        flag = self._take(_FLAG, "a flag").decode("ascii")
        if not flag.startswith("\\"):
            return flag
        known = _SYSTEM_FLAGS.get(flag.lower())
        if known is None:  # \\Recent is none that a client can change (RFC 3501 2.3.2, 9)
            raise BadCommand(f"no system flag that may be set: {flag}")
        return known

    def flag_list(self) -> tuple[str, ...]:
        """flag-list; each flag once."""
        self.expect(b"(")
        flags: list[str] = []
        while not self.accept(b")"):
            if flags:
                self.space()
            flags.append(self.flag())
        return tuple(dict.fromkeys(flags))

    def date(self) -> date:
        quoted = self.accept(b'"')
        found = _DATE.match(self._text[self.at : self.at + 11].decode("latin-1"))
        if found is None:
            raise BadCommand("expected a date, as in 1-Feb-1994")
        self.at += found.end()
        if quoted:
            self.expect(b'"')
        return _date(found[3], found[2], found[1])

    def date_time_ms(self) -> int:
        """date-time (in quotes) as milliseconds since 1970 UTC."""
        found = _DATE_TIME.fullmatch(self.string().decode("latin-1"))
        if found is None:
            raise BadCommand('expected a date and time, as in "17-Jul-1996 02:44:25 -0700"')
        day = _date(found[3], found[2], found[1])
        offset = timedelta(hours=int(found[8]), minutes=int(found[9]))
        try:
            zone = timezone(-offset if found[7] == "-" else offset)
            moment = datetime(
                day.year, day.month, day.day, int(found[4]), int(found[5]), min(int(found[6]), 59), tzinfo=zone
            )
            return max(0, round((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000))
        except (ValueError, OverflowError):
            raise BadCommand("no such date and time") from None


Readers = dict[str, Callable[[Cursor], Command]]  # how the commands of a family are read, by name


def mailbox_name(raw: bytes, utf8: bool) -> str:
    """A mailbox name or pattern as text: NFC, INBOX in its one spelling (RFC 3501 5.1, RFC 9051 5.1)."""
    if len(raw) > NAME_LIMIT_BYTES:
        raise Refusal("mailbox name too long", "CANNOT")
    try:
        name = unicodedata.normalize("NFC", raw.decode("utf-8") if utf8 else utf7.decode(raw))
    except ValueError:
        if utf8:
            raise Refusal("mailbox name is not valid UTF-8", "CANNOT") from None
        raise Refusal("mailbox name is not valid modified UTF-7 (RFC 3501 5.1.3)", "CANNOT") from None
    head, slash, rest = name.partition("/")
    return "INBOX" + slash + rest if head.upper() == "INBOX" else name


def _range(item: str) -> tuple[int, int]:
    first, colon, last = item.partition(":")
    a = _sequence_number(first)
    return (a, _sequence_number(last)) if colon else (a, a)


def _sequence_number(text: str) -> int:
    if text == "*":
        return STAR
    if not text.isdigit() or len(text) > 10 or not 1 <= int(text) <= NUMBER_LIMIT:
        raise BadCommand("malformed sequence set")
    return int(text)


def _date(year: str, month: str, day: str) -> date:
    try:
        return date(int(year), MONTHS.index(month.capitalize()) + 1, int(day))
    except ValueError:
        raise BadCommand("no such date") from None
