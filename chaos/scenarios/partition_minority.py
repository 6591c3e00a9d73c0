"""partition-minority: as many followers as the cell can miss are cut off together; they must not disturb it after."""

from chaos.faults.links import partition
from chaos.harness import Scenario
from chaos.site import Site


async def schedule(site: Site) -> None:
    async for _ in site.rounds():
        await site.endure(partition(site, *site.pick(await site.followers(), site.minority)), 4.0)


SCENARIO = Scenario(
    "partition-minority",
    "a minority of followers cut off for seconds",
    schedule,
    ("partition",),
    networked=True,
    silence_s=5.0,
)
