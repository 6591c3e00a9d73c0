"""Names of clients, asked of a real name server on loopback."""

from __future__ import annotations

import asyncio
import smtplib
from pathlib import Path

import pytest

from nodes.config import DnsSection
from nodes.dns import HostNames
from tests.nodes.name_server import NameServer
from tests.nodes.smtp.cell import Cell

REVERSE = "1.2.0.192.in-addr.arpa."
LOOPBACK = {("1.0.0.127.in-addr.arpa.", "PTR"): ["client.remote.test."], ("client.remote.test.", "A"): ["127.0.0.1"]}


def looked_up(server: NameServer, address: str, *, times: int = 1, timeout_s: float = 3.0) -> str | None:
    names = HostNames(DnsSection(client_names="all", nameservers=(server.address,), timeout_s=timeout_s))

    async def scenario() -> str | None:
        found = [await names.look_up(address) for _ in range(times)]
        assert names.of(address) == found[-1]
        return found[-1]

    return asyncio.run(scenario())


def test_a_name_that_leads_back_to_the_address_is_confirmed() -> None:
    with NameServer({(REVERSE, "PTR"): ["MX.remote.test."], ("mx.remote.test.", "A"): ["192.0.2.1"]}) as server:
        assert looked_up(server, "192.0.2.1") == "mx.remote.test"


def test_a_name_that_leads_elsewhere_is_no_name() -> None:
    with NameServer({(REVERSE, "PTR"): ["mx.remote.test."], ("mx.remote.test.", "A"): ["192.0.2.99"]}) as server:
        assert looked_up(server, "192.0.2.1") is None


def test_the_second_of_two_names_may_be_the_one_that_is_confirmed() -> None:
    records = {(REVERSE, "PTR"): ["gone.test.", "mx.remote.test."], ("mx.remote.test.", "A"): ["192.0.2.1"]}
    with NameServer(records) as server:
        assert looked_up(server, "192.0.2.1") == "mx.remote.test"


def test_an_address_without_a_name_is_asked_for_once() -> None:
    with NameServer({}) as server:
        assert looked_up(server, "192.0.2.1", times=3) is None
        assert len(server.asked) == 1


def test_a_name_server_that_is_silent_is_not_waited_for_longer_than_told() -> None:
    with NameServer({}, silent=True) as server:
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
    names = HostNames(DnsSection.model_validate({"client_names": policy}))
    assert names.wanted(address) is wanted


def test_a_message_from_a_client_with_a_confirmed_name_says_so_in_its_trace(tmp_path: Path) -> None:
    with NameServer(LOOPBACK) as server:
        dns = {"client_names": "all", "nameservers": [server.address]}
        with Cell(tmp_path, dns=dns) as cell:
            for _ in range(2):  # the first may be accepted before the name is known
                with smtplib.SMTP("127.0.0.1", cell.port("smtp")) as client:
                    client.sendmail("bob@sender.test", "alice@example.test", b"Subject: hi\r\n\r\nhi\r\n")
            message, _ = cell.inbox("alice@example.test")[-1]
            assert b"(client.remote.test [127.0.0.1])" in message.trace
