"""All that is examined, in the order in which a person mends it."""

from __future__ import annotations

import asyncio

from nodes.delivery.opening import verifying_context
from nodes.delivery.policy_host import PolicyHost
from nodes.dkim_admin import DkimAdmin
from nodes.doctor import hosts, records
from nodes.doctor.dane import dane
from nodes.doctor.finding import Finding
from nodes.doctor.hosts import Host
from nodes.doctor.mta_sts import mta_sts
from nodes.services import Services


async def examine(services: Services, domain: str) -> list[Finding]:
    """domain: one of this cell's, normalised. Takes seconds where names or hosts do not answer; raises nothing."""
    resolver, port = services.resolver, services.config.delivery.port
    found, findings = await hosts.mx_hosts(resolver, domain)
    findings += hosts.ours(found, domain, services.config.node.hostname) if found else []
    findings += await hosts.reverse_names(resolver, found)
    answered, shown = await hosts.ports(found, port)
    findings += answered
    addresses = list(dict.fromkeys(address for host in found for address in host.addresses))
    findings += await records.spf(resolver, domain, addresses)
    findings += records.dkim(domain, await DkimAdmin(services).published(domain))
    findings += await records.dmarc(resolver, domain)
    findings += await _mta_sts(services, domain, found)
    findings += await records.tls_reports(resolver, domain)
    findings += await dane(resolver, domain, found, port, shown)
    return findings


async def _mta_sts(services: Services, domain: str, found: list[Host]) -> list[Finding]:
    """Fetched and trusted as this node does with others' policies when it sends."""
    delivery = services.config.delivery
    trust = await asyncio.to_thread(verifying_context, delivery.trust)
    policies = PolicyHost(services.resolver, trust, delivery.mta_sts_port)
    try:
        return await mta_sts(services.resolver, policies, domain, found, delivery.port, trust)
    finally:
        await policies.close()
