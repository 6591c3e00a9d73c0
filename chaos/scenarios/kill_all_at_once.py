"""kill-all-at-once: every node is killed in one moment, as when the power fails; what was on disk must be enough."""

from chaos.faults.processes import kill_all
from chaos.harness import Scenario
from chaos.site import Site


async def schedule(site: Site) -> None:
    async for _ in site.rounds():
        await site.endure(kill_all(site))


SCENARIO = Scenario("kill-all-at-once", "SIGKILL of every node in one moment, again and again", schedule, ("kill-all",))
