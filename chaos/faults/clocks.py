"""A node whose wall clock is wrong: what Python tells it of the time is shifted, by as much as a file says.

Nodes must be started for it (`prepare`): one more folder on PYTHONPATH, none of it in the node's own code. A clock can
then jump while the node runs. Monotonic clocks, and with them every timeout, go on as ever: a step of NTP does the
same. OpenSSL asks the system itself and is not fooled; certificates have faults of their own.
"""

from collections.abc import AsyncIterator
from pathlib import Path

from chaos.faults.kinds import Done, fault
from chaos.site import Site
from nodes.files import write_atomically

SKEWED = Path(__file__).resolve().parent / "skewed"


def prepare(site: Site) -> None:
    """Has every node read its clock's shift from a file."""
    for node in site.names:
        _set(site, node, 0)
        environment = {"PYTHONPATH": str(SKEWED), "MAILRAFT_CHAOS_CLOCK": str(_file(site, node))}
        site.cluster.own_environment[node] = environment


@fault("clock-skew", "a node's wall clock jumps, and jumps back later; its monotonic clock does not")
async def clock_skew(site: Site, node: str, shift_s: float) -> AsyncIterator[Done]:
    _set(site, node, shift_s)
    try:
        yield Done((node,), f"by {shift_s:+g} s")
    finally:
        _set(site, node, 0)


def _set(site: Site, node: str, shift_s: float) -> None:
    write_atomically(_file(site, node), f"{shift_s}\n".encode())


def _file(site: Site, node: str) -> Path:
    return site.cluster.folder / f"{node}.clock"
