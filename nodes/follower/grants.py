"""The file that a grant is handed over in: who may follow what, where, and with which certificate and keys.

It is a secret: whoever has it may follow. The source keeps of it the certificate's fingerprint and, sealed, the key
that passwords travel under.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgpack

from actors.sealing import KEY_BYTES
from eventlog.record import STREAM_ID_BYTES
from nodes.config.node import split_address

FORMAT = 1
MOST_ENDPOINTS = 16
MOST_TEXT = 16 * 1024


class GrantFile(NamedTuple):
    """What `mailraft region grant` writes. Certificates and key are PEM; `transfer_key` is hexadecimal."""

    cell: str
    name: str
    tenant: bytes
    tenant_name: str
    account: bytes
    address: str  # of the account; empty for a whole tenant
    endpoints: tuple[tuple[str, str], ...]
    authority: str
    certificate: str
    key: str
    transfer_key: bytes

    def as_json(self) -> dict[str, Any]:
        ids = {"tenant": self.tenant.hex(), "account": self.account.hex(), "transfer_key": self.transfer_key.hex()}
        return {"format": FORMAT, **self._asdict(), **ids, "endpoints": dict(self.endpoints)}

    @property
    def secret(self) -> bytes:
        """What of it is sealed in the follower's log."""
        return bytes(msgpack.packb((self.key, self.transfer_key)))


def read_secret(data: bytes) -> tuple[str, bytes]:
    """Key (PEM) and transfer key of `GrantFile.secret`."""
    key, transfer_key = msgpack.unpackb(data, use_list=False)
    return key, transfer_key


def follow_place(cell: str, tenant: bytes, account: bytes) -> bytes:
    """What that secret is bound to in the follower's log."""
    return b"follow/" + cell.encode() + b"/" + tenant + account


def read(document: Any) -> GrantFile:
    """The grant in a JSON document. Raises ValueError that says what is wrong, and shows nothing of it."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f"not a grant of format {FORMAT}: mailraft region grant writes one")
    endpoints = document.get("endpoints")
    if not isinstance(endpoints, dict) or not 0 < len(endpoints) <= MOST_ENDPOINTS:
        raise ValueError("endpoints: the nodes of the cell that is followed, by name")
    for name, address in endpoints.items():
        try:
            split_address(address)
        except (ValueError, AttributeError):
            raise ValueError(f"endpoints: {name}: must be host:port") from None
    return GrantFile(
        cell=_text(document, "cell"),
        name=_text(document, "name"),
        tenant=_bytes(document, "tenant", STREAM_ID_BYTES),
        tenant_name=_text(document, "tenant_name"),
        account=_bytes(document, "account", STREAM_ID_BYTES) if document.get("account") else b"",
        address=_text(document, "address") if document.get("address") else "",
        endpoints=tuple(sorted(endpoints.items())),
        authority=_text(document, "authority"),
        certificate=_text(document, "certificate"),
        key=_text(document, "key"),
        transfer_key=_bytes(document, "transfer_key", KEY_BYTES),
    )


def _text(document: dict[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= MOST_TEXT:
        raise ValueError(f"{name}: is missing")
    return value


def _bytes(document: dict[str, Any], name: str, length: int) -> bytes:
    try:
        value = bytes.fromhex(_text(document, name))
    except ValueError:
        value = b""
    if len(value) != length:
        raise ValueError(f"{name}: must be {length} bytes in hexadecimal")
    return value
