"""A redaction at home is one at the follower: what was erased there is named by its place there, and erased here too.

The source names only what the follower was sent: events by place, with what is left of them, and bodies by digest. The
follower looks each up in its own log, where an event stands in an envelope and a body may have been stored more than
once, and makes its own redaction of them, in the same record that follows the source's.
"""

from __future__ import annotations

import contextlib
import json
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, NamedTuple

from actors.custody import CUSTODY, Redact
from actors.following import CheckpointMoved, EventFollowed, OriginApplied
from actors.kind import UnknownEventType, decode
from eventlog.custody import RedactedBody, RedactedEvent, left_of, redaction_in
from eventlog.record import ERASED_SALT_BYTES, STREAM_ID_BYTES, Event, Record
from eventlog.store import Snapshot
from nodes import jobs
from nodes.follower.scope import Scope, bodies_of
from nodes.redaction import unpacked
from nodes.services import Services

_DATA = [field.name for field in fields(EventFollowed)].index("data")


class Erasure(NamedTuple):
    """What was redacted: position and ordinal of each event with what is left of it, and digests of bodies."""

    events: tuple[tuple[int, int, bytes], ...]
    digests: tuple[bytes, ...]
    reason: str


# -- at home -------------------------------------------------------------------------------------------------------


def erasure_in(snapshot: Snapshot, record: Record, scope: Scope) -> Erasure | None:
    """What a record redacts of that which the follower was sent; None where it redacts nothing of it."""
    found = [one for event in record.events if event.stream == CUSTODY and (one := redaction_in(event)) is not None]
    events = []
    digests: dict[bytes, None] = {}
    for redaction in found:
        for position, ordinal, _, _ in redaction.events:
            erased = _taken(snapshot, position, scope).get(ordinal)
            if erased is not None:
                events.append((position, ordinal, erased.data))
        for position, _, key in redaction.bodies:
            digest = key[STREAM_ID_BYTES:]
            if key.startswith(scope.tenant) and digest in bodies_of(_taken(snapshot, position, scope).values()):
                digests[digest] = None
    if not events and not digests:
        return None
    return Erasure(tuple(events), tuple(digests), "; ".join(one.reason for one in found))


def _taken(snapshot: Snapshot, position: int, scope: Scope) -> dict[int, Event]:
    stored = snapshot.record(position)
    record = stored.record if stored is not None else None
    return {n: event for n, event in enumerate(record.events) if scope.takes(event)} if record is not None else {}


# -- at the follower -----------------------------------------------------------------------------------------------


async def redaction_here(node: Services, stream: bytes, erasure: Erasure) -> Redact | None:
    """The same for this log; `stream` is the subscription's. None where nothing of it is left here.

    Raises jobs.JobFailed.
    """
    with node.log.snapshot() as snapshot:
        events = tuple(_events_here(snapshot, stream, erasure))
    bodies: dict[RedactedBody, None] = {}
    for digest in erasure.digests:
        bodies.update(dict.fromkeys(await _bodies_here(node, digest)))
    return Redact(events, tuple(bodies), erasure.reason) if events or bodies else None


def _events_here(snapshot: Snapshot, stream: bytes, erasure: Erasure) -> Iterable[RedactedEvent]:
    positions = list(snapshot.stream_positions(stream))
    for origin, ordinal, left in erasure.events:
        at = bisect_left(positions, origin, key=lambda position: _origin_of(snapshot, position, stream))
        stored = snapshot.record(positions[at]) if at < len(positions) else None
        record = stored.record if stored is not None else None
        for number, event in enumerate(record.events if record is not None else ()):
            if _is_copy(event, origin, ordinal) and stored is not None:
                blank = ((_DATA, left),)
                yield RedactedEvent(stored.position, number, blank, left_of(event.data, blank))


def _is_copy(event: Event, origin: int, ordinal: int) -> bool:
    if event.type != EventFollowed.TYPE or len(event.salt) == ERASED_SALT_BYTES:
        return False
    fact: Any = decode(event.type, event.version, event.data)
    return (fact.position, fact.ordinal) == (origin, ordinal)


def _origin_of(snapshot: Snapshot, position: int, stream: bytes) -> int:
    """The position at home up to which a record of the subscription follows; it may follow several of home's."""
    stored = snapshot.record(position)
    record = stored.record if stored is not None else None
    for event in reversed(record.events if record is not None else ()):
        if event.stream == stream:
            with contextlib.suppress(UnknownEventType):
                fact = decode(event.type, event.version, event.data)
                if isinstance(fact, OriginApplied | CheckpointMoved):
                    return fact.position
    return 0


async def _bodies_here(node: Services, digest: bytes) -> tuple[RedactedBody, ...]:
    """Wherever this log has a body: in a process of its own, because every record is read."""
    last: dict[str, Any] = {}
    lines = jobs.run("redaction", node.config.node.data_dir, json.dumps({"body": digest.hex()}))
    async with contextlib.aclosing(lines):
        async for line in lines:
            last = json.loads(line)
    if "result" not in last:
        raise jobs.JobFailed(str(last.get("error", "the log could not be read")))
    return unpacked(bytes.fromhex(last["result"]["plan"])).bodies if "plan" in last["result"] else ()
