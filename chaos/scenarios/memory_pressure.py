"""memory-pressure: a node gets no more memory for a while, the leader every other time; it may die of it, not err."""

from chaos.faults.memory import memory_pressure
from chaos.harness import Scenario
from chaos.site import Site

MIB = 1024 * 1024


async def schedule(site: Site) -> None:
    async for number in site.rounds():
        leader = await site.leader()
        victim = leader if number % 2 else site.pick(site.others(leader))[0]
        await site.endure(memory_pressure(site, victim, site.rng.choice((0, 2, 8)) * MIB), 5.0)


SCENARIO = Scenario(
    "memory-pressure", "no more memory for the leader and followers by turns", schedule, ("memory-pressure",), 40.0
)
