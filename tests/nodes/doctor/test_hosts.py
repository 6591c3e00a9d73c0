"""What the doctor says of the hosts that take a domain's mail: names both ways, ports, certificates."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from nodes.config.node import DnsSection
from nodes.doctor import Finding, hosts
from nodes.doctor.hosts import Host, certificate_problem, mx_hosts, ports, reverse_names, spki_sha256
from nodes.resolver import Resolver
from tests.nodes.smtp.cell import Cell
from tests.peers.dns_server import DnsServer

LOOPBACK = Host("localhost", 10, ("127.0.0.1",), False)


def asked(zone: str, ask: Callable[[Resolver], Coroutine[Any, Any, Any]]) -> Any:
    async def scenario() -> Any:
        with DnsServer(zone) as server:
            resolver = Resolver(DnsSection(nameservers=(server.address,)))
            try:
                return await ask(resolver)
            finally:
                resolver.close()

    return asyncio.run(scenario())


def test_hosts_come_in_the_order_in_which_they_are_tried() -> None:
    zone = "one.test. MX 20 b.one.test.\none.test. MX 10 a.one.test.\na.one.test. A 192.0.2.1\nb.one.test. A 192.0.2.2"
    found, findings = asked(zone, lambda resolver: mx_hosts(resolver, "one.test"))
    assert [(host.name, host.addresses) for host in found] == [
        ("a.one.test", ("192.0.2.1",)),
        ("b.one.test", ("192.0.2.2",)),
    ]
    assert {one.status for one in findings} == {"ok"}
    assert hosts.ours(found, "one.test", "A.one.test") == []
    (elsewhere,) = hosts.ours(found, "one.test", "mx.mine.test")
    assert elsewhere.records == ("one.test. 3600 IN MX 10 mx.mine.test.",)


def test_a_domain_without_mx_with_a_null_mx_or_unknown_is_an_error() -> None:
    for zone in ("one.test. A 192.0.2.1", "one.test. MX 0 .", "two.test. A 192.0.2.1"):
        _, findings = asked(zone, lambda resolver: mx_hosts(resolver, "one.test"))
        assert findings[0].status == "error", zone


def test_an_mx_without_an_address_is_an_error() -> None:
    found, findings = asked("one.test. MX 10 a.one.test.", lambda resolver: mx_hosts(resolver, "one.test"))
    assert (found, [one.status for one in findings]) == ([], ["error"])


def test_an_mx_that_is_an_alias_is_told_with_the_name_to_put_there() -> None:
    zone = "one.test. MX 10 a.one.test.\na.one.test. CNAME host.one.test.\nhost.one.test. A 192.0.2.1"
    found, findings = asked(zone, lambda resolver: mx_hosts(resolver, "one.test"))
    assert (found[0].name, found[0].canonical, findings[1].status) == ("a.one.test", "host.one.test", "warning")
    assert findings[1].records == ("one.test. 3600 IN MX 10 host.one.test.",)


def test_an_address_is_to_have_a_name_that_has_the_address() -> None:
    host = Host("a.one.test", 10, ("192.0.2.1",), False)

    def reverse(zone: str) -> Finding:
        found: list[Finding] = asked(zone, lambda resolver: reverse_names(resolver, [host]))
        return found[0]

    right = "1.2.0.192.in-addr.arpa. PTR a.one.test.\na.one.test. A 192.0.2.1"
    assert reverse(right).status == "ok"
    assert reverse(right.replace("a.one", "other.one")).status == "note"
    assert reverse(right.replace("A 192.0.2.1", "A 192.0.2.9")).status == "error"
    assert reverse("a.one.test. A 192.0.2.1").status == "error"


def test_a_server_with_tls_is_seen_with_its_certificate(tmp_path: Path) -> None:
    with Cell(tmp_path) as cell:
        findings, shown = asyncio.run(ports([LOOPBACK], cell.port("smtp")))
    assert findings[0].status == "ok", findings
    certificate = shown["localhost"]["127.0.0.1"][0]
    assert len(spki_sha256(certificate)) == 64
    assert "not for elsewhere.test" in certificate_problem(certificate, "elsewhere.test")


def test_a_port_that_nobody_listens_on_is_an_error() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        findings, shown = asyncio.run(ports([LOOPBACK], unused.getsockname()[1]))
    assert (findings[0].status, shown) == ("error", {})
