"""Reverse paths of mail that is forwarded (SRS, the Sender Rewriting Scheme of Meng Weng Wong and Shevek).

Who forwards mail is not in the sender's SPF record, so it is sent from an address of ours that holds the sender's:
SRS0=hash=day=domain=local@ours. What is returned there is checked and goes to the sender. Mail that another forwarder
has rewritten keeps that one's part: SRS1=hash=forwarder==rest@ours, so that addresses do not grow with each hop.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time

from actors.directory import OUTSIDE, Target, tenant_with
from actors.names import unquoted, written
from eventlog.store import Snapshot

HASH_CHARACTERS = 8  # 40 bits, for 21 days
DAYS = 1024  # after which the count of days begins again
VALID_DAYS = 21
PURPOSE = "srs"

_DIGITS = "abcdefghijklmnopqrstuvwxyz234567"  # base32: other servers change the case of letters
_SEPARATORS = "=-+"


class Srs:
    """Rewrites with one key, the same on every node. `day`: days since 1970, for tests."""

    def __init__(self, key: bytes, day: int | None = None) -> None:
        self._key = key
        self._day = int(time.time()) // 86_400 if day is None else day

    def forward(self, sender: str, domain: str) -> str:
        """The reverse path for mail of `sender` that `domain` of ours forwards; "" stays as it is."""
        local, at, host = sender.rpartition("@")
        if not at:
            return sender
        local = unquoted(local)
        scheme, rest = local[:5].upper(), local[5:]
        if scheme[:4] == "SRS0" and scheme[4:] in _SEPARATORS and rest:
            body = f"{host}={local[4:]}"
        elif scheme[:4] == "SRS1" and scheme[4:] in _SEPARATORS and rest.count("=") >= 2:
            body = rest.partition("=")[2]
        else:
            body = f"{self._stamp(self._day)}={host}={local}"
            return written(f"SRS0={self._hash('SRS0', body)}={body}@{domain}")
        return written(f"SRS1={self._hash('SRS1', body)}={body}@{domain}")

    def reverse(self, local: str) -> str | None:
        """Where mail for this local part of ours goes back to; None if we did not make it, or too long ago."""
        local = unquoted(local)
        scheme, rest = local[:5].upper(), local[5:]
        if scheme[:4] not in ("SRS0", "SRS1") or scheme[4:] not in _SEPARATORS:
            return None
        hash_, _, body = rest.partition("=")
        if not hmac.compare_digest(hash_.lower().encode(), self._hash(scheme[:4], body).encode()):
            return None
        if scheme[:4] == "SRS1":
            host, _, theirs = body.partition("=")
            return written(f"SRS0{theirs}@{host}")
        stamp, _, address = body.partition("=")
        host, equals, user = address.partition("=")
        return written(f"{user}@{host}") if equals and user and self._is_fresh(stamp) else None

    def _hash(self, scheme: str, body: str) -> str:
        """Of one scheme only: what stands in SRS1 is as its sender wrote it, and must be no SRS0 of ours."""
        digest = hmac.digest(self._key, f"{scheme}={body}".lower().encode(), hashlib.sha256)
        return base64.b32encode(digest).decode().lower()[:HASH_CHARACTERS]

    def _stamp(self, day: int) -> str:
        high, low = divmod(day % DAYS, 32)
        return _DIGITS[high] + _DIGITS[low]

    def _is_fresh(self, stamp: str) -> bool:
        return stamp.lower() in {self._stamp(self._day - age) for age in range(-1, VALID_DAYS + 1)}


def returned(snapshot: Snapshot, address: str, srs_key: bytes) -> list[Target]:
    """Where an address of ours leads that was made for mail which we forwarded; nothing for any other address.

    Asked before who holds the address: a catch-all would take what comes back.
    """
    local, _, domain = address.rpartition("@")
    original = Srs(srs_key).reverse(local)
    tenant = tenant_with(snapshot, domain) if original is not None else None
    return [Target(tenant, OUTSIDE, original)] if tenant is not None and original is not None else []
