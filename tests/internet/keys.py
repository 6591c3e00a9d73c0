"""Certificates of the hosts on the internet of the tests: signed by themselves, and proved by DANE."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.internet.internet import run


def make_certificate(folder: Path, host: str) -> None:
    """Writes host.pem and host.key."""
    names = ("-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}")
    files = ("-keyout", str(folder / "host.key"), "-out", str(folder / "host.pem"))
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "60", *names, *files)


def spki_sha256(certificate: Path) -> str:
    """What a TLSA record 3 1 1 of it holds."""
    public = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
