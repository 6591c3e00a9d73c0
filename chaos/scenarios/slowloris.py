"""slowloris: hundreds of clients hold connections to every port of every node without ever finishing a command."""

from chaos.faults import clients
from chaos.faults.clients import slowloris
from chaos.harness import Scenario
from chaos.site import Site


async def schedule(site: Site) -> None:
    async for _ in site.rounds():
        await site.endure(slowloris(site, *site.names), 8.0)


SCENARIO = Scenario(
    "slowloris",
    "connections that never finish a command, on all ports",
    schedule,
    ("slowloris",),
    silence_s=5.0,
    prepare=clients.prepare,
)
