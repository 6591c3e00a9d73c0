"""What filters say, made fit for replies, header lines and events: nothing they send is passed on as it is."""

from __future__ import annotations

import re

from nodes.smtp.replies import reply

MOST_TEXT = 300  # characters of one line of a reply
MOST_REPLY_LINES = 10
MOST_NAME = 100
MOST_LINE_BYTES = 16 * 1024  # one header field
MOST_LINES = 100  # of one filter
MOST_LINES_BYTES = 32 * 1024
FOLDED_AT = 998  # RFC 5322 2.1.1

_UNPRINTABLE = re.compile(r"[^ -~]+")
_FIELD_NAME = re.compile(rb"[!-9;-~]{1,100}")
_STRANGE_OCTET = re.compile(rb"[^\t -~]")
_LINE_END = re.compile(rb"\r\n|\r|\n")
_REPLY = re.compile(r"([45]\d\d)(?:[ -]|$)(?:([45]\.\d{1,3}\.\d{1,3})(?: |$))?(.*)")


def plain(text: str, most: int = MOST_TEXT) -> str:
    """Printable ASCII on one line."""
    return _UNPRINTABLE.sub(" ", text[: 4 * most]).strip()[:most]


def refusal(text: str, *, permanent: bool, default: str) -> bytes:
    """A reply with a filter's own words, if it has any."""
    words = plain(text) or default
    return reply(*((550, "5.7.1") if permanent else (451, "4.7.1")), words, error="filter_refused")


def smtp_reply(data: bytes) -> bytes | None:
    """The reply that a filter worded whole (RFC 5321 4.2), anew; None: it is none that refuses.

    421 would say that the connection closes, which it does not: 451.
    """
    lines = _LINE_END.split(data.rstrip(b"\r\n"))[:MOST_REPLY_LINES]
    parsed = [_REPLY.fullmatch(plain(line.decode("utf-8", "replace"))) for line in lines]
    first = parsed[0]
    if first is None or any(one is None or one[1] != first[1] for one in parsed):
        return None
    code = 451 if first[1] == "421" else int(first[1])
    enhanced = first[2] if first[2] and first[2][0] == first[1][0] else f"{first[1][0]}.7.1"
    return reply(
        code, enhanced, *(one[3] or "Refused by a filter" for one in parsed if one is not None), error="filter_refused"
    )


def header_line(name: bytes, value: bytes) -> bytes | None:
    """A field in ASCII with its CRLF, further lines of the value folded; None for what can not stand in a header."""
    if not _FIELD_NAME.fullmatch(name) or len(value) > MOST_LINE_BYTES:
        return None
    found = (_STRANGE_OCTET.sub(b"?", line) for line in _LINE_END.split(value.strip(b" \t\r\n")))
    lines = [line for line in found if line.strip()]
    folded = [line if line[:1] in (b" ", b"\t") else b"\t" + line for line in lines[1:]]
    field = b"\r\n".join([name + b": " + (lines[0].strip() if lines else b""), *folded])
    if any(len(line) > FOLDED_AT for line in field.split(b"\r\n")):
        return None
    return field + b"\r\n"


class Lines:
    """The header lines that one filter adds, as far as there is room for them."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self._size_bytes = 0

    def add(self, name: bytes, value: bytes) -> bool:
        """Takes a field; False: it can not stand in a header, or is one too many."""
        line = header_line(name, value)
        if line is None or len(self.lines) >= MOST_LINES or self._size_bytes + len(line) > MOST_LINES_BYTES:
            return False
        self.lines.append(line)
        self._size_bytes += len(line)
        return True


class NotApplied:
    """What a filter asked for and did not get, for the event."""

    MOST = 20

    def __init__(self) -> None:
        self.what: list[str] = []

    def note(self, text: str) -> None:
        """Once each, and not without end."""
        text = plain(text, MOST_NAME)
        if text not in self.what and len(self.what) < self.MOST:
            self.what.append(text)
