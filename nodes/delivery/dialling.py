"""A TCP connection to one of a host's addresses, IPv6 with a short head start (RFC 8305), from an address of ours.

Which of the pool's addresses is sent from depends on the destination alone, so that a receiver sees one of them.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import aiohappyeyeballs

from nodes.config.node import NodeConfig
from nodes.delivery.wire import ConnectionLost, Stalled, Wire, open_wire

HEAD_START_S = 0.25
_NUMBER = re.compile(r"\[Errno (\d+)\]")
DEFAULT_POOL = "default"


class Source(NamedTuple):
    """An address of ours and the name that goes with it."""

    address: str
    name: str


def sources(config: NodeConfig, pool: str, destination: str) -> list[Source]:
    """At most one of each family out of the pool, the same for the same destination; none: the system chooses."""
    entries = config.delivery.sources.get(pool or DEFAULT_POOL, ())
    pairs = (one.partition("/") for one in entries)
    found = [Source(address, name or config.node.hostname) for address, _, name in pairs]
    chosen = []
    for version in (True, False):
        family = [one for one in found if (":" in one.address) == version]
        if family:
            chosen.append(family[zlib.crc32(destination.encode()) % len(family)])
    return chosen


async def dial(
    addresses: Sequence[str], port: int, own: Sequence[Source], timeout_s: float
) -> tuple[Wire, str, Source | None]:
    """A connection to the first of the addresses that takes one, which it was, and from which of ours if it matters.

    Raises ConnectionLost, Stalled.
    """
    families = {":" in one.address for one in own}
    reachable = [one for one in addresses if not own or (":" in one) in families]
    if not reachable:
        raise ConnectionLost("no address of ours can reach any of its addresses")
    try:
        async with asyncio.timeout(timeout_s):
            connected = await aiohappyeyeballs.start_connection(
                [_info(one, port) for one in reachable],
                local_addr_infos=[_info(one.address, 0) for one in own] or None,
                happy_eyeballs_delay=HEAD_START_S,
                interleave=1,
            )
    except TimeoutError:
        raise Stalled(f"no connection to {', '.join(reachable)} within {timeout_s:g} s") from None
    except (OSError, RuntimeError) as error:  # uvloop raises either
        raise ConnectionLost(f"no connection to {', '.join(reachable)} port {port}: {_reason(error)}") from None
    try:
        address = str(connected.getpeername()[0])
        source = next((one for one in own if (":" in one.address) == (":" in address)), None)
        return await open_wire(connected), address, source
    except OSError as error:
        connected.close()
        raise ConnectionLost(f"the connection was lost at once: {_reason(error)}") from None


def _info(address: str, port: int) -> aiohappyeyeballs.AddrInfoType:
    six = ":" in address
    where = (address, port, 0, 0) if six else (address, port)
    return socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where


def _reason(error: OSError | RuntimeError) -> str:
    """What the system says of it; of several addresses once each."""
    number = error.errno if isinstance(error, OSError) else None
    numbers = [number] if number else [int(found) for found in _NUMBER.findall(str(error))]
    return "; ".join(dict.fromkeys(os.strerror(one) for one in numbers)) or str(error)
