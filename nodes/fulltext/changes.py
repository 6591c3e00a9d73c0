"""What the log tells an index: accounts with new messages, accounts that lost some, and what was redacted."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from actors import registry
from actors.custody import CUSTODY, LogRedacted
from actors.following import EventFollowed
from actors.kind import UnknownEventType, decode
from actors.mailbox_maildrop import MaildropLocked, MaildropUnlocked
from actors.mailbox_terms import (
    FlagsChanged,
    FolderCreated,
    ManyFlagsChanged,
    MessageAppended,
    MessageDelivered,
    MessagesCopied,
    MessagesRedacted,
    PastViewed,
)
from eventlog.record import DIGEST_BYTES, Event
from eventlog.store import Store

SLICE = 1000

_OF_MAILBOXES = frozenset(fact.TYPE for fact in registry.KINDS["mailbox"].facts)
_ADD = frozenset(kind.TYPE for kind in (MessageAppended, MessageDelivered, MessagesCopied))
_LEAVE = frozenset(
    kind.TYPE for kind in (FlagsChanged, ManyFlagsChanged, FolderCreated, PastViewed, MaildropLocked, MaildropUnlocked)
)


class Changes(NamedTuple):
    """Streams of mailboxes, and digests of bodies. `redacted`: mailboxes that show a redacted message otherwise now."""

    grown: set[bytes]
    shrunk: set[bytes]
    redacted: set[bytes]
    digests: set[bytes]


def changes(store: Store, first: int, last: int, progress: Callable[[int, int], None]) -> Changes:
    """Reads the log from `first` to `last`; what it does not know of a mailbox may have removed something."""
    found = Changes(set(), set(), set(), set())
    at = first
    while at <= last:
        with store.snapshot() as snapshot:
            for stored in snapshot.records(at, min(last, at + SLICE - 1)):
                record = stored.record
                for event in record.events if record is not None else ():
                    _take(found, event)
        at += SLICE
        progress(min(at - 1, last) - first + 1, last - first + 1)
    return found


def _take(found: Changes, event: Event) -> None:
    type_ = _type_of(event)
    if type_ in _ADD:
        found.grown.add(event.stream)
    elif type_ == MessagesRedacted.TYPE:
        found.redacted.add(event.stream)
    elif type_ in _OF_MAILBOXES:
        if type_ not in _LEAVE:
            found.shrunk.add(event.stream)
    elif event.stream == CUSTODY:
        found.digests.update(_digests(event))


def _type_of(event: Event) -> str:
    """Of an event that came from another cell, the type that it had there (nodes/follower)."""
    if event.type != EventFollowed.TYPE:
        return event.type
    try:
        fact = decode(event.type, event.version, event.data)
    except UnknownEventType:
        return event.type
    assert isinstance(fact, EventFollowed)
    return fact.type


def _digests(event: Event) -> set[bytes]:
    if event.type != LogRedacted.TYPE:
        return set()
    try:
        fact = decode(event.type, event.version, event.data)
    except UnknownEventType:
        return set()
    assert isinstance(fact, LogRedacted)
    return {key[-DIGEST_BYTES:] for _, _, key in fact.bodies}
