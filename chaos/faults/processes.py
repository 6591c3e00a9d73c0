"""Faults of processes: killed, all killed at once, stopped for a while, restarted in order."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace

from chaos.cluster import ClusterError
from chaos.faults.kinds import Done, fault
from chaos.history import Kill
from chaos.site import Site


def _kill(site: Site, nodes: tuple[str, ...]) -> dict[str, int]:
    pids = {node: site.signal(node, signal.SIGKILL) for node in nodes}
    site.history.kills += [Kill(site.history.now_s(), node, pid) for node, pid in pids.items()]
    return pids


def kill_for_good(site: Site, node: str) -> None:
    """SIGKILL of a node that nobody waits for: it is not expected to serve again."""
    site.lost.add(node)
    _kill(site, (node,))


async def _come_back(site: Site, pids: dict[str, int]) -> None:
    await site.answers_anew(pids)
    for number, kill in enumerate(site.history.kills):
        if kill.alive_again_s is None and pids.get(kill.node) == kill.pid:
            site.history.kills[number] = replace(kill, alive_again_s=site.history.now_s())


@fault("kill", "SIGKILL of one node: no handler runs, no buffer is flushed; its supervisor starts it again")
async def kill(site: Site, node: str) -> AsyncIterator[Done]:
    """Ends when the node answers again."""
    pids = _kill(site, (node,))
    yield Done((node,), f"pid {pids[node]}")
    await _come_back(site, pids)


@fault("kill-all", "SIGKILL of every node in one moment")
async def kill_all(site: Site) -> AsyncIterator[Done]:
    """Ends when all nodes answer again."""
    pids = _kill(site, tuple(site.names))
    yield Done(tuple(pids))
    await _come_back(site, pids)


@fault("pause", "SIGSTOP, for longer than an election takes; the node wakes up believing what it believed before")
async def pause(site: Site, node: str) -> AsyncIterator[Done]:
    pid = site.signal(node, signal.SIGSTOP)
    try:
        yield Done((node,), f"pid {pid}")
    finally:
        with suppress(ClusterError):  # it was killed meanwhile
            site.signal(node, signal.SIGCONT)


@fault("restart", "a node is stopped in order, as for an upgrade, and started again")
async def restart(site: Site, node: str) -> AsyncIterator[Done]:
    """Down while the block lasts; ends when the node answers again."""
    pid = site.pid(node)
    stopping = asyncio.create_task(asyncio.to_thread(site.cluster.stop_node, node))
    try:
        await stopping
        yield Done((node,), f"pid {pid}")
    finally:
        await asyncio.gather(stopping, return_exceptions=True)
        with suppress(ClusterError):  # the whole cluster is being stopped
            await asyncio.to_thread(site.cluster.start_node, node)
    await site.answers_anew({node: pid or 0})
