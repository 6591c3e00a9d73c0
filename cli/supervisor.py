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
from cli.layout import Cluster, Node

BACK_OFF_FIRST_S = 0.25
BACK_OFF_MOST_S = 10.0
STEADY_AFTER_S = 3.0  # a node that lived this long did not fail to start: it is started again at once
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
    """Runs until it is told to stop (SIGINT, SIGTERM), then stops every node. SIGHUP goes on to the nodes."""

    def __init__(self, cluster: Cluster, say: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._say = say
        self._stopping = asyncio.Event()
        self._running: dict[str, asyncio.subprocess.Process] = {}

    async def run(self) -> None:
        """Returns when every node has ended."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stopping.set)
        # on a terminal a hang-up is the end of that terminal, elsewhere it asks for certificates to be read again
        loop.add_signal_handler(signal.SIGHUP, self._stopping.set if os.isatty(0) else self._hang_up)
        async with asyncio.TaskGroup() as tasks:
            for node in self._cluster.nodes:
                tasks.create_task(self._keep(node))

    def _hang_up(self) -> None:
        for process in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGHUP)

    async def _keep(self, node: Node) -> None:
        back_off_s = BACK_OFF_FIRST_S
        while not self._stopping.is_set():
            started = time.monotonic()
            status = await self._run_once(node)
            if self._stopping.is_set():
                return
            lived_s = time.monotonic() - started
            back_off_s = BACK_OFF_FIRST_S if lived_s >= STEADY_AFTER_S else min(back_off_s * 2, BACK_OFF_MOST_S)
            self._say(f"{node.name} {_ending(status)} after {lived_s:.1f} s; it starts again in {back_off_s:g} s")
            if status > 0 and (words := last_words(node.log_file)):
                self._say(f"  {words}")
            await self._wait(back_off_s)

    async def _run_once(self, node: Node) -> int:
        command = program("node", "run", "--config", str(node.config), "--parent-pid", str(os.getpid()))
        with node.log_file.open("ab") as log:
            # a session of its own: Ctrl-C on the terminal reaches the supervisor only, which stops nodes in order
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(),
                start_new_session=True,
            )
        ended = asyncio.ensure_future(process.wait())
        stopping = asyncio.ensure_future(self._stopping.wait())
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

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass


def _ending(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    return f"was ended by {signal.Signals(-status).name}"
