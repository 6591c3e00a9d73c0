"""`mailraft bench catch-up`: a node that is added while mail comes in at a steady rate, and how long until it votes.

The load keeps its pace whatever the cluster does (an open loop): what a slow moment delays is sent late, not left out,
so the share of the wanted rate that was taken says whether the cell kept up while it fed the new node.
"""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from chaos.cluster import Cluster
from chaos.history import Outcome
from chaos.messages import Message, make_message
from chaos.smtp_client import SmtpConnection, SmtpRefused
from cli.bench.results import Row
from cli.bench.smtp_rates import ACCOUNT, BenchError, Load, rate

MESSAGE_BYTES = 4096
CONNECTIONS = 48
CALM_S = 3.0  # of load before the node is added
STEP_S = 0.02


class Stream:
    """So many messages a second into all nodes by turns, from `begin` to `end`."""

    def __init__(self, endpoints: list[str], rate_per_s: float) -> None:
        self._endpoints = endpoints
        self._rate_per_s = rate_per_s
        self._due: asyncio.Queue[Message] = asyncio.Queue()
        self.asked = self.taken = 0
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._deliver(self._endpoints[number % len(self._endpoints)]))
            for number in range(CONNECTIONS)
        ]
        self._tasks.append(loop.create_task(self._keep_pace()))

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise BenchError(f"the load broke off: {error!r}")

    async def _keep_pace(self) -> None:
        began_s = time.monotonic()
        while True:
            while self.asked < (time.monotonic() - began_s) * self._rate_per_s:
                self._due.put_nowait(make_message(0, self.asked, (ACCOUNT,), MESSAGE_BYTES))
                self.asked += 1
            await asyncio.sleep(STEP_S)

    async def _deliver(self, endpoint: str) -> None:
        connection = await SmtpConnection.open(endpoint)
        try:
            while True:
                outcome, reply = await connection.deliver(await self._due.get())
                if outcome is not Outcome.ACKNOWLEDGED:
                    raise SmtpRefused(reply)
                self.taken += 1
        finally:
            connection.close()


def bench_catch_up(history: int, rate_per_s: float, say: Callable[[str], None]) -> list[Row]:
    """Rows of one run: `history` messages are in the log before. Raises BenchError, ClusterError or OSError."""
    folder = Path(tempfile.mkdtemp(prefix="mailraft-bench.")).resolve()
    try:
        with Cluster(folder / "cell", 3) as cluster:
            cluster.add_accounts("bench", (ACCOUNT,))
            endpoints = [node.endpoints["smtp"] for node in cluster.status().nodes]
            say(f"{history} messages before the node comes")
            rate(endpoints, Load(history, size_bytes=MESSAGE_BYTES))
            return asyncio.run(_measure(cluster, endpoints, rate_per_s, say))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _measure(cluster: Cluster, endpoints: list[str], rate_per_s: float, say: Callable[[str], None]) -> list[Row]:
    stream = Stream(endpoints, rate_per_s)
    stream.begin()
    try:
        await asyncio.sleep(CALM_S)
        say(f"a fourth node, under {rate_per_s:g} messages a second")
        position = cluster.status().nodes[0].applied
        began_s, asked, taken = time.monotonic(), stream.asked, stream.taken
        await asyncio.to_thread(cluster.command, "cluster", "add-node", str(cluster.folder))
        seconds = time.monotonic() - began_s
        asked, taken = stream.asked - asked, stream.taken - taken
    finally:
        await stream.end()
    note = f"{position} positions in the log before, {rate_per_s:g} messages of {MESSAGE_BYTES} bytes a second wanted"
    return [
        Row("a new node votes", seconds, "s", False, note),
        Row("mail taken meanwhile", taken / seconds, "msg/s", True, note),
        Row("share of the wanted rate", taken / max(1, asked), "ratio", True, note),
    ]
