"""The TLS contexts of a node, for its own listeners and for the links within a cell and between cells.

Nothing here falls back to a weaker setting. The cell's CA and its certificates are in `cell_authority`, importable from
here.
"""

from __future__ import annotations

import hashlib
import os
import ssl

from nodes.config.node import NodeConfig, TlsSection
from nodes.tls.admission import Admission
from nodes.tls.cell_authority import (
    BACKDATED,
    CA_DAYS,
    CERTIFICATE_DAYS,
    Authority,
    admin_uri,
    create_authority,
    expired,
    follower_uri,
    is_authority,
    issue_admin,
    issue_node,
    load_authority,
    new_authority,
    node_names,
    node_uri,
    pem_of,
    request_of,
    secret_of,
    sign,
)
from nodes.tls.front import server_side
from nodes.tls.handshakes import reporting
from nodes.tls.links import (
    admin_client_context,
    context_of,
    mutual,
    peer_admin_name,
    peer_name,
    peer_node_name,
)


def peer_follower(peer: ssl.SSLObject | ssl.SSLSocket | None, cluster_id: str) -> tuple[str, bytes] | None:
    """The grant that the other side names, and its certificate's fingerprint; None without such a certificate."""
    name = peer_name(peer, follower_uri(cluster_id, ""))
    der = peer.getpeercert(binary_form=True) if peer is not None else None
    return None if name is None or der is None else (name, hashlib.sha256(der).digest())


def region_context(tls: TlsSection, admission: Admission | None = None) -> ssl.SSLContext:
    """What followers from other cells meet: a certificate of this cell's CA is required."""
    return _guarded(mutual(_server("region listener", admission), tls.ca, tls.certificate, tls.key), admission)


def follower_client_context(authority: str, certificate: str, key: str) -> ssl.SSLContext:
    """A follower's side, of PEM texts; the caller checks peer_node_name(). Raises ssl.SSLError, OSError."""
    context = context_of(ssl.PROTOCOL_TLS_CLIENT, ssl.TLSVersion.TLSv1_3)
    context.check_hostname = False  # as between nodes: the URI in the certificate is checked
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=authority)
    with open(os.memfd_create("follower"), "wb") as file:  # the ssl module reads keys from files: one in memory alone
        file.write(f"{key}\n{certificate}".encode())
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    return context


def server_context(tls: TlsSection) -> ssl.SSLContext:
    """The certificate of the files alone, in the setting that mail clients meet (nodes/tls/front.py has the rest)."""
    context = server_side()
    context.load_cert_chain(tls.server_certificate or tls.certificate, tls.server_key or tls.key)
    return context


def admin_context(tls: TlsSection, admission: Admission | None = None) -> ssl.SSLContext:
    """The admin API: a certificate is of the cell's CA, and its name decides; who shows none needs a token."""
    context = mutual(_server("admin API", admission), tls.ca, tls.certificate, tls.key)
    context.verify_mode = ssl.CERT_OPTIONAL
    return _guarded(context, admission)


def raft_contexts(config: NodeConfig, admission: Admission | None = None) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """(server, client) for the links between nodes: TLS 1.3, both sides with a certificate of the cell's CA."""
    tls = config.tls
    server = _server("link between nodes", admission)
    client = context_of(ssl.PROTOCOL_TLS_CLIENT, ssl.TLSVersion.TLSv1_3)
    client.sslobject_class = server.sslobject_class
    mutual(server, tls.ca, tls.certificate, tls.key)
    return _guarded(server, admission), mutual(client, tls.ca, tls.certificate, tls.key)


def _server(purpose: str, admission: Admission | None) -> ssl.SSLContext:
    context = server_side(ssl.TLSVersion.TLSv1_3)
    context.sslobject_class = reporting(purpose, admission)
    return context


def _guarded(context: ssl.SSLContext, admission: Admission | None) -> ssl.SSLContext:
    """Once all else of the context is as it will be."""
    if admission is not None:
        admission.guard(context)
    return context


__all__ = [
    "BACKDATED",
    "CA_DAYS",
    "CERTIFICATE_DAYS",
    "Authority",
    "admin_client_context",
    "admin_context",
    "admin_uri",
    "create_authority",
    "expired",
    "follower_client_context",
    "follower_uri",
    "is_authority",
    "issue_admin",
    "issue_node",
    "load_authority",
    "new_authority",
    "node_names",
    "node_uri",
    "peer_admin_name",
    "peer_follower",
    "peer_node_name",
    "pem_of",
    "raft_contexts",
    "region_context",
    "request_of",
    "secret_of",
    "server_context",
    "sign",
]
