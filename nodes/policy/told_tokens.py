"""Tokens where front ends run in worker processes: told, as what one process takes, instead of leased.

Each process of a node takes from its own copy of a bucket, and what it takes is told to all processes of all nodes,
every second (buckets.py); so a limit holds but for what happens within that second. Leases (leases.py) are between
nodes, each of which would have to lend to its own workers.
"""

from __future__ import annotations

from collections.abc import Iterable

from nodes.policy.buckets import Buckets
from nodes.policy.holdings import REMEMBERED
from nodes.policy.leases import W, Want

TOPIC = "tokens"


class ToldTokens(Buckets):
    """Asked as Leases is; nobody is ever waited for."""

    def __init__(self) -> None:
        super().__init__(most=REMEMBERED)

    def lacking(self, wants: Iterable[W]) -> list[W]:
        """Those that there is no token of."""
        return [one for one in wants if self.wait_s(one.key, one.per_hour) > 0]

    async def gather(self, lacking: Iterable[Want]) -> None:
        """What is not here is nowhere."""
