"""Who asks the admin API: an administrator of the cell by certificate, or whoever a token speaks for.

`identify` finds that out once for each request; who may do what is decided in nodes/logins/callers.py. A long answer
ends with an error line when the token that asked for it is revoked or expires; a request that is answered at once is
judged again when all of it has come, and then no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from aiohttp import web

from nodes.http.endpoint import JSON_LINES
from nodes.http.errors import ApiError
from nodes.logins.callers import Caller, administrator
from nodes.logins.identities import TokenCaller

if TYPE_CHECKING:
    from nodes.logins.identities import Identities

CALLER = web.RequestKey("caller", Caller)
TOKEN = web.RequestKey("token", TokenCaller)
STREAMING = web.RequestKey("streaming", web.StreamResponse)
LOOK_S = 0.05
_BEARER = "bearer "
MOST_TOKEN = 4096  # characters of a header
REVOKED = "the token was revoked, or has expired, while this was answered; what was sent so far is right"
_HINT = "an administrator's certificate (DIR/admin), or a token: mailraft token create"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def identify(request: web.Request, named: str | None, identities: Identities | None) -> Caller | None:
    """Who asks; `named`: whom the certificate names. A token that is shown counts, and not the certificate.

    None: nobody by either. Raises ApiError (401) for a token that is not good.
    """
    if CALLER in request:
        return request[CALLER]
    token, remote = _bearer(request), request.remote or "?"
    if token is not None:
        if identities is None:
            raise ApiError(503, "not_ready", "this node can not check tokens yet", "another node of the cell")
        found = identities.of_token(token, remote)
        if found is None:
            raise unauthenticated("the token is wrong, has expired or was revoked")
        request[TOKEN] = found
        request[CALLER] = found.caller
    elif named is not None:
        request[CALLER] = (
            administrator(named, remote) if identities is None else identities.of_administrator(named, remote)
        )
    return request.get(CALLER)


def unauthenticated(text: str) -> ApiError:
    """401: nobody is known by what was shown."""
    headers = {"WWW-Authenticate": 'Bearer realm="mailraft"'}
    return ApiError(401, "unauthenticated", text, _HINT, headers=headers)


def require_still_good(request: web.Request, identities: Identities | None) -> None:
    """Once a body has come, which may have taken long. Raises ApiError (401) where the token has ended meanwhile."""
    token = request.get(TOKEN)
    if token is not None and identities is not None and not identities.still_good(token):
        raise unauthenticated("the token was revoked, or has expired, while the request was sent")


# -- long answers


async def note_streaming(request: web.Request, response: web.StreamResponse) -> None:
    """A signal (on_response_prepare): an answer begins to be sent."""
    request[STREAMING] = response


async def until_revoked(request: web.Request, handler: Handler, identities: Identities) -> web.StreamResponse:
    """What the handler answers; a long answer ends, with a line that says why, once its token is good no more."""
    token = request[TOKEN]
    ended = identities.ended(token)
    work = asyncio.ensure_future(handler(request))
    try:
        await asyncio.wait((work, ended), timeout=_left_s(token), return_when=asyncio.FIRST_COMPLETED)
        while not work.done() and (request.get(STREAMING) is None or identities.still_good(token)):
            await asyncio.wait((work,), timeout=LOOK_S)  # the timer was early, or nothing is sent yet
        response = request.get(STREAMING)
        if work.done() or response is None:
            return await work
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await work
        return await _cut(request, response)
    finally:
        ended.cancel()
        work.cancel()
        del work  # what it raised has this frame in its traceback: each would keep the other, and what was read for it


async def _cut(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    with contextlib.suppress(ConnectionResetError, RuntimeError):
        if response.content_type in JSON_LINES:
            error = ApiError(401, "unauthenticated", REVOKED, "another token").line()
            await response.write(json.dumps({"error": error}).encode() + b"\n")
            await response.write_eof()
            return response
    if request.transport is not None:
        request.transport.abort()  # what is cut short must not look whole
    return response


def _left_s(token: TokenCaller) -> float | None:
    return None if token.expires_ms is None else max(0.0, token.expires_ms / 1000 - time.time())


def _bearer(request: web.Request) -> str | None:
    """RFC 6750 2.1."""
    header = request.headers.get("Authorization", "")
    if not header:
        return None
    scheme, text = header[: len(_BEARER)], header[len(_BEARER) :].strip()
    if scheme.lower() != _BEARER or len(text) > MOST_TOKEN:
        raise unauthenticated("the header Authorization is understood as `Bearer TOKEN`")
    return text
