"""dns-failure: the name server that nodes ask about their clients is silent, then lies; no mail may wait for it."""

from chaos.faults import names
from chaos.faults.names import dns_failure
from chaos.harness import Scenario
from chaos.site import Site


async def schedule(site: Site) -> None:
    async for number in site.rounds():
        await site.endure(dns_failure(site, lying=number % 2 == 0), 5.0)


SCENARIO = Scenario(
    "dns-failure",
    "a name server that is silent, then lies, while new clients come",
    schedule,
    ("dns-failure",),
    silence_s=5.0,
    prepare=names.prepare,
)
