"""The region's rules: who may be granted what, what may be followed, and that a replica has one home."""

import pytest

from actors import region
from actors.errors import IsReplica, NameTaken, NoSuchFollow, NoSuchGrant, NotAllowed
from actors.region import HaltFollow, IssueGrant, RegisterTenant, RevokeGrant, StartFollow
from tests.actors.stage import ACCOUNT, TENANT, Stage

OTHER = b"o" * 16


def grant(name: str = "tokyo", tenant: bytes = TENANT) -> IssueGrant:
    return IssueGrant(name, tenant, region.WHOLE_TENANT, bytes(32), 1_900_000_000_000, b"sealed")


def follow(
    name: str = "tokyo",
    cell: str = "cell-a",
    tenant: bytes = TENANT,
    account: bytes = region.WHOLE_TENANT,
    key: bytes = b"1",
) -> StartFollow:
    return StartFollow(name, cell, tenant, account, (("n1", "127.0.0.1:1"),), "ca", "certificate", key)


def test_a_grant_is_valid_until_it_is_revoked_and_can_then_be_issued_anew(stage: Stage) -> None:
    stage.do(grant())
    with pytest.raises(NameTaken):
        stage.decide(grant())
    stage.do(RevokeGrant("tokyo"))
    assert [one.revoked_ms for one in region.grants(stage.view)] == [stage.at_ms]
    assert stage.decide(RevokeGrant("tokyo")) == ()
    stage.do(grant())
    assert [one.revoked_ms for one in region.grants(stage.view)] == [None]


def test_what_nobody_was_granted_is_not_revoked_and_what_is_not_followed_not_halted(stage: Stage) -> None:
    with pytest.raises(NoSuchGrant):
        stage.decide(RevokeGrant("tokyo"))
    with pytest.raises(NoSuchFollow):
        stage.decide(HaltFollow("tokyo", "why"))


def test_what_is_followed_has_its_home_elsewhere_and_grants_are_made_there(stage: Stage) -> None:
    stage.do(follow())
    assert region.homes(stage.view) == {TENANT: "cell-a"}
    with pytest.raises(NotAllowed, match="cell-a"):
        stage.decide(grant())


def test_a_tenant_that_is_at_home_here_is_not_followed(stage: Stage) -> None:
    stage.do(RegisterTenant(TENANT, "example"))
    with pytest.raises(NotAllowed, match="home"):
        stage.decide(follow())


def test_nothing_is_followed_twice_nor_from_two_cells(stage: Stage) -> None:
    stage.do(follow(account=ACCOUNT))
    for again in (follow("second", account=ACCOUNT), follow("second"), follow("second", "cell-b", account=OTHER)):
        with pytest.raises(NotAllowed):
            stage.decide(again)
    with pytest.raises(NameTaken):
        stage.decide(follow(account=OTHER))
    stage.do(follow("second", account=OTHER))
    assert [one.name for one in region.follows(stage.view)] == ["second", "tokyo"]


def test_a_halted_one_goes_on_with_another_certificate_and_its_home_stays(stage: Stage) -> None:
    stage.do(follow())
    stage.do(HaltFollow("tokyo", "the grant was revoked"))
    assert [one.halted for one in region.follows(stage.view)] == ["the grant was revoked"]
    assert region.homes(stage.view) == {TENANT: "cell-a"}
    assert stage.decide(HaltFollow("tokyo", "again")) == ()
    stage.do(follow(key=b"2"))
    assert [(one.halted, one.sealed) for one in region.follows(stage.view)] == [(None, b"2")]


def test_a_refusal_names_the_home() -> None:
    assert "cell-a" in str(IsReplica("cell-a"))
