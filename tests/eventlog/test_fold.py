"""The fold: what takes effect, what is refused and how, and that every node and every refold says the same."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

import eventlog.fold
from eventlog import levels, uploads
from eventlog.errors import FoldStalled, UnknownEvent
from eventlog.fold import Fold, Folded, Outcome
from eventlog.journal import KIND_CONFIG, KIND_NOOP, KIND_RECORD, Command, LmdbJournal
from eventlog.members import MEMBERS, Member, change_record, rows
from eventlog.overlay import OverlayView
from eventlog.record import Body, Event, Guard, Record, Stamp, encode
from eventlog.replay import view_as_of
from eventlog.store import FOLDED, IDS, LOG, POSITION, Store
from eventlog.verify import verify_store
from eventlog.views import View
from tests.eventlog import ledger
from tests.eventlog.conftest import MAP_BYTES

START_MS = 1_000_000


class Node:
    """A store, its journal and its fold, without consensus: what is appended is committed."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.journal = LmdbJournal(store)
        self.fold = Fold(store, self.journal, ledger.evolve)
        self.term = 1

    def append(self, record: Record, at_ms: int = START_MS, data: tuple[bytes, ...] = ()) -> None:
        self.journal.add(Command(KIND_RECORD, at_ms, encode(record), data), self.journal.last_index + 1, self.term)

    def fold_next(self) -> Folded:
        return self.fold.apply(self.journal.entry(self.fold.applied + 1))

    def take(self, record: Record, at_ms: int = START_MS, data: tuple[bytes, ...] = ()) -> Folded:
        """A tick of its own for one record."""
        self.append(record, at_ms, data)
        folded = self.fold_next()
        self.end_tick()
        return folded

    def end_tick(self) -> None:
        self.fold.flush()
        self.store.commit()

    def view(self, stream: bytes = ledger.STREAM) -> Any:
        return self.store.snapshot().view(stream)

    def rows(self, name: bytes) -> list[tuple[bytes, bytes]]:
        with self.store.snapshot() as snapshot:
            return list(snapshot.raw(name))

    def tables(self) -> dict[bytes, list[tuple[bytes, bytes]]]:
        return {name: self.rows(name) for name in FOLDED}

    def has(self, body: Body) -> bytes | None:
        with self.store.snapshot() as snapshot:
            return snapshot.body(body.tenant, body.digest)


@pytest.fixture
def node(store: Store) -> Node:
    return Node(store)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Node]:
    store = Store(tmp_path / "other", MAP_BYTES, durable=False)
    yield Node(store)
    store.close()


def record(*events: Event, expires_ms: int = START_MS + 60_000, **fields: Any) -> Record:
    return ledger.record(*events, expires_ms=expires_ms, **fields)


# -- taking effect ----------------------------------------------------------------------------------------------------


def test_a_record_takes_effect_and_gives_a_fact_and_a_result_for_each_event(node: Node) -> None:
    folded = node.take(record(ledger.event("a"), ledger.event("b"), ledger.event("c", stream=ledger.OTHER)))
    assert folded.outcome is Outcome.COMMITTED
    assert folded.facts == ("a", "b", "c")
    assert folded.results == ((1, 1), (2, 1), (1, 1))
    assert ledger.facts(node.view()) == ["a", "b"]
    assert ledger.facts(node.view(ledger.OTHER)) == ["c"]


def test_evolve_is_told_the_stamp_of_its_record(store: Store) -> None:
    stamps: list[Stamp] = []

    def evolve(view: View, event: Event, stamp: Stamp) -> tuple[Any, Any]:
        stamps.append(stamp)
        return None, None

    node = Node(store)
    node.fold = Fold(store, node.journal, evolve)
    node.term = 7
    made = record()
    node.take(made, START_MS + 5)
    assert stamps == [Stamp(1, START_MS + 5, 7, made.id, made.by, made.cause, levels.OLDEST)]


def test_the_versions_of_rows_and_streams_follow_the_log(node: Node) -> None:
    node.take(record(ledger.event("a"), ledger.event("b")))
    node.take(record(ledger.event("c")))
    assert node.view().version(b"n") == 2
    assert node.view().version(b"e" + (1).to_bytes(8, "big")) == 1
    assert node.view().version(b"") == 3


def test_a_leaders_noop_moves_the_head_and_nothing_else(node: Node) -> None:
    node.journal.add(Command(KIND_NOOP, START_MS, b""), 1, 1)
    folded = node.fold_next()
    node.end_tick()
    assert (folded.outcome, folded.record, node.fold.applied) == (Outcome.NOTHING, None, 1)
    assert node.rows(b"tables") == []


def test_what_is_no_record_is_refused_and_the_log_goes_on(node: Node) -> None:
    node.journal.add(Command(KIND_RECORD, START_MS, b"garbage"), 1, 1)
    assert node.fold_next().outcome is Outcome.BAD_RECORD
    assert node.take(record()).outcome is Outcome.COMMITTED
    assert verify_store(node.store).ok


def test_a_hostile_record_is_refused_and_does_not_stop_the_node(node: Node) -> None:
    hostile = record(ledger.event()._replace(version=300))
    assert node.take(hostile).outcome is Outcome.BAD_RECORD
    assert node.take(record(guards=(Guard(ledger.STREAM, bytes(600), 0),))).outcome is Outcome.BAD_RECORD
    assert node.take(record()).outcome is Outcome.COMMITTED


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_a_record_is_good_until_the_millisecond_it_expires_in(node: Node) -> None:
    assert node.take(record(expires_ms=START_MS), START_MS).outcome is Outcome.COMMITTED
    assert node.take(record(expires_ms=START_MS), START_MS + 1).outcome is Outcome.EXPIRED
    assert len(ledger.facts(node.view())) == 1


def test_a_record_with_an_id_that_was_folded_is_a_duplicate(node: Node) -> None:
    made = record()
    assert node.take(made).outcome is Outcome.COMMITTED
    assert node.take(made, START_MS + 10).outcome is Outcome.DUPLICATE
    assert node.fold.first_outcome(made) == (Outcome.COMMITTED, 1)
    assert len(ledger.facts(node.view())) == 1


def test_a_duplicate_in_the_same_tick_is_found_too(node: Node) -> None:
    made = record()
    node.append(made)
    node.append(made)
    assert [node.fold_next().outcome, node.fold_next().outcome] == [Outcome.COMMITTED, Outcome.DUPLICATE]
    assert node.fold.first_outcome(made) == (Outcome.COMMITTED, 1)


def test_a_duplicate_is_found_among_ids_that_expire_before_and_after_it(node: Node) -> None:
    early, late = record(expires_ms=START_MS + 1000), record(expires_ms=START_MS + 9000)
    between, never_seen = record(expires_ms=START_MS + 5000), record(expires_ms=START_MS + 5001)
    for made in (between, late, early):
        assert node.take(made).outcome is Outcome.COMMITTED
    assert node.take(between).outcome is Outcome.DUPLICATE
    assert node.take(never_seen).outcome is Outcome.COMMITTED


def test_a_fold_that_begins_anew_knows_the_ids_on_disk(node: Node) -> None:
    made = record()
    node.take(made)
    node.fold.reload()
    assert node.take(made).outcome is Outcome.DUPLICATE


def test_a_retry_of_a_refused_record_stays_refused(node: Node) -> None:
    made = record(guards=(Guard(ledger.STREAM, b"n", 5),))
    assert node.take(made).outcome is Outcome.GUARD
    assert node.take(made).outcome is Outcome.DUPLICATE
    assert node.fold.first_outcome(made) == (Outcome.GUARD, 1)


@pytest.mark.parametrize(("version", "outcome"), [(1, Outcome.COMMITTED), (0, Outcome.GUARD), (2, Outcome.GUARD)])
def test_a_row_guard_holds_only_for_the_position_of_its_last_write(node: Node, version: int, outcome: Outcome) -> None:
    node.take(record())
    assert node.take(record(guards=(Guard(ledger.STREAM, b"n", version),))).outcome is outcome


@pytest.mark.parametrize(("version", "outcome"), [(2, Outcome.COMMITTED), (0, Outcome.GUARD), (1, Outcome.GUARD)])
def test_a_stream_guard_holds_only_for_its_number_of_events(node: Node, version: int, outcome: Outcome) -> None:
    node.take(record(ledger.event(), ledger.event()))
    assert node.take(record(guards=(Guard(ledger.STREAM, b"", version),))).outcome is outcome


def test_of_two_claims_at_version_0_the_first_in_the_log_wins(node: Node) -> None:
    guard = (Guard(ledger.STREAM, b"", 0),)
    node.append(record(ledger.event("first"), guards=guard))
    node.append(record(ledger.event("second"), guards=guard))
    assert [node.fold_next().outcome, node.fold_next().outcome] == [Outcome.COMMITTED, Outcome.GUARD]
    node.end_tick()
    assert ledger.facts(node.view()) == ["first"]


def test_a_guard_on_an_absent_row_holds_until_it_is_written(node: Node) -> None:
    guard = (Guard(ledger.OTHER, b"n", 0),)
    assert node.take(record(guards=guard)).outcome is Outcome.COMMITTED
    node.take(record(ledger.event(stream=ledger.OTHER)))
    assert node.take(record(guards=guard)).outcome is Outcome.GUARD


def test_one_failed_guard_refuses_the_whole_record(node: Node) -> None:
    guards = (Guard(ledger.STREAM, b"", 0), Guard(ledger.OTHER, b"n", 9))
    folded = node.take(record(ledger.event(), ledger.event(stream=ledger.OTHER), guards=guards))
    assert (folded.outcome, folded.facts, folded.results) == (Outcome.GUARD, (), ())
    assert node.rows(b"tables") == []
    assert node.rows(b"streams") == []


def test_a_record_that_writes_too_many_rows_is_refused_and_leaves_none(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eventlog.fold, "ROW_BUDGET", 6)
    folded = node.take(record(*(ledger.event(i) for i in range(5))))
    assert (folded.outcome, folded.results) == (Outcome.TOO_LARGE, ())
    assert node.rows(b"tables") == []
    assert node.take(record(ledger.event())).outcome is Outcome.COMMITTED


# -- a fold that raises -----------------------------------------------------------------------------------------------


def test_an_event_that_raises_stalls_the_fold_with_nothing_changed(node: Node) -> None:
    node.take(record(ledger.event("before")))
    before, chain = node.tables(), node.fold.chain
    failing = record(ledger.event("half"), ledger.event(type_="Fail"), expires_ms=START_MS + 10_000)
    node.append(failing, START_MS + 5000)
    with pytest.raises(FoldStalled, match="record 2"):
        node.fold_next()
    node.end_tick()
    assert (node.fold.applied, node.fold.at_ms, node.fold.chain) == (1, START_MS, chain)
    assert node.tables() == before


def test_a_stalled_fold_stalls_at_the_same_record_again(node: Node) -> None:
    node.append(record(ledger.event(type_="Fail")))
    for _ in range(2):
        with pytest.raises(FoldStalled, match="record 1"):
            node.fold_next()
    node.fold.reload()
    with pytest.raises(FoldStalled, match="record 1"):
        node.fold_next()


def test_an_event_of_a_later_version_is_named_with_its_position_and_changes_nothing(node: Node) -> None:
    node.take(record(ledger.event("before")))
    before, chain = node.tables(), node.fold.chain
    node.append(record(ledger.event("half"), ledger.event(type_="OfALaterVersion")))
    with pytest.raises(UnknownEvent, match="position 2 holds an event type OfALaterVersion of a later version"):
        node.fold_next()
    node.end_tick()
    assert (node.fold.applied, node.fold.chain, node.tables()) == (1, chain, before)


# -- the cell's own entries -------------------------------------------------------------------------------------------


def members_record(*names: str, at_ms: int = START_MS) -> Record:
    members = tuple(Member(name, f"{name}.test:1", name == "n1") for name in names)
    return change_record(members, ledger.CLIENT, "a test", at_ms, os.urandom)


def append_members(node: Node, *names: str, at_ms: int = START_MS) -> None:
    data = encode(members_record(*names, at_ms=at_ms))
    node.journal.add(Command(KIND_CONFIG, at_ms, data), node.journal.last_index + 1, node.term)


def test_a_configuration_is_folded_into_rows_that_say_who_is_a_member_since_when(node: Node) -> None:
    append_members(node, "n1", "n2")
    node.fold_next()
    append_members(node, "n1", "n3", at_ms=START_MS + 5)
    folded = node.fold_next()
    node.end_tick()
    assert folded.outcome is Outcome.COMMITTED
    assert rows(node.view(MEMBERS)) == [
        ("n1", ("n1.test:1", True, 1, START_MS)),
        ("n3", ("n3.test:1", False, 2, START_MS + 5)),
    ]
    assert node.view(MEMBERS).version(b"") == 2


def test_a_configuration_takes_effect_whatever_the_time(node: Node) -> None:
    """It was in force when it was appended: to call it expired would only make the tables lie."""
    data = encode(members_record("n1", at_ms=1000))
    node.journal.add(Command(KIND_CONFIG, START_MS * 10, data), 1, node.term)
    assert node.fold_next().outcome is Outcome.COMMITTED


def test_configurations_are_in_the_chain(node: Node) -> None:
    append_members(node, "n1", "n2")
    node.fold_next()
    node.end_tick()
    assert verify_store(node.store).ok
    _flip_log(node.store, 1)
    assert not verify_store(node.store).ok


def test_the_feature_level_is_what_the_log_says_and_never_falls(node: Node) -> None:
    assert node.fold.level == levels.OLDEST
    for level, expected in ((2, 2), (4, 4), (3, 4)):
        node.take(levels.raise_record(level, ledger.CLIENT, "a test", START_MS, os.urandom))
        assert node.fold.level == expected
    node.fold.reload()
    assert node.fold.level == 4


def test_the_cells_own_streams_can_be_seen_as_of_a_position(node: Node) -> None:
    append_members(node, "n1")
    node.fold_next()
    append_members(node, "n1", "n2")
    node.fold_next()
    node.take(levels.raise_record(2, ledger.CLIENT, "a test", START_MS, os.urandom))
    with node.store.snapshot() as snapshot:
        assert [name for name, _ in rows(view_as_of(snapshot, MEMBERS, ledger.evolve, position=1))] == ["n1"]
        assert levels.in_force(view_as_of(snapshot, levels.LEVEL, ledger.evolve)) == 2


def test_a_look_back_folds_each_record_at_the_level_that_it_was_folded_at(store: Store) -> None:
    stamps: list[Stamp] = []

    def evolve(view: View, event: Event, stamp: Stamp) -> tuple[Any, Any]:
        stamps.append(stamp)
        return None, None

    node = Node(store)
    node.fold = Fold(store, node.journal, evolve)
    for level in (None, 2, 3, None, 3):
        if level is not None:
            node.take(levels.raise_record(level, ledger.CLIENT, "a test", START_MS, os.urandom))
        node.take(record(ledger.event("a")))
    live, stamps = stamps, []
    assert [stamp.level for stamp in live] == [1, 2, 3, 3, 3]
    with store.snapshot() as snapshot:
        view_as_of(snapshot, ledger.STREAM, evolve)
    assert stamps == live


def _flip_log(store: Store, position: int) -> None:
    key = POSITION.pack(position)
    with store.env.begin(write=True) as txn:
        value = bytearray(txn.get(key, db=store.db[LOG]) or b"")
        value[-20] ^= 1
        txn.put(key, bytes(value), db=store.db[LOG])


# -- chunks -----------------------------------------------------------------------------------------------------------


def test_chunks_are_not_dropped_by_a_record_that_does_not_take_effect(node: Node) -> None:
    chunk = ledger.chunk_record(b"chunk", expires_ms=START_MS + 60_000)
    node.take(chunk, START_MS, (b"chunk",))
    collected = Event(bytes(16), uploads.UPLOADS, uploads.CHUNKS_COLLECTED, 1, _collection_data(chunk), bytes(16))
    node.append(record(collected, ledger.event(type_="Fail")))
    with pytest.raises(FoldStalled):
        node.fold_next()
    node.end_tick()
    assert node.has(chunk.bodies[0]) == b"chunk"


# -- large bodies -----------------------------------------------------------------------------------------------------

CHUNKS = (b"one", b"two")
LARGE = b"onetwo"


def upload(node: Node, at_ms: int = START_MS, chunks: tuple[bytes, ...] = CHUNKS) -> None:
    for chunk in chunks:
        made = ledger.chunk_record(chunk, expires_ms=at_ms + 60_000)
        assert node.take(made, at_ms, (chunk,)).outcome is Outcome.COMMITTED


def large(**fields: Any) -> Record:
    return record(bodies=(ledger.body(LARGE, *CHUNKS),), **fields)


def collection(node: Node, before_ms: int, at_ms: int) -> Folded:
    """What the leader proposes now and then."""
    found = uploads.unclaimed(node.view(uploads.UPLOADS), before_ms)
    _, data = uploads.collection(found, before_ms, at_ms, "n1")
    node.journal.add(Command(KIND_RECORD, at_ms, data), node.journal.last_index + 1, 1)
    folded = node.fold_next()
    node.end_tick()
    return folded


def _collection_data(chunk: Record) -> bytes:
    body = chunk.bodies[0]
    return bytes(msgpack.packb((START_MS + 1, [body.tenant + body.digest])))


def test_a_large_body_is_read_whole_once_its_record_took_effect(node: Node) -> None:
    upload(node)
    made = large()
    assert node.has(made.bodies[0]) is None
    assert node.take(made, data=(b"",)).outcome is Outcome.COMMITTED
    assert node.has(made.bodies[0]) == LARGE


def test_a_record_made_of_a_missing_chunk_is_refused(node: Node) -> None:
    upload(node, chunks=CHUNKS[:1])
    made = large()
    assert node.take(made, data=(b"",)).outcome is Outcome.CHUNK_GONE
    assert node.has(made.bodies[0]) is None


def test_a_refused_attempt_does_not_take_the_body_from_the_one_that_follows_in_the_same_tick(node: Node) -> None:
    upload(node)
    node.append(large(guards=(Guard(ledger.STREAM, b"n", 9),)), data=(b"",))
    retry = large()
    node.append(retry, data=(b"",))
    assert [node.fold_next().outcome, node.fold_next().outcome] == [Outcome.GUARD, Outcome.COMMITTED]
    node.end_tick()
    assert node.has(retry.bodies[0]) == LARGE


def test_chunks_that_nobody_claims_are_collected(node: Node) -> None:
    upload(node)
    later = START_MS + uploads.CLAIM_MS + 1
    assert collection(node, START_MS + 1, later).outcome is Outcome.COMMITTED
    assert node.rows(b"slices") == []
    assert node.rows(b"bodies") == []
    assert uploads.unclaimed(node.view(uploads.UPLOADS), later) == []
    made = large(expires_ms=later + 1000)
    assert node.take(made, later, (b"",)).outcome is Outcome.CHUNK_GONE


def test_a_claim_that_comes_before_the_collection_wins(node: Node) -> None:
    upload(node)
    found = uploads.unclaimed(node.view(uploads.UPLOADS), START_MS + 1)
    assert len(found) == 2
    made = large()
    node.append(made, data=(b"",))
    _, data = uploads.collection(found, START_MS + 1, START_MS, "n1")
    node.journal.add(Command(KIND_RECORD, START_MS, data), node.journal.last_index + 1, 1)
    assert [node.fold_next().outcome, node.fold_next().outcome] == [Outcome.COMMITTED, Outcome.COMMITTED]
    node.end_tick()
    assert node.has(made.bodies[0]) == LARGE


def test_chunks_younger_than_the_limit_are_not_collected(node: Node) -> None:
    upload(node, START_MS)
    assert uploads.unclaimed(node.view(uploads.UPLOADS), START_MS) == []
    assert len(uploads.unclaimed(node.view(uploads.UPLOADS), START_MS + 1)) == 2


def test_claimed_chunks_are_not_offered_for_collection(node: Node) -> None:
    upload(node)
    node.take(large(), data=(b"",))
    assert uploads.unclaimed(node.view(uploads.UPLOADS), START_MS + 1) == []


def test_a_chunk_is_not_shared_with_a_message_of_the_same_bytes(node: Node) -> None:
    small = record(bodies=(ledger.body(b"one"),))
    node.take(small, data=(b"one",))
    upload(node)
    collection(node, START_MS + 1, START_MS + 2)
    assert node.has(small.bodies[0]) == b"one"


def test_a_body_of_the_same_chunk_twice_is_whole(node: Node) -> None:
    upload(node, chunks=(b"00",))
    made = record(bodies=(ledger.body(b"0000", b"00", b"00"),))
    assert node.take(made, data=(b"",)).outcome is Outcome.COMMITTED
    assert node.has(made.bodies[0]) == b"0000"


# -- forgetting ids ---------------------------------------------------------------------------------------------------


def test_ids_are_forgotten_in_log_time_and_a_retry_after_that_is_expired(node: Node) -> None:
    made = record(expires_ms=START_MS + 1500)
    node.take(made)
    assert len(node.rows(IDS)) == 1
    assert node.take(made, START_MS + 1500).outcome is Outcome.DUPLICATE
    node.take(record(expires_ms=START_MS + 90_000), START_MS + 5000)
    assert made.id not in {key[8:] for key, _ in node.rows(IDS)}
    assert node.take(made, START_MS + 5000).outcome is Outcome.EXPIRED
    assert len(ledger.facts(node.view())) == 2


def test_ids_are_kept_until_they_expire(node: Node) -> None:
    made = record(expires_ms=START_MS + 60_000)
    node.take(made)
    for second in range(1, 60):
        node.take(record(expires_ms=START_MS + 61_000), START_MS + second * 1000)
    assert node.take(made, START_MS + 60_000).outcome is Outcome.DUPLICATE


def test_expired_attempts_leave_no_id_behind(node: Node) -> None:
    node.take(record(expires_ms=START_MS - 1))
    assert node.rows(IDS) == []


# -- the same everywhere ----------------------------------------------------------------------------------------------


def story() -> list[tuple[Record, int, tuple[bytes, ...]]]:
    """A log with a bit of everything."""
    twice = record(ledger.event("twice"), expires_ms=START_MS + 2500)
    told: list[tuple[Record, int, tuple[bytes, ...]]] = [
        (record(ledger.event(1), ledger.event(2, stream=ledger.OTHER)), START_MS, ()),
        (twice, START_MS + 100, ()),
        (twice, START_MS + 200, ()),
        (record(guards=(Guard(ledger.STREAM, b"n", 1),)), START_MS + 300, ()),
        (ledger.chunk_record(b"one", expires_ms=START_MS + 9000), START_MS + 1400, (b"one",)),
        (ledger.chunk_record(b"two", expires_ms=START_MS + 9000), START_MS + 1400, (b"two",)),
        (large(guards=(Guard(ledger.STREAM, b"n", 7),)), START_MS + 1500, (b"",)),
        (large(), START_MS + 2600, (b"",)),
        (twice, START_MS + 2700, ()),
        (record(expires_ms=START_MS), START_MS + 2800, ()),
    ]
    return told


def test_chain_and_tables_do_not_depend_on_how_ticks_are_cut(node: Node, other: Node) -> None:
    told = story()
    outcomes = [node.take(made, at_ms, data).outcome for made, at_ms, data in told]
    for made, at_ms, data in told:
        other.append(made, at_ms, data)
    assert [other.fold_next().outcome for _ in told] == outcomes
    other.end_tick()
    assert other.tables() == node.tables()
    assert other.fold.chain == node.fold.chain
    assert Outcome.GUARD in outcomes
    assert outcomes.count(Outcome.COMMITTED) == 5


def test_a_crash_between_ticks_changes_nothing(node: Node, other: Node) -> None:
    for made, at_ms, data in story():
        other.take(made, at_ms, data)
        node.append(made, at_ms, data)
        node.end_tick()
        node.fold_next()
        node.fold.flush()
        node.store.abort()  # the power goes before the commit
        node.fold.reload()
        node.fold_next()
        node.end_tick()
    assert other.tables() == node.tables()


def test_the_chain_is_what_verification_computes(node: Node) -> None:
    for made, at_ms, data in story():
        node.take(made, at_ms, data)
    report = verify_store(node.store)
    assert (report.ok, report.records, report.head) == (True, len(story()), node.fold.chain)


def test_nodes_that_decide_otherwise_have_other_chains(node: Node, other: Node) -> None:
    first = record(ledger.event(stream=ledger.OTHER))
    node.take(first)
    other.take(first)
    assert node.fold.chain == other.fold.chain
    made = record(guards=(Guard(ledger.STREAM, b"n", 0),))
    OverlayView(other.fold._overlay, ledger.STREAM, 1).put(b"n", 1)  # a table that is not what the log says
    other.fold._overlay.commit_record()
    assert (node.take(made).outcome, other.take(made).outcome) == (Outcome.COMMITTED, Outcome.GUARD)
    assert node.fold.chain != other.fold.chain


def test_positions_of_a_stream_are_those_that_took_effect_on_it(node: Node) -> None:
    node.take(record(ledger.event(stream=ledger.OTHER)))
    node.take(record(ledger.event(), ledger.event()))
    node.take(record(guards=(Guard(ledger.STREAM, b"n", 9),)))
    node.take(record())
    with node.store.snapshot() as snapshot:
        assert list(snapshot.stream_positions(ledger.STREAM)) == [2, 4]
        assert list(snapshot.stream_positions(ledger.STREAM, last=3)) == [2]
