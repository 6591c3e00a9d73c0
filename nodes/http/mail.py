"""Mail from an administrator's command line: the message as the body of the request, the envelope in the query."""

from __future__ import annotations

from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from actors.names import normalise_address
from nodes.delivery.generated import submit
from nodes.http import places
from nodes.http.calls import Call
from nodes.http.endpoint import Bytes, Endpoints
from nodes.http.errors import ApiError, bad_request
from nodes.http.models import Address, Model, Query
from nodes.http.places import in_query

ENDPOINTS = Endpoints("mail")
PIECE_BYTES = 256 * 1024


class Envelope(Query):
    """The sender's domain is one of ours."""

    sender: Annotated[str, Field(min_length=3, max_length=320, examples=["alice@example.test"])]
    to: list[Annotated[str, Field(min_length=1, max_length=320)]] = Field(min_length=1, examples=[["bob@example.test"]])


class Sent(Model):
    """It is delivered or queued."""

    sender: Address
    to: list[Address]
    size: int


@ENDPOINTS.put(
    "/v1/mail",
    "cluster:write",  # it asks neither quotas nor rates; who belongs to a tenant submits mail
    places.domain(in_query("sender")),
    Sent,
    status=201,
    body=Bytes("message/rfc822"),
    problems=("too_large", "invalid_name"),
)
async def send(call: Call, query: Envelope) -> dict[str, Any]:
    """Send a message, which is the body of the request: delivered or queued when this answers."""
    parts = call.services
    recipients = [normalise_address(address) for address in query.to]
    if not 0 < len(recipients) <= parts.config.limits.recipients:
        raise bad_request(f"to: must be named 1 to {parts.config.limits.recipients} times")
    sender = normalise_address(query.sender)
    data = await _message(call.request, parts.config.limits.message_bytes)
    call.still_good()
    await submit(parts, sender, recipients, data, call.context._replace(tenant=call.tenant))
    return {"sender": sender, "to": recipients, "size": len(data)}


async def _message(request: web.Request, most_bytes: int) -> bytes:
    """The body of the request, whatever the application's own limit is. Raises ApiError."""
    data = bytearray()
    async for piece in request.content.iter_chunked(PIECE_BYTES):
        data += piece
        if len(data) > most_bytes:
            raise ApiError(
                413, "refused", f"a message has at most {most_bytes} bytes", "limits.message_bytes", code="too_large"
            )
    if not data:
        raise bad_request("the body must be the message")
    return bytes(data)
