"""The TXT records that say who may send for a domain, and how its mail is to be handled: SPF, DKIM, DMARC, TLS-RPT."""

from __future__ import annotations

import asyncio
import re

from nodes import dkim_keys
from nodes.dkim_admin import Published
from nodes.doctor.finding import Finding, Status
from nodes.reports import recipients
from nodes.resolver import NoAnswer, NoSuchDomain, Resolver, ResolverError
from nodes.verdicts.spf import judge

SPF_LOOKUPS = 10  # RFC 7208 4.6.4
SPF_TIMEOUT_S = 20.0
_SPF_TERM = re.compile(
    r"(?:[+?~-]?(?:all|include:\S+|a(?:[:/]\S*)?|mx(?:[:/]\S*)?|ptr(?::\S+)?|ip4:\S+|ip6:\S+|exists:\S+)|[a-z][a-z0-9_.-]*=\S*)",
    re.IGNORECASE,
)
_SPF_LOOKUP = re.compile(r"[+?~-]?(?:include:|a(?:[:/]|$)|mx(?:[:/]|$)|ptr|exists:)|redirect=", re.IGNORECASE)


async def texts(resolver: Resolver, name: str) -> list[str] | str:
    """The TXT records of a name; a text where they could not be looked up."""
    try:
        return [record.decode("utf-8", "replace") for record in await resolver.txt(name)]
    except (NoAnswer, NoSuchDomain):
        return []
    except ResolverError as error:
        return f"{name} could not be looked up: {error}"


async def spf(resolver: Resolver, domain: str, addresses: list[str]) -> list[Finding]:
    """addresses: from which this cell sends."""
    found = await texts(resolver, domain)
    if isinstance(found, str):
        return [Finding("SPF", "error", found)]
    records = [text for text in found if text.lower().split(" ")[0] == "v=spf1"]
    terms = " ".join(("ip6:" if ":" in one else "ip4:") + one for one in addresses) or "mx"
    wanted = (f'{domain}. 3600 IN TXT "v=spf1 {terms} -all"',)
    if not records:
        return [Finding("SPF", "error", f"{domain} has no SPF record", "say who may send for it", wanted)]
    if len(records) > 1:
        text = f"{domain} has {len(records)} SPF records, which is an error (RFC 7208 4.5)"
        return [Finding("SPF", "error", text, "one of them alone", wanted)]
    return _spf_terms(domain, records[0], wanted)


def _spf_terms(domain: str, record: str, wanted: tuple[str, ...]) -> list[Finding]:
    terms = record.split()[1:]
    if wrong := [term for term in terms if not _SPF_TERM.fullmatch(term)]:
        return [Finding("SPF", "error", f"not a term of SPF: {', '.join(wrong)}", "", wanted)]
    lookups = sum(1 for term in terms if _SPF_LOOKUP.match(term))
    if lookups > SPF_LOOKUPS:
        text = f"{lookups} terms need a look-up; more than {SPF_LOOKUPS} are an error (RFC 7208 4.6.4)"
        return [Finding("SPF", "error", text)]
    end = next(
        (term.lower() for term in terms if term.lower().endswith("all") or term.lower().startswith("redirect=")), ""
    )
    if end in ("+all", "all"):
        return [Finding("SPF", "error", f"{end}: anybody may send for {domain}", "-all", wanted)]
    if end in ("", "?all"):
        return [
            Finding("SPF", "warning", f"says nothing of other senders: {record}", "-all or ~all at its end", wanted)
        ]
    return [Finding("SPF", "ok", record)]


async def spf_verdicts(resolver: Resolver, domain: str, addresses: list[str]) -> list[Finding]:
    """What servers elsewhere find of mail that comes from each address, with all that the record includes."""
    found = await asyncio.gather(
        *(judge(resolver, one, f"postmaster@{domain}", domain, timeout_s=SPF_TIMEOUT_S) for one in addresses)
    )
    results = {address: one.result for address, one in zip(addresses, found, strict=True)}
    if "permerror" in results.values():
        text = (
            f"is in error, with what it includes: more than {SPF_LOOKUPS} look-ups, names that are not there, or terms"
        )
        return [
            Finding("SPF", "error", f"the record of {domain} {text} (permerror)", "ip4: and ip6: in place of include:")
        ]
    passed = [address for address, result in results.items() if result == "pass"]
    findings = [Finding("SPF", "ok", f"mail from {', '.join(passed)} passes")] if passed else []
    for address, result in results.items():
        if result in ("pass", "none"):
            continue
        status: Status = "warning" if result in ("neutral", "softfail") else "error"
        advice = f"{'ip6' if ':' in address else 'ip4'}:{address} in the record, in front of its end"
        findings.append(Finding("SPF", status, f"mail from {address}, which is ours, gets {result}", advice))
    return findings


def dkim(domain: str, published: list[Published]) -> list[Finding]:
    """What DNS shows of the keys of this cell."""
    if not published:
        return [Finding("DKIM", "error", f"mail of {domain} is not signed", f"mailraft dkim generate {domain}")]
    findings = []
    for one in published:
        key = one.key
        if not one.problem:
            findings.append(Finding("DKIM", "ok", f"{key.selector} ({key.algorithm}, {key.state}) is in DNS"))
        elif key.state == "retired":
            findings.append(Finding("DKIM", "note", f"{key.selector} is retired, and {one.problem}"))
        else:
            status: Status = "error" if key.state == "active" else "warning"
            findings.append(Finding("DKIM", status, one.problem, "", (dkim_keys.zone_line(domain, key),)))
    if all(one.key.state != "active" for one in published):
        text = f"mail of {domain} is not signed: no key is active yet"
        findings.append(Finding("DKIM", "error", text, f"with the records in DNS, mailraft dkim validate {domain}"))
    return findings


async def dmarc(resolver: Resolver, domain: str) -> list[Finding]:
    name = f"_dmarc.{domain}"
    wanted = (f'{name}. 3600 IN TXT "v=DMARC1; p=quarantine; rua=mailto:postmaster@{domain}"',)
    found = await texts(resolver, name)
    if isinstance(found, str):
        return [Finding("DMARC", "error", found)]
    records = [text for text in found if text.replace(" ", "").startswith("v=DMARC1")]
    if len(records) != 1:
        text = f"{name} has {len(records) or 'no'} DMARC record{'s' if len(records) > 1 else ''}"
        return [Finding("DMARC", "error", text, "exactly one", wanted)]
    tags = dkim_keys.tags(records[0].encode()) or {}
    policy = tags.get("p", "")
    if policy not in ("none", "quarantine", "reject"):
        return [
            Finding("DMARC", "error", f"p={policy} is no policy: {records[0]}", "none, quarantine or reject", wanted)
        ]
    findings = [Finding("DMARC", "ok" if policy != "none" else "warning", records[0])]
    if policy == "none":
        findings[0] = findings[0]._replace(advice="p=quarantine or p=reject, once its reports are clean")
    if "rua" not in tags:
        findings.append(Finding("DMARC", "note", "nobody is sent its reports", f"rua=mailto:postmaster@{domain}"))
    return findings + await _not_agreed(resolver, domain, tags.get("rua", "").split(","))


async def _not_agreed(resolver: Resolver, domain: str, uris: list[str]) -> list[Finding]:
    """Addresses of others get no reports before these say that they take them (RFC 7489 7.1)."""
    findings = []
    for one in recipients.parse(uris):
        host = one.address.rpartition("@")[2]
        try:
            if not await recipients.agreed(resolver, domain, one):
                text = f"{one.address} is sent no reports: {host} does not say that it takes those on {domain}"
                record = f'{domain}._report._dmarc.{host}. 3600 IN TXT "v=DMARC1"'
                findings.append(Finding("DMARC", "warning", text, f"ask {host} for the record", (record,)))
        except ResolverError as error:
            findings.append(Finding("DMARC", "warning", f"whether {host} takes reports is not known: {error}"))
    return findings


async def tls_reports(resolver: Resolver, domain: str) -> list[Finding]:
    """RFC 8460."""
    name = f"_smtp._tls.{domain}"
    found = await texts(resolver, name)
    wanted = (f'{name}. 3600 IN TXT "v=TLSRPTv1; rua=mailto:postmaster@{domain}"',)
    if isinstance(found, str):
        return [Finding("TLS-RPT", "error", found)]
    records = [text for text in found if text.startswith("v=TLSRPTv1")]
    if len(records) != 1 or "rua=" not in records[0]:
        return [Finding("TLS-RPT", "note", f"{name} asks for no reports of failed TLS", "", wanted)]
    return [Finding("TLS-RPT", "ok", records[0])]
