"""Which way a message goes: the one that an administrator gave to the item, a route of the cell, or the MX."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from actors.directory import Directory
from actors.routes import OF_TENANT, ROUTES, place, route_for
from actors.sealing import SealBroken
from eventlog.log import EventLog
from nodes.delivery.attempt import Attempt
from nodes.delivery.destinations import NoWay
from nodes.delivery.login import Login
from nodes.delivery.tls_policy import Level

_GIVEN = re.compile(r"(\[[^\]]+\]|[^:\[\]\s]+)(?::([0-9]{1,5}))?")


class Way(NamedTuple):
    """`host` "" is by MX, `port` 0 the usual one. `shared`: all mail for the destination goes that way."""

    host: str = ""
    port: int = 0
    tls: Level = "may"
    pool: str = ""
    login: Login | None = None
    shared: bool = True


FindWay = Callable[[Attempt], Way]
BY_MX = Way()


def hop(text: str) -> tuple[str, int] | None:
    """`host` or `host:port` as both, the port 0 where none is named; None where it is neither."""
    found = _GIVEN.fullmatch(text)
    return (found[1], int(found[2] or 0)) if found is not None and 0 < int(found[2] or 25) < 65536 else None


def given_way_or_mx(attempt: Attempt) -> Way:
    """The one that stands in the item, `host` or `host:port`, or by MX. Raises NoWay."""
    if not attempt.route:
        return BY_MX
    found = hop(attempt.route)
    if found is None:
        raise NoWay("deferred", 451, "4.3.5", f"the item's route {attempt.route} is no host:port")
    return Way(*found, shared=False)


def ways_of(log: EventLog, directory: Directory) -> FindWay:
    """Ways as the cell's routes are at the moment. The function raises NoWay."""

    def find(attempt: Attempt) -> Way:
        if attempt.route:
            return given_way_or_mx(attempt)
        with log.snapshot() as snapshot:
            found = route_for(snapshot.view(ROUTES), attempt.domain, attempt.tenant)
        if found is None:
            return BY_MX
        login = None
        if found.username:
            try:
                login = Login(found.username, directory.unseal(found.sealed, place(found.match)).decode())
            except SealBroken as error:
                raise NoWay("deferred", 451, "4.3.5", f"the password of the route for {found.match}: {error}") from None
        tls: Level = found.tls or "may"  # type: ignore[assignment]
        return Way(found.host, found.port, tls, found.pool, login, not found.match.startswith(OF_TENANT))

    return find
