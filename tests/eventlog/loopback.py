"""Cells of event logs over mutual TLS on loopback, all in one process: started, stopped and cut off at will."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from chaos.cluster import free_base_port
from eventlog import levels
from eventlog.log import EventLog, LogConfig
from nodes.config.node import NodeConfig
from nodes.tls.contexts import Authority, create_authority, issue_node, peer_node_name, raft_contexts
from tests.eventlog import ledger

CLUSTER = "cell-of-tests"
NAMES = ("n1", "n2", "n3")
WAIT_S = 20.0


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on, and that nobody else is given."""
    first = free_base_port(1)
    return list(range(first, first + count))


async def until(true: Callable[[], Any], what: str = "what was waited for") -> None:
    """Waits until something holds."""
    deadline = asyncio.get_running_loop().time() + WAIT_S
    while not true():
        assert asyncio.get_running_loop().time() < deadline, f"{what} did not come"
        await asyncio.sleep(0.01)


class Loopback:
    """The nodes of a cell by name. Certificates stand in folder/NAME; data in folder/NAME/data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = self.new_authority("ca")
        self.addresses = dict(zip(NAMES, (f"127.0.0.1:{port}" for port in free_ports(len(NAMES))), strict=True))
        self.peers = self.addresses  # as configured
        self.knows: dict[str, int] = {}  # a node's feature level, where it is that of an older program
        self.logs: dict[str, EventLog] = {}
        for name in NAMES:
            self.certify(name)

    def new_authority(self, name: str) -> Authority:
        (self.folder / name).mkdir()
        return create_authority(self.folder / name, CLUSTER)

    def certify(self, name: str, *, subject: str | None = None, authority: Authority | None = None) -> None:
        """Gives a node its certificate; with another subject or authority, the wrong one."""
        (self.folder / name).mkdir(exist_ok=True)
        issue_node(authority or self.authority, self.folder / name, CLUSTER, subject or name, ["127.0.0.1"])

    def contexts(self, name: str, *, trust: str = "ca") -> tuple[ssl.SSLContext, ssl.SSLContext]:
        own = self.folder / name
        tls = SimpleNamespace(ca=self.folder / trust / "ca.pem", certificate=own / "node.pem", key=own / "node.key")
        return raft_contexts(cast(NodeConfig, SimpleNamespace(tls=tls)))

    async def start(self, *names: str) -> None:
        for name in names or NAMES:
            server, client = self.contexts(name)
            config = LogConfig(
                name,
                self.folder / name / "data",
                self.peers,
                self.addresses[name],
                election_timeout_s=(0.25, 0.5),
                heartbeat_s=0.05,
                map_size_bytes=256 << 20,
                reserve_bytes=1 << 20,
            )
            log = EventLog.open(
                config,
                evolve=ledger.evolve,
                server_ssl=server,
                client_ssl=client,
                peer_name=lambda tls: peer_node_name(tls, CLUSTER),
            )
            log._writer._raft.level = self.knows.get(name, levels.NEWEST)
            self.logs[name] = log
            await log.start()

    async def stop(self, *names: str) -> None:
        """Leaves cleanly: a leader hands over first."""
        for name in names or tuple(self.logs):
            await self.logs.pop(name).stop()

    async def die(self, name: str) -> None:
        """Goes without a word, as a process that is killed."""
        log = self.logs.pop(name)

        async def nothing() -> None:
            pass

        log._hand_over = nothing  # type: ignore[method-assign]
        await log.stop()

    async def leader(self, among: Iterable[str] = ()) -> str:
        """The name of the leader that these nodes (or all) agree on and that can serve."""
        names = tuple(among) or tuple(self.logs)

        def agreed() -> bool:
            leaders = {self.logs[name].status().leader for name in names}
            return len(leaders) == 1 and None not in leaders and leaders <= set(self.logs)

        await until(agreed, "a leader")
        name = self.logs[names[0]].status().leader
        assert name is not None
        return name

    async def followers(self) -> list[str]:
        leader = await self.leader()
        return [name for name in self.logs if name != leader]

    async def level(self) -> None:
        """Waits until all nodes have folded the same, and checks that it is the same."""

        def same() -> bool:
            states = [log.status() for log in self.logs.values()]
            return len({(s.applied, s.commit, s.last_index) for s in states}) == 1

        await until(same, "a level log")
        assert len({log.status().chain for log in self.logs.values()}) == 1


@asynccontextmanager
async def loopback(
    folder: Path, *, start: tuple[str, ...] = NAMES, knows: Mapping[str, int] | None = None
) -> AsyncIterator[Loopback]:
    """A cell of three, of which `start` are running; `knows`: feature levels of programs that are older."""
    cell = Loopback(folder)
    cell.knows.update(knows or {})
    try:
        await cell.start(*start)
        yield cell
    finally:
        await cell.stop()
