"""Envelope senders that differ for each recipient (VERP, Daniel J. Bernstein's): what comes back says for whom it was.

VERP=hash=item=domain=length=user=sender@ours. The hash is keyed, so that nobody makes such addresses who was not sent
mail from one. `item` is the beginning of the queue item's id, `user@domain` the recipient, `sender@ours` who sent it
and gets what comes back. Where that is longer than servers must take, the plain sender stays.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import NamedTuple

from actors.names import MAX_LOCAL_BYTES, unquoted, written

PURPOSE = "verp"
HASH_CHARACTERS = 8  # 40 bits
ITEM_BYTES = 5

_FORM = re.compile(r"VERP=([a-z2-7]{8})=([a-z2-7]{8})=([^=]+)=(\d{1,2})=(.+)", re.IGNORECASE | re.DOTALL)


class Returned(NamedTuple):
    """What an address says that mail came back to: who sent it, to whom, as which item."""

    sender: str
    recipient: str
    item: bytes
    domain: str  # whose queue it was in


class Verp:
    """Makes and reads addresses with one key, the same on every node."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def sender_for(self, sender: str, recipient: str, item_id: bytes, queue: str) -> str:
        """The envelope sender of mail for this recipient; `sender` itself where it would be too long, or is nobody.

        `queue` is the destination domain, which is the recipient's.
        """
        local, at, host = sender.rpartition("@")
        user = unquoted(recipient.rpartition("@")[0])
        if not at:
            return sender
        item = _base32(item_id[:ITEM_BYTES])
        body = f"{item}={queue}={len(user)}={user}={unquoted(local)}"
        made = f"VERP={self._hash(body, host)}={body}"
        return written(f"{made}@{host}") if len(made.encode()) <= MAX_LOCAL_BYTES else sender

    def read(self, address: str) -> Returned | None:
        """What such an address says; None for one that we did not make."""
        quoted, _, host = address.rpartition("@")
        found = _FORM.fullmatch(unquoted(quoted))
        if found is None:
            return None
        hash_, item, domain, length, rest = found.groups()
        body = f"{item}={domain}={length}={rest}"
        if not hmac.compare_digest(hash_.lower().encode(), self._hash(body, host).encode()):
            return None
        user, sender = rest[: int(length)], rest[int(length) + 1 :]
        id_ = base64.b32decode(item.upper())
        return Returned(written(f"{sender}@{host}"), written(f"{user}@{domain}"), id_, domain.lower())

    def _hash(self, body: str, host: str) -> str:
        return _base32(hmac.digest(self._key, f"{body}@{host}".lower().encode(), hashlib.sha256))[:HASH_CHARACTERS]


def _base32(octets: bytes) -> str:
    return base64.b32encode(octets).decode().lower()
