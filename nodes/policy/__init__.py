"""Whom a node takes mail from, decided before the message comes: rates, DNS lists, greylisting. See docs/ADR/0022."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.policy import dnsbl, rates
from nodes.policy.greylisting import Greylisting
from nodes.policy.sharing import Sharing

if TYPE_CHECKING:
    from eventlog.telling import Telling
    from nodes.config import NodeConfig
    from nodes.metrics import Metrics
    from nodes.policy.sharing import Shared
    from nodes.resolver import Resolver
    from nodes.smtp.checks import Check


class Policy:
    """The checks that [policy] asks for, in order; it tells the other nodes what they see until `stop`."""

    def __init__(self, config: NodeConfig, telling: Telling, resolver: Resolver, metrics: Metrics) -> None:
        lists = dnsbl.checks(config.policy, resolver, metrics)
        limits = rates.checks(config.policy, metrics)
        found: list[Check] = [*limits, *lists]
        shared: dict[str, Shared] = {topic: one for limit in limits for topic, one in limit.shared.items()}
        if config.policy.greylisting:
            greylisting = Greylisting(config.policy, metrics, lists[0] if lists else None)
            found.append(greylisting)
            shared |= greylisting.shared
        self.checks: tuple[Check, ...] = tuple(found)
        self._sharing = Sharing(telling, shared)

    async def stop(self) -> None:
        await self._sharing.stop()
