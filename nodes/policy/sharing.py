"""Carries what the policies of a node have seen to the other nodes, every second while there is something to tell."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

import structlog

from eventlog.telling import Telling

EVERY_S = 1.0

_log = structlog.get_logger("mailraft.policy")


class Shared(Protocol):
    """What nodes tell each other of: `changes` is told, `merge` hears it. Lost and late without harm."""

    def changes(self) -> bytes | None: ...
    def merge(self, peer: str, data: bytes) -> None: ...


class Sharing:
    """Begins when it is made, on the event loop; `stop` ends it. `shared` is by topic."""

    def __init__(self, telling: Telling, shared: Mapping[str, Shared]) -> None:
        self._telling = telling
        self._shared = dict(shared)
        for topic, one in self._shared.items():
            telling.hear(topic, one.merge)
        self._task = asyncio.get_running_loop().create_task(self._go_on()) if self._shared else None

    async def stop(self) -> None:
        """What is not told yet is told now: a client comes back to the others."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self.tell()

    def tell(self) -> None:
        """Once."""
        for topic, one in self._shared.items():
            changes = one.changes()
            if changes is not None:
                self._telling.tell(topic, changes)

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                self.tell()
            except Exception:
                _log.exception("the other nodes could not be told what policy has seen")
