"""Routes of outgoing mail over the admin API. Passwords come in and never go out."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import Field

from actors import directory, routes
from actors.errors import NoSuchRoute
from actors.names import normalise_domain
from actors.routes import DEFAULT, RemoveRoute, Route, SetRoute
from actors.routes import ROUTES as STREAM
from eventlog.store import Snapshot
from nodes.http.calls import Call
from nodes.http.endpoint import Endpoints
from nodes.http.errors import bad_request
from nodes.http.models import Model, Nothing, Page, PageQuery
from nodes.http.pages import page
from nodes.http.places import CLUSTER
from nodes.http.rows import Rows

ENDPOINTS = Endpoints("routes")
MOST_POOL = 32
MOST_LOGIN = 255
For = Annotated[
    str,
    Field(
        min_length=1,
        max_length=1024,
        description="A domain, `*.DOMAIN`, `tenant NAME` or `default`.",
        examples=["example.test"],
    ),
]
Host = Annotated[str, Field(max_length=255, examples=["relay.example.test"])]
Port = Annotated[int, Field(ge=0, le=65535, description="0: the usual one.")]
Tls = Annotated[str, Field(max_length=16, description="How much of TLS is asked for.", examples=["verify"])]
Pool = Annotated[str, Field(max_length=MOST_POOL)]
Username = Annotated[str, Field(max_length=MOST_LOGIN)]


class OutgoingRoute(Model):
    """Where mail goes; the password of its login is never told."""

    to: For = Field(alias="for")
    host: Host
    port: Port
    tls: Tls
    pool: Pool
    username: Username
    set_ms: int


class RoutePage(Page):
    """In the order in which they are asked."""

    routes: list[OutgoingRoute]


class NewRoute(Model):
    """What is left out is empty. A login is a username and a password."""

    to: For = Field(alias="for")
    host: Host = ""
    port: Port = 0
    tls: Tls = ""
    pool: Pool = ""
    username: Username = ""
    password: Annotated[str, Field(max_length=MOST_LOGIN)] = ""


class SetRouteAnswer(Model):
    """The route as it was set."""

    to: For = Field(alias="for")
    host: Host
    port: Port
    tls: Tls


@ENDPOINTS.get("/v1/routes", "routes:read", CLUSTER, RoutePage)
async def list_routes(call: Call, query: PageQuery) -> dict[str, Any]:
    """List the routes of outgoing mail."""
    names = call.tenant_names()
    with call.services.log.snapshot() as snapshot:
        entries = routes.routes(snapshot.view(STREAM))
    found, following = page(entries, lambda one: (one.match,), query, lambda one: _route_json(one, names))
    return {"routes": found, "next": following}


def made_of(call: Call, _snapshot: Snapshot) -> Iterable[Rows]:
    """The route that the path or the body names."""
    asked = call.body.to if isinstance(call.body, NewRoute) else call.path["match"]
    yield Rows(STREAM, b"r" + _match(call, asked).encode())


@ENDPOINTS.get(
    "/v1/routes/{match}", "routes:read", CLUSTER, OutgoingRoute, problems=("no_such_route",), made_of=made_of
)
async def show_route(call: Call) -> dict[str, Any]:
    """Show a route of outgoing mail."""
    match = _match(call, call.path["match"])
    with call.services.log.snapshot() as snapshot:
        found = next((one for one in routes.routes(snapshot.view(STREAM)) if one.match == match), None)
    if found is None:
        raise NoSuchRoute(f"there is no route for {call.path['match']}")
    return _route_json(found, call.tenant_names())


@ENDPOINTS.put("/v1/routes", "routes:write", CLUSTER, SetRouteAnswer, status=201, made_of=made_of)
async def set_route(call: Call, body: NewRoute) -> dict[str, Any]:
    """Set where outgoing mail goes."""
    match = _match(call, body.to)
    host, username, password = _host(body.host), body.username, body.password
    if bool(username) != bool(password):
        raise bad_request("a login is a username and a password")
    command = SetRoute(
        match,
        host,
        body.port,
        body.tls or (("verify" if username else "may") if host else ""),
        body.pool,
        username,
        call.directory.seal(password.encode(), routes.place(match)) if password else b"",
    )
    await call.services.runtime.ask(STREAM, command, call.context)
    return {"for": body.to, "host": host, "port": command.port, "tls": command.tls}


@ENDPOINTS.delete("/v1/routes/{match}", "routes:write", CLUSTER, Nothing, problems=("no_such_route",), made_of=made_of)
async def remove_route(call: Call) -> dict[str, Any]:
    """Remove a route of outgoing mail."""
    match = _match(call, call.path["match"])
    await call.services.runtime.ask(STREAM, RemoveRoute(match), call.context)
    return {}


def _match(call: Call, asked: str) -> str:
    """What a route is for, as it stands in the log. Raises ApiError, InvalidName, NoSuchTenant."""
    if asked == DEFAULT:
        return DEFAULT
    if asked.startswith("tenant "):
        with call.services.log.snapshot() as snapshot:
            return f"tenant:{directory.tenant_named(snapshot, asked.removeprefix('tenant ')).hex()}"
    star = "*." if asked.startswith("*.") else ""
    return f"domain:{star}{normalise_domain(asked.removeprefix(star))}"


def _host(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return normalise_domain(host) if host and host != "localhost" else host


def _route_json(route: Route, names: dict[bytes, str]) -> dict[str, Any]:
    kind, _, rest = route.match.partition(":")
    named = names.get(bytes.fromhex(rest), rest) if kind == "tenant" else rest
    return {
        "for": {"domain": rest, "tenant": f"tenant {named}"}.get(kind, DEFAULT),
        "host": route.host,
        "port": route.port,
        "tls": route.tls,
        "pool": route.pool,
        "username": route.username,
        "set_ms": route.set_ms,
    }
