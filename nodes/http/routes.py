"""Routes of outgoing mail over the admin API. Passwords come in and never go out."""

from __future__ import annotations

import ipaddress
from typing import Any

from aiohttp import web

from actors import directory, routes, tenant
from actors.names import normalise_domain
from actors.routes import DEFAULT, RemoveRoute, Route, SetRoute
from actors.routes import ROUTES as STREAM
from nodes.http.admin import answer, catch_up, context, directory_for_change, json_body, services, text_field
from nodes.http.errors import bad_request

ROUTES = web.RouteTableDef()
KEYS = ("for", "host", "port", "tls", "pool", "username", "password")
MOST_POOL = 32
MOST_LOGIN = 255


@ROUTES.get("/v1/routes")
async def list_routes(request: web.Request) -> web.Response:
    stale = await catch_up(request)
    with services(request).log.snapshot() as snapshot:
        names = {one.id: one.name for one in tenant.tenants(snapshot)}
        found = [_route_json(one, names) for one in routes.routes(snapshot.view(STREAM))]
    return answer({"routes": found}, stale=stale)


@ROUTES.put("/v1/routes")
async def set_route(request: web.Request) -> web.Response:
    """{"for": "example.test" | "*.example.test" | "tenant NAME" | "default", "host", "port", "tls", "pool", "username",
    "password"}; what is left out is empty."""
    body = await json_body(request)
    unknown = set(body) - set(KEYS)
    if unknown:
        raise bad_request(f"{', '.join(sorted(unknown))}: there is no such field")
    owner = await directory_for_change(request)
    match = _match(request, text_field(body, "for"))
    host, username = _host(_optional(body, "host", 255)), _optional(body, "username", MOST_LOGIN)
    password = _optional(body, "password", MOST_LOGIN)
    if bool(username) != bool(password):
        raise bad_request("a login is a username and a password")
    command = SetRoute(
        match,
        host,
        _port(body),
        _optional(body, "tls", 16) or (("verify" if username else "may") if host else ""),
        _optional(body, "pool", MOST_POOL),
        username,
        owner.seal(password.encode(), routes.place(match)) if password else b"",
    )
    await services(request).runtime.ask(STREAM, command, context(request))
    return web.json_response({"for": body["for"], "host": host, "port": command.port, "tls": command.tls}, status=201)


@ROUTES.delete("/v1/routes/{match}")
async def remove_route(request: web.Request) -> web.Response:
    await directory_for_change(request)
    match = _match(request, request.match_info["match"])
    await services(request).runtime.ask(STREAM, RemoveRoute(match), context(request))
    return web.json_response({})


def _match(request: web.Request, asked: str) -> str:
    """What a route is for, as it stands in the log. Raises ApiError, InvalidName, NoSuchTenant."""
    if asked == DEFAULT:
        return DEFAULT
    if asked.startswith("tenant "):
        with services(request).log.snapshot() as snapshot:
            return f"tenant:{directory.tenant_named(snapshot, asked.removeprefix('tenant ')).hex()}"
    star = "*." if asked.startswith("*.") else ""
    return f"domain:{star}{normalise_domain(asked.removeprefix(star))}"


def _host(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return normalise_domain(host) if host and host != "localhost" else host


def _port(body: dict[str, Any]) -> int:
    port = body.get("port", 0)
    if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port <= 65535:
        raise bad_request("port: must be a number from 1 to 65535")
    return port


def _optional(body: dict[str, Any], name: str, most: int) -> str:
    value = body.get(name, "")
    if not isinstance(value, str) or len(value) > most:
        raise bad_request(f"{name}: must be text of at most {most} characters")
    return value


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
