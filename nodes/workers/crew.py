"""The workers of a node: spawned, told what the node is told, replaced when they die, and ended with it.

One that dies takes its own connections with it and nothing else: what it had proposed is decided by the node's log, and
the kernel gives new connections to the others. It is replaced at once, and after ever longer pauses if that goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from nodes.config.node import LISTENERS, ListenerKind, NodeConfig
from nodes.listening import reserve
from nodes.policy.leases import Leases
from nodes.services import WORKERS_FOLDER
from nodes.systemd import PREFIX, passed_sockets
from nodes.workers import scrape
from nodes.workers.desk import Desk
from nodes.workers.hub import Hub
from nodes.workers.limits import share_of
from nodes.workers.remote_log import GATE

if TYPE_CHECKING:
    from eventlog.log import EventLog
    from nodes.services import Services
    from nodes.workers.connections import SharedConnections

FIRST_PAUSE_S, MOST_PAUSE_S = 0.1, 30.0
WELL_S = 60.0  # a worker that lived so long is replaced at once
START_S = 60.0
END_S = 2.0  # beyond the grace of sessions
ASIDE_S = 2.0


class WorkerFailed(Exception):
    """A worker can not start; the text says why."""


class Crew:
    """Takes the place of nodes/listeners.py for all front ends. Event loop only."""

    def __init__(self, services: Services, connections: SharedConnections, endpoints: dict[str, str]) -> None:
        self._services = services
        self._log: EventLog = services.log
        self._logger = services.logger
        self._endpoints = endpoints
        self._folder = services.config.node.data_dir / WORKERS_FOLDER
        self._reserved: dict[ListenerKind, socket.socket] = {}
        self._opened: dict[ListenerKind, socket.socket | None] = {}
        self._lives = 0
        self._desks: dict[int, Desk] = {}
        self._counted: scrape.Samples = {}  # by those that have ended
        self._seen: dict[str, scrape.Samples] = {}  # of those that live, when last asked
        self._retired = False
        self._stopping = asyncio.Event()
        self._keepers: list[asyncio.Task[None]] = []
        leases = services.login_limits.leases if services.login_limits is not None else None
        assert isinstance(leases, Leases)  # in the node they are the cell's
        self._hub = Hub(self._log, connections, leases)
        self._log.eraser.others_aside = self._aside

    @property
    def missing(self) -> list[int]:
        """The numbers of workers that do not listen at the moment."""
        return [number for number in self._numbers if not self._listens(number)]

    @property
    def _numbers(self) -> range:
        return range(1, self._services.config.node.workers + 1)

    def _listens(self, number: int) -> bool:
        desk = self._desks.get(number)
        return desk is not None and desk.endpoints is not None and not desk.is_gone

    # -- nodes/listeners.py

    async def start(self, kind: ListenerKind, address: str) -> None:
        """Takes the address for the workers; nothing for "". Raises OSError."""
        if address:
            self._reserved[kind] = reserve(address)

    async def spawn(self) -> None:
        """Returns when all workers listen. Raises WorkerFailed."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        forget_caches(self._folder, len(self._numbers))
        (self._folder / GATE).touch(mode=0o600)
        self._keepers = [asyncio.get_running_loop().create_task(self._keep(number)) for number in self._numbers]
        deadline_s = asyncio.get_running_loop().time() + START_S
        while self.missing:
            failures = [desk.failure for desk in self._desks.values() if desk.failure]
            if failures or asyncio.get_running_loop().time() > deadline_s:
                raise WorkerFailed(failures[0] if failures else f"it does not listen after {START_S:g} s")
            await asyncio.sleep(0.01)
        self._show()

    def reload(self) -> None:
        """What `services` has is of another configuration: the workers are told."""
        config = self._told()
        for desk in self._hub.desks():
            desk.send({"type": "configure", "config": config})

    async def open(self, before: NodeConfig, after: NodeConfig) -> None:
        """Takes the addresses that differ. Raises OSError that names the key."""
        for kind in LISTENERS:
            address = getattr(after.listen, kind)
            if address == getattr(before.listen, kind):
                continue
            try:
                self._opened[kind] = reserve(address) if address else None
            except OSError as error:
                raise OSError(f"listen.{kind} = {address}: can not listen there: {error.strerror or error}") from None

    def keep(self) -> None:
        """The workers were told of them with the configuration."""
        for kind, opened in self._opened.items():
            old = self._reserved.pop(kind, None)
            if old is not None:
                old.close()
            if opened is not None:
                self._reserved[kind] = opened
        self._opened.clear()
        self._show()

    async def give_up(self) -> None:
        """Lets go of what was taken."""
        for opened in self._opened.values():
            if opened is not None:
                opened.close()
        self._opened.clear()

    def retire(self) -> None:
        """No worker accepts any more; sessions go on, and who dies is not replaced."""
        self._retired = True
        for desk in self._hub.desks():
            desk.send({"type": "retire"})

    async def stop(self, grace_s: float) -> list[BaseException]:
        """All at once: the grace is for the whole node. Gives what went wrong."""
        self._stopping.set()
        for desk in self._desks.values():
            desk.send({"type": "stop", "grace_s": grace_s})
        ended: list[BaseException | None] = []
        if self._keepers:
            done, late = await asyncio.wait(self._keepers, timeout=grace_s + END_S)
            for keeper in late:
                keeper.cancel()  # it kills its worker
            ended = list(await asyncio.gather(*done, *late, return_exceptions=True))
        await self._hub.stop()
        for one in self._reserved.values():
            one.close()
        return [error for error in ended if error is not None and not isinstance(error, asyncio.CancelledError)]

    # -- metrics

    async def exposition(self) -> bytes:
        """The metrics of the node and of all its workers; one that does not answer in time is shown as it was."""
        desks = self._hub.desks()
        for desk, answer in zip(desks, await asyncio.gather(*(desk.ask("metrics") for desk in desks)), strict=True):
            if answer is not None and "samples" in answer and not desk.is_gone:
                self._seen[desk.name] = scrape.read_samples(answer["samples"])
        return scrape.exposition(self._services.metrics, [self._counted, *self._seen.values()])

    # -- one worker after another

    async def _keep(self, number: int) -> None:
        """A worker under this number, for as long as the node is to have one."""
        pause_s = 0.0
        loop = asyncio.get_running_loop()
        while not (self._stopping.is_set() or self._retired):
            began_s = loop.time()
            status = await self._live(number)
            if self._stopping.is_set():
                return
            lived_s = loop.time() - began_s
            pause_s = 0.0 if lived_s > WELL_S else min(max(pause_s * 2, FIRST_PAUSE_S), MOST_PAUSE_S)
            self._logger.error("a worker has ended", worker=number, status=status, again_in_s=pause_s)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()

    async def _live(self, number: int) -> int:
        """One life of a worker. Gives its exit status."""
        self._lives += 1
        desk = Desk(number, f"worker {number}.{self._lives}", self._hub, self._logger)
        ours, theirs = socket.socketpair()
        with contextlib.closing(theirs):
            process = await _spawned(theirs)
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: desk.channel, sock=ours)
            self._desks[number] = desk
            self._hub.join(desk)
            begin = {"number": number, "config": self._told(), "state": self._hub.state()}
            desk.send({"type": "begin", **begin})
            await desk.changed.wait()
            if desk.endpoints is not None:
                self._logger.info("a worker listens", worker=number, pid=process.pid)
                if self._stopping.is_set() or self._retired:
                    desk.send({"type": "stop", "grace_s": 0.0})
            return await process.wait()
        finally:
            desk.channel.abort("the worker has ended")
            self._hub.leave(desk)
            scrape.add(self._counted, self._seen.pop(desk.name, {}))
            await _ended(process)
            self._log.store.env.reader_check()  # what it was reading keeps no pages from being used again

    def _told(self) -> str:
        """The configuration as a worker obeys it, with the ports that are bound."""
        sockets = {**self._reserved, **self._opened}
        config = self._services.config
        addresses: dict[str, str] = dict.fromkeys(LISTENERS, "")
        addresses |= {kind: _address(bound) for kind, bound in sockets.items() if bound is not None}
        for kind in LISTENERS:
            configured = getattr(config.listen, kind)
            if configured.startswith(PREFIX):
                addresses[kind] = configured  # workers have them too, under the same names
        config = config.model_copy(update={"listen": config.listen.model_copy(update=addresses)})
        return share_of(config).model_dump_json()

    def _show(self) -> None:
        for kind in LISTENERS:
            self._endpoints.pop(kind, None)
            if kind in self._reserved:
                self._endpoints[kind] = _address(self._reserved[kind])

    @contextlib.asynccontextmanager
    async def _aside(self) -> AsyncIterator[None]:
        """While it is entered no worker has the database open: its file is about to be replaced."""
        with (self._folder / GATE).open("rb") as gate:
            await asyncio.to_thread(fcntl.flock, gate, fcntl.LOCK_EX)
            desks = self._hub.desks()
            answers = await asyncio.gather(*(desk.ask("aside") for desk in desks))
            for desk, answer in zip(desks, answers, strict=True):
                if answer is None:
                    self._logger.error("a worker does not let go of the database", worker=desk.number)
                    desk.channel.abort("it does not let go of the database")
            yield


async def _spawned(theirs: socket.socket) -> Process:
    """The process of a worker, with its end of the channel and the sockets that the service manager passed."""
    root = str(Path(__file__).resolve().parent.parent.parent)
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "nodes.workers", str(theirs.fileno()), str(os.getpid())),
        stdin=asyncio.subprocess.DEVNULL,
        pass_fds=(theirs.fileno(), *passed_sockets().values()),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH")) if p)},
    )


async def _ended(process: Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _address(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def forget_caches(folder: Path, workers: int) -> None:
    """Removes what workers that there are no more kept beside the database: text may be in it that was erased since."""
    for one in folder.iterdir() if folder.exists() else ():
        if one.name.isdecimal() and int(one.name) > workers:
            shutil.rmtree(one, ignore_errors=True)
