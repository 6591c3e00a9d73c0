"""Whether a filter can be asked: failures in a row let it rest, so that mail does not wait for what is not there.

A filter that rests is not asked; mail gets what `when_down` says at once. When it has rested, one message is an
attempt; a look from outside that succeeds (nodes/filters/watch.py) ends the rest earlier.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from nodes.config.filters import FiltersSection

if TYPE_CHECKING:
    from nodes.metrics import Metrics

_log = structlog.get_logger("mailraft.filters")


class Garbage(Exception):
    """What a filter sent is no answer."""


class Down(Exception):
    """The filter has nothing to say of this mail; `reason` says why, in words for the operator."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Busy(Down):
    """It has too much to do: that is no failure of its own."""

    def __init__(self) -> None:
        super().__init__("it has too much to do")


class Health:
    """Of one filter, at this node. `is_up` is None until it was asked or looked at."""

    def __init__(
        self, name: str, config: FiltersSection, metrics: Metrics, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = name
        self.is_up: bool | None = None
        self.reason = ""
        self.metrics = metrics
        self._config = config
        self._now_s = now_s
        self._failures = 0
        self._look_tells = True  # whether a look would have shown what went wrong last
        self._rests_until_s = 0.0
        self.heard_s = float("-inf")  # when it was last known to answer

    @asynccontextmanager
    async def asked(self, limit_s: float) -> AsyncIterator[None]:
        """The filter is asked inside the block. Raises Down, for whatever goes wrong there."""
        self._admit()
        began_s = time.perf_counter()
        try:
            async with asyncio.timeout(limit_s):
                yield
        except Exception as error:
            reason = reason_of(error, limit_s)
            if reason is None:
                raise
            self.failed(reason, look_tells=is_unreachable(error))
            raise Down(reason) from error
        finally:
            self.metrics.filter_asked(self.name, time.perf_counter() - began_s)
        self.answered()

    def answered(self) -> None:
        """It did what it is there for."""
        self.heard_s = self._now_s()
        self._failures = 0
        self._look_tells = True
        self._rests_until_s = 0.0
        self._now(True, "")

    def failed(self, reason: str, *, look_tells: bool = True) -> None:
        """It did not; `look_tells`: looking at it shows when that is over."""
        self._failures += 1
        self._look_tells = look_tells
        if self._failures >= self._config.down_after:
            self._rests_until_s = self._now_s() + self._config.retry_s
        self._now(False, reason)

    def looked_well(self) -> None:
        """It answers when it is looked at: it is well, or, if it failed at mail, the next message may try it."""
        if self._look_tells:
            self.answered()
            return
        self.heard_s = self._now_s()
        self._rests_until_s = 0.0

    def _admit(self) -> None:
        now_s = self._now_s()
        if now_s < self._rests_until_s:
            raise Down(self.reason)
        if self._failures >= self._config.down_after:
            self._rests_until_s = now_s + self._config.retry_s  # this one is the attempt, the others wait for it

    def _now(self, is_up: bool, reason: str) -> None:
        if is_up is not self.is_up:
            if is_up:
                _log.info("the filter answers", filter=self.name)
            else:
                _log.warning("the filter does not answer", code="filter_away", filter=self.name, reason=reason)
            self.metrics.filter_is_up(self.name, is_up)
        self.is_up, self.reason = is_up, reason


def is_unreachable(error: Exception) -> bool:
    """Nobody took the connection, rather than that something went wrong over it."""
    return isinstance(error, OSError) and not isinstance(error, TimeoutError | ConnectionResetError | BrokenPipeError)


def reason_of(error: Exception, limit_s: float) -> str | None:
    """What went wrong, in words; None: that was no failure of a filter."""
    match error:
        case TimeoutError():
            return f"no answer within {limit_s:g} s"
        case Garbage():
            return f"not understood: {error}"
        case EOFError() | ConnectionResetError() | BrokenPipeError():
            return "it closed the connection"
        case OSError():
            return f"can not be reached: {error.strerror or type(error).__name__}"
        case _:
            return None
