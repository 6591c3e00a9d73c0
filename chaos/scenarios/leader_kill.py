"""leader-kill: the leader is killed every few seconds; every outage is an election."""

from chaos.faults.processes import kill
from chaos.harness import Scenario
from chaos.site import Site


async def schedule(site: Site) -> None:
    async for _ in site.rounds():
        await site.endure(kill(site, await site.leader()))


SCENARIO = Scenario("leader-kill", "SIGKILL of the leader every few seconds", schedule, ("kill",))
