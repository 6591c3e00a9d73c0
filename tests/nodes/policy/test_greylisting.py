"""Greylisting in front of real listeners: who is put off, who is known, and that all nodes know it."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from nodes.config.policy import PolicySection
from nodes.metrics import Metrics
from nodes.policy import dnsbl
from nodes.policy.greylisting import Greylisting, network_name
from nodes.policy.tenants import MailPolicy, TenantPolicies
from nodes.smtp.checks import Check
from tests.nodes.policy.elsewhere import TRUSTING, answer_to, client_at
from tests.nodes.policy.trio import trio, until
from tests.nodes.smtp.cell import Cell
from tests.peers.dns_server import DnsServer

Run = Callable[[Coroutine[Any, Any, Any]], Any]
ALICE, BOB = "alice@example.test", "bob@example.test"
SENDER = "sender@remote.test"


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory, clock: Clock) -> Iterator[Cell]:
    def checks(cell: Cell) -> tuple[Check, ...]:
        policy_of = TenantPolicies(cell.log, cell.config).of
        lists = dnsbl.checks(cell.config.policy, policy_of, cell.resolver, cell.metrics)
        return (*lists, Greylisting(cell.config.policy, policy_of, cell.metrics, lists[0], clock))

    with (
        DnsServer("9.2.0.192.wl.test. A 127.0.5.2\nwl.test. TXT x") as names,
        Cell(
            tmp_path_factory.mktemp("grey"),
            checks=checks,
            sections={
                "policy": {"greylisting": True, "greylist_delay_s": 300, "allowlists": ["wl.test"]},
                "smtp": TRUSTING,
            },
            dns={"nameservers": [names.address]},
        ) as started,
    ):
        yield started


def test_who_is_not_known_is_told_when_to_come_again_and_is_taken_then(grey: Cell, clock: Clock) -> None:
    port = grey.port("smtp")
    assert answer_to(port, "192.0.2.1", ALICE) == (
        "451 4.7.1 Greylisted: not known here yet, come again in 300 seconds"
    )
    clock.now_s += 100
    assert "in 200 seconds" in answer_to(port, "192.0.2.1", ALICE)
    clock.now_s += 200
    client = client_at(port, "192.0.2.1")
    assert client.begin(ALICE)[0].startswith("250")
    assert client.transfer(b"Subject: x\r\n\r\nx\r\n").startswith("250")
    client.close()
    assert 'mailraft_policy_refused_total{reason="greylist"}' in grey.metrics.exposition().decode()


@pytest.mark.parametrize("other", ["192.0.2.99", "IPV6:::ffff:192.0.2.3"])
def test_it_may_come_again_from_another_address_of_its_network(grey: Cell, clock: Clock, other: str) -> None:
    sender = f"x{len(other)}@remote.test"
    assert answer_to(grey.port("smtp"), "192.0.2.1", BOB, sender).startswith("451 4.7.1")
    clock.now_s += 300
    assert answer_to(grey.port("smtp"), other, BOB, sender).startswith("250")


def test_another_network_sender_or_recipient_is_another_attempt(grey: Cell, clock: Clock) -> None:
    port = grey.port("smtp")
    answer_to(port, "198.51.100.1", ALICE)
    clock.now_s += 300
    assert answer_to(port, "198.51.101.1", ALICE).startswith("451")
    assert answer_to(port, "198.51.100.1", BOB).startswith("451")
    assert answer_to(port, "198.51.100.1", ALICE, "another@remote.test").startswith("451")
    assert answer_to(port, "198.51.100.1", "ALICE@example.test", "Sender@Remote.test").startswith("250")


def test_an_allowlist_this_machine_and_the_postmaster_are_not_put_off(grey: Cell) -> None:
    assert answer_to(grey.port("smtp"), "192.0.2.9", ALICE, "allowed@remote.test").startswith("250")
    assert answer_to(grey.port("smtp"), "203.0.113.1", "postmaster@example.test").startswith("250")
    assert answer_to(grey.port("smtp"), "", ALICE).startswith("250")


def made(clock: Clock, **settings: Any) -> Greylisting:
    return Greylisting(PolicySection(**settings), lambda _: MailPolicy(), Metrics("n1"), None, clock)


def test_a_network_that_came_again_often_enough_is_asked_no_more() -> None:
    clock, client = Clock(), ipaddress.ip_address("2001:db8::1")
    greylisting = made(clock, greylist_known_after=3)
    for number in range(3):
        assert greylisting.left_s(client, f"{number}@remote.test", ALICE, 300) == 300
        clock.now_s += 300
        assert greylisting.left_s(client, f"{number}@remote.test", ALICE, 300) == 0
        assert greylisting.left_s(client, f"{number}@remote.test", ALICE, 300) == 0  # counted once
    assert greylisting.left_s(ipaddress.ip_address("2001:db8::2"), "new@remote.test", BOB, 300) == 0
    assert greylisting.left_s(ipaddress.ip_address("2001:db8:0:1::1"), "new@remote.test", BOB, 300) == 300


def test_who_comes_again_too_late_begins_anew_and_who_goes_on_coming_stays_known() -> None:
    clock, client = Clock(), ipaddress.ip_address("192.0.2.1")
    greylisting = made(clock, greylist_wait_s=1000, greylist_keep_s=10_000)
    greylisting.left_s(client, SENDER, ALICE, 300)
    clock.now_s += 1301
    assert greylisting.left_s(client, SENDER, ALICE, 300) == 300
    clock.now_s += 300
    assert greylisting.left_s(client, SENDER, ALICE, 300) == 0
    for _ in range(5):
        clock.now_s += 9_000
        assert greylisting.left_s(client, SENDER, ALICE, 300) == 0
    clock.now_s += 10_001
    assert greylisting.left_s(client, SENDER, ALICE, 300) == 300


def test_a_flood_of_attempts_does_not_drive_out_who_is_known() -> None:
    clock, client = Clock(), ipaddress.ip_address("192.0.2.1")
    greylisting = made(clock, greylist_entries=100)
    greylisting.left_s(client, SENDER, ALICE, 300)
    clock.now_s += 300
    greylisting.left_s(client, SENDER, ALICE, 300)
    for number in range(1000):
        greylisting.left_s(ipaddress.ip_address("203.0.113.1"), f"{number}@flood.test", ALICE, 300)
    assert len(greylisting.waiting) == 100
    assert greylisting.left_s(client, SENDER, ALICE, 300) == 0


def test_networks_are_those_that_one_sender_has() -> None:
    assert network_name(ipaddress.ip_address("192.0.2.77")) == "192.0.2.0/24"
    assert network_name(ipaddress.ip_address("2001:db8:1:2:3::4")) == "2001:db8:1:2::/64"


def test_the_other_nodes_know_what_a_lost_node_has_seen_and_tell_it_when_it_is_back(run: Run, tmp_path: Path) -> None:
    async def live() -> None:
        async with trio(tmp_path / "cell", "policy.greylisting=true", "policy.greylist_delay_s=0.01") as nodes:
            assert (await nodes.answer(0, "192.0.2.1")).startswith("451 4.7.1")
            await until(lambda: all(len(nodes.check(one, Greylisting).waiting) == 1 for one in (1, 2)))
            await nodes.lose(0)
            await asyncio.sleep(0.02)  # the delay, at least
            assert (await nodes.answer(1, "192.0.2.1")).startswith("250")
            await nodes.come_back(0)
            await until(lambda: len(nodes.check(0, Greylisting).known) == 1)
            assert (await nodes.answer(0, "192.0.2.1")).startswith("250")

    with structlog.testing.capture_logs():
        run(live())
