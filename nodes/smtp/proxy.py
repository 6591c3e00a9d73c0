"""The PROXY protocol, versions 1 and 2 (haproxy, proxy-protocol.txt): who the client of a trusted proxy is.

`read_header` takes exactly the octets of the header from a socket, so that what follows, a TLS handshake perhaps, is
untouched. Only those that the configuration names as proxies get here.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from typing import NamedTuple

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V1_MOST = 107  # octets of a version 1 header with its CRLF (2.1)
V1_LEAST = 15  # "PROXY UNKNOWN" CRLF
V2_HEAD = 16
V2_MOST = 4096  # addresses and extensions; those of the protocol are far smaller

_FAMILIES = {1: (4, 12), 2: (16, 36)}  # AF_INET and AF_INET6: octets of an address, and of both with the ports


class BadProxyHeader(Exception):
    """What came is no PROXY header."""


class Client(NamedTuple):
    """Whose connection was passed on; None: the proxy's own (LOCAL), or one that it can not name (UNKNOWN)."""

    peer: tuple[str, int] | None


async def read_header(read_exactly: Callable[[int], Awaitable[bytes]]) -> Client:
    """Reads one header. Raises BadProxyHeader, and whatever `read_exactly` does."""
    head = await read_exactly(V1_LEAST)
    if head.startswith(SIGNATURE):
        head += await read_exactly(V2_HEAD - V1_LEAST)
        length = int.from_bytes(head[14:16])
        if length > V2_MOST:
            raise BadProxyHeader("too long")
        return parse_v2(head + (await read_exactly(length) if length else b""))
    if not head.startswith(b"PROXY "):
        raise BadProxyHeader("neither version")
    while not head.endswith(b"\r\n"):
        if len(head) >= V1_MOST:
            raise BadProxyHeader("too long")
        head += await read_exactly(1)
    return parse_v1(head)


def parse_v1(header: bytes) -> Client:
    """A whole line of version 1 (2.1)."""
    words = header.removesuffix(b"\r\n").split(b" ")
    if words[:2] == [b"PROXY", b"UNKNOWN"]:
        return Client(None)
    if len(words) != 6 or words[1] not in (b"TCP4", b"TCP6"):
        raise BadProxyHeader("not version 1")
    try:
        kind = ipaddress.IPv4Address if words[1] == b"TCP4" else ipaddress.IPv6Address
        source, _ = (str(kind(word.decode("ascii"))) for word in words[2:4])
        ports = [int(word) for word in words[4:] if word.isdigit() and int(word) < 65536]
    except ValueError:
        raise BadProxyHeader("not an address") from None
    if len(ports) != 2:
        raise BadProxyHeader("not a port")
    return Client((source, ports[0]))


def parse_v2(header: bytes) -> Client:
    """A whole header of version 2 (2.2). Extensions behind the addresses are passed over."""
    version, command, family, transport = header[12] >> 4, header[12] & 15, header[13] >> 4, header[13] & 15
    if version != 2 or command > 1:
        raise BadProxyHeader("not version 2")
    if command == 0 or family not in _FAMILIES or transport != 1:
        return Client(None)
    size, both = _FAMILIES[family]
    addresses = header[V2_HEAD : V2_HEAD + both]
    if len(addresses) < both:
        raise BadProxyHeader("too short")
    return Client((str(ipaddress.ip_address(addresses[:size])), int.from_bytes(addresses[2 * size : 2 * size + 2])))
