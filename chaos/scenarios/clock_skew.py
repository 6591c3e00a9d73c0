"""clock-skew: wall clocks jump, by little and by much, forth and back, on the leader and on followers."""

from chaos.faults import clocks
from chaos.faults.clocks import clock_skew
from chaos.harness import Scenario
from chaos.site import Site

SHIFTS_S = (2.0, -2.0, 30.0, -30.0, 86_400.0, -60.0)


async def schedule(site: Site) -> None:
    async for number in site.rounds():
        leader = await site.leader()
        victim = leader if number % 2 else site.pick(site.others(leader))[0]
        await site.endure(clock_skew(site, victim, site.rng.choice(SHIFTS_S)), 5.0)


SCENARIO = Scenario(
    "clock-skew",
    "wall clocks that jump forth and back, the leader's every other time",
    schedule,
    ("clock-skew",),
    50.0,
    prepare=clocks.prepare,
)
