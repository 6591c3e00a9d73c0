"""Custody of the log itself: entries that say that a record is passed over (quarantine), or that parts are erased.

A quarantine is an entry of a kind of its own, so that it is found without reading every record, and it concerns an
entry before it: whoever folds that entry, now or in a refold by another version of the program, must know of it first.
That depends on the log alone, never on whether the fold raises here.

A redaction rewrites stored entries: fields of events get the values that it names, and the commitment that the chain
hashes takes the salt's place, so the chain still verifies and nothing can be guessed back; bodies lose their bytes. It
names what is left of each event by its SHA-256, because a commitment says nothing about that any more. Nothing that is
decided here depends on what the entries hold: a refold of the rewritten log gives what the first fold gave.

An archival says which positions may leave the database for segment files beside it, and what the chain is at their
ends; each node does it by itself (`eventlog.archive`).

The rules are frozen: they decide what a refold gives.
"""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, NamedTuple

import msgpack

from eventlog.record import (
    FORMAT,
    Body,
    Event,
    Record,
    RecordError,
    body_commitment,
    decode,
    decode_with_header,
    event_commitment,
    stream_id,
)

CUSTODY = stream_id("log", "custody")
RECORD_QUARANTINED = "RecordQuarantined"  # data: [position, reason, ...]
LOG_ARCHIVED = "LogArchived"  # data: [segments, ...] as in ArchivedSegment
LOG_REDACTED = "LogRedacted"  # data: [events, bodies, reason, ...] as in Redaction
KIND_QUARANTINE = 3  # of an entry: a record with one such event, proposed while the fold was stalled

Fields = tuple[tuple[int, Any], ...]  # the place of a field in the event's data, and the value that it gets

_packb = msgpack.Packer(use_bin_type=True, autoreset=True).pack


class RedactedEvent(NamedTuple):
    """An event by its place in the log; `left` is the SHA-256 of its data once `fields` have their values."""

    position: int
    ordinal: int
    fields: Fields
    left: bytes


class RedactedBody(NamedTuple):
    """A body by the entry that names it; `key` is tenant (or upload) and digest. Its bytes go, whoever brought them."""

    position: int
    ordinal: int
    key: bytes


class Redaction(NamedTuple):
    """What one event erases."""

    events: tuple[RedactedEvent, ...]
    bodies: tuple[RedactedBody, ...]
    reason: str


# -- quarantine ----------------------------------------------------------------------------------------------------


def quarantined_by(record: Record, index: int, at_ms: int) -> int | None:
    """The position that the entry of KIND_QUARANTINE at `index` quarantines; None for one that has no effect.

    It has none if it had expired in log time, has guards or more than its one event, or names no position before its
    own.
    """
    if at_ms > record.expires_ms or record.guards or len(record.events) != 1:
        return None
    event = record.events[0]
    if event.stream != CUSTODY or event.type != RECORD_QUARANTINED:
        return None
    position = _first_number(event.data)
    return position if position is not None and 0 < position < index else None


def quarantines(entries: Iterable[tuple[int, int, bytes]]) -> dict[int, int]:
    """Of index, time and data of entries of KIND_QUARANTINE, in order: what is quarantined, and by which entry."""
    found: dict[int, int] = {}
    for index, at_ms, data in entries:
        try:
            position = quarantined_by(decode(data), index, at_ms)
        except RecordError:
            continue
        if position is not None:
            found.setdefault(position, index)
    return found


def _first_number(data: bytes) -> int | None:
    try:
        position = msgpack.unpackb(data, use_list=False)[0]
    except Exception:  # whatever it is, it names no position
        return None
    return position if type(position) is int else None


# -- archival ------------------------------------------------------------------------------------------------------


class ArchivedSegment(NamedTuple):
    """Positions that may leave the database together, with the chain before the first and at the last."""

    first: int
    last: int
    chain_before: bytes
    chain_after: bytes


def archival_in(event: Event) -> tuple[ArchivedSegment, ...] | None:
    """What an event of the custody stream archives; None for another one, or for one that is not well formed."""
    if event.type != LOG_ARCHIVED:
        return None
    try:
        found = tuple([ArchivedSegment(*one) for one in msgpack.unpackb(event.data, use_list=False)[0]])
    except Exception:  # it is not what an archival is made of
        return None
    for one in found:
        if not (type(one.first) is type(one.last) is int and 0 < one.first <= one.last):
            return None
        if not (type(one.chain_before) is type(one.chain_after) is bytes):
            return None
    return found


# -- redaction -----------------------------------------------------------------------------------------------------


def redaction_in(event: Event) -> Redaction | None:
    """What an event of the custody stream erases; None for another one, or for one that is not well formed."""
    if event.type != LOG_REDACTED:
        return None
    try:
        events, bodies, reason, *_ = msgpack.unpackb(event.data, use_list=False)
        found = Redaction(
            tuple([RedactedEvent(*one) for one in events]), tuple([RedactedBody(*one) for one in bodies]), reason
        )
        return found if _is_sound(found) else None
    except Exception:  # it is not what a redaction is made of
        return None


def _is_sound(redaction: Redaction) -> bool:
    numbers = [number for one in (*redaction.events, *redaction.bodies) for number in one[:2]]
    places = [place for event in redaction.events for place, _ in event.fields]
    parts = [event.left for event in redaction.events] + [body.key for body in redaction.bodies]
    return all(type(number) is int and number >= 0 for number in numbers + places) and all(
        type(part) is bytes for part in parts
    )


def with_fields(data: bytes, fields: Fields) -> bytes:
    """An event's data in which fields have other values. Raises whatever data that is no list of them leads to."""
    values = list(msgpack.unpackb(data, use_list=False))
    for place, value in fields:
        values[place] = value
    return bytes(_packb(values))


def without(data: bytes, events: Mapping[int, Fields], bodies: Iterable[int]) -> bytes:
    """A record's bytes with the named events and bodies erased. What can not be done to it is left out."""
    try:
        record, header = decode_with_header(data)
    except RecordError:
        return data
    kept_events, kept_bodies = list(record.events), list(record.bodies)
    for ordinal, fields in events.items():
        if ordinal < len(kept_events):
            kept_events[ordinal] = _erased_event(kept_events[ordinal], fields)
    for ordinal in bodies:
        if ordinal < len(kept_bodies):
            kept_bodies[ordinal] = _erased_body(kept_bodies[ordinal])
    return bytes(_packb((FORMAT, header, kept_events, kept_bodies)))


def _erased_event(event: Event, fields: Fields) -> Event:
    try:
        left = with_fields(event.data, fields)
    except Exception:  # not a list, or a shorter one: nothing of it is sure to be harmless
        left = bytes(_packb(()))
    return event._replace(data=left, salt=event_commitment(event))


def _erased_body(body: Body) -> Body:
    return body._replace(salt=body_commitment(body))


def left_of(data: bytes, fields: Fields) -> bytes:
    """The SHA-256 that a redaction names for an event with this data."""
    return sha256(with_fields(data, fields)).digest()
