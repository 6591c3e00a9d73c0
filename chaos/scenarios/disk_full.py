"""disk-full: the leader's disk is full, then a follower's, then all of them; mail is put off, and taken again."""

from chaos.faults.disks import disk_full
from chaos.harness import Scenario
from chaos.site import Site


async def schedule(site: Site) -> None:
    async for number in site.rounds():
        leader = await site.leader()
        match number % 3:
            case 1:
                await site.endure(disk_full(site, leader), 5.0)
            case 2:
                await site.endure(disk_full(site, *site.pick(site.others(leader))), 5.0)
            case _:
                await site.endure(disk_full(site, *site.names), 4.0)


SCENARIO = Scenario("disk-full", "no room on the leader, on a follower, on all nodes", schedule, ("disk-full",), 40.0)
