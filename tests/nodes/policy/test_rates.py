"""Rates in front of real listeners: of clients from elsewhere, of accounts, of tenants; of all nodes together."""

from __future__ import annotations

import smtplib
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from nodes.policy.leases import Leases
from nodes.policy.rates import Connecting, Rates
from nodes.policy.tenants import TenantPolicies
from nodes.smtp.checks import Check
from nodes.smtp.session import Envelope, Session
from tests.nodes.policy.elsewhere import TRUSTING, answer_to, client_at
from tests.nodes.policy.trio import trio, until
from tests.nodes.smtp.cell import ADMIN, Cell
from tests.nodes.smtp.dialogue import Dialogue

Run = Callable[[Coroutine[Any, Any, Any]], Any]
ALICE, BOB = "alice@example.test", "bob@example.test"
MAIL = b"Subject: x\r\n\r\nx\r\n"


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


MakeLimited = Callable[..., Cell]


@pytest.fixture
def make_limited(tmp_path: Path, clock: Clock) -> Iterator[MakeLimited]:
    """make_limited(**settings of [policy]): a cell whose buckets fill only when the clock is moved."""
    started: list[Cell] = []

    def make(**policy: Any) -> Cell:
        cell = Cell(
            tmp_path,
            checks=lambda cell: (
                Connecting(cell.config.policy, cell.metrics, Leases(now_s=clock)),
                Rates(cell.config.policy, TenantPolicies(cell.log, cell.config), cell.metrics, Leases(now_s=clock)),
            )[not policy.get("client_connections_per_hour") :],
            sections={"policy": policy, "smtp": TRUSTING},
        )
        started.append(cell.__enter__())
        return cell

    yield make
    for cell in started:
        cell.__exit__()


def submit(cell: Cell, sender: str, *recipients: str) -> dict[str, tuple[int, bytes]]:
    """Recipients that were refused; raises smtplib's errors when all were, or the message."""
    with smtplib.SMTP("127.0.0.1", cell.port("submission")) as client:
        client.login(sender, f"secret of {sender.partition('@')[0]}")
        return client.sendmail(sender, recipients, MAIL)


def refusals(cell: Cell, reason: str) -> float:
    value = cell.metrics.registry.get_sample_value("mailraft_policy_refused_total", {"reason": reason})
    return value or 0.0


def test_a_client_that_connects_too_often_is_told_when_to_come_again(make_limited: MakeLimited, clock: Clock) -> None:
    cell = make_limited(client_connections_per_hour=2)
    assert [answer_to(cell.port("smtp"), "192.0.2.1", ALICE)[:3] for _ in range(2)] == ["250", "250"]
    client = Dialogue(cell.port("smtp"))
    client.read()
    client.ask("EHLO proxy.test")
    answer = client.ask("XCLIENT ADDR=192.0.2.1")
    assert answer == "421 4.7.0 Too many connections of this client for now, come again in 1800 seconds"
    assert client.line() == b""
    client.close()
    assert answer_to(cell.port("smtp"), "192.0.2.2", ALICE).startswith("250")
    clock.now_s += 1801
    assert answer_to(cell.port("smtp"), "192.0.2.1", ALICE).startswith("250")
    assert refusals(cell, "client rate") == 1


def test_a_clients_recipients_are_counted_whatever_becomes_of_them(make_limited: MakeLimited, clock: Clock) -> None:
    cell = make_limited(client_recipients_per_hour=3)
    client = client_at(cell.port("smtp"), "IPV6:2001:db8::1")
    answers = client.begin(ALICE, BOB, ALICE, BOB)
    assert [one[:9] for one in answers] == ["250 2.1.5", "250 2.1.5", "250 2.1.5", "451 4.7.0"]
    assert client.transfer(MAIL).startswith("250")
    client.close()
    assert answer_to(cell.port("smtp"), "IPV6:2001:db8::2", ALICE).startswith("451 4.7.0")  # the same /64
    clock.now_s += 1201
    assert answer_to(cell.port("smtp"), "IPV6:2001:db8::2", ALICE).startswith("250")


def test_a_client_that_has_sent_enough_hears_so_before_its_next_message(make_limited: MakeLimited) -> None:
    cell = make_limited(client_messages_per_hour=2)
    client = client_at(cell.port("smtp"), "192.0.2.1")
    for _ in range(2):
        client.begin(ALICE)
        assert client.transfer(MAIL).startswith("250")
    assert client.begin(ALICE)[0].startswith("451 4.7.0 Too many messages of this client")
    client.close()
    assert len(cell.inbox(ALICE)) == 2


def test_transactions_that_were_begun_together_take_no_more_than_there_is(make_limited: MakeLimited) -> None:
    cell = make_limited(client_messages_per_hour=1)
    clients = [client_at(cell.port("smtp"), "192.0.2.1") for _ in range(2)]
    for client in clients:
        assert client.begin(ALICE)[0].startswith("250")
    assert [client.transfer(MAIL)[:9] for client in clients] == ["250 2.0.0", "451 4.7.0"]
    for client in clients:
        client.close()
    assert len(cell.inbox(ALICE)) == 1


def test_this_machine_and_exempt_networks_are_not_counted(make_limited: MakeLimited) -> None:
    cell = make_limited(client_connections_per_hour=1, client_recipients_per_hour=1, exempt=["192.0.2.0/24"])
    for address in ("", "192.0.2.1"):
        assert [answer_to(cell.port("smtp"), address, ALICE)[:3] for _ in range(3)] == ["250"] * 3


def test_an_account_submits_so_much_and_others_are_not_concerned(make_limited: MakeLimited, clock: Clock) -> None:
    cell = make_limited(account_messages_per_hour=2, client_messages_per_hour=1)
    submit(cell, ALICE, BOB)
    submit(cell, ALICE, BOB)
    with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
        submit(cell, ALICE, BOB)
    assert refused.value.recipients[BOB][0] == 451
    assert (
        b"4.7.0 Too many messages of this account for now, come again in 1800 seconds"
        in refused.value.recipients[BOB][1]
    )
    assert submit(cell, BOB, ALICE) == {}
    clock.now_s += 1801
    assert submit(cell, ALICE, BOB) == {}
    assert refusals(cell, "account rate") == 1


def test_an_accounts_recipients_are_counted_here_and_elsewhere(make_limited: MakeLimited) -> None:
    cell = make_limited(account_recipients_per_hour=3)
    refused = submit(cell, ALICE, BOB, "a@remote.test", "b@remote.test", "c@remote.test")
    assert list(refused) == ["c@remote.test"]
    assert sum(len(items) for items in cell.queued().values()) == 1


def test_all_accounts_of_a_tenant_share_its_rate(make_limited: MakeLimited) -> None:
    cell = make_limited(tenant_recipients_per_hour=2, account_recipients_per_hour=100)
    cell.call(cell.directory.add_tenant("other", ["other.test"], ADMIN))
    cell.call(cell.directory.add_account("carol@other.test", "secret of carol", None, ADMIN))
    submit(cell, ALICE, BOB)
    submit(cell, BOB, ALICE)
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        submit(cell, ALICE, BOB)
    assert submit(cell, "carol@other.test", ALICE) == {}
    assert refusals(cell, "tenant rate") == 1


def test_where_nothing_is_limited_no_recipient_waits_for_it(make_limited: MakeLimited) -> None:
    cell = make_limited()
    (rates,) = cell.smtp_listener("smtp").intake.checks.recipient
    session = cell.smtp_listener("smtp").new_session()
    assert cell.call(asked(rates, session)) is False


async def asked(rates: Check, session: Session) -> bool:
    return rates.concerns(session, Envelope())


def test_a_client_that_goes_to_another_node_has_the_same_bucket(run: Run, tmp_path: Path) -> None:
    async def live() -> None:
        async with trio(tmp_path / "cell", "policy.client_recipients_per_hour=2") as nodes:
            found = [nodes.check(one, Rates).leases for one in range(3)]
            await until(lambda: all(isinstance(one, Leases) and len(one.share.present) == 2 for one in found))
            assert [(await nodes.answer(one, "192.0.2.1"))[:3] for one in (0, 1, 2, 0)] == ["250", "250", "451", "451"]
            assert (await nodes.answer(1, "192.0.2.1")).startswith("451 4.7.0")
            assert (await nodes.answer(2, "192.0.2.9")).startswith("250")

    with structlog.testing.capture_logs():
        run(live())
