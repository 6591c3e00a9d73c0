"""The checks of one node before it takes mail, in their order: policy, verdicts, filters, what the message lacks.

A reload gives others, at once and whole; filters that are no longer asked have time to answer what they were asked.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from nodes.filters import Filters
from nodes.policy import Policy
from nodes.reports.arrival import ReportArrival
from nodes.signing import SignSubmissions
from nodes.smtp.completing import CompleteSubmissions
from nodes.verdicts.check import VerdictCheck

if TYPE_CHECKING:
    from actors.runtime import Runtime
    from eventlog.log import EventLog
    from nodes.config.node import NodeConfig
    from nodes.dns import HostNames
    from nodes.metrics import Metrics
    from nodes.policy.bandwidth import Bandwidth
    from nodes.policy.leases import Tokens
    from nodes.policy.login_limits import LoginLimits
    from nodes.reports.collector import Collector
    from nodes.resolver import Resolver
    from nodes.services import Logger
    from nodes.signing import Signing
    from nodes.smtp.checks import Check

FILTER_SECTIONS = ("filters", "rspamd", "clamav", "milter")


class Checking:
    """`all` are asked in that order. Event loop only; `stop` ends what they keep going."""

    def __init__(
        self,
        config: NodeConfig,
        log: EventLog,
        runtime: Runtime,
        resolver: Resolver,
        host_names: HostNames,
        metrics: Metrics,
        reports: Collector,
        signing: Signing,
        logger: Logger,
        tokens: Tokens | None = None,
    ) -> None:
        """`tokens`: as nodes/policy has it."""
        self._config = config
        self._metrics = metrics
        self._host_names = host_names
        self._policy = Policy(config, log, resolver, metrics, tokens)
        self._verdicts = VerdictCheck(config, log, resolver, metrics, reports)
        self.filters = Filters(config, metrics, host_names.of)
        self._last: tuple[Check, ...] = (
            ReportArrival(config, log, runtime, logger),
            CompleteSubmissions(log),
            SignSubmissions(signing),
        )
        self._retiring: dict[asyncio.Task[None], Filters] = {}

    @property
    def logins(self) -> LoginLimits:
        """What limits logins, for all front ends."""
        return self._policy.logins

    @property
    def bandwidth(self) -> Bandwidth:
        """What slows connections, of all front ends, and what is sent."""
        return self._policy.bandwidth

    @property
    def all(self) -> tuple[Check, ...]:
        """As they are now."""
        judged = () if self._config.verdicts.judge == "off" else (self._verdicts,)
        return (*self._policy.checks, *judged, *self.filters.checks, *self._policy.last, *self._last)

    def reload(self, config: NodeConfig) -> None:
        """From now on by this: `all` and `filters` are then others."""
        before, self._config = self._config, config
        self._policy.reload(config)
        self._verdicts.reload(config)
        if any(getattr(before, name) != getattr(config, name) for name in FILTER_SECTIONS):
            task = asyncio.get_running_loop().create_task(self.filters.retire(before.smtp.checks_s))
            self._retiring[task] = self.filters
            task.add_done_callback(self._retiring.pop)
            self.filters = Filters(config, self._metrics, self._host_names.of)

    async def stop(self) -> None:
        """What is under way is given up."""
        retiring = dict(self._retiring)
        for task in retiring:
            task.cancel()
        await asyncio.gather(*retiring, return_exceptions=True)
        for filters in (*retiring.values(), self.filters):
            await filters.stop()
        await self._policy.stop()
