"""Trace lines: Return-Path and Received (RFC 5321 4.4), put in front of a message, never into its body."""

from __future__ import annotations

import ipaddress
import time
from email.utils import formatdate
from functools import lru_cache

_dates: dict[int, str] = {}


def protocol_name(*, lmtp: bool, extended: bool, secure: bool, authenticated: bool, utf8: bool) -> str:
    """The value of `with`: RFC 3848, and RFC 6531 4.3 for SMTPUTF8."""
    if not extended:
        return "SMTP"
    base = ("UTF8LMTP" if lmtp else "UTF8SMTP") if utf8 else ("LMTP" if lmtp else "ESMTP")
    return base + "S" * secure + "A" * authenticated


def received(
    *,
    helo: str,
    client: str,
    client_name: str | None,
    hostname: str,
    protocol: str,
    message_id: bytes,
    recipient: str | None,
    at_s: float,
) -> bytes:
    """One Received line, folded. `recipient` is given only when there is a single one, so that none is disclosed."""
    addressee = f"\r\n\tfor <{recipient}>" if recipient else ""
    opening = _opening(helo, client, client_name, hostname, protocol)
    return f"{opening}{message_id.hex()}{addressee}; {date(int(at_s))}\r\n".encode()


@lru_cache(1024)  # all messages of a session have the same
def _opening(helo: str, client: str, client_name: str | None, hostname: str, protocol: str) -> str:
    known = f"{client_name} {_literal(client)}" if client_name else _literal(client)
    source = f"{helo} ({known})" if client else helo
    return f"Received: from {source}\r\n\tby {hostname} with {protocol} id "


def return_path(sender: str) -> bytes:
    """The line that final delivery adds; the null sender is <>."""
    return f"Return-Path: <{sender}>\r\n".encode()


def now_s() -> float:
    """Seconds since 1970: time enters here, before the log."""
    return time.time()


@lru_cache(4096)
def _literal(client: str) -> str:
    host = client.partition("%")[0]
    try:
        return f"[IPv6:{host}]" if ipaddress.ip_address(host).version == 6 else f"[{host}]"
    except ValueError:
        return "[unknown]"


def date(second: int) -> str:
    """RFC 5322 date in UTC; the last one is kept, since many messages come within one second."""
    known = _dates.get(second)
    if known is None:
        _dates.clear()
        known = _dates[second] = formatdate(second).replace("-0000", "+0000")
    return known
