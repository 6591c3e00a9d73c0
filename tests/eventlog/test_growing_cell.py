"""Members come and go while real event logs work: over mutual TLS on loopback, callers at every node."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from eventlog import levels
from eventlog.errors import LogError, Rejected
from eventlog.members import MEMBERS, rows
from eventlog.rebuild import rebuild
from eventlog.verify import verify
from tests.eventlog import ledger
from tests.eventlog.loopback import Loopback, free_ports, loopback, until
from tests.eventlog.test_cell import effective_ids

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(autouse=True)
def quiet() -> Any:
    """Elections and changes are told in the log."""
    with capture_logs() as told:
        yield told


class Growing(Loopback):
    """A cell of n1 alone, and of whoever is added to it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.peers = {"n1": self.addresses["n1"]}

    async def join(self, name: str, by: str = "n1") -> None:
        """Starts an empty node and has it added; returns when it votes."""
        address = self.addresses.setdefault(name, f"127.0.0.1:{free_ports(1)[0]}")
        self.certify(name)
        await self.start(name)
        await self.logs[by].add_member(name, address, ledger.CLIENT, "a test")
        await until(lambda: voters(self, by) >= {name}, f"the vote of {name}")


def voters(cell: Loopback, name: str) -> set[str]:
    return {member.name for member in cell.logs[name].members() if member.voter}


@asynccontextmanager
async def growing(folder: Path) -> AsyncIterator[Growing]:
    cell = Growing(folder)
    try:
        await cell.start("n1")
        await cell.leader()
        await cell.logs["n1"].barrier()
        yield cell
    finally:
        await cell.stop()


def test_a_cell_of_one_grows_to_three_and_back_to_one_under_load_and_loses_nothing(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with growing(tmp_path) as cell:
            done: list[bytes] = []
            stop = asyncio.Event()

            async def client() -> None:
                while not stop.is_set():
                    names = sorted(name for name in cell.logs if name in voters(cell, name))
                    record = ledger.record()
                    try:
                        await cell.logs[names[len(done) % len(names)]].propose(record)
                    except LogError:
                        await asyncio.sleep(0.01)
                    else:
                        done.append(record.id)

            clients = [asyncio.ensure_future(client()) for _ in range(8)]
            await cell.join("n2")
            await cell.join("n3", by="n2")
            await cell.logs["n3"].remove_member("n1", ledger.CLIENT, "a test")
            await until(lambda: cell.logs["n1"].status().removed_at, "news of the removal")
            gone = cell.logs.pop("n1")
            await gone.stop()
            await cell.logs["n2"].remove_member("n3", ledger.CLIENT, "a test")
            await until(lambda: cell.logs["n3"].status().removed_at, "news of the removal")
            await cell.stop("n3")
            before = len(done)
            await until(lambda: len(done) > before + 50, "more records")
            stop.set()
            await asyncio.gather(*clients)
            ids = effective_ids(cell.logs["n2"])
            assert set(done) <= set(ids)
            assert len(ids) == len(set(ids))
            assert (await asyncio.to_thread(verify, cell.logs["n2"])).ok
            assert (await asyncio.to_thread(rebuild, cell.logs["n2"], ledger.evolve)).equal

    run(scenario())


def test_the_first_leader_writes_level_and_members_into_the_log_of_a_new_cell(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with loopback(tmp_path) as cell:
            await until(lambda: all(log.feature_level == levels.NEWEST for log in cell.logs.values()))
            await until(lambda: all(log.status().applied > 2 for log in cell.logs.values()))
            await cell.level()
            for log in cell.logs.values():
                with log.snapshot() as snapshot:
                    found = [(name, row[0], row[1]) for name, row in rows(snapshot.view(MEMBERS))]
                assert found == [(name, cell.peers[name], True) for name in sorted(cell.peers)]

    run(scenario())


def test_a_change_is_in_the_log_with_who_made_it_and_why(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with growing(tmp_path) as cell:
            log = cell.logs["n1"]
            position = await log.add_member("n2", "127.0.0.1:1", ledger.CLIENT, "more room")
            with log.snapshot() as snapshot:
                stored = snapshot.record(position)
            assert stored is not None
            assert stored.record is not None
            assert (stored.record.by, stored.record.cause) == (ledger.CLIENT, "more room")
            assert [member.voter for member in log.members()] == [True, False]

    run(scenario())


def test_changes_that_can_not_be_are_refused_on_any_node_with_the_reason(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with loopback(tmp_path) as cell:
            await until(lambda: all(log.status().applied > 2 for log in cell.logs.values()))
            for log in cell.logs.values():
                with pytest.raises(Rejected, match="is_a_member"):
                    await log.add_member("n2", "127.0.0.1:9", ledger.CLIENT, "a test")
                with pytest.raises(Rejected, match="not_a_member"):
                    await log.remove_member("n9", ledger.CLIENT, "a test")
                with pytest.raises(Rejected, match="not_a_voter"):
                    await log.transfer_leadership("n9")

    run(scenario())


def test_two_changes_at_once_are_one_change_and_one_refusal(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with loopback(tmp_path) as cell:
            await until(lambda: all(log.status().applied > 2 for log in cell.logs.values()))
            adding = (
                log.add_member(f"n{number}", f"127.0.0.1:{number}", ledger.CLIENT, "a test")
                for number, log in enumerate(cell.logs.values(), 4)
            )
            ends = await asyncio.gather(*adding, return_exceptions=True)
            refusals = [end.reason for end in ends if isinstance(end, Rejected)]
            assert set(refusals) <= {"change_under_way", "members_changed", "no_leader"}
            assert len(refusals) + sum(isinstance(end, int) for end in ends) == 3
            assert len(cell.logs["n1"].members()) == 3 + 3 - len(refusals)

    run(scenario())


def test_leadership_goes_to_the_member_that_any_node_names(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with loopback(tmp_path) as cell:
            leader = await cell.leader()
            for asked in sorted(cell.logs):
                wanted = next(name for name in sorted(cell.logs) if name != leader)
                await cell.logs[asked].transfer_leadership(wanted)
                leader = await cell.leader()
                assert leader == wanted

    run(scenario())


def test_a_node_that_was_down_when_it_was_removed_learns_of_it_when_it_comes_back(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with loopback(tmp_path) as cell:
            await until(lambda: all(log.status().applied > 2 for log in cell.logs.values()))
            away = (await cell.followers())[0]
            await cell.die(away)
            leader = await cell.leader()
            position = await cell.logs[leader].remove_member(away, ledger.CLIENT, "it is broken")
            cell.logs[leader]._transport.connect_to({})  # type: ignore[union-attr]  # as after a minute
            await cell.start(away)
            await until(lambda: cell.logs[away].status().removed_at == position, "news of the removal")

    run(scenario())


def test_a_dead_node_is_replaced_by_one_of_another_name(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with loopback(tmp_path) as cell:
            await until(lambda: all(log.status().applied > 2 for log in cell.logs.values()))
            dead = (await cell.followers())[0]
            await cell.die(dead)
            leader = cell.logs[await cell.leader()]
            records = [ledger.record() for _ in range(20)]
            await asyncio.gather(*(leader.propose(record) for record in records))
            await leader.remove_member(dead, ledger.CLIENT, "it is broken")
            with pytest.raises(Rejected, match="was_a_member"):
                await leader.add_member(dead, "127.0.0.1:9", ledger.CLIENT, "again")
            cell.peers = {name: address for name, address in cell.peers.items() if name != dead}
            cell.addresses = {**cell.addresses, "n4": f"127.0.0.1:{free_ports(1)[0]}"}
            cell.certify("n4")
            await cell.start("n4")
            await leader.add_member("n4", cell.addresses["n4"], ledger.CLIENT, "its successor")
            await until(lambda: any(m.name == "n4" and m.voter for m in leader.members()), "the vote of n4")
            await cell.level()
            assert {record.id for record in records} <= set(effective_ids(cell.logs["n4"]))

    run(scenario())


def test_a_node_that_was_away_follows_a_leader_that_it_has_never_heard_of(tmp_path: Path, run: Run) -> None:
    """It does not know the leader's address either: it answers on the connection that the leader made."""

    async def scenario() -> None:
        async with loopback(tmp_path) as cell:
            await until(lambda: all(log.status().applied > 2 for log in cell.logs.values()))
            away = (await cell.followers())[0]
            await cell.die(away)
            leader = cell.logs[await cell.leader()]
            cell.addresses = {**cell.addresses, "n4": f"127.0.0.1:{free_ports(1)[0]}"}
            cell.certify("n4")
            await cell.start("n4")
            await leader.add_member("n4", cell.addresses["n4"], ledger.CLIENT, "a test")
            await until(lambda: any(m.name == "n4" and m.voter for m in leader.members()), "the vote of n4")
            await leader.transfer_leadership("n4")
            await cell.start(away)
            done = await cell.logs[away].propose(ledger.record(), timeout_s=15)
            assert done.position > 0
            assert cell.logs[away].status().leader == "n4"
            await cell.level()

    run(scenario())


def test_the_level_stays_low_while_a_member_does_not_know_the_new_one(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with loopback(tmp_path, knows={"n3": levels.OLDEST}) as cell:
            leader = cell.logs[await cell.leader()]
            await asyncio.gather(*(leader.propose(ledger.record()) for _ in range(20)))
            for log in cell.logs.values():
                with pytest.raises(Rejected, match=r"feature_level: .*n3 \(it knows 1\)"):
                    await log.raise_feature_level(levels.NEWEST, ledger.CLIENT, "a test")
                with pytest.raises(Rejected, match="feature_level"):
                    await log.add_member("n4", "127.0.0.1:9", ledger.CLIENT, "a test")

    run(scenario())
