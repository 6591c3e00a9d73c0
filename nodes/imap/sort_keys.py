"""What SORT and THREAD compare: taken from a message's header once and kept under the body's digest.

A body never changes, so what was found in it holds for ever. The cache is bounded; least recently used goes first.
"""

import re
import unicodedata
from calendar import timegm
from collections import OrderedDict
from email.utils import parsedate_tz
from typing import NamedTuple
from weakref import WeakKeyDictionary

from eventlog.log import EventLog
from nodes.mime import header
from nodes.mime.addresses import Address, addresses
from nodes.mime.subject import base_subject
from nodes.mime.text import decode_charset, decode_header

CACHE_BYTES = 64 * 1024 * 1024
REFERENCES_LIMIT = 100  # the last ones of a longer list, and the first
_ENTRY_BYTES = 900  # of an entry with empty values

_MESSAGE_ID = re.compile(rb'<((?:"(?:[^"\\]|\\.){1,250}"|[^<>@\s"]{1,500})@[^<>@\s]{1,500})>')
_QUOTED_LOCAL = re.compile(rb'"([A-Za-z0-9!#$%&\'*+\-/=?^_`{|}~.]+)"@')
_FIELDS = (b"subject", b"date", b"from", b"to", b"cc", b"message-id", b"references", b"in-reply-to")


class SortKeys(NamedTuple):
    """Texts are ready to be compared; `sent_ms` None where there is no readable Date."""

    subject: str
    is_reply: bool
    sent_ms: int | None
    sender: str
    to: str
    cc: str
    display_from: str
    display_to: str
    message_id: bytes
    references: tuple[bytes, ...]


def sort_keys(data: bytes) -> SortKeys:
    """What the header of a message says. Takes any bytes."""
    end = header.header_end(data, 0, len(data))
    values: dict[bytes, bytes] = {}
    for field in header.fields(data, 0, end):
        if field.name in _FIELDS and field.name not in values:
            values[field.name] = header.value_of(data, field)
    senders, to, cc = (_first(values.get(name)) for name in (b"from", b"to", b"cc"))
    subject, is_reply = base_subject(decode_header(values.get(b"subject", b"")))
    return SortKeys(
        casemap(subject),
        is_reply,
        _sent_ms(values.get(b"date")),
        casemap(_mailbox(senders)),
        casemap(_mailbox(to)),
        casemap(_mailbox(cc)),
        casemap(_display(senders)),
        casemap(_display(to)),
        next(iter(message_ids(values.get(b"message-id", b""))), b""),
        _references(values),
    )


def casemap(text: str) -> str:
    """i;unicode-casemap (RFC 5051 2): simple title case, then compatibility decomposition."""
    if text.isascii():
        return text.upper()
    titled = (title if len(title := one.title()) == 1 else one for one in text)
    return unicodedata.normalize("NFKD", "".join(titled))


def message_ids(value: bytes) -> list[bytes]:
    """The msg-ids of a field, one spelling for each (RFC 5256 3: quotes that are not needed do not count)."""
    return [_QUOTED_LOCAL.sub(rb"\1@", found) for found in _MESSAGE_ID.findall(value)]


def _references(values: dict[bytes, bytes]) -> tuple[bytes, ...]:
    """RFC 5256 3, REFERENCES, step 1: of References, or else the first of In-Reply-To."""
    found = message_ids(values.get(b"references", b""))
    if not found:
        return tuple(message_ids(values.get(b"in-reply-to", b""))[:1])
    if len(found) > REFERENCES_LIMIT:
        found = [found[0], *found[1 - REFERENCES_LIMIT :]]
    return tuple(found)


def _first(value: bytes | None) -> list[Address]:
    return addresses(value[:4096])[:2] if value else []


def _mailbox(found: list[Address]) -> str:
    """addr-mailbox of the first address (RFC 5256 3); a group's begin is none."""
    return next((decode_charset(one.mailbox, None) for one in found if one.host is not None and one.mailbox), "")


def _display(found: list[Address]) -> str:
    """RFC 5957 3: the display name, decoded; else the address. Of a group, the group's name."""
    if not found:
        return ""
    first = found[0]
    if first.host is None:
        return decode_header(first.mailbox or b"")
    name = decode_header(first.name) if first.name else ""
    return name or decode_charset((first.mailbox or b"") + b"@" + first.host, None)


def _sent_ms(value: bytes | None) -> int | None:
    """RFC 5256 2.2: in UTC; a missing time is midnight, a bad zone is UTC."""
    if value is None:
        return None
    try:
        parsed = parsedate_tz(value[:200].decode("latin-1"))
        return (timegm(parsed[:6]) - (parsed[9] or 0)) * 1000 if parsed else None
    except (ValueError, IndexError, TypeError, OverflowError):
        return None


class SortKeyCache:
    """Sort keys by tenant and digest of the body."""

    def __init__(self, limit_bytes: int = CACHE_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._used_bytes = 0
        self._kept: OrderedDict[tuple[bytes, bytes], SortKeys] = OrderedDict()

    def get(self, tenant: bytes, digest: bytes) -> SortKeys | None:
        found = self._kept.get((tenant, digest))
        if found is not None:
            self._kept.move_to_end((tenant, digest))
        return found

    def put(self, tenant: bytes, digest: bytes, keys: SortKeys) -> None:
        if (tenant, digest) in self._kept:
            return
        self._kept[tenant, digest] = keys
        self._used_bytes += _size_bytes(keys)
        while self._used_bytes > self._limit_bytes:
            _, dropped = self._kept.popitem(last=False)
            self._used_bytes -= _size_bytes(dropped)


def _size_bytes(keys: SortKeys) -> int:
    texts = (keys.subject, keys.sender, keys.to, keys.cc, keys.display_from, keys.display_to)
    return _ENTRY_BYTES + sum(map(len, texts)) + sum(len(one) + 40 for one in keys.references)


_CACHES: WeakKeyDictionary[EventLog, SortKeyCache] = WeakKeyDictionary()


def cache_of(log: EventLog) -> SortKeyCache:
    """The one cache of a node."""
    return _CACHES.setdefault(log, SortKeyCache())
