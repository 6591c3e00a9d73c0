"""A record of the log as JSON, for people and programs that look into it. Sealed secrets are left out.

An event says by id whom it is about; a person wants the address, which is looked up in the same snapshot.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable
from typing import Any

import msgpack

from actors import custody, mailbox, registry
from actors.following import EventFollowed, as_written
from actors.kind import UnknownEventType, decode
from actors.mailbox_terms import MailboxFact, MailboxOpened
from eventlog import levels, members
from eventlog.custody import redaction_in
from eventlog.fold import Outcome
from eventlog.record import ERASED_SALT_BYTES, Body, Event, Record, decode_events
from eventlog.store import LOG_HEAD, Snapshot

_SEALED = frozenset({"sealed"})
_PACKED = frozenset({"verdicts", "content"})  # what checks found of a message, what a report says

assert registry.KINDS  # importing every kind makes its event types known to decode()


def record_json(snapshot: Snapshot, position: int) -> dict[str, Any]:
    """What stands at a position, and what the fold said of it. Bytes are hexadecimal, trace headers are text."""
    stored = snapshot.record(position)
    if stored is None:
        return {"position": position, "kind": "missing"}
    record = stored.record
    return {
        "position": stored.position,
        "term": stored.term,
        "at": utc(stored.at_ms),
        "outcome": None if stored.outcome is None else Outcome(stored.outcome).name.lower(),
        "chain": None if stored.chain is None else stored.chain.hex(),
        **(_record(snapshot, position, record) if record is not None else {"kind": "no-op"}),
    }


def utc(at_ms: int) -> str:
    """Milliseconds since 1970 as ISO 8601."""
    at = datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _record(snapshot: Snapshot, position: int, record: Record) -> dict[str, Any]:
    return {
        "kind": "record",
        "id": record.id.hex(),
        "by": {
            "kind": record.by.kind,
            "id": record.by.id.hex(),
            "origin": record.by.origin,
            "address": _address_of(snapshot, record.by.id) if record.by.kind == "account" else None,
        },
        "cause": record.cause,
        "guards": len(record.guards),
        "events": [
            _event(snapshot, event) | _redaction(snapshot, event, custody.event_redacted_at, position, ordinal)
            for ordinal, event in enumerate(record.events)
        ],
        "bodies": [
            _body(body) | _redaction(snapshot, body, custody.body_redacted_at, body.tenant, body.digest)
            for body in record.bodies
        ],
    }


def _redaction(
    snapshot: Snapshot, part: Event | Body, redacted_at: Callable[..., int | None], *place: Any
) -> dict[str, Any]:
    """Who erased an event or a body, when and why; nothing for one that is as it was written."""
    if len(part.salt) != ERASED_SALT_BYTES:
        return {}
    position = redacted_at(snapshot.view(custody.CUSTODY), *place)
    stored = snapshot.record(position) if position is not None else None
    record = stored.record if stored is not None else None
    if stored is None or record is None:
        return {"redacted": {"position": None, "at": None, "by": None, "reason": None}}
    reasons = [found.reason for event in record.events if (found := redaction_in(event)) is not None]
    by = record.by.origin
    return {"redacted": {"position": position, "at": utc(stored.at_ms), "by": by, "reason": "; ".join(reasons)}}


def _event(snapshot: Snapshot, event: Event) -> dict[str, Any]:
    origin: dict[str, Any] = {}
    try:
        origin = _origin(event)
        event = as_written(event)
        fact: Any = decode(event.type, event.version, event.data)
    except UnknownEventType:
        fact = None
    return {
        "type": event.type,
        "version": event.version,
        "tenant": event.tenant.hex(),
        "stream": event.stream.hex(),
        "address": _address(snapshot, event.stream, fact),
        **origin,
        "data": _of_log(event) if fact is None else _plain(fact),
    }


def _origin(event: Event) -> dict[str, Any]:
    """Where an event stands first that was followed from another cell."""
    if event.type != EventFollowed.TYPE:
        return {}
    fact = decode(event.type, event.version, event.data)
    assert isinstance(fact, EventFollowed)
    return {"origin": {"cell": fact.cell, "position": fact.position, "at": utc(fact.at_ms)}}


def _of_log(event: Event) -> dict[str, Any] | None:
    """What the log says of the cell itself."""
    if event.type == members.MEMBERS_CHANGED:
        return {"members": [member._asdict() for member in members.unpack(event.data)]}
    if event.type == levels.FEATURE_LEVEL_RAISED:
        return {"level": levels.raised_to(event)}
    return None


def _address(snapshot: Snapshot, stream: bytes, fact: Any) -> str | None:
    """Of the account or alias that an event is about; None where it is about none."""
    stated: str | None = getattr(fact, "address", None)
    account = stream if isinstance(fact, MailboxFact) else getattr(fact, "account", None)
    return stated if stated or not account else _address_of(snapshot, account)


def _address_of(snapshot: Snapshot, account: bytes) -> str | None:
    """An account's mailbox was opened for its address, and has its id; what was deleted is looked up in the log."""
    address = mailbox.address_of(snapshot.view(account))
    if address:
        return address
    for _, stored in snapshot.stream_entries(account):
        for event in decode_events(stored[LOG_HEAD.size :], account)[3]:
            first = as_written(event)
            if first.type == MailboxOpened.TYPE:
                opened = decode(first.type, first.version, first.data)
                assert isinstance(opened, MailboxOpened)
                return opened.address
        return None  # nothing comes before it is opened
    return None


def _body(body: Body) -> dict[str, Any]:
    return {"digest": body.digest.hex(), "size": body.size, "chunks": [chunk.hex() for chunk in body.chunks]}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _field(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _field(name: str, value: Any) -> Any:
    if name in _SEALED and value:
        return "(sealed)"
    if name == "trace" and isinstance(value, bytes):
        return value.decode(errors="replace")
    if name in _PACKED and isinstance(value, bytes):
        return _unpacked(value)
    return _plain(value)


def _unpacked(packed: bytes) -> Any:
    """MessagePack inside an event, as what it says; None where there is nothing, or it was redacted."""
    if not packed:
        return None
    try:
        return _plain_map(msgpack.unpackb(packed))
    except ValueError:  # every fault of MessagePack is one
        return packed.hex()


def _plain_map(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain_map(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain_map(one) for one in value]
    return _plain(value)
