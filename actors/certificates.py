"""Certificates that mail clients are shown, and the authorities whose certificates clients may log in with.

One stream for the cell, so that a server name leads to its certificate in one row; each event is its tenant's, or
nobody's where the names are of several tenants or of none. Keys arrive sealed, bound to the certificate. Of two that
cover a name the one added last is shown. Rows: c + fingerprint a certificate, n + name the fingerprints for it (the
newest last), a + tenant + name of an authority for clients, # how many certificates there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, assert_never

from actors.errors import NameTaken, NoSuchCertificate, NotAllowed, TooLarge
from actors.kind import Command, Fact
from eventlog.record import NO_TENANT, Stamp, stream_id
from eventlog.views import View

CERTIFICATES = stream_id("certificates", "root")
COUNT_KEY = b"#"
MAX_CERTIFICATES = 20_000
MAX_NAMES = 100
MAX_CHAIN_BYTES = 128 * 1024
MAX_AUTHORITIES = 8  # of one tenant

Source = Literal["given", "acme"]


class Stored(NamedTuple):
    """A certificate with its chain (PEM, leaf first) and its sealed key. Times are milliseconds since 1970."""

    fingerprint: bytes  # SHA-256 of the leaf
    tenant: bytes
    names: tuple[str, ...]
    chain: str
    sealed: bytes
    source: Source
    not_before_ms: int
    not_after_ms: int
    added_ms: int


class ClientAuthority(NamedTuple):
    """Whose certificates log clients in to accounts of the tenant (of every tenant, where it is the cell's)."""

    tenant: bytes
    name: str
    pem: str
    added_ms: int


@dataclass(frozen=True, slots=True)
class AddCertificate(Command):
    tenant: bytes
    fingerprint: bytes
    names: tuple[str, ...]
    chain: str
    sealed: bytes
    source: Source
    not_before_ms: int
    not_after_ms: int


@dataclass(frozen=True, slots=True)
class RemoveCertificate(Command):
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class TrustClients(Command):
    tenant: bytes
    name: str
    pem: str


@dataclass(frozen=True, slots=True)
class DistrustClients(Command):
    tenant: bytes
    name: str


@dataclass(frozen=True, slots=True)
class CertificateAdded(Fact):
    SINCE: ClassVar[int] = 3
    tenant: bytes
    fingerprint: bytes
    names: tuple[str, ...]
    chain: str
    sealed: bytes  # b"" of one that is removed and redacted
    source: Source
    not_before_ms: int
    not_after_ms: int
    REDACTABLE: ClassVar[tuple[str, ...]] = ("sealed",)


@dataclass(frozen=True, slots=True)
class CertificateRemoved(Fact):
    SINCE: ClassVar[int] = 3
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class ClientsTrusted(Fact):
    SINCE: ClassVar[int] = 3
    tenant: bytes
    name: str
    pem: str


@dataclass(frozen=True, slots=True)
class ClientsDistrusted(Fact):
    SINCE: ClassVar[int] = 3
    tenant: bytes
    name: str


CertificateCommand = AddCertificate | RemoveCertificate | TrustClients | DistrustClients
CertificateFact = CertificateAdded | CertificateRemoved | ClientsTrusted | ClientsDistrusted


def certificate_place(fingerprint: bytes) -> bytes:
    """What a certificate's key is sealed to."""
    return b"certificate/" + fingerprint


def decide(view: View, command: CertificateCommand) -> tuple[CertificateFact, ...]:
    """Raises NameTaken (another tenant shows that name), NotAllowed, NoSuchCertificate, TooLarge.

    What is there already, and removing an authority that is not trusted, is no event.
    """
    match command:
        case AddCertificate():
            return _add(view, command)
        case RemoveCertificate(fingerprint):
            if view.get(row_key(fingerprint)) is None:
                raise NoSuchCertificate("there is no such certificate")
            return (CertificateRemoved(fingerprint),)
        case TrustClients(tenant, name, pem):
            if len(pem) > MAX_CHAIN_BYTES:
                raise TooLarge(f"at most {MAX_CHAIN_BYTES} bytes")
            others = [one for one in client_authorities(view, tenant) if one.name != name]
            if len(others) >= MAX_AUTHORITIES:
                raise TooLarge(f"at most {MAX_AUTHORITIES} authorities for clients")
            return (ClientsTrusted(tenant, name, pem),)
        case DistrustClients(tenant, name):
            return () if view.get(_authority(tenant, name)) is None else (ClientsDistrusted(tenant, name),)
        case _:
            assert_never(command)


def _add(view: View, command: AddCertificate) -> tuple[CertificateAdded | CertificateRemoved, ...]:
    """Those that it takes the place of, name for name, go with the same record."""
    if view.get(row_key(command.fingerprint)) is not None:
        return ()
    if not command.names:
        raise NotAllowed("a certificate for mail clients names at least one host")
    if len(command.names) > MAX_NAMES or len(command.chain) > MAX_CHAIN_BYTES:
        raise TooLarge(f"at most {MAX_NAMES} names and {MAX_CHAIN_BYTES} bytes of certificates")
    if (view.peek(COUNT_KEY) or 0) >= MAX_CERTIFICATES:
        raise TooLarge(f"at most {MAX_CERTIFICATES} certificates")
    beside: dict[bytes, Stored] = {}
    for name in command.names:
        for fingerprint in view.get(_name(name)) or ():
            beside[fingerprint] = Stored(fingerprint, *view.get(row_key(fingerprint)))
            if beside[fingerprint].tenant not in (command.tenant, NO_TENANT):
                raise NameTaken(f"another tenant has a certificate for {name}")
    replaced = [one for one in beside.values() if one.tenant == command.tenant and set(one.names) <= set(command.names)]
    return (
        CertificateAdded(
            command.tenant,
            command.fingerprint,
            command.names,
            command.chain,
            command.sealed,
            command.source,
            command.not_before_ms,
            command.not_after_ms,
        ),
        *(CertificateRemoved(one.fingerprint) for one in replaced),
    )


def evolve(view: View, fact: CertificateFact, stamp: Stamp) -> None:
    """Total: what is gone stays gone, what is there is left as it is."""
    match fact:
        case CertificateAdded():
            if view.get(row_key(fact.fingerprint)) is None:
                kept = (fact.tenant, fact.names, fact.chain, fact.sealed, fact.source)
                view.put(row_key(fact.fingerprint), (*kept, fact.not_before_ms, fact.not_after_ms, stamp.at_ms))
                view.put(COUNT_KEY, (view.get(COUNT_KEY) or 0) + 1)
                for name in fact.names:
                    view.put(_name(name), (*(view.get(_name(name)) or ()), fact.fingerprint))
        case CertificateRemoved(fingerprint):
            _remove(view, fingerprint)
        case ClientsTrusted(tenant, name, pem):
            view.put(_authority(tenant, name), (tenant, name, pem, stamp.at_ms))
        case ClientsDistrusted(tenant, name):
            if view.get(_authority(tenant, name)) is not None:
                view.delete(_authority(tenant, name))
        case _:
            assert_never(fact)


def _remove(view: View, fingerprint: bytes) -> None:
    row = view.get(row_key(fingerprint))
    if row is None:
        return
    view.delete(row_key(fingerprint))
    view.put(COUNT_KEY, view.get(COUNT_KEY) - 1)
    for name in row[1]:
        left = tuple(one for one in view.get(_name(name)) or () if one != fingerprint)
        if left:
            view.put(_name(name), left)
        else:
            view.delete(_name(name))


def shown_for(view: View, name: str) -> Stored | None:
    """The certificate for a server name (lower case): its own, or a wildcard right above it (RFC 6125 6.4.3)."""
    for key in (_name(name), _name("*." + name.partition(".")[2])):
        fingerprints = view.peek(key)
        if fingerprints:
            return certificate(view, fingerprints[-1])
    return None


def certificate(view: View, fingerprint: bytes) -> Stored | None:
    row = view.peek(row_key(fingerprint))
    return Stored(fingerprint, *row) if row else None


def all_certificates(view: View) -> list[Stored]:
    """Oldest first."""
    return sorted((Stored(key[1:], *row) for key, row in view.range(b"c")), key=lambda one: one.added_ms)


def client_authorities(view: View, tenant: bytes) -> list[ClientAuthority]:
    """Those of one tenant (NO_TENANT: of the cell), by name."""
    return [ClientAuthority(*row) for _, row in view.range(b"a" + tenant)]


def covers_name(pattern: str, name: str) -> bool:
    """Whether a name of a certificate is for this host (RFC 6125 6.4): itself, or a wildcard in place of one label."""
    if pattern.startswith("*."):
        first, dot, rest = name.partition(".")
        return bool(first and dot) and rest == pattern[2:]
    return pattern == name


def tenant_of(view: View, command: CertificateCommand) -> bytes:
    """Whose event a command makes."""
    if isinstance(command, RemoveCertificate):
        found = certificate(view, command.fingerprint)
        return found.tenant if found else NO_TENANT
    return command.tenant


def row_key(fingerprint: bytes) -> bytes:
    """The row that it stands in."""
    return b"c" + fingerprint


def _name(name: str) -> bytes:
    return b"n" + name.encode()


def _authority(tenant: bytes, name: str) -> bytes:
    return b"a" + tenant + name.encode()
