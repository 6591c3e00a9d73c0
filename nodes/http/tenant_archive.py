"""Everything of one tenant over the admin API, as an archive, and back: in this cell or another.

An archive is sent in parts, each of which may be sent again: what was taken is passed over.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web
from pydantic import Field

from actors.directory import tenant_named
from actors.sealing import KEY_BYTES
from nodes.http.calls import Call
from nodes.http.endpoint import Bytes, Endpoints
from nodes.http.errors import ApiError, bad_request
from nodes.http.models import Domain, Id, Model, Query, TenantName
from nodes.http.places import CLUSTER
from nodes.tenants.archive import ArchiveError, Manifest, Opening, read
from nodes.tenants.exporting import Export
from nodes.tenants.importing import Import

ENDPOINTS = Endpoints("tenants")


class ArchiveKey(Model):
    """What the secrets of the archive are sealed under; the cell does not keep it."""

    key: str = Field(pattern=f"^[0-9a-f]{{{2 * KEY_BYTES}}}$", examples=["00" * KEY_BYTES])


class ImportQuery(Query):
    """Nothing is written by a dry run."""

    dry_run: bool = False


class Imported(Model):
    """How far an archive was taken. Until it is whole the tenant is suspended."""

    name: TenantName
    id: Id
    domains: list[Domain]
    position: int = Field(description="Of the cell that it is from; 0: nothing was taken yet.", examples=[4711])
    whole: bool


@ENDPOINTS.post(
    "/v1/tenants/{name}/export",
    "tenants:write",
    CLUSTER,
    Bytes(),
    problems=("no_such_tenant", "invalid_name", "not_allowed"),
)
async def export(call: Call, body: ArchiveKey) -> web.StreamResponse:
    """Send everything of a tenant, to be kept or imported, also certificates and what waits to be sent."""
    with call.services.log.snapshot() as snapshot:
        found = tenant_named(snapshot, call.path["name"])
    made = Export(call.services, found, bytes.fromhex(body.key))
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    await response.prepare(call.request)
    async for frame in made.frames():
        await response.write(frame)
    await response.write_eof()
    return response


@ENDPOINTS.post(
    "/v1/tenant-imports",
    "tenants:write",
    CLUSTER,
    Imported,
    body=Bytes(),
    once=False,
    problems=("name_taken", "not_allowed", "too_large", "invalid_name", "superseded"),
)
async def import_(call: Call, query: ImportQuery) -> dict[str, Any]:
    """Take an archive of a tenant, or the next part of it: an opening, the manifest, and entries of the archive."""
    content = call.request.content
    try:
        opening, manifest = await read(content), await read(content)
        if not isinstance(opening, Opening) or not isinstance(manifest, Manifest):
            raise ArchiveError("a part begins with an opening and the manifest")
        taking = Import(call.services, manifest, opening, call.context)
        if query.dry_run:
            taking.check()
        else:
            await taking.begin()
            await taking.take(content)
    except ArchiveError as error:
        raise ApiError(422, "refused", str(error), "the whole archive, as mailraft tenant export wrote it") from None
    except (TypeError, ValueError) as error:
        raise bad_request(f"the archive is damaged: {error}") from None
    return {
        "name": taking.name,
        "id": taking.tenant.hex(),
        "domains": list(taking.domains),
        "position": taking.position,
        "whole": taking.is_whole,
    }
