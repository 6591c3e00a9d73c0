"""Whom a node takes mail from: rates, DNS lists, greylisting, what tenants have set. See docs/ADR/0022 and 0024."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.policy import dnsbl
from nodes.policy.bandwidth import Bandwidth
from nodes.policy.content import Sizes, Spam
from nodes.policy.greylisting import Greylisting
from nodes.policy.leases import TOPIC, Leases, Tokens
from nodes.policy.login_limits import LoginLimits
from nodes.policy.pace import Commands, LoggedIn, Tarpit
from nodes.policy.rates import Connecting, Rates
from nodes.policy.sharing import Sharing
from nodes.policy.tenants import TenantPolicies

if TYPE_CHECKING:
    from eventlog.log import EventLog
    from eventlog.telling import Telling
    from nodes.config.node import NodeConfig
    from nodes.metrics import Metrics
    from nodes.policy.sharing import Shared
    from nodes.resolver import Resolver
    from nodes.smtp.checks import Check


def leases_over(telling: Telling, name: str) -> Leases:
    """Of a member of the cell."""
    return Leases(name, lambda: telling.peers, lambda peer, data: telling.tell_one(peer, TOPIC, data))


class Policy:
    """The checks that [policy] and the tenants ask for; it tells the other nodes what they see until `stop`.

    `checks` come before a message is looked into, `last` when all others have said what they think of it. `tokens`:
    where they come from in a worker; the node's own, which are those of the cell, where none are given.
    """

    def __init__(
        self, config: NodeConfig, log: EventLog, resolver: Resolver, metrics: Metrics, tokens: Tokens | None = None
    ) -> None:
        self.tenants = TenantPolicies(log, config)
        self._resolver = resolver
        self._metrics = metrics
        if tokens is None:
            tokens = leases_over(log.telling, config.node.name)
        self._rates = Rates(config.policy, self.tenants, metrics, tokens)
        self._greylisting = Greylisting(config.policy, self.tenants.of, metrics)
        self._connecting = Connecting(config.policy, metrics, tokens)
        self._logged_in = LoggedIn(self.tenants, metrics, tokens)
        self._commands = Commands(config.policy, self.tenants, metrics)
        self._tarpit = Tarpit(config.policy, metrics)
        self.logins = LoginLimits(self.tenants, metrics, tokens)
        self.bandwidth = Bandwidth(config.policy, self.tenants, metrics)
        self._sizes = Sizes(self.tenants)
        self.checks: tuple[Check, ...] = ()
        self.last: tuple[Check, ...] = (Spam(self.tenants, metrics),)
        self.reload(config)
        shared: dict[str, Shared] = {TOPIC: tokens} if isinstance(tokens, Leases) else {}
        shared |= self.logins.shared
        for one in (self._commands, self._greylisting, self._tarpit, self.bandwidth):
            shared |= one.shared
        self._sharing = Sharing(log.telling, shared)

    def reload(self, config: NodeConfig) -> None:
        """From now on by this: what was counted and who is known stays. `checks` are then others."""
        self.tenants.reload(config)
        lists = dnsbl.checks(config.policy, self.tenants.of, self._resolver, self._metrics)
        for one in (self._rates, self._connecting, self._commands, self._tarpit, self.bandwidth, self.logins):
            one.reload(config.policy)
        self._greylisting.reload(config.policy, lists[0] if lists else None)
        self.checks = (
            *((self._connecting,) if config.policy.client_connections_per_hour else ()),
            self._logged_in,
            self._commands,
            *((self._tarpit,) if config.policy.tarpit_s else ()),
            self._rates,
            self._sizes,
            *lists,
            self._greylisting,
        )

    async def stop(self) -> None:
        await self._sharing.stop()
        self.tenants.stop()
