"""What front ends stand on, made in a worker as nodes/parts.py makes it in the node, where duties stay."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from actors.directory import Directory
from actors.keyring import KEYRING
from nodes.guarding import Guarding
from nodes.resealing import use_what_the_log_says
from nodes.services import WORKERS_FOLDER, Services
from nodes.serving import Given, Serving, make_runtime
from nodes.starting import read_cluster_keys
from nodes.tls.files import TlsFiles
from nodes.tls.mail import MailTls
from nodes.workers.index import SharedIndex

if TYPE_CHECKING:
    from contextlib import AsyncExitStack
    from pathlib import Path

    from actors.runtime import Runtime
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

    def start(
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
        runtime, tracing = make_runtime(config, log, stack)
        directory = self._directory(config, log, runtime)
        self._tls_files = TlsFiles(config.tls, logger)
        tls = MailTls(self._tls_files, log, directory, metrics, logger, tells=False)
        stack.push_async_callback(tls.stop)
        given = Given(
            config=config,
            log=log,
            runtime=runtime,
            tracing=tracing,
            directory=directory,
            metrics=metrics,
            logger=logger,
            tls=tls.context,
            connections=connections,
            fulltext=SharedIndex(config.fulltext, log, config.node.data_dir, logger),
            caches=self._folder(config),
            limit_tokens=tokens,
            worker=self._number,
        )
        self._serving = Serving(given, stack)
        self.services = self._serving.services
        stack.push_async_callback(Guarding(self.services).stop)
        return self.services

    def take_up(self, config: NodeConfig) -> None:
        """From now on by this configuration, all of it between two steps of the event loop."""
        self.services.config = config
        self._serving.reload(config)

    def renew_certificates(self) -> None:
        """Raises BadCertificate: those that there are stay in use."""
        self._tls_files.reload()

    def _folder(self, config: NodeConfig) -> Path:
        folder = config.node.data_dir / WORKERS_FOLDER / str(self._number)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    def _directory(self, config: NodeConfig, log: EventLog, runtime: Runtime) -> Directory:
        directory = Directory(log, runtime, read_cluster_keys(config.secrets.key_reference))
        self._stack.push_async_callback(directory.stop)

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
