"""What a front end is given: the parts of a node or a worker, made by nodes/serving.py.

A front end package offers `async def start(services, kind, address) -> Listener`; it imports nothing
of the node's lifecycle and opens no other socket than the one it was told to.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from nodes.config.node import ListenerKind, NodeConfig
from nodes.dns import HostNames
from nodes.logins.security import ConnectionLimit, LoginGuard
from nodes.metrics import Metrics
from nodes.refusals import Refusals
from nodes.resolver import Resolver

if TYPE_CHECKING:
    from actors.directory import Directory
    from actors.runtime import Runtime
    from eventlog.log import EventLog
    from nodes.fulltext.keeper import FullText
    from nodes.logins.tokens import Tokens
    from nodes.past import PastMailboxes
    from nodes.policy.bandwidth import Bandwidth
    from nodes.policy.login_limits import LoginLimits
    from nodes.reports.collector import Collector
    from nodes.sessions import Sessions
    from nodes.signing import Signing
    from nodes.smtp.checks import Check
    from nodes.tracing import Tracing

WORKERS_FOLDER = "workers"  # in node.data_dir: what worker processes keep beside the database


class Logger(Protocol):
    """A structlog logger: an event name in words, facts by keyword. Never give it a secret."""

    def bind(self, **facts: Any) -> Logger: ...
    def debug(self, event: str, **facts: Any) -> Any: ...
    def info(self, event: str, **facts: Any) -> Any: ...
    def warning(self, event: str, **facts: Any) -> Any: ...
    def error(self, event: str, **facts: Any) -> Any: ...
    def exception(self, event: str, **facts: Any) -> Any: ...


@dataclass(eq=False)
class Services:
    """The parts of one node. `tls` is the context shown to mail clients; None only in tests.

    A reload (nodes/config/reloading.py) replaces `config`, `checks` and `tokens`, between two steps of the event loop:
    what is read of them when it is needed is always of one and the same configuration.
    """

    config: NodeConfig
    log: EventLog
    runtime: Runtime
    directory: Directory
    metrics: Metrics
    logger: Logger
    tls: ssl.SSLContext | None
    login_guard: LoginGuard
    connections: ConnectionLimit
    resolver: Resolver
    host_names: HostNames
    past: PastMailboxes
    signing: Signing
    reports: Collector
    sessions: Sessions
    tokens: Tokens | None = None  # None: nobody is trusted to issue any
    login_limits: LoginLimits | None = None  # None: nothing is limited
    bandwidth: Bandwidth | None = None  # None: nobody is slowed
    fulltext: FullText | None = None  # None: searches read the messages
    checks: tuple[Check, ...] = ()  # asked in this order before mail is taken (nodes/smtp/checks.py)
    worker: int = 0  # which of the node's workers this is (nodes/workers); 0: the node's own process
    tracing: Tracing | None = None  # None: no spans are made
    refusals: Refusals = field(init=False)

    def __post_init__(self) -> None:
        self.refusals = Refusals(self.metrics, self.logger)

    @property
    def caches(self) -> Path:
        """The folder that holds this process's caches; each has its own."""
        folder = self.log.config.data_dir
        return folder / WORKERS_FOLDER / str(self.worker) if self.worker else folder


class Listener(Protocol):
    """A front end that listens."""

    @property
    def address(self) -> str:
        """`host:port` as bound, the real port where 0 was asked for."""
        ...

    def reload(self) -> None:
        """`config`, `checks` and `tokens` of the services are others now: from now on by those."""
        ...

    def retire(self) -> None:
        """Accept no more; sessions go on until they end or `stop` is called."""
        ...

    async def stop(self, grace_s: float) -> None:
        """Accept no more; sessions may finish what they do for `grace_s` seconds, then they are closed."""
        ...


class StartListener(Protocol):
    """What each front end package offers as `start`. Raises OSError when the address can not be bound."""

    async def __call__(self, services: Services, kind: ListenerKind, address: str) -> Listener: ...
