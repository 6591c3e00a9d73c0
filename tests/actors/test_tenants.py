"""Tenants as a whole: what is said of them, whether they are served, their groups and quotas, on a real log."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors import groups, standing, tenant_admin, usage
from actors.directory import resolve
from actors.errors import (
    NameTaken,
    NoSuchAccount,
    NoSuchTenant,
    NotAllowed,
    OverTenantQuota,
    TenantInactive,
)
from actors.mailbox import CopyMessages, Deliver, Expunge, NewMessage
from actors.runtime import Context, NewBody
from actors.sharing import owners
from actors.sharing_admin import Line, Shared, shared
from actors.standing import level_after
from eventlog import levels
from eventlog.record import By
from tests.actors.cell import ADMIN, Cell, a_mail, example_cell

CLIENT = Context(By("client", b"", "smtp 127.0.0.1:1"), "test")
Run = Callable[[Any], Any]


def test_a_suspended_tenant_gets_no_mail_until_it_is_resumed(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            await cell.directory.tenants.suspend("example", "refuse", "unpaid", ADMIN)
            mail = a_mail(b"Subject: 1\r\n\r\n1\r\n")
            with pytest.raises(TenantInactive) as refused:
                await deliver(cell, "alice@example.test", mail.message, mail.data)
            assert refused.value.refuse
            await cell.directory.tenants.resume("example", ADMIN)
            await deliver(cell, "alice@example.test", mail.message, mail.data)
            assert len(cell.messages(cell.account("alice@example.test"))) == 1

    run(scenario())


def test_a_tenant_to_be_deleted_is_out_of_service_and_comes_back_as_it_was(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            await cell.directory.tenants.suspend("example", "defer", "", ADMIN)
            await cell.directory.tenants.delete("example", 1000, "", ADMIN)
            tenant = cell.tenant("alice@example.test")
            found = cell.runtime.standings.of(tenant)
            assert found is not None
            assert found.due_ms > 0
            await cell.directory.tenants.undelete("example", ADMIN)
            found = cell.runtime.standings.of(tenant)
            assert found is not None
            assert (found.suspended, found.due_ms) == (True, 0)
            with pytest.raises(NotAllowed):
                await cell.directory.tenants.undelete("example", ADMIN)

    run(scenario())


def test_a_tenant_that_is_renamed_keeps_everything_but_its_name(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            tenant = cell.tenant("alice@example.test")
            await cell.directory.tenants.rename("example", "Sample", ADMIN)
            with cell.log.snapshot() as snapshot:
                assert tenant_admin.name_of(snapshot, tenant) == "sample"
            with pytest.raises(NoSuchTenant):
                await cell.directory.tenants.rename("example", "other", ADMIN)
            await cell.directory.add_tenant("example", ["other.test"], ADMIN)
            with pytest.raises(NameTaken):
                await cell.directory.tenants.rename("sample", "example", ADMIN)

    run(scenario())


def test_a_domain_goes_with_its_postmaster_once_nothing_else_is_in_it(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            with pytest.raises(NotAllowed, match=r"example\.test"):
                await cell.directory.tenants.remove_domain("example", "example.test", ADMIN)
            await cell.directory.add_domain("example", "second.test", ADMIN)
            await cell.directory.tenants.remove_domain("example", "second.test", ADMIN)
            await cell.directory.add_tenant("other", ["second.test"], ADMIN)
            assert cell.tenant("postmaster@second.test") != cell.tenant("alice@example.test")
            assert used(cell) == (0, 0, 3, 0, 1, 0)

    run(scenario())


def test_mail_for_a_group_reaches_each_member_once(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            members = ["alice@example.test", "bob@example.test", "ALICE@example.test"]
            await cell.directory.tenants.add_group("staff@example.test", members, ADMIN)
            await cell.directory.add_alias("all@example.test", ["staff@example.test", "bob@example.test"], ADMIN)
            assert addresses(cell, "staff@example.test") == ["alice@example.test", "bob@example.test"]
            assert sorted(addresses(cell, "all@example.test")) == ["alice@example.test", "bob@example.test"]
            await cell.directory.tenants.change_members("staff@example.test", [], ["bob@example.test"], ADMIN)
            await cell.directory.delete_account("alice@example.test", ADMIN)
            assert addresses(cell, "staff@example.test") == []

    run(scenario())


def test_nobody_of_another_tenant_becomes_a_member(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            await cell.directory.add_tenant("other", ["other.test"], ADMIN)
            with pytest.raises(NoSuchAccount, match=r"there is no account postmaster@other\.test"):
                await cell.directory.tenants.add_group("staff@example.test", ["postmaster@other.test"], ADMIN)

    run(scenario())


def test_a_group_is_named_in_lists_of_rights_by_address_or_short(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            group = await cell.directory.tenants.add_group("staff@example.test", [], ADMIN)
            with cell.log.snapshot() as snapshot:
                view = snapshot.view(cell.tenant("alice@example.test"))
                assert groups.identified(view, "group:staff@example.test") == group
                assert groups.identified(view, "group:Staff", "bob@example.test") == group
                assert groups.identified(view, "group:nobody", "bob@example.test") is None
                assert groups.identifier(view, group) == "group:staff@example.test"

    run(scenario())


def test_an_administrator_shares_a_folder_with_a_group(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            await cell.directory.tenants.add_group("staff@example.test", ["bob@example.test"], ADMIN)
            line = Line("group:staff@example.test", False, "lr")
            await cell.directory.sharing.set_rights("alice@example.test", "INBOX", line, ADMIN)
            with cell.log.snapshot() as snapshot:
                assert Shared("INBOX", (line,)) in shared(snapshot, "alice@example.test")
                view = snapshot.view(cell.tenant("bob@example.test"))
                bob = cell.account("bob@example.test")
                assert owners(view, bob, groups.groups_of(view, bob)) == [cell.account("alice@example.test")]
                assert owners(view, bob) == []

    run(scenario())


def test_sums_of_a_tenant_follow_every_kind_of_change(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            for text in (b"1", b"22", b"333"):
                await cell.deliver("alice@example.test", b"Subject: x\r\n\r\n" + text)
            alice = cell.account("alice@example.test")
            inbox, trash = cell.folder(alice).id, cell.folder(alice, "Trash").id
            await cell.runtime.ask(alice, CopyMessages(inbox, (1, 2), trash), ADMIN)
            await cell.runtime.ask(alice, Expunge(inbox, (1,), True), ADMIN)
            assert used(cell) == recounted(cell)
            assert used(cell)[1] == 4
            await cell.directory.delete_account("alice@example.test", ADMIN)
            assert used(cell) == recounted(cell) == (0, 0, 2, 0, 1, 0)

    run(scenario())


def test_sums_that_begin_late_count_what_is_there(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage.UsageCounted, "SINCE", levels.NEWEST + 1)  # as in a cell of an earlier version

    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            await cell.deliver("alice@example.test", b"Subject: x\r\n\r\nbefore")
            tenant = cell.tenant("alice@example.test")
            with cell.log.snapshot() as snapshot:
                assert usage.used(snapshot.view(usage.usage_stream(tenant))) is None
            monkeypatch.setattr(usage.UsageCounted, "SINCE", levels.NEWEST)
            await cell.runtime.ask(usage.usage_stream(tenant), usage.CountUsage(tenant), ADMIN)
            await cell.deliver("bob@example.test", b"Subject: x\r\n\r\nafter")
            assert used(cell) == recounted(cell)
            assert used(cell)[1:3] == (2, 3)

    run(scenario())


@pytest.mark.parametrize(
    ("quota", "act"),
    [
        ("accounts", lambda cell: cell.directory.add_account("carol@example.test", None, None, ADMIN)),
        ("aliases", lambda cell: cell.directory.add_alias("carol@example.test", ["bob@example.test"], ADMIN)),
        ("groups", lambda cell: cell.directory.tenants.add_group("staff@example.test", [], ADMIN)),
        ("domains", lambda cell: cell.directory.add_domain("example", "second.test", ADMIN)),
        ("messages", lambda cell: cell.deliver("bob@example.test", b"Subject: x\r\n\r\n1")),
        ("storage_bytes", lambda cell: cell.deliver("bob@example.test", b"Subject: x\r\n\r\n1")),
    ],
)
def test_a_quota_that_is_used_up_is_named_and_a_raised_one_lets_on(
    tmp_path: Path, run: Run, quota: str, act: Callable[[Cell], Any]
) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            now = dict(zip(usage.Used._fields, used(cell), strict=True))
            limit = now["bytes" if quota == "storage_bytes" else quota]
            await cell.directory.tenants.set_quotas("example", {quota: limit}, (), None, ADMIN)
            with pytest.raises(OverTenantQuota) as refused:
                await act(cell)
            assert refused.value.quota == quota
            await cell.directory.tenants.set_quotas("example", {quota: limit + 100}, (), None, ADMIN)
            await act(cell)
            assert used(cell) == recounted(cell)

    run(scenario())


def test_accounts_added_at_once_do_not_run_over_the_quota(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        import asyncio

        async with example_cell(tmp_path) as cell:
            await cell.directory.tenants.set_quotas("example", {"accounts": 5}, (), None, ADMIN)
            adding = [cell.directory.add_account(f"u{n}@example.test", None, None, ADMIN) for n in range(8)]
            done = await asyncio.gather(*adding, return_exceptions=True)
            assert sum(isinstance(one, bytes) for one in done) == 2
            assert used(cell)[2] == 5

    run(scenario())


def test_a_threshold_is_told_once_until_usage_was_well_below_it() -> None:
    percents = standing.DEFAULT_THRESHOLDS
    assert level_after(0, 79, 100, percents) == 0
    assert level_after(0, 92, 100, percents) == 90
    assert level_after(90, 88, 100, percents) == 90
    assert level_after(90, 84, 100, percents) == 80
    assert level_after(90, 100, 100, percents) == 100
    assert level_after(0, 1, 0, percents) == 100


def used(cell: Cell) -> tuple[int, ...]:
    with cell.log.snapshot() as snapshot:
        found = usage.used(snapshot.view(usage.usage_stream(cell.tenant("bob@example.test"))))
    assert found is not None
    return tuple(found)


def recounted(cell: Cell) -> tuple[int, ...]:
    with cell.log.snapshot() as snapshot:
        return tuple(usage.count(snapshot.view, cell.tenant("bob@example.test")))


def addresses(cell: Cell, address: str) -> list[str]:
    with cell.log.snapshot() as snapshot:
        return [target.address for target in resolve(snapshot, address) or ()]


async def deliver(cell: Cell, address: str, message: NewMessage, data: bytes) -> None:
    body = NewBody(cell.tenant(address), data)
    await cell.runtime.ask(cell.account(address), Deliver(message), CLIENT, [body])


@pytest.mark.parametrize("text", ["x\x1b[2J", "one\ntwo", "A\u202eB"])
def test_what_is_said_of_a_tenant_can_not_control_a_terminal_or_end_a_line(tmp_path: Path, run: Run, text: str) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            with pytest.raises(NotAllowed, match="printable"):
                await cell.directory.tenants.suspend("example", "defer", text, ADMIN)
            with pytest.raises(NotAllowed, match="printable"):
                await cell.directory.tenants.set_details("example", text, None, ADMIN)

    run(scenario())
