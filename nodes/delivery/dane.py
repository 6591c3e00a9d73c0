"""DANE for SMTP (RFC 7672): certificates that a secure DNS answer vouches for, with no other authority.

Usage 3 names the server's own certificate or key, whatever else stands in it; usage 2 names an authority in the chain
that the server sent, and then names and dates count. Usages 0 and 1 are not used with SMTP (3.1.3).
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Sequence
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from nodes.delivery.wire import TlsFailed
from nodes.resolver import Tlsa

TRUST_ANCHOR, END_ENTITY = 2, 3
_HASHES = {1: (hashlib.sha256, 32), 2: (hashlib.sha512, 64)}
_DER = 2  # _ssl.ENCODING_DER


def usable(records: Sequence[Tlsa]) -> tuple[Tlsa, ...]:
    """Those that one can check against (RFC 7672 2.1.1)."""
    return tuple(one for one in records if not why_unusable(one))


def why_unusable(record: Tlsa) -> str:
    """Why nothing can be checked against a record with SMTP; "" if something can."""
    if record.usage not in (TRUST_ANCHOR, END_ENTITY):
        return f"usage {record.usage} is not for SMTP (RFC 7672 3.1.3)"
    if record.selector not in (0, 1):
        return f"there is no selector {record.selector} (RFC 6698 2.1.2)"
    if record.matching and record.matching not in _HASHES:
        return f"there is no matching type {record.matching} (RFC 6698 2.1.3)"
    wanted = _HASHES[record.matching][1] if record.matching else 0
    if not record.data or (wanted and len(record.data) != wanted):
        return f"{len(record.data)} bytes are no data of matching type {record.matching}"
    return ""


def check(records: Sequence[Tlsa], chain: Sequence[bytes], names: Sequence[str]) -> None:
    """That the chain (DER, the server's own certificate first) fits one of the records. Raises TlsFailed."""
    if not chain:
        raise TlsFailed("DANE: the server showed no certificate")
    if any(one.usage == END_ENTITY and _matches(one, chain[0]) for one in records):
        return
    anchors = [one for one in records if one.usage == TRUST_ANCHOR]
    reasons = [_checked_to_anchor(anchor, chain, names) for anchor in anchors]
    if None not in reasons:
        raise TlsFailed(f"DANE: {next(iter(reasons), None) or 'no TLSA record fits the certificate'}")


def chain_of(secure: ssl.SSLObject | ssl.SSLSocket) -> list[bytes]:
    """The certificates that the server sent, DER, its own first."""
    # public from Python 3.13 on; before, the object behind has it
    inner: Any = secure if hasattr(secure, "get_unverified_chain") else secure._sslobj  # type: ignore[union-attr]
    found = inner.get_unverified_chain() or []
    return [one if isinstance(one, bytes) else one.public_bytes(_DER) for one in found]


def _matches(record: Tlsa, certificate: bytes) -> bool:
    selected = certificate
    if record.selector == 1:
        try:
            key = x509.load_der_x509_certificate(certificate).public_key()
        except ValueError:
            return False
        selected = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return record.data == (_HASHES[record.matching][0](selected).digest() if record.matching else selected)


def _checked_to_anchor(anchor: Tlsa, chain: Sequence[bytes], names: Sequence[str]) -> str | None:
    """Why the chain does not lead to this anchor under one of the names; None if it does."""
    try:
        certificates = [x509.load_der_x509_certificate(one) for one in chain]
        found = [one for one, der in zip(certificates, chain, strict=True) if _matches(anchor, der)]
        if not found and (anchor.selector, anchor.matching) == (0, 0):
            found = [x509.load_der_x509_certificate(anchor.data)]
    except ValueError:
        return "a certificate can not be read"
    reason = "no TLSA record fits the certificate"
    for root in found:
        for name in names:
            try:
                _verifier(root, name).verify(certificates[0], certificates[1:])
            except (VerificationError, ValueError) as error:
                reason = str(error)
            else:
                return None
    return reason


def _verifier(root: x509.Certificate, name: str) -> Any:
    """The web's rules on extensions do not bind here (RFC 7671 5.2): signatures, dates and the name count."""
    ca = ExtensionPolicy.permit_all().require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
    ee = ExtensionPolicy.permit_all().require_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
    policies = PolicyBuilder().store(Store([root])).extension_policies(ca_policy=ca, ee_policy=ee)
    return policies.build_server_verifier(x509.DNSName(name))
