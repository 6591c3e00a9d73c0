"""The life of one worker: it is told its configuration, opens the database to read, listens, and does as it is told.

It ends with the node, whatever way that ends; signals other than SIGKILL are for the node, which tells its workers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from contextlib import AsyncExitStack
from typing import NoReturn

import structlog
import uvloop

from eventlog.log import LogConfig
from nodes import logs
from nodes.config.node import LISTENERS, NodeConfig
from nodes.front_ends import FRONT_ENDS
from nodes.listeners import Listeners
from nodes.listening import share_addresses
from nodes.metrics import Metrics
from nodes.policy.borrowed import Borrowed
from nodes.process import end_with_parent, keep_giving_memory_back, raise_file_limit, tune_memory
from nodes.services import WORKERS_FOLDER
from nodes.systemd import take_over_sockets
from nodes.tls.chain import BadCertificate
from nodes.workers.channel import Channel, Message
from nodes.workers.connections import Counts, SharedConnections
from nodes.workers.parts import Parts
from nodes.workers.remote_log import GATE, RemoteLog
from nodes.workers.scrape import pack_samples

CAN_NOT_START = 3  # the exit status of a worker that has said why
LEFT_ALONE = 4  # and of one whose node has gone

_log = structlog.get_logger("mailraft.workers")


class Worker:
    """Event loop only. `run` returns the exit status when the node says that it is time."""

    _remote: RemoteLog
    _connections: SharedConnections
    _tokens: Borrowed
    _metrics: Metrics
    _parts: Parts

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._early: list[Message] | None = []  # what came before there was a log to give it to
        self._listeners: Listeners | None = None
        self._began: asyncio.Future[Message] = loop.create_future()
        self._stop: asyncio.Future[float] = loop.create_future()
        self._config: asyncio.Queue[Message] = asyncio.Queue()
        self.channel = Channel(self._take, self._lost)

    async def run(self) -> int:
        """Until it is told to stop."""
        begin = await self._began
        structlog.contextvars.bind_contextvars(worker=begin["number"])
        async with AsyncExitStack() as stack:
            try:
                endpoints = await self._start(stack, begin)
            except Exception as error:
                _log.exception("a worker can not start")
                self.channel.send({"type": "failed", "error": f"{type(error).__name__}: {error}"})
                self.channel.close()
                return CAN_NOT_START
            self.channel.send({"type": "ready", "endpoints": endpoints})
            grace_s = await self._stop
            assert self._listeners is not None
            for wrong in await self._listeners.stop(grace_s):
                _log.error("a front end did not stop well", error=repr(wrong))
        self.channel.close()
        return 0

    async def _start(self, stack: AsyncExitStack, begin: Message) -> dict[str, str]:
        """Gives where it listens."""
        number, config = int(begin["number"]), NodeConfig.model_validate_json(begin["config"])
        logs.configure(config.log)
        sys.setswitchinterval(config.node.switch_interval_ms / 1000)
        node, folder = config.node, config.node.data_dir
        self._metrics = Metrics(node.name)
        logs.count_errors(self._metrics.error)
        log = LogConfig(node.name, folder, {}, "", map_size_bytes=config.storage.map_size_bytes)
        gate = folder / WORKERS_FOLDER / GATE
        self._remote = RemoteLog(log, gate, begin["state"], self.channel.send, self._metrics)
        stack.callback(self._remote.close)
        self._connections = SharedConnections(config.limits, self._tell_connections)
        self._tokens = Borrowed(self.channel.send)
        early, self._early = self._early or [], None
        for message in early:
            self._take(message)
        self._parts = Parts(stack, number, logs.logger(node.name).bind(worker=number))
        services = self._parts.start(config, self._remote, self._metrics, self._connections, self._tokens)
        endpoints: dict[str, str] = {}
        self._listeners = listeners = Listeners(services, FRONT_ENDS, endpoints)
        for kind in LISTENERS:
            await listeners.start(kind, getattr(config.listen, kind))
        for work in (self._heed_configuration(listeners), keep_giving_memory_back()):
            task = asyncio.get_running_loop().create_task(work)
            stack.callback(task.cancel)
        return endpoints

    def _tell_connections(self, counts: Counts) -> None:
        self.channel.send({"type": "connections", "counts": counts})

    # -- the node speaks

    def _take(self, message: Message) -> None:
        if message["type"] == "begin":
            self._began.set_result(message)
        elif self._early is not None:
            self._early.append(message)
        else:
            self._do(message)

    def _do(self, message: Message) -> None:
        match message["type"]:
            case "stop":
                if not self._stop.done():
                    self._stop.set_result(float(message["grace_s"]))
            case "configure":
                self._config.put_nowait(message)
            case "retire":
                if self._listeners is not None:
                    self._listeners.retire()
            case "connections":
                self._connections.heard(message["of"], message["counts"])
            case "gone":
                self._connections.gone(message["of"])
            case "lent":
                self._tokens.lent(message)
            case "metrics":
                self.channel.send({"type": "answer", "token": message["token"], "samples": pack_samples(self._metrics)})
            case _:
                self._remote.take(message)

    def _lost(self, why: str) -> None:
        """What clients wait for can not come any more: they see a closed connection."""
        if self._stop.done():
            return
        if self._early is None:
            self._remote.lose()
        _log.warning("the node has gone: this worker ends", why=why)
        _end(LEFT_ALONE)

    async def _heed_configuration(self, listeners: Listeners) -> None:
        """One after another: the last that was told holds in the end."""
        while True:
            message = await self._config.get()
            after = NodeConfig.model_validate_json(message["config"])
            try:
                await listeners.open(self._parts.services.config, after)
            except OSError as error:
                _log.error("a worker can not follow its node to another address, and ends", error=str(error))
                _end(CAN_NOT_START)
            with contextlib.suppress(BadCertificate):  # the node, which reads the same files, has said so
                self._parts.renew_certificates()
            self._parts.take_up(after)
            listeners.reload()
            listeners.keep()


def _end(status: int) -> NoReturn:
    """At once: nothing that this process still has is worth waiting for."""
    sys.stderr.flush()
    os._exit(status)


async def _run(descriptor: int, parent_pid: int) -> int:
    loop = asyncio.get_running_loop()
    worker = Worker()
    for number in (signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, lambda: None)
    # the service manager tells all processes to end, the node's end this one alone: the node waits for sessions
    loop.add_signal_handler(signal.SIGTERM, lambda: None if os.getppid() == parent_pid else _end(LEFT_ALONE))
    end_with_parent(parent_pid)
    await loop.create_unix_connection(lambda: worker.channel, sock=socket.socket(fileno=descriptor))
    return await worker.run()


def main(arguments: list[str]) -> int:
    """Runs a worker: the descriptor of its socket, and the node's process id."""
    descriptor, parent_pid = map(int, arguments)
    tune_memory()
    raise_file_limit()
    share_addresses()
    take_over_sockets(parent_pid)
    return uvloop.run(_run(descriptor, parent_pid))
