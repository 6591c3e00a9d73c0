"""What a scenario and its faults work on: a running cluster, its network, the run's history, and one seeded order.

Only what an operator or the kernel could do is offered here; nothing looks inside a node.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from chaos.checkers import Violation
from chaos.cluster import Cluster, ClusterError, ClusterStatus
from chaos.history import History
from chaos.network import Network
from cli import layout
from cli.watch import running_pid

RETURN_TIMEOUT_S = 60.0  # a healed cluster is whole again by then, or the run fails
CALM_S = 2.0


@dataclass(frozen=True)
class Settings:
    """What a run is told from outside. `folder` must be absolute and its own; `rate` is operations a second."""

    seed: int
    duration_s: float
    folder: Path
    nodes: int = 3
    rate: float = 60.0
    interval_s: float = 4.0  # between faults, on average
    namespaces: bool = False  # each node in a network namespace of its own


@dataclass
class Site:
    """Asked by the schedule of a scenario; waiting is bounded everywhere and ends in ClusterError."""

    settings: Settings
    cluster: Cluster
    history: History
    network: Network | None = None
    lost: set[str] = field(default_factory=set)  # nodes that need not come back
    broken: list[Violation] = field(default_factory=list)  # what the scenario itself expected in vain
    rng: Random = field(init=False)

    def __post_init__(self) -> None:
        self.rng = Random(f"{self.settings.seed}:faults")

    @property
    def names(self) -> list[str]:
        return self.cluster.names()

    @property
    def minority(self) -> int:
        """How many nodes can fail while the others go on."""
        return (len(self.names) - 1) // 2

    def others(self, *names: str) -> list[str]:
        return [name for name in self.names if name not in names]

    def pid(self, name: str) -> int | None:
        """The process of a node, None while it has none."""
        return running_pid(layout.load(self.cluster.folder).node(name))

    def signal(self, name: str, number: int) -> int:
        """Sends a signal to a node's process; its pid. Raises ClusterError if it has none."""
        pid = self.pid(name)
        if pid is None:
            raise ClusterError(f"{name} does not run")
        with suppress(ProcessLookupError):  # it ended this very moment
            os.kill(pid, number)
        return pid

    async def status(self) -> ClusterStatus:
        return await asyncio.to_thread(self.cluster.status)

    async def leader(self) -> str:
        """The leader's name, waiting for one."""
        status = await self.wait(lambda status: status.leader is not None, "a leader")
        assert status.leader is not None
        return status.leader

    async def followers(self) -> list[str]:
        return self.others(await self.leader())

    def pick(self, names: Sequence[str], count: int = 1) -> list[str]:
        """Some of these nodes, as the seed says."""
        return sorted(self.rng.sample(sorted(names), count))

    async def wait(
        self, reached: Callable[[ClusterStatus], bool], what: str, timeout_s: float = RETURN_TIMEOUT_S
    ) -> ClusterStatus:
        return await asyncio.to_thread(self.cluster.wait_for, reached, timeout_s, what)

    async def endure(self, fault: AbstractAsyncContextManager[None], seconds: float = 0.0) -> None:
        """Lets a fault last so long, a little more or less as the seed says, and then be undone."""
        async with fault:
            await asyncio.sleep(seconds * self.rng.uniform(0.75, 1.25))

    async def expect(self, reached: Callable[[ClusterStatus], bool], what: str, node: str, timeout_s: float) -> None:
        """The same, of what the cluster owes: a violation, not an error, if it does not come."""
        try:
            await self.wait(reached, what, timeout_s)
        except ClusterError as error:
            self.broken.append(Violation("scenario", node, str(error)))

    async def answers_anew(self, pids: dict[str, int]) -> None:
        """Waits until each of these nodes is ready, in another process than that one."""

        def anew(status: ClusterStatus) -> bool:
            return all(status.node(name).ready and status.node(name).pid != pid for name, pid in pids.items())

        await self.wait(anew, f"{', '.join(pids)} to come back")

    async def whole(self) -> None:
        """Waits until every node that is not lost is ready under one leader."""

        def reached(status: ClusterStatus) -> bool:
            left = status.without(self.lost)
            return left.all_ready and left.leader is not None

        await self.wait(reached, "every node to be ready")

    async def rounds(self) -> AsyncIterator[int]:
        """Counts rounds of faults from 1: after each a pause, until the scenario's time is over. There is always one.

        The next round begins with a whole cluster, so each fault is met alone unless a scenario combines them.
        """
        ends_s = self.history.now_s() + self.settings.duration_s
        number = 1
        while number == 1 or self.history.now_s() < ends_s:
            yield number
            await self.whole()
            pause_s = self.settings.interval_s * self.rng.uniform(0.5, 1.5)
            await asyncio.sleep(min(pause_s, max(0.0, ends_s - self.history.now_s())))
            number += 1

    def links(self) -> Network:
        """The network between the nodes. Raises ClusterError if this scenario did not ask for one."""
        if self.network is None:
            raise ClusterError("this scenario has no network of its own")
        return self.network


def joined(names: Iterable[str]) -> str:
    """Several nodes as the history names them."""
    return " ".join(names)
