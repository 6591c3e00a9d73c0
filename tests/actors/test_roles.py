"""Roles and tokens on a tenant's stream and on the region's: what is decided and what is folded."""

from __future__ import annotations

import os

import pytest

from actors import api_tokens, roles
from actors.api_tokens import ApiTokenCreated, CreateApiToken, NoteApiTokenUse, RevokeApiToken
from actors.errors import CommandRefused, NoSuchAccount, NoSuchRole, NoSuchToken, NotAllowed, TooLarge
from actors.region import REGION
from actors.roles import GrantRole, RevokeRole, RoleGranted
from actors.tenant import AddAccount, AddDomain, CreateTenant, DeleteAccount
from tests.actors.stage import START_MS, Stage

ALICE, NOBODY, ID, OTHER_ID = b"a" * 16, b"n" * 16, b"1" * 8, b"2" * 8


@pytest.fixture
def example(stage: Stage) -> Stage:
    stage.do(CreateTenant(stage.stream, "example"))
    stage.do(AddDomain("example.test"))
    stage.do(AddAccount(ALICE, "alice@example.test"))
    return stage


def token(id_: bytes = ID, role: str = "auditor", account: bytes = b"", name: str = "sync") -> CreateApiToken:
    return CreateApiToken(id_, name, role, ("log:read",), account, None, b"sealed")


def test_an_account_has_the_role_that_was_granted_last_and_none_once_it_is_revoked(example: Stage) -> None:
    example.do(GrantRole(ALICE, "auditor"))
    example.do(GrantRole(ALICE, "help-desk"))
    held = roles.role_of(example.view, ALICE)
    assert held is not None
    assert (held.role, [one.holder for one in roles.roles(example.view)]) == ("help-desk", [ALICE])
    assert example.decide(GrantRole(ALICE, "help-desk")) == ()
    example.do(RevokeRole(ALICE))
    assert roles.role_of(example.view, ALICE) is None
    with pytest.raises(NoSuchRole):
        example.decide(RevokeRole(ALICE))


@pytest.mark.parametrize(
    ("command", "refusal"),
    [
        (GrantRole(NOBODY, "auditor"), NoSuchAccount),
        (GrantRole(ALICE, "cluster-admin"), NotAllowed),
        (GrantRole(ALICE, "owner"), NotAllowed),
        (token(account=NOBODY, role=""), NoSuchAccount),
        (token(account=ALICE, role="auditor"), NoSuchAccount),
        (token(role="cluster-admin"), NotAllowed),
        (token(role="user"), NotAllowed),
        (token(role=""), NotAllowed),
        (token(name="x" * 65), NotAllowed),
        (token(name="a\nb"), NotAllowed),
        (RevokeApiToken(ID), NoSuchToken),
        (NoteApiTokenUse(ID, START_MS), NoSuchToken),
    ],
)
def test_what_makes_no_sense_is_refused(
    example: Stage, command: GrantRole | CreateApiToken, refusal: type[CommandRefused]
) -> None:
    with pytest.raises(refusal):
        example.decide(command)


def test_what_an_account_held_goes_with_it_and_does_not_come_back(example: Stage) -> None:
    example.do(GrantRole(ALICE, "tenant-admin"))
    example.do(token(account=ALICE, role=""))
    example.do(token(OTHER_ID))
    example.do(DeleteAccount(ALICE))
    assert roles.roles(example.view) == []
    assert [one.id for one in api_tokens.api_tokens(example.view)] == [OTHER_ID]
    example.fold(RoleGranted(ALICE, "tenant-admin", b"", ""))
    example.fold(ApiTokenCreated(ID, "late", "", (), ALICE, None, b"sealed"))
    assert roles.role_of(example.view, ALICE) is None
    assert api_tokens.api_token(example.view, ID) is None


def test_the_use_of_a_token_is_noted_once_a_day(example: Stage) -> None:
    example.do(token())
    example.do(NoteApiTokenUse(ID, START_MS))
    assert example.decide(NoteApiTokenUse(ID, START_MS + api_tokens.DAY_MS - 1)) == ()
    example.do(NoteApiTokenUse(ID, START_MS + api_tokens.DAY_MS))
    found = api_tokens.api_token(example.view, ID)
    assert found is not None
    assert found.used_ms == START_MS + api_tokens.DAY_MS
    example.do(RevokeApiToken(ID))
    assert api_tokens.api_tokens(example.view) == []


def test_a_tenant_has_so_many_tokens_and_no_more(example: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_tokens, "MAX_TOKENS", 1)
    example.do(token())
    with pytest.raises(TooLarge):
        example.decide(token(OTHER_ID))


def test_a_token_is_read_as_it_was_written_and_nothing_else_is_one() -> None:
    made, text = api_tokens.generate(REGION, os.urandom)
    assert api_tokens.parse(text) == made
    assert api_tokens.is_right(made.secret, api_tokens.hashed(made.secret))
    assert not api_tokens.is_right(os.urandom(32), api_tokens.hashed(made.secret))
    for wrong in ("", "mrt_", text[4:], text[:-1], text + "A", text[:-1] + "!", "mrt_" + "\u0100" * 75):
        assert api_tokens.parse(wrong) is None
