"""The hosts that take a domain's mail: their names and addresses, their reverse names, what answers on their ports."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import smtplib
import socket
import ssl
from collections.abc import Iterator
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from nodes.delivery.dane import chain_of
from nodes.delivery.opening import unverified_context
from nodes.doctor.finding import Finding, Status
from nodes.resolver import NoSuchDomain, NullMx, Resolver, ResolverError

ANSWER_TIMEOUT_S = 8.0
MOST_HOSTS = 10
MOST_ADDRESSES = 8
EXPIRY_WARNING_DAYS = 14
CLIENT_PORTS = ((465, "submission over TLS"), (993, "IMAP over TLS"))


class Host(NamedTuple):
    """One host of the MX answer. `secure`: DNSSEC proved its name and address. `canonical`: where aliases led."""

    name: str
    preference: int
    addresses: tuple[str, ...]
    secure: bool
    canonical: str = ""


class Answer(NamedTuple):
    """What an SMTP server said; `chain`: the certificates that it showed (DER), its own first, none without TLS."""

    banner: str
    starttls: bool
    chain: tuple[bytes, ...] = ()
    problem: str = ""


Shown = dict[str, dict[str, tuple[bytes, ...]]]  # host name, address, the chain that it showed; () without TLS


async def mx_hosts(resolver: Resolver, domain: str) -> tuple[list[Host], list[Finding]]:
    """The hosts in the order in which a sender tries them, and what is wrong with them."""
    try:
        found = await resolver.mx(domain)
    except NullMx:
        return [], [Finding("MX", "error", f"{domain} says that it takes no mail (a null MX, RFC 7505)")]
    except NoSuchDomain:
        return [], [Finding("MX", "error", f"{domain} does not exist in DNS", "register it, and give it an MX record")]
    except ResolverError as error:
        return [], [Finding("MX", "error", f"the MX of {domain} could not be looked up: {error}")]
    hosts: list[Host] = []
    findings: list[Finding] = []
    if found and found[0].implicit:
        text = f"{domain} has no MX record, so its mail goes to the addresses of that name itself"
        findings.append(Finding("MX", "error", text, "an MX record that names this cell's host"))
    for one in found[:MOST_HOSTS]:
        try:
            addresses = await resolver.addresses(one.host)
        except ResolverError as error:
            findings.append(Finding("MX", "error", f"{one.host} has no address: {error}", f"an A record of {one.host}"))
            continue
        secure = found.secure and addresses.secure
        hosts.append(Host(one.host, one.preference, tuple(addresses)[:MOST_ADDRESSES], secure, addresses.name))
        shown = ", ".join(hosts[-1].addresses)
        findings.append(Finding("MX", "ok", f"{one.preference} {one.host} ({shown})"))
        if addresses.name not in ("", one.host):
            text = f"{one.host} is an alias of {addresses.name}, which an MX must not name (RFC 2181 10.3)"
            record = f"{domain}. 3600 IN MX {one.preference} {addresses.name}."
            findings.append(Finding("MX", "warning", text, "", (record,)))
    return hosts, findings


def ours(hosts: list[Host], domain: str, hostname: str) -> list[Finding]:
    """Whether the domain's mail comes here at all."""
    if any(host.name.rstrip(".").lower() == hostname.lower() for host in hosts):
        return []
    record = f"{domain}. 3600 IN MX 10 {hostname}."
    return [Finding("MX", "warning", f"no MX names this node ({hostname}), so its mail goes elsewhere", "", (record,))]


async def reverse_names(resolver: Resolver, hosts: list[Host]) -> list[Finding]:
    """Each address has a name, and that name has the address: many refuse mail from one that has not."""
    findings = []
    for host in hosts:
        for address in host.addresses:
            findings.append(await _reverse_name(resolver, host, address))
    return findings


async def _reverse_name(resolver: Resolver, host: Host, address: str) -> Finding:
    advice = f"ask whom the address belongs to for a PTR record of {address} with {host.name}"
    try:
        names = list(await resolver.ptr(address))
    except ResolverError as error:
        return Finding("reverse DNS", "error", f"{address} has no name: {error}", advice)
    for name in names[:MOST_HOSTS]:
        try:
            if address in await resolver.addresses(name):
                status: Status = "ok" if name.rstrip(".").lower() == host.name.rstrip(".").lower() else "note"
                return Finding("reverse DNS", status, f"{address} is {name}, and {name} is {address}")
        except ResolverError:
            continue
    return Finding("reverse DNS", "error", f"{address} is {', '.join(names)}, which has another address", advice)


async def ports(hosts: list[Host], smtp_port: int) -> tuple[list[Finding], Shown]:
    """What answers at each address: findings, and the certificates that those showed which do answer."""
    wanted = [(host, address) for host in hosts for address in host.addresses]
    answers = await asyncio.gather(
        *(asyncio.to_thread(_ask, address, smtp_port, host.name) for host, address in wanted)
    )
    shown: Shown = {}
    findings: list[Finding] = []
    for (host, address), answer in zip(wanted, answers, strict=True):
        findings += _smtp_findings(host, address, smtp_port, answer)
        if not answer.problem:
            shown.setdefault(host.name, {})[address] = answer.chain
    open_ports = await asyncio.gather(
        *(asyncio.to_thread(_is_open, host.addresses[0], port) for host in hosts[:1] for port, _ in CLIENT_PORTS)
    )
    for host in hosts[:1]:
        for (port, use), is_open in zip(CLIENT_PORTS, open_ports, strict=True):
            text = f"{host.name}:{port} ({use}) " + ("answers" if is_open else "does not answer")
            findings.append(Finding("port", "ok" if is_open else "note", text))
    return findings, shown


def _smtp_findings(host: Host, address: str, port: int, answer: Answer) -> Iterator[Finding]:
    where = f"{host.name} [{address}]:{port}"
    if answer.problem:
        advice = "let port 25 in through the firewall, and listen there: listen.smtp"
        yield Finding("port", "error", f"{where}: {answer.problem}", advice)
        return
    if not answer.starttls:
        yield Finding("port", "warning", f"{where} offers no STARTTLS: mail comes in clear", "[tls] of mailraft.toml")
        return
    problem = certificate_problem(answer.chain[0], host.name)
    if problem:
        yield Finding("port", "warning", f"{where}: its certificate {problem}", "tls.server_certificate, server_key")
    else:
        yield Finding("port", "ok", f"{where} answers, with TLS and a certificate for its name")


def certificate_problem(certificate: bytes, host: str) -> str:
    """Why a certificate (DER) does not do for a host; "" if its name and time are right. Who signed it is not asked."""
    parsed = x509.load_der_x509_certificate(certificate)
    left = parsed.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    if left.total_seconds() < 0:
        return f"expired on {parsed.not_valid_after_utc:%Y-%m-%d}"
    try:
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        known = [name.lower() for name in names.get_values_for_type(x509.DNSName)]
    except x509.ExtensionNotFound:
        known = []
    wanted = host.rstrip(".").lower()
    if wanted not in known and "*." + wanted.partition(".")[2] not in known:
        return f"is for {', '.join(known) or 'no name'}, not for {wanted}"
    return f"expires in {left.days} days" if left.days < EXPIRY_WARNING_DAYS else ""


def spki_sha256(certificate: bytes) -> str:
    """What a TLSA record of 3 1 1 holds (RFC 6698 2.1, RFC 7671 5.1)."""
    public = x509.load_der_x509_certificate(certificate).public_key()
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


async def mistrusted(hosts: list[Host], smtp_port: int, trust: ssl.SSLContext) -> dict[str, str]:
    """By host name and address, why a sender that obeys MTA-STS does not trust it (RFC 8461 4.2); nothing of those that
    do not even answer.
    """
    wanted = [(host, address) for host in hosts for address in host.addresses]
    answers = await asyncio.gather(
        *(asyncio.to_thread(_ask, address, smtp_port, host.name, trust) for host, address in wanted)
    )
    return {
        f"{host.name} [{address}]": answer.problem or "it offers no STARTTLS"
        for (host, address), answer in zip(wanted, answers, strict=True)
        if bool(answer.problem) == answer.starttls  # TLS failed, or nothing is wrong but that there is none
    }


def _ask(address: str, port: int, name: str, trust: ssl.SSLContext | None = None) -> Answer:
    """One SMTP session as far as STARTTLS, verified where `trust` is given. In a thread: smtplib blocks."""
    try:
        with smtplib.SMTP(timeout=ANSWER_TIMEOUT_S) as client:
            code, banner = client.connect(address, port)
            if code != 220:
                return Answer("", False, (), f"it answers {code} {_text(banner)}")
            client.ehlo("doctor.invalid")
            if not client.has_extn("starttls"):
                return Answer(_text(banner), False)
            client._host = name.rstrip(".")  # type: ignore[attr-defined]  # what smtplib gives as SNI
            client.starttls(context=trust or unverified_context())  # without trust it is looked at and no more
            assert isinstance(client.sock, ssl.SSLSocket)
            return Answer(_text(banner), True, tuple(chain_of(client.sock)))
    except ssl.SSLCertVerificationError as error:
        return Answer("", True, (), error.verify_message)
    except ssl.SSLError as error:
        return Answer("", True, (), f"TLS fails: {error.reason or error}")
    except (OSError, smtplib.SMTPException) as error:
        return Answer("", False, (), f"{type(error).__name__}: {error}")


def _text(banner: bytes | str) -> str:
    shown = banner.decode("utf-8", "replace") if isinstance(banner, bytes) else banner
    return "".join(c if c.isprintable() else "?" for c in shown[:200])


def _is_open(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=ANSWER_TIMEOUT_S / 2).close()
    except OSError:
        return False
    return True
