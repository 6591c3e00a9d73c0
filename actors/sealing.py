"""Secrets on the log are sealed: AES-256-GCM under the cluster's key, bound to what they belong to.

Keys live in a file beside the node's configuration, never in the log; a sealed secret copied onto another account does
not open. The nonce is drawn here, before the log, so replay sees bytes only. The key rotates: what is sealed under
another than the first key carries that key's id, and what is there is sealed anew (actors/keyring.py).
"""

from __future__ import annotations

import hashlib
import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
NONCE_BYTES = 12
ID_BYTES = 4
_FORMAT = b"\x01"  # under the first key that the cell had
_NAMED = b"\x02"  # then the key's id


class SealBroken(Exception):
    """Sealed with another key, for another place, or altered."""


class NoSuchSealingKey(Exception):
    """This node does not hold the key that is asked for."""


def seal(key: bytes, plaintext: bytes, associated: bytes) -> bytes:
    """`plaintext` sealed under the 32-byte `key`; it opens only with the same `associated` bytes."""
    nonce = os.urandom(NONCE_BYTES)
    return _FORMAT + nonce + AESGCM(key).encrypt(nonce, plaintext, associated)


def unseal(key: bytes, sealed: bytes, associated: bytes) -> bytes:
    """What was sealed. Raises SealBroken."""
    if sealed[:1] != _FORMAT:
        raise SealBroken("unknown format of a sealed secret")
    return _opened(key, sealed[1:], associated)


def key_id(key: bytes) -> bytes:
    """A key's name, which tells nothing of the key."""
    return hashlib.sha256(b"mailraft cluster key\0" + key).digest()[:ID_BYTES]


def key_lines(keys: bytes) -> bytes:
    """Keys that stand one behind the other, as their file has them: one a line, so that one can be taken out."""
    found = (keys[at : at + KEY_BYTES].hex() for at in range(0, len(keys), KEY_BYTES))
    return "".join(f"{one}\n" for one in found).encode()


class KeyRing:
    """The keys of one cell, oldest first, given one behind the other. Sealed is under the first until another is used.

    What is derived from the cell's key must stay the same when it rotates, so it is made of the first key, whatever is
    used for sealing.
    """

    def __init__(self, keys: bytes) -> None:
        """Raises ValueError for what are not one or several whole keys."""
        if not keys or len(keys) % KEY_BYTES:
            raise ValueError(f"a cluster key has {KEY_BYTES} bytes")
        self._keys: dict[bytes, bytes] = {}
        self.add(keys)
        self._root = keys[:KEY_BYTES]
        self.active: bytes | None = None  # an id; None: the first key, and what it seals names no key

    @property
    def ids(self) -> tuple[bytes, ...]:
        """Of all keys, oldest first."""
        return tuple(self._keys)

    @property
    def root_id(self) -> bytes:
        """Of the first key that the cell had, as far as this ring knows."""
        return key_id(self._root)

    def add(self, keys: bytes) -> None:
        """Keys that can be used from now on."""
        for at in range(0, len(keys), KEY_BYTES):
            key = keys[at : at + KEY_BYTES]
            self._keys.setdefault(key_id(key), key)

    def use(self, id_: bytes, sealed_root: bytes) -> None:
        """Seals under this key from now on. Raises NoSuchSealingKey, SealBroken: nothing is changed then."""
        key = self._keys.get(id_)
        if key is None:
            raise NoSuchSealingKey(f"the key {id_.hex()} is not there")
        self._root = _opened(key, sealed_root, id_)
        self.active = id_

    def sealed_root(self, id_: bytes) -> bytes:
        """What `use` wants besides the key. Raises NoSuchSealingKey."""
        key = self._keys.get(id_)
        if key is None:
            raise NoSuchSealingKey(f"the key {id_.hex()} is not there")
        nonce = os.urandom(NONCE_BYTES)
        return nonce + AESGCM(key).encrypt(nonce, self._root, id_)

    def seal(self, plaintext: bytes, associated: bytes) -> bytes:
        """Sealed under the key that is used; opens only with the same `associated` bytes."""
        if self.active is None:
            return seal(self._root, plaintext, associated)
        nonce = os.urandom(NONCE_BYTES)
        bound = AESGCM(self._keys[self.active]).encrypt(nonce, plaintext, associated)
        return _NAMED + self.active + nonce + bound

    def unseal(self, sealed: bytes, associated: bytes) -> bytes:
        """What was sealed under any of the keys. Raises SealBroken."""
        if sealed[:1] != _NAMED:
            return unseal(self._root, sealed, associated)
        id_ = sealed[1 : 1 + ID_BYTES]
        key = self._keys.get(id_)
        if key is None:
            raise SealBroken(f"sealed under the key {id_.hex()}, which this node does not hold")
        return _opened(key, sealed[1 + ID_BYTES :], associated)

    def is_current(self, sealed: bytes) -> bool:
        """Whether it is sealed under the key that is used, as far as its bytes tell; nothing is, too."""
        return not sealed or sealed_under(sealed) == self.active

    def derive(self, label: bytes) -> bytes:
        """32 bytes for one purpose: the same on every node, whichever key is used."""
        return hmac.digest(self._root, label, "sha256")


def sealed_under(sealed: bytes) -> bytes | None:
    """The id of the key that it names; None for the first key, which it does not name."""
    return sealed[1 : 1 + ID_BYTES] if sealed[:1] == _NAMED else None


def _opened(key: bytes, sealed: bytes, associated: bytes) -> bytes:
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], associated)
    except (InvalidTag, ValueError) as error:
        raise SealBroken("the secret does not open with this cluster's key") from error
