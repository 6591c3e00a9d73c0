"""An open-loop stream of deliveries over all nodes: attempts begin on a clock, whatever became of those before them.

So an outage shows as attempts that fail or wait, never as a pause in the asking, and the time to the next 250 is
measured to within one interval. Each attempt carries an identity of its own; none is ever retried under the same one.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

from chaos.history import Attempt, History, Outcome
from chaos.messages import Message, make_message
from chaos.smtp_client import SmtpConnection, SmtpRefused

ANSWER_TIMEOUT_S = 30.0
MAX_UNDER_WAY = 400


@dataclass
class Workload:
    """Delivers messages made from `seed` at `rate` a second to `endpoints` (node: host:port) in a seeded order."""

    seed: int
    endpoints: Mapping[str, str]
    accounts: tuple[str, ...]
    history: History
    rate: float = 60.0
    _idle: dict[str, list[SmtpConnection]] = field(default_factory=lambda: defaultdict(list))
    _under_way: set[asyncio.Task[None]] = field(default_factory=set)
    _number: int = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Begins attempts until `stop` is set, then waits for those under way."""
        rng = Random(f"{self.seed}:nodes")
        nodes = sorted(self.endpoints)
        loop = asyncio.get_running_loop()
        due = loop.time()
        try:
            while not stop.is_set():
                if len(self._under_way) < MAX_UNDER_WAY:
                    self._begin(rng.choice(nodes))
                due = max(due + 1 / self.rate, loop.time() - 1)
                await asyncio.sleep(max(0.0, due - loop.time()))
            if self._under_way:
                await asyncio.wait(self._under_way)
        finally:
            await self._close()

    def _begin(self, node: str) -> None:
        self._number += 1
        task = asyncio.create_task(self._attempt(node, make_message(self.seed, self._number, self.accounts)))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _attempt(self, node: str, message: Message) -> None:
        began_s = self.history.now_s()
        outcome, reply = await self._deliver(node, message)
        self.history.attempts.append(
            Attempt(
                message.identity,
                node,
                message.recipients,
                message.sha256,
                len(message.data),
                began_s,
                self.history.now_s(),
                outcome,
                reply,
            )
        )

    async def _deliver(self, node: str, message: Message) -> tuple[Outcome, str]:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                connection = await self._connection(node)
        except (OSError, EOFError, SmtpRefused, TimeoutError) as error:
            return Outcome.REFUSED, f"no session: {type(error).__name__}: {error}"
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                outcome, reply = await connection.deliver(message)
        except TimeoutError:
            outcome, reply = Outcome.UNKNOWN, f"no answer within {ANSWER_TIMEOUT_S:.0f} s"
        if connection.usable:
            self._idle[node].append(connection)
        else:
            connection.close()
        return outcome, reply

    async def _connection(self, node: str) -> SmtpConnection:
        while self._idle[node]:
            connection = self._idle[node].pop()
            if not connection.reader.at_eof():
                return connection
            connection.close()
        return await SmtpConnection.open(self.endpoints[node])

    async def _close(self) -> None:
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
