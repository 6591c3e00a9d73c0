"""HTTP-01 (RFC 8555 8.3): any node answers a challenge that any other has ordered, for it is in the log.

In clear, on a listener of its own that strangers reach: it tells what belongs to a token that one knows, nothing else.
"""

from __future__ import annotations

import asyncio
import re

from aiohttp import web

from actors import acme
from actors.acme import ACME
from eventlog.errors import LogError
from nodes.state import NodeState

STATE = web.AppKey("state", NodeState)
BARRIERS = web.AppKey("barriers", asyncio.Semaphore)
MOST_BARRIERS = 4  # at one time: who guesses tokens does not keep the cell busy
BARRIER_S = 3.0
_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,128}")  # at least 128 bits in base64url


def application(state: NodeState) -> web.Application:
    """The application for listen.acme_http."""
    app = web.Application(client_max_size=1024)
    app[STATE], app[BARRIERS] = state, asyncio.Semaphore(MOST_BARRIERS)
    app.router.add_get("/.well-known/acme-challenge/{token}", _answer)
    return app


async def _answer(request: web.Request) -> web.Response:
    log, token = request.app[STATE].log, request.match_info["token"]
    if log is None or not _TOKEN.fullmatch(token):
        raise web.HTTPNotFound
    found = _found(request, token)
    if found is None and not request.app[BARRIERS].locked():
        async with request.app[BARRIERS]:
            try:
                await log.barrier(BARRIER_S)  # this node may be a moment behind the one that has ordered
            except LogError:
                raise web.HTTPNotFound from None
        found = _found(request, token)
    if found is None:
        raise web.HTTPNotFound
    return web.Response(text=found, content_type="application/octet-stream")


def _found(request: web.Request, token: str) -> str | None:
    log = request.app[STATE].log
    assert log is not None
    with log.snapshot() as snapshot:
        return acme.authorization(snapshot.view(ACME), token)
