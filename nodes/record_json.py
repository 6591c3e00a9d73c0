"""A record of the log as JSON, for people and programs that look into it. Sealed secrets are left out."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

from actors import registry
from actors.kind import UnknownEventType, decode
from eventlog.fold import Outcome
from eventlog.record import Body, Event, Record
from eventlog.store import StoredRecord

_SEALED = frozenset({"sealed"})

assert registry.KINDS  # importing every kind makes its event types known to decode()


def record_json(stored: StoredRecord | None, position: int) -> dict[str, Any]:
    """What stands at a position, and what the fold said of it. Bytes are hexadecimal."""
    if stored is None:
        return {"position": position, "kind": "missing"}
    at = datetime.datetime.fromtimestamp(stored.at_ms / 1000, datetime.UTC)
    record = stored.record
    return {
        "position": stored.position,
        "term": stored.term,
        "at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "outcome": None if stored.outcome is None else Outcome(stored.outcome).name.lower(),
        "chain": None if stored.chain is None else stored.chain.hex(),
        **(_record(record) if record is not None else {"kind": "no-op"}),
    }


def _record(record: Record) -> dict[str, Any]:
    return {
        "kind": "record",
        "id": record.id.hex(),
        "by": {"kind": record.by.kind, "id": record.by.id.hex(), "origin": record.by.origin},
        "cause": record.cause,
        "guards": len(record.guards),
        "events": [_event(event) for event in record.events],
        "bodies": [_body(body) for body in record.bodies],
    }


def _event(event: Event) -> dict[str, Any]:
    try:
        fact: Any = _plain(decode(event.type, event.version, event.data))
    except UnknownEventType:
        fact = None
    return {
        "type": event.type,
        "version": event.version,
        "tenant": event.tenant.hex(),
        "stream": event.stream.hex(),
        "data": fact,
    }


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
    return "(sealed)" if name in _SEALED and value else _plain(value)
