"""Tenants that are suspended, or have used up a quota, as SMTP clients meet them."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.usage import DAY_MS, HOUR_MS
from tests.nodes.smtp.cell import ADMIN, Cell
from tests.nodes.smtp.dialogue import Dialogue
from tests.nodes.smtp.test_submission import ALICE, MESSAGE, logged_in

Talk = Callable[..., Dialogue]
Change = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[Cell]:
    with Cell(tmp_path, sections={"smtp": {"idle_commands": 1_000_000}}) as started:
        yield started


def suspend(cell: Cell, mail: str = "defer") -> None:
    cell.call(cell.directory.tenants.suspend("example", mail, "unpaid", ADMIN))  # type: ignore[arg-type]


def delete(cell: Cell) -> None:
    cell.call(cell.directory.tenants.delete("example", 0, "gone", ADMIN))


ENDS = [(suspend, "The organisation's service is suspended"), (delete, "The organisation is being deleted")]


def quota(cell: Cell, **values: int) -> None:
    cell.call(cell.directory.tenants.set_quotas("example", values, (), None, ADMIN))


def test_a_suspended_tenants_log_in_is_refused_and_says_so_only_to_who_knows_the_password(
    cell: Cell, talk: Talk
) -> None:
    suspend(cell)
    client = talk("submission")
    assert client.ask(f"AUTH PLAIN {ALICE}") == "535 5.7.13 The organisation's service is suspended"
    wrong = "AGFsaWNlQGV4YW1wbGUudGVzdAB3cm9uZw=="
    assert client.ask(f"AUTH PLAIN {wrong}") == "535 5.7.8 Authentication credentials invalid"


@pytest.mark.parametrize(("end", "text"), ENDS)
def test_a_session_that_is_logged_in_ends_when_its_tenant_does(
    cell: Cell, talk: Talk, end: Callable[[Cell], None], text: str
) -> None:
    client = logged_in(talk)
    end(cell)
    assert client.read() == f"421 4.7.13 {text}"
    assert client.line() == b""


@pytest.mark.parametrize(("end", "text"), ENDS)
def test_a_message_under_way_is_refused_when_the_tenant_ends_in_the_middle(
    cell: Cell, talk: Talk, end: Callable[[Cell], None], text: str
) -> None:
    client = logged_in(talk)
    assert client.begin("bob@example.test", "x@far.test", sender="alice@example.test") == ["250 2.1.5 Ok"] * 2
    assert client.ask("DATA").startswith("354")
    end(cell)
    client.send(MESSAGE + b".\r\n")
    assert client.read() == f"550 5.7.13 {text}"
    assert client.read().startswith("421 4.7.13")
    assert cell.inbox("bob@example.test") == []


@pytest.mark.parametrize(("mail", "reply"), [("defer", "450 4.2.1"), ("refuse", "550 5.2.1")])
def test_mail_for_a_suspended_tenant_is_put_off_or_refused(cell: Cell, talk: Talk, mail: str, reply: str) -> None:
    for _ in range(2):  # the second time the recipient is remembered
        assert talk().begin("alice@example.test") == ["250 2.1.5 Ok"]
    suspend(cell, mail)
    assert talk().begin("alice@example.test") == [f"{reply} The organisation's service is suspended"]
    cell.call(cell.directory.tenants.resume("example", ADMIN))
    assert talk().begin("alice@example.test") == ["250 2.1.5 Ok"]


def test_a_storage_quota_that_is_reached_during_data_refuses_the_whole_message(cell: Cell, talk: Talk) -> None:
    client = talk()
    assert client.begin("alice@example.test", "bob@example.test") == ["250 2.1.5 Ok"] * 2
    assert client.ask("DATA").startswith("354")
    quota(cell, storage_bytes=400)
    client.send(b"Subject: x\r\n\r\n" + b"x" * 60 + b"\r\n.\r\n")
    assert client.read() == "452 4.2.2 The organisation's storage is full"
    assert cell.inbox("alice@example.test") == cell.inbox("bob@example.test") == []
    assert talk().begin("alice@example.test") == ["250 2.1.5 Ok"]


def test_a_full_tenant_is_told_at_the_recipient_already(cell: Cell, talk: Talk) -> None:
    quota(cell, messages=0)
    assert talk().begin("alice@example.test") == ["452 4.2.2 The organisation has as many messages as it may"]


def test_sending_is_counted_by_recipient_and_ends_at_the_quota_of_the_hour(cell: Cell, talk: Talk) -> None:
    quota(cell, sending_per_hour=3)
    client = logged_in(talk)
    client.begin("bob@example.test", "x@far.test", sender="alice@example.test")
    assert client.transfer(MESSAGE).startswith("250")
    client.begin("x@far.test", "y@far.test", sender="alice@example.test")
    refusal = "452 4.7.0 The organisation has sent as much as it may in one hour"
    assert client.transfer(MESSAGE) == refusal
    client.begin("bob@example.test", sender="alice@example.test")
    assert client.transfer(MESSAGE).startswith("250")
    assert client.ask("MAIL FROM:<alice@example.test>") == refusal
    assert [len(one.recipients) for one in cell.queued()["far.test"]] == [1]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sending_per_day", "The organisation has sent as much as it may in one day"),
        ("account_sending_per_hour", "You have sent as much as you may in one hour"),
        ("account_sending_per_day", "You have sent as much as you may in one day"),
    ],
)
def test_each_quota_of_sending_ends_it_by_its_name(cell: Cell, talk: Talk, name: str, text: str) -> None:
    quota(cell, **{name: 2})
    client = logged_in(talk)
    client.begin("x@far.test", "y@far.test", sender="alice@example.test")
    assert client.transfer(MESSAGE).startswith("250")
    assert client.ask("MAIL FROM:<alice@example.test>") == f"452 4.7.0 {text}"


class Clock:
    """The wall clock of the node, and so of its log: some time later than it is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._real_ns, self._ahead_ms = time.time_ns, 0
        self.next_day_ms = (time.time_ns() // 1_000_000 // DAY_MS + 1) * DAY_MS
        monkeypatch.setattr(time, "time_ns", lambda: self._real_ns() + self._ahead_ms * 1_000_000)
        monkeypatch.setattr(time, "time", lambda: time.time_ns() / 1e9)

    def is_now(self, hour: float) -> None:
        """Of the next day, or of those after it."""
        self._ahead_ms = self.next_day_ms + int(hour * HOUR_MS) - self._real_ns() // 1_000_000


def test_sending_begins_anew_with_the_hour_and_with_the_day(
    cell: Cell, talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    quota(cell, sending_per_hour=2, sending_per_day=3, account_sending_per_hour=2, account_sending_per_day=3)
    client = logged_in(talk)

    def sent(*to: str) -> str:
        client.begin(*to, sender="alice@example.test")
        return client.transfer(MESSAGE)[:3]

    def refusal() -> str:
        answer = client.ask("MAIL FROM:<alice@example.test>")
        client.ask("RSET")
        return answer.rpartition(" in ")[2]

    clock.is_now(10.99)
    assert sent("x@far.test", "y@far.test") == "250"
    assert refusal() == "one hour"
    clock.is_now(11.01)
    assert sent("x@far.test") == "250"
    assert refusal() == "one day"
    clock.is_now(12.01)
    assert refusal() == "one day"
    clock.is_now(24.01)
    assert sent("x@far.test", "y@far.test") == "250"
    assert refusal() == "one hour"


@pytest.mark.parametrize(("others", "reply"), [(["eve@other.test"], "450 4.2.1"), ([], "550 5.2.1")])
def test_mail_for_several_tenants_comes_again_when_one_of_them_goes_in_the_middle(
    cell: Cell, talk: Talk, others: list[str], reply: str
) -> None:
    cell.call(cell.directory.add_tenant("other", ["other.test"], ADMIN))
    cell.call(cell.directory.add_account("eve@other.test", "secret of eve", None, ADMIN))
    client = talk()
    client.begin("alice@example.test", *others)
    assert client.ask("DATA").startswith("354")
    suspend(cell, "refuse")
    client.send(MESSAGE + b".\r\n")
    assert client.read() == f"{reply} The organisation's service is suspended"
