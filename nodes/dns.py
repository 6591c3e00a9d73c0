"""Names of clients: reverse DNS, confirmed by looking the name up again (RFC 5321 4.4; RFC 8601 section 3, iprev).

A name is a courtesy to those who read a Received line; mail never waits for it and never fails by it. Answers, and
failures, are kept for a while.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time

from nodes.config.node import DnsSection
from nodes.resolver import Resolver, ResolverError

REMEMBERED = 4096
FAILURE_S = 60.0
AT_MOST_S = 3600.0
NAMES_AT_MOST = 5  # PTR records of one address that are confirmed


class HostNames:
    """Confirmed names by address. `of` answers at once from what is known; `look_up` fills it."""

    def __init__(self, config: DnsSection, resolver: Resolver) -> None:
        self._config = config
        self._resolver = resolver
        self._known: dict[str, tuple[float, str | None]] = {}  # until when (monotonic seconds), name

    def reload(self, config: DnsSection) -> None:
        """From now on by this; names that are confirmed stay so."""
        self._config = config

    def wanted(self, address: str) -> bool:
        """Whether policy wants a name for this client: never for one on this machine, unless it says "all"."""
        match self._config.client_names:
            case "off":
                return False
            case "all":
                return bool(address)
            case "remote":
                try:
                    return not ipaddress.ip_address(address.partition("%")[0]).is_loopback
                except ValueError:
                    return False

    def of(self, address: str) -> str | None:
        """The confirmed name, if it is known by now."""
        until_s, name = self._known.get(address, (0.0, None))
        return name if until_s > time.monotonic() else None

    async def look_up(self, address: str) -> str | None:
        """The confirmed name, or None: there is none, it could not be confirmed, or nobody answered in time."""
        until_s, known = self._known.get(address, (0.0, None))
        if until_s > time.monotonic():
            return known
        name, ttl_s = None, FAILURE_S
        try:
            async with asyncio.timeout(self._config.timeout_s):
                name, ttl_s = await self._confirmed(address)
        except (ResolverError, TimeoutError):
            pass
        if len(self._known) >= REMEMBERED:
            self._known.pop(next(iter(self._known)))
        self._known[address] = (time.monotonic() + min(ttl_s, AT_MOST_S), name)
        return name

    async def _confirmed(self, address: str) -> tuple[str | None, float]:
        names = await self._resolver.ptr(address)
        kind = "AAAA" if ":" in address else "A"
        for name in names[:NAMES_AT_MOST]:
            try:
                forward = await self._resolver.lookup(name, kind)
            except ResolverError as error:
                if error.temporary:
                    raise
                continue
            if address in {one.address for one in forward}:
                return name, names.ttl_s
        return None, FAILURE_S
