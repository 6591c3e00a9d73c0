"""The door to libssl behind Python's ssl module, for what that module can not do: groups, tickets' keys, stapling.

Python keeps the address of an SSL_CTX in its own object and shows it to nobody. It is read there only after it was
proved: a connection made from the context is another object that leads to the same SSL_CTX, and what libssl says of it
(options, versions, verification) is what Python says. Nothing is written before that; where the proof fails, as in an
interpreter that lays out its objects otherwise, `context_handle` gives None and the node does without (ADR 0034).
"""

from __future__ import annotations

import ctypes
import functools
import ssl
from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

WORD = ctypes.sizeof(ctypes.c_void_p)
SSL_CTX_WORD = 2  # of a _ssl._SSLContext, after reference count and type
SOCKET_WORD, SSL_WORD, CONTEXT_WORD = 2, 3, 4  # of a _ssl._SSLSocket
_VERIFY_MODES = {ssl.CERT_NONE: 0, ssl.CERT_OPTIONAL: 1, ssl.CERT_REQUIRED: 3}  # as SSL_VERIFY_*
_GET_MIN_PROTO_VERSION = 130  # SSL_CTRL_GET_MIN_PROTO_VERSION

TicketCallback = ctypes.CFUNCTYPE(
    ctypes.c_int, *(ctypes.c_void_p,) * 5, ctypes.c_int
)  # SSL, name, IV, EVP_CIPHER_CTX, EVP_MAC_CTX, encrypting
StatusCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
VerifyCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p)  # found good so far, X509_STORE_CTX

_POINTER, _SIZE, _INT, _LONG = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_long
_FUNCTIONS: tuple[tuple[str, Any, tuple[Any, ...]], ...] = (
    ("OpenSSL_version_num", ctypes.c_ulong, ()),
    ("ERR_clear_error", None, ()),
    ("SSL_get_SSL_CTX", _POINTER, (_POINTER,)),
    ("SSL_set_verify", None, (_POINTER, _INT, _POINTER)),
    ("SSL_CTX_get_options", ctypes.c_uint64, (_POINTER,)),
    ("SSL_CTX_get_verify_mode", _INT, (_POINTER,)),
    ("SSL_CTX_set_verify", None, (_POINTER, _INT, _POINTER)),
    ("SSL_CTX_ctrl", _LONG, (_POINTER, _INT, _LONG, _POINTER)),
    ("SSL_CTX_callback_ctrl", _LONG, (_POINTER, _INT, _POINTER)),
    ("SSL_CTX_add_client_CA", _INT, (_POINTER, _POINTER)),
    ("SSL_CTX_set_tlsext_ticket_key_evp_cb", _INT, (_POINTER, _POINTER)),
    ("SSL_ctrl", _LONG, (_POINTER, _INT, _LONG, _POINTER)),
    ("CRYPTO_malloc", _POINTER, (_SIZE, ctypes.c_char_p, _INT)),
    ("EVP_aes_256_cbc", _POINTER, ()),
    ("EVP_CipherInit_ex", _INT, (_POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _INT)),
    ("EVP_MAC_init", _INT, (_POINTER, _POINTER, _SIZE, _POINTER)),
    ("d2i_X509", _POINTER, (_POINTER, _POINTER, _LONG)),
    ("i2d_X509", _INT, (_POINTER, _POINTER)),
    ("X509_STORE_CTX_get_current_cert", _POINTER, (_POINTER,)),
    ("X509_STORE_CTX_get_error_depth", _INT, (_POINTER,)),
    ("X509_STORE_CTX_set_error", None, (_POINTER, _INT)),
    ("X509_free", None, (_POINTER,)),
)


@functools.cache
def library() -> Any:
    """libssl as Python's own ssl module is linked with it; None where that can not be reached."""
    try:
        import _ssl

        found = ctypes.CDLL(_ssl.__file__)
        for name, result, arguments in _FUNCTIONS:
            function = getattr(found, name)
            function.restype, function.argtypes = result, list(arguments)
    except (ImportError, AttributeError, OSError):
        return None
    return found if found.OpenSSL_version_num() == ssl.OPENSSL_VERSION_NUMBER else None


def words(object_: Any, count: int) -> list[int]:
    """The first machine words of an object; none where it is smaller, or does not begin with count and type."""
    if type(object_).__basicsize__ < count * WORD:
        return []
    found = list((ctypes.c_size_t * count).from_address(id(object_)))
    return found if found[1] == id(type(object_)) else []


def connection_handle(connection: ssl.SSLObject | None) -> int | None:
    """The address of the SSL structure, once everything around it was found to be where it must be.

    Beside it CPython keeps the type (before), a socket, which an SSLObject has none of, and the context (behind): the
    first is known, the second null, the third known again. Then SSL must lead back to that same context's SSL_CTX.
    """
    inner, openssl = getattr(connection, "_sslobj", None), library()
    if inner is None or connection is None or openssl is None:
        return None
    context: Any = connection.context
    own, contexts = words(inner, CONTEXT_WORD + 1), words(context, SSL_CTX_WORD + 1)
    if not own or not contexts or own[SOCKET_WORD] or own[CONTEXT_WORD] != id(context) or not own[SSL_WORD]:
        return None
    if openssl.SSL_get_SSL_CTX(own[SSL_WORD]) != contexts[SSL_CTX_WORD]:
        return None
    return own[SSL_WORD]


def context_handle(context: ssl.SSLContext) -> int | None:
    """The address of the SSL_CTX behind a server's context, proved; None where it is not."""
    openssl = library()
    probe = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True) if openssl is not None else None
    if openssl is None or connection_handle(probe) is None:
        return None
    handle = words(context, SSL_CTX_WORD + 1)[SSL_CTX_WORD]
    said = (
        openssl.SSL_CTX_get_options(handle),
        openssl.SSL_CTX_ctrl(handle, _GET_MIN_PROTO_VERSION, 0, None),
        openssl.SSL_CTX_get_verify_mode(handle),
    )
    known = (int(context.options), int(context.minimum_version), _VERIFY_MODES[context.verify_mode])
    return handle if said == known else None


def address(callback: Any) -> int | None:
    """Where a C callback begins."""
    return ctypes.cast(callback, ctypes.c_void_p).value


def with_certificate(certificate: x509.Certificate, use: Callable[[int], int]) -> bool:
    """Calls `use` with libssl's own copy (X509) of a certificate, which ends with the call; whether it succeeded."""
    openssl, der = library(), certificate.public_bytes(Encoding.DER)
    buffer = ctypes.create_string_buffer(der, len(der))
    parsed = openssl.d2i_X509(None, ctypes.byref(ctypes.c_void_p(ctypes.addressof(buffer))), len(der))
    if not parsed:
        openssl.ERR_clear_error()
        return False
    try:
        return tried(lambda: use(parsed))
    finally:
        openssl.X509_free(parsed)


def on_certificate(context: ssl.SSLContext, judge: Callable[[bytes], int]) -> bool:
    """Has `judge` say of each certificate (DER) that a server's context has found good: 0, or an X509_V_ERR, which
    refuses it and becomes the alert. False where the context can not be reached."""
    handle, openssl = context_handle(context), library()
    if handle is None:
        return False

    def called(good: int, store: int) -> int:  # what is raised here refuses, too
        if not good or openssl.X509_STORE_CTX_get_error_depth(store) != 0:
            return good
        error = judge(_der(openssl.X509_STORE_CTX_get_current_cert(store)))
        if error:
            openssl.X509_STORE_CTX_set_error(store, error)
        return 0 if error else 1

    callback = VerifyCallback(called)
    context._mailraft_verify = callback  # type: ignore[attr-defined]  # libssl keeps the bare address
    openssl.SSL_CTX_set_verify(handle, _VERIFY_MODES[context.verify_mode], address(callback))
    return True


def _der(certificate: int) -> bytes:
    """What an X509 of libssl is."""
    openssl = library()
    buffer = ctypes.create_string_buffer(openssl.i2d_X509(certificate, None))
    openssl.i2d_X509(certificate, ctypes.byref(ctypes.c_void_p(ctypes.addressof(buffer))))
    return buffer.raw


def tried(call: Callable[[], int]) -> bool:
    """Whether a call succeeded; what libssl noted of a failure is cleared, or the next handshake would be blamed."""
    if call() > 0:
        return True
    openssl = library()
    openssl.ERR_clear_error()
    return False
