"""DMARC (RFC 7489): what the domain in From asks to be done with mail that is not its own, and whether this is.

The organisational domain comes from the public suffix list (RFC 7489 3.2). The tree walk of its successor finds the
same record for every domain whose organisation publishes one, except where a registry below a public suffix does.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal, NamedTuple

from nodes.resolver import NoAnswer, NoSuchDomain
from nodes.verdicts.dkim_signatures import Signature
from nodes.verdicts.lookups import Lookup, txt
from nodes.verdicts.organisation import is_aligned, organisational_domain
from nodes.verdicts.spf import Spf

Disposition = Literal["none", "quarantine", "reject"]
Result = Literal["none", "pass", "fail", "temperror", "permerror"]
MOST_URIS = 10

_VERSION = re.compile(rb"\s*v\s*=\s*DMARC1\s*(;|$)")
_STRICTNESS: dict[Disposition, int] = {"none": 0, "quarantine": 1, "reject": 2}
_WEAKER: dict[Disposition, Disposition] = {"reject": "quarantine", "quarantine": "none", "none": "none"}


class Policy(NamedTuple):
    """A record (RFC 7489 6.3) and where it stood. `np` is RFC 9091's, for names that do not exist."""

    domain: str
    p: Disposition = "none"
    sp: Disposition | None = None
    np: Disposition | None = None
    adkim: str = "r"
    aspf: str = "r"
    pct: int = 100
    rua: tuple[str, ...] = ()
    fo: str = "0"


class Dmarc(NamedTuple):
    """`requested` is what the domain asks for, `disposition` that after pct (6.6.4); both "none" unless it failed."""

    result: Result
    domain: str
    policy: Policy | None = None
    spf_aligned: bool = False
    dkim_aligned: bool = False
    requested: Disposition = "none"
    disposition: Disposition = "none"


def parse(domain: str, records: list[bytes]) -> Policy | None:
    """The policy among the TXT records of `_dmarc.domain`; None for none, or several (RFC 7489 6.6.3)."""
    found = [one for one in records if _VERSION.match(one)]
    return _policy(domain, found[0]) if len(found) == 1 else None


@lru_cache(4096)
def _policy(domain: str, record: bytes) -> Policy | None:
    tags = _tags(record)
    rua = tuple(one.strip() for one in tags.get("rua", "").split(",") if one.strip())[:MOST_URIS]
    p = _disposition(tags.get("p"))
    if p is None and not rua:
        return None
    return Policy(
        domain,
        p or "none",
        _disposition(tags.get("sp")),
        _disposition(tags.get("np")),
        tags.get("adkim", "r").lower(),
        tags.get("aspf", "r").lower(),
        _percent(tags.get("pct", "")),
        rua,
        tags.get("fo", "0"),
    )


def _tags(record: bytes) -> dict[str, str]:
    pairs = (part.partition("=") for part in record.decode("utf-8", "replace").split(";"))
    tags: dict[str, str] = {}
    for name, equals, value in pairs:
        if equals:
            tags.setdefault(name.strip().lower(), value.strip())
    return tags


def _disposition(text: str | None) -> Disposition | None:
    value = (text or "").lower()
    return value if value in _STRICTNESS else None


def _percent(text: str) -> int:
    return min(100, int(text)) if re.fullmatch(r"[0-9]{1,9}", text) else 100


async def discover(dns: Lookup, domain: str) -> Policy | None:
    """The policy for mail from `domain`: its own, else its organisation's (RFC 7489 6.6.3). Raises ResolverFailed."""
    found = parse(domain, await txt(dns, f"_dmarc.{domain}"))
    organisation = organisational_domain(domain)
    if found is None and organisation != domain:
        found = parse(organisation, await txt(dns, f"_dmarc.{organisation}"))
    return found


async def exists(dns: Lookup, domain: str) -> bool:
    """Whether a name has an address or takes mail (RFC 9091 2.7). Raises ResolverFailed."""
    for kind in ("MX", "A", "AAAA"):
        try:
            await dns.lookup(domain, kind)
        except NoSuchDomain:
            return False
        except NoAnswer:
            continue
        return True
    return False


def requested_of(policy: Policy, domain: str, exists: bool) -> Disposition:
    """What is asked for mail from `domain` that fails: p, or sp or np where the record is its organisation's."""
    if policy.domain == domain:
        return policy.p
    subdomains = policy.sp or policy.p
    return subdomains if exists else policy.np or subdomains


def judge(policy: Policy, domain: str, requested: Disposition, spf: Spf, signed: list[Signature], sample: int) -> Dmarc:
    """Whether the message is its author's domain's own (RFC 7489 3.1, 6.6.2).

    sample: 0 to 99, drawn for this message; a pct at or below it asks for the next weaker treatment (6.6.4).
    """
    aligned_spf = is_aligned(spf.domain.lower(), domain, policy.aspf)
    aligned = [one for one in signed if is_aligned(one.domain, domain, policy.adkim)]
    by_spf = aligned_spf and spf.result == "pass"
    by_dkim = any(one.result == "pass" for one in aligned)
    if by_spf or by_dkim:
        return Dmarc("pass", domain, policy, by_spf, by_dkim)
    disposition = requested if sample < policy.pct else _WEAKER[requested]
    unknown = (aligned_spf and spf.result == "temperror") or any(one.result == "temperror" for one in aligned)
    return Dmarc("temperror" if unknown else "fail", domain, policy, False, False, requested, disposition)


def strictest(judged: list[Dmarc]) -> Dmarc:
    """Of several authors' domains the one to act on (RFC 7489 6.6.1)."""
    return max(judged, key=lambda one: (_STRICTNESS[one.disposition], one.result != "pass", one.policy is not None))
