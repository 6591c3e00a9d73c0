"""certificate-rotation: all keys and certificates are renewed under load, again and again; nobody should notice."""

from chaos.faults.certificates import certificate_rotation
from chaos.harness import Scenario
from chaos.site import Site


async def schedule(site: Site) -> None:
    async for _ in site.rounds():
        await site.endure(certificate_rotation(site), 1.0)


SCENARIO = Scenario(
    "certificate-rotation",
    "`cluster renew` under load, again and again",
    schedule,
    ("certificate-rotation",),
    networked=True,
    silence_s=8.0,
)
