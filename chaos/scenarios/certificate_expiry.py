"""certificate-expiry: a node's certificate has expired, or is of another CA; `cluster renew` brings the node back."""

from chaos.faults.certificates import certificate_expiry, wrong_ca
from chaos.harness import Scenario
from chaos.site import Site


async def schedule(site: Site) -> None:
    async for number in site.rounds():
        leader = await site.leader()
        (follower,) = site.pick(site.others(leader))
        victim = leader if number % 4 in (1, 2) else follower
        await site.endure((certificate_expiry if number % 2 else wrong_ca)(site, victim), 4.0)


SCENARIO = Scenario(
    "certificate-expiry",
    "a node whose certificate has expired, or is of another CA, is refused",
    schedule,
    ("certificate-expiry", "wrong-ca"),
    40.0,
    networked=True,
)
