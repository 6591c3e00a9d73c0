"""What a follower forwards comes back to it as a token: its bytes cross no wire twice, and none are lost."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from eventlog.log import EventLog
from eventlog.record import digest_of
from tests.eventlog import ledger
from tests.eventlog.loopback import Loopback, loopback, until

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(autouse=True)
def quiet() -> Any:
    """Elections are told in the log."""
    with capture_logs():
        yield


def content(log: EventLog, number: int) -> bytes:
    return f"{log.config.name} {number} ".encode() * 500


async def propose_some(log: EventLog, count: int = 20) -> None:
    found = [content(log, number) for number in range(count)]
    await asyncio.gather(
        *(log.propose(ledger.record(ledger.event(n), bodies=(ledger.body(one),)), [one]) for n, one in enumerate(found))
    )


def have_all(cell: Loopback, count: int = 20) -> bool:
    found = [content(log, number) for log in cell.logs.values() for number in range(count)]
    for log in cell.logs.values():
        with log.snapshot() as snapshot:
            if [snapshot.body(ledger.TENANT, digest_of(one)) for one in found] != found:
                return False
    return True


class Heard:
    """The entries that a node was sent: how many of them whole, and how many as tokens."""

    def __init__(self, log: EventLog) -> None:
        assert log._transport is not None
        self.whole = self.tokens = 0
        self._hear, log._transport.on_message = log._transport.on_message, self._message

    def _message(self, peer: str, message: dict[str, Any]) -> None:
        for *_, bodies in message.get("entries", ()):
            self.whole += bodies is not None
            self.tokens += bodies is None
        self._hear(peer, message)


async def followers(cell: Loopback) -> list[EventLog]:
    return [cell.logs[name] for name in await cell.followers()]


def test_a_follower_is_sent_no_bytes_of_what_it_forwarded_and_all_of_what_others_did(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with loopback(tmp_path) as cell:
            heard = [Heard(log) for log in await followers(cell)]
            for log in cell.logs.values():
                await propose_some(log)
            await cell.level()
            assert [one.tokens for one in heard] == [20, 20]
            assert all(one.whole >= 40 for one in heard)
            assert have_all(cell)
            assert not any(log._proposals.held for log in cell.logs.values())
            assert len({log.status().chain for log in cell.logs.values()}) == 1

    run(scenario())


def test_a_follower_that_lost_what_it_forwarded_asks_for_it_and_nothing_is_lost(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with loopback(tmp_path) as cell:
            for log in await followers(cell):
                log._writer._raft.held = {}  # as it is in the next life of a node
            for log in cell.logs.values():
                await propose_some(log)
            await cell.level()
            await until(lambda: have_all(cell))

    run(scenario())


def test_a_follower_of_a_version_that_keeps_nothing_is_sent_everything(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with loopback(tmp_path) as cell:
            old = (await followers(cell))[0]
            heard, forward = Heard(old), old._proposals._forward

            def without_token(peer: str, message: dict[str, Any]) -> bool:
                return forward(peer, {name: value for name, value in message.items() if name != "held"})

            old._proposals._forward = without_token
            for log in cell.logs.values():
                await propose_some(log)
            await cell.level()
            assert heard.tokens == 0
            assert have_all(cell)

    run(scenario())
