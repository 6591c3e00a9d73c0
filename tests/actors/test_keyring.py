"""Which key secrets are sealed under: only what every member holds, and a row that changed meanwhile is left alone."""

from __future__ import annotations

import pytest

from actors import keyring, routes
from actors.errors import NotAllowed
from actors.keyring import HoldKey, Reseal, RetireKey, UseKey
from actors.routes import DEFAULT, SetRoute
from tests.actors.stage import Stage

KEY, OTHER = b"key1", b"key2"


def test_a_key_is_used_once_every_member_holds_it(stage: Stage) -> None:
    stage.do(HoldKey("n1", KEY))
    with pytest.raises(NotAllowed, match="is not there yet at n2, n3"):
        stage.do(UseKey(KEY, b"root", ("n1", "n2", "n3")))
    stage.do(HoldKey("n2", KEY))
    stage.do(UseKey(KEY, b"root", ("n1", "n2")))
    found = keyring.in_use(stage.view)
    assert found is not None
    assert (found.id, found.sealed_root) == (KEY, b"root")
    assert keyring.holders(stage.view) == {KEY: ["n1", "n2"]}


def test_the_key_in_use_is_not_retired_and_a_retired_one_not_used_again(stage: Stage) -> None:
    with pytest.raises(NotAllowed, match="in use"):
        stage.do(RetireKey(b""))
    for key in (KEY, OTHER):
        stage.do(HoldKey("n1", key))
        stage.do(UseKey(key, b"root", ("n1",)))
    stage.do(RetireKey(KEY))
    assert keyring.retired(stage.view) == [KEY]
    with pytest.raises(NotAllowed, match="is retired"):
        stage.do(UseKey(KEY, b"root", ("n1",)))
    with pytest.raises(NotAllowed, match="in use"):
        stage.do(RetireKey(OTHER))


def test_a_secret_is_replaced_in_its_row_unless_the_row_has_changed(stage: Stage) -> None:
    stage.do(SetRoute(DEFAULT, "smart.test", 587, "verify", "", "us", b"sealed before"))
    stage.do(Reseal(bytes(16), b"r" + DEFAULT.encode(), b"sealed before", b"sealed anew"))
    (route,) = routes.routes(stage.view)
    assert (route.host, route.sealed) == ("smart.test", b"sealed anew")
    assert stage.do(Reseal(bytes(16), b"r" + DEFAULT.encode(), b"sealed before", b"late")) == []
    assert routes.routes(stage.view)[0].sealed == b"sealed anew"
