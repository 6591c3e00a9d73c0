"""Something slow has one asker after another, and a flood of one asker fills its own queue only."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from actors import turns as turns_module
from actors.turns import Turns

Run = Callable[[Coroutine[Any, Any, Any]], Any]


class Slow:
    """What is done in turns; `release` lets the present one end. `order` is who had a turn."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.order: list[str] = []
        self._gate = asyncio.Semaphore(0)
        self.tasks: list[asyncio.Task[None]] = []

    async def ask(self, asker: str, *, first: bool = False) -> asyncio.Task[None]:
        async def work() -> None:
            async with self.turns.turn(asker, first=first):
                self.order.append(asker)
                await self._gate.acquire()

        task = asyncio.create_task(work())
        self.tasks.append(task)
        await asyncio.sleep(0)
        return task

    async def finish(self) -> list[BaseException | None]:
        for _ in self.tasks:
            self._gate.release()
        return await asyncio.gather(*self.tasks, return_exceptions=True)


def test_askers_take_turns_however_much_one_of_them_asks(run: Run) -> None:
    async def scenario() -> list[str]:
        slow = Slow()
        for asker in ("flood", "flood", "flood", "flood", "alice", "bob"):
            await slow.ask(asker)
        await slow.finish()
        return slow.order

    assert run(scenario()) == ["flood", "flood", "alice", "bob", "flood", "flood"]


def test_who_is_known_goes_before_all_others(run: Run) -> None:
    async def scenario() -> list[str]:
        slow = Slow()
        for asker in ("flood", "flood", "other"):
            await slow.ask(asker)
        await slow.ask("known", first=True)
        await slow.finish()
        return slow.order

    assert run(scenario()) == ["flood", "known", "flood", "other"]


def test_a_flood_is_turned_away_and_nobody_else_is(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns_module, "MAX_WAITING_OF_ONE", 2)

    async def scenario() -> list[str]:
        slow = Slow()
        for asker in ("flood", "flood", "flood", "flood", "alice"):
            await slow.ask(asker)
        return [type(one).__name__ for one in await slow.finish()]

    assert run(scenario()) == ["NoneType", "NoneType", "NoneType", "Overloaded", "NoneType"]


def test_many_strangers_do_not_turn_away_who_is_known(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns_module, "MAX_WAITING", 3)

    async def scenario() -> tuple[list[str], list[str]]:
        slow = Slow()
        for number in range(6):
            await slow.ask(f"stranger {number}")
        await slow.ask("known", first=True)
        return [type(one).__name__ for one in await slow.finish()], slow.order

    outcomes, order = run(scenario())
    assert outcomes == ["NoneType"] * 4 + ["Overloaded"] * 2 + ["NoneType"]
    assert order[1] == "known"


def test_who_goes_away_while_waiting_holds_nobody_up(run: Run) -> None:
    async def scenario() -> list[str]:
        slow = Slow()
        tasks = [await slow.ask(asker) for asker in ("first", "gone", "last")]
        tasks[1].cancel()
        await slow.finish()
        return slow.order

    assert run(scenario()) == ["first", "last"]


def test_who_goes_away_just_as_its_turn_comes_passes_it_on(run: Run) -> None:
    async def scenario() -> tuple[list[str], list[str]]:
        slow = Slow()
        tasks = [await slow.ask(asker) for asker in ("first", "gone", "last")]
        slow._gate.release()
        await asyncio.sleep(0)  # the first is done and has passed its turn on
        tasks[1].cancel()
        outcomes = [type(one).__name__ for one in await slow.finish()]
        return outcomes, slow.order

    outcomes, order = run(scenario())
    assert outcomes == ["NoneType", "CancelledError", "NoneType"]
    assert order in (["first", "last"], ["first", "gone", "last"])
