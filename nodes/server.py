"""The life of one node: check the database, open the log, start the front ends, wait, stop in order.

Whatever prevents a start is said in one sentence that names the key to change. A damaged database never
joins its cell: the node then answers only /healthz and the admin status, with the role "quarantined".
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import ssl
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lmdb
import uvloop
from aiohttp import web

from actors.custody import CUSTODY
from actors.directory import Directory
from actors.errors import InvalidName
from actors.registry import fold_event
from actors.runtime import Runtime
from eventlog.check import check_database
from eventlog.errors import DamagedDatabase, Rejected, UnknownEvent
from eventlog.log import Committed, EventLog, LogConfig
from eventlog.record import Record
from nodes import imap, joining, logs, pop3, smtp
from nodes.cell_health import TOPIC, CellHealth
from nodes.config.checking import Checking
from nodes.config.cluster import with_cluster_settings
from nodes.config.node import LISTENERS, ListenerKind, NodeConfig
from nodes.config.reloading import FileSource, Reloading, Source, cluster_settings
from nodes.config.secrets import SecretError, read_secret
from nodes.config.sources import Loaded
from nodes.config.watch import FileWatch
from nodes.delivery.local import LocalFirst
from nodes.delivery.manager import Manager
from nodes.delivery.transport import MailTransport
from nodes.dkim_admin import DkimRotation
from nodes.dns import HostNames
from nodes.draining import Draining
from nodes.files import Locked, lock, write_atomically
from nodes.follower import feed
from nodes.follower.followers import Followers
from nodes.fulltext.keeper import FullText
from nodes.guarding import Guarding
from nodes.heads import HeadKeeper
from nodes.http import acme_challenges, admin, public
from nodes.http import listener as http_listener
from nodes.listeners import Listeners
from nodes.logins.identities import Identities
from nodes.logins.security import ConnectionLimit, LoginGuard
from nodes.logins.tokens import Tokens
from nodes.metrics import Metrics
from nodes.past import PastMailboxes
from nodes.policy.sharing import Sharing
from nodes.process import LOCK_NAME, give_memory_back, raise_file_limit, tune_memory
from nodes.reports.collector import Collector
from nodes.reports.sender import Sender
from nodes.resealing import Resealing, use_what_the_log_says
from nodes.resolver import Resolver
from nodes.services import Logger, Services, StartListener
from nodes.sessions import Sessions
from nodes.signing import Signing
from nodes.state import NodeState
from nodes.systemd import Notifier
from nodes.tenants.duty import Tenancy
from nodes.tls import contexts as tls
from nodes.tls.acme_duty import AcmeDuty
from nodes.tls.chain import BadCertificate
from nodes.tls.files import TlsFiles
from nodes.tls.mail import MailTls
from nodes.tls.node_certificates import NodeCertificate

if TYPE_CHECKING:
    from nodes.logins.ldap_logins import LdapLogins

CLUSTER_KEY_BYTES = 32
TRIM_S = 60.0
STOP_MARGIN_S = 10.0  # beyond node.stop_grace_s; a node that takes longer is ended by the kernel

FRONT_ENDS: dict[ListenerKind, StartListener] = {
    "smtp": smtp.start,
    "submission": smtp.start,
    "submissions": smtp.start,
    "lmtp": smtp.start,
    "imap": imap.start,
    "imaps": imap.start,
    "pop3": pop3.start,
    "pop3s": pop3.start,
}


class StartError(Exception):
    """The node can not start; the text says why and `hint` what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


async def _give_memory_back() -> None:
    while True:
        await asyncio.sleep(TRIM_S)
        await asyncio.to_thread(give_memory_back)


class OutOfMemory(Exception):
    """The system gave no more memory to the event loop."""


def serve(loaded: Loaded, source: Source) -> None:
    """Runs the node until SIGTERM or SIGINT; SIGHUP has it read `source` again. Raises StartError."""
    config = loaded.config
    logs.configure(config.log)
    sys.setswitchinterval(config.node.switch_interval_ms / 1000)
    tune_memory()
    raise_file_limit()
    with _only_one(config), _pid_file(config):
        uvloop.run(_serve(loaded, source))


async def _serve(loaded: Loaded, source: Source) -> None:
    node, life = Node(loaded.config, loaded, source), asyncio.current_task()
    assert life is not None

    def stop() -> None:
        _be_gone_in(node.state.config.node.stop_grace_s)
        node.stop.set()
        if node.state.phase in ("joining", "starting"):
            life.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, node.reload_soon, "SIGHUP")
    loop.set_exception_handler(node.loop_failed)
    with contextlib.suppress(asyncio.CancelledError):
        async with node.running():
            notifier = Notifier()
            notifier.ready(_status(node.state))
            watching = loop.create_task(notifier.watch(lambda: node.fatal is None, lambda: _status(node.state)))
            trimming = loop.create_task(_give_memory_back())
            await node.stop.wait()
            trimming.cancel()
            watching.cancel()
            notifier.stopping()
            _be_gone_in(node.state.config.node.stop_grace_s)
    if isinstance(node.fatal, UnknownEvent):
        raise StartError(str(node.fatal), "install that version here; nothing of this node's data was changed")
    if isinstance(node.fatal, OutOfMemory):
        raise StartError(f"out of memory: {node.fatal}", "more memory, or lower limits.connections and message_bytes")
    if node.fatal is not None:
        raise StartError(f"the log stopped: {node.fatal}", "read the node's log; the other nodes have what it had")


def _status(state: NodeState) -> str:
    """One line, for `systemctl status`."""
    reasons = state.unready()
    role = state.log.status().role if state.log is not None else state.phase
    return f"{state.config.node.name}: {role}, " + ("; ".join(reasons) if reasons else "serving")


def _be_gone_in(grace_s: float) -> None:
    """A stop that hangs still ends: the default action of SIGALRM ends the process."""
    signal.setitimer(signal.ITIMER_REAL, grace_s + STOP_MARGIN_S)


class MeasuredLog(EventLog):
    """The event log, with the time that each write took."""

    metrics: Metrics

    async def propose(self, record: Record, bodies: Sequence[bytes] = (), timeout_s: float = 8.0) -> Committed:
        started_s = time.perf_counter()
        outcome = "unknown"
        try:
            committed = await super().propose(record, bodies, timeout_s)
            outcome = "committed"
            return committed
        except Rejected:
            outcome = "rejected"
            raise
        finally:
            self.metrics.proposed(outcome, time.perf_counter() - started_s)


class Node:
    """One node. `async with node.running()` is its life; `stop` is set when that should end."""

    def __init__(self, config: NodeConfig, loaded: Loaded | None = None, source: Source | None = None) -> None:
        """`loaded` and `source`: where the configuration came from, and where it is read again."""
        self._config = config
        self._loaded = loaded or Loaded(config, Path(), {})
        self._source = source
        self._logger: Logger = logs.logger(config.node.name)
        try:
            self.tls_files = TlsFiles(config.tls, self._logger)
        except BadCertificate as error:
            raise StartError(str(error), error.hint) from None
        self.state = NodeState(config, Metrics(config.node.name), tls_files=self.tls_files)
        self.stop = asyncio.Event()
        self.fatal: BaseException | None = None
        self._removed_at = 0
        self._parts = AsyncExitStack()  # all but HTTP: ends earlier where the node is removed from its cell
        self._ending: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[NodeState]:
        """Started inside the block, stopped after it. Raises StartError."""
        async with AsyncExitStack() as stack:
            await self._start_http(stack)  # first, so that one can ask what the node is doing
            if joining.is_due(self._config):
                await joining.join(self.state, self._logger)
            reason = await asyncio.to_thread(check_database, self._config.node.data_dir)
            if reason is not None:
                self._quarantine(f"the database is damaged, so this node joins nothing: {reason}")
            else:
                await stack.enter_async_context(self._parts)
                await self._start(self._parts)
                if self._removed_at:
                    await self._leave_cell()
            yield self.state
            if self._ending is not None:
                await self._ending
            self.state.phase = "stopping"
            self._logger.info("stopping")
        self._logger.info("stopped")

    def loop_failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What no connection and no task took care of. Out of memory, nobody knows what was left undone: the node ends.

        Its supervisor starts it again; what it had acknowledged is on disk.
        """
        loop.default_exception_handler(context)
        if isinstance(context.get("exception"), MemoryError):
            self._end(OutOfMemory(context.get("message", "no memory left")))

    def reload_soon(self, why: str) -> None:
        """Reads certificates and configuration again; what comes of it is logged."""
        Notifier().reloading()
        if self.state.reloading is not None:
            self.state.reloading.reload_soon(why)
        else:
            self.renew_certificates()

    def renew_certificates(self) -> None:
        """Reads the certificates again (SIGHUP): connections from now on use them, those that are open stay."""
        try:
            self.tls_files.reload()
        except BadCertificate as error:
            self._logger.error("certificates not renewed", error=str(error), hint=error.hint)
            return
        self._logger.info("certificates renewed")

    def _quarantine(self, reason: str) -> None:
        self.state.phase, self.state.quarantine_reason = "quarantined", reason
        self._logger.error("quarantined", reason=reason)

    def _removed(self, position: int) -> None:
        self._removed_at = position
        if self.state.phase == "serving":
            self._ending = asyncio.create_task(self._leave_cell())

    async def _leave_cell(self) -> None:
        """Ends all but HTTP: what this node has is from now on a copy of the past, and it is to say so."""
        self._quarantine(
            f"removed from the cell at position {self._removed_at}: stop this node; to come back it needs a new name "
            "and an empty node.data_dir"
        )
        self.state.log = self.state.services = self.state.heads = self.state.identities = self.state.cell = None
        await self._parts.aclose()

    async def _start(self, stack: AsyncExitStack) -> None:
        cluster_keys = read_cluster_keys(self._config.secrets.key_reference)  # before anybody counts on this node
        log = await self._open_log(stack)
        self.state.log = log
        config, _ = with_cluster_settings(self._config, cluster_settings(log))
        self.state.config = config
        self.state.heads = heads = HeadKeeper(config, log, self.state.metrics, self._logger)
        stack.push_async_callback(heads.stop)
        heads.start()
        runtime = Runtime(log)
        stack.push_async_callback(runtime.stop)
        directory = Directory(log, runtime, cluster_keys)
        stack.push_async_callback(directory.stop)
        wrong = use_what_the_log_says(directory.keys, log)
        if wrong is not None:
            hint = "the file cluster.key of another node of the cell"
            raise StartError(f"{config.secrets.key_reference} {wrong}", hint)
        if config.ldap.all:
            directory.logins.outside = ldap = _ldap_logins(config, self._logger)
            stack.push_async_callback(ldap.stop)
        self.state.identities = Identities(directory, self._logger, config.raft.propose_timeout_s)
        stack.push_async_callback(self.state.identities.stop)
        past = PastMailboxes(log, runtime, config.node.data_dir / "past", config.raft.propose_timeout_s)
        stack.push_async_callback(past.stop)
        log.subscribe(CUSTODY, lambda _: past.forget())
        resolver = Resolver(config.dns)
        stack.callback(resolver.close)
        signing = Signing(log, directory)
        reports = Collector(log, runtime, self._logger, config.node.name)
        stack.push_async_callback(reports.stop)
        host_names = HostNames(config.dns, resolver)
        checking = Checking(
            config, log, runtime, resolver, host_names, self.state.metrics, reports, signing, self._logger
        )
        stack.push_async_callback(checking.stop)
        self.state.checking = checking
        fulltext = FullText(config.fulltext, log, config.node.data_dir, self._logger)
        stack.push_async_callback(fulltext.stop)
        fulltext.start()
        self.state.mail_tls = mail_tls = MailTls(self.tls_files, log, directory, self.state.metrics, self._logger)
        stack.push_async_callback(mail_tls.stop)
        services = Services(
            config=config,
            log=log,
            runtime=runtime,
            directory=directory,
            metrics=self.state.metrics,
            logger=self._logger,
            tls=mail_tls.context,
            login_guard=LoginGuard(config.limits),
            connections=ConnectionLimit(config.limits),
            resolver=resolver,
            host_names=host_names,
            past=past,
            signing=signing,
            tokens=Tokens(config.oauth, self._logger) if config.oauth.all else None,
            reports=reports,
            login_limits=checking.logins,
            sessions=Sessions(runtime.standings, log, checking.logins),
            fulltext=fulltext,
            checks=checking.all,
        )
        listeners = Listeners(services, FRONT_ENDS, self.state.endpoints)
        stack.push_async_callback(self._stop_front_ends, listeners)
        await self._start_front_ends(listeners)
        stack.push_async_callback(DkimRotation(services).stop)
        stack.push_async_callback(AcmeDuty(services).stop)
        stack.push_async_callback(NodeCertificate(services, self.tls_files).stop)
        stack.push_async_callback(Guarding(services).stop)
        stack.push_async_callback(Tenancy(services).stop)
        stack.push_async_callback(Resealing(services).stop)
        self.state.delivery = manager = await self._start_delivery(stack, services)
        sender = Sender(services)
        stack.push_async_callback(sender.stop)
        self.state.report_sender = sender
        followers = Followers(services)
        stack.push_async_callback(followers.stop)
        self.state.followers = followers
        self.state.services = services
        self.state.cell = cell = CellHealth(self.state, log)
        stack.push_async_callback(Sharing(log.telling, {TOPIC: cell}).stop)
        parts = (
            lambda new: logs.configure(new.log),
            lambda new: sys.setswitchinterval(new.node.switch_interval_ms / 1000),
            lambda new: services.login_guard.reload(new.limits),
            lambda new: services.connections.reload(new.limits),
            lambda new: resolver.reload(new.dns),
            lambda new: host_names.reload(new.dns),
            heads.reload,
            lambda new: self._reload_services(services, checking, new),
            lambda _: listeners.reload(),
            lambda _: manager.reload(),
        )
        reloading = Reloading(
            self.state, services, self._loaded, self._source, self.tls_files, listeners, parts, self._logger
        )
        stack.push_async_callback(reloading.stop)
        self.state.draining = draining = Draining(services, listeners, self.stop)
        stack.push_async_callback(draining.stop)
        self.state.reloading = reloading
        if isinstance(self._source, FileSource):
            watch = FileWatch(
                self._source.path, lambda: self.state.config.node.watch_s, lambda: self.reload_soon("the file changed")
            )
            stack.push_async_callback(watch.stop)
        self.state.phase = "serving"
        self._logger.info("serving", pid=os.getpid(), **self.state.endpoints)

    def _reload_services(self, services: Services, checking: Checking, config: NodeConfig) -> None:
        if services.tokens is None or services.tokens.config != config.oauth:
            services.tokens = Tokens(config.oauth, self._logger) if config.oauth.all else None
        checking.reload(config)
        services.checks = checking.all

    async def _start_delivery(self, stack: AsyncExitStack, services: Services) -> Manager:
        transport = MailTransport.of(services)
        stack.push_async_callback(transport.stop)
        manager = Manager(services, LocalFirst(services, transport))
        await manager.start()
        stack.push_async_callback(manager.stop, self._config.node.stop_grace_s)
        return manager

    async def _open_log(self, stack: AsyncExitStack) -> EventLog:
        config = self._config
        contexts = tls.raft_contexts(config)
        for context in contexts:
            self.tls_files.keep(context)
        try:
            log = MeasuredLog.open(
                log_config(config),
                evolve=fold_event,
                server_ssl=contexts[0],
                client_ssl=contexts[1],
                peer_name=lambda peer: tls.peer_node_name(peer, config.node.cluster_id),
                on_fatal=self._end,
                on_removed=self._removed,
            )
        except DamagedDatabase as error:
            raise StartError(str(error), "another node.data_dir: the other nodes bring it up to date") from None
        except lmdb.Error as error:
            raise StartError(f"node.data_dir = {config.node.data_dir}: can not be opened: {error}") from None
        assert isinstance(log, MeasuredLog)
        log.metrics = self.state.metrics
        stack.push_async_callback(log.stop)
        try:
            await log.start()
        except OSError as error:
            raise _can_not_listen("raft.listen", config.raft.listen, error) from None
        return log

    def _end(self, error: BaseException) -> None:
        if self.fatal is None:
            self._logger.error("the node can not go on and ends", error=f"{type(error).__name__}: {error}")
        self.fatal = error
        self.stop.set()

    async def _start_http(self, stack: AsyncExitStack) -> None:
        listen = self._config.listen
        admin_tls = self.tls_files.keep(tls.admin_context(self._config.tls))
        region_tls = self.tls_files.keep(tls.region_context(self._config.tls))
        applications: list[tuple[str, str, web.Application, ssl.SSLContext | None]] = [
            ("http", listen.http, public.application(self.state), None),
            ("admin", listen.admin, admin.application(self.state, self._logger), admin_tls),
            ("region", listen.region, feed.application(self.state, self._logger), region_tls),
            ("acme_http", listen.acme_http, acme_challenges.application(self.state), None),
        ]
        for key, address, app, context in applications:
            if not address:
                continue
            try:
                started = await http_listener.start(app, address, context)
            except OSError as error:
                raise _can_not_listen(f"listen.{key}", address, error) from None
            stack.push_async_callback(started.stop, 1.0)
            self.state.endpoints[key] = started.address

    async def _start_front_ends(self, listeners: Listeners) -> None:
        for kind in LISTENERS:
            address = getattr(self.state.config.listen, kind)
            try:
                await listeners.start(kind, address)
            except OSError as error:
                raise _can_not_listen(f"listen.{kind}", address, error) from None

    async def _stop_front_ends(self, listeners: Listeners) -> None:
        for error in await listeners.stop(self.state.config.node.stop_grace_s):
            self._logger.error("a front end did not stop well", error=repr(error))


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


def log_config(config: NodeConfig) -> LogConfig:
    """What the event log needs of the configuration."""
    shortest_ms, longest_ms = config.raft.election_timeout_ms
    return LogConfig(
        name=config.node.name,
        data_dir=config.node.data_dir,
        # one that joins is a member when the log says so, and never because its own file does
        peers={name: at for name, at in config.raft.peers.items() if name != config.node.name or not config.raft.join},
        listen=config.raft.listen,
        election_timeout_s=(shortest_ms / 1000, longest_ms / 1000),
        heartbeat_s=config.raft.heartbeat_ms / 1000,
        map_size_bytes=config.storage.map_size_bytes,
        reserve_bytes=config.storage.reserve_bytes,
        cell_id=config.node.cluster_id,
    )


def read_cluster_key(path: Path) -> bytes:
    """The same of a file."""
    return read_cluster_keys(f"file:{path}")


def read_cluster_keys(reference: str) -> bytes:
    """The keys behind a reference, oldest first, 32 bytes each, one behind the other. Raises StartError, never showing
    what is there."""
    hint = "the file that `mailraft cluster init` wrote; it is the same on every node"
    place = reference.removeprefix("file:")
    try:
        keys = bytes.fromhex(read_secret(reference).decode())
    except SecretError as error:
        raise StartError(f"secrets.cluster_key_file: {error}", hint) from None
    except ValueError:
        keys = b""
    if not keys or len(keys) % CLUSTER_KEY_BYTES:
        must = f"must hold {CLUSTER_KEY_BYTES} bytes in hexadecimal"
        raise StartError(f"secrets.cluster_key_file: {place} {must}", hint)
    return keys


@contextmanager
def _only_one(config: NodeConfig) -> Iterator[None]:
    """Two processes on one database would be one node that votes twice."""
    folder = config.node.data_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = lock(folder / LOCK_NAME)
    except Locked as holder:
        raise StartError(f"node.data_dir = {folder}: another process runs this node (pid {holder})") from None
    except OSError as error:
        raise StartError(f"node.data_dir = {folder}: can not be written to: {error.strerror}") from None
    with held:
        yield


@contextmanager
def _pid_file(config: NodeConfig) -> Iterator[None]:
    path = config.node.pid_file
    if path is None:
        yield
        return
    try:
        write_atomically(path, f"{os.getpid()}\n".encode())
    except OSError as error:
        raise StartError(f"node.pid_file = {path}: can not be written: {error.strerror}") from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _can_not_listen(key: str, address: str, error: OSError) -> StartError:
    if error.errno == errno.EADDRINUSE:
        return StartError(f"{key} = {address}: the address is in use", "stop the other program, or set another port")
    if error.errno == errno.EACCES:
        return StartError(f"{key} = {address}: not allowed", "a port from 1024 up, or the right to bind lower ones")
    return StartError(
        f"{key} = {address}: can not listen there: {error.strerror or error}", "an address of this machine"
    )
