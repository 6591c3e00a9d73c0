"""What the end of a tenant has to erase: every body, secret, address and name of its that the log holds.

Found by reading the log, as for any redaction (nodes/redaction.py), in a process of its own. Nothing that is put in
place of a field decides what the fold does: the same rows come and go in a refold. What stays are ids, positions,
times, sizes and counts, the names of its domains and of authorities that its clients' certificates were taken of (they
stand in keys that guards name), and who asked from where.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from actors.kind import Fact
from actors.mailbox_annotations import AnnotationsSet
from actors.mailbox_rows import name_hash, redacted_name
from actors.mailbox_terms import MessageAppended, MessageDelivered
from actors.queue import AttemptRecorded, AttemptsRecorded, MailQueued
from actors.redaction import blank, places
from actors.upload import BodyChunkStored
from eventlog.custody import Fields, RedactedBody, RedactedEvent
from eventlog.record import ERASED_SALT_BYTES, Record
from eventlog.store import Store
from nodes.redaction import FOLDER_FACTS, Found, Nothing, Plan, Progress, events_of, item_fields, records_with, redacted

MOST_AT_ONCE = 20_000  # events and bodies in one plan; the next one finds the rest

# of each type of event, the fields that say something of somebody; a folder's names get the hashes of what they were
_FIELDS: dict[str, tuple[str, ...]] = {
    "AccountAdded": ("address",),
    "AccountDeleted": ("address",),
    "AccountDisabled": ("reason",),
    "AcmeOrderPlaced": ("sealed",),
    "AliasAdded": ("address", "targets"),
    "AliasDeleted": ("address",),
    "ApiTokenCreated": ("name", "sealed"),
    "ApiTokenRevoked": ("name",),
    "AppPasswordAdded": ("name", "sealed"),
    "AppPasswordRevoked": ("name",),
    "CertificateAdded": ("sealed",),
    "ClientsTrusted": ("pem",),
    "DetailsSet": ("title", "contact"),
    "DkimKeysAdded": ("sealed",),
    "GroupAdded": ("address",),
    "GroupRemoved": ("address",),
    "MailboxClosed": ("address",),
    "MailboxOpened": ("address",),
    "NameClaimed": ("name",),
    "NameReleased": ("name",),
    "OneTimeCodesEnrolled": ("sealed",),
    "ApopSecretSet": ("sealed",),
    "PasswordSet": ("sealed",),
    "RoleGranted": ("name",),
    "ReportReceived": ("organisation", "report_id", "address", "content"),
    "SecretResealed": ("sealed",),
    "TenantCreated": ("name",),
    "TenantDeletionScheduled": ("reason",),
    "TenantNameChanged": ("name",),
    "TenantRegistered": ("name",),
    "TenantRenamed": ("name",),
    "TenantSuspended": ("reason",),
}


def plan_tenant(store: Store, tenant: bytes, progress: Progress) -> Plan:
    """What the log still holds of a tenant that is deleted, or the first part of it. Raises Nothing."""
    events: list[RedactedEvent] = []
    bodies: list[RedactedBody] = []
    queued: dict[bytes, MailQueued] = {}
    needles = {tenant}
    for position, record in records_with(store, needles, progress):
        bodies += _bodies(position, record, tenant)
        for found in events_of(position, record):
            if isinstance(found.fact, MailQueued) and found.event.tenant == tenant:
                queued[found.fact.item_id] = found.fact
                needles.add(found.fact.item_id)
            fields = _fields(found, tenant, queued)
            if fields:
                events.append(redacted(found, fields))
        if len(events) + len(bodies) >= MOST_AT_ONCE:
            break
    if not events and not bodies:
        raise Nothing("no record holds anything more of the tenant that can be erased")
    return Plan(tuple(events), tuple(bodies))


def _bodies(position: int, record: Record, tenant: bytes) -> Iterator[RedactedBody]:
    """Bodies of the tenant's, whole or as chunks that were uploaded for it."""
    for ordinal, body in enumerate(record.bodies):
        if len(body.salt) == ERASED_SALT_BYTES:
            continue
        chunk = any(event.type == BodyChunkStored.TYPE and event.tenant == tenant for event in record.events)
        if body.tenant == tenant or chunk:
            yield RedactedBody(position, ordinal, body.tenant + body.digest)


def _fields(found: Found, tenant: bytes, queued: dict[bytes, MailQueued]) -> Fields:
    fact = found.fact
    if isinstance(fact, AttemptRecorded | AttemptsRecorded | MailQueued):
        return _of_queue(fact, queued)
    if found.event.tenant != tenant and getattr(fact, "tenant", b"") != tenant:
        return ()
    if isinstance(fact, MessageDelivered | MessageAppended):
        return blank(fact)
    if isinstance(fact, AnnotationsSet):
        return _of_annotations(fact)
    if isinstance(fact, FOLDER_FACTS):
        names = {name: getattr(fact, name) for name in type(fact).REDACTABLE}
        hashed = {name: redacted_name(name_hash(text)) for name, text in names.items() if not _is_inbox(text)}
        return places(fact, {name: text for name, text in hashed.items() if text != names[name]})
    return _of_type(fact)


def _of_queue(fact: AttemptRecorded | AttemptsRecorded | MailQueued, queued: dict[bytes, MailQueued]) -> Fields:
    mine = (
        any(item_id in queued for item_id, *_ in fact.outcomes)
        if isinstance(fact, AttemptsRecorded)
        else fact.item_id in queued
    )
    if not mine or (isinstance(fact, MailQueued) and not fact.trace and not fact.sender):
        return ()
    return item_fields(fact, queued)


def _of_annotations(fact: AnnotationsSet) -> Fields:
    """Values of the same length: how much there is of them is counted."""
    changes = tuple((entry, None if value is None else b"x" * len(value)) for entry, value in fact.changes)
    return places(fact, {"changes": changes}) if changes != tuple(fact.changes) else ()


def _of_type(fact: Fact) -> Fields:
    values = {name: getattr(fact, name) for name in _FIELDS.get(type(fact).TYPE, ())}
    return places(fact, {name: empty for name, value in values.items() if (empty := _empty(value)) != value})


def _empty(value: Any) -> Any:
    match value:
        case str():
            return ""
        case bytes():
            return b""
        case tuple():
            return tuple(_empty(one) for one in value)
        case _:
            return value


def _is_inbox(name: str) -> bool:
    return name == "INBOX"
