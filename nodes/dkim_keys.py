"""DKIM key pairs: made here, shown to people as DNS records (RFC 6376 3.6.1, RFC 8463 3), sealed for the log.

A private key leaves this module sealed under the cluster's key and bound to its domain and selector, never otherwise.
"""

from __future__ import annotations

import base64
import datetime
from collections.abc import Callable, Collection
from functools import lru_cache

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from actors.dkim import Algorithm, Key, NewKey

RSA_BITS = (1024, 2048, 4096)
ALGORITHMS: tuple[Algorithm, ...] = ("rsa-sha256", "ed25519-sha256")
KEY_TYPES: dict[str, str] = {"rsa-sha256": "rsa", "ed25519-sha256": "ed25519"}
TXT_BYTES = 255  # of one character-string (RFC 1035 3.3.14)

Seal = Callable[[bytes, bytes], bytes]  # secret and place -> sealed


def make(domain: str, selector: str, algorithm: Algorithm, rsa_bits: int, seal: Seal) -> NewKey:
    """A new key pair. An RSA pair takes a second or so: not on the event loop."""
    if algorithm == "rsa-sha256":
        pair = rsa.generate_private_key(65537, rsa_bits)
        private = pair.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        public = pair.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    else:
        signer = ed25519.Ed25519PrivateKey.generate()
        private = base64.b64encode(signer.private_bytes_raw())
        public = signer.public_key().public_bytes_raw()
    return NewKey(selector, algorithm, base64.b64encode(public).decode(), seal(private, place(domain, selector)))


def place(domain: str, selector: str) -> bytes:
    """What a sealed private key is bound to."""
    return f"dkim/{domain}/{selector}".encode()


def free_selector(algorithm: Algorithm, day: datetime.date, taken: Collection[str]) -> str:
    """A selector that tells when the key was made: 20261121-rsa, and 20261121-rsa-2 for the day's second."""
    name = f"{day:%Y%m%d}-{KEY_TYPES[algorithm]}"
    candidates = (name if number == 1 else f"{name}-{number}" for number in range(1, len(taken) + 2))
    return next(one for one in candidates if one not in taken)


def record_name(domain: str, selector: str) -> str:
    """Where its record stands, with the final dot."""
    return f"{selector}._domainkey.{domain}."


def record_value(algorithm: str, public: str) -> str:
    """The value of its TXT record. `t=s`: the domain alone, not its subdomains, may stand in i= (RFC 6376 3.6.1)."""
    return f"v=DKIM1; k={KEY_TYPES[algorithm]}; t=s; p={public}"


def zone_line(domain: str, key: Key) -> str:
    """The record as a line of a zone file."""
    value = record_value(key.algorithm, key.public)
    parts = [value[at : at + TXT_BYTES] for at in range(0, len(value), TXT_BYTES)]
    return f"{record_name(domain, key.selector)} 3600 IN TXT " + " ".join(f'"{part}"' for part in parts)


@lru_cache(maxsize=256)
def tags(record: bytes) -> dict[str, str] | None:
    """The tags of a key record (RFC 6376 3.2); None for one that is malformed."""
    found: dict[str, str] = {}
    for part in record.decode("utf-8", "replace").split(";"):
        name, equals, value = part.partition("=")
        if not part.strip():
            continue
        if not equals or name.strip() in found:
            return None
        found[name.strip()] = "".join(value.split())
    return found


def shows(record: bytes, key: Key) -> bool:
    """Whether a TXT record is that of this key."""
    found = tags(record)
    return (
        found is not None
        and found.get("v", "DKIM1") == "DKIM1"
        and found.get("k", "rsa") == KEY_TYPES[key.algorithm]
        and found.get("p") == key.public
    )
