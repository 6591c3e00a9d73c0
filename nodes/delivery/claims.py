"""The claims of this node: proposed many at a time, prolonged until their items are recorded, given back untried."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from actors import queue
from actors.errors import CommandRefused
from actors.kind import Command
from actors.queue import ClaimItems, Item, ItemsClaimed, ReleaseClaims, RenewClaims
from eventlog.errors import OutcomeUnknown, Rejected
from eventlog.record import NO_TENANT
from nodes.delivery.generated import context

if TYPE_CHECKING:
    from eventlog.views import View
    from nodes.services import Services

RENEWED_AT_ONCE = 500


class Claims:
    """What this node has claimed and not recorded, with the end of each lease."""

    def __init__(self, services: Services, lease_ms: int, now_ms: Callable[[], int]) -> None:
        self._services = services
        self._name = services.config.node.name
        self._lease_ms = lease_ms
        self._now_ms = now_ms
        self._held: dict[bytes, tuple[bytes, int]] = {}  # stream, end

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._held

    def forget(self, item_id: bytes) -> None:
        """It is recorded, or not ours any more."""
        self._held.pop(item_id, None)

    def is_safe(self, item_id: bytes) -> bool:
        """Whether enough is left of the lease to begin an attempt: another may take it when it has run out."""
        return item_id in self._held and self._held[item_id][1] >= self._now_ms() + self._lease_ms // 4

    async def propose(self, stream: bytes, wanted: list[Item]) -> list[Item]:
        """The items that are ours now, read again: only their holder changes them from here on."""
        by_tenant: dict[bytes, list[bytes]] = {}
        for one in wanted:
            by_tenant.setdefault(one.tenant, []).append(one.id)
        now_ms = self._now_ms()
        until_ms = now_ms + self._lease_ms
        facts = await self._transact(
            [(stream, ClaimItems(tuple(ids), self._name, until_ms, now_ms)) for ids in by_tenant.values()]
        )
        ids = [item_id for fact in facts if isinstance(fact, ItemsClaimed) for item_id in fact.item_ids]
        with self._services.log.snapshot() as snapshot:
            found = items_of(snapshot.view(stream), ids)
        claimed = [one for one in found if one.claim is not None and one.claim.node == self._name]
        self._held.update((one.id, (stream, until_ms)) for one in claimed)
        return claimed

    async def give_back(self, untried: Iterable[tuple[bytes, bytes]]) -> None:
        """Items, as stream and id, that were claimed and not tried."""
        by_stream: dict[bytes, list[bytes]] = {}
        for stream, item_id in untried:
            by_stream.setdefault(stream, []).append(item_id)
        await self._transact([(stream, ReleaseClaims(tuple(ids), self._name)) for stream, ids in by_stream.items()])

    async def keep_renewing(self) -> None:
        """Long before a lease ends, it is prolonged: a message of many megabytes to a slow peer takes its time."""
        while True:
            await asyncio.sleep(self._lease_ms / 4000)
            ending = [
                (item_id, stream)
                for item_id, (stream, until_ms) in self._held.items()
                if until_ms - self._now_ms() < self._lease_ms * 2 // 3
            ]
            for start in range(0, len(ending), RENEWED_AT_ONCE):
                await self._renew(ending[start : start + RENEWED_AT_ONCE])

    async def _renew(self, ending: list[tuple[bytes, bytes]]) -> None:
        by_stream: dict[bytes, list[bytes]] = {}
        for item_id, stream in ending:
            by_stream.setdefault(stream, []).append(item_id)
        until_ms = self._now_ms() + self._lease_ms
        facts = await self._transact(
            [(stream, RenewClaims(tuple(ids), self._name, until_ms)) for stream, ids in by_stream.items()]
        )
        for item_id in (one for fact in facts for one in fact.item_ids):
            if item_id in self._held:
                self._held[item_id] = (self._held[item_id][0], until_ms)

    async def _transact(self, steps: list[tuple[bytes, Command]]) -> tuple[Any, ...]:
        """The facts; none where the log did not take them, which is looked into again later."""
        if not steps:
            return ()
        try:
            done = await self._services.runtime.transact(steps, context(self._services, NO_TENANT, "queue"))
        except (CommandRefused, Rejected, OutcomeUnknown) as error:
            self._services.logger.debug("claims were not taken", error=repr(error))
            return ()
        return done.facts


def items_of(view: View, item_ids: Iterable[bytes]) -> list[Item]:
    """Those of the items that are there."""
    found = (queue.item(view, item_id) for item_id in item_ids)
    return [one for one in found if one is not None]
