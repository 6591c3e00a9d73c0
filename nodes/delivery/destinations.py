"""Where mail for a domain goes (RFC 5321 5.1): its MX hosts in order, their addresses, and not ourselves.

Nothing here connects. Equal preferences are in random order; hosts as good as this one, or worse, are left out where
this one is among them.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import socket
from collections.abc import Sequence
from typing import NamedTuple

from nodes.config.node import NodeConfig, split_address
from nodes.delivery.attempt import OutcomeStatus
from nodes.resolver import MxHost, NoSuchDomain, NullMx, Records, Resolver, ResolverError

HOSTS_AT_MOST = 20  # MX hosts that are looked at
ADDRESSES_AT_MOST = 20  # of one host


class NoWay(Exception):
    """The domain can not be sent to: now ("deferred") or at all ("failed")."""

    def __init__(self, status: OutcomeStatus, code: int, enhanced: str, text: str) -> None:
        super().__init__(text)
        self.status: OutcomeStatus = status
        self.code = code
        self.enhanced = enhanced


class Host(NamedTuple):
    """One server. `name` is a host name or an address literal; `secure`: DNSSEC proves that it is the domain's, and
    `addresses_secure` that these are its addresses. `canonical`: where aliases of its name led."""

    name: str
    port: int
    addresses: tuple[str, ...]
    secure: bool = False
    addresses_secure: bool = False
    canonical: str = ""

    @property
    def is_literal(self) -> bool:
        return self.name.startswith("[")


class Ourselves:
    """Which hosts are this cell."""

    def __init__(self, config: NodeConfig) -> None:
        names = [config.node.hostname, *config.delivery.own_names]
        self._names = {name.lower().rstrip(".") for name in names} - {"localhost"}
        self._addresses = set(config.delivery.own_addresses)
        self._listens = [split_address(one) for one in (config.listen.smtp,) if one and not one.startswith("fd:")]

    def is_name(self, name: str) -> bool:
        """Whether a host of this name is this cell."""
        return name.lower() in self._names

    def is_address(self, address: str, port: int) -> bool:
        """Whether a connection there would come to this cell."""
        if address in self._addresses:
            return True
        for host, at in self._listens:
            if at == port and (host == address or (_is_wildcard(host) and _is_of_this_machine(address))):
                return True
        return False


async def hosts_of(domain: str, resolver: Resolver, config: NodeConfig, ourselves: Ourselves) -> list[Host]:
    """The servers for `domain`, best first, never empty. Raises NoWay."""
    port = config.delivery.port
    if domain.startswith("["):
        return _checked_for_loop(domain, [(0, _literal(domain, port))], ourselves)
    try:
        mx = await resolver.mx(domain)
    except NullMx as null:
        raise NoWay("failed", 556, "5.1.10", str(null)) from None  # RFC 7505 4.1
    except NoSuchDomain as none:
        raise NoWay("failed", 550, "5.1.2", str(none)) from None
    except ResolverError as error:
        raise NoWay("deferred", 451, "4.4.3", str(error)) from None
    wanted = _in_order(mx[:HOSTS_AT_MOST])
    found = await asyncio.gather(*(_host(one.host, port, resolver, config, secure=mx.secure) for one in wanted))
    if not any(isinstance(one, Host) for one in found) and not any(ourselves.is_name(one.host) for one in wanted):
        raise _unusable(domain, mx, [one for one in found if isinstance(one, ResolverError)])
    known = [
        (one.preference, host if isinstance(host, Host) else Host(one.host, port, ()))
        for one, host in zip(wanted, found, strict=True)
    ]
    return _checked_for_loop(domain, known, ourselves)


async def host_named(name: str, port: int, resolver: Resolver, config: NodeConfig) -> Host:
    """A host that somebody chose: no MX is asked for. Raises NoWay."""
    try:
        address = str(ipaddress.ip_address(name.strip("[]").removeprefix("IPv6:")))
        return Host(f"[{address}]", port, (address,))
    except ValueError:
        found = await _host(name, port, resolver, config, secure=False)
    if isinstance(found, Host):
        return found
    raise NoWay("deferred", 451, "4.4.3" if found.temporary else "4.4.4", str(found))  # an operator can put that right


def _in_order(mx: Sequence[MxHost]) -> list[MxHost]:
    return sorted(mx, key=lambda one: (one.preference, random.random()))


async def _host(name: str, port: int, resolver: Resolver, config: NodeConfig, *, secure: bool) -> Host | ResolverError:
    try:
        found = await resolver.addresses(name)
    except ResolverError as error:
        return error
    left_out = {"both": "neither", "ipv6": False, "ipv4": True}[config.delivery.families]
    usable = [one for one in found if (":" in one) != left_out][:ADDRESSES_AT_MOST]
    if not usable:
        return NoSuchDomain(f"{name} has no {config.delivery.families} address")
    return Host(name, port, tuple(usable), secure, found.secure, found.name)


def _unusable(domain: str, mx: Records[MxHost], errors: list[ResolverError]) -> NoWay:
    if any(error.temporary for error in errors):
        return NoWay("deferred", 451, "4.4.3", str(next(error for error in errors if error.temporary)))
    if mx[0].implicit:
        return NoWay("failed", 550, "5.1.2", f"{domain} has neither MX nor address records")
    return NoWay("failed", 550, "5.4.4", f"no MX host of {domain} has an address: {errors[0]}")


def _checked_for_loop(domain: str, known: list[tuple[int, Host]], ourselves: Ourselves) -> list[Host]:
    ours = [
        preference
        for preference, host in known
        if ourselves.is_name(host.name) or any(ourselves.is_address(one, host.port) for one in host.addresses)
    ]
    usable = [host for preference, host in known if host.addresses and (not ours or preference < min(ours))]
    if not usable and ours:
        raise NoWay("failed", 554, "5.4.6", f"mail for {domain} loops back to this server, which does not take it")
    if not usable:
        raise NoWay("deferred", 451, "4.4.4", f"no MX host of {domain} has an address")
    return usable


def _literal(domain: str, port: int) -> Host:
    """RFC 5321 4.1.3. Raises NoWay."""
    inner = domain.removeprefix("[").removesuffix("]")
    tagged = inner.upper().startswith("IPV6:")
    try:
        address = ipaddress.ip_address(inner[5:] if tagged else inner)
        if tagged != (address.version == 6):
            raise ValueError
    except ValueError:
        raise NoWay("failed", 550, "5.1.2", f"{domain} is no address literal") from None
    return Host(domain, port, (str(address),))


def _is_wildcard(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _is_of_this_machine(address: str) -> bool:
    """A socket can be bound to it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
