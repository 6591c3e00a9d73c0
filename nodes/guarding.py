"""What a node does about guessing beside refusing it: the others learn what it counts, the log what was tried.

Counts go to the other nodes every second while there is something to tell; an attack on an account is one event a
minute, however many attempts it is made of.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from actors.credentials import NoteRefusedLogins
from actors.directory import account_of
from actors.errors import CommandRefused, InvalidName, NoSuchAccount
from actors.runtime import Context
from eventlog import levels
from eventlog.errors import LogError
from eventlog.record import By, stream_id
from nodes.logins.security import Burst

if TYPE_CHECKING:
    from nodes.services import Services

EVERY_S = 1.0
FAILURES, SUCCESSES = "refused logins", "logins"  # topics
AT_ONCE = 20  # events a second, of all accounts together


class Guarding:
    """Begins when it is made; `stop` ends it."""

    def __init__(self, services: Services) -> None:
        self._services = services
        guard = services.login_guard
        services.log.telling.hear(FAILURES, guard.failures.merge)
        services.log.telling.hear(SUCCESSES, guard.successes.merge)
        self._task = asyncio.get_running_loop().create_task(self._go_on())

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                self._tell()
                await self._report()
            except Exception:
                self._services.logger.exception("guarding against guessed passwords failed")

    def _tell(self) -> None:
        guard, telling = self._services.login_guard, self._services.log.telling
        for topic, counts in ((FAILURES, guard.failures), (SUCCESSES, guard.successes)):
            changes = counts.changes()
            if changes is not None:
                telling.tell(topic, changes)

    async def _report(self) -> None:
        """What is no login of ours leaves no event: it is in the node's own log and in its metrics."""
        found = self._services.login_guard.bursts(self._services.config.limits.auth_failures)
        if self._services.log.feature_level < levels.NEWEST:
            return
        for login, burst in found[:AT_ONCE]:
            await self._note(login, burst)

    async def _note(self, login: str, burst: Burst) -> None:
        try:
            with self._services.log.snapshot() as snapshot:
                target = account_of(snapshot, login)
            since_ms = int((time.time() - (time.monotonic() - burst.since_s)) * 1000)
            now_ms = int(time.time() * 1000)
            command = NoteRefusedLogins(target.account, burst.attempts, len(burst.networks), since_ms, now_ms)
            await self._services.runtime.ask(target.tenant, command, self._context(target.tenant))
        except (NoSuchAccount, InvalidName):
            return
        except (CommandRefused, LogError):
            self._services.login_guard.keep(login, burst)  # another node has told of one a moment ago

    def _context(self, tenant: bytes) -> Context:
        name = self._services.config.node.name
        by = By("node", stream_id("node", name), f"node {name}")
        return Context(by, "refused logins", tenant, self._services.config.raft.propose_timeout_s)
