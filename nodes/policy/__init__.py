"""Whom a node takes mail from: rates, DNS lists, greylisting, what tenants have set. See docs/ADR/0022 and 0024."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.policy import dnsbl
from nodes.policy.content import Sizes, Spam
from nodes.policy.greylisting import Greylisting
from nodes.policy.login_limits import LoginLimits
from nodes.policy.pace import Commands, LoggedIn, Tarpit
from nodes.policy.rates import Connecting, Rates
from nodes.policy.sharing import Sharing
from nodes.policy.tenants import TenantPolicies

if TYPE_CHECKING:
    from eventlog.log import EventLog
    from nodes.config import NodeConfig
    from nodes.metrics import Metrics
    from nodes.policy.sharing import Shared
    from nodes.resolver import Resolver
    from nodes.smtp.checks import Check


class Policy:
    """The checks that [policy] and the tenants ask for; it tells the other nodes what they see until `stop`.

    `checks` come before a message is looked into, `last` when all others have said what they think of it.
    """

    def __init__(self, config: NodeConfig, log: EventLog, resolver: Resolver, metrics: Metrics) -> None:
        self.tenants = TenantPolicies(log, config)
        lists = dnsbl.checks(config.policy, self.tenants.of, resolver, metrics)
        rates = Rates(config.policy, self.tenants, metrics)
        greylisting = Greylisting(config.policy, self.tenants.of, metrics, lists[0] if lists else None)
        connecting = (Connecting(config.policy, metrics),) if config.policy.client_connections_per_hour else ()
        logged_in = LoggedIn(self.tenants, metrics)
        commands = Commands(config.policy, self.tenants, metrics)
        self.logins = LoginLimits(self.tenants, metrics)
        tarpit = (Tarpit(config.policy, metrics),) if config.policy.tarpit_s else ()
        self.checks: tuple[Check, ...] = (
            *connecting,
            logged_in,
            commands,
            *tarpit,
            rates,
            Sizes(self.tenants),
            *lists,
            greylisting,
        )
        self.last: tuple[Check, ...] = (Spam(self.tenants, metrics),)
        shared: dict[str, Shared] = {
            **rates.shared,
            **logged_in.shared,
            **commands.shared,
            **greylisting.shared,
            **self.logins.shared,
        }
        for one in (*connecting, *tarpit):
            shared |= one.shared
        self._sharing = Sharing(log.telling, shared)

    async def stop(self) -> None:
        await self._sharing.stop()
        self.tenants.stop()
