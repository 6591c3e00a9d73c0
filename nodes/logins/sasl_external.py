"""EXTERNAL (RFC 4422 A): the client's certificate has said already who it is; which of its addresses logs in.

A certificate counts for an account when an authority that is trusted for the account's tenant (or for all tenants) has
issued it directly and it names the account's address (rfc822Name). The handshake has proved the key; dates, issuer and
use are judged again at each log-in, since a resumed session may be older than what is trusted now.
"""

from __future__ import annotations

import datetime
import ssl
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID

from actors import certificates
from actors.certificates import CERTIFICATES
from actors.directory import tenant_with
from eventlog.record import NO_TENANT
from nodes.logins.sasl import Certified, Challenge, Done, Failed, Malformed, Step, text

if TYPE_CHECKING:
    from nodes.services import Services

MOST_ADDRESSES = 10


class External:
    """addresses: those that the certificate may log in as."""

    def __init__(self, addresses: tuple[str, ...]) -> None:
        self._addresses = addresses

    def step(self, response: bytes | None) -> Step:
        if response is None:
            return Challenge(b"")
        try:
            wanted = text(response)
        except Malformed as error:
            return Failed(str(error))
        if wanted:
            return Done(Certified(wanted))
        if len(self._addresses) != 1:
            return Failed("the certificate is for several accounts, and the client names none")
        return Done(Certified(self._addresses[0]))


def addresses_of(services: Services, connection: ssl.SSLObject | None) -> tuple[str, ...]:
    """The addresses that the client's certificate may log in as now; none in clear, or without a certificate."""
    der = connection.getpeercert(binary_form=True) if connection is not None else None
    if not der:
        return ()
    now = datetime.datetime.now(datetime.UTC)
    try:
        certificate = x509.load_der_x509_certificate(der)
        in_time = certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc
        return _trusted(services, certificate, now) if in_time and _is_for_clients(certificate) else ()
    except ValueError:
        return ()


def _trusted(services: Services, certificate: x509.Certificate, now: datetime.datetime) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    found = []
    with services.log.snapshot() as snapshot:
        view = snapshot.view(CERTIFICATES)
        for address in names.get_values_for_type(x509.RFC822Name)[:MOST_ADDRESSES]:
            tenant = tenant_with(snapshot, address.rpartition("@")[2])
            scopes = (NO_TENANT, tenant) if tenant is not None else ()
            pem = "".join(one.pem for scope in scopes for one in certificates.client_authorities(view, scope))
            if pem and _is_issued_by(certificate, pem, now):
                found.append(address)
    return tuple(found)


def _is_issued_by(certificate: x509.Certificate, pem: str, now: datetime.datetime) -> bool:
    for authority in x509.load_pem_x509_certificates(pem.encode()):
        if authority.not_valid_before_utc <= now < authority.not_valid_after_utc:
            try:
                certificate.verify_directly_issued_by(authority)
            except (ValueError, TypeError, InvalidSignature):
                continue
            return True
    return False


def _is_for_clients(certificate: x509.Certificate) -> bool:
    """RFC 5280 4.2.1.12: one that says nothing of its uses is for all."""
    try:
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return ExtendedKeyUsageOID.CLIENT_AUTH in uses
