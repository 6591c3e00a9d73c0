"""Clients that mean no good: a flood of them, and many that hold a connection without ever finishing a command."""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from chaos.cluster import ClusterError
from chaos.faults.kinds import Done, fault
from chaos.site import Site
from cli import layout
from cli.supervisor import environment

USES = ("smtp", "submission", "imap", "pop3", "http")
SLOW_USES = ("smtp", "submission", "submissions", "lmtp", "imap", "imaps", "pop3")
LIMIT_AN_ADDRESS = 300
STOP_TIMEOUT_S = 5.0


def prepare(site: Site) -> None:
    """A limit a network address on every node, as outside of one machine; the workload stays below it."""
    for node in site.names:
        site.cluster.configure(node, "limits", {"connections_per_address": LIMIT_AN_ADDRESS})


@fault("client-flood", "hundreds of clients that connect, ask at full speed, talk nonsense and leave")
async def client_flood(site: Site, *nodes: str, clients: int = 200) -> AsyncIterator[Done]:
    with crowd("flood", clients, _addresses(site, nodes, USES)):
        yield Done(nodes, f"{clients} clients at a time")


@fault("slowloris", "hundreds of clients that send a byte now and then and never finish a command")
async def slowloris(site: Site, *nodes: str, clients: int = 600) -> AsyncIterator[Done]:
    with crowd("slowloris", clients, _addresses(site, nodes, SLOW_USES)):
        yield Done(nodes, f"{clients} clients")


@contextmanager
def crowd(kind: str, size: int, addresses: list[str]) -> Iterator[None]:
    """The crowd is there inside the block. Raises ClusterError if it left early."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "chaos.crowd", kind, str(size), *addresses],
        stdin=subprocess.PIPE,
        env=environment(),
        start_new_session=True,
    )
    try:
        yield
        if process.poll() is not None:
            raise ClusterError(f"the crowd ended with status {process.returncode}")
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _addresses(site: Site, nodes: tuple[str, ...], uses: tuple[str, ...]) -> list[str]:
    found = layout.load(site.cluster.folder)
    return [found.node(node).addresses[use] for use in uses for node in nodes]
