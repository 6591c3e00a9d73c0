"""partition-leader: the leader loses all others; it must not answer for what it can no longer promise."""

from chaos.faults.links import partition
from chaos.harness import Scenario
from chaos.site import Site


async def schedule(site: Site) -> None:
    async for number in site.rounds():
        # every other time for longer than a write waits for its majority: its client is told that nobody knows
        await site.endure(partition(site, await site.leader()), 4.0 if number % 2 else 12.0)


SCENARIO = Scenario(
    "partition-leader", "the leader cut off from all others for seconds", schedule, ("partition",), 40.0, networked=True
)
