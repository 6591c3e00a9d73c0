"""Who is taken of those with a certificate of the cell: no node that was removed, nothing of an authority of before.

A context's trust only grows and knows no names; this changes with the log, under listeners that stay open. Contexts ask
it in the handshake, so that the other side is told why (nodes/tls/libssl.py); once more when the handshake is done,
where libssl can not be reached; and whoever goes on with an open connection asks again.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Collection, Sequence
from enum import Enum

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from nodes.tls import libssl
from nodes.tls.links import peer_node_name

MOST_JUDGED = 1000  # certificates whose judgement is remembered


class Refusal(Enum):
    """Why not: libssl's X509_V_ERR, which becomes the alert, and what the operator reads."""

    REMOVED = (23, "it was removed from this cell")
    UNTRUSTED = (20, "its certificate is of an authority that this cell trusts no more")

    @property
    def code(self) -> int:
        return self.value[0]

    @property
    def reason(self) -> str:
        return self.value[1]


class Admission:
    """cell: the cluster's id; trusted: the authorities whose certificates are taken."""

    def __init__(self, cell: str, trusted: Sequence[x509.Certificate]) -> None:
        self._cell = cell
        self._trusted = tuple(trusted)
        self._removed: frozenset[str] = frozenset()
        self._judged: dict[bytes, Refusal | None] = {}

    def trust(self, authorities: Sequence[x509.Certificate]) -> None:
        """These from now on, and no others."""
        self._trusted = tuple(authorities)
        self._judged.clear()

    def remove(self, names: Collection[str]) -> None:
        """The nodes that were members once."""
        self._removed = frozenset(names)
        self._judged.clear()

    def judge(self, der: bytes | None) -> Refusal | None:
        """Of a certificate that a context has found good; None: it is taken, as is who shows none."""
        if der is None:
            return None
        digest = hashlib.sha256(der).digest()
        if digest not in self._judged:
            if len(self._judged) >= MOST_JUDGED:
                self._judged.clear()
            self._judged[digest] = self._judgement(x509.load_der_x509_certificate(der))
        return self._judged[digest]

    def admits(self, peer: ssl.SSLObject | ssl.SSLSocket | None) -> bool:
        """Whether the other side of a connection is still taken."""
        return peer is None or self.judge(peer.getpeercert(binary_form=True)) is None

    def node_name(self, peer: ssl.SSLObject | ssl.SSLSocket | None) -> str | None:
        """The node that the other side proved to be; None for one that is not taken, or is no node of this cell."""
        return peer_node_name(peer, self._cell) if self.admits(peer) else None

    def guard(self, context: ssl.SSLContext) -> None:
        """Has a server's context ask in its handshakes. No session is resumed, for then nothing would be asked."""
        context.num_tickets = 0
        libssl.on_certificate(context, lambda der: refused.code if (refused := self.judge(der)) is not None else 0)

    def _judgement(self, certificate: x509.Certificate) -> Refusal | None:
        if not any(_issued(certificate, one) for one in self._trusted):
            return Refusal.UNTRUSTED
        prefix = f"mailraft://{self._cell}/node/"
        named = [uri.removeprefix(prefix) for uri in _uris(certificate) if uri.startswith(prefix)]
        return Refusal.REMOVED if self._removed.intersection(named) else None


def _issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)
