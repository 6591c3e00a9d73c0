"""Entries that are on disk ahead of the database: what is found again, what is not, and when a tick may rest on it."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

import eventlog.durability
from eventlog.ahead import BLOCK_BYTES, FILE, ID_BYTES, Ahead
from eventlog.errors import DamagedDatabase, SyncFailed
from eventlog.store import Store
from tests.eventlog import ledger
from tests.eventlog.conftest import MAP_BYTES
from tests.eventlog.test_writer import FULL, Driven, WatchedStore, append_entries

ONE, OTHER = b"1" * ID_BYTES, b"2" * ID_BYTES


def opened(folder: Path, id_: bytes = ONE, held: int = 0) -> Ahead:
    return Ahead(folder, id_, held, durable=False)


def write(ahead: Ahead, *payloads: bytes) -> None:
    for payload in payloads:
        assert ahead.takes(len(payload))
        assert ahead.write(payload)


def overwrite(folder: Path, at: int, data: bytes) -> None:
    with (folder / FILE).open("r+b") as file:
        file.seek(at)
        file.write(data)


# -- the file -------------------------------------------------------------------------------------------------------


def test_frames_that_the_database_does_not_hold_come_back_in_order(tmp_path: Path) -> None:
    ahead = opened(tmp_path)
    write(ahead, b"a", b"b" * 5000, b"c")
    ahead.close()
    assert opened(tmp_path).frames(0) == [b"a", b"b" * 5000, b"c"]
    assert opened(tmp_path).frames(2) == [b"c"]
    assert opened(tmp_path).frames(3) == []


def test_a_frame_that_is_torn_is_the_end(tmp_path: Path) -> None:
    write(opened(tmp_path), b"a", b"b" * 5000)
    overwrite(tmp_path, 2 * BLOCK_BYTES, bytes(100))
    assert opened(tmp_path).frames(0) == [b"a"]


def test_a_frame_that_is_missing_before_others_is_damage(tmp_path: Path) -> None:
    write(opened(tmp_path), b"a", b"b", b"c")
    overwrite(tmp_path, BLOCK_BYTES + 20, b"damage")
    with pytest.raises(DamagedDatabase):
        opened(tmp_path).frames(0)
    assert opened(tmp_path).frames(2) == [b"c"], "the database holds the damaged one"


def test_frames_of_an_earlier_turn_are_not_taken_for_later_ones(tmp_path: Path) -> None:
    ahead = opened(tmp_path)
    write(ahead, b"a", b"b", b"c")
    ahead.begin_again()
    write(ahead, b"d")
    assert opened(tmp_path).frames(3) == [b"d"]


def test_frames_of_another_database_are_not_taken(tmp_path: Path) -> None:
    write(opened(tmp_path, OTHER), b"a", b"b")
    assert opened(tmp_path).frames(0) == []


def test_the_file_takes_what_it_has_room_for_and_has_room_again(tmp_path: Path) -> None:
    ahead = opened(tmp_path)
    assert not ahead.takes(Ahead.FILE_BYTES)
    piece = bytes(Ahead.FILE_BYTES // 4)
    write(ahead, piece, piece, piece)
    assert not ahead.takes(len(piece))
    ahead.begin_again()
    write(ahead, piece)
    assert (tmp_path / FILE).stat().st_size == Ahead.FILE_BYTES


def test_what_is_wiped_is_gone_from_the_file(tmp_path: Path) -> None:
    ahead = opened(tmp_path)
    write(ahead, b"a secret", b"another secret")
    ahead.wipe()
    assert b"secret" not in (tmp_path / FILE).read_bytes()
    write(ahead, b"more")
    assert opened(tmp_path).frames(2) == [b"more"]


def test_where_the_file_can_not_be_made_or_written_nothing_rests_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "no space")

    ahead = opened(tmp_path)
    write(ahead, b"a")
    monkeypatch.setattr(os, "pwrite", full)
    assert not ahead.write(b"b")
    assert not ahead.takes(1)
    (tmp_path / "other").mkdir()
    assert not opened(tmp_path / "other").takes(1)


def test_a_sync_of_which_nobody_knows_whether_it_is_on_disk_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: int) -> None:
        raise OSError(5, "input/output error")

    ahead = Ahead(tmp_path, ONE, 0)
    assert ahead.takes(1)
    monkeypatch.setattr(os, "fdatasync", fails)
    with pytest.raises(SyncFailed):
        ahead.write(b"a")


# -- the tick -------------------------------------------------------------------------------------------------------


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driven]:
    """One of three, whose cell has the newest feature level; its database need not have anything soon."""
    monkeypatch.setattr(eventlog.durability, "SETTLE_S", 3600.0)
    store = Store(tmp_path / "data", MAP_BYTES, durable=False)
    store.use_newest_format()
    store.commit()
    store.close()
    driven = Driven(tmp_path, ("n1", "n2", "n3"))
    with capture_logs():
        driven.tick(("message", "n2", entries_after(0)))  # hears of the term
        yield driven
    driven.store.close()


def entries_after(previous: int, *data: str, commit: int = 0, term: int = 1) -> dict[str, Any]:
    """One message of a leader: so many records behind `previous`."""
    records = [ledger.record(ledger.event(each)) for each in data]
    return {
        **append_entries(term, *records, commit=commit),
        "prevLogIdx": previous,
        "prevLogTerm": term * bool(previous),
    }


def restarted(node: Driven, folder: Path) -> Driven:
    """The same node after its power was cut: what is in an open transaction is gone."""
    node.store.close()
    node.store = (again := Driven(folder, ("n1", "n2", "n3"))).store
    return again


def answers(node: Driven, *items: Any) -> list[int]:
    return [message["match"] for _, message in node.tick(*items).messages]


def test_a_follower_acknowledges_few_entries_before_its_database_has_them(node: Driven, tmp_path: Path) -> None:
    commits = node.store.commits
    assert answers(node, ("message", "n2", entries_after(0, "a"))) == [1]
    assert answers(node, ("message", "n2", entries_after(1, "b"))) == [2]
    assert node.store.commits == commits
    with node.store.env.begin() as txn:
        assert txn.stat(node.store.db[b"log"])["entries"] == 0
    again = restarted(node, tmp_path)
    assert again.writer.state.last_index == 2
    assert (again.store.commits, again.store.lasts[-1]) == (1, True), "before the file is written again"
    assert answers(again, ("message", "n2", entries_after(2, "c"))) == [3]
    assert again.tick(("message", "n2", entries_after(3, commit=3))).state.applied == 3


def test_what_was_found_at_the_start_is_committed_by_the_thread_that_found_it(node: Driven, tmp_path: Path) -> None:
    """LMDB has a lock for who writes, which belongs to a thread."""
    node.tick(("message", "n2", entries_after(0, "a")))
    again = restarted(node, tmp_path)
    assert again.store.commits == 1
    told = threading.Semaphore(0)
    again.writer._on_tick = lambda _: told.release()
    again.writer.start()

    def ticks() -> None:
        for previous in (1, 2):
            again.writer.tick([("message", "n2", entries_after(previous, "b", commit=previous))])
            assert told.acquire(timeout=10)
        again.writer.tick([("stop",)])
        again.writer.join()

    runner = threading.Thread(target=ticks, daemon=True)
    runner.start()
    runner.join(timeout=30)
    assert not runner.is_alive()
    assert again.writer._journal.last_index == 3


def test_what_was_found_and_could_not_be_written_is_found_again_by_the_first_tick(
    node: Driven, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.tick(("message", "n2", entries_after(0, "a")))
    monkeypatch.setattr(WatchedStore, "failure", FULL)
    again = restarted(node, tmp_path)
    assert (again.writer.state.last_index, again.store.dirty) == (1, False)
    monkeypatch.setattr(WatchedStore, "failure", None)
    tick = again.tick(("message", "n2", entries_after(1, "b", commit=2)))
    assert (tick.state.last_index, tick.state.applied, again.store.dirty) == (2, 2, False)


def test_many_entries_go_to_the_database(node: Driven) -> None:
    commits = node.store.commits
    assert answers(node, ("message", "n2", entries_after(0, *(["x" * 4096] * 20)))) == [20]
    assert node.store.commits == commits + 1
    assert node.store.lasts[-1]


def test_what_a_new_leader_cuts_off_does_not_come_back(node: Driven, tmp_path: Path) -> None:
    node.tick(("message", "n2", entries_after(0, "a", "b")))
    node.tick(("message", "n3", {**entries_after(0, "c", term=2), "prevLogTerm": 0}))
    assert node.store.lasts[-1]
    again = restarted(node, tmp_path)
    assert (again.writer.state.last_index, again.writer._journal.term_at(1)) == (1, 2)


def test_a_term_is_in_the_database_before_anything_rests_on_it(node: Driven) -> None:
    commits = node.store.commits
    node.tick(("message", "n3", entries_after(0, "a", term=7)))
    assert (node.store.commits, node.store.lasts[-1]) == (commits + 1, True)


def test_what_is_committed_is_folded_with_what_follows_or_a_little_later(
    node: Driven, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.tick(("message", "n2", entries_after(0, "a")))
    tick = node.tick(("message", "n2", entries_after(1, "b", commit=1)))
    assert (tick.state.commit, tick.state.applied, tick.state.behind) == (1, 0, False)
    monkeypatch.setattr(eventlog.durability, "SETTLE_S", 0.0)
    node.writer._settle_due = 1e-9
    tick = node.tick()
    assert (tick.state.applied, node.store.dirty) == (1, False)
    assert not node.store.lasts[-1], "its entries are on disk: the end of the power may undo the fold"


def test_where_the_file_has_no_room_the_database_has_the_entries_and_the_fold_follows_at_once(node: Driven) -> None:
    node.tick(("message", "n2", entries_after(0, "a")))
    ahead = node.store.ahead
    assert ahead is not None
    ahead._at = Ahead.FILE_BYTES
    tick = node.tick(("message", "n2", entries_after(1, "b", commit=1)))
    assert (tick.state.applied, tick.state.behind, node.store.lasts[-1], ahead._at) == (0, True, True, 0)
    assert node.tick().state.applied == 1


def test_news_without_entries_are_folded_at_once(node: Driven) -> None:
    node.tick(("message", "n2", entries_after(0, "a")))
    tick = node.tick(("message", "n2", entries_after(1, commit=1)))
    assert (tick.state.applied, node.store.dirty) == (1, False)


def test_where_somebody_waits_it_is_folded_at_once(node: Driven) -> None:
    node.tick(("message", "n2", entries_after(0, "a")))
    node.wanted.add(bytes(16))
    assert node.tick(("message", "n2", entries_after(1, "b", commit=1))).state.applied == 1


def test_what_a_barrier_waits_for_is_folded_at_once(node: Driven) -> None:
    node.tick(("message", "n2", entries_after(0, "a")))
    node.tick(("message", "n2", entries_after(1, "b", commit=1)))
    assert node.tick(("awaited", 2)).state.applied == 1
    assert node.tick(("message", "n2", entries_after(2, "c", commit=2))).state.applied == 2
    assert node.tick(("message", "n2", entries_after(3, "d", commit=3))).state.applied == 2, "nobody waits any more"


def test_a_tick_that_can_not_be_written_leaves_what_was_acknowledged(node: Driven) -> None:
    node.tick(("message", "n2", entries_after(0, "a", "b")))
    node.tick(("message", "n2", entries_after(2, "c", commit=2)))
    node.store.failure = FULL
    tick = node.tick(("message", "n2", entries_after(3, commit=3)))
    assert (tick.messages, tick.state.last_index, tick.state.commit, tick.state.applied) == ([], 3, 2, 0)
    assert not tick.state.writable
    commits = node.store.commits
    node.tick(("message", "n2", entries_after(3, "d", commit=2)))
    assert (node.store.commits, node.writer.state.last_index) == (commits, 3), "a node that can not write takes no more"
    node.store.failure = None
    tick = node.tick(("message", "n2", entries_after(3, "d", commit=4)))
    assert (tick.state.last_index, tick.state.applied, tick.state.writable) == (4, 4, True)


def test_who_works_between_two_ticks_finds_no_transaction_open(node: Driven) -> None:
    node.tick(("message", "n2", entries_after(0, "a")))
    assert node.store.dirty
    found: list[bool] = []
    node.tick(("call", lambda: found.append(node.store.dirty)))
    assert found == [False]


def test_a_node_that_stops_leaves_everything_in_its_database(node: Driven, tmp_path: Path) -> None:
    node.tick(("message", "n2", entries_after(0, "a")))
    node.tick(("stop",))
    node.store.close()
    (tmp_path / "data" / FILE).unlink()
    assert Driven(tmp_path, ("n1", "n2", "n3")).writer.state.last_index == 1


def test_a_leaders_caller_is_answered_from_the_database(node: Driven) -> None:
    node.lead()
    first = node.tick(node.proposal(ledger.record()))
    node.tick(node.acknowledge("n2", first.state.last_index), node.acknowledge("n3", first.state.last_index))
    commits = node.store.commits
    record = ledger.record()
    tick = node.tick(node.proposal(record))
    assert (tick.answers, node.store.commits, node.store.dirty) == ([], commits, True)
    tick = node.tick(node.acknowledge("n2", tick.state.last_index))
    assert [answer.id for answer in tick.answers] == [record.id]
    assert (node.store.commits, node.store.lasts[-1], node.store.dirty) == (commits + 1, False, False)


def test_a_leader_folds_later_what_others_wait_for_where_more_of_it_is_expected(node: Driven) -> None:
    node.lead()
    first = node.tick(node.proposal(ledger.record()))
    node.tick(node.acknowledge("n2", first.state.last_index), node.acknowledge("n3", first.state.last_index))
    node.wanted.clear()
    proposed = node.proposal(ledger.record(), origin="n2")
    node.wanted.clear()
    tick = node.tick(proposed)
    tick = node.tick(node.acknowledge("n2", tick.state.last_index))
    assert (tick.state.commit, tick.state.applied) == (first.state.last_index + 1, first.state.last_index)
    assert ("n2", tick.state.commit) in [(peer, message["commit_index"]) for peer, message in node.early]


def test_a_database_of_an_earlier_format_has_nothing_ahead_of_it(tmp_path: Path) -> None:
    driven = Driven(tmp_path, ("n1", "n2", "n3"))
    driven.tick(("message", "n2", entries_after(0)))
    commits = driven.store.commits
    driven.tick(("message", "n2", entries_after(0, "a")))
    assert driven.store.commits == commits + 1
    assert not (tmp_path / "data" / FILE).exists()
    driven.store.close()


def test_an_entry_that_was_damaged_by_nobody_known_keeps_the_node_from_starting(node: Driven, tmp_path: Path) -> None:
    for previous in range(3):
        node.tick(("message", "n2", entries_after(previous, "a")))
    node.store.close()
    overwrite(tmp_path / "data", 60, b"damage")
    with pytest.raises(DamagedDatabase):
        Driven(tmp_path, ("n1", "n2", "n3"))
