"""Whom policy concerns: other servers that have not logged in; and whom they may always reach."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import TYPE_CHECKING

from nodes.tls.trust import Trust

if TYPE_CHECKING:
    from nodes.smtp.session import Session

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def stranger(session: Session, exempt: Trust) -> Address | None:
    """The address of a client that policy concerns; None: it is one of ours, or this machine, or exempt."""
    if session.profile.kind != "smtp" or session.account is not None:
        return None
    address = _address(session.client)
    if address is None or address.is_loopback or exempt.covers(session.client):
        return None
    return address


def is_postmaster(recipient: str) -> bool:
    """Whom a client that is refused can ask why (RFC 5321 4.5.1)."""
    return recipient.partition("@")[0].casefold() == "postmaster"


@lru_cache(4096)
def _address(client: str) -> Address | None:
    """Without a zone; an IPv4 address that came over IPv6 is itself."""
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address
