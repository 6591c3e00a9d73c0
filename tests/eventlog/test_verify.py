"""Proof of the log in ranges, against anchored heads, and of bodies that are gone."""

import contextlib
import faulthandler
import os
import random
from collections.abc import Iterator
from pathlib import Path

import lmdb
import msgpack
import pytest

import eventlog.verify
from eventlog.fold import Fold
from eventlog.journal import KIND_RECORD, Command, LmdbJournal
from eventlog.record import encode
from eventlog.store import BODIES, BODY_SLOT, CHAIN, LOG, POSITION, SLICES, Store, open_for_reading
from eventlog.verify import VerifyReport, verify, verify_store
from tests.eventlog import ledger

RECORDS = 30
PAGE = 4096
P_LEAF = 2
DEATHS_TRIED = 2  # each of them takes several processes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A database of RECORDS records, each with a body of its own."""
    store = Store(tmp_path / "data", ledger_map_bytes(), durable=False)
    journal = LmdbJournal(store)
    fold = Fold(store, journal, ledger.evolve)
    for number in range(1, RECORDS + 1):
        data = b"body %d" % number
        record = ledger.record(bodies=(ledger.body(data),), expires_ms=2**50)
        journal.add(Command(KIND_RECORD, 1000 + number, encode(record), [data]), number, 1)
        fold.apply(journal.entry(number))
    fold.flush()
    store.commit()
    store.close()
    return tmp_path / "data"


def ledger_map_bytes() -> int:
    return 64 * 1024 * 1024


def in_ranges(folder: Path, monkeypatch: pytest.MonkeyPatch) -> VerifyReport:
    monkeypatch.setattr(eventlog.verify, "RANGE", 7)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    seen: list[int] = []
    report = verify(folder, lambda done, _: seen.append(done), at=(1, 8, RECORDS))
    assert seen == [7, 14, 21, 28, 30]
    return report


def change(folder: Path, table: bytes, key: bytes, value: bytes | None) -> None:
    store = Store(folder, ledger_map_bytes(), durable=False)
    if value is None:
        store.txn.delete(key, db=store.db[table])
    else:
        store.txn.put(key, value, db=store.db[table])
    store.commit()
    store.close()


def whole(folder: Path) -> VerifyReport:
    store = Store(folder, ledger_map_bytes(), durable=False)
    try:
        return verify_store(store, at=(1, 8, RECORDS))
    finally:
        store.close()


def test_a_log_verified_in_ranges_by_several_processes_gives_what_one_walk_gives(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = whole(folder)
    assert expected.ok
    assert set(expected.chains) == {1, 8, RECORDS}
    assert expected.chains[RECORDS] == expected.head
    assert in_ranges(folder, monkeypatch) == expected


@pytest.mark.parametrize("position", [7, 8, 22])
def test_a_record_altered_at_either_side_of_a_ranges_edge_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, position: int
) -> None:
    key = POSITION.pack(position)
    store = Store(folder, ledger_map_bytes(), durable=False)
    value = bytearray(store.txn.get(key, db=store.db[LOG]) or b"")
    store.close()
    value[-1] ^= 1
    change(folder, LOG, key, bytes(value))
    report = in_ranges(folder, monkeypatch)
    assert (report.ok, report.first_bad) == (False, position)


def test_the_chain_given_for_an_anchor_is_the_recomputed_one_not_the_one_that_is_stored(folder: Path) -> None:
    expected = whole(folder).chains[8]
    change(folder, b"chain", POSITION.pack(8), bytes(33))
    assert whole(folder).chains[8] == expected


def test_a_body_whose_bytes_are_gone_without_a_word_in_the_log_is_found(folder: Path) -> None:
    change(folder, SLICES, BODY_SLOT.pack(5, 0), None)
    assert whole(folder).first_bad == 5
    change(folder, BODIES, ledger.TENANT + ledger.body(b"body 5").digest, None)
    report = whole(folder)
    assert (report.ok, report.first_bad) == (False, 5)
    assert "is not there" in report.problems[0]


def test_an_index_row_that_leads_to_another_bodys_bytes_is_found(folder: Path) -> None:
    key = ledger.TENANT + ledger.body(b"body 5").digest
    change(folder, BODIES, key, bytes(msgpack.packb((6, 0, 6, ()))))
    report = whole(folder)
    assert (report.ok, report.first_bad) == (False, 5)
    assert "leads to other bytes" in report.problems[0]


def test_every_changed_byte_of_an_index_row_of_bodies_is_found_or_changes_nothing(folder: Path) -> None:
    key = ledger.TENANT + ledger.body(b"body 5").digest
    row = bytes(msgpack.packb((5, 0, 6, ())))
    for offset in range(len(row)):
        altered = bytearray(row)
        altered[offset] ^= 1
        change(folder, BODIES, key, bytes(altered))
        store = Store(folder, ledger_map_bytes(), durable=False)
        with store.snapshot() as snapshot:
            report = verify_store(store)
            try:
                same = snapshot.body(ledger.TENANT, key[16:]) == b"body 5"
            except Exception:
                same = False
        store.close()
        assert report.ok == same, f"byte {offset}"


def test_a_body_made_of_chunks_that_leads_to_other_chunks_is_found(tmp_path: Path) -> None:
    store = Store(tmp_path / "data", ledger_map_bytes(), durable=False)
    journal = LmdbJournal(store)
    fold = Fold(store, journal, ledger.evolve)
    pieces = [b"a" * 100, b"b" * 100]
    records = [(ledger.chunk_record(piece, expires_ms=2**50), [piece]) for piece in pieces]
    made = ledger.record(bodies=(ledger.body(b"".join(pieces), *pieces),), expires_ms=2**50)
    for number, (record, bodies) in enumerate([*records, (made, [b""])], 1):
        journal.add(Command(KIND_RECORD, 1000 + number, encode(record), bodies), number, 1)
        fold.apply(journal.entry(number))
    fold.flush()
    store.commit()
    assert verify_store(store).ok
    key = ledger.TENANT + made.bodies[0].digest
    row = msgpack.unpackb(store.txn.get(key, db=store.db[BODIES]) or b"", use_list=False)
    store.txn.put(key, bytes(msgpack.packb((*row[:3], row[3][::-1]))), db=store.db[BODIES])
    store.commit()
    report = verify_store(store)
    assert (report.ok, report.first_bad) == (False, 3)
    store.close()


def said(folder: Path, keys: dict[bytes, list[bytes]]) -> dict[tuple[bytes, bytes], bytes | None] | None:
    """What a reader is given for each key; None where LMDB itself gives up."""
    try:
        with lmdb.open(str(folder), readonly=True, max_dbs=16, lock=False) as env:
            tables = {name: env.open_db(name, create=False) for name in keys}
            with env.begin() as txn:
                return {(name, key): txn.get(key, db=tables[name]) for name in keys for key in keys[name]}
    except lmdb.Error:
        return None


def all_keys(folder: Path) -> dict[bytes, list[bytes]]:
    with open_for_reading(folder) as store, store.snapshot() as snapshot:
        return {name: [bytes(key) for key, _ in snapshot.raw(name)] for name in (LOG, CHAIN, SLICES)}


def heads(data: bytes, draw: random.Random, count: int) -> Iterator[int]:
    """Offsets in the heads of leaf pages and of their rows: the numbers by which LMDB finds its way."""
    leaves = [page for page in range(2, len(data) // PAGE) if data[page * PAGE + 10] == P_LEAF]
    for _ in range(count):
        start = draw.choice(leaves) * PAGE
        rows = (int.from_bytes(data[start + 12 : start + 14], "little") - 16) // 2
        row = 16 + 2 * draw.randrange(max(1, rows))
        place = int.from_bytes(data[start + row : start + row + 2], "little")
        yield start + draw.choice((draw.randrange(16), row, min(PAGE - 1, place + draw.randrange(8))))


def read_in_a_child(folder: Path, keys: dict[bytes, list[bytes]], sound: object) -> str:
    """Whether a reader of the log meets what was altered, and what the walk says then; a damaged page may kill both."""
    child = os.fork()
    if child == 0:
        faulthandler.disable()  # it may die, and that is no news
        answer = 3
        with contextlib.suppress(BaseException):
            answer = 0 if said(folder, keys) == sound else 1 if whole(folder).first_bad is not None else 2
        os._exit(answer)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {0: "not met", 1: "named", 2: "missed", 3: "not opened"}.get(code, "died")


def test_a_changed_bit_anywhere_in_the_file_that_a_reader_of_the_log_would_meet_is_found_and_named(
    folder: Path,
) -> None:
    keys = all_keys(folder)
    sound, data, draw = said(folder, keys), (folder / "data.mdb").read_bytes(), random.Random(7)
    met = dict.fromkeys(("not met", "named", "missed", "not opened", "died"), 0)
    for offset in [*(draw.randrange(2 * PAGE, len(data)) for _ in range(60)), *heads(data, draw, 200)]:
        altered = bytearray(data)
        altered[offset] ^= 1 << draw.randrange(8)
        (folder / "data.mdb").write_bytes(altered)
        found = read_in_a_child(folder, keys, sound)
        met[found] += 1
        assert found != "missed", f"byte {offset}"
        if found == "died" and met[found] <= DEATHS_TRIED:
            report = verify(folder)
            assert not report.ok, f"byte {offset}"
            if report.first_bad is None:  # of an index, whose reader is another process
                assert "indexes can not be read" in report.problems[0], f"byte {offset}"
            else:
                assert f"record {report.first_bad}: " in report.problems[0]
    assert met["named"] > 30
    assert met["died"] > 0
