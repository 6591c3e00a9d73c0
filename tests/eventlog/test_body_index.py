"""The index of bodies in two parts: whatever is merged, dropped, cut off or undone, a reader finds what it should."""

import io
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgpack
import pytest

from eventlog.body_index import index_rows
from eventlog.checkpoint import load_checkpoint, write_checkpoint
from eventlog.custody import RedactedBody, Redaction
from eventlog.errors import DamagedDatabase
from eventlog.fold import Fold
from eventlog.journal import KIND_RECORD, Command, LmdbJournal
from eventlog.record import digest_of, encode
from eventlog.rewrite import copy_rows, same_rows
from eventlog.store import BODIES, BODY_SLOT, META, Snapshot, Store, open_for_reading
from eventlog.tables import FRESH
from eventlog.verify import verify, verify_store
from tests.eventlog import ledger
from tests.eventlog.conftest import MAP_BYTES

MERGE_AT = 20


class Small(Store):
    """Merges soon."""

    MERGE_AT = MERGE_AT


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = opened(tmp_path / "data")
    yield store
    store.close()


def opened(folder: Path) -> Store:
    store = Small(folder, MAP_BYTES, durable=False)
    store.use_newest_format()
    return store


def content(number: int) -> bytes:
    return b"body %d" % number


def key_of(data: bytes) -> bytes:
    return ledger.TENANT + digest_of(data)


def command(data: bytes) -> Command:
    record = ledger.record(bodies=(ledger.body(data),), expires_ms=2**50)
    return Command(KIND_RECORD, 1000, encode(record), [data])


def filled(store: Store, count: int) -> None:
    """So many records in ticks of three, each with a body of its own, appended and folded."""
    journal = LmdbJournal(store)
    fold = Fold(store, journal, ledger.evolve)
    first = journal.last_index + 1
    for index in range(first, first + count):
        journal.add(command(content(index)), index, 1)
        fold.apply(journal.entry(index))
        if index % 3 == 0 or index == first + count - 1:
            fold.flush()
            store.tidy()
            store.commit()


def entries(store: Store, name: bytes) -> int:
    with store.env.begin() as txn:
        return int(txn.stat(store.db[name])["entries"])


def finds(snapshot: Snapshot, count: int) -> bool:
    return all(snapshot.body(ledger.TENANT, digest_of(content(one))) == content(one) for one in range(1, count + 1))


def rows(store: Store) -> list[tuple[bytes, bytes]]:
    with store.env.begin() as txn:
        return list(index_rows(txn, store.db, 1 << 60))


def test_new_bodies_wait_by_position_and_are_merged_by_digest_some_in_each_tick(store: Store) -> None:
    filled(store, MERGE_AT - 2)
    assert (entries(store, FRESH), entries(store, BODIES)) == (MERGE_AT - 2, 0)
    filled(store, 30)
    assert entries(store, FRESH) < MERGE_AT
    assert entries(store, BODIES) >= MERGE_AT
    with store.snapshot() as snapshot:
        assert finds(snapshot, MERGE_AT + 28)


def test_a_database_that_is_opened_again_in_the_middle_of_a_merge_goes_on(tmp_path: Path) -> None:
    for part in range(1, 30):
        with closing(opened(tmp_path)) as store:
            filled(store, 7)
            with store.snapshot() as snapshot:
                assert finds(snapshot, 7 * part)
    with open_for_reading(tmp_path) as store:
        assert entries(store, BODIES) > 100
        assert len(rows(store)) == 7 * 29


def test_a_read_that_began_before_a_merge_finds_what_it_saw_to_its_end(store: Store) -> None:
    filled(store, MERGE_AT - 1)
    with store.snapshot() as before:
        filled(store, 60)
        LmdbJournal(store).drop_body(key_of(content(3)))
        store.commit()
        assert finds(before, MERGE_AT - 1)
        assert not before.has_body(ledger.TENANT, digest_of(content(MERGE_AT)))
    with store.snapshot() as after:
        assert not after.has_body(ledger.TENANT, digest_of(content(3)))


def test_bodies_that_nobody_merges_are_bounded(store: Store) -> None:
    journal = LmdbJournal(store)
    for index in range(1, 6 * MERGE_AT):
        journal.add(command(content(index)), index, 1)
    store.commit()
    assert entries(store, FRESH) == 4 * MERGE_AT
    with store.snapshot() as snapshot:
        assert finds(snapshot, 6 * MERGE_AT - 1)


def test_a_body_that_a_redaction_leaves_to_a_later_record_is_found_there(store: Store) -> None:
    journal = LmdbJournal(store)
    for index, number in enumerate((1, 2, 3, 1, 5), 1):
        journal.add(command(content(number)), index, 1)
    journal.redact(3, Redaction((), (RedactedBody(1, 0, key_of(content(1))),), "asked for"))
    journal.add(command(content(6)), 6, 1)
    store.commit()
    with store.snapshot() as snapshot:
        assert snapshot.finds_body_at(ledger.TENANT, digest_of(content(1)), 4, 0)
        assert not snapshot.finds_body_at(ledger.TENANT, digest_of(content(1)), 1, 0)
        assert finds(snapshot, 3)
        assert snapshot.has_body(ledger.TENANT, digest_of(content(6)))


def test_a_database_of_an_earlier_format_is_read_and_goes_on_in_two_parts(tmp_path: Path) -> None:
    with closing(Small(tmp_path, MAP_BYTES, durable=False)) as old:
        filled(old, 5)
        old.txn.put(b"format", bytes(msgpack.packb(2)), db=old.db[META])
        old.commit()
    with closing(Small(tmp_path, MAP_BYTES, durable=False)) as store:
        assert (entries(store, FRESH), entries(store, BODIES)) == (0, 5)
        store.use_newest_format()
        filled(store, 5)
        journal = LmdbJournal(store)
        journal.add(command(content(2)), 11, 1)  # it is there
        store.commit()
        assert (entries(store, FRESH), entries(store, BODIES)) == (5, 5)
        with store.snapshot() as snapshot:
            assert finds(snapshot, 10)
    assert verify(tmp_path).ok


def test_a_release_that_knows_one_part_only_refuses_a_database_with_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(opened(tmp_path)) as store:
        filled(store, 1)
    monkeypatch.setattr("eventlog.store.FORMATS", (1, 2))
    with pytest.raises(DamagedDatabase, match="not a database of a format that this version knows"):
        Store(tmp_path, MAP_BYTES, durable=False)


@pytest.mark.parametrize("count", [MERGE_AT - 1, MERGE_AT + 4, MERGE_AT + 7, 95])
def test_a_checkpoint_a_copy_and_the_proof_know_both_parts(tmp_path: Path, count: int) -> None:
    with closing(opened(tmp_path / "data")) as store:
        filled(store, count)
        stream = io.BytesIO()
        write_checkpoint(store, stream.write, cell_id="cell")
        expected = rows(store)
    assert len(expected) == count
    stream.seek(0)
    load_checkpoint(stream.read, tmp_path / "joined", cell_id="cell", map_size_bytes=MAP_BYTES)
    copy_rows(tmp_path / "data", tmp_path / "copy", lambda done, total: None)
    with open_for_reading(tmp_path / "joined") as joined, joined.snapshot() as snapshot:
        assert rows(joined) == expected
        assert finds(snapshot, count)
    with open_for_reading(tmp_path / "data") as live, open_for_reading(tmp_path / "copy") as copy:
        assert same_rows(live, copy)
    assert verify(tmp_path / "data").ok
    assert verify(tmp_path / "joined").ok


def test_an_altered_row_of_a_new_body_is_found(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as store:
        filled(store, 5)
        slot = BODY_SLOT.pack(3, 0)
        row = store.txn.get(slot, db=store.db[FRESH]) or b""
        for altered in (bytes([row[0] ^ 1]) + row[1:], key_of(content(4)) + row[48:], row[:47] + b"\0" + row[48:]):
            store.txn.put(slot, altered, db=store.db[FRESH])
            store.commit()
            store.bodies.reload()
            assert verify_store(store).first_bad == 3


def test_another_process_that_keeps_the_database_open_finds_what_is_written_meanwhile(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from eventlog.store import open_for_reading\n"
        "with open_for_reading(Path(sys.argv[1])) as store:\n"
        "    for line in sys.stdin:\n"
        "        key = bytes.fromhex(line)\n"
        "        with store.snapshot() as snapshot:\n"
        "            print(snapshot.has_body(key[:16], key[16:]), flush=True)\n"
    )
    with closing(opened(tmp_path)) as store:
        filled(store, 1)
        child = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            for written in range(1, 90, 2):
                found = []
                for number in (1, written, written + 1):
                    print(key_of(content(number)).hex(), file=child.stdin, flush=True)
                    found.append(child.stdout.readline().strip() == "True")
                assert found == [True, True, False], written
                filled(store, 2)
        finally:
            child.stdin.close()
            child.wait()


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_appended_cut_off_dropped_merged_and_undone_the_index_is_what_a_model_says(
    tmp_path: Path, seed: int
) -> None:
    chosen = random.Random(seed)
    store = opened(tmp_path)
    journal = LmdbJournal(store)
    log: list[bytes] = []  # the content that each position brings
    kept: list[bytes] = []
    dropped: set[bytes] = set()
    kept_dropped: set[bytes] = set()
    committed = 0

    for _ in range(400):
        match chosen.randrange(12):
            case 0 if len(log) > committed:
                first = chosen.randint(committed + 1, len(log))
                journal.deleteEntriesFrom(first - 1)
                del log[first - 1 :]
            case 1 if log and committed == len(log):
                data = chosen.choice(log)
                journal.drop_body(key_of(data))
                dropped.add(data)
            case 2:
                store.commit()
                kept, kept_dropped = list(log), set(dropped)
                committed = chosen.randint(committed, len(log))
            case 3:
                store.abort()
                journal.reload()
                log, dropped = list(kept), set(kept_dropped)
            case 4 if chosen.random() < 0.3:
                store.close()
                store = opened(tmp_path)
                journal = LmdbJournal(store)
                log, dropped = list(kept), set(kept_dropped)
            case 5 | 6:
                store.tidy()
            case _:
                data = content(chosen.randrange(60))
                if data not in dropped:
                    journal.add(command(data), len(log) + 1, 1)
                    log.append(data)
    store.tidy()
    store.commit()
    expected = {data: log.index(data) + 1 for data in log if data not in dropped}
    with store.snapshot() as snapshot:
        for data in map(content, range(150)):
            place = expected.get(data)
            assert snapshot.body(ledger.TENANT, digest_of(data)) == (data if place else None)
            assert place is None or snapshot.finds_body_at(ledger.TENANT, digest_of(data), place, 0)
    assert [key for key, _ in rows(store)] == sorted(map(key_of, expected))
    store.close()
