"""What a redaction has to erase: everything in the log that holds it, found by reading the log.

Refused records are read too: what they carried stays in the log like the rest. Runs in a process of its own
(nodes/jobs.py), because it reads every record; what it found goes to the node as a `Plan`.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgpack

from actors import apop, registry
from actors.apop import ApopSecretSet
from actors.directory import tenant_named
from actors.dkim import DkimKeysAdded, all_keys, dkim_stream, row_key
from actors.errors import NoSuchTenant
from actors.following import EventFollowed, as_written
from actors.keyring import SecretResealed, mark
from actors.kind import Fact, UnknownEventType, decode
from actors.mail_options import NO_OPTIONS, MailOptions
from actors.mailbox_rows import is_inferior, name_hash, redacted_name
from actors.mailbox_terms import (
    FolderCreated,
    FolderDeleted,
    FolderRenamed,
    FolderSubscribed,
    FolderUnsubscribed,
    MessageAppended,
    MessageDelivered,
)
from actors.queue import AttemptRecorded, AttemptsRecorded, MailQueued
from actors.redaction import blank, places
from eventlog.custody import Fields, RedactedBody, RedactedEvent, left_of
from eventlog.record import ERASED_SALT_BYTES, Event, Record
from eventlog.store import Snapshot, Store

SLICE = 1000

Progress = Callable[[int, int], None]
FOLDER_FACTS = (FolderCreated, FolderRenamed, FolderDeleted, FolderSubscribed, FolderUnsubscribed)
_MESSAGE_FACTS = (MessageDelivered, MessageAppended)

assert registry.KINDS  # importing every kind makes its event types known to decode()


class Nothing(Exception):
    """There is nothing to redact; the text says why."""


class Plan(NamedTuple):
    """What one record erases. `mailboxes` are stream and tenant of the accounts that may show the message."""

    events: tuple[RedactedEvent, ...]
    bodies: tuple[RedactedBody, ...]
    mailboxes: tuple[tuple[bytes, bytes], ...] = ()
    items: tuple[tuple[bytes, bytes], ...] = ()  # stream of the queue, id of the item
    digest: bytes | None = None  # of the body that goes
    message_ids: tuple[bytes, ...] = ()  # of messages that lose their trace headers alone
    names: tuple[bytes, ...] = ()  # keys of folder names

    def packed(self) -> bytes:
        return bytes(msgpack.packb(self))


def unpacked(data: bytes) -> Plan:
    events, bodies, *rest = msgpack.unpackb(data, use_list=False)
    return Plan(tuple(RedactedEvent(*event) for event in events), tuple(RedactedBody(*body) for body in bodies), *rest)


_ENVELOPED = [field.name for field in dataclasses.fields(EventFollowed)].index("data")


class Found(NamedTuple):
    """An event of a record; of one that came from another cell what stands in its `envelope`."""

    position: int
    ordinal: int
    event: Event
    fact: Fact
    envelope: Event | None = None


def plan_message(store: Store, digest: bytes, whole: bool, progress: Progress) -> Plan:
    """A body with this SHA-256 wherever it is; `whole`: and what the events that brought it say. Raises Nothing."""
    search = _MessageSearch(digest)
    for position, record in records_with(store, search.needles, progress):
        search.take(position, record)
    bodies = tuple(search.bodies)
    if search.chunks:  # they came before the record that names them: looked for again, in uploads that failed too
        bodies += tuple(_chunks(store, search.chunks, progress))
    events = tuple(redacted(found, fields) for found, fields in search.fields()) if whole else ()
    if not bodies and not events:
        raise Nothing("no record has a body with that SHA-256 that is not redacted already")
    return Plan(events, bodies, tuple(search.mailboxes), tuple(search.items), digest)


class _MessageSearch:
    def __init__(self, digest: bytes) -> None:
        self.needles = {digest}
        self.bodies: list[RedactedBody] = []
        self.chunks: set[bytes] = set()  # digests
        self.mailboxes: dict[tuple[bytes, bytes], None] = {}
        self.items: dict[tuple[bytes, bytes], None] = {}
        self._digest = digest
        self._arrivals: list[Found] = []
        self._queued: dict[bytes, MailQueued] = {}
        self._of_items: list[Found] = []

    def take(self, position: int, record: Record) -> None:
        for ordinal, body in enumerate(record.bodies):
            if body.digest == self._digest and len(body.salt) != ERASED_SALT_BYTES:
                self.bodies.append(RedactedBody(position, ordinal, body.tenant + body.digest))
                self.bodies += [RedactedBody(position, ordinal, chunk) for chunk in body.chunks]
                self.chunks.update(chunk[-len(self._digest) :] for chunk in body.chunks)
        for found in events_of(position, record):
            self._take_event(found)

    def _take_event(self, found: Found) -> None:
        event, fact = found.event, found.fact
        if isinstance(fact, _MESSAGE_FACTS) and fact.digest == self._digest:
            self._arrivals.append(found)
            self.mailboxes[event.stream, event.tenant] = None
        elif isinstance(fact, MailQueued) and fact.digest == self._digest:
            self.needles.add(fact.item_id)
            self._queued.setdefault(fact.item_id, fact)
            self.items[event.stream, fact.item_id] = None
            self._of_items.append(found)
        elif (isinstance(fact, AttemptRecorded) and fact.item_id in self._queued) or (
            isinstance(fact, AttemptsRecorded) and any(item_id in self._queued for item_id, *_ in fact.outcomes)
        ):
            self._of_items.append(found)

    def fields(self) -> Iterator[tuple[Found, Fields]]:
        for found in self._arrivals:
            yield found, blank(found.fact)
        for found in self._of_items:
            yield found, item_fields(found.fact, self._queued)


def item_fields(fact: Fact, queued: dict[bytes, MailQueued]) -> Fields:
    """Addresses get numbers, the same ones in every event of the item, so that outcomes still find their recipients."""
    assert isinstance(fact, MailQueued | AttemptRecorded | AttemptsRecorded)
    if isinstance(fact, AttemptsRecorded):
        return places(fact, {"texts": tuple(_kept_texts(fact, queued))})
    number = {address: f"redacted-{at}" for at, address in enumerate(queued[fact.item_id].recipients)}
    if isinstance(fact, MailQueued):
        values: dict[str, Any] = {
            "sender": "",
            "recipients": tuple(number[one] for one in fact.recipients),
            "trace": b"",
        }
        if fact.recipient_options:
            values["recipient_options"] = tuple((notify, "") for notify, *_ in fact.recipient_options)
        if fact.options != NO_OPTIONS:
            values["options"] = MailOptions(*fact.options)._replace(envid="")
        return places(fact, values)
    return places(
        fact,
        {
            "delivered": tuple(number.get(one, "") for one in fact.delivered),
            "deferred": tuple((number.get(one, ""), next_ms, "") for one, next_ms, _ in fact.deferred),
            "failed": tuple((number.get(one, ""), "") for one, _ in fact.failed),
        },
    )


def _kept_texts(fact: AttemptsRecorded, queued: dict[bytes, MailQueued]) -> Iterator[str]:
    """What servers said of other items in the same event."""
    texts = iter(fact.texts)
    for item_id, results, *_ in fact.outcomes:
        said = [next(texts, "") for _ in results]
        yield from ([""] * len(said) if item_id in queued else said)


def _chunks(store: Store, digests: set[bytes], progress: Progress) -> Iterator[RedactedBody]:
    for position, record in records_with(store, digests, progress):
        for ordinal, body in enumerate(record.bodies):
            if body.digest in digests and not body.chunks and len(body.salt) != ERASED_SALT_BYTES:
                yield RedactedBody(position, ordinal, body.tenant + body.digest)


def plan_keys(store: Store, domain: str, progress: Progress) -> Plan:
    """The private parts of a domain's DKIM keys that are deleted. Raises Nothing.

    An event is redacted once, and brought the keys of one making: those wait for the last of them to be deleted.
    """
    with store.snapshot() as snapshot:
        kept = {key.selector for key in all_keys(snapshot.view(dkim_stream(domain)))}
    gone: set[bytes] = set()
    events = []
    for position, record in records_with(store, {domain.encode()}, progress):
        for found in events_of(position, record):
            fact = found.fact
            if (
                isinstance(fact, DkimKeysAdded)
                and fact.domain == domain
                and kept.isdisjoint(key[0] for key in fact.keys)
            ):
                gone.update(row_key(key[0]) for key in fact.keys)
                events.append(redacted(found, places(fact, {"sealed": (b"",) * len(fact.sealed)})))
    for found in _sealed_anew(store, dkim_stream(domain), progress):
        if isinstance(found.fact, SecretResealed) and found.fact.key in gone:
            events.append(redacted(found, blank(found.fact)))
    if not events:
        raise Nothing(f"no private key of {domain} is in the log whose making is deleted whole: mailraft dkim delete")
    return Plan(tuple(events), ())


def plan_apop(store: Store, name: str, progress: Progress) -> Plan:
    """Secrets for APOP of a tenant that were removed or replaced, or whose account was. Raises Nothing."""
    with store.snapshot() as snapshot:
        try:
            tenant = tenant_named(snapshot, name)
        except NoSuchTenant:
            raise Nothing(f"there is no tenant {name}") from None
    found = [
        one
        for position, record in records_with(store, {ApopSecretSet.TYPE.encode()}, progress)
        for one in events_of(position, record)
        if isinstance(one.fact, ApopSecretSet) and one.event.stream == tenant
    ]
    keys = {apop.row_key(one.fact.account) for one in found if isinstance(one.fact, ApopSecretSet)}
    found += [
        one
        for one in _sealed_anew(store, tenant, progress)
        if isinstance(one.fact, SecretResealed) and one.fact.key in keys
    ]
    events = [redacted(one, blank(one.fact)) for one in _not_in_force(store, tenant, found)]
    if not events:
        raise Nothing(f"no secret for APOP of {name} that was removed is in the log: mailraft account apop --remove")
    return Plan(tuple(events), ())


def _sealed_anew(store: Store, stream: bytes, progress: Progress) -> Iterator[Found]:
    """The same secrets of a stream, sealed under later keys of the cluster."""
    for position, record in records_with(store, {SecretResealed.TYPE.encode()}, progress):
        for found in events_of(position, record):
            if isinstance(found.fact, SecretResealed) and found.event.stream == stream:
                yield found


def _not_in_force(store: Store, tenant: bytes, found: list[Found]) -> list[Found]:
    """Those that do not lead to what an account has: what was sealed anew stands for what it was sealed as before."""
    with store.snapshot() as snapshot:
        kept = {mark(row[0]) for _, row in snapshot.view(tenant).range(b"A")}
    gone = []
    for one in sorted(found, key=lambda one: one.position, reverse=True):
        assert isinstance(one.fact, ApopSecretSet | SecretResealed)
        if mark(one.fact.sealed) not in kept:
            gone.append(one)
        elif isinstance(one.fact, SecretResealed):
            kept.add(one.fact.mark)
    return gone[::-1]


def plan_event(store: Store, position: int, ordinal: int | None, progress: Progress) -> Plan:
    """What the events of one record say, and the same said by others: attempts, and copies brought back.

    Raises Nothing.
    """
    with store.snapshot() as snapshot:
        asked = list(_asked_for(snapshot, position, ordinal))
    messages: defaultdict[bytes, set[bytes]] = defaultdict(set)
    names: defaultdict[bytes, set[str]] = defaultdict(set)
    for found in asked:
        if isinstance(found.fact, _MESSAGE_FACTS):
            messages[found.event.stream].add(found.fact.message_id)
        elif isinstance(found.fact, FOLDER_FACTS):
            names[found.event.stream].update(_names(found.fact))
    needles = {one for ids in messages.values() for one in ids} | {n.encode() for s in names.values() for n in s}
    events: list[RedactedEvent] = []
    mailboxes: dict[tuple[bytes, bytes], None] = {}
    keys: set[bytes] = set()
    for place, record in records_with(store, needles, progress):
        for found in events_of(place, record):
            fields, hashes = _said_again(found, messages, names)
            if fields:
                events.append(redacted(found, fields))
                mailboxes[found.event.stream, found.event.tenant] = None
                keys |= hashes
    ids = {one for found in messages.values() for one in found}
    return Plan(tuple(events), (), tuple(mailboxes), (), None, tuple(sorted(ids)), tuple(sorted(keys)))


def _asked_for(snapshot: Snapshot, position: int, ordinal: int | None) -> Iterator[Found]:
    stored = snapshot.record(position)
    record = stored.record if stored is not None else None
    if stored is None:
        raise Nothing(f"the log has no position {position}: it goes from 1 to {snapshot.position}")
    if record is None:  # a leader's first entry of its term (Raft, 8), or a change that the engine keeps for itself
        raise Nothing(f"position {position} is the leader's own entry, without a record: nothing there can be redacted")
    if ordinal is not None and ordinal >= len(record.events):
        raise Nothing(f"the record at {position} has {len(record.events)} events, numbered from 0")
    found = [one for one in events_of(position, record) if ordinal in (None, one.ordinal)]
    found = [one for one in found if isinstance(one.fact, (*_MESSAGE_FACTS, *FOLDER_FACTS))]
    if not found:
        raise Nothing(
            f"nothing there can be redacted by position, or it is already: {', '.join(e.type for e in record.events)}"
        )
    return iter(found)


def _said_again(
    found: Found, messages: dict[bytes, set[bytes]], names: dict[bytes, set[str]]
) -> tuple[Fields, set[bytes]]:
    """The fields that an event has in common with what is redacted, and the keys of the names among them."""
    fact, stream = found.fact, found.event.stream
    if isinstance(fact, _MESSAGE_FACTS) and fact.message_id in messages.get(stream, ()):
        return blank(fact), set()
    if not isinstance(fact, FOLDER_FACTS) or stream not in names:
        return (), set()
    values = {name: getattr(fact, name) for name in type(fact).REDACTABLE}
    meant = {field: text for field, text in values.items() if _is_or_is_below(text, names[stream])}
    hashes = {name_hash(text) for text in meant.values()}
    return places(fact, {field: redacted_name(name_hash(text)) for field, text in meant.items()}), hashes


def _names(fact: Fact) -> list[str]:
    found = [getattr(fact, name) for name in type(fact).REDACTABLE]
    if any(name.split("/")[0] == "INBOX" and "/" not in name for name in found):
        raise Nothing("INBOX has no other name")
    return [name for name in found if not name.startswith("%")]


def _is_or_is_below(name: str, superiors: set[str]) -> bool:
    return any(name == superior or is_inferior(name, superior) for superior in superiors)


# -- reading -------------------------------------------------------------------------------------------------------


def records_with(store: Store, needles: set[bytes], progress: Progress) -> Iterator[tuple[int, Record]]:
    """The records whose bytes hold one of `needles`, to which the caller may add while it goes on."""
    first = 1
    with store.snapshot() as snapshot:
        last = snapshot.position
    while first <= last:
        with store.snapshot() as snapshot:
            for stored in snapshot.records(first, min(last, first + SLICE - 1)):
                if any(needle in stored.data for needle in needles) and (record := stored.record) is not None:
                    yield stored.position, record
        first += SLICE
        progress(min(first - 1, last), last)


def events_of(position: int, record: Record) -> Iterator[Found]:
    """The events that are not redacted, and whose fields stand where this version has them."""
    for ordinal, stood in enumerate(record.events):
        if len(stood.salt) == ERASED_SALT_BYTES:
            continue
        try:
            event = as_written(stood)
            fact: Any = decode(event.type, event.version, event.data)
        except UnknownEventType:
            continue
        if event.version == type(fact).VERSION or type(fact).GREW:  # what grew has its first fields where they were
            yield Found(position, ordinal, event, fact, None if event is stood else stood)


def redacted(found: Found, fields: Fields) -> RedactedEvent:
    left = left_of(found.event.data, fields)
    if found.envelope is not None:
        fields = ((_ENVELOPED, left),)
        left = left_of(found.envelope.data, fields)
    return RedactedEvent(found.position, found.ordinal, fields, left)
