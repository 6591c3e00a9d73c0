"""Work within a time limit: begun at once, ended in time, and cancelled like any other."""

import asyncio

import pytest

from nodes.waiting import within


async def after(steps: int, gives: str) -> str:
    for _ in range(steps):
        await asyncio.sleep(0)
    return gives


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_work_gives_what_it_gives_however_often_it_waits(steps: int) -> None:
    assert asyncio.run(within(5.0, after(steps, "done"))) == "done"


def test_work_that_does_not_wait_sees_no_other_task_and_no_limit() -> None:
    async def main() -> list[str]:
        seen: list[str] = []
        other = asyncio.create_task(note(seen, "other"))
        await within(0.0, note(seen, "work"))
        await other
        return seen

    async def note(seen: list[str], what: str) -> None:
        seen.append(what)

    assert asyncio.run(main()) == ["work", "other"]


def test_work_that_waits_too_long_is_cancelled_and_cleans_up() -> None:
    cleaned = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    with pytest.raises(TimeoutError):
        asyncio.run(within(0.01, forever()))
    assert cleaned == [True]


@pytest.mark.parametrize("steps", [0, 2])
def test_an_error_of_the_work_is_raised_as_it_is(steps: int) -> None:
    async def failing() -> None:
        await after(steps, "")
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        asyncio.run(within(5.0, failing()))


def test_work_may_catch_what_it_waits_for_and_go_on() -> None:
    async def retrying() -> str:
        broken = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(broken.set_exception, OSError("lost"))
        try:
            await broken
        except OSError:
            return await after(2, "again")
        return "never"

    assert asyncio.run(within(5.0, retrying())) == "again"


def test_a_limit_within_a_limit_is_its_own() -> None:
    async def inner() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            return await after(1, "inner")
        return "never"

    assert asyncio.run(within(5.0, inner())) == "inner"


def test_whoever_cancels_the_task_cancels_the_work() -> None:
    async def main() -> bool:
        task = asyncio.create_task(within(5.0, after(1_000_000, "")))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(main())
