"""Names of clients, asked of a real name server on loopback."""

from __future__ import annotations

import asyncio
import smtplib
from pathlib import Path

import pytest

from nodes.config.node import DnsSection
from nodes.dns import HostNames
from nodes.resolver import Resolver
from tests.nodes.smtp.cell import Cell
from tests.peers.dns_server import DnsServer

REVERSE = "1.2.0.192.in-addr.arpa."
LOOPBACK = "1.0.0.127.in-addr.arpa. PTR client.remote.test.\nclient.remote.test. A 127.0.0.1"


def looked_up(server: DnsServer, address: str, *, times: int = 1, timeout_s: float = 3.0) -> str | None:
    config = DnsSection(client_names="all", nameservers=(server.address,), timeout_s=timeout_s)

    async def scenario() -> str | None:
        names = HostNames(config, Resolver(config))
        found = [await names.look_up(address) for _ in range(times)]
        assert names.of(address) == found[-1]
        return found[-1]

    return asyncio.run(scenario())


def test_a_name_that_leads_back_to_the_address_is_confirmed() -> None:
    with DnsServer(f"{REVERSE} PTR MX.remote.test.\nmx.remote.test. A 192.0.2.1") as server:
        assert looked_up(server, "192.0.2.1") == "mx.remote.test"


def test_a_name_that_leads_elsewhere_is_no_name() -> None:
    with DnsServer(f"{REVERSE} PTR mx.remote.test.\nmx.remote.test. A 192.0.2.99") as server:
        assert looked_up(server, "192.0.2.1") is None


def test_the_second_of_two_names_may_be_the_one_that_is_confirmed() -> None:
    zone = f"{REVERSE} PTR gone.test.\n{REVERSE} PTR mx.remote.test.\nmx.remote.test. A 192.0.2.1"
    with DnsServer(zone) as server:
        assert looked_up(server, "192.0.2.1") == "mx.remote.test"


def test_an_address_without_a_name_is_asked_for_once() -> None:
    with DnsServer() as server:
        assert looked_up(server, "192.0.2.1", times=3) is None
        assert len(server.asked) == 1


def test_a_name_server_that_is_silent_is_not_waited_for_longer_than_told() -> None:
    with DnsServer(all_fault="silent") as server:
        assert looked_up(server, "192.0.2.1", timeout_s=0.2) is None


@pytest.mark.parametrize(
    ("policy", "address", "wanted"),
    [
        ("off", "192.0.2.1", False),
        ("remote", "192.0.2.1", True),
        ("remote", "127.0.0.1", False),
        ("remote", "::1", False),
        ("remote", "fe80::1%eth0", True),
        ("remote", "", False),
        ("all", "127.0.0.1", True),
    ],
)
def test_policy_says_whose_names_are_looked_up(policy: str, address: str, wanted: bool) -> None:
    config = DnsSection.model_validate({"client_names": policy})
    names = HostNames(config, Resolver(config))
    assert names.wanted(address) is wanted


def test_a_message_from_a_client_with_a_confirmed_name_says_so_in_its_trace(tmp_path: Path) -> None:
    with DnsServer(LOOPBACK) as server:
        dns = {"client_names": "all", "nameservers": [server.address]}
        with Cell(tmp_path, dns=dns) as cell:
            for number in range(1, 21):  # the first may be accepted before the name is known
                with smtplib.SMTP("127.0.0.1", cell.port("smtp")) as client:
                    client.sendmail("bob@sender.test", "alice@example.test", b"Subject: hi\r\n\r\nhi\r\n")
                message, _ = cell.inbox("alice@example.test")[number - 1]
                if b"(client.remote.test [127.0.0.1])" in message.trace:
                    return
    raise AssertionError(message.trace)
