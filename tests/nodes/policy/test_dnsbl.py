"""DNS lists in front of a real listener, asked of a real name server; a trusted peer brings clients from elsewhere."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Callable, Iterator

import pytest
from pydantic import ValidationError

from nodes.config.policy import PolicySection, split_list
from nodes.policy.dnsbl import checks, reversed_name
from nodes.policy.tenants import MailPolicy, TenantPolicies
from tests.nodes.policy.elsewhere import TRUSTING, answer_to, client_at
from tests.nodes.smtp.cell import Cell
from tests.nodes.smtp.dialogue import Dialogue
from tests.peers.dns_server import DnsServer, Fault

SIX = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2"
ZONE = f"""
2.2.0.192.bl.test. A 127.0.0.2
{SIX}.bl.test. A 127.0.0.4
3.2.0.192.bl.test. A 127.255.255.254
4.2.0.192.bl.test. A 203.0.113.9
12.2.0.192.bl.test. A 127.0.0.1
5.2.0.192.bl.test. A 127.0.0.2
5.2.0.192.wl.test. A 127.0.5.2
6.2.0.192.bl.test. A 127.0.0.2
6.2.0.192.wl.test. A 127.0.5.0
7.2.0.192.bl.test. A 127.0.0.2
7.2.0.192.wl.test. A 127.0.0.255
8.2.0.192.weak.test. A 127.0.0.2
9.2.0.192.weak.test. A 127.0.0.2
9.2.0.192.weaker.test. A 127.0.0.2
11.2.0.192.bl.test. A 127.0.0.2
bl.test. TXT "x"
weak.test. TXT "x"
weaker.test. TXT "x"
wl.test. TXT "x"
"""
POLICY = {
    "blocklists": ["bl.test=3", "weak.test=2", "weaker.test", "broken.test=3"],
    "block_weight": 3,
    "allowlists": ["wl.test"],
    "exempt": ["192.0.2.11"],
}
Session = Callable[[str], Dialogue]


@pytest.fixture(scope="module")
def names() -> Iterator[DnsServer]:
    with DnsServer(ZONE) as server:
        yield server


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory, names: DnsServer) -> Iterator[Cell]:
    with Cell(
        tmp_path_factory.mktemp("listed"),
        checks=lambda cell: checks(
            cell.config.policy, TenantPolicies(cell.log, cell.config).of, cell.resolver, cell.metrics
        ),
        sections={"policy": POLICY, "smtp": TRUSTING},
        dns={"nameservers": [names.address], "timeout_s": 5.0},
    ) as started:
        yield started


@pytest.fixture
def session(listed: Cell) -> Iterator[Session]:
    opened: list[Dialogue] = []

    def connect(address: str) -> Dialogue:
        client = client_at(listed.port("smtp"), address)
        opened.append(client)
        return client

    yield connect
    for client in opened:
        client.close()


@pytest.mark.parametrize("address", ["192.0.2.2", "IPV6:2001:db8::1", "IPV6:::ffff:192.0.2.2"])
def test_a_client_on_a_blocklist_is_refused_with_the_lists_name(session: Session, address: str) -> None:
    (answer,) = session(address).begin("alice@example.test")
    shown = "2001:db8::1" if "2001" in address else "192.0.2.2"
    assert answer == (f"550 5.7.1 Mail from [{shown}] is refused, it is listed by bl.test; ask our postmaster why")


def test_a_client_on_a_blocklist_reaches_the_postmaster(session: Session) -> None:
    client = session("192.0.2.2")
    answers = client.begin("alice@example.test", "Postmaster@example.test", "bob@example.test")
    assert [one[:3] for one in answers] == ["550", "250", "550"]
    assert client.transfer(b"Subject: why?\r\n\r\nx\r\n").startswith("250")


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("192.0.2.1", "250"),  # on none
        ("192.0.2.3", "250"),  # the list says that it does not tell us
        ("192.0.2.4", "250"),  # an answer that is no listing
        ("192.0.2.12", "250"),  # nor is this
        ("192.0.2.5", "250"),  # allowed
        ("192.0.2.6", "550"),  # known to the allowlist, without trust
        ("192.0.2.7", "550"),  # the allowlist does not tell us
        ("192.0.2.8", "250"),  # not enough weight
        ("192.0.2.9", "550"),  # two lists together
        ("192.0.2.11", "250"),  # exempt
        ("", "250"),  # this machine
    ],
)
def test_what_the_lists_say_decides(session: Session, address: str, code: str) -> None:
    (answer,) = session(address).begin("alice@example.test")
    assert answer[:3] == code, answer


def test_a_list_that_does_not_answer_blocks_nobody_and_is_counted(
    listed: Cell, names: DnsServer, session: Session
) -> None:
    faults: tuple[tuple[int, Fault], ...] = ((21, "servfail"), (22, "refused"))
    for number, fault in faults:
        names.misbehave(f"{number}.2.0.192.broken.test", fault)
        assert session(f"192.0.2.{number}").begin("alice@example.test")[0].startswith("250")
    text = listed.metrics.exposition().decode()
    assert 'mailraft_dns_list_answers_total{answer="failed",list="broken.test"} 2.0' in text


def test_a_silent_list_costs_no_more_than_its_time(tmp_path_factory: pytest.TempPathFactory) -> None:
    with DnsServer(ZONE) as names:
        names.misbehave("2.2.0.192.silent.test", "silent")
        policy = {"blocklists": ["silent.test", "bl.test"], "lists_s": 0.2}
        with Cell(
            tmp_path_factory.mktemp("silent"),
            checks=lambda cell: checks(
                cell.config.policy, TenantPolicies(cell.log, cell.config).of, cell.resolver, cell.metrics
            ),
            sections={"policy": policy, "smtp": TRUSTING},
            dns={"nameservers": [names.address], "timeout_s": 60.0},
        ) as cell:
            assert "listed by bl.test" in answer_to(cell.port("smtp"), "192.0.2.2", "alice@example.test")


def test_lists_are_asked_once_for_a_session_and_kept_for_the_next(names: DnsServer, session: Session) -> None:
    client = session("192.0.2.30")
    client.begin("alice@example.test", "bob@example.test")
    session("192.0.2.30").begin("alice@example.test")
    assert names.asked.count("30.2.0.192.bl.test. A") == 1


def test_who_has_logged_in_is_not_looked_up(listed: Cell, names: DnsServer) -> None:
    client = Dialogue(listed.port("submission"))
    client.read()
    client.ask("EHLO proxy.test")
    client.ask("XCLIENT ADDR=192.0.2.2")
    client.ask("EHLO client.test")
    client.ask("STARTTLS")
    client.upgrade(listed.client_context())
    client.ask("EHLO client.test")
    login = base64.b64encode(b"\0alice@example.test\0secret of alice").decode()
    assert client.ask(f"AUTH PLAIN {login}").startswith("235")
    assert client.begin("bob@example.test", sender="alice@example.test")[0].startswith("250")
    client.close()


def test_the_mail_server_in_front_of_an_lmtp_listener_has_asked_itself(listed: Cell) -> None:
    client = Dialogue(listed.port("lmtp"))
    client.read()
    client.ask("LHLO proxy.test")
    assert client.ask("XCLIENT ADDR=192.0.2.2").startswith("220 ")
    client.ask("LHLO client.test")
    assert client.begin("alice@example.test")[0].startswith("250")
    client.close()


def test_without_lists_there_is_no_check(listed: Cell) -> None:
    assert checks(PolicySection(), lambda _: MailPolicy(), listed.resolver, listed.metrics) == ()


def test_names_of_addresses_are_those_of_the_rfc() -> None:
    assert reversed_name(ipaddress.ip_address("192.0.2.99")) == "99.2.0.192"
    assert reversed_name(ipaddress.ip_address("2001:db8::1")) == SIX


@pytest.mark.parametrize("entry", ["bl", "bl.test=0", "bl.test=x", "bl..test", "http://bl.test", "x" * 64 + ".test"])
def test_what_is_no_list_is_a_fault_of_the_configuration(entry: str) -> None:
    with pytest.raises(ValidationError):
        PolicySection(blocklists=(entry, "bl.test"))


def test_text_is_lists_separated_by_commas() -> None:
    config = PolicySection.model_validate({"blocklists": "zen.example.net, bl.example.org=2"})
    assert [split_list(one) for one in config.blocklists] == [("zen.example.net", 1), ("bl.example.org", 2)]
