"""A time limit for work that mostly need not wait at all.

asyncio.timeout sets and clears a timer each time, which on uvloop costs more than many a check that it is put around.
Here the work is begun first, in the same task, and a timer is only set where it really waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives. Raises what it raises, or TimeoutError where it waits for longer than `seconds` in all."""
    try:
        waits_for = work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    async with asyncio.timeout(seconds):
        return await _Begun(work, waits_for)


class _Begun(Awaitable[T]):
    """A coroutine that was begun, and what it waits for (PEP 380's `yield from`, entered in the middle)."""

    def __init__(self, work: Coroutine[Any, Any, T], waits_for: Any) -> None:
        self._work = work
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, T]:
        waits_for = self._waits_for
        while True:
            error: BaseException | None = None
            try:
                heard = yield waits_for
            except BaseException as thrown:
                error = thrown
            try:
                waits_for = self._work.send(heard) if error is None else self._work.throw(error)
            except StopIteration as done:
                result: T = done.value
                return result
