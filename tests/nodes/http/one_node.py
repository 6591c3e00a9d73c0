"""A cell of one node, which runs while something is asked of it over the admin API."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from chaos.cluster import free_base_port
from cli import layout
from cli.client import AdminClient
from cli.output import CommandError
from nodes.config import sources as config_sources
from nodes.server import Node

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture
def cell(tmp_path: Path) -> layout.Cluster:
    return layout.create(tmp_path / "cell", 1, free_base_port(1))


def serving(run: Run, cell: layout.Cluster, ask: Callable[[AdminClient], Any]) -> Any:
    """What `ask` gives, called in a thread while the cell's node runs on this thread's loop."""

    async def session() -> Any:
        async with Node(config_sources.load(cell.nodes[0].config, {})).running() as state:
            async with asyncio.timeout(15):
                while state.unready():
                    await asyncio.sleep(0.05)
            return await asyncio.to_thread(ask, AdminClient(cell))

    return run(session())


def refused(call: Callable[[], Any]) -> CommandError:
    with pytest.raises(CommandError) as caught:
        call()
    return caught.value
