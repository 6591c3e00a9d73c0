"""client-flood: hundreds of clients ask for nothing in particular, as fast as they can; mail goes on beside them."""

from chaos.faults import clients
from chaos.faults.clients import client_flood
from chaos.harness import Scenario
from chaos.site import Site


async def schedule(site: Site) -> None:
    async for number in site.rounds():
        await site.endure(client_flood(site, *(site.names if number % 2 else [await site.leader()])), 6.0)


SCENARIO = Scenario(
    "client-flood",
    "a flood of clients on all nodes, and on the leader alone",
    schedule,
    ("client-flood",),
    prepare=clients.prepare,
)
