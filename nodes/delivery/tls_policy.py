"""What TLS has to be with one server, and why: what a route says, DANE, MTA-STS, and otherwise whatever it offers.

In this order, the first that applies decides (RFC 8461 2: a policy never overrides DANE). A host that may not be used
is an error of its own, so that the next one is tried; nothing is ever weakened because it failed.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from nodes.config.node import NodeConfig
from nodes.delivery import dane
from nodes.delivery.destinations import Host
from nodes.delivery.mta_sts import StsPolicy
from nodes.delivery.parameters import Unsendable
from nodes.delivery.tls_results import PolicyType, RecordTlsResult, TlsResult
from nodes.delivery.wire import PeerFailed
from nodes.resolver import Resolver, ResolverError, Tlsa

Level = Literal["clear", "may", "encrypt", "verify", "dane"]


class HostForbidden(PeerFailed):
    """The destination's policy does not allow this host now."""


class Demand(NamedTuple):
    """may: TLS if it works. encrypt: TLS, whoever it is. verify: a certificate of a known authority for the host.
    dane: one that `tlsa` names. `strict`: mail does not go otherwise; if not, a failure is reported and it goes."""

    level: Level
    strict: bool = False
    tlsa: tuple[Tlsa, ...] = ()
    names: tuple[str, ...] = ()
    domain: str = ""
    policy: StsPolicy | None = None

    def result(self, host: str, address: str, failure: str, reason: str) -> TlsResult:
        """For the report that the domain gets."""
        kind: PolicyType = "tlsa" if self.tlsa else "sts" if self.policy else "no-policy-found"
        lines = self.policy.lines if kind == "sts" and self.policy else ()
        if kind == "tlsa":
            lines = tuple(f"{one.usage} {one.selector} {one.matching} {one.data.hex()}" for one in self.tlsa)
        patterns = self.policy.mx if kind == "sts" and self.policy else ()
        return TlsResult(self.domain, kind, lines, patterns, failure, host, address, reason)  # type: ignore[arg-type]


def demand_of_route(level: Level, *, require_tls: bool) -> Demand:
    """What the administrator who made the route wants. Raises Unsendable where REQUIRETLS can not be had."""
    if require_tls and level != "verify":
        raise Unsendable(550, "5.7.10", "the message requires TLS, and its route does not verify the server")
    return Demand(level, level in ("encrypt", "verify"))


class TlsPolicies:
    """Of one node."""

    def __init__(self, config: NodeConfig, resolver: Resolver, record: RecordTlsResult) -> None:
        self._config = config
        self._resolver = resolver
        self._record = record

    async def demand(self, domain: str, host: Host, policy: StsPolicy | None, *, require_tls: bool) -> Demand:
        """For mail of `domain` to this host. Raises HostForbidden; Unsendable where REQUIRETLS can not be had."""
        found = await self._of_dns(domain, host) or self._of_policy(domain, host, policy)
        if not require_tls:
            return found
        proven = host.secure or (policy is not None and policy.mode == "enforce")
        if not proven or found.level == "encrypt":
            text = "the message requires TLS, and nothing proves that the server is the domain's"
            raise Unsendable(550, "5.7.10", text)
        return found._replace(level="verify", strict=True) if found.level == "may" else found._replace(strict=True)

    async def _of_dns(self, domain: str, host: Host) -> Demand | None:
        """RFC 7672 2.2: only where every step to the host is secure."""
        if not (self._config.delivery.dane and host.secure and host.addresses_secure):
            return None
        names = tuple(dict.fromkeys((host.canonical, host.name)))
        for base in names:
            records = await self._tlsa(domain, host, base)
            if not records:
                continue
            usable = dane.usable(records)
            if not usable:
                return Demand("encrypt", True, tuple(records), (), domain)
            return Demand("dane", True, usable, tuple(dict.fromkeys((base, *names, domain))), domain)
        return None

    async def _tlsa(self, domain: str, host: Host, base: str) -> list[Tlsa]:
        try:
            answer = await self._resolver.tlsa(f"_{host.port}._tcp.{base}")
        except ResolverError as error:
            if not error.temporary:
                return []
            self._record(TlsResult(domain, "tlsa", (), (), "dnssec-invalid", host.name, "", str(error)))
            raise HostForbidden(f"DANE: {error}") from None  # fail closed (RFC 7672 2.1.2)
        return list(answer) if answer.secure else []

    def _of_policy(self, domain: str, host: Host, policy: StsPolicy | None) -> Demand:
        if policy is None or policy.mode == "none" or host.is_literal:
            return Demand("may", domain=domain)
        demand = Demand("verify", policy.mode == "enforce", domain=domain, policy=policy)
        if not policy.allows(host.name):
            text = f"MTA-STS: {host.name} is none of the hosts that the policy of {domain} names"
            self._record(demand.result(host.name, "", "validation-failure", text))
            if demand.strict:
                raise HostForbidden(text)
        return demand
