"""All that is examined, in the order in which a person mends it."""

from __future__ import annotations

import asyncio
import ipaddress

from nodes.delivery.opening import verifying_context
from nodes.delivery.policy_host import PolicyHost
from nodes.dkim_admin import DkimAdmin
from nodes.doctor import hosts, records
from nodes.doctor.dane import dane
from nodes.doctor.finding import Finding
from nodes.doctor.hosts import Host
from nodes.doctor.mta_sts import mta_sts
from nodes.services import Services

INSIDE = [
    ipaddress.ip_network(one)
    for one in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "127.0.0.0/8")
] + [ipaddress.ip_network(one) for one in ("fc00::/7", "fe80::/10", "::1/128")]


async def examine(services: Services, domain: str) -> list[Finding]:
    """domain: one of this cell's, normalised. Takes seconds where names or hosts do not answer; raises nothing."""
    resolver, port = services.resolver, services.config.delivery.port
    found, findings = await hosts.mx_hosts(resolver, domain)
    findings += hosts.ours(found, domain, services.config.node.hostname) if found else []
    sending = _sending(services)
    findings += await hosts.reverse_names(resolver, [*found, *_elsewhere(sending, found)])
    answered, shown = await hosts.ports(found, port)
    findings += answered
    addresses = list(sending) or list(dict.fromkeys(address for host in found for address in host.addresses))
    findings += await records.spf(resolver, domain, addresses)
    findings += await records.spf_verdicts(resolver, domain, addresses)
    findings += records.dkim(domain, await DkimAdmin(services).published(domain))
    findings += await records.dmarc(resolver, domain)
    findings += await _mta_sts(services, domain, found)
    findings += await records.tls_reports(resolver, domain)
    findings += await dane(resolver, domain, found, port, shown)
    return findings


def _sending(services: Services) -> dict[str, str]:
    """The addresses of this node's pools, each with its name in EHLO; none where the system chooses.

    One behind a translator is left out: it is nobody's out there.
    """
    entries = [entry.partition("/") for pool in services.config.delivery.sources.values() for entry in pool]
    named = {address: name or services.config.node.hostname for address, _, name in entries}
    return {
        address: name
        for address, name in named.items()
        if not any(ipaddress.ip_address(address) in network for network in INSIDE)
    }


def _elsewhere(sending: dict[str, str], found: list[Host]) -> list[Host]:
    """Those that send and take no mail: their names count as much."""
    taking = {address for host in found for address in host.addresses}
    return [Host(name, 0, (address,), False) for address, name in sending.items() if address not in taking]


async def _mta_sts(services: Services, domain: str, found: list[Host]) -> list[Finding]:
    """Fetched and trusted as this node does with others' policies when it sends."""
    delivery = services.config.delivery
    trust = await asyncio.to_thread(verifying_context, delivery.trust)
    policies = PolicyHost(services.resolver, trust, delivery.mta_sts_port)
    try:
        return await mta_sts(services.resolver, policies, domain, found, delivery.port, trust)
    finally:
        await policies.close()
