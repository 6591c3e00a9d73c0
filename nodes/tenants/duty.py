"""What the node that leads does for tenants by itself: counts what is not counted yet, warns, ends.

Every node has one; it acts only while its node leads, and all that it did is in the log, so that the next goes on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from actors import standing, tenant, usage
from actors.errors import CommandRefused
from actors.standing import STANDING
from actors.usage import CountUsage, UsageCounted, usage_stream
from eventlog.errors import LogError
from nodes.delivery.generated import context
from nodes.tenants.ending import Ending
from nodes.tenants.quota_warnings import QuotaWarnings

if TYPE_CHECKING:
    from nodes.services import Services

EVERY_S = 1.0
AFTER_FAULT_S = 10.0


class Tenancy:
    """Begins when it is made, on the event loop; `stop` ends it."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._warnings = QuotaWarnings(services)
        self._ending: asyncio.Task[None] | None = None
        self._counted = False  # since this node leads
        self._task = asyncio.get_running_loop().create_task(self._go_on())

    async def stop(self) -> None:
        for task in (self._task, self._ending):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        self._warnings.end()

    async def _go_on(self) -> None:
        while True:
            wait_s = EVERY_S
            try:
                if self._leads():
                    await self.look()
                else:
                    self._warnings.end()
                    self._counted = False
            except (CommandRefused, LogError) as error:
                self._services.logger.warning("tenants could not be looked after", error=str(error))
                wait_s = AFTER_FAULT_S
            except Exception:
                self._services.logger.exception("tenants could not be looked after")
                wait_s = AFTER_FAULT_S
            await asyncio.sleep(wait_s)

    def _leads(self) -> bool:
        log = self._services.log
        status = log.status()
        return status.leader == status.name and log.feature_level >= UsageCounted.SINCE

    async def look(self) -> None:
        """One round. Raises CommandRefused, LogError."""
        await self._warnings.begin()
        if not self._counted:
            for one in self._uncounted():
                where = context(self._services, one, "usage")
                await self._services.runtime.ask(usage_stream(one), CountUsage(one), where)
            self._counted = True
        await self._warnings.look(_now_ms())
        due = next(self._due(), None)
        if due is not None and (self._ending is None or self._ending.done()):
            self._ending = asyncio.get_running_loop().create_task(self._end(due))

    def _uncounted(self) -> list[bytes]:
        """Tenants of a time before their sums were kept."""
        with self._services.log.snapshot() as snapshot:
            homes = self._services.runtime.homes
            found = [one.id for one in tenant.tenants(snapshot) if homes.of(one.id) is None]
            return [one for one in found if usage.used(snapshot.view(usage_stream(one))) is None]

    def _due(self) -> Iterator[bytes]:
        with self._services.log.snapshot() as snapshot:
            found = standing.standings(snapshot.view(STANDING))
        now_ms = _now_ms()
        for one, how in found.items():
            here = self._services.runtime.homes.of(one) is None
            if here and how.due_ms and how.due_ms <= now_ms and not how.erased_at:
                yield one

    async def _end(self, tenant_id: bytes) -> None:
        ending, logger = Ending(self._services, tenant_id), self._services.logger
        try:
            with self._services.log.snapshot() as snapshot:
                how = standing.standing(snapshot.view(STANDING), tenant_id)
            if how is not None and not how.deleted_ms:
                await ending.close()
            position = await ending.erase()
            logger.info("a tenant is deleted, and erased from the log", tenant=tenant_id.hex(), position=position)
        except (CommandRefused, LogError) as error:
            logger.warning(
                "a tenant could not be deleted yet", code="tenant_not_deleted", tenant=tenant_id.hex(), error=str(error)
            )
            await asyncio.sleep(AFTER_FAULT_S)
        except Exception:
            logger.exception("a tenant could not be deleted yet", code="tenant_not_deleted", tenant=tenant_id.hex())
            await asyncio.sleep(AFTER_FAULT_S)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
