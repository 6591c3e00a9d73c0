"""OCSP (RFC 6960, in the profile of RFC 5019): asking an authority about a certificate, and judging what it says.

The answer is for others to see, so it is checked as strictly as a client would: signed by the issuer or by whom the
issuer names for it, about this very certificate, of now, and good.
"""

from __future__ import annotations

import datetime
from typing import NamedTuple

import aiohttp
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

MOST_RESPONSE_BYTES = 64 * 1024
FETCH_S = 10.0
CLOCKS = datetime.timedelta(minutes=5)  # how far a responder's may be ahead of ours
LONGEST = datetime.timedelta(days=1)  # that a response without an end is kept


class BadResponse(Exception):
    """The authority's answer can not be shown to anybody; the text says why."""


class Answer(NamedTuple):
    """A response (DER) that may be shown until `expires`."""

    der: bytes
    produced: datetime.datetime
    expires: datetime.datetime

    def refresh_at(self) -> datetime.datetime:
        """At half its life."""
        return self.produced + (self.expires - self.produced) / 2


async def ask(url: str, certificate: x509.Certificate, issuer: x509.Certificate) -> bytes:
    """What the responder says, unchecked. Raises BadResponse, OSError, TimeoutError, aiohttp.ClientError."""
    request = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, hashes.SHA1()).build()  # noqa: S303 -- RFC 5019 2.1.1
    headers = {"Content-Type": "application/ocsp-request", "Accept": "application/ocsp-response"}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=FETCH_S), trust_env=False) as session:
        data = request.public_bytes(Encoding.DER)
        async with session.post(url, data=data, headers=headers, allow_redirects=False) as response:
            if response.status != 200:
                raise BadResponse(f"the responder answered {response.status}")
            found = await response.content.read(MOST_RESPONSE_BYTES + 1)
            while len(found) <= MOST_RESPONSE_BYTES and (more := await response.content.read(MOST_RESPONSE_BYTES)):
                found += more
    if len(found) > MOST_RESPONSE_BYTES:
        raise BadResponse(f"the response is larger than {MOST_RESPONSE_BYTES} bytes")
    return found


def judge(der: bytes, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime.datetime) -> Answer:
    """Raises BadResponse where a client would not take it, or where the certificate is not good."""
    try:
        response = ocsp.load_der_ocsp_response(der)
        if response.response_status != ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise BadResponse(f"the responder said {response.response_status.name.lower().replace('_', ' ')}")
        found = next((one for one in response.responses if _is_about(one, certificate, issuer)), None)
        if found is None:
            raise BadResponse("the response is about another certificate")
        _check_signature(response, issuer, now)
    except ValueError as error:
        raise BadResponse(f"the response can not be read: {error}") from None
    if found.certificate_status != ocsp.OCSPCertStatus.GOOD:
        raise BadResponse(f"the authority says that the certificate is {found.certificate_status.name.lower()}")
    expires = found.next_update_utc or found.this_update_utc + LONGEST
    if found.this_update_utc > now + CLOCKS:
        raise BadResponse("the response is of the future")
    if expires <= now:
        raise BadResponse("the response is stale")
    return Answer(der, found.this_update_utc, expires)


def _is_about(one: ocsp.OCSPSingleResponse, certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    if one.serial_number != certificate.serial_number:
        return False
    hashed = hashes.Hash(one.hash_algorithm)
    hashed.update(issuer.subject.public_bytes())
    return hashed.finalize() == one.issuer_name_hash


def _check_signature(response: ocsp.OCSPResponse, issuer: x509.Certificate, now: datetime.datetime) -> None:
    for signer in (issuer, *(one for one in response.certificates if _may_sign(one, issuer, now))):
        if _signed_by(response, signer):
            return
    raise BadResponse("the response is not signed by the issuer, nor by whom it names for that")


def _may_sign(one: x509.Certificate, issuer: x509.Certificate, now: datetime.datetime) -> bool:
    """RFC 6960 4.2.2.2: issued by the same authority, for signing responses."""
    try:
        uses = one.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        one.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    in_time = one.not_valid_before_utc <= now < one.not_valid_after_utc
    return in_time and ExtendedKeyUsageOID.OCSP_SIGNING in uses


def _signed_by(response: ocsp.OCSPResponse, signer: x509.Certificate) -> bool:
    key, algorithm = signer.public_key(), response.signature_hash_algorithm
    signature, data = response.signature, response.tbs_response_bytes
    try:
        match key:
            case rsa.RSAPublicKey() if algorithm is not None:
                key.verify(signature, data, padding.PKCS1v15(), algorithm)
            case ec.EllipticCurvePublicKey() if algorithm is not None:
                key.verify(signature, data, ec.ECDSA(algorithm))
            case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
                key.verify(signature, data)
            case _:
                return False
    except InvalidSignature:
        return False
    return True
