"""All that is examined, in the order in which a person mends it."""

from __future__ import annotations

from nodes.dkim_admin import DkimAdmin
from nodes.doctor import hosts, records
from nodes.doctor.finding import Finding
from nodes.services import Services

port = 25


async def examine(services: Services, domain: str) -> list[Finding]:
    """domain: one of this cell's, normalised. Takes seconds where names or hosts do not answer; raises nothing."""
    resolver, port = services.resolver, services.config.delivery.port
    found, findings = await hosts.mx_hosts(resolver, domain)
    findings += hosts.ours(found, domain, services.config.node.hostname) if found else []
    findings += await hosts.reverse_names(resolver, found)
    answered, certificates = await hosts.ports(found, port)
    findings += answered
    addresses = list(dict.fromkeys(address for host in found for address in host.addresses))
    findings += await records.spf(resolver, domain, addresses)
    findings += records.dkim(domain, await DkimAdmin(services).published(domain))
    findings += await records.dmarc(resolver, domain)
    findings += await records.mta_sts(resolver, domain)
    findings += await records.tls_reports(resolver, domain)
    findings += await records.dane(resolver, found, port, certificates)
    return findings
