"""soak: half an hour of mail under one drawn fault after another; then what was lost is asked, and whether memory grew.

Nodes are killed in the first quarter only, so that their processes then live long enough to show a leak.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from chaos.faults.disks import slow_disk
from chaos.faults.links import bandwidth, connection_reset, latency, partition, partition_one_way
from chaos.faults.processes import kill, pause
from chaos.harness import Scenario
from chaos.site import Site

KILLS_UNTIL = 0.25  # of the duration


LASTING: dict[str, Callable[[Site, str], AbstractAsyncContextManager[None]]] = {
    "partition": partition,
    "partition-one-way": partition_one_way,
    "pause": pause,
    "latency": lambda site, node: latency(site, node, delay_s=0.05, jitter_s=0.05),
    "bandwidth": lambda site, node: bandwidth(site, node, bytes_per_s=256 * 1024),
    "connection-reset": connection_reset,
    "slow-disk": lambda site, node: slow_disk(site, node, 0.05),
}


async def schedule(site: Site) -> None:
    kills_until_s = site.history.now_s() + KILLS_UNTIL * site.settings.duration_s
    async for number in site.rounds():
        node = await site.leader() if number % 2 else site.pick(site.names)[0]
        if site.history.now_s() < kills_until_s and site.rng.random() < 0.5:
            await site.endure(kill(site, node))
        else:
            await site.endure(site.rng.choice(list(LASTING.values()))(site, node), 4.0)


SCENARIO = Scenario(
    "soak",
    "half an hour of every kind of fault by turns; memory must stay flat",
    schedule,
    ("kill", *LASTING),
    duration_s=1800.0,
    networked=True,
    in_all=False,
)
