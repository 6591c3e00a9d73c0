"""What a login can be bound to in the TLS connection that it comes over (RFC 5056), by type.

- TLS 1.3: tls-exporter (RFC 9266). Python's ssl module can not export keying material, so libssl is asked directly.
- TLS 1.2: tls-unique (RFC 5929 3), with the extended master secret only: without it, two connections may share theirs
  (RFC 7627).
- both: tls-server-end-point (RFC 5929 4), the hash of the certificate that this connection was shown.

To ask libssl one needs the SSL structure behind a Python object. That it stands where CPython puts it is proved for
each connection from what Python knows (nodes/tls/libssl.py), without following a pointer that was not proved; where the
proof fails, as in an interpreter that lays out its objects otherwise, there is no binding and -PLUS is not offered.
"""

from __future__ import annotations

import ctypes
import functools
import ssl
from collections.abc import Mapping
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from nodes.tls.libssl import connection_handle

EXPORTER_LABEL = b"EXPORTER-Channel-Binding"  # RFC 9266 2
EXPORTED_BYTES = 32
_GET_EXTENDED_MASTER_SECRET = 122  # SSL_CTRL_GET_EXTMS_SUPPORT


def bindings_of(connection: ssl.SSLObject | None) -> Mapping[str, bytes]:
    """The binding data of a connection whose handshake is done; empty in clear, and where none can be had."""
    library, handle = _library(), connection_handle(connection)
    if connection is None or library is None or handle is None:
        return {}
    found = {
        "tls-exporter": _exported(library, handle) if connection.version() == "TLSv1.3" else None,
        "tls-unique": _unique(library, handle, connection) if connection.version() == "TLSv1.2" else None,
    }
    own = {name: data for name, data in found.items() if data is not None}
    end_point = _end_point(library, handle)
    # clients that bind to the certificate alone are few: without the others, -PLUS would fail more than it serves
    return {**own, "tls-server-end-point": end_point} if own and end_point else own


@functools.cache
def _library() -> Any:
    """libssl as Python's own ssl module is linked with it; None where that can not be reached."""
    try:
        import _ssl

        library = ctypes.CDLL(_ssl.__file__)
        pointer, size, integer = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
        library.SSL_get_certificate.argtypes, library.SSL_get_certificate.restype = [pointer], pointer
        library.i2d_X509.argtypes, library.i2d_X509.restype = [pointer, pointer], integer
        library.SSL_ctrl.argtypes = [pointer, integer, ctypes.c_long, pointer]
        library.SSL_ctrl.restype = ctypes.c_long
        library.SSL_export_keying_material.argtypes = [pointer, pointer, size, pointer, size, pointer, size, integer]
        library.SSL_export_keying_material.restype = integer
    except (ImportError, AttributeError, OSError):
        return None
    return library


def _exported(library: Any, handle: int) -> bytes | None:
    """RFC 9266 2: no context, 32 bytes."""
    out = ctypes.create_string_buffer(EXPORTED_BYTES)
    label = EXPORTER_LABEL
    done = library.SSL_export_keying_material(handle, out, EXPORTED_BYTES, label, len(label), None, 0, 0)
    return out.raw if done == 1 else None


def _unique(library: Any, handle: int, connection: ssl.SSLObject) -> bytes | None:
    if library.SSL_ctrl(handle, _GET_EXTENDED_MASTER_SECRET, 0, None) != 1:
        return None
    return connection.get_channel_binding("tls-unique")


def _end_point(library: Any, handle: int) -> bytes | None:
    """RFC 5929 4.1: by the hash of the certificate's own signature, but SHA-256 for MD5 and SHA-1."""
    certificate = library.SSL_get_certificate(handle)
    length = library.i2d_X509(certificate, None) if certificate else 0
    if length <= 0:
        return None
    der = ctypes.create_string_buffer(length)
    library.i2d_X509(certificate, ctypes.byref(ctypes.c_void_p(ctypes.addressof(der))))
    return _certificate_hash(der.raw)


@functools.lru_cache(maxsize=16)
def _certificate_hash(der: bytes) -> bytes | None:
    certificate = x509.load_der_x509_certificate(der)
    algorithm = certificate.signature_hash_algorithm
    if algorithm is None:  # as of Ed25519: not defined
        return None
    return certificate.fingerprint(hashes.SHA256() if algorithm.name in ("md5", "sha1") else algorithm)
