"""slow-follower: a follower behind a long line, then behind a narrow one; the others set the pace."""

from chaos.faults.links import bandwidth, latency
from chaos.harness import Scenario
from chaos.site import Site


async def schedule(site: Site) -> None:
    async for number in site.rounds():
        victims = site.pick(await site.followers(), site.minority)
        if number % 2:
            await site.endure(latency(site, *victims, delay_s=0.15, jitter_s=0.1), 5.0)
        else:
            await site.endure(bandwidth(site, *victims, bytes_per_s=128 * 1024), 5.0)


SCENARIO = Scenario(
    "slow-follower",
    "a follower behind a slow line, then behind a narrow one",
    schedule,
    ("latency", "bandwidth"),
    duration_s=40.0,
    networked=True,
    silence_s=5.0,
)
