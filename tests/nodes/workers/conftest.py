"""A node in this process, and the log as a worker would have it, over a real pair of sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import structlog

from actors.registry import fold_event
from eventlog.log import EventLog, LogConfig
from eventlog.store import Store
from nodes.config.node import LimitsSection
from nodes.metrics import Metrics
from nodes.policy.leases import Leases
from nodes.workers.channel import Channel, Message
from nodes.workers.connections import SharedConnections
from nodes.workers.desk import Desk
from nodes.workers.hub import Hub
from nodes.workers.remote_log import RemoteLog


class InOneProcess(RemoteLog):
    """LMDB can not open a file twice in one process: here reads go through the node's own environment."""

    store: Store

    def _opened(self) -> Store:
        return self.store


class Served(NamedTuple):
    """A node's log, what serves workers there, and a worker's log."""

    log: EventLog
    hub: Hub
    desk: Desk
    remote: RemoteLog
    channel: Channel  # the worker's end
    ended: list[str]  # why the worker's end was closed


Serve = Callable[[], AbstractAsyncContextManager[Served]]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    @asynccontextmanager
    async def served() -> AsyncIterator[Served]:
        config = LogConfig("n1", tmp_path / "data", {"n1": "127.0.0.1:1"}, "127.0.0.1:1", (0.05, 0.1), 0.02)
        log = EventLog.open(config._replace(map_size_bytes=1 << 30, reserve_bytes=0), evolve=fold_event)
        await log.start()
        hub = Hub(log, SharedConnections(LimitsSection(), lambda _: None), Leases())
        try:
            await log.barrier()
            async with attached(hub, 1) as one:
                yield one
        finally:
            await hub.stop()
            await log.stop()

    return served


@asynccontextmanager
async def attached(hub: Hub, number: int) -> AsyncIterator[Served]:
    """One more worker's log."""
    loop, ended = asyncio.get_running_loop(), list[str]()
    desk = Desk(number, f"worker {number}.1", hub, structlog.get_logger())
    ours, theirs = socket.socketpair()

    def lost(why: str) -> None:
        ended.append(why)
        remote.lose()

    def take(message: Message) -> None:
        if message["type"] not in ("connections", "gone"):  # for the limit of connections, which is not here
            remote.take(message)

    channel = Channel(take, lost)
    remote = InOneProcess(hub.log.config, Path("/"), hub.state(), channel.send, Metrics("n1"))
    remote.store = hub.log.store
    await loop.create_unix_connection(lambda: desk.channel, sock=ours)
    await loop.create_unix_connection(lambda: channel, sock=theirs)
    hub.join(desk)
    try:
        yield Served(hub.log, hub, desk, remote, channel, ended)
    finally:
        for one in (channel, desk.channel):
            one.abort("the test is over")
        await asyncio.sleep(0)
