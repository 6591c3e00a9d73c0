"""Routes: what is allowed, and which of several counts for a message."""

from __future__ import annotations

import pytest

from actors import routes
from actors.errors import NoSuchRoute, NotAllowed
from actors.routes import DEFAULT, RemoveRoute, SetRoute
from tests.actors.stage import TENANT, Stage

OTHER = b"o" * 16


def through(match: str, host: str = "smart.test", tls: str = "verify", **more: str | bytes) -> SetRoute:
    fields = {"pool": "", "username": "", "sealed": b"", **more}
    return SetRoute(match, host, 587, tls, **fields)  # type: ignore[arg-type]


def test_the_narrowest_route_counts_the_destination_before_the_sender(stage: Stage) -> None:
    for match in (DEFAULT, f"tenant:{TENANT.hex()}", "domain:*.test", "domain:*.example.test", "domain:example.test"):
        stage.do(through(match, host=f"{match.replace(':', '.').replace('*', 'star')}.host"))
    chosen = {
        domain: route.match
        for domain in ("example.test", "a.example.test", "b.a.example.test", "x.test", "other.org", "test")
        if (route := routes.route_for(stage.view, domain, TENANT)) is not None
    }
    assert chosen == {
        "example.test": "domain:example.test",
        "a.example.test": "domain:*.example.test",
        "b.a.example.test": "domain:*.example.test",
        "x.test": "domain:*.test",
        "other.org": f"tenant:{TENANT.hex()}",
        "test": f"tenant:{TENANT.hex()}",
    }
    of_other = routes.route_for(stage.view, "other.org", OTHER)
    assert of_other is not None
    assert of_other.match == DEFAULT


def test_a_route_is_replaced_by_the_next_for_the_same_and_can_be_removed(stage: Stage) -> None:
    stage.do(through(DEFAULT, "one.test"))
    stage.do(through(DEFAULT, "two.test"))
    assert [one.host for one in routes.routes(stage.view)] == ["two.test"]
    stage.do(RemoveRoute(DEFAULT))
    assert routes.routes(stage.view) == []
    with pytest.raises(NoSuchRoute):
        stage.decide(RemoveRoute(DEFAULT))


@pytest.mark.parametrize(
    "command",
    [
        through(DEFAULT, host="", tls=""),
        through(DEFAULT, host="", tls="verify", pool="bulk"),
        through(DEFAULT, tls="sometimes"),
        through(DEFAULT, tls="may", username="me", sealed=b"x"),
        through(DEFAULT, tls="clear", username="me", sealed=b"x"),
    ],
)
def test_a_route_that_says_nothing_or_shows_a_password_is_refused(stage: Stage, command: SetRoute) -> None:
    with pytest.raises(NotAllowed):
        stage.decide(command)


def test_a_password_may_go_in_clear_to_this_machine_itself(stage: Stage) -> None:
    assert stage.decide(through(DEFAULT, "127.0.0.1", "clear", username="me", sealed=b"x"))
