"""How many octets a second clients, accounts and tenants move, over SMTP, IMAP and POP3, both ways: who moves more is
slowed, never refused.

A bucket holds BURST_S of the rate. What goes beyond it is owed: whoever moved it rests until as much time has passed,
so that the rate holds in the long run however large a piece was. Nodes tell each other every second what was moved
(buckets.py), and all of them rest; so the cell keeps to the rate, a second late. Only what is limited costs anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from nodes.config.policy import PolicySection
from nodes.failures import key_of
from nodes.logins.security import is_loopback, network_of
from nodes.policy.buckets import HOUR_S, Buckets
from nodes.policy.rates import ACCOUNT, CLIENT, TENANT
from nodes.policy.tenants import TenantPolicies
from nodes.tls.trust import Trust

if TYPE_CHECKING:
    from actors.directory import Target
    from nodes.metrics import Metrics
    from nodes.policy.sharing import Shared

BURST_S = 5.0
PIECE_BYTES = 4096  # a connection's octets are counted in pieces of at least so many
STEP_S = 0.5  # in which whoever rests looks again
BANDWIDTH = "bandwidth"


class Bandwidth:
    """Of one node, for all its front ends and for what it sends."""

    def __init__(
        self,
        config: PolicySection,
        policies: TenantPolicies,
        metrics: Metrics,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policies = policies
        self._metrics = metrics
        self.buckets = Buckets(now_s, full_s=BURST_S, most_s=HOUR_S)
        self.reload(config)

    def reload(self, config: PolicySection) -> None:
        """From now on by this; what is owed stays owed."""
        self._exempt = Trust(config.exempt)
        self._of_client = config.client_bytes_per_second

    @property
    def shared(self) -> dict[str, Shared]:
        """What the nodes tell each other, by topic."""
        return {BANDWIDTH: self.buckets}

    def flow(self, client: str) -> Flow:
        """Of a connection from a network address, "" for a Unix socket."""
        return Flow(self, client)

    def client_rate(self, client: str) -> int:
        """Octets a second of that client; 0: no limit."""
        if not self._of_client or is_loopback(client) or self._exempt.covers(client):
            return 0
        return self._of_client

    def moved(self, rates: Collection[tuple[bytes, int, str]], size_bytes: int) -> float:
        """So many octets were moved for those: gives for how many seconds that is to rest."""
        owed_s, slowed = 0.0, ""
        for key, per_second, scope in rates:
            self.buckets.owe(key, size_bytes / per_second)
            if (own_s := self.buckets.owed_s(key)) > owed_s:
                owed_s, slowed = own_s, scope
        if slowed:
            self._metrics.policy_refused(f"{slowed} {BANDWIDTH}")
        return owed_s

    def owed_s(self, rates: Collection[tuple[bytes, int, str]]) -> float:
        """For how many seconds they are still to rest."""
        return max((self.buckets.owed_s(key) for key, _, _ in rates), default=0.0)

    def rates_of(self, target: Target | None, tenants: Collection[bytes]) -> list[tuple[bytes, int, str]]:
        """Key, octets a second and scope of each limit of an account and its tenant, or else of those tenants."""
        rates = []
        if target is not None:
            per_second = self._policies.of(target.tenant).account_bytes_per_second
            if per_second:
                rates.append((key_of(BANDWIDTH, ACCOUNT, target.account.hex()), per_second, ACCOUNT))
            tenants = (target.tenant,)
        for tenant in tenants:
            per_second = self._policies.of(tenant).tenant_bytes_per_second
            if per_second:
                rates.append((key_of(BANDWIDTH, TENANT, tenant.hex()), per_second, TENANT))
        return rates

    def sent(self, tenant: bytes, size_bytes: int) -> None:
        """A message of the tenant goes to another server."""
        self.moved(self.rates_of(None, (tenant,)), size_bytes)

    def tenant_owes_s(self, tenant: bytes) -> float:
        """For how many seconds nothing of the tenant is to be sent to other servers."""
        return self.owed_s(self.rates_of(None, (tenant,)))


class Flow:
    """What one connection moves. `target`: who has logged in; `tenants` gives whom its mail is for otherwise.

    uncounted_bytes: moved and not settled yet; who has PIECE_BYTES of them is to settle.
    """

    __slots__ = ("_bandwidth", "_client", "target", "tenants", "uncounted_bytes")

    def __init__(self, bandwidth: Bandwidth, client: str) -> None:
        self._bandwidth = bandwidth
        self._client = client
        self.uncounted_bytes = 0
        self.target: Target | None = None
        self.tenants: Callable[[], Collection[bytes]] = tuple

    def moved(self, size_bytes: int) -> float:
        """So many octets came or went: gives for how many seconds the connection is to rest, 0: not at all."""
        self.uncounted_bytes += size_bytes
        return self.settle() if self.uncounted_bytes >= PIECE_BYTES else 0.0

    def settle(self) -> float:
        """What is not counted yet is."""
        size_bytes, self.uncounted_bytes = self.uncounted_bytes, 0
        rates = self._rates()
        return self._bandwidth.moved(rates, size_bytes) if rates and size_bytes else 0.0

    def owed_s(self) -> float:
        """For how many seconds it is still to rest."""
        return self._bandwidth.owed_s(self._rates())

    def _rates(self) -> list[tuple[bytes, int, str]]:
        rates = self._bandwidth.rates_of(self.target, self.tenants())
        per_second = self._bandwidth.client_rate(self._client)
        if per_second:
            rates.append((key_of(BANDWIDTH, CLIENT, network_of(self._client)), per_second, CLIENT))
        return rates
