"""Heads of the log that are kept elsewhere: what a node signs, and how one that was kept is checked.

A chain that its only keeper can rewrite proves nothing. An anchor says what the chain was at a position, signed with
the key of a node's certificate; whoever keeps it can later ask whether the log still leads to it. The certificate may
have expired since: that it was valid when the head was signed, and of the cell's CA, is what is checked.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

FORMAT = 1
FIELDS = ("cell", "node", "position", "at", "chain", "signed")


class AnchorError(ValueError):
    """The text is not an anchor, or was not signed by a node of the cell; it says which."""


class Anchor(NamedTuple):
    """The chain at a position, as a node of the cell signed it. `at` is the log's time there, `signed` the node's."""

    cell: str
    node: str
    position: int
    at: str
    chain: str
    signed: str


def sign(anchor: Anchor, certificate: Path, key: Path) -> dict[str, Any]:
    """The anchor as JSON, with signature and certificate. Raises OSError, or ValueError for a key of another kind."""
    private = serialization.load_pem_private_key(key.read_bytes(), password=None)
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{key}: not an elliptic curve key")
    signature = private.sign(_signed_bytes(anchor), ec.ECDSA(hashes.SHA256()))
    return {
        "format": FORMAT,
        **anchor._asdict(),
        "signature": base64.b64encode(signature).decode(),
        "certificate": certificate.read_text(),
    }


def check(document: Any, authority: Path) -> Anchor:
    """The anchor in `document`, once its signature is found to be of a node of the CA in `authority`.

    Raises AnchorError.
    """
    anchor = _anchor(document)
    try:
        authorities = x509.load_pem_x509_certificates(authority.read_bytes())
        certificate = x509.load_pem_x509_certificate(str(document["certificate"]).encode())
        signature = base64.b64decode(document["signature"], validate=True)
        _check_issuer(certificate, authorities)
    except (KeyError, TypeError, ValueError, InvalidSignature) as error:
        raise AnchorError(f"its certificate is not of the CA in {authority} ({error or 'its signature'})") from None
    _check_name(certificate, anchor)
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise AnchorError("its certificate has a key of another kind")
    try:
        key.verify(signature, _signed_bytes(anchor), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise AnchorError("its signature does not fit: it was altered since it was signed") from None
    return anchor


def _anchor(document: Any) -> Anchor:
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise AnchorError(f"it is not an anchor of format {FORMAT}: mailraft log anchor writes one")
    values = [document.get(name) for name in FIELDS]
    wrong = [name for name, value in zip(FIELDS, values) if type(value) is not (int if name == "position" else str)]
    if wrong:
        raise AnchorError(f"{', '.join(wrong)}: missing, or of the wrong type")
    return Anchor(*values)  # type: ignore[arg-type]


def _check_issuer(certificate: x509.Certificate, authorities: Sequence[x509.Certificate]) -> None:
    """There are two while one takes the place of another. Raises InvalidSignature, ValueError, TypeError."""
    for one in authorities[:-1]:
        with contextlib.suppress(InvalidSignature, ValueError):
            return certificate.verify_directly_issued_by(one)
    certificate.verify_directly_issued_by(authorities[-1])


def _check_name(certificate: x509.Certificate, anchor: Anchor) -> None:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        uris = []
    if f"mailraft://{anchor.cell}/node/{anchor.node}" not in uris:
        raise AnchorError(f"its certificate is not that of {anchor.node} of the cell {anchor.cell}")
    try:
        signed = datetime.datetime.fromisoformat(anchor.signed)
        valid = certificate.not_valid_before_utc <= signed <= certificate.not_valid_after_utc
    except (ValueError, TypeError):
        valid = False
    if not valid:
        raise AnchorError("it was signed when its certificate was not valid")


def _signed_bytes(anchor: Anchor) -> bytes:
    """What is signed: every field on a line of its own, none of which can hold a line's end."""
    lines = ["mailraft anchor", str(FORMAT), *map(str, anchor)]
    if any("\n" in line for line in lines):
        raise AnchorError("a field holds a line's end")
    return "\n".join(lines).encode()
