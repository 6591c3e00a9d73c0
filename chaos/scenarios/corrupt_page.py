"""corrupt-page: pages of a node's database go bad; it quarantines itself, the others go on, another replaces it."""

from chaos.faults.disks import corrupt_page
from chaos.faults.processes import pause
from chaos.harness import Scenario
from chaos.site import Site


async def schedule(site: Site) -> None:
    (victim,) = site.pick(site.names)
    await site.endure(corrupt_page(site, victim))
    async for _ in site.rounds():
        (another,) = site.pick(site.others(*site.lost))
        await site.endure(pause(site, another), 0.3)  # a hiccup: not long enough for an election


SCENARIO = Scenario(
    "corrupt-page",
    "a node whose database is damaged quarantines itself and is replaced",
    schedule,
    ("corrupt-page", "pause"),
    15.0,
)
