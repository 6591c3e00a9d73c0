"""Taking a node out of service without cutting anybody off: no new clients, leadership handed over, sessions finished.

The node then ends as if it had been told to stop; what is left when the time is up has node.stop_grace_s more.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from eventlog.errors import LogError

if TYPE_CHECKING:
    from nodes.listeners import Listeners
    from nodes.services import Services
    from nodes.workers.crew import Crew

LOOK_S = 0.1


class Draining:
    """Event loop only. `begin` may be called again: the later time counts."""

    def __init__(self, services: Services, listeners: Listeners | Crew, stop: asyncio.Event) -> None:
        self._services = services
        self._listeners = listeners
        self._stop = stop
        self._until_s = 0.0
        self._task: asyncio.Task[None] | None = None

    @property
    def is_under_way(self) -> bool:
        return self._task is not None

    def begin(self, timeout_s: float) -> None:
        """The node ends when its last client has gone, or after so long."""
        self._until_s = time.monotonic() + timeout_s
        if self._task is None:
            self._services.logger.info("draining", connections=self._services.connections.open, timeout_s=timeout_s)
            self._listeners.retire()
            self._task = asyncio.get_running_loop().create_task(self._go_on())

    async def stop(self) -> None:
        """The node ends anyway."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _go_on(self) -> None:
        await self._hand_over()
        while self._services.connections.open and time.monotonic() < self._until_s:
            await asyncio.sleep(LOOK_S)
        self._services.logger.info("drained", connections=self._services.connections.open)
        self._stop.set()

    async def _hand_over(self) -> None:
        log, name = self._services.log, self._services.config.node.name
        others = [member.name for member in log.members() if member.voter and member.name != name]
        for other in others if log.status().role == "leader" else ():
            try:
                await log.transfer_leadership(other)
                return
            except LogError as error:
                self._services.logger.warning("leadership was not handed over", to=other, error=str(error))
