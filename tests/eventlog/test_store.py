"""The store: a tick is all or nothing, a foreign file is refused, and the room that is left is told honestly."""

import gc
from pathlib import Path

import lmdb
import pytest

from eventlog.errors import DamagedDatabase
from eventlog.store import GENESIS, LOG, MAX_READERS, POSITION, TABLES, Store, pack_row, unpack_row
from tests.eventlog.conftest import MAP_BYTES


def rows(store: Store, name: bytes) -> list[tuple[bytes, bytes]]:
    with store.snapshot() as snapshot:
        return list(snapshot.raw(name))


def fill(store: Store, pages: int) -> None:
    for number in range(pages):
        store.txn.put(b"%04d" % number, bytes(4000), db=store.db[TABLES])


def test_a_tick_is_seen_whole_once_it_is_committed_and_not_before(store: Store) -> None:
    store.txn.put(b"a", b"1", db=store.db[TABLES])
    store.put_meta(b"term", (3, "n1"))
    assert rows(store, TABLES) == []
    assert store.get_meta(b"term") is None
    store.commit()
    assert rows(store, TABLES) == [(b"a", b"1")]
    assert store.get_meta(b"term") == (3, "n1")


def test_an_aborted_tick_leaves_nothing(store: Store) -> None:
    store.txn.put(b"a", b"1", db=store.db[TABLES])
    store.put_meta(b"term", (3, "n1"))
    store.abort()
    store.commit()
    assert rows(store, TABLES) == []
    assert store.get_meta(b"term", "default") == "default"


def test_rows_that_wait_are_part_of_the_tick(store: Store) -> None:
    store.put_later(LOG, POSITION.pack(1), b"one")
    store.put_later(LOG, POSITION.pack(2), b"two")
    assert store.dirty
    assert rows(store, LOG) == []
    store.commit()
    assert rows(store, LOG) == [(POSITION.pack(1), b"one"), (POSITION.pack(2), b"two")]


def test_rows_that_wait_go_with_a_tick_that_is_aborted(store: Store) -> None:
    store.put_later(LOG, POSITION.pack(1), b"one")
    store.abort()
    assert not store.dirty
    store.commit()
    assert rows(store, LOG) == []


def test_rows_that_wait_can_be_read_in_the_tick_once_they_are_settled(store: Store) -> None:
    store.put_later(LOG, POSITION.pack(1), b"one")
    store.settle()
    assert store.txn.get(POSITION.pack(1), db=store.db[LOG]) == b"one"


def test_many_rows_at_once_are_told_to_who_watches_changes(store: Store) -> None:
    store.changed = set()
    store.put_many(TABLES, [(b"a", b"1"), (b"b", b"2")])
    assert store.changed == {(TABLES, b"a"), (TABLES, b"b")}


def test_rows_to_append_that_are_not_beyond_the_last_are_a_mistake_of_the_caller(store: Store) -> None:
    store.put_many(LOG, [(POSITION.pack(5), b"five")], append=True)
    with pytest.raises(AssertionError, match="not in order"):
        store.put_many(LOG, [(POSITION.pack(4), b"four")], append=True)


def test_a_tick_too_large_for_the_disk_leaves_nothing_and_the_next_one_works(tmp_path: Path) -> None:
    store = Store(tmp_path, 1024 * 1024)
    with pytest.raises(lmdb.MapFullError):
        fill(store, 1000)
    store.abort()
    assert rows(store, TABLES) == []
    store.txn.put(b"a", b"1", db=store.db[TABLES])
    store.commit()
    assert rows(store, TABLES) == [(b"a", b"1")]
    store.close()


def test_a_tick_that_wrote_nothing_costs_no_transaction(store: Store) -> None:
    before = store.env.info()["last_txnid"]
    store.commit()
    assert not store.dirty
    assert store.env.info()["last_txnid"] == before


def test_what_was_committed_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    store = Store(tmp_path, MAP_BYTES)
    store.put_meta(b"x", 1)
    store.commit()
    store.close()
    again = Store(tmp_path, MAP_BYTES)
    assert again.get_meta(b"x") == 1
    again.close()


def test_a_database_of_another_format_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path, MAP_BYTES)
    store.put_meta(b"format", 99)
    store.commit()
    store.close()
    with pytest.raises(DamagedDatabase, match="format"):
        Store(tmp_path, MAP_BYTES)


def test_a_file_that_is_no_database_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"not a database at all" * 1000)
    with pytest.raises(lmdb.Error):
        Store(tmp_path, MAP_BYTES)


def test_a_folder_without_a_database_is_not_made_one_by_a_reader(tmp_path: Path) -> None:
    with pytest.raises((lmdb.Error, DamagedDatabase)):
        Store(tmp_path / "none", MAP_BYTES, readonly=True)


def test_the_room_left_shrinks_as_the_map_fills(tmp_path: Path) -> None:
    store = Store(tmp_path, 8 * 1024 * 1024, durable=False)
    empty = store.free_bytes()
    assert 7 * 1024 * 1024 < empty <= 8 * 1024 * 1024
    fill(store, 500)
    store.commit()
    assert store.free_bytes() < empty - 500 * 4000
    store.close()


def test_the_room_left_is_never_more_than_the_disk_has(store: Store) -> None:
    big = Store(store.path.parent / "big", 1 << 44, durable=False)
    assert 0 < big.free_bytes() < 1 << 44
    big.close()


def test_an_empty_store_stands_at_position_0_with_the_genesis_chain(store: Store) -> None:
    with store.snapshot() as snapshot:
        assert (snapshot.position, snapshot.at_ms, snapshot.chain) == (0, 0, GENESIS)
        assert snapshot.record(1) is None
        assert list(snapshot.records()) == []
        assert list(snapshot.stream_positions(bytes(16))) == []
        assert snapshot.body(bytes(16), bytes(32)) is None


def test_a_row_is_read_back_with_tuples() -> None:
    assert unpack_row(pack_row(7, [1, [2, b"x"], "y"])) == (1, (2, b"x"), "y")


def test_reads_that_ended_and_wait_for_the_collector_keep_nobody_out(store: Store) -> None:
    """As the frames of refused requests do, in the cycle of an exception and its traceback."""
    gc.disable()
    try:
        for _ in range(MAX_READERS + 10):
            with store.snapshot() as snapshot:
                cycle: list[object] = [snapshot]
                cycle.append(cycle)
    finally:
        gc.enable()
