"""Rows that would need a page more for their last bytes: they come back whole, and go whole."""

import asyncio
import io
import os
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from eventlog import levels
from eventlog.checkpoint import load_checkpoint, write_checkpoint
from eventlog.journal import KIND_RECORD, Command, LmdbJournal
from eventlog.log import EventLog
from eventlog.rebuild import rebuild
from eventlog.record import digest_of
from eventlog.rewrite import copy_rows, same_rows
from eventlog.store import LOG, LOG_HEAD, POSITION, SLICES, Store, open_for_reading
from eventlog.tables import TAILS
from eventlog.tails import FIRST_BYTES, HEAD_BYTES, MOST_BYTES, PAGE_BYTES, parted, whole
from eventlog.verify import verify
from tests.eventlog import ledger
from tests.eventlog.conftest import MAP_BYTES
from tests.eventlog.opened import single

Run = Callable[[Coroutine[Any, Any, Any]], Any]
FULL = FIRST_BYTES + PAGE_BYTES  # two pages
SIZES = (0, 100, FIRST_BYTES, FIRST_BYTES + 1, PAGE_BYTES, PAGE_BYTES + 150, FIRST_BYTES + MOST_BYTES,
         FIRST_BYTES + MOST_BYTES + 1, FULL - 1, FULL, FULL + 1, 100_000)  # fmt: skip


def entries(store: Store, name: bytes) -> int:
    with store.env.begin() as txn:
        return int(txn.stat(store.db[name])["entries"])


def large_pages(store: Store, name: bytes) -> int:
    with store.env.begin() as txn:
        return int(txn.stat(store.db[name])["overflow_pages"])


def value_at(store: Store, position: int) -> bytes:
    with store.snapshot() as snapshot:
        stored = snapshot.record(position)
    assert stored is not None
    return stored.data


def command(size_bytes: int) -> Command:
    """A record whose own data, and whose body, have about so many bytes."""
    data = os.urandom(size_bytes)
    return Command(KIND_RECORD, 1000, ledger.encoded(ledger.event(data), bodies=(ledger.body(data),)), [data])


@pytest.mark.parametrize("size", SIZES)
def test_a_value_of_any_length_is_read_as_it_was_put(store: Store, size: int) -> None:
    store.use_newest_format()
    key, value = POSITION.pack(1), os.urandom(size)
    store.put_later(LOG, key, value)
    store.commit()
    with store.env.begin() as txn:
        assert whole(txn, store.db, key, txn.get(key, db=store.db[LOG]) or b"") == value


@pytest.mark.parametrize("size", SIZES)
def test_what_stands_in_pages_of_its_own_never_has_one_for_a_short_rest(size: int) -> None:
    (head,), tails = parted([(b"key", bytes(size))])
    rest = (len(head[1]) + HEAD_BYTES) % PAGE_BYTES
    assert len(head[1]) <= FIRST_BYTES or rest == 0 or rest > MOST_BYTES
    assert len(head[1]) + sum(len(value) for _, value in tails) == size


def test_a_record_and_a_body_of_4_kib_take_a_page_each(store: Store) -> None:
    store.use_newest_format()
    journal = LmdbJournal(store)
    for index in range(1, 11):
        journal.add(command(PAGE_BYTES), index, 1)
    store.commit()
    assert (large_pages(store, LOG), large_pages(store, SLICES)) == (10, 10)


def test_rows_written_before_and_after_are_read_alike(store: Store) -> None:
    journal = LmdbJournal(store)
    commands = [command(size) for size in SIZES[1:] * 2]
    for index, one in enumerate(commands, 1):
        if index == len(SIZES):
            store.commit()
            store.use_newest_format()
        journal.add(one, index, 1)
    store.commit()
    journal.reload()
    for index, one in enumerate(commands, 1):
        found = journal.entry(index)[0]
        assert (found.data, list(found.bodies)) == (one.data, list(one.bodies))
        assert value_at(store, index) == one.data


def test_entries_that_are_removed_take_their_tails_along(store: Store) -> None:
    store.use_newest_format()
    journal = LmdbJournal(store)
    for index in range(1, 6):
        journal.add(command(PAGE_BYTES), index, 1)
    store.commit()
    assert entries(store, TAILS) == 10
    journal.deleteEntriesFrom(1)
    store.commit()
    assert (entries(store, LOG), entries(store, SLICES), entries(store, TAILS)) == (1, 1, 2)


def test_a_row_that_is_replaced_keeps_nothing_of_the_one_before(store: Store) -> None:
    store.use_newest_format()
    key = POSITION.pack(1)
    store.put_later(LOG, key, bytes(PAGE_BYTES))
    store.replace(LOG, key, b"\1" * FIRST_BYTES)  # as long as the head of one that has a tail
    store.commit()
    with store.env.begin() as txn:
        assert whole(txn, store.db, key, txn.get(key, db=store.db[LOG]) or b"") == b"\1" * FIRST_BYTES


def test_a_tick_that_is_undone_leaves_the_format_as_it_was(store: Store) -> None:
    store.use_newest_format()
    store.abort()
    store.put_later(LOG, POSITION.pack(1), bytes(PAGE_BYTES))
    store.commit()
    assert (store.get_meta(b"format"), entries(store, TAILS)) == (1, 0)


def test_the_format_stays_until_the_cell_is_at_the_level_for_it(tmp_path: Path, run: Run, monkeypatch: Any) -> None:
    monkeypatch.setattr("eventlog.store.NEWEST", levels.OLDEST)  # a database of the first release

    async def propose(log: EventLog) -> None:
        data = os.urandom(PAGE_BYTES)
        await log.propose(ledger.record(ledger.event(data), bodies=(ledger.body(data),)), [data])

    async def scenario() -> None:
        async with single(tmp_path) as log:
            await propose(log)
            assert (log.store.get_meta(b"format"), entries(log.store, TAILS)) == (1, 0)
            await log.raise_feature_level(levels.TAILS_SINCE, ledger.CLIENT, "a test")
            await propose(log)
            assert (log.store.get_meta(b"format"), entries(log.store, TAILS)) == (3, 2)
        async with single(tmp_path) as log:
            await propose(log)
            assert entries(log.store, TAILS) == 4
            assert (await asyncio.to_thread(verify, log)).ok
            assert (await asyncio.to_thread(rebuild, log, ledger.evolve)).equal

    run(scenario())


def test_a_checkpoint_and_a_copy_of_the_file_hold_the_same(tmp_path: Path, run: Run) -> None:
    bodies = [os.urandom(PAGE_BYTES) for _ in range(5)]

    async def scenario() -> None:
        async with single(tmp_path) as log:
            assert log.feature_level >= levels.TAILS_SINCE
            for data in bodies:
                await log.propose(ledger.record(ledger.event(data), bodies=(ledger.body(data),)), [data])
            stream = io.BytesIO()
            write_checkpoint(log.store, stream.write, cell_id="cell")
            stream.seek(0)
            load_checkpoint(stream.read, tmp_path / "joined", cell_id="cell", map_size_bytes=MAP_BYTES)

    run(scenario())
    copy_rows(tmp_path / "data", tmp_path / "copy", lambda done, total: None)
    with open_for_reading(tmp_path / "data") as live:
        for folder in (tmp_path / "joined", tmp_path / "copy"):
            with open_for_reading(folder) as other, other.snapshot() as snapshot:
                assert (other.get_meta(b"format"), entries(other, TAILS)) == (3, 10)
                assert [snapshot.body(ledger.TENANT, digest_of(data)) for data in bodies] == bodies
        with open_for_reading(tmp_path / "copy") as copy:
            assert same_rows(live, copy)
    assert verify(tmp_path / "joined").ok


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_appended_cut_off_replaced_dropped_and_undone_a_tail_belongs_to_its_value(
    tmp_path: Path, seed: int
) -> None:
    """Against a model, over rows of lengths around the ends of pages; a database that is closed in mid-tick, too."""
    chosen = random.Random(seed)
    store = Store(tmp_path, MAP_BYTES, durable=False)
    journal = LmdbJournal(store)
    rows: dict[int, tuple[bytes, bytes | None]] = {}  # record and body, as they should be
    kept: dict[int, tuple[bytes, bytes | None]] = {}  # when the tick began
    folded = 0

    def some_bytes() -> bytes:
        return chosen.randbytes(max(0, PAGE_BYTES * chosen.randint(0, 3) + chosen.randint(-80, MOST_BYTES + 40)))

    def append() -> None:
        index = len(rows) + 1
        data, body = some_bytes(), some_bytes() + index.to_bytes(2, "big")
        found = ledger.encoded(ledger.event(data), bodies=(ledger.body(body),))
        journal.add(Command(KIND_RECORD, 1000, found, [body]), index, 1)
        rows[index] = found, body

    def cut_off() -> None:
        first = chosen.randint(folded + 1, len(rows) + 1)
        journal.deleteEntriesFrom(first - 1)
        for index in range(first, len(rows) + 1):
            del rows[index]

    def replace() -> None:
        index = chosen.choice(list(rows))
        head = (store.txn.get(POSITION.pack(index), db=store.db[LOG]) or b"")[: LOG_HEAD.size]
        data = rows[index][0][: chosen.choice([FIRST_BYTES - LOG_HEAD.size, FULL - LOG_HEAD.size, 50])]
        store.replace(LOG, POSITION.pack(index), head + data)
        rows[index] = data, rows[index][1]

    def drop() -> None:
        index = chosen.choice([one for one, (_, body) in rows.items() if body is not None] or [0])
        body = rows[index][1] if index else None
        if body is not None:
            journal.drop_body(ledger.TENANT + digest_of(body))
            rows[index] = rows[index][0], None

    for step in range(120):
        if step == 30:
            store.use_newest_format()
        choice = chosen.choice([append] * 6 + [cut_off, replace, drop]) if rows else append
        if choice in (replace, drop):  # what a fold does to entries that are committed, and never cut off again
            store.commit()
            journal.reload()
            kept, folded = dict(rows), len(rows)
        choice()
        match chosen.randint(0, 9):
            case 0 | 1 | 2:
                store.commit()
                kept = dict(rows)
            case 3:
                store.abort()
                rows = dict(kept)
            case 4:
                store.close()
                store = Store(tmp_path, MAP_BYTES, durable=False)
                journal = LmdbJournal(store)
                rows = dict(kept)
            case _:
                continue
        journal.reload()
        _same(store, rows)
    store.close()


def _same(store: Store, rows: dict[int, tuple[bytes, bytes | None]]) -> None:
    with store.snapshot() as snapshot:
        for index, (data, body) in rows.items():
            assert value_at(store, index) == data
            assert snapshot.introduced(index, 0) == body
    with store.env.begin() as txn:
        for key in txn.cursor(db=store.db[TAILS]).iternext(values=False):
            stored = txn.get(key, db=store.db[LOG if len(key) == POSITION.size else SLICES])
            assert stored is not None, "a tail of nothing"
            assert (len(stored) + HEAD_BYTES) % PAGE_BYTES == 0, "a tail of what is whole"
