"""Backups: they grow, survive what kills their maker, and give back the log; or say which file does not."""

import hashlib
import json
import os
from pathlib import Path

import msgpack
import pytest

from eventlog.backup import BackupSource, Grown, StoreFeed, compare_head, grow, prune, verify_backup
from eventlog.backup_erasure import carry_out, scrub
from eventlog.backup_manifest import BackupError
from eventlog.backup_rewrite import MERGE_FROM, merge, rekey
from eventlog.backup_set import MANIFEST, BackupSet
from eventlog.custody import (
    CUSTODY,
    KIND_QUARANTINE,
    LOG_REDACTED,
    RECORD_QUARANTINED,
    RedactedBody,
    RedactedEvent,
)
from eventlog.journal import KIND_CONFIG, KIND_RECORD, Command, LmdbJournal
from eventlog.members import Configuration, Member, change_record
from eventlog.rebuild import rebuild_store
from eventlog.record import NO_TENANT, Body, Event, encode, new_salt
from eventlog.restore import RestoreError, Source, begin_cell, find_cut, restore
from eventlog.segment_frames import SegmentError
from eventlog.segment_keys import KeyFileError, KeyRing
from eventlog.segment_source import StoreSource
from eventlog.segments import SegmentRecord
from eventlog.store import FOLDED, LOG, NAMES, POSITION, Store, open_for_reading
from eventlog.store_checkpoint import TrustedSource
from eventlog.verify import verify_store
from tests.eventlog import ledger
from tests.eventlog.conftest import MAP_BYTES
from tests.eventlog.folded import CELL, KEYS, START_MS, Log, record, stored, tell

NEW_KEYS = KeyRing([bytes(range(32)), bytes(range(1, 33))])


@pytest.fixture
def log(store: Store) -> Log:
    log = Log(store)
    tell(log)
    return log


@pytest.fixture
def backup(tmp_path: Path) -> BackupSet:
    return BackupSet.create(tmp_path / "backup", CELL, KEYS)


def run(backup: BackupSet, log: Log, now_ms: int = 0, *, full: bool = False) -> Grown:
    with backup.locked():
        return grow(backup, StoreFeed(log.store, CELL, most_bytes=500), lambda: now_ms, full=full)


def everything(backup: BackupSet) -> list[SegmentRecord]:
    return list(BackupSource(backup).records(1, 1 << 60))


def reopened(backup: BackupSet, keys: KeyRing | None = KEYS) -> BackupSet:
    return BackupSet.open(backup.folder, keys)


# -- growing ----------------------------------------------------------------------------------------------------------


def test_a_backup_is_the_log(log: Log, backup: BackupSet) -> None:
    run(backup, log)
    assert len(backup.current.segments) > 2
    assert everything(reopened(backup)) == stored(log.store)


def test_the_next_run_adds_what_came_since(log: Log, backup: BackupSet) -> None:
    run(backup, log)
    before = backup.current.segments
    log.add(record("later"))
    log.flush()
    run(reopened(backup), log)
    after = reopened(backup)
    assert after.current.segments[: len(before)] == before
    assert [one.header.first for one in after.current.segments[len(before) :]] == [13]
    assert everything(after) == stored(log.store)


def test_a_run_with_nothing_new_adds_nothing(log: Log, backup: BackupSet) -> None:
    run(backup, log)
    files = sorted(backup.folder.iterdir())
    run(backup, log)
    assert sorted(backup.folder.iterdir()) == files


class _Dies(Exception):
    """Stands for the kill of the process."""


def test_a_run_that_ends_anywhere_leaves_a_good_backup_that_the_next_goes_on_with(log: Log, tmp_path: Path) -> None:
    for written in range(6):
        backup = BackupSet.create(tmp_path / str(written), CELL, KEYS)
        left = written

        def now_ms() -> int:
            """Asked once at the start, then for each segment, after it is a file and before it is listed."""
            nonlocal left
            if left == 0:
                raise _Dies
            left -= 1
            return 0

        with backup.locked(), pytest.raises(_Dies):
            grow(backup, StoreFeed(log.store, CELL, most_bytes=300), now_ms)
        (backup.folder / "segment-999-half.partial").write_bytes(b"half a segment")
        if written > 1:
            assert verify_backup(reopened(backup)).segments == written - 1
            backup = reopened(backup)
        run(backup, log)
        assert everything(reopened(backup)) == stored(log.store)
        listed = {one.file for one in backup.current.segments}
        assert {path.name for path in backup.folder.glob("segment-*")} == listed


def test_two_runs_do_not_write_to_one_backup(backup: BackupSet) -> None:
    other = BackupSet.create(backup.folder, CELL, KEYS)
    with backup.locked(), pytest.raises(BackupError, match="another process"), other.locked():
        pass


def test_a_run_goes_on_from_what_another_one_has_added_meanwhile(log: Log, backup: BackupSet) -> None:
    run(backup, log)
    late = reopened(backup)
    log.add(record("later"))
    log.flush()
    run(backup, log)
    assert run(late, log).segments == 0
    assert everything(reopened(backup)) == stored(log.store)


def test_the_log_of_another_cell_is_refused(log: Log, backup: BackupSet) -> None:
    run(backup, log)
    with pytest.raises(BackupError, match="of the cell cell-of-tests, and this is another"), backup.locked():
        grow(backup, StoreFeed(log.store, "another"), lambda: 0)


def test_another_history_of_the_same_cell_is_refused(log: Log, backup: BackupSet, tmp_path: Path) -> None:
    run(backup, log)
    other = Log(Store(tmp_path / "other", MAP_BYTES, durable=False))
    for number in range(20):
        other.add(record(number))
    other.flush()
    with pytest.raises(BackupError, match="another history"):
        run(backup, other)
    with pytest.raises(BackupError, match="was altered"):
        compare_head(backup, StoreFeed(other.store, CELL))
    compare_head(backup, StoreFeed(log.store, CELL))
    other.store.close()


def test_a_log_that_is_behind_its_backup_is_refused(log: Log, backup: BackupSet, tmp_path: Path) -> None:
    run(backup, log)
    other = Log(Store(tmp_path / "other", MAP_BYTES, durable=False))
    other.add(None)
    other.flush()
    with pytest.raises(BackupError, match="goes to position 12, and the log only to 1"):
        run(backup, other)
    other.store.close()


def test_a_backup_is_not_begun_among_other_files(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(BackupError, match="neither a backup nor empty"):
        BackupSet.create(tmp_path, CELL)


# -- proof ------------------------------------------------------------------------------------------------------------


def test_every_segment_that_is_damaged_gone_or_replaced_is_named(log: Log, backup: BackupSet) -> None:
    run(backup, log)
    for segment in backup.current.segments:
        path = backup.path(segment)
        whole = path.read_bytes()
        other = backup.path(next(one for one in backup.current.segments if one is not segment))
        for damage in (whole[:-1], bytes([whole[0] ^ 1]) + whole[1:], whole[:-1] + bytes([whole[-1] ^ 1]), None):
            path.unlink() if damage is None else path.write_bytes(damage)
            with pytest.raises(SegmentError, match=segment.file):
                verify_backup(reopened(backup))
        path.write_bytes(other.read_bytes())
        with pytest.raises(SegmentError, match=segment.file):
            verify_backup(reopened(backup))
        path.write_bytes(whole)
    assert verify_backup(reopened(backup)).head == stored(log.store)[-1].folded[:32]


def test_a_manifest_that_was_altered_is_refused(log: Log, backup: BackupSet) -> None:
    run(backup, log)
    path = backup.folder / MANIFEST
    document = json.loads(path.read_text())
    document["chains"][0]["segments"].pop()
    path.write_text(json.dumps(document))
    with pytest.raises(BackupError, match="its digest is another"):
        reopened(backup)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("file", "segment-\0"),
        ("file", "segment-1/../../x"),
        ("file", "segment-" + "1" * 300),
        ("last", 10**30),
        ("last_at_ms", 10**30),
        ("last_at_ms", -1),
    ],
)
def test_a_manifest_that_says_what_no_backup_says_is_refused(
    tmp_path: Path, log: Log, field: str, value: str | int
) -> None:
    folder = tmp_path / "in clear"
    grow(BackupSet.create(folder, CELL), StoreFeed(log.store, CELL), lambda: START_MS)
    document = json.loads((folder / MANIFEST).read_text())
    end = document.pop("digest")
    document["chains"][0]["segments"][0][field] = value
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    end["sha256"] = hashlib.sha256(canonical).hexdigest()
    (folder / MANIFEST).write_text(json.dumps({**document, "digest": end}))
    with pytest.raises(BackupError, match="not as it was written"):
        BackupSet.open(folder)


def test_a_manifest_that_was_made_again_without_the_key_is_refused(log: Log, backup: BackupSet) -> None:
    run(backup, log)
    forged = BackupSet.open(backup.folder)  # as anybody can read it
    chain = forged.current
    forged._change(chain, chain.segments[:-1])
    assert BackupSet.open(backup.folder).current.last < 12
    with pytest.raises(BackupError, match="a backup that is encrypted has a MAC"):
        reopened(backup)
    BackupSet(backup.folder, forged._manifest, KeyRing([bytes(32)]))._change(chain, chain.segments[:-1])
    with pytest.raises(KeyFileError):
        reopened(backup)


def test_a_segment_of_before_can_not_take_the_place_of_a_later_one(log: Log, backup: BackupSet) -> None:
    run(backup, log)
    first, second, *_ = backup.current.segments
    backup.path(second).write_bytes(backup.path(first).read_bytes())
    with pytest.raises(SegmentError, match=second.file):
        everything(reopened(backup))


# -- keys, chains, merging --------------------------------------------------------------------------------------------


def test_increments_under_a_new_key_need_both(log: Log, backup: BackupSet) -> None:
    run(backup, log)
    log.add(record("later"))
    log.flush()
    run(reopened(backup, NEW_KEYS), log)
    assert reopened(backup, NEW_KEYS).key_ids == set(NEW_KEYS.ids)
    assert everything(reopened(backup, NEW_KEYS)) == stored(log.store)


def test_a_backup_is_rewritten_under_the_newest_key_and_then_needs_no_other(log: Log, backup: BackupSet) -> None:
    backup.keep_cluster_key(b"k" * 32)
    run(backup, log)
    old = {one.file for one in backup.current.segments}
    assert rekey(reopened(backup, NEW_KEYS)) == len(old)
    newest = BackupSet.open(backup.folder, KeyRing([bytes(range(1, 33))]))
    assert everything(newest) == stored(log.store)
    assert newest.cluster_key() == b"k" * 32
    assert not old & {path.name for path in backup.folder.iterdir()}


def test_the_clusters_key_comes_back_with_the_backups_key_alone(log: Log, backup: BackupSet) -> None:
    backup.keep_cluster_key(b"k" * 32)
    run(backup, log)
    assert reopened(backup).cluster_key() == b"k" * 32
    assert BackupSet.open(backup.folder).cluster_key() is None
    assert (b"k" * 32).hex() not in (backup.folder / MANIFEST).read_text()


def test_the_clusters_key_is_kept_also_by_a_run_that_adds_nothing(log: Log, backup: BackupSet) -> None:
    run(backup, log)
    reopened(backup).keep_cluster_key(b"k" * 32)
    assert reopened(backup).cluster_key() == b"k" * 32


def test_an_old_chain_goes_only_when_a_newer_one_reaches_as_far(log: Log, backup: BackupSet) -> None:
    run(backup, log, now_ms=1000)
    assert prune(backup, 5000) == []
    partly = reopened(backup)
    partly.begin(2000)
    header, records = StoreFeed(log.store, CELL, most_bytes=300).segment(1, 12)
    with partly.writer(header) as writer:
        for one in records:
            writer.add(one)
    partly.add(writer, 2000)
    assert prune(partly, 5000) == []
    assert everything(reopened(backup)) == stored(log.store)
    run(partly, log, now_ms=3000)
    assert prune(partly, 1000) == []
    assert [chain.number for chain in prune(partly, 2000)] == [1]
    assert [path.name[:11] for path in sorted(backup.folder.glob("segment-*"))] == ["segment-002"] * len(
        partly.current.segments
    )
    assert everything(reopened(backup)) == stored(log.store)


def test_a_new_chain_holds_everything_again(log: Log, backup: BackupSet) -> None:
    run(backup, log)
    run(backup, log, full=True)
    assert [chain.last for chain in reopened(backup).chains] == [12, 12]


def test_many_small_increments_become_one(store: Store, backup: BackupSet) -> None:
    log = Log(store)
    for number in range(MERGE_FROM):
        assert merge(backup) == 0 if number else True
        log.add(record(number))
        log.flush()
        run(backup, log)
    assert merge(backup) == MERGE_FROM
    assert len(reopened(backup).current.segments) == 1
    assert everything(reopened(backup)) == stored(store)
    assert verify_backup(reopened(backup)).positions == MERGE_FROM


def entry(log: Log, position: int) -> tuple[bytes, bytes]:
    key = POSITION.pack(position)
    value = log.store.txn.get(key, db=log.store.db[LOG])
    assert value is not None
    return key, value


def flip(log: Log, position: int, byte: int = -1) -> None:
    key, value = entry(log, position)
    altered = bytearray(value)
    altered[byte] ^= 1
    log.store.txn.put(key, bytes(altered), db=log.store.db[LOG])
    log.store.commit()


# -- erasure ----------------------------------------------------------------------------------------------------------


def redact(log: Log, *, events: tuple[int, ...] = (), bodies: tuple[tuple[int, Body], ...] = ()) -> None:
    """Appends the event that says what goes: the log is rewritten by it, the segments of before are not."""
    named = [RedactedEvent(position, 0, (), b"") for position in events]
    gone = [RedactedBody(position, 0, body.tenant + body.digest) for position, body in bodies]
    data = bytes(msgpack.packb((named, gone, "a reason")))
    event = Event(NO_TENANT, CUSTODY, LOG_REDACTED, 1, data, new_salt())
    log.add(ledger.record(event, expires_ms=START_MS * 2))
    log.flush()


def holds(backup: BackupSet, data: bytes) -> bool:
    """Whether a record's event, or a body, is that."""
    records = everything(backup)
    packed = bytes(msgpack.packb(data.decode()))
    return any(packed in one.value or any(data == body for _, body in one.bodies) for one in records)


def test_what_was_redacted_is_taken_out_of_older_segments_by_the_next_run(log: Log, backup: BackupSet) -> None:
    secret = ledger.body(b"the secret bytes")
    log.add(record("a secret payload", bodies=(secret,)), b"the secret bytes")
    log.add(record("with the same one", bodies=(secret,)), b"the secret bytes")
    log.flush()
    run(backup, log)
    head = verify_backup(backup).head
    assert holds(backup, b"the secret bytes")
    assert holds(backup, b"a secret payload")
    redact(log, bodies=((14, secret),))  # named where it was not brought
    redact(log, events=(13,))
    grown = run(backup, log)
    assert carry_out(reopened(backup), grown) == [13, 14]
    assert not holds(reopened(backup), b"the secret bytes")
    assert not holds(reopened(backup), b"a secret payload")
    assert everything(reopened(backup)) == stored(log.store)
    report = verify_backup(reopened(backup))
    assert (report.positions, report.bodies) == (16, 2)
    assert head in [one.folded[:32] for one in everything(reopened(backup))]


def test_a_run_that_ends_before_it_carried_out_a_redaction_leaves_it_to_the_next(log: Log, backup: BackupSet) -> None:
    run(backup, log)
    redact(log, bodies=((8, ledger.body(b"a body")),))
    run(backup, log)  # and here it is killed
    again = reopened(backup)
    assert carry_out(again, run(again, log)) == [8]
    assert not holds(reopened(backup), b"a body")
    assert again.erased_to == 13


def test_a_copy_that_was_made_before_is_scrubbed_by_what_its_own_log_says(log: Log, backup: BackupSet) -> None:
    run(backup, log)
    redact(log, bodies=((8, ledger.body(b"a body")),))
    grown = run(backup, log)
    backup.mark_erased()
    assert carry_out(backup, grown) == []
    assert holds(backup, b"a body")
    assert 8 in scrub(reopened(backup))
    assert not holds(reopened(backup), b"a body")


# -- restoring --------------------------------------------------------------------------------------------------------


def rows(store: Store) -> dict[bytes, list[tuple[bytes, bytes]]]:
    with store.snapshot() as snapshot:
        return {name: list(snapshot.raw(name)) for name in (*FOLDED, b"log", b"bodies", b"slices")}


def test_a_restored_database_is_the_one_that_was_backed_up(log: Log, backup: BackupSet, tmp_path: Path) -> None:
    run(backup, log)
    source = BackupSource(reopened(backup))
    cut = find_cut(source, None, None)
    made = restore(source, cut, tmp_path / "new", ledger.evolve)
    assert (made.head.position, made.head.chain, made.unproven) == (12, log.fold.chain, 0)
    with open_for_reading(tmp_path / "new") as new:
        assert rows(new) == rows(log.store)
        assert new.get_meta(b"commit") == 12
        assert new.get_meta(b"term") == (2, None)


@pytest.mark.parametrize("position", range(1, 13))
def test_a_cut_is_what_the_log_was_at_that_position(
    log: Log, backup: BackupSet, store: Store, tmp_path: Path, position: int
) -> None:
    run(backup, log)
    head = stored(store)[position - 1].folded[:32]
    sources: tuple[Source, ...] = (BackupSource(backup), StoreSource(store, CELL))
    for number, source in enumerate(sources):
        for at_ms, place in ((None, position), (START_MS + position - 1, None)):
            cut = find_cut(source, place, at_ms)
            assert (cut.position, cut.chain) == (position, head)
        made = restore(source, cut, tmp_path / str(number), ledger.evolve)
        assert (made.head.position, made.head.chain) == (position, head)


def test_there_is_nothing_before_the_log_and_after_it(log: Log) -> None:
    source = StoreSource(log.store, CELL)
    with pytest.raises(RestoreError, match="the log begins later"):
        find_cut(source, None, START_MS - 1)
    with pytest.raises(RestoreError, match="the source ends at 12"):
        find_cut(source, 13, None)


def test_what_a_stopped_node_holds_and_has_not_folded_is_restored_too(log: Log, tmp_path: Path) -> None:
    unfolded = Log(log.store)
    unfolded.fold.apply = lambda entry: None  # type: ignore[method-assign, assignment, return-value]
    unfolded.add(record("acknowledged elsewhere"))
    log.store.commit()
    assert find_cut(StoreSource(log.store, CELL), None, None).position == 12
    source = StoreSource(log.store, CELL, tail=True)
    made = restore(source, find_cut(source, None, None), tmp_path / "new", ledger.evolve)
    assert (made.head.position, made.unproven) == (13, 1)
    with open_for_reading(tmp_path / "new") as new, new.snapshot() as snapshot:
        assert "acknowledged elsewhere" in ledger.facts(snapshot.view(ledger.STREAM))


def test_a_source_that_was_altered_is_refused_by_position(log: Log, tmp_path: Path) -> None:
    flip(log, 3)
    source = StoreSource(log.store, CELL)
    with pytest.raises(RestoreError, match="position 3 does not fit the chain"):
        restore(source, find_cut(source, None, None), tmp_path / "new", ledger.evolve)


def test_the_restored_cell_has_the_members_that_it_is_given_whatever_its_log_says(log: Log, tmp_path: Path) -> None:
    old = tuple(Member(f"n{number}", f"192.0.2.{number}:1", True) for number in (1, 2, 3))
    made = change_record(old, ledger.CLIENT, "as configured", START_MS, os.urandom)
    log.journal.add(Command(KIND_CONFIG, START_MS * 2, encode(made)), 13, 1)
    log.fold.apply(log.journal.entry(13))
    log.flush()
    source = StoreSource(log.store, CELL)
    restore(source, find_cut(source, None, None), tmp_path / "new", ledger.evolve)
    new = (Member("n1", "127.0.0.1:2", True), Member("n9", "127.0.0.1:3", True))
    head = begin_cell(tmp_path / "new", ledger.evolve, new, ledger.CLIENT, "restored", START_MS)
    with open_for_reading(tmp_path / "new") as store:
        journal = LmdbJournal(store)
        assert journal.config == Configuration(head.position, new)
        assert journal.getRaftCommitIndex() == journal.last_index == head.position == 15
        assert (journal.last_term, journal.last_at_ms) == (2, START_MS * 2)
        assert verify_store(store).head == head.chain
        assert rebuild_store(store, ledger.evolve).equal


def test_what_the_cell_passed_over_is_passed_over_again_also_where_the_cut_is_before_it_said_so(
    log: Log, tmp_path: Path
) -> None:
    stalled = ledger.record(ledger.event(type_="Fail"), expires_ms=START_MS * 2)
    event = Event(NO_TENANT, CUSTODY, RECORD_QUARANTINED, 1, bytes(msgpack.packb((13, "a reason"))), new_salt())
    passed_over = ledger.record(event, expires_ms=START_MS * 2)
    for position, kind, entry in (
        (13, KIND_RECORD, stalled),
        (14, KIND_RECORD, record(1)),
        (15, KIND_QUARANTINE, passed_over),
    ):
        log.journal.add(Command(kind, START_MS * 2, encode(entry)), position, 1)
    log.journal.setRaftCommitIndex(15)
    for position in (13, 14, 15):
        log.fold.apply(log.journal.entry(position))
    log.flush()
    source = StoreSource(log.store, CELL)
    made = restore(source, find_cut(source, None, None), tmp_path / "whole", ledger.evolve)
    assert made.head.chain == log.fold.chain
    with open_for_reading(tmp_path / "whole") as new:
        assert rebuild_store(new, ledger.evolve).equal
    for position in (13, 14):
        made = restore(source, find_cut(source, position, None), tmp_path / str(position), ledger.evolve)
        assert made.head.chain == stored(log.store)[position - 1].folded[:32]


def test_a_backup_from_before_a_redaction_gives_the_tables_that_the_cell_has(
    log: Log, backup: BackupSet, tmp_path: Path
) -> None:
    run(backup, log)
    redact(log, bodies=((8, ledger.body(b"a body")),))
    run(backup, log)
    source = BackupSource(backup)
    restore(source, find_cut(source, None, None), tmp_path / "new", ledger.evolve)
    with open_for_reading(tmp_path / "new") as new:
        assert rows(new) == rows(log.store)
    assert holds(backup, b"a body")


# -- tables beside the log -------------------------------------------------------------------------------------------


def with_tables(backup: BackupSet, log: Log, every: int = 1) -> Grown:
    with backup.locked():
        return grow(backup, StoreFeed(log.store, CELL, most_bytes=500), lambda: 0, tables_every=every)


def more(log: Log) -> None:
    log.add(record("after the tables"))
    log.add(record("the same body", bodies=(ledger.body(b"a body"),)), b"a body")
    log.flush()


@pytest.mark.parametrize("refold", [False, True], ids=["loaded", "folded from zero"])
def test_a_restore_from_tables_gives_what_a_fold_from_zero_gives(
    log: Log, backup: BackupSet, tmp_path: Path, refold: bool
) -> None:
    with_tables(backup, log)
    more(log)
    run(backup, log)
    source = BackupSource(reopened(backup))
    done = restore(source, find_cut(source, None, None), tmp_path / "new", ledger.evolve, refold=refold)
    assert done.loaded == (0 if refold else 12)
    assert (done.head.position, done.bodies, done.unproven) == (14, 2, 0)
    with open_for_reading(tmp_path / "new") as store:
        assert rows(store) == rows(log.store)
        assert verify_store(store).ok
        assert rebuild_store(store, ledger.evolve).equal


def test_a_stopped_nodes_own_tables_may_be_kept_and_what_it_had_not_folded_is_folded(log: Log, tmp_path: Path) -> None:
    log.store.commit()
    source = TrustedSource(log.store, CELL, tail=True)
    more(log)
    cut = find_cut(source, None, None)
    kept = restore(source, cut, tmp_path / "kept", ledger.evolve)
    folded = restore(source, cut, tmp_path / "folded", ledger.evolve, refold=True)
    assert (kept.loaded, kept._replace(loaded=0)) == (14, folded)
    with open_for_reading(tmp_path / "kept") as store, open_for_reading(tmp_path / "folded") as other:
        assert rows(store) == rows(other) == rows(log.store)
        assert verify_store(store).ok


def test_nothing_of_the_node_itself_comes_with_its_tables(log: Log, tmp_path: Path) -> None:
    more(log)
    log.journal.setCurrentTerm(77, "n2")  # a vote
    log.store.put_meta(b"redacted", 5)
    unfolded = record("never committed", bodies=(ledger.body(b"of the tail"),))
    log.journal.add(Command(KIND_RECORD, START_MS * 2, encode(unfolded), (b"of the tail",)), 15, 1)
    log.store.commit()
    source = TrustedSource(log.store, CELL)
    cut = find_cut(source, None, None)
    assert (cut.position, log.journal.last_index) == (14, 15)
    assert restore(source, cut, tmp_path / "kept", ledger.evolve).loaded == 14
    restore(source, cut, tmp_path / "folded", ledger.evolve, refold=True)
    with (
        open_for_reading(tmp_path / "kept") as store,
        open_for_reading(tmp_path / "folded") as other,
        store.snapshot() as one,
        other.snapshot() as two,
    ):
        assert {name: list(one.raw(name)) for name in NAMES} == {name: list(two.raw(name)) for name in NAMES}


def test_tables_of_a_later_moment_are_not_kept(log: Log, tmp_path: Path) -> None:
    source = TrustedSource(log.store, CELL)
    done = restore(source, find_cut(source, 9, None), tmp_path / "new", ledger.evolve)
    assert (done.loaded, done.head.position) == (0, 9)


@pytest.mark.parametrize("byte", [-1, -30], ids=["can not be read", "does not fit the chain"])
def test_a_log_that_was_altered_is_found_where_its_nodes_tables_are_kept(log: Log, tmp_path: Path, byte: int) -> None:
    flip(log, 5, byte)
    source = TrustedSource(log.store, CELL)
    with pytest.raises(SegmentError, match=r"position 5\b"):
        restore(source, find_cut(source, None, None), tmp_path / "new", ledger.evolve)


def test_the_counts_of_a_restore_are_the_same_either_way(log: Log, backup: BackupSet, tmp_path: Path) -> None:
    with_tables(backup, log)
    source = BackupSource(reopened(backup))
    cut = find_cut(source, None, None)
    found = [
        restore(source, cut, tmp_path / str(refold), ledger.evolve, refold=refold)._replace(loaded=0)
        for refold in (False, True)
    ]
    assert found[0] == found[1]


def test_a_moment_before_the_tables_is_folded_from_zero(log: Log, backup: BackupSet, tmp_path: Path) -> None:
    with_tables(backup, log)
    source = BackupSource(reopened(backup))
    done = restore(source, find_cut(source, 9, None), tmp_path / "new", ledger.evolve)
    assert (done.loaded, done.head.position) == (0, 9)


def test_tables_come_again_when_so_many_positions_came_and_two_are_kept(log: Log, backup: BackupSet) -> None:
    with_tables(backup, log, every=100)
    assert backup.tables == ()
    for _ in range(4):
        with_tables(backup, log, every=2)
        more(log)
    assert [one.head.position for one in reopened(backup).tables] == [16, 18]
    assert len(list(backup.folder.glob("tables-*"))) == 2
    assert verify_backup(reopened(backup)).head == backup.longest.chain_after


@pytest.mark.parametrize("where", ["tables", "segment"])
def test_what_was_altered_is_found_before_a_restore_is_called_done(
    log: Log, backup: BackupSet, tmp_path: Path, where: str
) -> None:
    backup = BackupSet.create(tmp_path / "plain", CELL)
    with_tables(backup, log)
    path = sorted(backup.folder.glob(f"{where}-*"))[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    source = BackupSource(reopened(backup, None))
    with pytest.raises(SegmentError, match=path.name):
        restore(source, find_cut(source, None, None), tmp_path / "new", ledger.evolve)


def test_tables_from_before_a_redaction_go_from_the_backup_with_what_it_erased(log: Log, backup: BackupSet) -> None:
    with_tables(backup, log)
    assert len(reopened(backup).tables) == 1
    redact(log)
    with backup.locked():
        grown = grow(backup, StoreFeed(log.store, CELL, most_bytes=500), lambda: 0)
        carry_out(backup, grown)
    assert reopened(backup).tables == ()
    assert list(backup.folder.glob("tables-*")) == []
    with_tables(backup, log)
    with backup.locked():
        scrub(backup)
    assert len(reopened(backup).tables) == 1
