"""Faults of the network between nodes, on the relays of chaos/network.py: cut, half cut, slow, narrow, reset."""

import asyncio
from collections.abc import AsyncIterator, Iterable

from chaos.faults.kinds import Done, fault
from chaos.network import CUT, between, links_across
from chaos.proxy import Condition
from chaos.site import Site


async def _set(site: Site, links: Iterable[str], condition: Condition) -> None:
    await asyncio.to_thread(site.links().set, list(links), condition)


@fault("partition", "these nodes and the others hear nothing of each other; connections stay open and silent")
async def partition(site: Site, *nodes: str) -> AsyncIterator[Done]:
    links = list(links_across(nodes, site.others(*nodes)))
    await _set(site, links, CUT)
    try:
        yield Done(nodes, "from all others")
    finally:
        await asyncio.to_thread(site.links().heal, links)


@fault("partition-one-way", "what these nodes say is lost, while they still hear the others")
async def partition_one_way(site: Site, *nodes: str) -> AsyncIterator[Done]:
    links = [between(node, other) for node in nodes for other in site.others(*nodes)]
    await _set(site, links, CUT)
    try:
        yield Done(nodes, "heard by nobody")
    finally:
        await asyncio.to_thread(site.links().heal, links)


@fault("deafness", "these nodes hear nothing, while the others still hear them")
async def deafness(site: Site, *nodes: str) -> AsyncIterator[Done]:
    links = [between(other, node) for node in nodes for other in site.others(*nodes)]
    await _set(site, links, CUT)
    try:
        yield Done(nodes, "hear nobody")
    finally:
        await asyncio.to_thread(site.links().heal, links)


@fault("latency", "every byte to and from these nodes comes late, by a delay that varies")
async def latency(site: Site, *nodes: str, delay_s: float, jitter_s: float = 0.0) -> AsyncIterator[Done]:
    links = list(links_across(nodes, site.others(*nodes)))
    await _set(site, links, Condition(delay_s=delay_s, jitter_s=jitter_s))
    try:
        yield Done(nodes, f"{delay_s * 1000:.0f} to {(delay_s + jitter_s) * 1000:.0f} ms each way")
    finally:
        await asyncio.to_thread(site.links().heal, links)


@fault("bandwidth", "no more than so many bytes a second go to and from these nodes")
async def bandwidth(site: Site, *nodes: str, bytes_per_s: float) -> AsyncIterator[Done]:
    links = list(links_across(nodes, site.others(*nodes)))
    await _set(site, links, Condition(bytes_per_s=bytes_per_s))
    try:
        yield Done(nodes, f"{bytes_per_s / 1024:.0f} KiB/s a link")
    finally:
        await asyncio.to_thread(site.links().heal, links)


@fault("connection-reset", "every connection between these nodes and the others ends by RST")
async def connection_reset(site: Site, *nodes: str) -> AsyncIterator[Done]:
    """They may connect again at once."""
    await asyncio.to_thread(site.links().reset, list(links_across(nodes, site.others(*nodes))))
    yield Done(nodes)
