"""The admin API: JSON over HTTPS with mutual TLS, for the command line. Any node takes any request.

Who may come in is decided by the certificate: one of this cell's CA that names an administrator. Every
change goes through the log like anything else, with that name in its record.
"""

from __future__ import annotations

import importlib
import json
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from actors.directory import Directory
from actors.runtime import Context
from eventlog.errors import OutcomeUnknown
from eventlog.record import By, stream_id
from nodes.http.errors import LOGGER, ApiError, answer_errors, bad_request
from nodes.services import Logger, Services
from nodes.state import NodeState
from nodes.tls import peer_admin_name, peer_node_name

STATE = web.AppKey("state", NodeState)
_BODY_BYTES = 64 * 1024
CATCH_UP_S = 3.0
STALE_HEADER = "Mailraft-Stale"
FOR_NODES = ("/v1/checkpoint",)  # what a node of the cell may ask for, besides administrators

# modules of nodes.http with ROUTES; each stands on this one, so that they are imported late
PARTS = (
    "accounts",
    "archive",
    "backup",
    "checkpoint",
    "credentials",
    "dkim",
    "doctor",
    "log",
    "mail",
    "mailboxes",
    "members",
    "policies",
    "queue",
    "redaction",
    "regions",
    "reports",
    "restore",
    "routes",
    "search",
    "sharing",
    "upgrade",
    "verdicts",
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(state: NodeState, logger: Logger) -> web.Application:
    """The application for listen.admin. A node that starts, or is quarantined, answers only its status."""
    app = web.Application(middlewares=[answer_errors, _authorise], client_max_size=_BODY_BYTES)
    app[STATE] = state
    app[LOGGER] = logger
    app.router.add_get("/v1/status", _status)
    for part in PARTS:
        app.router.add_routes(importlib.import_module(f"nodes.http.{part}").ROUTES)
    return app


async def _status(request: web.Request) -> web.Response:
    return web.json_response(request.app[STATE].status())


@web.middleware
async def _authorise(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.path not in FOR_NODES or node_name(request) is None:
        _administrator(request)
    return await handler(request)


def node_name(request: web.Request) -> str | None:
    """The node of this cell that asks; None for an administrator."""
    return peer_node_name(_peer(request), request.app[STATE].config.node.cluster_id)


def _administrator(request: web.Request) -> str:
    name = peer_admin_name(_peer(request), request.app[STATE].config.node.cluster_id)
    if name is None:
        raise ApiError(403, "forbidden", "this needs an administrator's certificate of the cell", "DIR/admin")
    return name


def _peer(request: web.Request) -> ssl.SSLObject | None:
    return request.transport.get_extra_info("ssl_object") if request.transport is not None else None


def services(request: web.Request) -> Services:
    """The node's parts. Raises ApiError while it has none."""
    state = request.app[STATE]
    if state.services is None:
        category = "quarantined" if state.phase == "quarantined" else "not_ready"
        raise ApiError(503, category, "; ".join(state.unready()), "another node of the cell")
    return state.services


def context(request: web.Request) -> Context:
    """Who asks, for the record."""
    name = _administrator(request)
    by = By("admin", stream_id("admin", name), f"admin {name} {request.remote}")
    timeout_s = request.app[STATE].config.raft.propose_timeout_s
    return Context(by=by, cause=f"{request.method} {request.path}", timeout_s=timeout_s)


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
