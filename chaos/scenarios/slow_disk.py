"""slow-disk: each fsync takes far longer, on a follower and on the leader by turns."""

from chaos.faults.disks import slow_disk
from chaos.harness import Scenario
from chaos.site import Site


async def schedule(site: Site) -> None:
    async for number in site.rounds():
        leader = await site.leader()
        (follower,) = site.pick(site.others(leader))
        delay_s = site.rng.choice((0.02, 0.1, 0.3))
        await site.endure(slow_disk(site, follower if number % 2 else leader, delay_s), 5.0)


SCENARIO = Scenario("slow-disk", "slow fsyncs on a follower and the leader by turns", schedule, ("slow-disk",), 40.0)
