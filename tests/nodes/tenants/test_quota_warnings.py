"""Warnings of quotas: one event and one mail for each threshold that is crossed, whoever leads."""

from __future__ import annotations

import smtplib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors import standing, usage
from actors.directory import account_of
from actors.mailbox import Expunge, folder_by_name
from actors.standing import STANDING
from actors.tenant_admin import TenantAdmin
from nodes.tenants.quota_warnings import QuotaWarnings
from tests.nodes.smtp.cell import ADMIN, Cell

ALICE, BOB = "alice@example.test", "bob@example.test"


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[Cell]:
    with Cell(tmp_path) as started:
        yield started


def look(cell: Cell) -> None:
    """One round of a node that has just begun to lead: it knows only what the tables say."""

    async def once() -> None:
        found = QuotaWarnings(cell.services)
        await found.begin()
        await found.look(time.time_ns() // 1_000_000)
        found.end()

    cell.call(once())


def deliver(cell: Cell, count: int, address: str = ALICE) -> None:
    with smtplib.SMTP("127.0.0.1", cell.port("smtp")) as client:
        for _ in range(count):
            client.sendmail("x@remote.test", [address], b"Subject: x\r\n\r\nx\r\n")


def warnings(cell: Cell, address: str) -> list[str]:
    found = [body.decode() for _, body in cell.inbox(address) if b"has reached" in body]
    return [one.partition("Subject: ")[2].partition("\r\n")[0] for one in found]


def test_an_account_is_warned_once_for_each_threshold_until_it_has_made_room(cell: Cell) -> None:
    cell.call(cell.directory.set_quota(ALICE, None, ADMIN, 40))
    deliver(cell, 32)
    look(cell)
    look(cell)
    first = f"The mailbox {ALICE} has reached 80 % of its messages"
    assert warnings(cell, ALICE) == [first]
    deliver(cell, 3)
    look(cell)
    assert warnings(cell, ALICE) == [first, first.replace("80", "90")]
    with cell.log.snapshot() as snapshot:
        target = account_of(snapshot, ALICE)
        inbox = folder_by_name(snapshot.view(target.account), "INBOX")
    assert inbox is not None
    cell.call(cell.runtime.ask(target.account, Expunge(inbox.id, tuple(range(1, 21)), True), ADMIN))
    look(cell)
    deliver(cell, 17)
    look(cell)
    assert warnings(cell, ALICE) == [first, first.replace("80", "90"), first]


def test_a_tenants_contact_is_warned_even_when_nothing_more_is_taken(cell: Cell) -> None:
    cell.call(cell.directory.tenants.set_details("example", None, BOB, ADMIN))
    deliver(cell, 2)
    cell.call(cell.directory.tenants.set_quotas("example", {"messages": 2}, (), [50, 100], ADMIN))
    look(cell)
    assert warnings(cell, BOB) == ["Your organisation has reached 100 % of its messages"]
    with cell.log.snapshot() as snapshot:
        tenant = cell.directory.tenant_for(ALICE)
        assert standing.told_level(snapshot.view(STANDING), tenant, b"", "messages") == 100
    cell.call(cell.directory.tenants.set_quotas("example", {"messages": 100}, (), None, ADMIN))
    look(cell)
    with cell.log.snapshot() as snapshot:
        assert standing.told_level(snapshot.view(STANDING), tenant, b"", "messages") == 0
    assert len(warnings(cell, BOB)) == 1


def test_a_full_mailbox_has_its_warning_go_to_the_tenants_contact(cell: Cell) -> None:
    cell.call(cell.directory.tenants.set_details("example", None, BOB, ADMIN))
    cell.call(cell.directory.set_quota(ALICE, None, ADMIN, 3))
    deliver(cell, 3)
    look(cell)
    assert warnings(cell, ALICE) == []
    assert warnings(cell, BOB) == [f"The mailbox {ALICE} has reached 100 % of its messages"]


def test_what_is_crossed_while_a_tenant_is_suspended_is_told_when_it_is_served_again(cell: Cell) -> None:
    cell.call(cell.directory.set_quota(ALICE, None, ADMIN, 10))
    deliver(cell, 8)

    async def story() -> None:
        found = QuotaWarnings(cell.services)
        await cell.directory.tenants.suspend("example", "defer", "", ADMIN)
        await found.begin()
        await found.look(time.time_ns() // 1_000_000)
        assert not any(b"has reached" in body for _, body in cell.inbox(ALICE))
        await cell.directory.tenants.resume("example", ADMIN)
        await found.look(time.time_ns() // 1_000_000)
        found.end()

    cell.call(story())
    assert warnings(cell, ALICE) == [f"The mailbox {ALICE} has reached 90 % of its messages"]


def test_a_warning_does_not_bring_about_the_next_one_and_is_no_sending(cell: Cell) -> None:
    cell.call(cell.directory.set_quota(ALICE, None, ADMIN, 10))
    deliver(cell, 8)
    for _ in range(3):
        look(cell)
    assert warnings(cell, ALICE) == [f"The mailbox {ALICE} has reached 90 % of its messages"]  # it is the ninth
    tenants = TenantAdmin(cell.directory)
    cell.call(tenants.set_details("example", None, "admin@remote.test", ADMIN))
    cell.call(tenants.set_quotas("example", {"accounts": 3, "sending_per_hour": 100}, (), None, ADMIN))
    look(cell)
    assert len(cell.queued()["remote.test"]) == 1
    with cell.log.snapshot() as snapshot:
        stream = usage.usage_stream(account_of(snapshot, ALICE).tenant)
        assert usage.sent(snapshot.view(stream), time.time_ns() // 1_000_000).in_hour == 0
