"""Quarantine: a record that can not be folded is passed over, alike on every node, for ever, and by the log alone."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from eventlog import custody
from eventlog.custody import KIND_QUARANTINE
from eventlog.errors import LogError, Rejected
from eventlog.fold import Fold, Outcome
from eventlog.journal import KIND_RECORD, Command, LmdbJournal
from eventlog.log import EventLog
from eventlog.rebuild import rebuild
from eventlog.record import Event, Guard, Record, Stamp, encode
from eventlog.restore import Head, restore
from eventlog.segment_source import records_of
from eventlog.segments import SegmentRecord
from eventlog.store import Store
from eventlog.verify import verify
from eventlog.views import View
from tests.eventlog import ledger
from tests.eventlog.loopback import Loopback, loopback, until

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(autouse=True)
def quiet() -> Any:
    with capture_logs() as told:
        yield told


def quarantine(position: int, **fields: Any) -> Record:
    fact = ledger.event((position, "a test"), stream=custody.CUSTODY, type_=custody.RECORD_QUARANTINED)
    return ledger.record(fact, **fields)


def mended(view: View, event: Event, stamp: Stamp) -> Any:
    """A later version of the program, which can fold what this one can not."""
    return ledger.evolve(view, event._replace(type="Noted"), stamp)


def outcome_at(log: EventLog, position: int) -> Outcome:
    with log.snapshot() as snapshot:
        stored = snapshot.record(position)
    assert stored is not None
    assert stored.outcome is not None
    return Outcome(stored.outcome)


async def stall(cell: Loopback) -> int:
    """Plants a record that raises; gives the position at which every node is stalled."""
    leader = cell.logs[await cell.leader()]
    before = await leader.propose(ledger.record(ledger.event("before")))
    with pytest.raises(LogError):
        await leader.propose(ledger.record(ledger.event(type_="Fail")), timeout_s=0.5)
    await until(lambda: all(log.status().stalled for log in cell.logs.values()), "a stall everywhere")
    (position,) = {log.status().applied + 1 for log in cell.logs.values()}
    assert position > before.position
    return position


async def check_equal(cell: Loopback, evolve: Any = ledger.evolve) -> None:
    await cell.level()
    for log in cell.logs.values():
        assert (await asyncio.to_thread(verify, log)).ok
        assert (await asyncio.to_thread(rebuild, log, evolve)).equal


def test_every_node_passes_over_a_quarantined_record_and_goes_on(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with loopback(tmp_path) as cell:
            position = await stall(cell)
            follower = cell.logs[(await cell.followers())[0]]
            done = await follower.propose(quarantine(position))
            assert done.position > position
            after = await follower.propose(ledger.record(ledger.event("after")))
            assert after.position > done.position
            await cell.level()
            for log in cell.logs.values():
                assert log.status().stalled is None
                assert log.status().accepting_mail
                assert outcome_at(log, position) is Outcome.QUARANTINED
                with log.snapshot() as snapshot:
                    assert ledger.facts(snapshot.view(ledger.STREAM)) == ["before", "after"]
            await check_equal(cell)
            await check_equal(cell, mended)

    run(scenario())


def test_a_stalled_cell_takes_nothing_but_the_quarantine_of_that_record(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with loopback(tmp_path) as cell:
            position = await stall(cell)
            leader = cell.logs[await cell.leader()]
            for refused in (ledger.record(), quarantine(position - 1), quarantine(position + 1)):
                with pytest.raises(Rejected) as caught:
                    await leader.propose(refused)
                assert caught.value.reason == "busy"

    run(scenario())


def test_a_stall_and_a_quarantine_survive_kills_of_every_node(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with loopback(tmp_path) as cell:
            position = await stall(cell)
            for name in list(cell.logs):
                await cell.die(name)
            await cell.start()
            await cell.leader()
            await until(lambda: all(log.status().stalled for log in cell.logs.values()), "the same stall")
            away = (await cell.followers())[0]
            await cell.die(away)
            leader = cell.logs[await cell.leader()]
            await leader.propose(quarantine(position))
            await cell.start(away)
            await cell.level()
            for name in list(cell.logs):
                await cell.die(name)
            await cell.start()
            await cell.leader()
            await cell.logs[away].propose(ledger.record(ledger.event("after")))
            await check_equal(cell)
            assert outcome_at(cell.logs[away], position) is Outcome.QUARANTINED

    run(scenario())


def test_whoever_proposed_the_record_is_told_that_it_was_rejected(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with loopback(tmp_path) as cell:
            leader = cell.logs[await cell.leader()]
            waiting = asyncio.ensure_future(leader.propose(ledger.record(ledger.event(type_="Fail")), timeout_s=15))
            await until(lambda: leader.status().stalled is not None)
            await leader.propose(quarantine(leader.status().applied + 1))
            with pytest.raises(Rejected) as caught:
                await waiting
            assert caught.value.reason == "quarantined"

    run(scenario())


def test_a_cell_that_is_not_stalled_refuses_a_quarantine(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with loopback(tmp_path) as cell:
            leader = cell.logs[await cell.leader()]
            done = await leader.propose(ledger.record())
            with pytest.raises(Rejected) as caught:
                await leader.propose(quarantine(done.position))
            assert caught.value.reason == "misplaced"
            await check_equal(cell)

    run(scenario())


# -- the log's own rules -------------------------------------------------------------------------------------------


def test_an_entry_quarantines_only_what_stands_before_it_unexpired_and_without_guards() -> None:
    at_ms = quarantine(4).expires_ms
    assert custody.quarantined_by(quarantine(4, expires_ms=at_ms), 5, at_ms) == 4
    assert custody.quarantined_by(quarantine(4, expires_ms=at_ms), 5, at_ms + 1) is None
    assert custody.quarantined_by(quarantine(5), 5, 0) is None
    assert custody.quarantined_by(quarantine(0), 5, 0) is None
    assert custody.quarantined_by(ledger.record(ledger.event((4, "x"))), 5, 0) is None
    assert custody.quarantined_by(ledger.record(*quarantine(4).events, ledger.event()), 5, 0) is None
    guarded = quarantine(4, guards=(Guard(ledger.STREAM, b"x", 0),))
    assert custody.quarantined_by(guarded, 5, 0) is None


def test_a_quarantine_that_is_truncated_never_was(store: Store) -> None:
    journal = LmdbJournal(store)
    journal.add(Command(KIND_RECORD, 1, ledger.encoded(ledger.event(type_="Fail"))), 1, 1)
    journal.add(Command(KIND_QUARANTINE, 1, encode(quarantine(1))), 2, 1)
    assert journal.quarantine_of(1) == 2
    assert not journal.is_quarantined(1), "it is not committed"
    journal.deleteEntriesFrom(1)
    assert journal.quarantine_of(1) is None
    store.commit()
    journal.reload()
    assert journal.quarantine_of(1) is None


def test_a_node_that_had_folded_what_the_cell_quarantined_stops_clearly(store: Store) -> None:
    journal = LmdbJournal(store)
    fold = Fold(store, journal, mended)
    journal.add(Command(KIND_RECORD, 1, ledger.encoded(ledger.event(type_="Fail"))), 1, 1)
    assert fold.apply(journal.entry(1)).outcome is Outcome.COMMITTED
    journal.add(Command(KIND_QUARANTINE, 1, encode(quarantine(1))), 2, 1)
    with pytest.raises(LogError, match="the cell has quarantined record 1, which this node has folded"):
        fold.apply(journal.entry(2))


class Source:
    """A folded store as the source of a restore."""

    cell = "test"

    def __init__(self, store: Store) -> None:
        self._store = store

    def head(self) -> Head:
        with self._store.snapshot() as snapshot:
            return self.at(snapshot.position)

    def position_at(self, at_ms: int) -> int:
        raise NotImplementedError

    def at(self, position: int) -> Head:
        with self._store.snapshot() as snapshot:
            stored = snapshot.record(position)
        assert stored is not None
        return Head(position, stored.at_ms, stored.term, stored.chain or b"")

    def records(self, first: int, last: int) -> Iterator[SegmentRecord]:
        return records_of(self._store, first, last)

    def checkpoint(self, last: int) -> None:
        """It has no tables to load."""


@pytest.mark.parametrize("cut", [3, 2])
def test_a_log_is_restored_across_what_was_quarantined_even_to_before_the_entry_that_says_so(
    store: Store, tmp_path: Path, cut: int
) -> None:
    journal = LmdbJournal(store)
    for index, kind, record in (
        (1, KIND_RECORD, ledger.record(ledger.event(type_="Fail"))),
        (2, KIND_RECORD, ledger.record(ledger.event("after"))),
        (3, KIND_QUARANTINE, quarantine(1)),
    ):
        journal.add(Command(kind, 1, encode(record)), index, 1)
    journal.setRaftCommitIndex(3)
    fold = Fold(store, journal, ledger.evolve)
    for index in (1, 2, 3):
        fold.apply(journal.entry(index))
    fold.flush()
    store.commit()
    source = Source(store)
    restore(source, source.at(cut), tmp_path / "restored", ledger.evolve)
    assert verify(tmp_path / "restored").ok
    assert rebuild(tmp_path / "restored", mended).equal
