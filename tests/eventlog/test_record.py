"""Records round trip, damaged bytes are refused by name, and commitments bind every field."""

import dataclasses
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.record import (
    FORMAT,
    NO_TENANT,
    Body,
    By,
    Event,
    Guard,
    Record,
    RecordError,
    body_commitment,
    chain_hash,
    check,
    decode,
    decode_with_header,
    digest_of,
    encode,
    event_commitment,
    leaves,
    new_id,
    stream_id,
)
from tests.eventlog import ledger

ids = st.binary(min_size=16, max_size=16)
digests = st.binary(min_size=32, max_size=32)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
events = st.builds(Event, ids, ids, texts, st.integers(1, 255), st.binary(max_size=50), ids)
chunk_keys = st.binary(min_size=48, max_size=48)
bodies = st.builds(Body, ids, digests, ids, st.integers(0, 1 << 50), st.lists(chunk_keys, max_size=3).map(tuple))
guards = st.builds(Guard, ids, st.binary(max_size=480), st.integers(0, 1 << 60))
records = st.builds(
    Record,
    ids,
    st.integers(0, 1 << 60),
    st.builds(By, texts, st.binary(max_size=16), texts),
    texts,
    st.lists(guards, max_size=3).map(tuple),
    st.lists(events, max_size=3).map(tuple),
    st.lists(bodies, max_size=2).map(tuple),
)


@given(records)
def test_a_record_is_read_as_it_was_written(record: Record) -> None:
    check(record)
    assert decode(encode(record)) == record


@given(records)
def test_a_record_has_one_encoding(record: Record) -> None:
    assert encode(decode(encode(record))) == encode(record)


@given(records, st.data())
def test_a_record_cut_short_is_an_error(record: Record, data: st.DataObject) -> None:
    whole = encode(record)
    with pytest.raises(RecordError):
        decode(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(records, st.data())
def test_a_changed_byte_is_an_error_or_another_record_never_anything_else(record: Record, data: st.DataObject) -> None:
    damaged = bytearray(encode(record))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found, header = decode_with_header(bytes(damaged))
    except RecordError:
        return
    assert (found, header) != decode_with_header(encode(record))
    leaves(found, header)  # whatever was read can be hashed


@given(st.binary(max_size=200))
def test_bytes_that_are_no_record_are_an_error(garbage: bytes) -> None:
    with pytest.raises(RecordError):
        decode(garbage)


def test_a_record_of_a_later_format_is_refused_by_its_number() -> None:
    later = msgpack.packb((FORMAT + 1, b"", (), ()))
    with pytest.raises(RecordError, match=f"format {FORMAT + 1}"):
        decode(later)


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": b"short"},
        {"expires_ms": -1},
        {"expires_ms": "soon"},
        {"cause": None},
        {"guards": (Guard(b"short", b"", 0),)},
        {"guards": (Guard(NO_TENANT, bytes(481), 0),)},
        {"guards": (Guard(NO_TENANT, b"k", None),)},  # type: ignore[arg-type]
        {"events": (ledger.event()._replace(version=256),)},
        {"events": (ledger.event()._replace(version=0),)},
        {"events": (ledger.event()._replace(type=7),)},  # type: ignore[arg-type]
        {"events": (ledger.event()._replace(type="A\0B"),)},
        {"events": (ledger.event()._replace(stream=b"short"),)},
        {"events": (ledger.event()._replace(tenant=None),)},  # type: ignore[arg-type]
        {"events": (ledger.event()._replace(salt=b""),)},
        {"events": (ledger.event()._replace(data="text"),)},  # type: ignore[arg-type]
        {"bodies": (ledger.body(b"x")._replace(size=-1),)},
        {"bodies": (ledger.body(b"x")._replace(digest=b"short"),)},
        {"bodies": (ledger.body(b"x")._replace(chunks=(b"short",)),)},
    ],
)
def test_a_record_with_a_field_of_the_wrong_type_or_size_never_enters_the_log(wrong: dict[str, Any]) -> None:
    record = ledger.record()._replace(**wrong)
    with pytest.raises(RecordError):
        check(record)
    with pytest.raises(RecordError):
        decode(encode(record))


@given(events, events)
def test_events_that_differ_in_any_field_have_different_commitments(one: Event, other: Event) -> None:
    assert (event_commitment(one) == event_commitment(other)) == (one == other)
    for field in Event._fields:
        mixed = one._replace(**{field: getattr(other, field)})
        assert (event_commitment(mixed) == event_commitment(one)) == (mixed == one)


@given(bodies, bodies)
def test_bodies_that_differ_in_any_field_have_different_commitments(one: Body, other: Body) -> None:
    for field in Body._fields:
        mixed = one._replace(**{field: getattr(other, field)})
        assert (body_commitment(mixed) == body_commitment(one)) == (mixed == one)


@given(records, records)
def test_records_that_differ_have_different_leaves(one: Record, other: Record) -> None:
    same = leaves(*decode_with_header(encode(one))) == leaves(*decode_with_header(encode(other)))
    assert same == (one == other)


@dataclasses.dataclass(frozen=True)
class Link:
    """What one link of the chain is made of."""

    previous: bytes = bytes(32)
    index: int = 5
    term: int = 2
    kind: int = 0
    at_ms: int = 1000
    outcome: int = 0
    leaves: tuple[bytes, ...] = (bytes(32),)

    def hash(self) -> bytes:
        return chain_hash(*(getattr(self, field.name) for field in dataclasses.fields(self)))


@pytest.mark.parametrize(
    "change",
    [
        {"previous": b"\1" * 32},
        {"index": 6},
        {"term": 3},
        {"kind": 1},
        {"at_ms": 1001},
        {"outcome": 2},
        {"leaves": ()},
        {"leaves": (b"\1" * 32,)},
        {"leaves": (bytes(32), bytes(32))},
    ],
)
def test_the_chain_changes_with_every_field_of_an_entry(change: dict[str, Any]) -> None:
    assert dataclasses.replace(Link(), **change).hash() != Link().hash()


def test_an_erased_event_keeps_its_place_in_the_chain() -> None:
    record = ledger.record(ledger.event("secret"), ledger.event("kept"), bodies=(ledger.body(b"bytes"),))
    whole = leaves(*decode_with_header(encode(record)))
    event, body = record.events[0], record.bodies[0]
    erased = record._replace(
        events=(event._replace(data=b"", salt=event_commitment(event)), record.events[1]),
        bodies=(body._replace(digest=bytes(32), salt=body_commitment(body)),),
    )
    check(erased)
    assert leaves(*decode_with_header(encode(erased))) == whole
    assert b"secret" not in encode(erased)


def test_a_low_entropy_payload_is_not_guessed_from_its_commitment() -> None:
    assert event_commitment(ledger.event("yes")) != event_commitment(ledger.event("yes"))


def test_values_written_down_by_this_version_stay_what_they_are() -> None:
    """The chain is for ever: a change of any of these breaks every log there is."""
    event = Event(bytes(16), stream_id("mailbox", "x"), "Noted", 1, b"data", bytes(16))
    body = Body(bytes(16), digest_of(b"x"), bytes(16), 1, ())
    record = Record(bytes(16), 1000, By("node", b"", "test"), "why", (Guard(bytes(16), b"k", 7),), (event,), (body,))
    link = chain_hash(bytes(32), 1, 1, 0, 5, 0, leaves(*decode_with_header(encode(record))))
    assert stream_id("mailbox", "x").hex() == "d725c8bc88255646f46f070a80b922ea"
    assert digest_of(encode(record)).hex() == "28e87becf3cbfab5c6aafdda5bef6f6eb9de9b908406f813b05d84778c53c2a7"
    assert link.hex() == "7462090a5b945d63a2ed08bf6f5b7c72a27dbb2f478f1e2f4d144ca8c6e5dfbc"


def test_ids_sort_by_the_time_they_were_made_in_and_do_not_repeat() -> None:
    made = [new_id(ms) for ms in (1, 2, 1000, 1 << 40)]
    assert made == sorted(made)
    assert len({new_id(7) for _ in range(1000)}) == 1000
    assert {len(id_) for id_ in made} == {16}
