"""The admin API: JSON over HTTPS, for the command line and for programs. Any node takes any request.

Who asks is known by a certificate of the cell's CA that names an administrator, or by a token. Every change goes
through the log like anything else, with that name in its record. What there is, is declared in the modules of PARTS.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable

from aiohttp import web

from nodes.http import asking, calls
from nodes.http.authority import GATE, STATE, authenticate, is_ours, shows_ours
from nodes.http.endpoint import Endpoint
from nodes.http.errors import LOGGER, REFUSALS, TRACING, answer_errors
from nodes.http.gate import Gate
from nodes.http.listener import DOOR, Door
from nodes.refusals import Refusals
from nodes.services import Logger
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
    "cell_succession",
    "certificates",
    "client_authorities",
    "acme",
    "checkpoint",
    "configuration",
    "credentials",
    "directory",
    "dkim",
    "doctor",
    "explorer",
    "draining",
    "groups",
    "health",
    "keyring",
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
    "senders",
    "sharing",
    "status",
    "tenant_archive",
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
    return [one for module in modules for one in module.ENDPOINTS.all]


def application(state: NodeState, logger: Logger) -> web.Application:
    """The application for listen.admin. A node that starts, or is quarantined, answers only its status."""
    app = web.Application(middlewares=[answer_errors], client_max_size=_BODY_BYTES)
    app[STATE] = state
    app[LOGGER] = logger
    app[REFUSALS] = Refusals(state.metrics, logger)
    app[TRACING] = lambda: state.services.tracing if state.services is not None else None
    app[GATE] = Gate(lambda: state.config.http)
    app[DOOR] = Door(lambda: state.config.http.connections, lambda tls: is_ours(tls, state.config.node.cluster_id))
    app.on_response_prepare.append(asking.note_streaming)
    for one in endpoints():
        app.router.add_route(one.method, one.path, _handler(one))
    return app


def _handler(endpoint: Endpoint) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        with request.app[GATE].work(request.remote or "", lambda: shows_ours(request)):
            return await gated(request)

    async def gated(request: web.Request) -> web.StreamResponse:
        asker = await authenticate(endpoint, request)

        async def work(asked: web.Request) -> web.StreamResponse:
            return await calls.answer(endpoint, asked, asker)

        return await _while_good(request, work)

    setattr(answer, ENDPOINT, endpoint)
    return answer


async def _while_good(request: web.Request, handler: Handler) -> web.StreamResponse:
    identities = request.app[STATE].identities
    if asking.TOKEN in request and identities is not None:
        return await asking.until_revoked(request, handler, identities)
    return await handler(request)
