"""Commands by the hour, and the tarpit: in front of real listeners, and of all nodes together."""

from __future__ import annotations

import smtplib
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from nodes.config.policy import PolicySection
from nodes.failures import key_of
from nodes.metrics import Metrics
from nodes.policy.leases import Leases
from nodes.policy.pace import Commands, LoggedIn, Tarpit
from nodes.policy.tenants import TenantPolicies
from tests.nodes.policy.elsewhere import TRUSTING, client_at
from tests.nodes.policy.test_rates import Clock
from tests.nodes.policy.trio import trio, until
from tests.nodes.smtp.cell import ADMIN, Cell
from tests.nodes.smtp.dialogue import Dialogue

Run = Callable[[Coroutine[Any, Any, Any]], Any]
MakePaced = Callable[..., tuple[Cell, Tarpit, Clock]]
ALICE = "alice@example.test"
LONG_S = 600.0  # no test waits for it


@pytest.fixture
def make_paced(tmp_path: Path) -> Iterator[MakePaced]:
    """make_paced(**settings of [policy]): a cell, its tarpit, and the clock of its buckets."""
    started: list[Cell] = []

    def make(**policy: Any) -> tuple[Cell, Tarpit, Clock]:
        clock, made = Clock(), []

        def checks(cell: Cell) -> tuple[LoggedIn, Commands, Tarpit]:
            made.append(Tarpit(cell.config.policy, cell.metrics))
            policies = TenantPolicies(cell.log, cell.config)
            logged_in = LoggedIn(policies, cell.metrics, Leases(now_s=clock))
            return logged_in, Commands(cell.config.policy, policies, cell.metrics, clock), made[0]

        cell = Cell(tmp_path, checks=checks, sections={"policy": policy, "smtp": TRUSTING})
        started.append(cell.__enter__())
        return cell, made[0], clock

    yield make
    for cell in started:
        cell.__exit__()


def closed(client: Dialogue) -> bool:
    return client.line() == b""


def test_a_client_that_says_too_much_in_an_hour_is_closed_and_told_when_to_come_again(make_paced: MakePaced) -> None:
    cell, _, clock = make_paced(client_commands_per_hour=3)
    client = client_at(cell.port("smtp"), "192.0.2.1")  # EHLO was the first
    assert [client.ask("NOOP")[:3] for _ in range(2)] == ["250", "250"]
    assert client.ask("NOOP") == "421 4.7.0 Too many commands of this client for now, come again in 1200 seconds"
    assert closed(client)
    client.close()
    clock.now_s += 3601
    client = client_at(cell.port("smtp"), "192.0.2.1")
    assert client.ask("NOOP").startswith("250")
    client.close()


def test_commands_that_there_are_not_count_too_and_those_of_this_machine_do_not(make_paced: MakePaced) -> None:
    cell, _, _ = make_paced(client_commands_per_hour=2)
    client = client_at(cell.port("smtp"), "192.0.2.1")
    assert client.ask("NONSENSE").startswith("500")
    assert client.ask("NOOP").startswith("421 4.7.0")
    client.close()
    own = client_at(cell.port("smtp"), "")
    assert [own.ask("NOOP")[:3] for _ in range(5)] == ["250"] * 5
    own.close()


def test_the_commands_of_an_account_are_counted_over_all_its_connections(make_paced: MakePaced) -> None:
    cell, _, _ = make_paced(account_commands_per_hour=2)
    with smtplib.SMTP("127.0.0.1", cell.port("submission")) as client:
        client.login(ALICE, "secret of alice")
        assert client.noop()[0] == 250
    with smtplib.SMTP("127.0.0.1", cell.port("submission")) as client:  # QUIT was the second
        client.login(ALICE, "secret of alice")
        assert client.noop() == (421, b"4.7.0 Too many commands of this account for now, come again in 1800 seconds")
        client.close()
    with smtplib.SMTP("127.0.0.1", cell.port("submission")) as client:
        client.login("bob@example.test", "secret of bob")
        assert client.noop()[0] == 250


def test_all_accounts_of_a_tenant_share_its_commands(make_paced: MakePaced) -> None:
    cell, _, clock = make_paced(tenant_commands_per_hour=3)

    def said(name: str) -> tuple[int, bytes]:
        with smtplib.SMTP("127.0.0.1", cell.port("submission")) as client:
            client.login(f"{name}@example.test", f"secret of {name}")
            answer = client.noop()
            client.close()
            return answer

    assert [said(name)[0] for name in ("alice", "bob", "alice")] == [250, 250, 250]
    assert said("bob") == (421, b"4.7.0 Too many commands of this tenant for now, come again in 1200 seconds")
    cell.call(cell.directory.add_tenant("other", ["other.test"], ADMIN))
    cell.call(cell.directory.add_account("eve@other.test", "secret of eve", None, ADMIN))
    with smtplib.SMTP("127.0.0.1", cell.port("submission")) as client:
        client.login("eve@other.test", "secret of eve")
        assert client.noop()[0] == 250  # another tenant is not concerned
    clock.now_s += 3601
    assert said("bob")[0] == 250


def test_connections_that_log_in_are_counted_by_account_and_by_tenant(make_paced: MakePaced) -> None:
    cell, _, clock = make_paced(account_connections_per_hour=2, tenant_connections_per_hour=3)

    def logged_in(name: str) -> tuple[int, bytes]:
        with smtplib.SMTP("127.0.0.1", cell.port("submission")) as client:
            client.login(f"{name}@example.test", f"secret of {name}")
            answer = client.noop()
            if answer[0] == 250:
                assert client.noop()[0] == 250  # one connection is one, whatever is said over it
            client.close()
            return answer

    assert [logged_in("alice")[0] for _ in range(2)] == [250, 250]
    assert logged_in("alice") == (
        421,
        b"4.7.0 Too many connections of this account for now, come again in 1800 seconds",
    )
    assert logged_in("bob")[0] == 250
    assert logged_in("bob") == (421, b"4.7.0 Too many connections of this tenant for now, come again in 1200 seconds")
    clock.now_s += 3601
    assert logged_in("alice")[0] == 250


def test_each_refusal_waits_longer_than_the_one_before_it_up_to_a_limit() -> None:
    tarpit = Tarpit(PolicySection(tarpit_s=2, tarpit_free=3, tarpit_longest_s=9), Metrics("n1"))
    assert [tarpit.delay_s(count) for count in range(1, 10)] == [0, 0, 0, 2, 4, 6, 8, 9, 9]


def refusals_of(client: Dialogue, count: int) -> None:
    for _ in range(count):
        client.send(b"RCPT TO:<nobody@example.test>\r\n")


def test_a_refusal_beyond_those_that_are_free_is_held_back_until_the_client_goes(make_paced: MakePaced) -> None:
    cell, tarpit, _ = make_paced(tarpit_s=LONG_S, tarpit_longest_s=LONG_S, tarpit_free=2)
    client = client_at(cell.port("smtp"), "192.0.2.1")
    client.ask("MAIL FROM:<a@remote.test>")
    refusals_of(client, 3)
    assert [client.read()[:9] for _ in range(2)] == ["550 5.1.1"] * 2
    cell.until(lambda: tarpit.held == 1)
    client.close()
    cell.until(lambda: tarpit.held == 0)


def test_a_held_refusal_comes_in_its_place_among_the_replies(make_paced: MakePaced) -> None:
    cell, tarpit, _ = make_paced(tarpit_s=0.05, tarpit_free=0)
    client = client_at(cell.port("smtp"), "192.0.2.1")
    client.send(
        b"MAIL FROM:<a@remote.test>\r\nRCPT TO:<nobody@example.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n"
    )
    assert [client.read()[:3] for _ in range(4)] == ["250", "550", "250", "354"]
    client.send(b"Subject: x\r\n\r\n.\r\n")
    assert client.read().startswith("250")
    assert tarpit.held == 0
    client.close()


def test_no_more_sessions_are_held_than_allowed_and_the_others_hear_at_once(make_paced: MakePaced) -> None:
    cell, tarpit, _ = make_paced(tarpit_s=LONG_S, tarpit_longest_s=LONG_S, tarpit_free=0, tarpit_sessions=2)
    clients = [client_at(cell.port("smtp"), f"192.0.2.{number}") for number in range(1, 4)]
    for client in clients[:2]:
        client.send(b"NONSENSE\r\n")
    cell.until(lambda: tarpit.held == 2)
    assert clients[2].ask("NONSENSE").startswith("500")
    for client in clients:
        client.close()


def test_a_node_that_stops_lets_nobody_wait_in_the_tarpit(make_paced: MakePaced) -> None:
    cell, tarpit, _ = make_paced(tarpit_s=LONG_S, tarpit_longest_s=LONG_S, tarpit_free=0)
    client = client_at(cell.port("smtp"), "192.0.2.1")
    client.send(b"NONSENSE\r\n")
    cell.until(lambda: tarpit.held == 1)
    cell.call(cell.listeners["smtp"].stop(LONG_S))
    assert client.read().startswith("421 4.3.2")
    assert tarpit.held == 0
    client.close()


def test_a_temporary_refusal_or_one_of_this_machine_does_not_count(make_paced: MakePaced) -> None:
    cell, tarpit, _ = make_paced(tarpit_s=LONG_S, tarpit_longest_s=LONG_S, tarpit_free=0, client_commands_per_hour=3)
    client = client_at(cell.port("smtp"), "192.0.2.1")
    assert [client.ask("NOOP")[:3] for _ in range(3)] == ["250", "250", "421"]
    client.close()
    own = client_at(cell.port("smtp"), "")
    assert own.ask("NONSENSE").startswith("500")  # nor this machine
    own.close()
    assert len(tarpit.refusals) == 0


def test_refusals_at_one_node_are_known_at_the_others(run: Run, tmp_path: Path) -> None:
    async def live() -> None:
        async with trio(tmp_path / "cell", "policy.tarpit_s=0.01", "policy.tarpit_free=1000") as nodes:
            for _ in range(2):
                assert (await nodes.answer(0, "192.0.2.1", "nobody@example.test")).startswith("550")
            key = key_of("refused", "192.0.2.1")
            await until(lambda: all(nodes.check(one, Tarpit).refusals.count(key) == 2 for one in (1, 2)))

    with structlog.testing.capture_logs():
        run(live())
