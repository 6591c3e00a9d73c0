"""What a node does by itself when the log's custody says so: redactions and archivals, in the background."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from eventlog.custody import CUSTODY

if TYPE_CHECKING:
    from eventlog.log import EventLog


class Custodian(ABC):
    """One such duty of one node: woken by each event of custody, and once at the start. Event loop only."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._error: str | None = None  # why the last attempt failed; it is made again

    def start(self) -> None:
        self._forget = self._log.subscribe(CUSTODY, lambda _: self._wanted.set())
        self._wanted.set()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Ends what is under way; it is taken up at the next start."""
        if self._task is not None:
            self._forget()
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @abstractmethod
    async def _run(self) -> None:
        """For as long as the node lives: waits until it is wanted, and does what is due."""
