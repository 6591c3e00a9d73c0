"""Which records of the log somebody wants to see: by stream, event type, author, account, outcome and time.

The audit trail is the log itself; this is how one reads it. Reads are short, so that a running node can use its pages
again meanwhile. The JSON form of a selection is what the admin API and the job process are given.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterator
from typing import Any, NamedTuple

from actors import registry
from actors.following import as_written
from actors.kind import UnknownEventType, decode, known_types
from actors.names import NameClaimed, address_name, name_stream, normalise_address
from eventlog.fold import Outcome
from eventlog.levels import FEATURE_LEVEL_RAISED
from eventlog.members import MEMBERS_CHANGED
from eventlog.record import STREAM_ID_BYTES, Event, Record, decode_events
from eventlog.store import LOG_HEAD, Snapshot, Store, StoredRecord
from eventlog.uploads import CHUNKS_COLLECTED

READ_AT_ONCE = 500
OUTCOMES = tuple(outcome.name.lower() for outcome in Outcome)
FIELDS = ("types", "streams", "account", "by", "outcome", "first", "last", "since_ms", "until_ms", "newest")

assert registry.KINDS  # importing every kind makes its event types known to decode()
TYPES = known_types() | {CHUNKS_COLLECTED, FEATURE_LEVEL_RAISED, MEMBERS_CHANGED}


class Selection(NamedTuple):
    """What a record must have; None or empty asks for nothing. `newest` keeps only that many, the last ones."""

    types: tuple[str, ...] = ()  # patterns, as `Message*`; one of them
    streams: frozenset[bytes] = frozenset()  # one of them
    accounts: frozenset[bytes] | None = None  # done by, or to, one of these
    by: str | None = None  # a part of who did it: kind, name, address of the client
    by_accounts: frozenset[bytes] = frozenset()  # or all of the address of who did it: whoever held that
    outcome: str | None = None
    first: int = 1
    last: int | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    newest: int | None = None

    @property
    def asks_for_records(self) -> bool:
        """Whether an entry without a record (a leader's no-op) is not wanted."""
        return bool(self.types or self.streams or self.by) or self.accounts is not None


def selection(snapshot: Snapshot, wanted: dict[str, Any]) -> Selection:
    """From its JSON form; an account is given by address. Raises ValueError that names the field."""
    unknown = set(wanted) - set(FIELDS)
    if unknown:
        raise ValueError(f"{', '.join(sorted(unknown))}: no such field")
    outcome = wanted.get("outcome")
    if outcome is not None and outcome not in OUTCOMES:
        raise ValueError(f"outcome: one of {', '.join(OUTCOMES)}")
    return Selection(
        types=_types(wanted),
        streams=frozenset(_stream(text) for text in _texts(wanted, "streams")),
        accounts=_accounts(snapshot, wanted.get("account")),
        by=_text(wanted, "by"),
        by_accounts=_owners(snapshot, _text(wanted, "by") or ""),
        outcome=outcome,
        first=_number(wanted, "first") or 1,
        last=_number(wanted, "last"),
        since_ms=_number(wanted, "since_ms"),
        until_ms=_number(wanted, "until_ms"),
        newest=_number(wanted, "newest"),
    )


def selected(store: Store, wanted: Selection) -> Iterator[tuple[Snapshot, StoredRecord]]:
    """The folded records that fit, in the log's order, each with the snapshot that it was read in."""
    with store.snapshot() as snapshot:
        first, last = bounds(snapshot, wanted)
    if wanted.newest is not None:
        yield from _each(store, _newest(store, wanted, first, last))
        return
    for begin in range(first, last + 1, READ_AT_ONCE):
        with store.snapshot() as snapshot:
            for stored in snapshot.records(begin, min(last, begin + READ_AT_ONCE - 1)):
                if fits(wanted, stored):
                    yield snapshot, stored


def fits(wanted: Selection, stored: StoredRecord) -> bool:
    """Whether one record has all that is asked for; its position and time are on the caller."""
    if wanted.outcome is not None and (stored.outcome is None or OUTCOMES[stored.outcome] != wanted.outcome):
        return False
    if not wanted.asks_for_records:
        return True
    record = stored.record
    return record is not None and fits_record(wanted, record)


def fits_record(wanted: Selection, record: Record) -> bool:
    """Whether what stands in a record, or what somebody sees of it, has all that is asked for."""
    return (
        _fits_by(wanted, record)
        and (not wanted.streams or any(event.stream in wanted.streams for event in record.events))
        and (not wanted.types or any(_has_type(wanted, event) for event in record.events))
        and (wanted.accounts is None or _concerns(wanted.accounts, record))
    )


def _newest(store: Store, wanted: Selection, first: int, last: int) -> list[int]:
    found: list[int] = []
    for end in range(last, first - 1, -READ_AT_ONCE):
        with store.snapshot() as snapshot:
            for position in range(end, max(first, end - READ_AT_ONCE + 1) - 1, -1):
                stored = snapshot.record(position)
                if stored is not None and fits(wanted, stored):
                    found.append(position)
                if len(found) == wanted.newest:
                    return found[::-1]
    return found[::-1]


def _each(store: Store, positions: list[int]) -> Iterator[tuple[Snapshot, StoredRecord]]:
    for begin in range(0, len(positions), READ_AT_ONCE):
        with store.snapshot() as snapshot:
            for position in positions[begin : begin + READ_AT_ONCE]:
                stored = snapshot.record(position)
                if stored is not None:
                    yield snapshot, stored


def bounds(snapshot: Snapshot, wanted: Selection) -> tuple[int, int]:
    """The positions between which the moments lie; log time never goes back, so they are found by halving."""
    first, last = wanted.first, snapshot.position if wanted.last is None else min(wanted.last, snapshot.position)
    if wanted.since_ms is not None:
        first = max(first, _first_after(snapshot, wanted.since_ms - 1))
    if wanted.until_ms is not None:
        last = min(last, _first_after(snapshot, wanted.until_ms) - 1)
    return first, last


def last_before(snapshot: Snapshot, at_ms: int | None) -> int:
    """The last position stamped up to and including a time in ms; the newest where none is given."""
    return snapshot.position if at_ms is None else _first_after(snapshot, at_ms) - 1


def _first_after(snapshot: Snapshot, at_ms: int) -> int:
    """The first position whose time is later; one beyond the end where there is none."""
    low, high = 1, snapshot.position + 1
    while low < high:
        middle = (low + high) // 2
        stored = snapshot.record(middle)
        if stored is not None and stored.at_ms <= at_ms:
            low = middle + 1
        else:
            high = middle
    return low


def _fits_by(wanted: Selection, record: Record) -> bool:
    if wanted.by is None:
        return True
    by = record.by
    return by.id in wanted.by_accounts or wanted.by.lower() in f"{by.kind} {by.origin} {by.id.hex()}".lower()


def _has_type(wanted: Selection, event: Event) -> bool:
    types = {event.type, as_written(event).type}  # what was followed is found by its own type, and as followed
    return any(fnmatch.fnmatchcase(type_, pattern) for pattern in wanted.types for type_ in types)


def _concerns(accounts: frozenset[bytes], record: Record) -> bool:
    """Whether one of the accounts did it, or an event is on its stream or about it."""
    if record.by.id in accounts:
        return True
    return any(event.stream in accounts or _about(event) in accounts for event in record.events)


def _about(event: Event) -> bytes | None:
    try:
        event = as_written(event)
        fact = decode(event.type, event.version, event.data)
    except UnknownEventType:
        return None
    account: bytes | None = getattr(fact, "account", None) or getattr(fact, "owner", None)
    return account


def _accounts(snapshot: Snapshot, address: Any) -> frozenset[bytes] | None:
    """Everybody who ever held the address, so that what was done before it was given to another is found too."""
    if address is None:
        return None
    if not isinstance(address, str):
        raise ValueError("account: an address, as alice@example.test")
    try:
        normalise_address(address)
    except Exception as error:
        raise ValueError(f"account: {error}") from None
    owners = _owners(snapshot, address)
    if not owners:
        raise ValueError(f"account: the log knows of no {address}")
    return owners


def _owners(snapshot: Snapshot, address: str) -> frozenset[bytes]:
    """Everybody who ever held it; nobody for what is no address."""
    try:
        stream = name_stream(address_name(normalise_address(address)))
    except Exception:
        return frozenset()
    owners = set()
    for _, value in snapshot.stream_entries(stream):
        for event in decode_events(value[LOG_HEAD.size :], stream)[3]:
            written = as_written(event)
            fact = decode(written.type, written.version, written.data)
            if isinstance(fact, NameClaimed):
                owners.add(fact.owner)
    return frozenset(owners)


def _stream(text: str) -> bytes:
    try:
        stream = bytes.fromhex(text)
    except ValueError:
        stream = b""
    if len(stream) != STREAM_ID_BYTES:
        raise ValueError(f"streams: {text!r} is not the id of a stream (32 hexadecimal digits)")
    return stream


def _texts(wanted: dict[str, Any], name: str) -> tuple[str, ...]:
    value = wanted.get(name, [])
    if not isinstance(value, list) or not all(isinstance(text, str) and text for text in value):
        raise ValueError(f"{name}: must be a list of texts")
    return tuple(value)


def _types(wanted: dict[str, Any]) -> tuple[str, ...]:
    patterns = _texts(wanted, "types")
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(type_, pattern) for type_ in TYPES):
            raise ValueError(f"types: this version knows no event type {pattern[:60]}{_nearest(pattern)}")
    return patterns


def _nearest(pattern: str) -> str:
    """The types that whoever wrote the pattern may have meant."""
    by_lower = {type_.lower(): type_ for type_ in sorted(TYPES)}
    plain = pattern.lower().strip("*?")[:60]
    found = (
        difflib.get_close_matches(plain, by_lower, 3, 0.4)
        or [lower for lower in by_lower if plain and plain in lower][:3]
    )
    return f"; did you mean {', '.join(by_lower[lower] for lower in found)}?" if found else ""


def _text(wanted: dict[str, Any], name: str) -> str | None:
    value = wanted.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name}: must be text")
    return value


def _number(wanted: dict[str, Any], name: str) -> int | None:
    value = wanted.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise ValueError(f"{name}: must be a whole number from 0")
    return value
