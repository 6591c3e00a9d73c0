"""Whether an address belongs to one of the networks that the configuration trusts."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Trust:
    """Networks. An IPv4 address that comes as one of IPv6 (::ffff:192.0.2.1) is taken for what it is."""

    def __init__(self, networks: Iterable[Network]) -> None:
        self._networks = tuple(networks)

    def covers(self, address: str) -> bool:
        """Whether `address` (an IP, with or without a zone) is in one of them; what is no address is in none."""
        if not self._networks:
            return False
        try:
            parsed = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        if isinstance(parsed, ipaddress.IPv6Address):
            parsed = parsed.ipv4_mapped or parsed
        return any(parsed in network for network in self._networks)
