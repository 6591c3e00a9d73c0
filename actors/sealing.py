"""Secrets on the log are sealed: AES-256-GCM under the cluster's key, bound to what they belong to.

The key lives in a file beside the node's configuration, never in the log; a sealed secret copied onto another account
does not open. The nonce is drawn here, before the log, so replay sees bytes only.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
NONCE_BYTES = 12
_FORMAT = b"\x01"


class SealBroken(Exception):
    """Sealed with another key, for another place, or altered."""


def seal(key: bytes, plaintext: bytes, associated: bytes) -> bytes:
    """`plaintext` sealed under the 32-byte `key`; it opens only with the same `associated` bytes."""
    nonce = os.urandom(NONCE_BYTES)
    return _FORMAT + nonce + AESGCM(key).encrypt(nonce, plaintext, associated)


def unseal(key: bytes, sealed: bytes, associated: bytes) -> bytes:
    """What was sealed. Raises SealBroken."""
    if sealed[:1] != _FORMAT:
        raise SealBroken("unknown format of a sealed secret")
    try:
        return AESGCM(key).decrypt(sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :], associated)
    except InvalidTag as error:
        raise SealBroken("the secret does not open with this cluster's key") from error
