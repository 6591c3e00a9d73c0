"""Accounts that are disabled, expire, or need another password: what is decided and folded; what a password may be."""

from __future__ import annotations

import pytest

from actors import password_policy
from actors.account_state import (
    OPEN,
    AccountDisabled,
    AccountState,
    DisableAccount,
    EnableAccount,
    RequirePasswordChange,
    SetAccountExpiry,
    state_of,
    states,
)
from actors.credentials import SetPasswordPolicy
from actors.errors import NoSuchAccount, NotAllowed
from actors.tenant import AddAccount, AddDomain, CreateTenant, DeleteAccount
from actors.tenant_policy import SetMailPolicy
from tests.actors.stage import START_MS, Stage

ALICE, NOBODY = b"a" * 16, b"n" * 16


@pytest.fixture
def example(stage: Stage) -> Stage:
    stage.do(CreateTenant(stage.stream, "example"))
    stage.do(AddDomain("example.test"))
    stage.do(AddAccount(ALICE, "alice@example.test"))
    return stage


def test_a_disabled_account_is_closed_until_it_is_enabled(example: Stage) -> None:
    example.do(DisableAccount(ALICE, "refuse", "has left"))
    found = state_of(example.view, ALICE)
    assert (found.disabled, found.mail, found.reason) == (True, "refuse", "has left")
    assert found.closed(0) == "the account is disabled"
    assert example.decide(DisableAccount(ALICE, "refuse", "has left")) == ()
    example.do(EnableAccount(ALICE))
    assert (state_of(example.view, ALICE), states(example.view)) == (OPEN, {})
    assert example.decide(EnableAccount(ALICE)) == ()


def test_when_an_account_expires_is_a_date_that_no_fold_compares_with_a_clock(example: Stage) -> None:
    example.do(SetAccountExpiry(ALICE, START_MS - 1, "defer"))  # past already: it is kept as it is
    found = state_of(example.view, ALICE)
    assert (found.closed(START_MS - 2), found.closed(START_MS - 1)) == (None, "the account has expired")
    example.do(DisableAccount(ALICE, "accept", ""))
    example.do(EnableAccount(ALICE))
    assert state_of(example.view, ALICE).expires_ms == START_MS - 1
    example.do(SetAccountExpiry(ALICE, None, "accept"))
    assert state_of(example.view, ALICE) == OPEN


def test_a_password_must_be_changed_until_it_need_not(example: Stage) -> None:
    example.do(RequirePasswordChange(ALICE, True))
    assert state_of(example.view, ALICE).must_change
    assert state_of(example.view, ALICE).closed(0) is None
    example.do(RequirePasswordChange(ALICE, False))
    assert example.decide(RequirePasswordChange(ALICE, False)) == ()


def test_an_account_that_is_not_there_has_no_state_and_gets_none(example: Stage) -> None:
    with pytest.raises(NoSuchAccount):
        example.decide(DisableAccount(NOBODY, "accept", ""))
    with pytest.raises(NotAllowed):
        example.decide(DisableAccount(ALICE, "accept", "x" * 201))
    with pytest.raises(NotAllowed):
        example.decide(SetAccountExpiry(ALICE, 1, "bounce"))  # type: ignore[arg-type]
    example.do(DisableAccount(ALICE, "accept", ""))
    example.do(DeleteAccount(ALICE))
    assert states(example.view) == {}
    example.fold(AccountDisabled(ALICE, "accept", ""))
    assert state_of(example.view, ALICE) == AccountState()


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("short", "at least 8"),
        ("password1", "tried first"),
        ("PassWord1", "tried first"),
        ("12345678", "tried first"),
        ("aaaaaaaaaa", "tried first"),
        ("abababababa", "tried first"),
        ("alice@example.test", "own name"),
        ("Example123!", "own name"),
        ("alice2026", "own name"),
        ("mailraft!!", "own name"),
    ],
)
def test_a_password_that_is_tried_first_is_refused_unless_the_tenant_lets_it_be(
    example: Stage, password: str, why: str
) -> None:
    with pytest.raises(NotAllowed, match=why):
        password_policy.check(example.view, "alice@example.test", password)
    example.do(SetMailPolicy((("password_known_bad", "allow"),)))
    if len(password) >= 8:
        password_policy.check(example.view, "alice@example.test", password)


def test_a_password_of_any_characters_that_is_long_enough_is_taken(example: Stage) -> None:
    for password in ("correct horse", "password 1", "Bücherregal", "zzqxzzqy"):
        password_policy.check(example.view, "alice@example.test", password)
    example.do(SetPasswordPolicy(14))
    with pytest.raises(NotAllowed, match="at least 14"):
        password_policy.check(example.view, "alice@example.test", "correct horse")
