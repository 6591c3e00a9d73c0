"""What the DNS says, asked of a real name server on loopback that can be silent, slow, lying and more."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
import uvloop

from nodes.config.node import DnsSection
from nodes.resolver import FAILURE_S, MxHost, NoAnswer, NoSuchDomain, NullMx, Resolver, ResolverFailed, Tlsa
from tests.peers.dns_server import DnsServer, Fault

ZONE = f"""
    example.test. MX 20 second.example.test.
    example.test. MX 10 First.Example.test.
    first.example.test. A 192.0.2.1
    first.example.test. AAAA 2001:db8::1
    second.example.test. A 192.0.2.2
    host.test. A 192.0.2.3
    alias.test. CNAME first.example.test.
    nomail.test. MX 0 .
    both.test. MX 0 .
    both.test. MX 10 first.example.test.
    text.test. TXT "v=spf1 " "-all"
    _25._tcp.first.example.test. TLSA 3 1 1 {"00ff" * 16}
    1.2.0.192.in-addr.arpa. PTR First.example.test.
    short.test. 1 A 192.0.2.4
    loop.test. CNAME loop2.test.
    loop2.test. CNAME loop.test.
"""

T = TypeVar("T")


class Clock:
    """Seconds that pass when a test says so."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def asked(server: DnsServer, question: Callable[[Resolver], Awaitable[T]], **config: object) -> T:
    section = DnsSection.model_validate({"nameservers": (server.address,), "timeout_s": 2.0, **config})

    async def scenario() -> T:
        return await question(Resolver(section))

    return uvloop.run(scenario())


def test_mx_hosts_come_best_first_and_in_lower_case() -> None:
    with DnsServer(ZONE) as server:
        found = asked(server, lambda resolver: resolver.mx("Example.TEST"))
    assert found == [MxHost(10, "first.example.test"), MxHost(20, "second.example.test")]


def test_a_domain_without_mx_is_its_own_host() -> None:
    with DnsServer(ZONE) as server:
        assert asked(server, lambda resolver: resolver.mx("host.test")) == [MxHost(0, "host.test", True)]


def test_a_null_mx_says_that_the_domain_takes_no_mail() -> None:
    with DnsServer(ZONE) as server, pytest.raises(NullMx):
        asked(server, lambda resolver: resolver.mx("nomail.test"))


def test_a_null_mx_beside_another_is_passed_over() -> None:
    with DnsServer(ZONE) as server:
        assert asked(server, lambda resolver: resolver.mx("both.test")) == [MxHost(10, "first.example.test")]


def test_a_domain_that_does_not_exist_is_no_temporary_matter() -> None:
    with DnsServer(ZONE) as server, pytest.raises(NoSuchDomain) as raised:
        asked(server, lambda resolver: resolver.mx("gone.test"))
    assert not raised.value.temporary


@pytest.mark.parametrize("name", ["a..test", f"{'x' * 64}.test", f"{'x.' * 200}test", "\udcff.test", ""])
def test_what_can_be_no_domain_name_does_not_exist_and_is_not_asked_for(name: str) -> None:
    with DnsServer(ZONE) as server:
        with pytest.raises((NoSuchDomain, NoAnswer)):
            asked(server, lambda resolver: resolver.addresses(name))
        assert len(server.asked) <= 2 * (not name)


def test_addresses_of_both_families_come_ipv6_first_through_aliases() -> None:
    with DnsServer(ZONE) as server:
        found = asked(server, lambda resolver: resolver.addresses("alias.test"))
    assert found == ["2001:db8::1", "192.0.2.1"]
    assert found.name == "first.example.test"


def test_one_family_is_enough_even_where_the_server_fails_over_the_other() -> None:
    with DnsServer(ZONE) as server:
        assert asked(server, lambda resolver: resolver.addresses("second.example.test")) == ["192.0.2.2"]


def test_a_name_without_addresses_has_no_answer() -> None:
    with DnsServer(ZONE) as server, pytest.raises(NoAnswer):
        asked(server, lambda resolver: resolver.addresses("text.test"))


def test_localhost_is_never_asked_for() -> None:
    with DnsServer(ZONE) as server:
        assert asked(server, lambda resolver: resolver.addresses("localhost")) == ["::1", "127.0.0.1"]
        assert server.asked == []


def test_texts_certificates_and_names_of_addresses_are_found() -> None:
    with DnsServer(ZONE) as server:
        assert asked(server, lambda resolver: resolver.txt("text.test")) == [b"v=spf1 -all"]
        tlsa = asked(server, lambda resolver: resolver.tlsa("_25._tcp.first.example.test"))
        assert tlsa == [Tlsa(3, 1, 1, b"\x00\xff" * 16)]
        assert asked(server, lambda resolver: resolver.ptr("192.0.2.1")) == ["first.example.test"]
        with pytest.raises(NoSuchDomain):
            asked(server, lambda resolver: resolver.ptr("not an address"))


def test_the_flag_of_validation_counts_only_where_the_configuration_trusts_it() -> None:
    with DnsServer(ZONE, secure=["example.test"]) as server:
        assert asked(server, lambda resolver: resolver.mx("example.test"), trust_ad=True).secure
        assert not asked(server, lambda resolver: resolver.mx("example.test")).secure
        assert not asked(server, lambda resolver: resolver.txt("text.test"), trust_ad=True).secure


def test_a_denial_can_be_proven_too() -> None:
    with DnsServer(ZONE, secure=True) as server, pytest.raises(NoSuchDomain) as raised:
        asked(server, lambda resolver: resolver.txt("gone.test"), trust_ad=True)
    assert raised.value.secure


@pytest.mark.parametrize("fault", ["silent", "servfail", "refused", "wrong-id", "wrong-question", "garbage"])
def test_a_server_that_does_not_answer_rightly_is_a_temporary_matter(fault: Fault) -> None:
    with DnsServer(ZONE, all_fault=fault) as server, pytest.raises(ResolverFailed) as raised:
        asked(server, lambda resolver: resolver.mx("example.test"), timeout_s=0.3)
    assert raised.value.temporary


def test_aliases_that_lead_in_a_circle_end() -> None:
    with DnsServer(ZONE) as server, pytest.raises((ResolverFailed, NoAnswer)):
        asked(server, lambda resolver: resolver.addresses("loop.test"))


def test_a_truncated_answer_is_asked_for_again_over_tcp() -> None:
    with DnsServer(ZONE, all_fault="truncated") as server:
        assert len(asked(server, lambda resolver: resolver.mx("example.test"))) == 2
        assert len(server.asked) == 2


def test_an_answer_too_long_for_udp_comes_over_tcp() -> None:
    with DnsServer("\n".join(f'long.test. TXT "{number:03} {"x" * 200}"' for number in range(40))) as server:
        assert len(asked(server, lambda resolver: resolver.txt("long.test"))) == 40


def test_the_second_server_is_asked_where_the_first_is_silent() -> None:
    with DnsServer(all_fault="silent") as first, DnsServer(ZONE) as second:
        servers = (first.address, second.address)
        assert asked(first, lambda resolver: resolver.txt("text.test"), nameservers=servers, timeout_s=1.0)


def test_a_question_that_is_under_way_is_asked_once_and_survives_who_asked_first() -> None:
    async def question(resolver: Resolver) -> int:
        first = asyncio.create_task(resolver.txt("text.test"))
        others = [asyncio.create_task(resolver.txt("Text.test.")) for _ in range(50)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        first.cancel()
        return len({id(one) for one in await asyncio.gather(*others)})

    with DnsServer(ZONE) as server:
        server.misbehave("text.test", "slow")
        assert asked(server, question) == 50
        assert server.asked == ["text.test. TXT"]


@pytest.mark.parametrize("fault", [None, "servfail"])
def test_answers_denials_and_failures_are_kept_for_their_time_and_no_longer(fault: Fault | None) -> None:
    clock = Clock()

    async def question(server: DnsServer, resolver: Resolver, name: str) -> int:
        server.asked.clear()
        for _ in range(3):
            with contextlib.suppress(ResolverFailed, NoSuchDomain):
                await resolver.lookup(name, "A")
        return len(server.asked)

    async def scenario(server: DnsServer) -> None:
        resolver = Resolver(DnsSection(nameservers=(server.address,)), clock)
        for name, ttl_s in (("short.test", 1.0), ("gone.test", 60.0)):
            clock.now_s = 0.0
            assert await question(server, resolver, name) == 1
            clock.now_s = (FAILURE_S if fault else ttl_s) - 0.01
            assert await question(server, resolver, name) == 0
            clock.now_s += 0.02
            assert await question(server, resolver, name) == 1

    with DnsServer(ZONE, all_fault=fault, negative_ttl_s=60) as server:
        asyncio.run(scenario(server))


def test_the_cache_keeps_to_its_budget_and_drops_what_was_not_used_for_longest() -> None:
    zone = "\n".join(f"n{number}.test. A 192.0.2.1" for number in range(300))

    async def question(resolver: Resolver) -> None:
        for number in range(300):
            await resolver.lookup(f"n{number}.test", "A")
            await resolver.lookup("n0.test", "A")

    with DnsServer(zone) as server:
        asked(server, question, cache_bytes=64 * 1024)
        assert len(server.asked) == 300  # n0 was used all the time, and never asked for again

        async def again(resolver: Resolver) -> None:
            await question(resolver)
            await resolver.lookup("n1.test", "A")

        server.asked.clear()
        asked(server, again, cache_bytes=64 * 1024)
        assert server.asked.count("n1.test. A") == 2


def test_questions_beyond_the_limit_wait_for_others() -> None:
    zone = "\n".join(f"n{number}.test. A 192.0.2.1" for number in range(30))

    async def question(resolver: Resolver) -> int:
        return len(await asyncio.gather(*(resolver.lookup(f"n{number}.test", "A") for number in range(30))))

    with DnsServer(zone) as server:
        assert asked(server, question, questions=2, timeout_s=5.0) == 30


def test_a_name_server_on_ipv6_is_asked_too() -> None:
    with DnsServer(ZONE, host="::1") as server:
        assert asked(server, lambda resolver: resolver.txt("text.test")) == [b"v=spf1 -all"]
