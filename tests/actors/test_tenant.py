"""A tenant's domains, accounts, credentials and aliases; the region's lists."""

import pytest

from actors.errors import NameTaken, NoSuchAccount, NoSuchAlias, NoSuchDomain, NoSuchTenant, NotAllowed, TooLarge
from actors.kind import Command
from actors.region import OpenQueue, RegisterTenant, queue_domains, tenant_ids
from actors.tenant import (
    Account,
    AddAccount,
    AddAlias,
    AddDomain,
    Alias,
    CreateTenant,
    DeleteAccount,
    DeleteAlias,
    Domain,
    SetPassword,
    SetQuota,
    account,
    accounts,
    alias,
    aliases,
    credentials,
    domains,
)
from tests.actors.stage import START_MS, Stage

ALICE, BOB, INFO = b"a" * 16, b"b" * 16, b"i" * 16


@pytest.fixture
def example(stage: Stage) -> Stage:
    stage.do(CreateTenant(stage.stream, "example"))
    stage.do(AddDomain("example.test"))
    return stage


def test_a_tenant_is_created_once(example: Stage) -> None:
    with pytest.raises(NameTaken):
        example.decide(CreateTenant(example.stream, "example"))


@pytest.mark.parametrize(
    "command",
    [
        AddDomain("example.test"),
        AddAccount(ALICE, "alice@example.test"),
        SetPassword(ALICE, b"x"),
        SetQuota(ALICE, 1),
        DeleteAccount(ALICE),
        AddAlias(INFO, "info@example.test", ("alice@example.test",)),
        DeleteAlias(INFO),
    ],
    ids=lambda command: type(command).__name__,
)
def test_a_tenant_that_does_not_exist_refuses_everything(stage: Stage, command: Command) -> None:
    with pytest.raises(NoSuchTenant):
        stage.decide(command)


def test_a_domain_is_added_once(example: Stage) -> None:
    assert domains(example.view) == [Domain("example.test", START_MS)]
    with pytest.raises(NameTaken):
        example.decide(AddDomain("example.test"))


def test_an_account_is_added_to_a_domain_of_the_tenant(example: Stage) -> None:
    example.do(AddAccount(ALICE, "alice@example.test", 1000))
    assert account(example.view, ALICE) == Account(ALICE, "alice@example.test", "active", 1000, START_MS)
    with pytest.raises(NoSuchDomain):
        example.decide(AddAccount(BOB, "bob@other.test"))
    with pytest.raises(NameTaken):
        example.decide(AddAccount(ALICE, "alice2@example.test"))


def test_accounts_are_listed_by_address(example: Stage) -> None:
    example.do(AddAccount(ALICE, "zoe@example.test"))
    example.do(AddAccount(BOB, "bob@example.test"))
    assert [one.address for one in accounts(example.view)] == ["bob@example.test", "zoe@example.test"]


def test_a_password_replaces_the_one_before(example: Stage) -> None:
    example.do(AddAccount(ALICE, "alice@example.test"))
    assert credentials(example.view, ALICE) is None
    example.do(SetPassword(ALICE, b"first"))
    example.do(SetPassword(ALICE, b"second"))
    assert credentials(example.view, ALICE) == b"second"


def test_a_quota_is_kept_with_the_account(example: Stage) -> None:
    example.do(AddAccount(ALICE, "alice@example.test", 1000))
    example.do(SetQuota(ALICE, None))
    found = account(example.view, ALICE)
    assert found is not None
    assert found.quota_bytes is None


def test_a_deleted_account_leaves_no_credentials(example: Stage) -> None:
    example.do(AddAccount(ALICE, "alice@example.test"))
    example.do(SetPassword(ALICE, b"sealed"))
    example.do(DeleteAccount(ALICE))
    assert account(example.view, ALICE) is None
    assert credentials(example.view, ALICE) is None


def test_an_account_that_does_not_exist_is_refused(example: Stage) -> None:
    for command in (SetPassword(ALICE, b"x"), SetQuota(ALICE, 1), DeleteAccount(ALICE)):
        with pytest.raises(NoSuchAccount):
            example.decide(command)


def test_what_was_decided_before_the_account_went_changes_nothing_after(example: Stage) -> None:
    example.do(AddAccount(ALICE, "alice@example.test"))
    late = [fact for command in (SetPassword(ALICE, b"x"), SetQuota(ALICE, 1)) for fact in example.decide(command)]
    example.do(DeleteAccount(ALICE))
    before = example.rows()
    example.fold(*late)
    assert example.rows() == before


def test_a_domain_keeps_its_postmaster(example: Stage) -> None:
    example.do(AddAccount(ALICE, "postmaster@example.test"))
    with pytest.raises(NotAllowed):
        example.decide(DeleteAccount(ALICE))


def test_an_alias_comes_and_goes(example: Stage) -> None:
    targets = ("alice@example.test", "bob@example.test")
    example.do(AddAlias(INFO, "info@example.test", targets))
    assert aliases(example.view) == [Alias(INFO, "info@example.test", targets, START_MS)]
    example.do(DeleteAlias(INFO))
    assert alias(example.view, INFO) is None
    with pytest.raises(NoSuchAlias):
        example.decide(DeleteAlias(INFO))


def test_an_alias_needs_a_domain_of_the_tenant_and_between_1_and_100_targets(example: Stage) -> None:
    with pytest.raises(NoSuchDomain):
        example.decide(AddAlias(INFO, "info@other.test", ("alice@example.test",)))
    with pytest.raises(NotAllowed):
        example.decide(AddAlias(INFO, "info@example.test", ()))
    with pytest.raises(TooLarge):
        example.decide(AddAlias(INFO, "info@example.test", tuple(f"u{n}@example.test" for n in range(101))))
    example.do(AddAlias(INFO, "info@example.test", ("alice@example.test",)))
    with pytest.raises(NameTaken):
        example.decide(AddAlias(INFO, "info2@example.test", ("alice@example.test",)))


def test_a_refold_gives_the_same_tenant(example: Stage) -> None:
    example.do(AddAccount(ALICE, "alice@example.test", 5))
    example.do(AddAlias(INFO, "info@example.test", ("alice@example.test",)))
    example.do(SetPassword(ALICE, b"sealed"))
    assert example.refolded_rows() == example.rows()


def test_the_region_lists_tenants_and_queues(stage: Stage) -> None:
    stage.do(RegisterTenant(ALICE, "one"))
    stage.do(RegisterTenant(BOB, "two"))
    stage.do(OpenQueue("b.test"))
    stage.do(OpenQueue("a.test"))
    assert tenant_ids(stage.view) == [(ALICE, "one"), (BOB, "two")]
    assert queue_domains(stage.view) == ["a.test", "b.test"]


def test_a_tenant_is_registered_once(stage: Stage) -> None:
    stage.do(RegisterTenant(ALICE, "one"))
    with pytest.raises(NameTaken):
        stage.decide(RegisterTenant(ALICE, "one"))


def test_opening_a_queue_twice_is_one_event_and_never_a_conflict(stage: Stage) -> None:
    late = stage.decide(OpenQueue("a.test"))
    assert stage.guards == ()
    stage.do(OpenQueue("a.test"))
    before = stage.rows()
    stage.fold(*late)
    assert stage.rows() == before
    assert stage.decide(OpenQueue("a.test")) == ()
