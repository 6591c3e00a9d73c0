"""What clients are refused, of every protocol, and other servers refuse us: counted by code, and a line for each.

A line costs more than most refusals, and strangers decide how many there are: so many a second are written, after a
quiet time a few more at once, and the next one that is written says how many were not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from nodes.metrics import Metrics

LINES_PER_S = 100
LINES_AT_ONCE = 500


class Writer(Protocol):
    """A structlog logger, of which this is needed."""

    def info(self, event: str, **facts: Any) -> Any: ...


class Refusals:
    """One for each front end, or for several."""

    def __init__(self, metrics: Metrics, logger: Writer, now_s: Callable[[], float] = time.monotonic) -> None:
        self._metrics = metrics
        self._logger = logger
        self._now_s = now_s
        self._room = float(LINES_AT_ONCE)
        self._at_s = now_s()
        self._left_out = 0

    def note(self, code: str, event: str = "refused", **facts: Any) -> None:
        """A client was refused for this; `facts` are for the line, and hold no secret."""
        self._metrics.error(code)
        now_s = self._now_s()
        self._room = min(LINES_AT_ONCE, self._room + (now_s - self._at_s) * LINES_PER_S)
        self._at_s = now_s
        if self._room < 1:
            self._left_out += 1
            return
        self._room -= 1
        if self._left_out:
            facts["left_out"], self._left_out = self._left_out, 0
        self._logger.info(event, code=code, **facts)
