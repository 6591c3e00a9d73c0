"""connection-resets: all of a node's connections to its peers break at once, every second or so."""

from chaos.faults.links import connection_reset
from chaos.harness import Scenario
from chaos.site import Site


async def schedule(site: Site) -> None:
    async for _ in site.rounds():
        for _ in range(3):
            await site.endure(connection_reset(site, *site.pick(site.names)), 1.0)


SCENARIO = Scenario(
    "connection-resets",
    "connections between nodes reset again and again",
    schedule,
    ("connection-reset",),
    networked=True,
)
