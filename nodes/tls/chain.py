"""Certificate chains and their keys as an operator gives them: read, checked, and what is wrong said in one sentence.

A chain that passes here is one that libssl takes and that a client can follow: leaf first, each signed by the next, up
to an authority that the client has. Nothing is opened and no clock is asked here: bytes and the time come in.
"""

from __future__ import annotations

import datetime
import functools
import itertools
import ssl
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import AuthorityInformationAccessOID

from actors.certificates import covers_name

LEAST_RSA_BITS = 2048
MOST_CERTIFICATES = 10
MOST_PEM_BYTES = 128 * 1024
CURVES = ("secp256r1", "secp384r1", "secp521r1")
WEAK_HASHES = ("md5", "sha1")

ServerKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey


class BadCertificate(Exception):
    """The text says what is wrong with the chain or its key, `hint` what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Expired(BadCertificate):
    """Everything else is right, and was until `last_valid`."""

    def __init__(self, message: str, last_valid: datetime.datetime, hint: str = "a new one") -> None:
        super().__init__(message, hint)
        self.last_valid = last_valid


class Chain(NamedTuple):
    """A checked chain, leaf first, and its key."""

    certificates: tuple[x509.Certificate, ...]
    key: ServerKey

    @property
    def leaf(self) -> x509.Certificate:
        return self.certificates[0]

    @property
    def issuer(self) -> x509.Certificate | None:
        """Who signed the leaf, where the chain has it."""
        return self.certificates[1] if len(self.certificates) > 1 else None

    @property
    def fingerprint(self) -> bytes:
        return self.leaf.fingerprint(hashes.SHA256())

    @property
    def names(self) -> tuple[str, ...]:
        return names_of(self.leaf)

    @property
    def not_after(self) -> datetime.datetime:
        return self.leaf.not_valid_after_utc

    def chain_pem(self) -> bytes:
        """What a server shows: without a root, which a client has or does not trust, unless it has issued the leaf
        itself: responses to staple are judged by that."""
        shown = self.certificates[:2] + tuple(one for one in self.certificates[2:] if not _is_root(one))
        return b"".join(one.public_bytes(Encoding.PEM) for one in shown)

    def key_pem(self) -> bytes:
        kind, clear = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        return self.key.private_bytes(Encoding.PEM, kind, clear)


def read_chain(
    chain_pem: bytes,
    key_pem: bytes,
    now: datetime.datetime,
    *,
    names: Iterable[str] = (),
    authorities: Sequence[x509.Certificate] = (),
    known_issuer: bool = False,
) -> Chain:
    """A chain and its key, checked. `names` must be covered; `authorities` are trusted beside the system's.

    known_issuer: the chain comes from the authority itself, which knows where it ends.

    Raises BadCertificate.
    """
    certificates, key = _certificates(chain_pem), _key(key_pem)
    leaf = certificates[0]
    if _public(key.public_key()) != _public(leaf.public_key()):
        raise BadCertificate("the key is not the one of the certificate", "the key that it was ordered with")
    _check_strength(leaf)
    _check_order(certificates)
    if not known_issuer:
        _check_end(certificates[-1], authorities)
    for name in names:
        if not any(covers_name(pattern, name) for pattern in names_of(leaf)):
            shown = ", ".join(names_of(leaf)) or "no host name"
            raise BadCertificate(f"the certificate does not cover {name}: it is for {shown}", "one that names it")
    _check_dates(certificates, now)
    return Chain(certificates, key)


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The host names that it is for, lower case, in its order; the subject's common name counts for nobody."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(dict.fromkeys(name.lower() for name in found.get_values_for_type(x509.DNSName)))


def must_staple(certificate: x509.Certificate) -> bool:
    """Whether clients are told to insist on a stapled response (RFC 7633)."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.TLSFeature).value
    except x509.ExtensionNotFound:
        return False
    return x509.TLSFeatureType.status_request in found


def ocsp_url(certificate: x509.Certificate) -> str | None:
    """Where its authority says whether it was revoked; None where it does not."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except x509.ExtensionNotFound:
        return None
    urls = [
        one.access_location.value
        for one in found
        if one.access_method == AuthorityInformationAccessOID.OCSP
        and isinstance(one.access_location, x509.UniformResourceIdentifier)
    ]
    return next((url for url in urls if url.startswith("http://")), None)


def read_authorities(pem: bytes) -> tuple[x509.Certificate, ...]:
    """Certificates of authorities. Raises BadCertificate."""
    certificates = _certificates(pem)
    for one in certificates:
        if not _is_authority(one):
            raise BadCertificate(f"{_shown(one)} is no authority's certificate", "the one that signs the others")
    return certificates


def _certificates(pem: bytes) -> tuple[x509.Certificate, ...]:
    if len(pem) > MOST_PEM_BYTES:
        raise BadCertificate(f"the chain is larger than {MOST_PEM_BYTES} bytes", "the leaf and its intermediates only")
    try:
        found = tuple(x509.load_pem_x509_certificates(pem))
        for one in found:
            _ = one.extensions  # parsed when first asked for
    except ValueError:
        found = ()
    if not found:
        raise BadCertificate("there is no certificate in PEM form", "-----BEGIN CERTIFICATE-----, the leaf first")
    if len(found) > MOST_CERTIFICATES:
        raise BadCertificate(f"a chain has at most {MOST_CERTIFICATES} certificates", "the leaf and its intermediates")
    return found


def _key(pem: bytes) -> ServerKey:
    if len(pem) > MOST_PEM_BYTES:
        raise BadCertificate("the key can not be read", "one private key in PEM form")
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except TypeError:
        hint = "openssl pkey -in KEY -out KEY.clear, and a file mode of 0600"
        raise BadCertificate("the key has a password", hint) from None
    except (ValueError, UnsupportedAlgorithm):
        raise BadCertificate("there is no private key in PEM form", "-----BEGIN PRIVATE KEY-----") from None
    if not isinstance(key, ServerKey):
        raise BadCertificate("the key is of a kind that TLS servers do not use", "RSA, P-256, P-384 or Ed25519")
    return key


def _check_strength(leaf: x509.Certificate) -> None:
    key = leaf.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < LEAST_RSA_BITS:
        raise BadCertificate(f"the key is weak: RSA of {key.key_size} bits", f"at least {LEAST_RSA_BITS}, or P-256")
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name not in CURVES:
        raise BadCertificate(f"the key is weak: its curve is {key.curve.name}", "P-256, P-384 or P-521")
    algorithm = leaf.signature_hash_algorithm
    if algorithm is not None and algorithm.name in WEAK_HASHES:
        raise BadCertificate(f"the certificate is signed with {algorithm.name.upper()}, which is broken", "SHA-256")


def _check_dates(certificates: Sequence[x509.Certificate], now: datetime.datetime) -> None:
    for one in certificates:
        if one.not_valid_after_utc <= now:
            when = _time(one.not_valid_after_utc)
            earliest = min(each.not_valid_after_utc for each in certificates)
            raise Expired(f"{_shown(one)} has expired at {when}", earliest - datetime.timedelta(seconds=1))
        if one.not_valid_before_utc > now:
            text = f"{_shown(one)} is not valid before {_time(one.not_valid_before_utc)}"
            hint = f"another one, or this machine's clock, which says {_time(now)}"
            raise BadCertificate(text, hint)


def _check_order(certificates: Sequence[x509.Certificate]) -> None:
    for one, issuer in itertools.pairwise(certificates):
        if not _issued(one, issuer):
            text = f"the chain is broken: {_shown(one)} was not issued by what stands behind it, {_shown(issuer)}"
            raise BadCertificate(text, "the leaf first, each followed by the one that signed it")


def _check_end(last: x509.Certificate, authorities: Sequence[x509.Certificate]) -> None:
    if _is_root(last):
        return
    if any(_issued(last, one) for one in authorities) or any(_issued(last, one) for one in _trusted(last.issuer)):
        return
    issuer = last.issuer.rfc4514_string()[:200]
    text = f"an intermediate certificate is missing: {_shown(last)} was issued by {issuer}, which is not in the chain"
    raise BadCertificate(text, "append the certificate of that issuer; of a private authority, its root too")


def _issued(one: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        one.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _is_root(one: x509.Certificate) -> bool:
    return one.issuer == one.subject and _issued(one, one)


def _is_authority(one: x509.Certificate) -> bool:
    try:
        return one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _trusted(name: x509.Name) -> list[x509.Certificate]:
    """Authorities of the system with this name."""
    return [one for one in _system_authorities() if one.subject == name]


@functools.cache
def _system_authorities() -> tuple[x509.Certificate, ...]:
    path = ssl.get_default_verify_paths().cafile
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)  # of old roots' serial numbers
        return _read_authorities(path)


def _read_authorities(path: str | None) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(x509.load_pem_x509_certificates(Path(path).read_bytes())) if path else ()
    except (OSError, ValueError):
        return ()


def _time(moment: datetime.datetime) -> str:
    """In full, as a clock may be an hour off."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _public(key: object) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined,no-any-return]


def _shown(one: x509.Certificate) -> str:
    names = names_of(one)
    return f"the certificate of {names[0] if names else one.subject.rfc4514_string()[:200] or 'nobody'}"
