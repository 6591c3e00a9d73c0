"""Addresses, logins and administration on a real log."""

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest

from actors import addresses
from actors import tenant as tenants_kind
from actors.directory import OUTSIDE, Directory, Target, is_local_domain, resolve
from actors.errors import (
    InvalidName,
    NameTaken,
    NoSuchAccount,
    NoSuchAlias,
    NoSuchDomain,
    NoSuchTenant,
    NotAllowed,
    NotLocal,
    TooLarge,
)
from actors.mailbox import CloseMailbox, folders, is_open, usage
from actors.queue import Enqueue, enqueue_commands, items, queue_stream, queues
from actors.tenant import POSTMASTER
from eventlog.errors import OutcomeUnknown, Rejected
from eventlog.record import new_id
from tests.actors.cell import ADMIN, Cell, Run, a_cell, example_cell

ALICE, BOB = "alice@example.test", "bob@example.test"


def resolved(cell: Cell, address: str, default_domain: str | None = None) -> list[str] | None:
    with cell.log.snapshot() as snapshot:
        found = resolve(snapshot, address, default_domain)
    return None if found is None else [target.address for target in found]


async def logged_in(directory: Directory, login: str, password: str) -> Target | None:
    found = await directory.logins.password(login, password, "imap")
    return found.target if found is not None else None


# Tenants, domains, accounts


def test_each_domain_of_a_new_tenant_has_a_postmaster_with_a_mailbox(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with a_cell(tmp_path) as cell:
            tenant = await cell.directory.add_tenant("Example", ["example.test", "bücher.example"], ADMIN)
            with cell.log.snapshot() as snapshot:
                assert tenants_kind.tenants(snapshot) == [(tenant, "example")]
                view = snapshot.view(tenant)
                assert [one.name for one in tenants_kind.domains(view)] == ["example.test", "xn--bcher-kva.example"]
                for account in tenants_kind.accounts(view):
                    assert account.address.startswith(POSTMASTER + "@")
                    assert is_open(snapshot.view(account.id))
            assert resolved(cell, "PostMaster@BÜCHER.example") == ["postmaster@xn--bcher-kva.example"]

    run(scenario())


def test_postmaster_needs_no_domain(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            assert resolved(cell, "postmaster") == ["postmaster@example.test"]
            assert resolved(cell, "alice", "example.test") == [ALICE]
            with pytest.raises(InvalidName):
                resolved(cell, "alice")

    run(scenario())


def test_a_name_that_is_taken_leaves_nothing_half_done(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            for name, domain in (("example", "new.test"), ("other", "example.test")):
                with pytest.raises(NameTaken):
                    await cell.directory.add_tenant(name, [domain], ADMIN)
            with pytest.raises(NameTaken):
                await cell.directory.add_account(ALICE.upper(), None, None, ADMIN)
            with cell.log.snapshot() as snapshot:
                assert [one.name for one in tenants_kind.tenants(snapshot)] == ["example"]
                assert not is_local_domain(snapshot, "new.test")

    run(scenario())


def test_of_two_accounts_of_one_address_added_at_once_one_is_refused(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            added = await asyncio.gather(
                *(cell.directory.add_account("carol@example.test", None, None, ADMIN) for _ in range(2)),
                return_exceptions=True,
            )
            assert sorted(type(one).__name__ for one in added) == ["NameTaken", "bytes"]

    run(scenario())


def test_a_domain_is_added_to_a_tenant(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            await cell.directory.add_domain("example", "second.test", ADMIN)
            assert resolved(cell, "postmaster@second.test") == ["postmaster@second.test"]
            with pytest.raises(NoSuchTenant):
                await cell.directory.add_domain("nobody", "third.test", ADMIN)

    run(scenario())


def test_an_account_needs_a_domain_of_ours(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            with pytest.raises(NoSuchDomain):
                await cell.directory.add_account("alice@far.test", None, None, ADMIN)

    run(scenario())


def test_an_address_that_nobody_has_is_none_and_one_elsewhere_is_not_local(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            assert resolved(cell, "nobody@example.test") is None
            with pytest.raises(NotLocal):
                resolved(cell, "alice@far.test")
            with cell.log.snapshot() as snapshot:
                assert is_local_domain(snapshot, "EXAMPLE.test")
                assert not is_local_domain(snapshot, "not a domain")

    run(scenario())


def test_a_quota_counts_in_the_mailbox_and_shows_in_the_account(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            await cell.directory.set_quota(ALICE, 5000, ADMIN)
            with cell.log.snapshot() as snapshot:
                account = tenants_kind.account(snapshot.view(cell.tenant(ALICE)), cell.account(ALICE))
                assert account is not None
                assert account.quota_bytes == usage(snapshot.view(account.id)).limit_bytes == 5000

    run(scenario())


def test_a_deleted_account_is_gone_and_its_address_starts_afresh(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            before = cell.account(ALICE)
            await cell.directory.set_password(ALICE, "pencil case", ADMIN)
            await cell.deliver(ALICE, b"x")
            await cell.directory.delete_account(ALICE, ADMIN)
            assert resolved(cell, ALICE) is None
            assert await logged_in(cell.directory, ALICE, "pencil case") is None
            with cell.log.snapshot() as snapshot:
                assert folders(snapshot.view(before)) == []
            after = await cell.directory.add_account(ALICE, None, None, ADMIN)
            assert after != before
            assert cell.messages(after) == []
            with pytest.raises(NoSuchAccount):
                await cell.directory.delete_account("nobody@example.test", ADMIN)

    run(scenario())


def test_a_deletion_that_was_interrupted_can_be_repeated(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            await cell.runtime.ask(cell.account(ALICE), CloseMailbox(), ADMIN)
            await cell.directory.delete_account(ALICE, ADMIN)
            assert resolved(cell, ALICE) is None

    run(scenario())


def test_who_is_told_that_an_account_is_not_there_finds_it_gone_though_another_is_deleting_it_too(
    tmp_path: Path, run: Run
) -> None:
    async def delete(cell: Cell) -> bool:
        try:
            await cell.directory.delete_account(ALICE, ADMIN)
        except NoSuchAccount:
            assert resolved(cell, ALICE) is None
            return False
        return True

    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            assert sorted(await asyncio.gather(delete(cell), delete(cell), delete(cell))) == [False, False, True]

    run(scenario())


def test_a_deletion_of_which_only_half_is_done_is_not_said_to_be_refused(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: object) -> None:
        raise Rejected("no_leader")

    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            with monkeypatch.context() as patch:
                patch.setattr(cell.runtime, "transact", refused)
                with pytest.raises(OutcomeUnknown, match="closed"):
                    await cell.directory.delete_account(ALICE, ADMIN)
            await cell.directory.delete_account(ALICE, ADMIN)
            assert resolved(cell, ALICE) is None

    run(scenario())


def test_a_postmaster_is_not_deleted_and_keeps_its_mail(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            await cell.deliver("postmaster@example.test", b"x")
            with pytest.raises(NotAllowed):
                await cell.directory.delete_account("postmaster@example.test", ADMIN)
            assert len(cell.messages(cell.account("postmaster@example.test"))) == 1

    run(scenario())


# Aliases


def test_an_alias_leads_to_each_account_once(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            await cell.directory.add_alias("team@example.test", [ALICE, BOB, ALICE.upper()], ADMIN)
            await cell.directory.add_alias("all@example.test", ["team@example.test", ALICE], ADMIN)
            assert resolved(cell, "ALL@example.test") == [ALICE, BOB]

    run(scenario())


def test_aliases_that_lead_to_each_other_end(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            await cell.directory.add_alias("a@example.test", ["b@example.test"], ADMIN)
            await cell.directory.add_alias("b@example.test", ["a@example.test"], ADMIN)
            assert resolved(cell, "a@example.test") is None
            await cell.directory.add_alias("c@example.test", ["c@example.test", ALICE], ADMIN)
            assert resolved(cell, "c@example.test") == [ALICE]

    run(scenario())


def test_a_chain_of_aliases_is_followed_ten_deep(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            chain = [ALICE, *(f"level{n}@example.test" for n in range(1, 11))]
            for target, alias in pairwise(chain):
                await cell.directory.add_alias(alias, [target], ADMIN)
            assert resolved(cell, "level9@example.test") == [ALICE]
            with pytest.raises(TooLarge):
                resolved(cell, "level10@example.test")

    run(scenario())


def test_an_alias_that_leads_to_too_many_is_refused_rather_than_cut(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "MAX_TARGETS", 2)

    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            await cell.directory.add_alias("two@example.test", [ALICE, BOB], ADMIN)
            await cell.directory.add_alias("three@example.test", ["two@example.test", "postmaster@example.test"], ADMIN)
            assert resolved(cell, "two@example.test") == [ALICE, BOB]
            with pytest.raises(TooLarge):
                resolved(cell, "three@example.test")

    run(scenario())


def test_an_alias_takes_an_address_of_its_own(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            with pytest.raises(NameTaken):
                await cell.directory.add_alias(ALICE, [BOB], ADMIN)

    run(scenario())


def test_an_extension_leads_to_whoever_has_the_address_without_it(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            await cell.directory.add_alias("team@example.test", [BOB], ADMIN)
            with cell.log.snapshot() as snapshot:
                alice = resolve(snapshot, ALICE)
                extended = resolve(snapshot, "Alice+shop+2@example.test")
            assert alice is not None
            assert extended is not None
            assert [(one.tenant, one.account) for one in extended] == [(one.tenant, one.account) for one in alice]
            assert resolved(cell, "team+x@example.test") == [BOB]
            assert resolved(cell, "nobody+x@example.test") is None
            assert resolved(cell, "+x@example.test") is None
            await cell.directory.add_account("alice+own@example.test", None, None, ADMIN)
            assert resolved(cell, "alice+own@example.test") == ["alice+own@example.test"]

    run(scenario())


def test_a_catch_all_takes_what_nobody_has(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            await cell.directory.add_alias("*@example.test", [BOB], ADMIN)
            assert resolved(cell, "whoever@example.test") == [BOB]
            assert resolved(cell, ALICE) == [ALICE]
            with pytest.raises(NotLocal):
                resolved(cell, "whoever@elsewhere.test")
            await cell.directory.delete_alias("*@example.test", ADMIN)
            assert resolved(cell, "whoever@example.test") is None

    run(scenario())


def test_an_alias_may_lead_to_accounts_and_out_of_the_cell(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            await cell.directory.add_alias("away@example.test", [ALICE, "friend@far.test"], ADMIN)
            await cell.directory.add_alias("first@example.test", ["away@example.test"], ADMIN)
            with cell.log.snapshot() as snapshot:
                found = resolve(snapshot, "first@example.test")
            tenant = cell.tenant(ALICE)
            assert found == [Target(tenant, cell.account(ALICE), ALICE), Target(tenant, OUTSIDE, "friend@far.test")]

    run(scenario())


def test_a_deleted_alias_leads_nowhere(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            await cell.directory.add_alias("info@example.test", [ALICE], ADMIN)
            await cell.directory.delete_alias("Info@example.test", ADMIN)
            assert resolved(cell, "info@example.test") is None
            for address in ("info@example.test", ALICE):
                with pytest.raises(NoSuchAlias):
                    await cell.directory.delete_alias(address, ADMIN)

    run(scenario())


# Logins


def test_one_logs_in_with_the_full_address_in_any_case(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            await cell.directory.set_password(ALICE, "pencil case", ADMIN)
            wanted = Target(cell.tenant(ALICE), cell.account(ALICE), ALICE)
            assert await logged_in(cell.directory, "ALICE@Example.TEST", "pencil case") == wanted
            assert await logged_in(cell.directory, ALICE, "pencil case") == wanted  # from the cache

    run(scenario())


@pytest.mark.parametrize(
    ("login", "password"),
    [
        (ALICE, "Pencil case"),
        (ALICE, ""),
        ("alice", "pencil case"),
        ("nobody@example.test", "pencil case"),
        ("postmaster@example.test", ""),
        ("info@example.test", "pencil case"),
        ("alice@far.test", "pencil case"),
        ("\ud800@example.test", "pencil case"),
        (ALICE, "\ud800"),
    ],
)
def test_anything_else_does_not_log_in(tmp_path: Path, run: Run, login: str, password: str) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            await cell.directory.set_password(ALICE, "pencil case", ADMIN)
            await cell.directory.add_alias("info@example.test", [ALICE], ADMIN)
            assert await logged_in(cell.directory, login, password) is None

    run(scenario())


def test_a_changed_password_counts_at_once(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            await cell.directory.set_password(ALICE, "pencil case", ADMIN)
            assert await logged_in(cell.directory, ALICE, "pencil case")
            await cell.directory.set_password(ALICE, "ink and pen", ADMIN)
            assert await logged_in(cell.directory, ALICE, "pencil case") is None
            assert await logged_in(cell.directory, ALICE, "ink and pen")

    run(scenario())


def test_no_login_is_possible_with_another_cluster_key(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            await cell.directory.set_password(ALICE, "pencil case", ADMIN)
            other = Directory(cell.log, cell.runtime, b"x" * 32)
            assert await logged_in(other, ALICE, "pencil case") is None
            await other.stop()

    run(scenario())


def test_a_cluster_key_has_32_bytes(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with a_cell(tmp_path) as cell:
            with pytest.raises(ValueError, match="32"):
                Directory(cell.log, cell.runtime, b"short")

    run(scenario())


def test_neither_a_password_nor_its_hash_is_in_the_log_in_clear(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            await cell.directory.add_account("carol@example.test", "correct horse", None, ADMIN)

    run(scenario())
    stored = b"".join(file.read_bytes() for file in tmp_path.iterdir() if file.is_file())
    assert b"carol@example.test" in stored
    assert b"correct horse" not in stored
    assert b"argon2id" not in stored


# Queue


def test_queued_mail_is_found_from_the_list_of_queues(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            for n in range(2):
                at, tenant, to = 1_790_000_000_000, cell.tenant(ALICE), (f"u{n}@far.test",)
                command = Enqueue("far.test", new_id(), tenant, ALICE, to, b"d" * 32, 1, b"", at, at)
                with cell.log.snapshot() as snapshot:
                    steps = enqueue_commands(snapshot, command)
                assert len(steps) == 2 - n
                await cell.runtime.transact(steps, ADMIN)
            with cell.log.snapshot() as snapshot:
                assert queues(snapshot) == ["far.test"]
                assert len(items(snapshot.view(queue_stream("far.test")))) == 2

    run(scenario())
