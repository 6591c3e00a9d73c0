"""Whoever moves more than they may is slowed, at every front end, and never refused. Time is what the test says."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from actors.directory import Target
from nodes.config.policy import PolicySection
from nodes.metrics import Metrics
from nodes.policy.bandwidth import BURST_S, Bandwidth
from nodes.policy.tenants import MailPolicy, TenantPolicies
from tests.nodes.delivery.cell import SendingCell, wait_until
from tests.nodes.imap.client import RawClient
from tests.nodes.imap.node import PASSWORD, Node
from tests.nodes.policy.elsewhere import TRUSTING, client_at
from tests.nodes.policy.test_rates import Clock
from tests.nodes.smtp.cell import Cell
from tests.nodes.smtp.dialogue import Dialogue

ALICE = "alice@example.test"
BIG = b"Subject: x\r\n\r\n" + b"x" * 70 + b"\r\n" * 1000 + b"y" * 20_000 + b"\r\n"
RATE = 1000  # octets a second: what is big takes twenty seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_cell(tmp_path: Path, clock: Clock) -> Iterator[Callable[..., Cell]]:
    """make_cell(**settings of [policy]): a cell whose octets a second go by the clock."""
    started: list[Cell] = []

    def make(**policy: Any) -> Cell:
        cell = Cell(tmp_path, sections={"policy": policy, "smtp": TRUSTING}).__enter__()
        started.append(cell)
        policies = TenantPolicies(cell.log, cell.config)
        cell.services.bandwidth = Bandwidth(cell.config.policy, policies, cell.metrics, clock)
        return cell

    yield make
    for cell in started:
        cell.__exit__()


def is_silent(client: Dialogue | RawClient) -> bool:
    """Nothing comes."""
    found: socket.socket = client.socket if isinstance(client, RawClient) else client._socket
    found.settimeout(0.2)
    try:
        return not found.recv(1, socket.MSG_PEEK)
    except TimeoutError:
        return True
    finally:
        found.settimeout(20)


def slowed(metrics: Metrics, scope: str) -> float:
    return metrics.registry.get_sample_value("mailraft_policy_refused_total", {"reason": f"{scope} bandwidth"}) or 0.0


def test_a_client_that_sends_too_much_is_not_read_for_a_while_and_then_goes_on(
    make_cell: Callable[..., Cell], clock: Clock
) -> None:
    cell = make_cell(client_bytes_per_second=RATE)
    client = client_at(cell.port("smtp"), "192.0.2.1")
    client.begin(ALICE)
    assert client.transfer(BIG).startswith("250")
    client.send(b"NOOP\r\n")
    assert is_silent(client)
    assert slowed(cell.metrics, "client") >= 1
    other = client_at(cell.port("smtp"), "192.0.2.2")
    assert other.ask("NOOP").startswith("250")
    clock.now_s += 60
    assert client.read().startswith("250")
    for one in (client, other):
        one.close()


def test_what_one_connection_moved_slows_the_clients_next_one(make_cell: Callable[..., Cell], clock: Clock) -> None:
    cell = make_cell(client_bytes_per_second=RATE)
    client = client_at(cell.port("smtp"), "192.0.2.1")
    client.begin(ALICE)
    client.transfer(BIG)
    client.close()
    client = client_at(cell.port("smtp"), "192.0.2.1")
    client.begin(ALICE)
    client.ask("DATA")
    client.send(BIG[:5000])
    cell.until(lambda: slowed(cell.metrics, "client") >= 2)
    client.send(BIG[5000:] + b".\r\n")
    assert is_silent(client)
    clock.now_s += 600
    assert client.read().startswith("250")
    client.close()


def test_mail_that_other_servers_bring_a_tenant_counts_for_the_tenant(
    make_cell: Callable[..., Cell], clock: Clock
) -> None:
    cell = make_cell(tenant_bytes_per_second=RATE)
    client = Dialogue(cell.port("smtp"))
    client.read()
    client.ask("EHLO client.test")
    client.begin(ALICE)
    assert client.transfer(BIG).startswith("250")
    client.send(b"NOOP\r\n")
    assert is_silent(client)
    clock.now_s += 60
    assert client.read().startswith("250")
    client.close()


def test_a_pop3_session_gets_the_next_message_when_its_time_has_come(
    make_cell: Callable[..., Cell], clock: Clock
) -> None:
    cell = make_cell(account_bytes_per_second=RATE)
    sender = Dialogue(cell.port("smtp"))
    sender.read()
    sender.ask("EHLO client.test")
    for _ in range(2):
        sender.begin(ALICE)
        assert sender.transfer(BIG).startswith("250")
    sender.close()
    client = Dialogue(cell.port("pop3"))
    client.line()
    client.send(f"USER {ALICE}\r\nPASS secret of alice\r\nRETR 1\r\nRETR 2\r\n".encode())
    got = available(client)
    assert len(BIG) <= len(got) < 2 * len(BIG)
    cell.until(lambda: slowed(cell.metrics, "account") >= 1)
    for _ in range(3):
        clock.now_s += 60
        got += available(client)
    assert got.count(b"\r\n.\r\n") == 2
    client.close()


def available(client: Dialogue | RawClient) -> bytes:
    """All that comes until there is silence."""
    found: socket.socket = client.socket if isinstance(client, RawClient) else client._socket
    found.settimeout(1.0)
    got = b""
    while True:
        try:
            data = found.recv(1 << 16)
        except TimeoutError:
            return got
        got += data
        if not data:
            return got


@pytest.fixture
def node(tmp_path: Path, clock: Clock) -> Iterator[Node]:
    started = Node(tmp_path, {}, sections={"policy": {"account_bytes_per_second": RATE}})
    policies = TenantPolicies(started.log, started.services.config)
    started.services.bandwidth = Bandwidth(started.services.config.policy, policies, started.metrics, clock)
    yield started
    started.stop()


def test_an_imap_session_rests_between_messages_of_one_command(node: Node, clock: Clock) -> None:
    user = node.add_user()
    node.deliver(user, *[BIG * 15 + b"%d" % number for number in range(8)])
    client = RawClient(node.port)
    client.send(f'a LOGIN {user.login} "{PASSWORD}"\r\nb SELECT INBOX\r\nc FETCH 1:8 BODY[]\r\n'.encode())
    got, rests = available(client), 0
    while b"c OK" not in got:
        rests += 1
        clock.now_s += 1200
        got += available(client)
    assert rests >= 2  # 2.8 MB
    assert got.count(b"BODY[] {") == 8
    client.close()


def test_what_an_imap_client_sends_counts_too(node: Node, clock: Clock) -> None:
    user = node.add_user()
    client = RawClient(node.port)
    client.send(f'a LOGIN {user.login} "{PASSWORD}"\r\n'.encode())
    while not client.response().startswith(b"a OK"):
        pass
    client.send(b"b APPEND INBOX {%d+}\r\n%b\r\nc NOOP\r\n" % (len(BIG), BIG))
    assert is_silent(client)
    clock.now_s += 60
    while not client.response().startswith(b"c OK"):
        pass
    client.close()
    assert len(node.held(user)) == 1


def test_what_a_tenant_sends_to_other_servers_waits_in_the_queue(tmp_path: Path, clock: Clock) -> None:
    with SendingCell(tmp_path) as cell:
        policies: Any = SimpleNamespace(of=lambda _: MailPolicy(tenant_bytes_per_second=1000))
        cell.services.bandwidth = Bandwidth(PolicySection(), policies, cell.metrics, clock)
        cell.services.bandwidth.sent(tenant_of(cell), 9000)  # looked at again after four seconds by the node's clock
        cell.submit("bob@far.test")
        wait_until(lambda: len(cell.waiting()) == 1)
        assert not cell.peer.received
        clock.now_s += 3600
        wait_until(lambda: not cell.waiting())


def tenant_of(cell: Cell) -> bytes:
    found = cell.call(cell.directory.logins.password(ALICE, "secret of alice", "smtp"))
    assert found is not None
    return found.target.tenant


def test_nodes_rest_for_what_others_moved() -> None:
    clock = Clock()
    policies: Any = SimpleNamespace(of=lambda _: MailPolicy(account_bytes_per_second=RATE))
    here, there = (Bandwidth(PolicySection(), policies, Metrics("n1"), clock) for _ in range(2))
    flows = [one.flow("") for one in (here, there)]
    for flow in flows:
        flow.target = Target(b"t" * 16, b"a" * 16, ALICE)
    assert flows[0].moved(int(RATE * (BURST_S + 10))) == pytest.approx(10)
    data = here.buckets.changes()
    assert data is not None
    there.buckets.merge("n2", data)
    assert flows[1].owed_s() == pytest.approx(10)
    clock.now_s += 10
    assert flows[0].owed_s() == flows[1].owed_s() == 0


def test_little_is_counted_when_there_is_more_or_the_connection_ends() -> None:
    clock = Clock()
    policies: Any = SimpleNamespace(of=lambda _: MailPolicy(tenant_bytes_per_second=1))
    bandwidth = Bandwidth(PolicySection(), policies, Metrics("n1"), clock)
    flow = bandwidth.flow("192.0.2.1")
    flow.tenants = lambda: (b"t" * 16,)
    assert flow.moved(100) == 0
    assert flow.settle() == pytest.approx(95)


def test_this_machine_and_exempt_networks_are_not_slowed_as_clients() -> None:
    policies: Any = SimpleNamespace(of=lambda _: MailPolicy())
    config = PolicySection.model_validate({"client_bytes_per_second": 1, "exempt": ["192.0.2.0/24"]})
    bandwidth = Bandwidth(config, policies, Metrics("n1"))
    assert [bandwidth.flow(one).moved(10_000) > 0 for one in ("127.0.0.1", "192.0.2.1", "203.0.113.1")] == [
        False,
        False,
        True,
    ]
