"""Certificates for servers in tests: right ones, and wrong in each way that matters."""

from __future__ import annotations

import datetime
import hashlib
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


class Pair(NamedTuple):
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def public_key(self) -> bytes:
        return self.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def tlsa(self, usage: int, selector: int, matching: int) -> str:
        """The data of a TLSA record for it."""
        selected = self.public_key if selector else self.der
        hashed = {0: selected, 1: hashlib.sha256(selected).digest(), 2: hashlib.sha512(selected).digest()}[matching]
        return f"{usage} {selector} {matching} {hashed.hex()}"


def authority(name: str = "Test CA", issuer: Pair | None = None) -> Pair:
    """A CA, or one below another."""
    return _signed(name, (), issuer, ca=True)


def server(
    *names: str,
    issuer: Pair | None = None,
    expired: bool = False,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
    extensions: Sequence[x509.ExtensionType] = (),
    days: int = 30,
    begins: datetime.timedelta = -30 * DAY,
) -> Pair:
    """A certificate for host names; self-signed without an issuer. `begins`: from now on, when it is valid."""
    return _signed(
        names[0], names, issuer, ca=False, expired=expired, begins=begins, key=key, extensions=extensions, days=days
    )


def client(address: str, issuer: Pair) -> Pair:
    """A person's certificate, with an e-mail address."""
    named = x509.SubjectAlternativeName([x509.RFC822Name(address)])
    return _signed(address, (), issuer, ca=False, extensions=(named,))


def context(folder: Path, pair: Pair, *chain: Pair) -> ssl.SSLContext:
    """A server's side with this certificate, and what it sends besides."""
    file = folder / f"{pair.certificate.serial_number}.pem"
    file.write_bytes(pair.key_pem + pair.pem + b"".join(one.pem for one in chain))
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(file)
    return made


def _signed(
    name: str,
    names: tuple[str, ...],
    issuer: Pair | None,
    *,
    ca: bool,
    expired: bool = False,
    begins: datetime.timedelta = -30 * DAY,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
    extensions: Sequence[x509.ExtensionType] = (),
    days: int = 30,
) -> Pair:
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now - DAY if expired else now + days * DAY)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), critical=False
        )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return Pair(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)
