"""rolling-restart: one node after the other is stopped in order and started again, as for an upgrade."""

from chaos.faults.processes import restart
from chaos.harness import Scenario
from chaos.site import Site


async def schedule(site: Site) -> None:
    async for _ in site.rounds():
        for node in site.names:
            await site.endure(restart(site, node), 0.5)
            await site.whole()


SCENARIO = Scenario("rolling-restart", "each node in turn stopped in order and started", schedule, ("restart",))
