"""Routes: mail for a destination, or of a tenant, that goes through another server than its MX says, or from another
pool of addresses.

One stream, found by name, written by administrators. A route is found by what it is for: "domain:example.test",
"domain:*.example.test" (every domain below it), "tenant:" and its id, or "default"; the narrowest counts.
Rows: r + what it is for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, assert_never

from actors.errors import NoSuchRoute, NotAllowed, TooLarge
from actors.kind import Command, Fact
from eventlog.record import Stamp, stream_id
from eventlog.views import View

ROUTES = stream_id("routes", "root")
MAX_ROUTES = 10_000
DEFAULT = "default"
OF_TENANT = "tenant:"
LOOPBACK = ("localhost", "127.0.0.1", "::1", "[127.0.0.1]", "[IPv6:::1]")

RouteTls = Literal["may", "clear", "encrypt", "verify"]
TLS_LEVELS: tuple[RouteTls, ...] = ("may", "clear", "encrypt", "verify")


class Route(NamedTuple):
    """`host` "" is the destination's own MX, `port` 0 the usual one, `pool` "" the default pool of source addresses.

    `tls`: what the host must offer; with "" its own MX's policies count. Fields are only ever added at the end.
    """

    match: str
    host: str
    port: int
    tls: str
    pool: str
    username: str
    sealed: bytes  # the password
    set_ms: int


@dataclass(frozen=True, slots=True)
class SetRoute(Command):
    match: str
    host: str
    port: int
    tls: str
    pool: str
    username: str
    sealed: bytes


@dataclass(frozen=True, slots=True)
class RemoveRoute(Command):
    match: str


@dataclass(frozen=True, slots=True)
class RouteSet(Fact):
    SINCE: ClassVar[int] = 3
    match: str
    host: str
    port: int
    tls: str
    pool: str
    username: str
    sealed: bytes


@dataclass(frozen=True, slots=True)
class RouteRemoved(Fact):
    SINCE: ClassVar[int] = 3
    match: str


RouteCommand = SetRoute | RemoveRoute
RouteFact = RouteSet | RouteRemoved


def decide(view: View, command: RouteCommand) -> tuple[RouteFact, ...]:
    """Raises NoSuchRoute, TooLarge; NotAllowed for a route that says nothing or would show a password to everybody."""
    match command:
        case SetRoute(match, host, port, tls, pool, username, sealed):
            _check(command)
            if view.get(_key(match)) is None and sum(1 for _ in view.range(b"r")) >= MAX_ROUTES:
                raise TooLarge(f"at most {MAX_ROUTES} routes")
            return (RouteSet(match, host, port, tls, pool, username, sealed),)
        case RemoveRoute(match):
            if view.get(_key(match)) is None:
                raise NoSuchRoute(f"there is no route for {match}")
            return (RouteRemoved(match),)
        case _:
            assert_never(command)


def _check(command: SetRoute) -> None:
    if not command.host and not command.pool:
        raise NotAllowed("a route names a host, a pool of addresses, or both")
    if not command.host and (command.tls or command.username):
        raise NotAllowed("TLS and a login belong to a host")
    if command.host and command.tls not in TLS_LEVELS:
        raise NotAllowed(f"TLS is one of {', '.join(TLS_LEVELS)}")
    if command.username and command.tls in ("may", "clear") and command.host not in LOOPBACK:
        raise NotAllowed("a password goes over TLS only: encrypt or verify")


def evolve(view: View, fact: RouteFact, stamp: Stamp) -> None:
    """The last word on each match counts."""
    match fact:
        case RouteSet(match, host, port, tls, pool, username, sealed):
            view.put(_key(match), (host, port, tls, pool, username, sealed, stamp.at_ms))
        case RouteRemoved(match):
            view.delete(_key(match))
        case _:
            assert_never(fact)


def routes(view: View) -> list[Route]:
    """All of them, by what they are for."""
    return [Route(key[1:].decode(), *row) for key, row in view.range(b"r")]


def route_for(view: View, domain: str, tenant: bytes) -> Route | None:
    """The narrowest for mail of `tenant` to `domain`: the destination before the sender, the sender before all."""
    labels = domain.split(".")
    above = [f"domain:*.{'.'.join(labels[n:])}" for n in range(1, len(labels))]
    for match in (f"domain:{domain}", *above, f"{OF_TENANT}{tenant.hex()}", DEFAULT):
        row = view.peek(_key(match))
        if row is not None:
            return Route(match, *row)
    return None


def place(match: str) -> bytes:
    """What a route's password is sealed to."""
    return b"route " + match.encode()


def _key(match: str) -> bytes:
    return b"r" + match.encode()
