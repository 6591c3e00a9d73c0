"""The cell's own CA: how it comes to be, and the certificates that it signs.

A peer is who its certificate says: a URI in the subject's alternative names, mailraft://CLUSTER/node/NAME,
mailraft://CLUSTER/admin/NAME or mailraft://CLUSTER/follower/NAME. Keys are written with mode 0600 and never leave their
files.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nodes.files import replace_pair, write_atomically

CA_DAYS = 3650
CERTIFICATE_DAYS = 397
BACKDATED = datetime.timedelta(minutes=5)  # clocks differ


class Authority(NamedTuple):
    """A certificate authority that can sign; `others` are trusted beside it while one takes the place of another."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    others: tuple[x509.Certificate, ...] = ()


def create_authority(folder: Path, cluster_id: str) -> Authority:
    """A new CA for a cell, written to folder/ca.pem and folder/ca.key."""
    made = new_authority(cluster_id)
    _write(folder / "ca.pem", folder / "ca.key", made.certificate, made.key)
    return made


def new_authority(cluster_id: str) -> Authority:
    """A new CA for a cell, which is nowhere yet."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"mailraft cell {cluster_id}")])
    builder = _builder(name, name, key.public_key(), CA_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
    return Authority(builder.sign(key, hashes.SHA256()), key)


def is_authority(certificate: x509.Certificate, cluster_id: str) -> bool:
    """Whether create_authority() may have made it for this cell."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        certificate.verify_directly_issued_by(certificate)
    except (x509.ExtensionNotFound, ValueError, TypeError, InvalidSignature):
        return False
    names = [one.value for one in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    now = datetime.datetime.now(datetime.UTC)
    lasts = certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc
    curve = isinstance(key := certificate.public_key(), ec.EllipticCurvePublicKey) and key.curve.name == "secp256r1"
    return constraints.ca and usage.key_cert_sign and lasts and curve and names == [f"mailraft cell {cluster_id}"]


def load_authority(folder: Path) -> Authority:
    """The CA that create_authority() wrote, or that took its place. Raises OSError or ValueError."""
    key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{folder / 'ca.key'}: not an elliptic curve key")
    certificate, *others = x509.load_pem_x509_certificates((folder / "ca.pem").read_bytes())
    if certificate.public_key() != key.public_key():
        raise ValueError(
            "ca.key is not the key of ca.pem: the authority was rotated from another machine, or not to the end"
        )
    return Authority(certificate, key, tuple(others))


def issue_node(authority: Authority, folder: Path, cluster_id: str, name: str, hosts: Sequence[str]) -> None:
    """A certificate for the node `name`, reached as `hosts`, to folder/node.pem and node.key; ca.pem beside them."""
    names = node_names(cluster_id, name, hosts)
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    _issue(authority, folder, "node", name, names, uses)
    write_atomically(folder / "ca.pem", b"".join(map(pem_of, (authority.certificate, *authority.others))))


def node_names(cluster_id: str, name: str, hosts: Sequence[str]) -> list[x509.GeneralName]:
    """What a node's certificate says of it: who it is, and the hosts that it is reached as."""
    return [x509.UniformResourceIdentifier(node_uri(cluster_id, name)), *map(_host, dict.fromkeys(hosts))]


def issue_admin(authority: Authority, folder: Path, cluster_id: str, name: str = "operator") -> None:
    """A certificate that the admin API accepts, to folder/admin.pem and admin.key."""
    names = [x509.UniformResourceIdentifier(admin_uri(cluster_id, name))]
    _issue(authority, folder, "admin", name, names, [ExtendedKeyUsageOID.CLIENT_AUTH])


def follower_uri(cluster_id: str, name: str) -> str:
    """The name that a follower's certificate carries."""
    return f"mailraft://{cluster_id}/follower/{name}"


def admin_uri(cluster_id: str, name: str) -> str:
    """The name that an administrator's certificate carries."""
    return f"mailraft://{cluster_id}/admin/{name}"


def node_uri(cluster_id: str, name: str) -> str:
    """The name that a node's certificate carries."""
    return f"mailraft://{cluster_id}/node/{name}"


def expired(certificate: str, now: datetime.datetime) -> str | None:
    """The day on which a certificate (PEM) has expired; None while it is valid."""
    expires = x509.load_pem_x509_certificate(certificate.encode()).not_valid_after_utc
    return expires.date().isoformat() if expires <= now else None


def _issue(
    authority: Authority,
    folder: Path,
    stem: str,
    name: str,
    names: Sequence[x509.GeneralName],
    uses: Sequence[x509.ObjectIdentifier],
) -> None:
    certificate, key = _signed(authority, name, names, uses, CERTIFICATE_DAYS)
    _write(folder / f"{stem}.pem", folder / f"{stem}.key", certificate, key)


def _signed(
    authority: Authority,
    name: str,
    names: Sequence[x509.GeneralName],
    uses: Sequence[x509.ObjectIdentifier],
    days: int,
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    return sign(authority, name, names, uses, days, key.public_key()), key


def sign(
    authority: Authority,
    name: str,
    names: Sequence[x509.GeneralName],
    uses: Sequence[x509.ObjectIdentifier],
    days: int,
    key: ec.EllipticCurvePublicKey,
) -> x509.Certificate:
    """A certificate of the cell's authority for this key."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _builder(subject, authority.certificate.subject, key, days)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = builder.add_extension(issuer, critical=False)
    return builder.sign(authority.key, hashes.SHA256())


def request_of(key: ec.EllipticCurvePrivateKey, name: str) -> bytes:
    """A request (PEM, PKCS #10) that proves that one has the key; what is certified the authority decides."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    built = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return built.public_bytes(serialization.Encoding.PEM)


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=public_key,
        serial_number=x509.random_serial_number(),
        not_valid_before=now - BACKDATED,
        not_valid_after=now + datetime.timedelta(days=days),
    )
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def pem_of(certificate: x509.Certificate) -> bytes:
    """As files hold it."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def _write(
    certificate_path: Path, key_path: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> None:
    replace_pair(certificate_path, pem_of(certificate), key_path, secret_of(key))


def secret_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A key as files of mode 0600 hold it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
