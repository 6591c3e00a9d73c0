"""The keys of a domain: what takes over from what, what may go, and that nothing happens twice."""

import pytest

from actors.dkim import (
    ActivateKeys,
    AddKeys,
    Algorithm,
    DeleteKey,
    Key,
    NewKey,
    Schedule,
    ScheduleRotation,
    all_keys,
    owner,
    schedule,
    signing_keys,
)
from actors.errors import NameTaken, NoSuchKey, NotAllowed, TooLarge
from tests.actors.stage import START_MS, TENANT, Stage

RSA: Algorithm = "rsa-sha256"
ED: Algorithm = "ed25519-sha256"


def new(selector: str, algorithm: Algorithm = RSA) -> NewKey:
    return NewKey(selector, algorithm, f"public of {selector}", b"sealed " + selector.encode())


def add(*keys: NewKey, active: bool = False) -> AddKeys:
    return AddKeys(TENANT, "example.test", keys, active)


def states(stage: Stage) -> dict[str, str]:
    return {key.selector: key.state for key in all_keys(stage.view)}


def test_a_new_key_waits_for_its_record(stage: Stage) -> None:
    stage.do(add(new("a")))
    assert all_keys(stage.view) == [Key("a", RSA, "public of a", b"sealed a", "pending", START_MS, 0, 0)]
    assert signing_keys(stage.view) == []
    assert owner(stage.view) == ("example.test", TENANT)


def test_a_key_takes_over_from_that_of_its_algorithm_alone(stage: Stage) -> None:
    stage.do(add(new("old-rsa"), new("old-ed", ED), active=True))
    stage.do(add(new("new-rsa")))
    stage.at_ms += 1000
    stage.do(ActivateKeys(("new-rsa",)))
    assert states(stage) == {"old-rsa": "retired", "old-ed": "active", "new-rsa": "active"}
    retired = next(key for key in all_keys(stage.view) if key.selector == "old-rsa")
    assert (retired.activated_ms, retired.retired_ms) == (START_MS, START_MS + 1000)


def test_what_is_active_stays_so_when_it_is_activated_again(stage: Stage) -> None:
    stage.do(add(new("a"), active=True))
    before = all_keys(stage.view)
    stage.at_ms += 1000
    stage.do(ActivateKeys(("a",)))
    assert all_keys(stage.view) == before


def test_a_selector_is_used_once(stage: Stage) -> None:
    stage.do(add(new("a")))
    with pytest.raises(NameTaken):
        stage.decide(add(new("a", ED)))


def test_a_retired_key_does_not_come_back(stage: Stage) -> None:
    stage.do(add(new("a"), active=True))
    stage.do(add(new("b"), active=True))
    with pytest.raises(NotAllowed):
        stage.decide(ActivateKeys(("a",)))


def test_a_key_that_signs_is_deleted_by_force_alone(stage: Stage) -> None:
    stage.do(add(new("a"), active=True))
    with pytest.raises(NotAllowed, match="rotate first"):
        stage.decide(DeleteKey("a"))
    stage.do(DeleteKey("a", force=True))
    assert all_keys(stage.view) == []
    with pytest.raises(NoSuchKey):
        stage.decide(DeleteKey("a"))


def test_a_domain_has_a_limited_number_of_keys(stage: Stage) -> None:
    for number in range(32):
        stage.do(add(new(f"k{number}")))
    with pytest.raises(TooLarge):
        stage.decide(add(new("one-more")))


def test_a_schedule_is_set_and_ended(stage: Stage) -> None:
    assert schedule(stage.view) is None
    stage.do(ScheduleRotation(1000, 10))
    assert schedule(stage.view) == Schedule(1000, 10)
    stage.do(ScheduleRotation(0, 10))
    assert schedule(stage.view) is None
