"""pause: a node stops in its tracks for longer than an election takes, the leader every other time, and wakes up."""

from chaos.faults.processes import pause
from chaos.harness import Scenario
from chaos.site import Site


async def schedule(site: Site) -> None:
    async for number in site.rounds():
        leader = await site.leader()
        (follower,) = site.pick(site.others(leader))
        await site.endure(pause(site, leader if number % 2 else follower), 3.0)


SCENARIO = Scenario("pause", "SIGSTOP of leader and follower by turns, past an election", schedule, ("pause",))
