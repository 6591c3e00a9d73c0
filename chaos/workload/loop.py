"""The open loop: operations begin on a clock, whatever became of those before them.

So an outage shows as operations that fail or wait, never as a pause in the asking, and the time to the next success is
measured to within one interval. What is drawn (node, kind, message) depends on the seed alone; which message of a
mailbox is meant depends on what is there.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

from chaos.history import History
from chaos.messages import make_message
from chaos.workload.administration import Administration
from chaos.workload.deliveries import Deliveries
from chaos.workload.mailboxes import Mailboxes
from chaos.workload.target import Target

WITNESS_BYTES = 1500


class Mix(NamedTuple):
    """Shares of the operations, relative to each other."""

    deliver: float = 60
    witness: float = 6  # deliveries to the mailboxes to which everything happens
    imap: float = 28
    admin: float = 6


MOST_UNDER_WAY = Mix(deliver=400, witness=40, imap=48, admin=32)  # more are not begun, but counted as skipped


@dataclass
class Workload:
    """Begins `rate` operations a second, over all nodes in a seeded order."""

    seed: int
    target: Target
    history: History
    rate: float = 60.0
    mix: Mix = field(default_factory=Mix)
    _under_way: dict[str, set[asyncio.Task[None]]] = field(
        default_factory=lambda: {kind: set() for kind in Mix._fields}
    )
    _number: int = 0
    _faults: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._deliveries = Deliveries(self.target, self.history)
        self._mailboxes = Mailboxes(self.seed, self.target, self.history)
        self._administration = Administration(self.seed, self.target, self.history)

    async def run(self, stop: asyncio.Event) -> None:
        """Begins operations until `stop` is set, then waits for those under way."""
        rng = Random(f"{self.seed}:nodes")
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        try:
            while not stop.is_set():
                self._begin(rng.choices(Mix._fields, weights=self.mix)[0], rng.choice(self.target.nodes))
                due_s = max(due_s + 1 / self.rate, loop.time() - 1)
                await asyncio.sleep(max(0.0, due_s - loop.time()))
            if tasks := self._tasks():
                await asyncio.wait(tasks)
        finally:
            await self._close()
        if self._faults:
            raise self._faults[0]  # a fault of the workload's own must not pass for a quiet run

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [task for tasks in self._under_way.values() for task in tasks]

    def _begin(self, kind: str, node: str) -> None:
        self._number += 1
        tasks = self._under_way[kind]
        if len(tasks) >= getattr(MOST_UNDER_WAY, kind):
            self.history.skipped += 1
            return
        task = asyncio.create_task(self._operation(kind, node, self._number))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._faults.append(fault)

    def _operation(self, kind: str, node: str, number: int) -> Coroutine[Any, Any, None]:
        rng = Random(f"{self.seed}:{number}:{kind}")
        match kind:
            case "deliver":
                return self._deliveries.deliver(node, make_message(self.seed, number, self.target.accounts))
            case "witness":
                account = rng.choice(self.target.witnesses)
                return self._deliveries.deliver(node, make_message(self.seed, number, (account,), WITNESS_BYTES))
            case "imap":
                return self._mailboxes.perform(node, rng.choice(self.target.witnesses), number, rng)
            case _:
                return self._administration.perform(node, number, rng)

    async def _close(self) -> None:
        tasks = self._tasks()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.history.end_all("the run ended")
        self._deliveries.close()
        self._mailboxes.close()
