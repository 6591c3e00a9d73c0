"""A session's hold on its maildrop, where the tenant lets one session have it alone (RFC 1939 4, RFC 2449 8.1.1).

The hold is a lease in the log (actors/mailbox_maildrop.py), so it counts at every node. It is renewed while the session
lives and given back when it ends; that of a node that was killed ends with the lease.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from actors.errors import CommandRefused
from actors.mailbox_maildrop import LockMaildrop, UnlockMaildrop
from actors.runtime import Context
from eventlog.errors import LogError
from eventlog.record import new_id

if TYPE_CHECKING:
    from nodes.services import Services

RENEWALS = 3  # of one lease: two may fail


class Hold:
    """Taken by `take`; `lost` is called once when it could not be renewed in time."""

    def __init__(self, services: Services, account: bytes, context: Context, lost: Callable[[], None]) -> None:
        self._services = services
        self._account = account
        self._context = context
        self._lost = lost
        self._lease_ms = int(services.config.limits.pop3_lease_s * 1000)
        self._session = new_id(_clock_ms())
        self._until_ms = 0
        self._task: asyncio.Task[None] | None = None

    async def take(self) -> None:
        """Raises MaildropInUse, other CommandRefused, LogError."""
        await self._lock(renew=False)
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def is_held(self) -> bool:
        """Whether the maildrop is this session's for another lease; asked before anything is removed."""
        try:
            await self._lock(renew=True)
        except (CommandRefused, LogError):
            return False
        return True

    async def release(self) -> None:
        """The session has ended. What can not be noted ends with the lease."""
        self.forget()
        with contextlib.suppress(CommandRefused, LogError):
            await self._services.runtime.ask(self._account, UnlockMaildrop(self._session), self._context)

    def forget(self) -> None:
        """Renews it no more."""
        if self._task is not None:
            self._task.cancel()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._lease_ms / 1000 / RENEWALS)
            try:
                await self._lock(renew=True)
            except CommandRefused:
                break
            except LogError:
                if self._now_ms() >= self._until_ms - self._lease_ms // RENEWALS:
                    break
        self._lost()

    async def _lock(self, *, renew: bool) -> None:
        now_ms = self._now_ms()
        until_ms = now_ms + self._lease_ms
        command = LockMaildrop(self._session, self._services.config.node.name, until_ms, now_ms, renew)
        await self._services.runtime.ask(self._account, command, self._context)
        self._until_ms = until_ms

    def _now_ms(self) -> int:
        """Nodes' clocks differ by seconds; none is behind what the log has told it."""
        return max(_clock_ms(), self._services.log.at_ms)


def _clock_ms() -> int:
    return time.time_ns() // 1_000_000
