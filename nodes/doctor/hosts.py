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

from nodes.doctor.finding import Finding, Status
from nodes.resolver import NoSuchDomain, NullMx, Resolver, ResolverError

ANSWER_TIMEOUT_S = 8.0
MOST_HOSTS = 10
MOST_ADDRESSES = 8
EXPIRY_WARNING_DAYS = 14
CLIENT_PORTS = ((465, "submission over TLS"), (993, "IMAP over TLS"))


class Host(NamedTuple):
    """One host of the MX answer. `secure`: DNSSEC proved its name and address."""

    name: str
    preference: int
    addresses: tuple[str, ...]
    secure: bool


class Answer(NamedTuple):
    """What an SMTP server said; `certificate` as DER, None where it offers no TLS."""

    banner: str
    starttls: bool
    certificate: bytes | None
    problem: str = ""


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
        hosts.append(Host(one.host, one.preference, tuple(addresses)[:MOST_ADDRESSES], secure))
        shown = ", ".join(hosts[-1].addresses)
        findings.append(Finding("MX", "ok", f"{one.preference} {one.host} ({shown})"))
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


async def ports(hosts: list[Host], smtp_port: int) -> tuple[list[Finding], dict[str, bytes]]:
    """What answers at each address: findings, and by host name the certificate that it showed."""
    wanted = [(host, address) for host in hosts for address in host.addresses]
    answers = await asyncio.gather(
        *(asyncio.to_thread(_ask, address, smtp_port, host.name) for host, address in wanted)
    )
    certificates: dict[str, bytes] = {}
    findings: list[Finding] = []
    for (host, address), answer in zip(wanted, answers, strict=True):
        findings += _smtp_findings(host, address, smtp_port, answer)
        if answer.certificate is not None:
            certificates.setdefault(host.name, answer.certificate)
    open_ports = await asyncio.gather(
        *(asyncio.to_thread(_is_open, host.addresses[0], port) for host in hosts[:1] for port, _ in CLIENT_PORTS)
    )
    for host in hosts[:1]:
        for (port, use), is_open in zip(CLIENT_PORTS, open_ports, strict=True):
            text = f"{host.name}:{port} ({use}) " + ("answers" if is_open else "does not answer")
            findings.append(Finding("port", "ok" if is_open else "note", text))
    return findings, certificates


def _smtp_findings(host: Host, address: str, port: int, answer: Answer) -> Iterator[Finding]:
    where = f"{host.name} [{address}]:{port}"
    if answer.problem:
        advice = "let port 25 in through the firewall, and listen there: listen.smtp"
        yield Finding("port", "error", f"{where}: {answer.problem}", advice)
        return
    if not answer.starttls:
        yield Finding("port", "warning", f"{where} offers no STARTTLS: mail comes in clear", "[tls] of mailraft.toml")
        return
    assert answer.certificate is not None
    problem = certificate_problem(answer.certificate, host.name)
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


def _ask(address: str, port: int, name: str) -> Answer:
    """One SMTP session as far as STARTTLS. In a thread: smtplib blocks."""
    try:
        with smtplib.SMTP(timeout=ANSWER_TIMEOUT_S) as client:
            code, banner = client.connect(address, port)
            if code != 220:
                return Answer("", False, None, f"it answers {code} {_text(banner)}")
            client.ehlo("doctor.invalid")
            if not client.has_extn("starttls"):
                return Answer(_text(banner), False, None)
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it is looked at, not trusted
            client._host = name  # type: ignore[attr-defined]  # what smtplib gives as SNI
            client.starttls(context=context)
            assert isinstance(client.sock, ssl.SSLSocket)
            return Answer(_text(banner), True, client.sock.getpeercert(binary_form=True))
    except (OSError, smtplib.SMTPException) as error:
        return Answer("", False, None, f"{type(error).__name__}: {error}")


def _text(banner: bytes | str) -> str:
    shown = banner.decode("utf-8", "replace") if isinstance(banner, bytes) else banner
    return "".join(c if c.isprintable() else "?" for c in shown[:200])


def _is_open(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=ANSWER_TIMEOUT_S / 2).close()
    except OSError:
        return False
    return True
