"""Name servers that do not answer, or lie; the nodes ask them who their clients are (nodes/dns.py)."""

import asyncio
import socket
from collections.abc import AsyncIterator
from random import Random
from typing import cast

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rrset

from chaos.faults.clients import crowd
from chaos.faults.kinds import Done, fault
from chaos.site import Site
from cli import layout

LIES = ("garbage", "nothing", "failure", "another question", "a name that does not lead back", "a name without end")
STRANGERS = 40


def prepare(site: Site) -> None:
    """Has every node ask one name server about every client, where nobody listens yet."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    for node in site.names:
        site.cluster.configure(node, "dns", {"client_names": "all", "nameservers": [address]})


@fault("dns-failure", "the name server is silent, or answers with lies, while new clients come all the time")
async def dns_failure(site: Site, lying: bool) -> AsyncIterator[Done]:
    """Of a site that was prepared."""
    smtp = [node.addresses["smtp"] for node in layout.load(site.cluster.folder).nodes]
    transport = await _listen(site, Liar(site.rng.random())) if lying else None
    try:
        with crowd("strangers", STRANGERS, smtp):
            yield Done(tuple(site.names), "lies" if lying else "silence")
    finally:
        if transport is not None:
            transport.close()


async def _listen(site: Site, liar: "Liar") -> asyncio.DatagramTransport:
    config = site.cluster.configuration(site.names[0])
    host, _, port = config["dns"]["nameservers"][0].rpartition(":")
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: liar, local_addr=(host, int(port)))
    return transport


class Liar(asyncio.DatagramProtocol):
    """A name server none of whose answers is true."""

    def __init__(self, seed: float) -> None:
        self._rng = Random(seed)
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # asyncio's own class is not a subclass of it

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        try:
            query = dns.message.from_wire(data)
        except dns.exception.DNSException:
            return
        said = lie(query, self._rng)
        if said and self._transport is not None:
            self._transport.sendto(said, address)


def lie(query: dns.message.Message, rng: Random) -> bytes:
    """An answer to a query, as bytes; it may be empty."""
    answer = dns.message.make_response(query)
    name = query.question[0].name
    match rng.choice(LIES):
        case "garbage":
            return rng.randbytes(rng.randrange(1, 600))
        case "nothing":
            return b""
        case "failure":
            answer.set_rcode(dns.rcode.SERVFAIL)
        case "another question":
            return dns.message.make_response(dns.message.make_query("elsewhere.test", "A")).to_wire()
        case "a name that does not lead back":
            answer.answer.append(dns.rrset.from_text(name, 3600, "IN", "PTR", "mx.bank.test."))
        case _:
            answer.answer.append(dns.rrset.from_text(name, 3600, "IN", "CNAME", str(name)))
    return answer.to_wire()
