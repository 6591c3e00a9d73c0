"""DANE (RFC 7672): whether each host's TLSA records are proved by DNSSEC, can be used with SMTP, and fit what each of
its addresses shows on STARTTLS. Judged by the sender's own code (nodes/delivery/dane.py), one record at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nodes.delivery import dane as sending
from nodes.delivery.wire import TlsFailed
from nodes.doctor.finding import Finding
from nodes.doctor.hosts import Host, Shown, spki_sha256
from nodes.resolver import NoAnswer, NoSuchDomain, Resolver, ResolverError, Tlsa, TlsaAnswer

AREA = "DANE"
MOST_RECORDS = 20
DATA_CHARACTERS = 16  # of a record's data, so that one knows it again

Chains = Mapping[str, tuple[bytes, ...]]  # by address


async def dane(resolver: Resolver, domain: str, hosts: list[Host], port: int, shown: Shown) -> list[Finding]:
    """shown: what each address presented, as `hosts.ports` gives it."""
    found = [await _of_host(resolver, domain, host, port, shown.get(host.name, {})) for host in hosts]
    return [finding for findings in found for finding in findings]


async def _of_host(resolver: Resolver, domain: str, host: Host, port: int, chains: Chains) -> list[Finding]:
    names = tuple(dict.fromkeys((host.canonical or host.name, host.name)))  # in the order of RFC 7672 2.2.3
    for base in names:
        name = f"_{port}._tcp.{base}"
        try:
            answer = await resolver.tlsa(name)
        except (NoAnswer, NoSuchDomain):
            continue
        except ResolverError as error:
            text = f"{name} could not be looked up, so that senders with DANE wait: {error}"
            return [Finding(AREA, "error", text)]
        if not answer.secure:
            return [Finding(AREA, "warning", f"{name} has TLSA records that DNSSEC does not prove", "sign the zone")]
        return list(_judged(name, host, answer, chains, (base, *names, domain)))
    text = f"_{port}._tcp.{host.name} has no TLSA record"
    return [Finding(AREA, "note", text, "" if host.secure else "a signed zone first", _wanted(text.split()[0], chains))]


def _judged(name: str, host: Host, answer: TlsaAnswer, chains: Chains, names: tuple[str, ...]) -> Iterator[Finding]:
    wanted = _wanted(name, chains)
    if not host.secure:
        text = f"{name} has TLSA records, which no sender asks for: DNSSEC proves neither the MX nor {host.name}"
        yield Finding(AREA, "warning", text, "sign the zones of both")
    records = list(answer)[:MOST_RECORDS]
    for record in records:
        if reason := sending.why_unusable(record):
            yield Finding(AREA, "warning", f"{name}: {_text(record)} can not be used: {reason}", "take it out", wanted)
    usable = sending.usable(records)
    if not usable:
        text = f"{name} has no record that can be used: senders with DANE demand TLS, and verify nobody"
        yield Finding(AREA, "warning", text, "", wanted)
    else:
        yield from _compared(name, usable, chains, names)


def _compared(name: str, usable: tuple[Tlsa, ...], chains: Chains, names: tuple[str, ...]) -> Iterator[Finding]:
    """What each usable record says of each address; one that fits is enough for an address."""
    if not chains:
        yield Finding(AREA, "note", f"{name} has TLSA records, and no server answered to compare them with")
        return
    wanted = _wanted(name, chains)
    reasons = {address: [_reason(one, chain, names) for one in usable] for address, chain in chains.items()}
    for address, found in reasons.items():
        if "" not in found:
            text = f"{name} does not fit what [{address}] shows, so that senders with DANE refuse: {found[0]}"
            yield Finding(AREA, "error", text, "" if wanted else "STARTTLS there: [tls] of mailraft.toml", wanted)
    for number, record in enumerate(usable):
        fits = [address for address, found in reasons.items() if not found[number]]
        if fits:
            advice = "" if record[:2] != (3, 0) else "3 1 1 would outlive a renewal that keeps the key"
            yield Finding(AREA, "ok", f"{name}: {_text(record)} fits what {_listed(fits)} shows", advice)
        else:
            advice = "right for a certificate that is still to come; otherwise take it out"
            yield Finding(AREA, "note", f"{name}: {_text(record)} fits no certificate that was shown", advice)


def _reason(record: Tlsa, chain: tuple[bytes, ...], names: tuple[str, ...]) -> str:
    """Why a sender refuses what was shown, by this record alone; "" if it does not."""
    if not chain:
        return "it offers no STARTTLS"
    try:
        sending.check((record,), chain, names)
    except TlsFailed as failed:
        return str(failed).removeprefix("DANE: ")
    return ""


def _wanted(name: str, chains: Chains) -> tuple[str, ...]:
    """A record for each key that was shown."""
    keys = dict.fromkeys(spki_sha256(chain[0]) for chain in chains.values() if chain)
    return tuple(f"{name}. 3600 IN TLSA 3 1 1 {key}" for key in keys)


def _text(record: Tlsa) -> str:
    data = record.data.hex()
    shown = data if len(data) <= DATA_CHARACTERS else data[:DATA_CHARACTERS] + "..."
    return f"{record.usage} {record.selector} {record.matching} {shown}"


def _listed(addresses: list[str]) -> str:
    return ", ".join(f"[{one}]" for one in addresses)
