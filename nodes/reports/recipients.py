"""Who wants a report: the addresses that a domain has published, and whether others' addresses have agreed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import unquote

from actors.errors import InvalidName
from actors.names import normalise_address
from nodes.verdicts import dmarc
from nodes.verdicts.lookups import Lookup, txt
from nodes.verdicts.organisation import organisational_domain

MOST_RECIPIENTS = 5  # of one report

_URI = re.compile(r"mailto:([^?!]{3,320})(?:\?[^!]*)?(?:!(\d{1,9})([kmgt]?))?", re.IGNORECASE)
_LOCAL = re.compile(r"[\w!#$%&'*+/=?^`{|}~-]+(?:\.[\w!#$%&'*+/=?^`{|}~-]+)*")  # RFC 5321 4.1.2, Dot-string
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_TLSRPT = re.compile(rb"v=TLSRPTv1\s*;", re.IGNORECASE)


class Recipient(NamedTuple):
    address: str
    most_bytes: int | None = None


def parse(uris: Iterable[str]) -> list[Recipient]:
    """The mail addresses among report URIs (RFC 7489 6.2); what is none is left out."""
    found = []
    for uri in uris:
        match = _URI.fullmatch(uri.strip())
        try:
            if match is not None:
                most = int(match[2]) * _UNITS[match[3].lower()] if match[2] else None
                address = normalise_address(unquote(match[1]))
                if _LOCAL.fullmatch(address.rpartition("@")[0]):  # nobody needs quotes here, and To has to hold it
                    found.append(Recipient(address, most))
        except InvalidName:
            continue
    return list(dict.fromkeys(found))[:MOST_RECIPIENTS]


async def for_dmarc(dns: Lookup, domain: str) -> list[Recipient]:
    """Of the record that `domain` has now; others' addresses only where they agree (RFC 7489 7.1).

    Raises ResolverFailed.
    """
    policy = dmarc.parse(domain, await txt(dns, f"_dmarc.{domain}"))
    found = []
    for one in parse(policy.rua if policy is not None else ()):
        found += await agreed(dns, domain, one)
    return list(dict.fromkeys(found))[:MOST_RECIPIENTS]


async def agreed(dns: Lookup, domain: str, wanted: Recipient) -> list[Recipient]:
    """Where reports on `domain` that are wanted at an address go: there, elsewhere instead, or nowhere (RFC 7489 7.1).

    Raises ResolverFailed.
    """
    host = wanted.address.rpartition("@")[2]
    if organisational_domain(host) == organisational_domain(domain):
        return [wanted]
    said = await txt(dns, f"{domain}._report._dmarc.{host}")
    records = [one for one in said if re.match(rb"\s*v\s*=\s*DMARC1\s*(;|$)", one)]
    if not records:
        return []
    policy = dmarc.parse(host, records[:1])
    instead = [one for one in parse(policy.rua if policy else ()) if one.address.rpartition("@")[2] == host]
    return instead or [wanted]


async def for_tls(dns: Lookup, domain: str) -> list[Recipient]:
    """Of the TLSRPT record (RFC 8460 3); one that is posted to is left out. Raises ResolverFailed."""
    records = [one for one in await txt(dns, f"_smtp._tls.{domain}") if _TLSRPT.match(one)]
    if len(records) != 1:
        return []
    tags = (part.strip().partition("=") for part in records[0].decode("utf-8", "replace").split(";"))
    return parse(uri for name, _, value in tags if name.strip().lower() == "rua" for uri in value.split(","))
