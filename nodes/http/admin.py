"""The admin API: JSON over HTTPS, for the command line and for programs. Any node takes any request.

Who asks is known by a certificate of the cell's CA that names an administrator, or by a token. Every change goes
through the log like anything else, with that name in its record. What there is, is declared in the modules of PARTS.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from actors.directory import Directory
from actors.roles import CLUSTER_ADMIN
from actors.runtime import Context
from eventlog.errors import OutcomeUnknown
from nodes.callers import Caller
from nodes.http import asking, calls
from nodes.http.authority import STATE as STATE
from nodes.http.authority import authenticate, identify, services_of
from nodes.http.authority import node_name as node_name
from nodes.http.calls import CATCH_UP_S, STALE_HEADER
from nodes.http.endpoint import Endpoint
from nodes.http.errors import LOGGER, ApiError, answer_errors, bad_request
from nodes.services import Logger, Services
from nodes.state import NodeState

_BODY_BYTES = 64 * 1024
ENDPOINT = "mailraft_endpoint"  # the attribute of a route's handler that was declared

# modules of nodes.http with ENDPOINTS; each stands on this one, so that they are imported late
PARTS = (
    "account_state",
    "account_import",
    "accounts",
    "aliases",
    "archive",
    "backup",
    "cell_certificates",
    "certificates",
    "checkpoint",
    "credentials",
    "dkim",
    "doctor",
    "groups",
    "log",
    "mail",
    "mailboxes",
    "members",
    "policies",
    "queue",
    "quotas",
    "redaction",
    "regions",
    "reports",
    "restore",
    "roles",
    "routes",
    "search",
    "sharing",
    "status",
    "tenant_life",
    "tenants",
    "tokens",
    "upgrade",
    "verdicts",
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def endpoints() -> list[Endpoint]:
    """All that is declared."""
    modules = [importlib.import_module(f"nodes.http.{part}") for part in PARTS]
    return [one for module in modules if hasattr(module, "ENDPOINTS") for one in module.ENDPOINTS.all]


def application(state: NodeState, logger: Logger) -> web.Application:
    """The application for listen.admin. A node that starts, or is quarantined, answers only its status."""
    app = web.Application(middlewares=[answer_errors, _administrators_only], client_max_size=_BODY_BYTES)
    app[STATE] = state
    app[LOGGER] = logger
    app.on_response_prepare.append(asking.note_streaming)
    for one in endpoints():
        app.router.add_route(one.method, one.path, _handler(one))
    for part in PARTS:
        app.router.add_routes(getattr(importlib.import_module(f"nodes.http.{part}"), "ROUTES", ()))
    return app


def _handler(endpoint: Endpoint) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        asker = await authenticate(endpoint, request)

        async def work(asked: web.Request) -> web.StreamResponse:
            return await calls.answer(endpoint, asked, asker)

        return await _while_good(request, work)

    setattr(answer, ENDPOINT, endpoint)
    return answer


@web.middleware
async def _administrators_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What is declared says itself who may; nothing else is told to anybody but administrators, not even what is."""
    if not hasattr(request.match_info.handler, ENDPOINT):
        _administrator(request)
        return await _while_good(request, handler)
    return await handler(request)


async def _while_good(request: web.Request, handler: Handler) -> web.StreamResponse:
    identities = request.app[STATE].identities
    if asking.TOKEN in request and identities is not None:
        return await asking.until_revoked(request, handler, identities)
    return await handler(request)


def _administrator(request: web.Request) -> Caller:
    asker = identify(request)
    if asker is None or (asker.role, asker.tenant, asker.scopes) != (CLUSTER_ADMIN, None, frozenset()):
        raise ApiError(403, "forbidden", "this needs an administrator's certificate of the cell", "DIR/admin")
    return asker


def services(request: web.Request) -> Services:
    """The node's parts. Raises ApiError while it has none."""
    return services_of(request)


def context(request: web.Request) -> Context:
    """Who asks, for the record."""
    timeout_s = request.app[STATE].config.raft.propose_timeout_s
    return Context(by=_administrator(request).by, cause=f"{request.method} {request.path}", timeout_s=timeout_s)


async def catch_up(request: web.Request) -> bool:
    """Waits until this node shows what was acknowledged anywhere. True if it can not know: reads go on, and say so."""
    try:
        await services(request).log.barrier(CATCH_UP_S)
    except OutcomeUnknown:
        return True
    return False


def answer(body: Any, *, stale: bool) -> web.Response:
    """What was read. The header says if it may be old, so that the body is the same in every case."""
    return answer_text(json.dumps(body), stale=stale)


def answer_text(text: str, *, stale: bool) -> web.Response:
    """The same, of JSON that is text already."""
    return web.Response(text=text, content_type="application/json", headers=stale_header(stale))


def stale_header(stale: bool) -> dict[str, str]:
    return {STALE_HEADER: "1"} if stale else {}


async def directory_for_change(request: web.Request) -> Directory:
    """The directory, once this node is up to date, so that it decides on what is. Raises ApiError."""
    if await catch_up(request):
        raise ApiError(503, "not_ready", "no majority of the cell answers, so nothing was changed", "start more nodes")
    return services(request).directory


async def json_body(request: web.Request) -> dict[str, Any]:
    """The request's JSON object. Raises ApiError."""
    try:
        body = json.loads(await request.text())
    except ValueError:
        raise bad_request("the body must be a JSON object") from None
    if not isinstance(body, dict):
        raise bad_request("the body must be a JSON object")
    return body


def text_field(body: dict[str, Any], name: str, most: int = 1024) -> str:
    """A text of the body that is not empty. Raises ApiError."""
    value = body.get(name)
    if not isinstance(value, str) or not value or len(value) > most:
        raise bad_request(f"{name}: must be text of 1 to {most} characters")
    return value


def text_list_field(body: dict[str, Any], name: str) -> list[str]:
    """A list of texts that is not empty. Raises ApiError."""
    value = body.get(name)
    if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):
        raise bad_request(f"{name}: must be a list of texts")
    return value


def count_field(body: dict[str, Any], name: str) -> int | None:
    """A whole number above 0, or None where it is missing or null. Raises ApiError."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**63:
        raise bad_request(f"{name}: must be a whole number above 0 and below 2^63")
    return value


def number_query(request: web.Request, name: str, default: int | None, most: int = 2**63 - 1) -> int | None:
    """A whole number of the query. Raises ApiError."""
    text = request.query.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or int(text) > most:
        raise bad_request(f"{name}: must be a whole number from 0 to {most}")
    return int(text)
