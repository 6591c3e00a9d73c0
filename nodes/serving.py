"""What front ends stand on, made alike in a node and in each of its workers, and told alike of a new configuration.

What the two make each in its own way is given: the log, the directory, certificates, the index, who counts connections.
"""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from actors.custody import CUSTODY
from actors.runtime import Runtime
from nodes import logs
from nodes.config.checking import Checking
from nodes.dns import HostNames
from nodes.logins.security import LoginGuard
from nodes.logins.tokens import Tokens
from nodes.past import PastMailboxes
from nodes.reports.collector import Collector
from nodes.resolver import Resolver
from nodes.services import Services
from nodes.sessions import Sessions
from nodes.signing import Signing
from nodes.tracing import Tracing, tracing_of

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from actors.directory import Directory
    from eventlog.log import EventLog
    from nodes.config.node import NodeConfig
    from nodes.fulltext.keeper import FullText
    from nodes.logins.security import ConnectionLimit
    from nodes.metrics import Metrics
    from nodes.policy.leases import Tokens as LimitTokens
    from nodes.services import Logger


@dataclass(frozen=True, slots=True)
class Given:
    """`caches`: the folder of this process. `limit_tokens`: as nodes/policy has it. `worker`: as in Services."""

    config: NodeConfig
    log: EventLog
    runtime: Runtime
    tracing: Tracing | None
    directory: Directory
    metrics: Metrics
    logger: Logger
    tls: ssl.SSLContext
    connections: ConnectionLimit
    fulltext: FullText
    caches: Path
    limit_tokens: LimitTokens | None = None
    worker: int = 0


def make_runtime(config: NodeConfig, log: EventLog, stack: AsyncExitStack) -> tuple[Runtime, Tracing | None]:
    """What actors run in, and what makes spans of it; ended with the stack."""
    runtime = Runtime(log)
    stack.push_async_callback(runtime.stop)
    runtime.spans = tracing = tracing_of(config, stack)
    return runtime, tracing


class Serving:
    """`services` is what a front end is given; its parts end with the stack."""

    def __init__(self, given: Given, stack: AsyncExitStack) -> None:
        config, log, runtime = given.config, given.log, given.runtime
        past = _past(given, stack)
        resolver = Resolver(config.dns)
        stack.callback(resolver.close)
        host_names = HostNames(config.dns, resolver)
        signing = Signing(log, given.directory)
        reports = Collector(log, runtime, given.logger, config.node.name)
        stack.push_async_callback(reports.stop)
        self.checking = checking = Checking(
            config,
            log,
            runtime,
            resolver,
            host_names,
            given.metrics,
            reports,
            signing,
            given.logger,
            given.limit_tokens,
        )
        stack.push_async_callback(checking.stop)
        self.services = Services(
            config=config,
            log=log,
            runtime=runtime,
            directory=given.directory,
            metrics=given.metrics,
            logger=given.logger,
            tls=given.tls,
            login_guard=LoginGuard(config.limits),
            connections=given.connections,
            resolver=resolver,
            host_names=host_names,
            past=past,
            signing=signing,
            tokens=_tokens(config, given.logger),
            reports=reports,
            login_limits=checking.logins,
            bandwidth=checking.bandwidth,
            sessions=Sessions(runtime.standings, log, checking.logins),
            fulltext=given.fulltext,
            checks=checking.all,
            worker=given.worker,
            tracing=given.tracing,
        )

    def reload(self, new: NodeConfig) -> None:
        """From now on by this configuration, all of it between two steps of the event loop; nothing of it fails."""
        services = self.services
        logs.configure(new.log)
        sys.setswitchinterval(new.node.switch_interval_ms / 1000)
        services.login_guard.reload(new.limits)
        services.connections.reload(new.limits)
        services.resolver.reload(new.dns)
        services.host_names.reload(new.dns)
        if services.tokens is None or services.tokens.config != new.oauth:
            services.tokens = _tokens(new, services.logger)
        self.checking.reload(new)
        services.checks = self.checking.all


def _past(given: Given, stack: AsyncExitStack) -> PastMailboxes:
    past = PastMailboxes(given.log, given.runtime, given.caches / "past", given.config.raft.propose_timeout_s)
    stack.push_async_callback(past.stop)
    given.log.subscribe(CUSTODY, lambda _: past.forget())
    return past


def _tokens(config: NodeConfig, logger: Logger) -> Tokens | None:
    return Tokens(config.oauth, logger) if config.oauth.all else None
