"""Looks at filters that have not been heard of for a while, so that one that is down is known before mail comes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import structlog

from nodes.filters.check import Filter
from nodes.filters.health import reason_of

LOOK_S = 5.0  # how long a look may take

_log = structlog.get_logger("mailraft.filters")


class Watch:
    """Begins when it is made, on the event loop; `stop` ends it."""

    def __init__(self, filters: Sequence[Filter], every_s: float) -> None:
        self._every_s = every_s
        self._tasks = [asyncio.get_running_loop().create_task(self._go_on(one)) for one in filters]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _go_on(self, one: Filter) -> None:
        while True:
            if time.monotonic() - one.health.heard_s >= self._every_s:
                try:
                    await look(one)
                except Exception:
                    _log.exception("a filter could not be looked at", code="check_failed", filter=one.name)
            await asyncio.sleep(self._every_s)


async def look(one: Filter) -> None:
    """Whether it answers, into its health."""
    try:
        async with asyncio.timeout(LOOK_S):
            await one.look()
    except Exception as error:
        reason = reason_of(error, LOOK_S)
        if reason is None:
            raise
        one.health.failed(reason)
    else:
        one.health.looked_well()
