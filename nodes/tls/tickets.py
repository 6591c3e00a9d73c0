"""Session tickets (RFC 5077, RFC 8446 4.6.1) under keys that all nodes of the cell have and that change by themselves.

The keys of a period come from the cluster's key and the period's number, so no node tells another and a restart loses
none. A ticket of the period before, or of the next on a node whose clock is ahead, is taken and replaced. AES-256-CBC
with HMAC-SHA-256, as RFC 5077 4 recommends; where nodes/tls/libssl.py can not reach the context, each has keys of its
own.
"""

from __future__ import annotations

import ctypes
import functools
import hmac
import os
import ssl
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from nodes.tls import libssl

PERIOD_S = 12 * 3600
NAME_BYTES, IV_BYTES, KEY_BYTES = 16, 16, 32
_SET_SESSION_CACHE = 44  # SSL_CTRL_SET_SESS_CACHE_MODE
_CACHE_OFF = 0
_FAILED, _UNKNOWN, _TAKEN, _TAKEN_AND_RENEWED = -1, 0, 1, 2


class TicketKey(NamedTuple):
    name: bytes
    encryption: bytes
    authentication: bytes


class Tickets:
    """secret: 32 bytes that all nodes have and nobody else; now: seconds since 1970."""

    def __init__(self, secret: bytes, now: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._now = now
        self._callback = libssl.TicketCallback(self._called)

    def serve(self, context: ssl.SSLContext) -> bool:
        """Has a server's context use these keys. False where the context can not be reached."""
        handle, openssl = libssl.context_handle(context), libssl.library()
        if handle is None:
            return False
        openssl.SSL_CTX_ctrl(handle, _SET_SESSION_CACHE, _CACHE_OFF, None)  # sessions are the clients' to keep
        done = libssl.tried(
            lambda: openssl.SSL_CTX_set_tlsext_ticket_key_evp_cb(handle, libssl.address(self._callback))
        )
        # libssl keeps the bare address: what it calls lives as long as the context
        context._mailraft_tickets = self._callback  # type: ignore[attr-defined]
        return done

    def key(self, period: int) -> TicketKey:
        """The keys of one period."""
        return _derived(self._secret, period)

    def _called(self, _: int, name: int, iv: int, cipher: int, mac: int, encrypting: int) -> int:
        period = int(self._now() // PERIOD_S)
        if encrypting:
            key = self.key(period)
            ctypes.memmove(name, key.name, NAME_BYTES)
            ctypes.memmove(iv, os.urandom(IV_BYTES), IV_BYTES)
            return _TAKEN if _begin(key, iv, cipher, mac, encrypting=1) else _FAILED
        asked = ctypes.string_at(name, NAME_BYTES)
        for known in (period, period - 1, period + 1):
            key = self.key(known)
            if hmac.compare_digest(key.name, asked):
                result = _TAKEN if known == period else _TAKEN_AND_RENEWED
                return result if _begin(key, iv, cipher, mac, encrypting=0) else _FAILED
        return _UNKNOWN


@functools.lru_cache(maxsize=16)
def _derived(secret: bytes, period: int) -> TicketKey:
    length = NAME_BYTES + 2 * KEY_BYTES
    made = HKDF(hashes.SHA256(), length, None, b"mailraft/tickets/%d" % period).derive(secret)
    return TicketKey(made[:NAME_BYTES], made[NAME_BYTES : NAME_BYTES + KEY_BYTES], made[NAME_BYTES + KEY_BYTES :])


class _Parameter(ctypes.Structure):
    """OSSL_PARAM."""

    _fields_ = (
        ("key", ctypes.c_char_p),
        ("data_type", ctypes.c_uint),
        ("data", ctypes.c_void_p),
        ("data_size", ctypes.c_size_t),
        ("return_size", ctypes.c_size_t),
    )


_TEXT = 4  # OSSL_PARAM_UTF8_STRING
_DIGEST_NAME = ctypes.create_string_buffer(b"SHA256")
_DIGEST = (_Parameter * 2)(
    _Parameter(b"digest", _TEXT, ctypes.addressof(_DIGEST_NAME), len(b"SHA256"), 0), _Parameter(None, 0, None, 0, 0)
)


def _begin(key: TicketKey, iv: int, cipher: int, mac: int, *, encrypting: int) -> bool:
    """Gives both of libssl's contexts their keys."""
    openssl: Any = libssl.library()
    aes = openssl.EVP_aes_256_cbc()
    return bool(
        openssl.EVP_MAC_init(mac, key.authentication, KEY_BYTES, ctypes.addressof(_DIGEST)) > 0
        and openssl.EVP_CipherInit_ex(cipher, aes, None, key.encryption, iv, encrypting) > 0
    )
