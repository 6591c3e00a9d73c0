"""What an SMTP server answers, taken from its bytes; no I/O.

A peer is a stranger: a line, a reply and its number of lines have limits, and nothing that it says reaches a log or a
bounce with control characters in it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

LINE_BYTES = 2048  # RFC 5321 4.5.3.1.5 allows 512; some say more
REPLY_LINES = 128  # of one reply: an EHLO has some twenty
TEXT_CHARACTERS = 1000  # of a reply that are kept

_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)
_ENHANCED = re.compile(r"([245])\.\d{1,3}\.\d{1,3}(?= |$)")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\xa0-\ud7ff\ue000-\U0010ffff]")
_MUCH = r"too (?:fast|quickly)|too many (?:messages|connections|concurrent|sessions|mails)"
_SLOWER = re.compile(rf"rate.?limit|throttl|{_MUCH}|4\.7\.28", re.IGNORECASE)
_SPAN = re.compile(r"(?:again|retry|wait|after)\D{0,20}(\d{1,5})\s*(s|m|h)(?:ec|in|our)?", re.I)
_SPAN_MS = {"s": 1000, "m": 60_000, "h": 3_600_000}
SLOWER_MS = 60_000
SLOWER_AT_MOST_MS = 3_600_000


class BadReply(Exception):
    """What came is no SMTP reply."""


class Reply(NamedTuple):
    """One reply, all its lines (RFC 5321 4.2)."""

    code: int
    lines: tuple[str, ...]

    @property
    def is_positive(self) -> bool:
        return self.code < 300

    @property
    def is_permanent(self) -> bool:
        return self.code >= 500

    @property
    def enhanced(self) -> str:
        """The enhanced status code (RFC 2034), "" if there is none that fits the reply's class."""
        found = _ENHANCED.match(self.lines[0])
        return found[0] if found and found[1] == str(self.code)[0] else ""

    @property
    def text(self) -> str:
        """Code and texts on one line, for people."""
        return f"{self.code} {' '.join(line for line in self.lines if line)}".rstrip()[:TEXT_CHARACTERS]


class ReplyParser:
    """Bytes in, replies out."""

    def __init__(self) -> None:
        self._input = b""
        self._lines: list[str] = []
        self._code = 0

    @property
    def is_between_replies(self) -> bool:
        """Nothing of a reply has come that was not given out."""
        return not self._input and not self._lines

    def feed(self, data: bytes) -> list[Reply]:
        """The replies that are complete by now. Raises BadReply."""
        *lines, self._input = (self._input + data).split(b"\n")
        if len(self._input) > LINE_BYTES:
            raise BadReply("a line without an end")
        return [reply for line in lines if (reply := self._line(line.removesuffix(b"\r"))) is not None]

    def _line(self, line: bytes) -> Reply | None:
        found = _LINE.fullmatch(line)
        if found is None or len(line) > LINE_BYTES:
            raise BadReply(f"no SMTP reply: {_shown(line[:60])}")
        code = int(found[1])
        if self._lines and code != self._code:
            raise BadReply(f"a reply of two codes, {self._code} and {code}")
        if len(self._lines) == REPLY_LINES:
            raise BadReply("a reply of too many lines")
        self._code = code
        self._lines.append(_shown(found[3] or b""))
        if found[2] == b"-":
            return None
        reply = Reply(code, tuple(self._lines))
        self._lines = []
        return reply


def _shown(text: bytes) -> str:
    return _UNPRINTABLE.sub("?", text.decode("utf-8", "replace"))


def features(reply: Reply) -> dict[str, tuple[str, ...]]:
    """What an EHLO reply offers, by keyword in upper case, with its parameters (RFC 5321 4.1.1.1)."""
    offered: dict[str, tuple[str, ...]] = {}
    for line in reply.lines[1:]:
        keyword, *parameters = line.upper().replace("AUTH=", "AUTH ", 1).split() or [""]
        offered[keyword] = (*offered.get(keyword, ()), *parameters)
    return offered


def throttle_ms(code: int, text: str) -> int:
    """How long a server wants to see less of us altogether, 0 if it does not; greylisting of one message is no such."""
    if not 400 <= code < 500 or (code != 421 and not _SLOWER.search(text)):
        return 0
    span = _SPAN.search(text)
    asked_ms = int(span[1]) * _SPAN_MS[span[2].lower()] if span else SLOWER_MS
    return max(1, min(asked_ms, SLOWER_AT_MOST_MS))
