"""MTA-STS policies: read as RFC 8461 says, fetched when they must be, kept for their time and across restarts."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from nodes.config.node import DnsSection
from nodes.delivery.mta_sts import StsPolicies, StsPolicy, parse_policy, parse_record
from nodes.delivery.opening import verifying_context
from nodes.delivery.policy_host import PolicyError
from nodes.delivery.tls_results import TlsResult
from nodes.resolver import Resolver
from tests.peers import certificates
from tests.peers.dns_server import DnsServer
from tests.peers.https_peer import HttpsPeer

CA = certificates.authority()
PATH = "/.well-known/mta-sts.txt"
TEXT = "version: STSv1\nmode: enforce\nmx: mx.example.test\nmax_age: 100000\n"


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        ([b"v=STSv1; id=20160831085700Z;"], "20160831085700Z"),
        ([b"v=spf1 -all", b"v=STSv1;id=1"], "1"),
        ([b"v=STSv1; more=x; id=2; other=y"], "2"),
        ([b"v=STSv1; id=1;", b"v=STSv1; id=2;"], None),
        ([b"v=STSv1; id=no-dashes;"], None),
        ([b"v=STSv1;"], None),
        ([b"v=STSv10; id=1"], None),
        ([], None),
    ],
)
def test_only_one_record_with_an_id_counts(texts: list[bytes], found: str | None) -> None:
    assert parse_record(texts) == found


def test_a_policy_is_read_with_unknown_keys_and_any_line_ends() -> None:
    text = "version: STSv1\r\nmode: testing\r\nmx: A.example.test\nmx: *.b.test.\nfuture: yes\nmax_age: 99999999999\n"
    with pytest.raises(PolicyError):
        parse_policy(text, "1", 0.0)  # a number that is none
    policy = parse_policy(text.replace("99999999999", "9999999999"), "1", 0.0)
    assert (policy.mode, policy.mx, policy.max_age_s) == ("testing", ("a.example.test", "*.b.test"), 31_557_600)


def test_little_is_kept_of_a_policy_that_is_padded() -> None:
    padding = "".join(f"note{number}: {'x' * 1000}\n" for number in range(60))
    policy = parse_policy(TEXT + f"mx: {'x' * 1000}.test\n" + padding, "1", 0.0)
    assert policy.mx == ("mx.example.test",)
    assert policy.lines[:4] == tuple(TEXT.splitlines())
    assert sum(map(len, policy.lines)) <= 4096


@pytest.mark.parametrize(
    "text",
    [
        "",
        "version: STSv2\nmode: none\nmax_age: 1",
        "version: STSv1\nmode: maybe\nmax_age: 1",
        "version: STSv1\nmode: none",
        "version: STSv1\nmode: enforce\nmax_age: 1",
        "version: STSv1\nmode: none\nmax_age: -1",
    ],
)
def test_what_is_no_policy_is_refused(text: str) -> None:
    with pytest.raises(PolicyError):
        parse_policy(text, "1", 0.0)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [("mx.example.test", True), ("a.b.test", True), ("b.test", False), ("x.a.b.test", False), ("other.test", False)],
)
def test_a_star_stands_for_one_label(host: str, allowed: bool) -> None:
    assert StsPolicy("1", "enforce", ("mx.example.test", "*.b.test"), 1, 0.0, ()).allows(host) is allowed


class Site:
    """example.test with its policy, its name server and a clock; `policies` are a node's."""

    def __init__(self, folder: Path, site: HttpsPeer, dns: DnsServer) -> None:
        self.site, self.dns, self.now_s = site, dns, 1000.0
        self.results: list[TlsResult] = []
        (folder / "ca.pem").write_bytes(CA.pem)
        self._trust: ssl.SSLContext = verifying_context(folder / "ca.pem")
        self._file = folder / "mta-sts.json"

    def node(self) -> StsPolicies:
        config = DnsSection(nameservers=(self.dns.address,), cache_bytes=65_536)
        policies = StsPolicies(
            Resolver(config), self._trust, self.site.port, self._file, self.results.append, lambda: self.now_s
        )
        return policies

    def announce(self, policy_id: str) -> None:
        self.dns.add(f'_mta-sts.example.test. 0 TXT "v=STSv1; id={policy_id};"')


def at(folder: Path, scenario: Callable[[Site], Coroutine[Any, Any, None]]) -> None:
    context = certificates.context(folder, certificates.server("mta-sts.example.test", issuer=CA))
    with HttpsPeer({PATH: TEXT}, context) as site, DnsServer("mta-sts.example.test. A 127.0.0.1") as dns:
        place = Site(folder, site, dns)
        place.announce("1")
        uvloop.run(scenario(place))


async def found(policies: StsPolicies) -> StsPolicy | None:
    return await policies.of("example.test")


def test_a_policy_is_fetched_once_for_all_who_wait_and_again_when_its_id_changes(tmp_path: Path) -> None:
    async def scenario(place: Site) -> None:
        policies = place.node()
        several = await asyncio.gather(*(found(policies) for _ in range(10)))
        assert {one.id for one in several if one} == {"1"}
        assert len(place.site.asked) == 1
        place.announce("2")
        second = await found(policies)
        assert second is not None
        assert (second.id, len(place.site.asked)) == ("2", 2)
        await policies.stop()

    at(tmp_path, scenario)


def test_a_policy_outlives_a_restart_and_its_record_but_not_its_age(tmp_path: Path) -> None:
    async def scenario(place: Site) -> None:
        first = place.node()
        await found(first)
        await first.stop()
        place.dns.remove("_mta-sts.example.test")
        again = place.node()
        known = await found(again)
        assert known is not None
        assert (known.mx, len(place.site.asked)) == (("mx.example.test",), 1)
        place.now_s += 100_001
        assert await found(again) is None
        await again.stop()

    at(tmp_path, scenario)


def test_a_policy_in_use_is_fetched_daily_and_stays_in_force_where_that_fails(tmp_path: Path) -> None:
    async def scenario(place: Site) -> None:
        policies = place.node()
        await found(policies)
        place.site.status = 500
        place.now_s += 90_000
        assert await found(policies) is not None
        assert len(place.site.asked) == 2
        await found(policies)
        assert len(place.site.asked) == 2  # a failure is not repeated at once
        place.now_s += 301
        await found(policies)
        assert len(place.site.asked) == 3
        assert {one.failure for one in place.results} == {"sts-policy-fetch-error"}
        await policies.stop()

    at(tmp_path, scenario)


@pytest.mark.parametrize(("status", "content_type"), [(302, "text/plain"), (200, "text/html"), (404, "text/plain")])
def test_a_redirect_or_another_type_is_no_policy(tmp_path: Path, status: int, content_type: str) -> None:
    async def scenario(place: Site) -> None:
        place.site.status, place.site.content_type = status, content_type
        policies = place.node()
        assert await found(policies) is None
        assert place.site.asked == [PATH]
        await policies.stop()

    at(tmp_path, scenario)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"a": 1}', b"\xff", b'{"a": [1]}'])
def test_a_file_that_holds_no_policies_is_no_reason_not_to_start(tmp_path: Path, content: bytes) -> None:
    async def scenario(place: Site) -> None:
        (tmp_path / "mta-sts.json").write_bytes(content)
        policies = place.node()
        assert await found(policies) is not None
        await policies.stop()

    at(tmp_path, scenario)
