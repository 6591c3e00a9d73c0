"""Tokens of worker processes: taken from the node's buckets, one limit for all of them, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from nodes.failures import key_of
from nodes.policy import borrowed
from nodes.policy.borrowed import Borrowed, asked, lend
from nodes.policy.leases import Leases
from nodes.policy.rates import ACCOUNT, Due

Run = Callable[[Coroutine[Any, Any, Any]], Any]
KEY, OTHER = key_of("account messages", "a"), key_of("tenant messages", "a")


class Site:
    """A node and two of its workers; what they say takes a turn of the event loop each way."""

    def __init__(self) -> None:
        self.leases = Leases(now_s=lambda: 1000.0)
        self.answers = True
        self.asked = 0
        self.workers = [self._worker() for _ in range(2)]

    def _worker(self) -> Borrowed:
        def send(message: dict[str, Any]) -> None:
            if message["type"] == "unused":
                self.leases.give_back(message["key"], message["per_hour"], message["count"])
                return
            self.asked += 1
            if self.answers:
                self._tasks = asyncio.get_running_loop().create_task(answer(message))

        async def answer(message: dict[str, Any]) -> None:
            worker.lent({"number": message["number"], **await lend(self.leases, asked(message["wants"]))})

        worker = Borrowed(send)
        return worker


async def got(worker: Borrowed, per_hour: int, *keys: bytes) -> bool:
    """Whether a session gets a token of each bucket."""
    due = [Due(worker, key, per_hour, ACCOUNT) for key in keys or (KEY,)]
    short = worker.lacking(due)
    if short:
        await worker.gather(short)
    if any(worker.wait_s(one.key, one.per_hour) for one in due):
        return False
    for one in due:
        worker.take(one.key, one.per_hour)
    return True


def test_a_limit_is_one_for_all_workers_also_at_one_moment(run: Run) -> None:
    async def session() -> None:
        site = Site()
        sessions = (got(site.workers[number % 2], 50) for number in range(120))
        assert sum(await asyncio.gather(*sessions)) == 50

    run(session())


def test_nobody_is_refused_while_there_are_tokens(run: Run) -> None:
    async def session() -> None:
        site = Site()
        assert await asyncio.gather(*(got(site.workers[0], 20, KEY, OTHER) for _ in range(20))) == [True] * 20

    run(session())


def test_a_worker_that_is_busy_does_not_ask_for_each(run: Run) -> None:
    async def session() -> None:
        site = Site()
        for _ in range(500):
            assert await got(site.workers[0], 10_000)
        assert site.asked < 50

    run(session())


def test_where_one_bucket_is_empty_none_of_the_others_is_taken_from(run: Run) -> None:
    async def session() -> None:
        site = Site()
        site.leases.take(OTHER, 5, 5)
        assert not await got(site.workers[0], 5, KEY, OTHER)
        assert site.leases.count(KEY, 5) == 5
        assert 0 < site.workers[0].wait_s(OTHER, 5) <= 3600 / 5

    run(session())


def test_what_is_not_used_goes_back(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(borrowed, "UNUSED_S", 0.01)

    async def session() -> None:
        site = Site()
        await site.workers[0].gather([Due(site.workers[0], KEY, 1, ACCOUNT)])
        assert not await got(site.workers[1], 1)
        async with asyncio.timeout(10):
            while not await got(site.workers[1], 1):
                await asyncio.sleep(0.01)
        assert not await got(site.workers[0], 1)

    run(session())


def test_a_node_that_does_not_answer_is_not_waited_for_and_what_comes_later_goes_back(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(borrowed, "ASK_S", 0.01)

    async def session() -> None:
        site = Site()
        site.answers = False
        assert not await got(site.workers[0], 3)
        site.workers[0].lent({"number": 1, **await lend(site.leases, asked([(KEY, 3, 1)]))})
        assert site.leases.count(KEY, 3) == 3
        site.answers = True
        assert await got(site.workers[0], 3)

    run(session())


@pytest.mark.parametrize("wants", [[(b"short", 1, 1)], [(KEY, 0, 1)], [(KEY, 1, 1 << 20)], [(KEY, 1, 1)] * 99])
def test_what_is_no_question_for_tokens_is_not_answered(wants: list[Any]) -> None:
    with pytest.raises(ValueError, match="token"):
        asked(wants)
