"""one-way-partition: by turns, a leader that nobody hears, a leader that hears nobody, and followers of both kinds."""

from chaos.faults.links import deafness, partition_one_way
from chaos.harness import Scenario
from chaos.site import Site


async def schedule(site: Site) -> None:
    async for number in site.rounds():
        cut = partition_one_way if number % 2 else deafness
        leader = await site.leader()
        (follower,) = site.pick(site.others(leader))
        await site.endure(cut(site, leader if number % 4 in (1, 2) else follower), 4.0)


SCENARIO = Scenario(
    "one-way-partition",
    "a node that is not heard, or does not hear, by turns",
    schedule,
    ("partition-one-way", "deafness"),
    duration_s=40.0,
    networked=True,
)
