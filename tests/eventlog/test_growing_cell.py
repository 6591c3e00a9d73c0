"""Members come and go while real event logs work: over mutual TLS on loopback, callers at every node."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from eventlog.errors import LogError
from eventlog.rebuild import rebuild
from eventlog.verify import verify
from tests.eventlog import ledger
from tests.eventlog.loopback import Loopback, free_ports, until
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
