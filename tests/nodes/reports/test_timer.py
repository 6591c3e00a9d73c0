"""The daily reports go out by the clock: once for a day and a domain, whoever leads and whatever restarts."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from actors.queue import items, queue_stream
from actors.reports import DAY_MS, REPORTS, CountResults, Sent, SetReporting, sent
from eventlog.log import EventLog
from nodes.delivery.tls_results import TlsResult
from nodes.reports.sender import Sender
from nodes.services import Services
from tests.nodes.policy.trio import Trio, trio, until
from tests.nodes.smtp.cell import ADMIN, Cell
from tests.peers.dns_server import DnsServer

TODAY = time.time_ns() // 1_000_000 // DAY_MS
ZONE = '_smtp._tls.peer.test. TXT "v=TLSRPTv1; rua=mailto:tls@peer.test"'
LINE = TlsResult("peer.test", "no-policy-found", (), (), "", "mx.peer.test", "::1", "")


class Clock:
    """Stands still until it is set; `asked` counts who looked at it."""

    def __init__(self) -> None:
        self.now_s = at(TODAY)
        self.asked = 0

    def __call__(self) -> float:
        self.asked += 1
        return self.now_s

    async def looked(self) -> None:
        """What is due now was dealt with: of two more looks, the first has ended."""
        seen = self.asked
        await until(lambda: self.asked >= seen + 2)


def at(day: int, hours: float = 12.0) -> float:
    return day * 86_400 + hours * 3600


def counted(day: int) -> CountResults:
    return CountResults("tls", day, "peer.test", (), 1, 2, ((tuple(LINE)[1:], 4),))


def reported(log: EventLog) -> list[Sent]:
    with log.snapshot() as snapshot:
        return list(sent(snapshot.view(REPORTS)))


def queued(log: EventLog) -> int:
    with log.snapshot() as snapshot:
        return len(list(items(snapshot.view(queue_stream("peer.test")))))


@asynccontextmanager
async def timer(services: Services, clock: Clock) -> AsyncIterator[None]:
    """A sender that looks at the clock all the time."""
    sender = Sender(services, 0.01, clock)
    try:
        yield
    finally:
        await sender.stop()


@pytest.fixture
def names() -> Iterator[DnsServer]:
    with DnsServer(ZONE) as server:
        server.misbehave("peer.test", "servfail")  # so that mail for it waits in the queue
        yield server


def make_cell(folder: Path, names: DnsServer) -> Cell:
    return Cell(folder, dns={"nameservers": [names.address], "timeout_s": 1.0})


async def prepare(services: Services, *days: int) -> None:
    await services.runtime.ask(REPORTS, SetReporting("alice@example.test", "Example", ()), ADMIN)
    for day in days:
        await services.runtime.ask(REPORTS, counted(day), ADMIN)


def test_a_day_is_reported_ten_minutes_after_its_midnight_and_once(tmp_path: Path, names: DnsServer) -> None:
    async def work(cell: Cell) -> None:
        clock = Clock()
        await prepare(cell.services, TODAY)
        async with timer(cell.services, clock):
            for moment in (at(TODAY), at(TODAY, 23.99), at(TODAY + 1, 0.16)):
                clock.now_s = moment
                await clock.looked()
                assert reported(cell.log) == []
            clock.now_s = at(TODAY + 1, 0.17)
            await clock.looked()
            assert [(one.outcome, one.subject.day) for one in reported(cell.log)] == [("sent", TODAY)]
            await prepare(cell.services, TODAY + 1)
            for moment in (at(TODAY + 1, 1), at(TODAY + 1, 23)):
                clock.now_s = moment
                await clock.looked()
                assert len(reported(cell.log)) == 1
            clock.now_s = at(TODAY + 2, 0.2)
            await clock.looked()
            assert [one.subject.day for one in reported(cell.log)] == [TODAY + 1, TODAY]
        assert queued(cell.log) == 2

    with make_cell(tmp_path, names) as cell:
        cell.call(work(cell))


def test_a_restart_sends_what_is_due_and_nothing_again(tmp_path: Path, names: DnsServer) -> None:
    clock = Clock()

    async def due(cell: Cell) -> None:
        async with timer(cell.services, clock):
            await clock.looked()

    with make_cell(tmp_path, names) as first:
        first.call(prepare(first.services, TODAY))
        first.call(due(first))
        assert reported(first.log) == []
    clock.now_s = at(TODAY + 1)
    for _ in range(2):  # down at midnight; and once more behind it
        with make_cell(tmp_path, names) as again:
            again.call(due(again))
            assert (len(reported(again.log)), queued(again.log)) == (1, 1)


def test_who_leads_next_sends_what_the_one_before_did_not_and_nothing_again(
    run: Callable[[Coroutine[Any, Any, Any]], Any], tmp_path: Path, names: DnsServer
) -> None:
    async def live() -> None:
        async with trio(tmp_path / "cell", f"dns.nameservers={names.address}") as nodes:
            services = services_of(nodes)
            await prepare(services[0], TODAY)
            first, clock = leading(services), Clock()
            async with timer(services[first], clock):
                await clock.looked()  # it leads, and midnight is still to come
            await nodes.lose(first)
            second = await due_at_all(nodes, first, at(TODAY + 1))
            await nodes.come_back(first)
            await nodes.lose(second)
            await due_at_all(nodes, second, at(TODAY + 1, 13))
            log = services_of(nodes)[first].log
            await log.applied(await log.barrier(10))
            assert (len(reported(log)), queued(log)) == (1, 1)

    with structlog.testing.capture_logs():
        run(live())


def services_of(nodes: Trio) -> list[Services]:
    return [state.services for state in nodes.states if state.services is not None]


def leading(services: list[Services]) -> int:
    """The number of the node that leads; raises StopIteration where none does."""
    return next(n for n, one in enumerate(services) if one.log.status().leader == one.log.status().name)


async def due_at_all(nodes: Trio, lost: int, now_s: float) -> int:
    """Has all but the lost node look at the clock until one of them has dealt with what is due; gives which leads."""
    clocks = {number: Clock() for number in range(3) if number != lost}
    async with AsyncExitStack() as running:
        for number, clock in clocks.items():
            clock.now_s = now_s
            await running.enter_async_context(timer(services_of(nodes)[number], clock))
        await until(lambda: any(clock.asked > 1 for clock in clocks.values()))
    return max(clocks, key=lambda number: clocks[number].asked)
