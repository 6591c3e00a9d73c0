"""Deliveries over SMTP: one message, one attempt, its outcome.

The clock of an attempt starts before it has a session, so an outage shows as attempts that fail or wait.
"""

import asyncio
from dataclasses import dataclass, field

from chaos.history import History, Outcome
from chaos.messages import Message
from chaos.smtp_client import SmtpConnection, SmtpRefused
from chaos.workload.pool import Named, Pool
from chaos.workload.target import Target

ANSWER_TIMEOUT_S = 30.0


@dataclass
class Deliveries:
    """Sends messages to any node of the target."""

    target: Target
    history: History
    _pool: Pool[SmtpConnection] = field(default_factory=lambda: Pool("smtp"))

    async def deliver(self, node: str, message: Message) -> None:
        started = self.history.begin(
            f"smtp-{node}",
            node,
            "smtp",
            "deliver",
            " ".join(message.recipients),
            identity=message.identity,
            sha256=message.sha256,
            size=len(message.data),
        )
        self.history.end(started, *await self._attempt(node, message))

    async def _attempt(self, node: str, message: Message) -> tuple[Outcome, str]:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                session = await self._session(node)
        except (OSError, EOFError, SmtpRefused, TimeoutError) as error:
            return Outcome.REFUSED, f"no session: {type(error).__name__}: {error}"
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                outcome, reply = await session.connection.deliver(message)
        except TimeoutError:
            outcome, reply = Outcome.UNKNOWN, f"no answer within {ANSWER_TIMEOUT_S:.0f} s"
        self._pool.give(node, session)
        return outcome, reply

    async def _session(self, node: str) -> Named[SmtpConnection]:
        found = self._pool.take(node)
        if found is not None:
            return found
        return self._pool.name(node, await SmtpConnection.open(self.target.endpoints[node]["smtp"]))

    def close(self) -> None:
        self._pool.close()
