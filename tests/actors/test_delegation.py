"""Who may send as whom, as rows of the tenant's stream."""

import pytest

from actors import delegation
from actors.delegation import ON_BEHALF, SEND_AS, LetSend, SendingGranted, SendingRevoked
from actors.errors import NoSuchAccount, NotAllowed, TooLarge
from actors.groups import AddGroup, ChangeMembers, RemoveGroup
from actors.tenant import AddAccount, AddDomain, CreateTenant, DeleteAccount
from tests.actors.stage import Stage

BOSS, CLERK, TEMP, GROUP = (bytes([number]) * 16 for number in range(1, 5))


@pytest.fixture
def office(stage: Stage) -> Stage:
    """A tenant of three accounts and a group of one."""
    stage.do(CreateTenant(stage.stream, "office"))
    stage.do(AddDomain("example.test"))
    for account, name in ((BOSS, "boss"), (CLERK, "clerk"), (TEMP, "temp")):
        stage.do(AddAccount(account, f"{name}@example.test"))
    stage.do(AddGroup(GROUP, "desk@example.test", (TEMP,)))
    return stage


def ways(office: Stage) -> list[str | None]:
    return [delegation.way(office.view, BOSS, one) for one in (CLERK, TEMP)]


def test_what_is_granted_takes_the_place_of_what_was_and_is_no_event_twice(office: Stage) -> None:
    assert office.decide(LetSend(BOSS, CLERK, ON_BEHALF)) == (SendingGranted(BOSS, CLERK, ON_BEHALF),)
    office.do(LetSend(BOSS, CLERK, ON_BEHALF))
    assert ways(office) == [ON_BEHALF, None]
    office.do(LetSend(BOSS, CLERK, SEND_AS))
    assert office.decide(LetSend(BOSS, CLERK, SEND_AS)) == ()
    assert ways(office) == [SEND_AS, None]
    assert office.decide(LetSend(BOSS, CLERK, "")) == (SendingRevoked(BOSS, CLERK),)
    office.do(LetSend(BOSS, CLERK, ""))
    assert office.decide(LetSend(BOSS, CLERK, "")) == ()
    assert ways(office) == [None, None]


def test_a_group_that_may_send_is_its_members_as_they_come_and_go(office: Stage) -> None:
    office.do(LetSend(BOSS, GROUP, SEND_AS))
    assert ways(office) == [None, SEND_AS]
    office.do(ChangeMembers(GROUP, (CLERK,), (TEMP,)))
    assert ways(office) == [SEND_AS, None]
    office.do(LetSend(BOSS, CLERK, ON_BEHALF))
    assert ways(office)[0] == SEND_AS  # the wider of the two
    office.do(RemoveGroup(GROUP))
    assert ways(office) == [ON_BEHALF, None]
    assert [one.whom for one in delegation.delegates(office.view, BOSS)] == [CLERK]


def test_nothing_is_left_of_an_account_that_is_deleted(office: Stage) -> None:
    office.do(LetSend(BOSS, CLERK, SEND_AS))
    office.do(LetSend(CLERK, BOSS, SEND_AS))
    office.do(DeleteAccount(CLERK))
    assert not list(office.view.range(b"D"))
    office.fold(SendingGranted(BOSS, CLERK, SEND_AS))  # decided before, folded after
    assert not list(office.view.range(b"D"))


def test_who_is_not_there_oneself_and_more_than_the_limit_are_refused(
    office: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wrong, why in (
        (LetSend(BOSS, bytes(16), SEND_AS), NoSuchAccount),
        (LetSend(bytes(16), BOSS, SEND_AS), NoSuchAccount),
        (LetSend(BOSS, BOSS, SEND_AS), NotAllowed),
        (LetSend(BOSS, CLERK, "as-you-like"), NotAllowed),
    ):
        with pytest.raises(why):
            office.do(wrong)
    monkeypatch.setattr(delegation, "MAX_DELEGATES", 1)
    office.do(LetSend(BOSS, CLERK, SEND_AS))
    office.do(LetSend(BOSS, CLERK, ON_BEHALF))  # in place of the one that is there
    with pytest.raises(TooLarge):
        office.do(LetSend(BOSS, TEMP, SEND_AS))
