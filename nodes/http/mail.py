"""Mail from an administrator's command line: the message as the body of the request, the envelope in the query."""

from __future__ import annotations

from aiohttp import web

from actors.directory import domain_tenant
from actors.errors import NoSuchDomain
from actors.names import normalise_address
from nodes.delivery.generated import submit
from nodes.http.admin import context, directory_for_change, services
from nodes.http.errors import ApiError, bad_request

ROUTES = web.RouteTableDef()
PIECE_BYTES = 256 * 1024


@ROUTES.put("/v1/mail")
async def send(request: web.Request) -> web.Response:
    """?sender=ADDRESS&to=ADDRESS&to=...: delivered or queued when this answers. The sender's domain is one of ours."""
    parts = services(request)
    recipients = [normalise_address(address) for address in request.query.getall("to", [])]
    if not 0 < len(recipients) <= parts.config.limits.recipients:
        raise bad_request(f"to: must be named 1 to {parts.config.limits.recipients} times")
    sender = normalise_address(request.query.get("sender", ""))
    data = await _message(request, parts.config.limits.message_bytes)
    await directory_for_change(request)
    with parts.log.snapshot() as snapshot:
        tenant = domain_tenant(snapshot, sender.rpartition("@")[2])
    if tenant is None:
        raise NoSuchDomain(f"{sender} is not an address in one of our domains")
    await submit(parts, sender, recipients, data, tenant, context(request).cause)
    return web.json_response({"sender": sender, "to": recipients, "size": len(data)}, status=201)


async def _message(request: web.Request, most_bytes: int) -> bytes:
    """The body of the request, whatever the application's own limit is. Raises ApiError."""
    data = bytearray()
    async for piece in request.content.iter_chunked(PIECE_BYTES):
        data += piece
        if len(data) > most_bytes:
            raise ApiError(413, "too_large", f"a message has at most {most_bytes} bytes", "limits.message_bytes")
    if not data:
        raise bad_request("the body must be the message")
    return bytes(data)
