"""follower-kill: as many followers as the cell can miss are killed at once; nobody should notice."""

import asyncio

from chaos.faults.processes import kill
from chaos.harness import Scenario
from chaos.site import Site


async def schedule(site: Site) -> None:
    async for _ in site.rounds():
        victims = site.pick(await site.followers(), site.minority)
        await asyncio.gather(*(site.endure(kill(site, victim)) for victim in victims))


SCENARIO = Scenario("follower-kill", "SIGKILL of a minority of followers at once", schedule, ("kill",), silence_s=5.0)
