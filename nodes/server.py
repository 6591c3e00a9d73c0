"""The life of one node: check the database, open the log, start the front ends, wait, stop in order.

Whatever prevents a start is said in one sentence that names the key to change. A damaged database never
joins its cell: the node then answers only /healthz and the admin status, with the role "quarantined".
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop
from aiohttp import web

from eventlog.check import check_database
from eventlog.errors import UnknownEvent
from nodes import joining, logs
from nodes.config.cluster import with_cluster_settings
from nodes.config.node import LISTENERS, NodeConfig
from nodes.config.reloading import FileSource, Reloading, Source, cluster_settings
from nodes.config.sources import Loaded
from nodes.config.watch import FileWatch
from nodes.draining import Draining
from nodes.follower import feed
from nodes.front_ends import FRONT_ENDS
from nodes.http import acme_challenges, admin, public
from nodes.http import listener as http_listener
from nodes.listeners import Listeners
from nodes.metrics import Metrics
from nodes.node_log import open_log
from nodes.parts import make_serving, reloaders, start_duties
from nodes.process import keep_giving_memory_back, raise_file_limit, tune_memory
from nodes.services import WORKERS_FOLDER, Logger, Services
from nodes.starting import StartError, can_not_listen, only_one, pid_file, read_cluster_keys
from nodes.state import NodeState
from nodes.systemd import Notifier
from nodes.tls import contexts as tls
from nodes.tls.chain import BadCertificate
from nodes.tls.files import TlsFiles
from nodes.workers.connections import SharedConnections
from nodes.workers.crew import Crew, WorkerFailed, forget_caches

STOP_MARGIN_S = 10.0  # beyond node.stop_grace_s; a node that takes longer is ended by the kernel


class OutOfMemory(Exception):
    """The system gave no more memory to the event loop."""


def serve(loaded: Loaded, source: Source) -> None:
    """Runs the node until SIGTERM or SIGINT; SIGHUP has it read `source` again. Raises StartError."""
    config = loaded.config
    logs.configure(config.log)
    sys.setswitchinterval(config.node.switch_interval_ms / 1000)
    tune_memory()
    raise_file_limit()
    with only_one(config), pid_file(config):
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
            watching = loop.create_task(
                notifier.watch(lambda: node.is_well(notifier.watchdog_s), lambda: _status(node.state))
            )
            trimming = loop.create_task(keep_giving_memory_back())
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


class Node:
    """One node. `async with node.running()` is its life; `stop` is set when that should end."""

    def __init__(self, config: NodeConfig, loaded: Loaded | None = None, source: Source | None = None) -> None:
        """`loaded` and `source`: where the configuration came from, and where it is read again."""
        self._config = config
        self._loaded = loaded or Loaded(config, Path(), {})
        self._source = source
        self._logger: Logger = logs.logger(config.node.name)
        try:
            self.tls_files = TlsFiles(config.tls, self._logger, config.node.cluster_id)
        except BadCertificate as error:
            raise StartError(str(error), error.hint) from None
        self.state = NodeState(config, Metrics(config.node.name), tls_files=self.tls_files)
        logs.count_errors(self.state.metrics.error)
        self.stop = asyncio.Event()
        self.fatal: BaseException | None = None
        self._removed_at: int | None = None  # 0: at a position that it was not told
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
                if self._removed_at is not None:
                    await self._leave_cell()
            yield self.state
            if self._ending is not None:
                await self._ending
            self.state.phase = "stopping"
            self._logger.info("stopping")
        self._logger.info("stopped")

    def is_well(self, most_s: float) -> bool:
        """Whether the node lives: its consensus thread has not ended, nor been at one tick for longer than that.

        Where a disk hangs only the thread does: the event loop goes on, and would have a watchdog believe that all is
        well.
        """
        log = self.state.log
        return self.fatal is None and (log is None or log.tick_s < most_s)

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
            self._logger.error(
                "certificates not renewed", code="certificate_not_renewed", error=str(error), hint=error.hint
            )
            return
        self._logger.info("certificates renewed")

    def _quarantine(self, reason: str) -> None:
        self.state.phase, self.state.quarantine_reason = "quarantined", reason
        self._logger.error("quarantined", code="quarantined", reason=reason)

    def _removed(self, position: int) -> None:
        self._removed_at = position
        if self.state.phase == "serving":
            self._ending = asyncio.create_task(self._leave_cell())

    async def _leave_cell(self) -> None:
        """Ends all but HTTP: what this node has is from now on a copy of the past, and it is to say so."""
        where = f"at position {self._removed_at}" if self._removed_at else "while it was away"
        self._quarantine(
            f"removed from the cell {where}: stop this node; to come back it needs a new name and "
            "an empty node.data_dir"
        )
        self.state.log = self.state.services = self.state.heads = self.state.identities = self.state.cell = None
        await self._parts.aclose()

    async def _start(self, stack: AsyncExitStack) -> None:
        state, logger = self.state, self._logger
        keys = read_cluster_keys(self._config.secrets.key_reference)  # before anybody counts on this node
        state.log = log = await open_log(
            self._config, self.tls_files, state.metrics, stack, on_fatal=self._end, on_removed=self._removed
        )
        state.config, _ = with_cluster_settings(self._config, cluster_settings(log))
        serving = make_serving(state, log, keys, self.tls_files, logger, stack)
        services = serving.services
        listeners = self._front_ends(services)
        stack.push_async_callback(self._stop_front_ends, listeners)
        await self._start_front_ends(listeners)
        await start_duties(state, services, self.tls_files, stack)
        state.services = services
        told = reloaders(state, serving, listeners)
        state.reloading = Reloading(
            state, services, self._loaded, self._source, self.tls_files, listeners, told, logger
        )
        stack.push_async_callback(state.reloading.stop)
        state.draining = Draining(services, listeners, self.stop)
        stack.push_async_callback(state.draining.stop)
        if isinstance(self._source, FileSource):
            watch = FileWatch(
                self._source.path, lambda: state.config.node.watch_s, lambda: self.reload_soon("the file changed")
            )
            stack.push_async_callback(watch.stop)
        state.phase = "serving"
        logger.info("serving", pid=os.getpid(), **state.endpoints)

    def _end(self, error: BaseException) -> None:
        if self.fatal is None:
            self._logger.error("the node can not go on and ends", error=f"{type(error).__name__}: {error}")
        self.fatal = error
        self.stop.set()

    async def _start_http(self, stack: AsyncExitStack) -> None:
        listen = self._config.listen
        admin_tls = self.tls_files.keep(tls.admin_context(self._config.tls, self.tls_files.admission))
        region_tls = self.tls_files.keep(tls.region_context(self._config.tls, self.tls_files.admission))
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
                started = await http_listener.start(app, address, context, key)
            except OSError as error:
                raise can_not_listen(f"listen.{key}", address, error) from None
            stack.push_async_callback(started.stop, 1.0)
            self.state.endpoints[key] = started.address

    def _front_ends(self, services: Services) -> Listeners | Crew:
        """In this process, or in its workers."""
        node = services.config.node
        if isinstance(services.connections, SharedConnections):
            self.state.crew = crew = Crew(services, services.connections, self.state.endpoints)
            return crew
        forget_caches(node.data_dir / WORKERS_FOLDER, node.workers)
        return Listeners(services, FRONT_ENDS, self.state.endpoints)

    async def _start_front_ends(self, listeners: Listeners | Crew) -> None:
        for kind in LISTENERS:
            address = getattr(self.state.config.listen, kind)
            try:
                await listeners.start(kind, address)
            except OSError as error:
                raise can_not_listen(f"listen.{kind}", address, error) from None
        if isinstance(listeners, Crew):
            try:
                await listeners.spawn()
            except WorkerFailed as error:
                raise StartError(f"node.workers: a worker can not start: {error}", "its log lines tell more") from None

    async def _stop_front_ends(self, listeners: Listeners | Crew) -> None:
        for error in await listeners.stop(self.state.config.node.stop_grace_s):
            self._logger.error("a front end did not stop well", error=repr(error))
