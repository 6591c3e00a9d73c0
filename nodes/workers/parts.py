"""What front ends stand on, made in a worker as nodes/server.py makes it in the node, where duties stay."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, cast

from actors.custody import CUSTODY
from actors.directory import Directory
from actors.keyring import KEYRING
from actors.runtime import Runtime
from nodes import logs
from nodes.config.checking import Checking
from nodes.dns import HostNames
from nodes.guarding import Guarding
from nodes.logins.security import LoginGuard
from nodes.logins.tokens import Tokens
from nodes.past import PastMailboxes
from nodes.reports.collector import Collector
from nodes.resealing import use_what_the_log_says
from nodes.resolver import Resolver
from nodes.services import WORKERS_FOLDER, Services
from nodes.sessions import Sessions
from nodes.signing import Signing
from nodes.starting import read_cluster_keys
from nodes.tls.files import TlsFiles
from nodes.tls.mail import MailTls
from nodes.tracing import tracing_of
from nodes.workers.index import SharedIndex

if TYPE_CHECKING:
    from eventlog.log import EventLog
    from nodes.config.node import NodeConfig
    from nodes.metrics import Metrics
    from nodes.policy.leases import Tokens as LimitTokens
    from nodes.services import Logger
    from nodes.workers.connections import SharedConnections
    from nodes.workers.remote_log import RemoteLog


class Parts:
    """Made by `start`, ended with the stack."""

    services: Services

    def __init__(self, stack: AsyncExitStack, number: int, logger: Logger) -> None:
        self._stack = stack
        self._number = number
        self._logger = logger

    async def start(
        self,
        config: NodeConfig,
        remote: RemoteLog,
        metrics: Metrics,
        connections: SharedConnections,
        tokens: LimitTokens,
    ) -> Services:
        """Raises what reading keys and certificates raises."""
        stack, logger = self._stack, self._logger
        log = cast("EventLog", remote)  # of which nothing is used here but what FrontEndLog has
        runtime = Runtime(log)
        stack.push_async_callback(runtime.stop)
        runtime.spans = tracing = tracing_of(config, stack)
        directory = self._directory(config, log, runtime)
        stack.push_async_callback(directory.stop)
        folder = config.node.data_dir / WORKERS_FOLDER / str(self._number)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        past = PastMailboxes(log, runtime, folder / "past", config.raft.propose_timeout_s)
        stack.push_async_callback(past.stop)
        log.subscribe(CUSTODY, lambda _: past.forget())
        self._resolver = resolver = Resolver(config.dns)
        stack.callback(resolver.close)
        signing = Signing(log, directory)
        reports = Collector(log, runtime, logger, config.node.name)
        stack.push_async_callback(reports.stop)
        self._host_names = host_names = HostNames(config.dns, resolver)
        self._checking = checking = Checking(
            config, log, runtime, resolver, host_names, metrics, reports, signing, logger, tokens
        )
        stack.push_async_callback(checking.stop)
        self._tls_files = TlsFiles(config.tls, logger)
        tls = MailTls(self._tls_files, log, directory, metrics, logger, tells=False)
        stack.push_async_callback(tls.stop)
        self.services = Services(
            config=config,
            log=log,
            runtime=runtime,
            directory=directory,
            metrics=metrics,
            logger=logger,
            tls=tls.context,
            login_guard=LoginGuard(config.limits),
            connections=connections,
            resolver=resolver,
            host_names=host_names,
            past=past,
            signing=signing,
            tokens=Tokens(config.oauth, logger) if config.oauth.all else None,
            reports=reports,
            login_limits=checking.logins,
            bandwidth=checking.bandwidth,
            sessions=Sessions(runtime.standings, log, checking.logins),
            fulltext=SharedIndex(config.fulltext, log, config.node.data_dir, logger),
            checks=checking.all,
            worker=self._number,
            tracing=tracing,
        )
        stack.push_async_callback(Guarding(self.services).stop)
        return self.services

    def take_up(self, config: NodeConfig) -> None:
        """From now on by this configuration, all of it between two steps of the event loop."""
        services = self.services
        services.config = config
        logs.configure(config.log)
        sys.setswitchinterval(config.node.switch_interval_ms / 1000)
        services.login_guard.reload(config.limits)
        services.connections.reload(config.limits)
        self._resolver.reload(config.dns)
        self._host_names.reload(config.dns)
        if services.tokens is None or services.tokens.config != config.oauth:
            services.tokens = Tokens(config.oauth, self._logger) if config.oauth.all else None
        self._checking.reload(config)
        services.checks = self._checking.all

    def renew_certificates(self) -> None:
        """Raises BadCertificate: those that there are stay in use."""
        self._tls_files.reload()

    def _directory(self, config: NodeConfig, log: EventLog, runtime: Runtime) -> Directory:
        directory = Directory(log, runtime, read_cluster_keys(config.secrets.key_reference))

        def heed() -> None:
            # the node has put a new one into the file before it says so in the log
            directory.keys.add(read_cluster_keys(config.secrets.key_reference))
            wrong = use_what_the_log_says(directory.keys, log)
            if wrong is not None:
                self._logger.error("secrets can not be opened: this worker " + wrong)

        log.subscribe(KEYRING, lambda _: heed())
        heed()
        if config.ldap.all:
            from nodes.logins.ldap_logins import LdapLogins  # the node has made sure that it is installed

            directory.logins.outside = outside = LdapLogins(config.ldap, self._logger)
            self._stack.push_async_callback(outside.stop)
        return directory
