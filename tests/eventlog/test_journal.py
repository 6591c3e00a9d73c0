"""The journal: entries and their bodies come and go together, and what is on disk is what was committed."""

import os
from pathlib import Path

import pytest

import eventlog.journal
from eventlog import levels
from eventlog.journal import KIND_CONFIG, KIND_NOOP, KIND_RECORD, Command, LmdbJournal
from eventlog.members import Member, change_record
from eventlog.record import RecordError, encode
from eventlog.store import CONFIGS, META, SLICES, Store, open_for_reading
from tests.eventlog import ledger
from tests.eventlog.conftest import MAP_BYTES


@pytest.fixture
def journal(store: Store) -> LmdbJournal:
    return LmdbJournal(store)


def command(*bodies: bytes, at_ms: int = 1000) -> Command:
    """A record with these bodies."""
    return Command(KIND_RECORD, at_ms, ledger.encoded(bodies=tuple(map(ledger.body, bodies))), bodies)


def stored_bytes(store: Store) -> int:
    """How many bodies have bytes on disk."""
    with store.env.begin() as txn:
        return int(txn.stat(store.db[SLICES])["entries"])


def body_of(store: Store, data: bytes) -> bytes | None:
    with store.snapshot() as snapshot:
        return snapshot.body(ledger.TENANT, ledger.body(data).digest)


def test_an_empty_journal_ends_at_index_0_of_term_0(journal: LmdbJournal) -> None:
    assert (journal.last_index, journal.last_term, len(journal)) == (0, 0, 0)
    assert journal.term_at(0) == 0
    assert journal.term_at(1) is None
    assert journal.entries(1, 1000) == []


def test_entries_are_read_back_with_index_and_term(journal: LmdbJournal, store: Store) -> None:
    first, second = command(b"one"), command(at_ms=2000)
    journal.add(first, 1, 1)
    journal.add(second, 2, 3)
    assert (journal.last_index, journal.last_term, journal.last_at_ms) == (2, 3, 2000)
    assert [journal.term_at(i) for i in range(4)] == [0, 1, 3, None]
    store.commit()
    journal.reload()
    assert (journal.last_index, journal.last_term, journal.last_at_ms) == (2, 3, 2000)
    read, index, term = journal.entry(1)
    assert (read.data, read.bodies, read.at_ms, index, term) == (first.data, [b"one"], 1000, 1, 1)


def test_a_gap_in_the_log_is_a_bug_and_not_an_entry(journal: LmdbJournal) -> None:
    with pytest.raises(AssertionError, match="gap"):
        journal.add(command(), 2, 1)


def test_the_noop_of_the_library_is_stored_as_one(journal: LmdbJournal) -> None:
    journal.add(command(at_ms=5000), 1, 1)
    journal.add(bytes((KIND_NOOP,)), 2, 2)
    noop = journal.entry(2)[0]
    assert (noop.kind, noop.data) == (KIND_NOOP, b"")
    assert noop.at_ms >= 5000


def test_what_was_not_committed_is_gone_after_a_reload(journal: LmdbJournal, store: Store) -> None:
    journal.add(command(b"kept"), 1, 1)
    journal.setCurrentTerm(1, "n1")
    store.commit()
    journal.add(command(b"lost"), 2, 2)
    journal.setCurrentTerm(2, "n2")
    journal.setRaftCommitIndex(2)
    store.abort()
    journal.reload()
    assert (journal.last_index, journal.getCurrentTerm(), journal.getVotedForNodeId()) == (1, 1, "n1")
    assert journal.getRaftCommitIndex() == 0
    assert body_of(store, b"lost") is None
    assert body_of(store, b"kept") == b"kept"


def test_term_vote_and_commit_index_survive_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path, MAP_BYTES)
    journal = LmdbJournal(store)
    journal.add(command(), 1, 7)
    journal.setCurrentTerm(7, "n3")
    journal.setRaftCommitIndex(1)
    store.commit()
    store.close()
    store = Store(tmp_path, MAP_BYTES)
    journal = LmdbJournal(store)
    assert (journal.getCurrentTerm(), journal.getVotedForNodeId(), journal.getRaftCommitIndex()) == (7, "n3", 1)
    store.close()


def test_truncation_removes_entries_from_an_index_on(journal: LmdbJournal) -> None:
    for index in range(1, 6):
        journal.add(command(at_ms=index * 1000), index, index)
    journal.deleteEntriesFrom(2)  # a list index, as the library counts: the entry 3 goes
    assert (journal.last_index, journal.last_term, journal.last_at_ms) == (2, 2, 2000)
    assert journal.term_at(3) is None
    with pytest.raises(IndexError):
        journal.entry(3)
    journal.add(command(), 3, 9)
    assert journal.term_at(3) == 9


def test_truncation_of_everything_leaves_an_empty_log(journal: LmdbJournal) -> None:
    journal.add(command(b"x"), 1, 1)
    journal.deleteEntriesFrom(0)
    assert (journal.last_index, journal.last_term, journal.last_at_ms) == (0, 0, 0)
    journal.add(command(b"x"), 1, 2)
    assert journal.entry(1)[2] == 2


def test_a_body_appears_with_its_entry_and_goes_with_it(journal: LmdbJournal, store: Store) -> None:
    journal.add(command(b"first"), 1, 1)
    journal.add(command(b"second"), 2, 1)
    store.commit()
    assert (body_of(store, b"first"), body_of(store, b"second")) == (b"first", b"second")
    journal.deleteEntriesFrom(1)
    store.commit()
    assert (body_of(store, b"first"), body_of(store, b"second")) == (b"first", None)
    assert stored_bytes(store) == 1


def test_a_body_that_two_entries_bring_is_stored_once_and_stays_with_the_first(
    journal: LmdbJournal, store: Store
) -> None:
    journal.add(command(b"same"), 1, 1)
    journal.add(command(b"same"), 2, 1)
    store.commit()
    assert stored_bytes(store) == 1
    journal.deleteEntriesFrom(1)
    store.commit()
    assert body_of(store, b"same") == b"same"
    journal.deleteEntriesFrom(0)
    store.commit()
    assert (body_of(store, b"same"), stored_bytes(store)) == (None, 0)


def test_a_body_named_twice_in_one_entry_is_stored_once(journal: LmdbJournal, store: Store) -> None:
    journal.add(command(b"same", b"same"), 1, 1)
    store.commit()
    assert (body_of(store, b"same"), stored_bytes(store)) == (b"same", 1)
    journal.deleteEntriesFrom(0)
    store.commit()
    assert (body_of(store, b"same"), stored_bytes(store)) == (None, 0)


def test_the_same_bytes_of_two_tenants_are_two_bodies(journal: LmdbJournal, store: Store) -> None:
    other = b"another-tenant!!"
    bodies = (ledger.body(b"x"), ledger.body(b"x", tenant=other))
    journal.add(Command(KIND_RECORD, 1, ledger.encoded(bodies=bodies), (b"x", b"x")), 1, 1)
    store.commit()
    assert stored_bytes(store) == 2
    with store.snapshot() as snapshot:
        assert snapshot.body(other, bodies[1].digest) == b"x"


def test_a_lagging_follower_is_read_what_it_misses_from_disk(
    journal: LmdbJournal, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eventlog.journal, "CACHE_BYTES", 0)
    for index in range(1, 4):
        journal.add(command(b"own %d" % index, b"shared"), index, 1)
    store.commit()
    entries = journal.entries(1, 1 << 20)
    assert [list(entry[0].bodies) for entry in entries] == [
        [b"own 1", b"shared"],
        [b"own 2", None],  # the follower has it with entry 1
        [b"own 3", None],
    ]
    follower = LmdbJournal(other := Store(store.path.parent / "follower", MAP_BYTES, durable=False))
    for read, index, term in entries:
        follower.add(read, index, term)
    other.commit()
    assert [body_of(other, data) for data in (b"own 1", b"own 3", b"shared")] == [b"own 1", b"own 3", b"shared"]
    other.close()


def test_a_follower_that_has_it_from_the_cache_stores_the_same(journal: LmdbJournal, store: Store) -> None:
    journal.add(command(b"a"), 1, 1)
    journal.add(command(b"a", b"b"), 2, 1)
    cached = journal.entries(1, 1 << 20)
    follower = LmdbJournal(other := Store(store.path.parent / "follower", MAP_BYTES, durable=False))
    for read, index, term in cached:
        follower.add(read, index, term)
    store.commit()
    other.commit()
    with store.snapshot() as one, other.snapshot() as two:
        assert list(one.raw(SLICES)) == list(two.raw(SLICES))
    other.close()


def test_entries_stop_at_the_byte_limit_but_never_before_the_first(journal: LmdbJournal) -> None:
    for index in range(1, 6):
        journal.add(command(bytes(1000)), index, 1)
    assert [index for _, index, _ in journal.entries(2, 1)] == [2]
    assert [index for _, index, _ in journal.entries(2, 3000)] == [2, 3]
    assert [index for _, index, _ in journal.entries(2, 1 << 20)] == [2, 3, 4, 5]
    assert journal.entries(6, 1000) == []


def test_the_cache_keeps_to_its_limit(journal: LmdbJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eventlog.journal, "CACHE_BYTES", 10_000)
    for index in range(1, 50):
        journal.add(command(bytes(1000)), index, 1)
    assert sum(entry[0].size_bytes for entry in journal._cache.values()) <= 10_000
    assert journal.entry(1)[0].size_bytes > 1000


def test_an_entry_that_is_no_record_is_kept_as_it_came(journal: LmdbJournal, store: Store) -> None:
    journal.add(Command(KIND_RECORD, 1, b"not a record", (b"bytes",)), 1, 1)
    store.commit()
    journal.reload()
    assert journal.entry(1)[0].data == b"not a record"
    assert stored_bytes(store) == 0
    journal.deleteEntriesFrom(0)


def test_a_large_body_is_put_together_from_its_chunks_once_its_record_took_effect(
    journal: LmdbJournal, store: Store
) -> None:
    for index, chunk in enumerate((b"one", b"two"), 1):
        record = ledger.chunk_record(chunk)
        journal.add(Command(KIND_RECORD, 1, encode(record), (chunk,)), index, 1)
    whole = ledger.record(bodies=(ledger.body(b"onetwo", b"one", b"two"),))
    journal.add(Command(KIND_RECORD, 1, encode(whole), (b"",)), 3, 1)
    store.commit()
    assert body_of(store, b"onetwo") is None
    journal.add_composites(3, whole)
    store.commit()
    assert body_of(store, b"onetwo") == b"onetwo"


def test_a_dropped_body_is_gone_and_replicates_as_its_digest(journal: LmdbJournal, store: Store) -> None:
    journal.add(command(b"going"), 1, 1)
    journal.drop_body(ledger.TENANT + ledger.body(b"going").digest)
    store.commit()
    journal.reload()
    assert (body_of(store, b"going"), stored_bytes(store)) == (None, 0)
    assert list(journal.entry(1)[0].bodies) == [None]


def test_the_log_is_never_compacted_away(journal: LmdbJournal) -> None:
    with pytest.raises(NotImplementedError):
        journal.deleteEntriesTo(1)
    with pytest.raises(NotImplementedError):
        journal.clear()


def test_the_library_reads_it_as_a_list(journal: LmdbJournal) -> None:
    for index in range(1, 4):
        journal.add(command(), index, index)
    assert journal[-1][1:] == (3, 3)
    assert journal[0][1:] == (1, 1)
    assert [entry[1] for entry in journal[1:]] == [2, 3]


# -- configurations ---------------------------------------------------------------------------------------------------


def configuration(*names: str) -> Command:
    members = tuple(Member(name, f"{name}.test:1", True) for name in names)
    return Command(KIND_CONFIG, 1000, encode(change_record(members, ledger.CLIENT, "a test", 1000, os.urandom)))


def test_a_configuration_is_kept_with_its_entry_and_goes_with_it(journal: LmdbJournal, store: Store) -> None:
    journal.add(configuration("n1"), 1, 1)
    journal.add(command(), 2, 1)
    journal.add(configuration("n1", "n2"), 3, 1)
    store.commit()
    assert [config.position for config in LmdbJournal(store).configurations()] == [1, 3]
    journal.deleteEntriesFrom(2)
    assert journal.config == journal.configurations()[-1]
    assert [config.position for config in journal.configurations()] == [1]
    store.commit()
    assert LmdbJournal(store).config == journal.config


def test_a_configuration_that_was_not_committed_to_disk_is_not_in_force(journal: LmdbJournal, store: Store) -> None:
    journal.add(configuration("n1"), 1, 1)
    store.abort()
    journal.reload()
    assert journal.config is None


@pytest.mark.parametrize(
    "data", [b"", b"x", ledger.encoded(), encode(levels.raise_record(2, ledger.CLIENT, "", 1, os.urandom))]
)
def test_what_is_no_configuration_is_not_appended_as_one(journal: LmdbJournal, data: bytes) -> None:
    with pytest.raises(RecordError):
        journal.add(Command(KIND_CONFIG, 1000, data), 1, 1)
    assert (journal.last_index, journal.config) == (0, None)


def test_a_database_of_the_first_release_opens_for_reading_and_for_writing(tmp_path: Path) -> None:
    """It has no table of configurations."""
    store = Store(tmp_path, MAP_BYTES)
    LmdbJournal(store).add(command(), 1, 1)
    store.commit()
    with store.env.begin(write=True) as txn:
        txn.drop(store.db[CONFIGS])
        txn.delete(b"born", db=store.db[META])
    store.close()
    with open_for_reading(tmp_path) as old:
        assert (LmdbJournal(old).last_index, LmdbJournal(old).config) == (1, None)
    store = Store(tmp_path, MAP_BYTES)
    journal = LmdbJournal(store)
    journal.add(configuration("n1"), 2, 1)
    store.commit()
    assert journal.config is not None
    store.close()
