"""Idempotency-Key (draft-ietf-httpapi-idempotency-key-header): a request that is sent again is carried out once.

What a key was used for stands in the log (actors/requests.py), in the record that carried the request out: any node
knows it, after any crash. The answer is not kept: it is made again from what is now, so that no secret is kept for it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from actors.directory import Directory
from actors.errors import CommandRefused
from actors.requests import REQUESTS, KeyReused, Once, carried_out
from nodes.http.endpoint import Answered, Endpoint
from nodes.http.errors import ApiError, FieldError
from nodes.http.models import Nothing
from nodes.logins.callers import Caller

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
MOST_KEY = 255
DIGEST_BYTES = 16


def once_of(endpoint: Endpoint, request: web.Request, caller: Caller, body: bytes, directory: Directory) -> Once | None:
    """What the request's key says, and whether it was carried out before; None without a key. Raises ApiError."""
    text = request.headers.get(HEADER)
    if text is None or not endpoint.takes_key:
        return None
    if not 0 < len(text) <= MOST_KEY or not text.isascii() or not text.isprintable():
        wrong = f"must be text of 1 to {MOST_KEY} characters in ASCII"
        errors = [FieldError("header", HEADER, wrong)]
        raise ApiError(400, "bad_request", f"{HEADER}: {wrong}", code="invalid_request", errors=errors)
    secret = directory.derived_key("requests")
    whose = f"{caller.by.kind}/{caller.by.id.hex()}"
    once = Once(_digest(secret, whose, text), _digest(secret, whose, request.method, request.path_qs, body))
    with directory.event_log.snapshot() as snapshot:
        before = carried_out(snapshot.view(REQUESTS), once.key)
    if before is not None:
        if before.fingerprint != once.fingerprint:
            raise KeyReused("the key was sent with another request before")
        once.is_repeated, once.position = True, before.position
    return once


async def carry_out(endpoint: Endpoint, once: Once | None, work: Callable[[], Awaitable[Answered]]) -> Answered:
    """What the handler answers; of a request that was carried out before, what it would answer now. Raises as it does.

    Raises ApiError (409) where what it made is gone, or is told once.
    """
    if once is not None and once.is_repeated and endpoint.secret:
        raise _told_once(once)
    try:
        answered = await work()
    except (CommandRefused, ApiError, LookupError) as error:
        if once is None or not once.is_repeated or (isinstance(error, ApiError) and error.status == 403):
            raise
        if endpoint.answer is Nothing:
            return {}
        text = f"it was carried out at position {once.position}; what it would answer is there no more"
        raise ApiError(409, "conflict", text, "look at what is now", code="already_carried_out") from None
    if once is not None and once.is_repeated and endpoint.secret:
        raise _told_once(once)
    return answered


def header_of(once: Once | None) -> dict[str, str]:
    """Says that nothing was done now."""
    return {REPLAYED: "true"} if once is not None and once.is_repeated else {}


def _told_once(once: Once) -> ApiError:
    text = f"it was carried out at position {once.position}; its answer held a secret, which is told once"
    return ApiError(409, "conflict", text, "revoke what was made, and ask with another key", code="answer_not_kept")


def _digest(secret: bytes, *parts: Any) -> bytes:
    """Low entropy in the request can not be guessed back from it."""
    found = hmac.new(secret, digestmod=hashlib.sha256)
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode()
        found.update(len(data).to_bytes(8, "big") + data)
    return found.digest()[:DIGEST_BYTES]
