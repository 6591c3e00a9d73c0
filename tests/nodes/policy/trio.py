"""Three whole nodes in this process, one tenant, one account."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeVar

from actors.runtime import Context
from chaos.cluster import free_base_port
from cli import layout
from eventlog.record import By
from nodes.config import sources as config_sources
from nodes.config.node import ListenerKind
from nodes.server import Node
from nodes.services import Services
from nodes.smtp.checks import Check
from nodes.state import NodeState
from tests.nodes.policy.elsewhere import answer_to

ADMIN = Context(By("admin", b"", "test"), "test")
ALICE, PASSWORD = "alice@example.test", "secret of alice"

C = TypeVar("C", bound=Check)


async def until(holds: Callable[[], bool]) -> None:
    """Waits until something holds."""
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.05)


class Trio:
    """`states` by number from 0; a node that was lost keeps its old state until it is back."""

    def __init__(self, folder: Path, overrides: tuple[str, ...]) -> None:
        cluster = layout.create(folder, 3, free_base_port(3))
        settings = (*overrides, "smtp.xclient_from=127.0.0.1")
        self._configs = [config_sources.load(node.config, {}, settings) for node in cluster.nodes]
        self._nodes = cluster.nodes
        self.ca = self._configs[0].tls.ca
        self._running = [AsyncExitStack() for _ in self._configs]
        self.states: list[NodeState] = []

    def port(self, number: int, kind: ListenerKind) -> int:
        return int(self._nodes[number].addresses[kind].rpartition(":")[2])

    def services(self, number: int) -> Services:
        services = self.states[number].services
        assert services is not None
        return services

    async def start(self, number: int) -> NodeState:
        """Starts a node, without waiting until it is ready."""
        return await self._running[number].enter_async_context(Node(self._configs[number]).running())

    async def lose(self, number: int) -> None:
        """Ends a node, and waits until another serves."""
        await self._running[number].aclose()
        await until(lambda: not self.states[number - 1].unready())

    async def come_back(self, number: int) -> None:
        self.states[number] = await self.start(number)
        await until(lambda: not self.states[number].unready())

    async def answer(self, number: int, client: str, recipient: str = ALICE) -> str:
        """What a client from elsewhere is told by a node when it names a recipient."""
        return await asyncio.to_thread(answer_to, self.port(number, "smtp"), client, recipient)

    def check(self, number: int, kind: type[C]) -> C:
        """A node's check of this kind."""
        (found,) = (one for one in self.services(number).checks if isinstance(one, kind))
        return found

    async def populate(self) -> None:
        directory = self.services(0).directory
        await directory.add_tenant("example", ["example.test"], ADMIN)
        await directory.add_account(ALICE, PASSWORD, None, ADMIN)
        await self.agree()

    async def agree(self) -> None:
        """Each has folded what the first has."""
        position = await self.services(0).log.barrier(10)
        for number in range(len(self.states)):
            await self.services(number).log.applied(position)

    async def stop(self) -> None:
        for running in self._running:
            await running.aclose()


@asynccontextmanager
async def trio(folder: Path, *overrides: str) -> AsyncIterator[Trio]:
    """Three nodes that serve, with these settings."""
    nodes = Trio(folder, overrides)
    try:
        nodes.states = [await nodes.start(number) for number in range(3)]
        await until(lambda: not any(state.unready() for state in nodes.states))
        await nodes.populate()
        yield nodes
    finally:
        await nodes.stop()
