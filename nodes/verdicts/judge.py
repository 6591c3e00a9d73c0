"""All judges over one message: what is asked of the DNS together, and what comes of it in one place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from actors.errors import InvalidName
from actors.names import normalise_domain
from actors.verdicts import VerdictPolicy
from nodes.resolver import ResolverFailed
from nodes.verdicts import arc, authentication_results, dkim_signatures, dmarc, organisation, spf
from nodes.verdicts.authentication_results import Finding
from nodes.verdicts.authors import Authors, authors
from nodes.verdicts.dkim_signatures import Candidate, Signature
from nodes.verdicts.dmarc import Disposition, Dmarc
from nodes.verdicts.lookups import Lookup, known_txt_of_each, txt_of_each
from nodes.verdicts.signed import Message, key_name
from nodes.waiting import within

LARGE_BYTES = 256 * 1024  # hashing and canonical forms of more than this are not for the event loop
T = TypeVar("T")


class Arrival(NamedTuple):
    """What is judged: who brought the message, in whose name, and the message."""

    client: str  # IP address
    helo: str
    sender: str  # of MAIL FROM, "" for the null one
    data: bytes


class Limits(NamedTuple):
    """What one message may cost."""

    signatures: int
    timeout_s: float


class Judgement(NamedTuple):
    """What was found. `helo` is None where HELO was judged as the sender; `dmarc` None without one author domain."""

    spf: spf.Spf
    helo: spf.Spf | None
    signatures: list[Signature]
    chain: arc.Chain
    authors: Authors
    dmarc: Dmarc | None
    trusted_sealer: str = ""  # whose word for this message outweighs its DMARC failure

    @property
    def disposition(self) -> Disposition:
        """What DMARC asks to be done with it, a trusted sealer's word heard (RFC 8617 7.2.1)."""
        if self.dmarc is None or self.dmarc.result != "fail" or self.trusted_sealer:
            return "none"
        return self.dmarc.disposition


async def judge(
    dns: Lookup,
    arrival: Arrival,
    policy: VerdictPolicy,
    limits: Limits,
    sample: int,
    remembered: spf.Remembered | None = None,
) -> Judgement:
    """Never raises for anything that a sender, or the DNS, can do; what takes too long is a temperror."""
    until_s = asyncio.get_running_loop().time() + limits.timeout_s
    message = await _apart(arrival.data, Message, arrival.data)
    signed = dkim_signatures.candidates(message, limits.signatures)
    asked = [one.tags for one in signed if one.tags is not None]
    names = [*map(key_name, asked), *arc.key_names(message)]
    found = remembered and _known(dns, arrival, names, remembered)
    by_sender, by_helo, keys = found or await _asked(dns, arrival, names, limits.timeout_s, remembered)
    accept_length = policy.partial_signatures == "accept"
    signatures = await _apart(arrival.data, _signatures, message, signed, keys, accept_length)
    chain = await _apart(arrival.data, arc.judge, message, keys)
    who = authors(message)
    result = await _dmarc(dns, who, by_sender, signatures, sample, until_s)
    sealer = _trusted_sealer(chain, result, policy.sealers)
    return Judgement(by_sender, by_helo, signatures, chain, who, result, sealer)


_Told = tuple[spf.Spf, spf.Spf | None, dkim_signatures.Keys]


def _known(dns: Lookup, arrival: Arrival, names: list[str], remembered: spf.Remembered) -> _Told | None:
    """What the DNS has said before; None where anything must be asked."""
    by_sender = remembered.find(dns, arrival.client, spf.domain_of(_ascii(arrival.sender), arrival.helo))
    by_helo = remembered.find(dns, arrival.client, arrival.helo) if _is_helo_judged(arrival) else None
    keys = known_txt_of_each(dns, names)
    if by_sender is None or keys is None or (by_helo is None and _is_helo_judged(arrival)):
        return None
    return by_sender, by_helo, keys


async def _asked(
    dns: Lookup, arrival: Arrival, names: list[str], timeout_s: float, remembered: spf.Remembered | None
) -> _Told:
    await organisation.read_list()  # whoever judges the first message comes by here
    sender = _ascii(arrival.sender)
    return await asyncio.gather(
        spf.judge(dns, arrival.client, sender, arrival.helo, timeout_s=timeout_s, remembered=remembered),
        _judge_helo(dns, arrival, timeout_s, remembered),
        _keys(dns, names, timeout_s),
    )


async def _apart(data: bytes, work: Callable[..., T], *arguments: Any) -> T:
    return work(*arguments) if len(data) < LARGE_BYTES else await asyncio.to_thread(work, *arguments)


def _signatures(
    message: Message, signed: list[Candidate], keys: dkim_signatures.Keys, accept_length: bool
) -> list[Signature]:
    return [dkim_signatures.judge(message, one, keys, accept_length=accept_length) for one in signed]


def _ascii(sender: str) -> str:
    """With its domain in A-labels, as the DNS has it."""
    local, at, domain = sender.rpartition("@")
    try:
        return f"{local}@{normalise_domain(domain)}" if at and not domain.isascii() else sender
    except InvalidName:
        return sender


def _is_helo_judged(arrival: Arrival) -> bool:
    """RFC 7208 2.3: a HELO that is a domain name, beside the sender."""
    return bool(arrival.sender) and "." in arrival.helo and not arrival.helo.startswith("[")


async def _judge_helo(
    dns: Lookup, arrival: Arrival, timeout_s: float, remembered: spf.Remembered | None
) -> spf.Spf | None:
    if not _is_helo_judged(arrival):
        return None
    return await spf.judge(dns, arrival.client, "", arrival.helo, timeout_s=timeout_s, remembered=remembered)


async def _keys(dns: Lookup, names: list[str], timeout_s: float) -> dkim_signatures.Keys:
    try:
        async with asyncio.timeout(timeout_s):
            return await txt_of_each(dns, names)
    except TimeoutError:
        return dict.fromkeys(names, ResolverFailed("timed out"))


async def _dmarc(
    dns: Lookup, who: Authors, by_sender: spf.Spf, signatures: list[Signature], sample: int, until_s: float
) -> Dmarc | None:
    if not who.domains:
        return None
    try:
        left_s = until_s - asyncio.get_running_loop().time()
        judged = await within(left_s, _dmarc_of_each(dns, who.domains, by_sender, signatures, sample))
    except (ResolverFailed, TimeoutError):
        return Dmarc("temperror", who.domains[0])
    return dmarc.strictest(judged)


async def _dmarc_of_each(
    dns: Lookup, domains: Sequence[str], by_sender: spf.Spf, signatures: list[Signature], sample: int
) -> list[Dmarc]:
    return [await _dmarc_of(dns, one, by_sender, signatures, sample) for one in domains]


async def _dmarc_of(dns: Lookup, domain: str, by_sender: spf.Spf, signatures: list[Signature], sample: int) -> Dmarc:
    policy = await dmarc.discover(dns, domain)
    if policy is None:
        return Dmarc("none", domain)
    known = policy.np is None or policy.domain == domain or await dmarc.exists(dns, domain)
    requested = dmarc.requested_of(policy, domain, known)
    return dmarc.judge(policy, domain, requested, by_sender, signatures, sample)


def _trusted_sealer(chain: arc.Chain, result: Dmarc | None, trusted: tuple[str, ...]) -> str:
    """The sealer whose word counts: the first to have handled it of those that are trusted up to the last.

    It must say that DMARC passed when the message came to it, for this author's domain.
    """
    if result is None or result.result != "fail" or chain.result != "pass":
        return ""
    heard = None
    for seal in reversed(chain.seals):
        if seal.domain.lower() not in trusted:
            break
        heard = seal
    if heard is None:
        return ""
    _, findings = authentication_results.read(heard.results)
    passed = [one for one in findings if one.method == "dmarc" and one.result == "pass"]
    named = [dict(one.properties).get("header.from", "").lower() for one in passed]
    return heard.domain if any(name in ("", result.domain) for name in named) else ""


def findings(judgement: Judgement, arrival: Arrival) -> list[Finding]:
    """As Authentication-Results tells them (RFC 8601 2.7)."""
    found = []
    if judgement.helo is not None:
        found.append(Finding("spf", judgement.helo.result, (("smtp.helo", judgement.helo.domain),)))
    name = "smtp.mailfrom" if arrival.sender else "smtp.helo"
    # the domain alone: opendmarc takes no result that has an address, and Return-Path has that
    found.append(Finding("spf", judgement.spf.result, ((name, judgement.spf.domain),)))
    found += [_dkim_finding(one) for one in judgement.signatures] or [Finding("dkim", "none")]
    if judgement.chain.result != "none":
        sealers = ", ".join(seal.domain for seal in judgement.chain.seals)
        found.append(Finding("arc", judgement.chain.result, comment=sealers, reason=judgement.chain.reason))
    if judgement.dmarc is not None:
        found.append(_dmarc_finding(judgement.dmarc, judgement))
    return found


def _dkim_finding(one: Signature) -> Finding:
    properties = (
        ("header.d", one.domain),
        ("header.s", one.selector),
        ("header.a", one.algorithm),
        ("header.b", one.beginning),
    )
    return Finding("dkim", one.result, properties, "test mode" if one.is_testing else "", one.reason)


def _dmarc_finding(one: Dmarc, judgement: Judgement) -> Finding:
    comment = f"p={one.policy.p} dis={judgement.disposition}" if one.policy is not None else ""
    reason = f"arc=pass, sealed by {judgement.trusted_sealer}" if judgement.trusted_sealer else ""
    return Finding("dmarc", one.result, (("header.from", one.domain),), comment, reason)


def as_values(judgement: Judgement, arrival: Arrival) -> dict[str, Any]:
    """As MessagePack values, for the delivery event. What they mean stays what it is: keys are only ever added."""
    values: dict[str, Any] = {
        "client": arrival.client,
        "spf": {"result": judgement.spf.result, "domain": judgement.spf.domain},
        "dkim": [
            {"result": one.result, "domain": one.domain, "selector": one.selector, "reason": one.reason}
            for one in judgement.signatures
        ],
        "arc": {"result": judgement.chain.result, "sealers": [seal.domain for seal in judgement.chain.seals]},
    }
    if judgement.helo is not None:
        values["helo"] = {"result": judgement.helo.result, "domain": judgement.helo.domain}
    found = judgement.dmarc
    if found is not None:
        values["dmarc"] = {
            "result": found.result,
            "domain": found.domain,
            "policy": found.policy.p if found.policy is not None else "",
            "requested": found.requested,
            "disposition": judgement.disposition,
            "sealer": judgement.trusted_sealer,
        }
    return values
