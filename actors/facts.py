"""The few facts of a message that the fold needs, parsed once before the log.

Only the head of the message is looked at, and only so much of it; whatever is malformed is left out. Never raises:
a message that we can not understand is delivered all the same.
"""

from __future__ import annotations

import re
from email.utils import mktime_tz, parsedate_tz
from functools import lru_cache
from typing import NamedTuple

_tuple = tuple.__new__  # of a NamedTuple: as its own constructor, at half the cost

MAX_HEADER_BYTES = 64 * 1024
MAX_ID_CHARACTERS = 250
MAX_REFERENCES = 30
_MAX_SECONDS = 253_402_300_800  # the year 10000

_FIELD = re.compile(rb"^(message-id|references|in-reply-to|date)[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)", re.I | re.M)
_MESSAGE_ID = re.compile(rf"<[^<>\s]{{1,{MAX_ID_CHARACTERS - 2}}}>")


class MessageFacts(NamedTuple):
    message_id: str | None  # with its angle brackets
    references: tuple[str, ...]  # oldest first, of References or else In-Reply-To (RFC 5322 3.6.4)
    sent_ms: int | None  # the Date field, milliseconds since 1970


def message_facts(data: bytes) -> MessageFacts:
    """Message-ID, references and date of the message in `data`; of a field that occurs twice, the first."""
    head = data[:MAX_HEADER_BYTES]
    fields: dict[bytes, str] = {}
    for name, value in _FIELD.findall(head, 0, _end_of_header(head)):
        fields.setdefault(name.lower(), value.decode("utf-8", "replace"))
    references = _ids(fields.get(b"references", "")) or _ids(fields.get(b"in-reply-to", ""))
    own = _ids(fields.get(b"message-id", ""))
    sent_ms = _sent_ms(fields.get(b"date"))
    return _tuple(MessageFacts, (own[0] if own else None, tuple(references[-MAX_REFERENCES:]), sent_ms))


def _end_of_header(head: bytes) -> int:
    """Where the empty line ends before which fields stand; the length where there is none."""
    if head.startswith((b"\n", b"\r\n")):
        return 0
    end = head.find(b"\n\r\n")
    bare = head.find(b"\n\n", 0, end + 1 if end >= 0 else len(head))
    if bare >= 0:
        return bare + 2
    return end + 3 if end >= 0 else len(head)


def _ids(value: str) -> list[str]:
    return _MESSAGE_ID.findall(value) if value else []


@lru_cache(1024)  # mail to many is of one second
def _sent_ms(value: str | None) -> int | None:
    try:
        parsed = parsedate_tz(value) if value else None
        seconds = mktime_tz(parsed) if parsed else None
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
    return int(seconds) * 1000 if seconds is not None and abs(seconds) < _MAX_SECONDS else None
