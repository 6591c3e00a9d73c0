"""Links with a certificate of a cell's CA on both sides: their contexts, and who the other side proved to be.

Every command of the command line begins with it, so it imports nothing that takes long; nodes/tls/contexts.py has the
rest.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

# TLS 1.2 with forward secrecy and authenticated encryption only (RFC 9325 4.2); TLS 1.3 has nothing else
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


def admin_client_context(ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """The command line's side of the admin API; the caller checks peer_node_name()."""
    context = context_of(ssl.PROTOCOL_TLS_CLIENT, ssl.TLSVersion.TLSv1_3)
    return mutual(context, ca, certificate, key)


def peer_node_name(peer: ssl.SSLObject | ssl.SSLSocket | None, cluster_id: str) -> str | None:
    """The node that the other side proved to be; None for another cell, an administrator, or no certificate."""
    return peer_name(peer, f"mailraft://{cluster_id}/node/")


def peer_admin_name(peer: ssl.SSLObject | ssl.SSLSocket | None, cluster_id: str) -> str | None:
    """The administrator that the other side proved to be, or None."""
    return peer_name(peer, f"mailraft://{cluster_id}/admin/")


def peer_name(peer: ssl.SSLObject | ssl.SSLSocket | None, prefix: str) -> str | None:
    """What follows the prefix in the first URI of the other side's certificate that begins with it."""
    certificate = peer.getpeercert() if peer is not None else None
    if not certificate:
        return None
    names: Sequence[Sequence[str]] = certificate.get("subjectAltName", ())  # type: ignore[assignment]
    for kind, value in names:
        if kind == "URI" and value.startswith(prefix):
            return value.removeprefix(prefix)
    return None


def context_of(protocol: ssl._SSLMethod, minimum: ssl.TLSVersion) -> ssl.SSLContext:
    """What every context has in common, whoever is on the other side."""
    context = ssl.SSLContext(protocol)
    context.minimum_version = minimum
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    return context


def mutual(context: ssl.SSLContext, ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """The context, which now shows a certificate and wants one of the same authority. Raises ssl.SSLError, OSError."""
    context.check_hostname = False  # the URI in the certificate is checked, whatever address it was reached at
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cafile=ca)
    context.load_cert_chain(certificate, key)
    return context
