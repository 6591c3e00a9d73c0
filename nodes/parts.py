"""The parts of a node, made in the order in which they need each other; `stack` stops them in the reverse.

`make_serving` makes what front ends are given, `start_duties` what a node does unasked, `reloaders` says which of them
hear of a new configuration. nodes/server.py calls them in the life of a node.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from actors.directory import Directory
from actors.errors import InvalidName
from eventlog.log import EventLog
from nodes.cell_health import TOPIC, CellHealth
from nodes.config.node import NodeConfig
from nodes.delivery.local import LocalFirst
from nodes.delivery.manager import Manager
from nodes.delivery.transport import MailTransport
from nodes.dkim_admin import DkimRotation
from nodes.follower.followers import Followers
from nodes.fulltext.keeper import FullText
from nodes.guarding import Guarding
from nodes.heads import HeadKeeper
from nodes.listeners import Listeners
from nodes.logins.identities import Identities
from nodes.logins.security import ConnectionLimit
from nodes.policy.sharing import Sharing
from nodes.reports.sender import Sender
from nodes.resealing import Resealing, use_what_the_log_says
from nodes.services import Logger, Services
from nodes.serving import Given, Serving, make_runtime
from nodes.starting import StartError
from nodes.state import NodeState
from nodes.tenants.duty import Tenancy
from nodes.tls.acme_duty import AcmeDuty
from nodes.tls.files import TlsFiles
from nodes.tls.mail import MailTls
from nodes.tls.node_certificates import NodeCertificate
from nodes.workers.connections import SharedConnections

if TYPE_CHECKING:
    from actors.runtime import Runtime
    from nodes.logins.ldap_logins import LdapLogins
    from nodes.workers.crew import Crew

Reloader = Callable[[NodeConfig], None]


def make_serving(
    state: NodeState, log: EventLog, keys: bytes, tls_files: TlsFiles, logger: Logger, stack: AsyncExitStack
) -> Serving:
    """What front ends are given, by the configuration in `state`; its parts are named there. Raises StartError."""
    config = state.config
    state.heads = HeadKeeper(config, log, state.metrics, logger)
    stack.push_async_callback(state.heads.stop)
    state.heads.start()
    runtime, tracing = make_runtime(config, log, stack)
    directory = _directory(config, log, runtime, keys, logger, stack)
    state.identities = Identities(directory, logger, config.raft.propose_timeout_s)
    stack.push_async_callback(state.identities.stop)
    fulltext = FullText(config.fulltext, log, config.node.data_dir, logger)
    stack.push_async_callback(fulltext.stop)
    fulltext.start()
    state.mail_tls = mail_tls = MailTls(tls_files, log, directory, state.metrics, logger)
    stack.push_async_callback(mail_tls.stop)
    given = Given(
        config=config,
        log=log,
        runtime=runtime,
        tracing=tracing,
        directory=directory,
        metrics=state.metrics,
        logger=logger,
        tls=mail_tls.context,
        connections=_connections(config),
        fulltext=fulltext,
        caches=config.node.data_dir,
    )
    serving = Serving(given, stack)
    state.checking = serving.checking
    return serving


def _directory(
    config: NodeConfig, log: EventLog, runtime: Runtime, keys: bytes, logger: Logger, stack: AsyncExitStack
) -> Directory:
    directory = Directory(log, runtime, keys)
    stack.push_async_callback(directory.stop)
    wrong = use_what_the_log_says(directory.keys, log)
    if wrong is not None:
        hint = "the file cluster.key of another node of the cell"
        raise StartError(f"{config.secrets.key_reference} {wrong}", hint)
    if config.ldap.all:
        directory.logins.outside = ldap = _ldap_logins(config, logger)
        stack.push_async_callback(ldap.stop)
    return directory


def _connections(config: NodeConfig) -> ConnectionLimit:
    """Where clients are served by workers, it is these who count, and tell."""
    return SharedConnections(config.limits, lambda _: None) if config.node.workers else ConnectionLimit(config.limits)


async def start_duties(state: NodeState, services: Services, tls_files: TlsFiles, stack: AsyncExitStack) -> None:
    """What the node does unasked: it renews keys and certificates, ends what is over, sends mail, reports, follows."""
    for duty in (DkimRotation, AcmeDuty, Guarding, Tenancy, Resealing):
        stack.push_async_callback(duty(services).stop)
    stack.push_async_callback(NodeCertificate(services, tls_files).stop)
    transport = MailTransport.of(services)
    stack.push_async_callback(transport.stop)
    state.delivery = manager = Manager(services, LocalFirst(services, transport))
    await manager.start()
    stack.push_async_callback(manager.stop, services.config.node.stop_grace_s)
    state.report_sender = Sender(services)
    stack.push_async_callback(state.report_sender.stop)
    state.followers = Followers(services)
    stack.push_async_callback(state.followers.stop)
    state.cell = CellHealth(state, services.log)
    stack.push_async_callback(Sharing(services.log.telling, {TOPIC: state.cell}).stop)


def reloaders(state: NodeState, serving: Serving, listeners: Listeners | Crew) -> tuple[Reloader, ...]:
    """Who is told of a new configuration, in this order; none of them waits or fails."""
    heads, delivery = state.heads, state.delivery
    assert heads is not None and delivery is not None  # noqa: PT018
    return (
        serving.reload,
        heads.reload,
        lambda _: listeners.reload(),
        lambda _: delivery.reload(),
    )


def _ldap_logins(config: NodeConfig, logger: Logger) -> LdapLogins:
    """Raises StartError."""
    try:
        from nodes.logins.ldap_logins import LdapLogins  # what it is built on is an extra
    except ImportError:
        raise StartError("ldap.url: ldap3 is not installed", "pip install 'mailraft[ldap]'") from None
    try:
        return LdapLogins(config.ldap, logger)
    except (OSError, ValueError, InvalidName) as error:
        raise StartError(f"the table ldap can not be used: {error}", "`ca_file`, `filter`, `domains`") from None
