"""Keeps the nodes of one cluster running: each a process of its own, started again after a crash.

Whatever ends the supervisor ends its nodes: it stops them itself, and if it is killed the kernel tells
them (nodes/process.py). It talks to nodes only by signals; how they are is asked over the admin API.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cli
from cli import layout
from cli.layout import Cluster, Node
from cli.output import CommandError

BACK_OFF_FIRST_S = 0.25
BACK_OFF_MOST_S = 10.0
STEADY_AFTER_S = 3.0  # a node that lived this long did not fail to start: it is started again at once
WATCH_S = 0.5  # how often it looks whether cluster.toml has changed
STOP_TIMEOUT_S = 25.0  # above node.stop_grace_s and what the log needs to close


def program(*arguments: str) -> list[str]:
    """The command line that runs `mailraft ARGUMENTS` with this very installation."""
    return [sys.executable, "-P", "-m", "cli.main", *arguments]


def environment() -> dict[str, str]:
    """This process's environment, in which program() finds the code that is running now."""
    paths = [str(Path(cli.__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def last_words(path: Path) -> str:
    """The last line of a node's log that is not empty, nor the advice after an error; "" if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    said = [line for line in lines if line.strip() and not line.startswith("  try: ")]
    return said[-1].strip() if said else ""


class Supervisor:
    """Runs until it is told to stop (SIGINT, SIGTERM), then stops every node. SIGHUP goes on to the nodes.

    It follows cluster.toml: a node that comes into it is started, one that is taken out is stopped.
    """

    def __init__(self, cluster: Cluster, say: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._say = say
        self._stopping = asyncio.Event()
        self._kept: dict[str, asyncio.Event] = {}  # set: this node is to stop
        self._running: dict[str, asyncio.subprocess.Process] = {}

    async def run(self) -> None:
        """Returns when every node has ended."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stopping.set)
        # on a terminal a hang-up is the end of that terminal, elsewhere it asks for certificates to be read again
        loop.add_signal_handler(signal.SIGHUP, self._stopping.set if os.isatty(0) else self._hang_up)
        async with asyncio.TaskGroup() as tasks:
            self._keep_nodes_of(self._cluster, tasks)
            seen = None  # it may have changed since it was read
            while not await _is_set(self._stopping, WATCH_S):
                if (now := _version(self._cluster.file)) != seen:
                    seen = now
                    self._reload(tasks)
            for stop in self._kept.values():
                stop.set()

    def _reload(self, tasks: asyncio.TaskGroup) -> None:
        try:
            self._keep_nodes_of(layout.load(self._cluster.folder), tasks)
        except CommandError as error:
            self._say(f"{error}; the nodes go on as they are")

    def _keep_nodes_of(self, cluster: Cluster, tasks: asyncio.TaskGroup) -> None:
        names = {node.name for node in cluster.nodes}
        for name in self._kept.keys() - names:
            self._say(f"{name} was taken out of the cluster; it stops")
            self._kept.pop(name).set()
        for node in cluster.nodes:
            if node.name not in self._kept:
                stop = self._kept[node.name] = asyncio.Event()
                tasks.create_task(self._keep(node, stop))

    def _hang_up(self) -> None:
        for process in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGHUP)

    async def _keep(self, node: Node, stop: asyncio.Event) -> None:
        back_off_s = BACK_OFF_FIRST_S
        while not stop.is_set():
            started = time.monotonic()
            status = await self._run_once(node, stop)
            if stop.is_set():
                return
            lived_s = time.monotonic() - started
            back_off_s = BACK_OFF_FIRST_S if lived_s >= STEADY_AFTER_S else min(back_off_s * 2, BACK_OFF_MOST_S)
            self._say(f"{node.name} {_ending(status)} after {lived_s:.1f} s; it starts again in {back_off_s:g} s")
            if status > 0 and (words := last_words(node.log_file)):
                self._say(f"  {words}")
            await _is_set(stop, back_off_s)

    async def _run_once(self, node: Node, stop: asyncio.Event) -> int:
        try:
            process = await _start(node)
        except OSError as error:  # of this node alone: the others go on
            self._say(f"{node.name} can not be started: {error}")
            return 1
        ended = asyncio.ensure_future(process.wait())
        stopping = asyncio.ensure_future(stop.wait())
        self._running[node.name] = process
        try:
            await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            del self._running[node.name]
            stopping.cancel()
            if not ended.done():
                await self._stop(process, ended)
        return ended.result()

    async def _stop(self, process: asyncio.subprocess.Process, ended: asyncio.Future[int]) -> None:
        process.terminate()
        process.send_signal(signal.SIGCONT)  # one that was paused must wake up to stop
        await asyncio.wait({ended}, timeout=STOP_TIMEOUT_S)
        if not ended.done():
            process.kill()
            await ended


async def _start(node: Node) -> asyncio.subprocess.Process:
    command = program("node", "run", "--config", str(node.config), "--parent-pid", str(os.getpid()))
    with node.log_file.open("ab") as log:
        # a session of its own: Ctrl-C on the terminal reaches the supervisor only, which stops nodes in order
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment(),
            start_new_session=True,
        )


async def _is_set(event: asyncio.Event, patience_s: float) -> bool:
    """Waits for it; whether it is set by then."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience_s):
            await event.wait()
    return event.is_set()


def _version(file: Path) -> tuple[int, int] | None:
    """What changes when the file is replaced; None while there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _ending(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    return f"was ended by {signal.Signals(-status).name}"
