"""What is shared, over the admin API: public folders of tenants, and who may do what with whose folders.

A place is an account's address, or a tenant's name for its public folders.
"""

from __future__ import annotations

from aiohttp import web

from actors.sharing_admin import Line, shared
from nodes.http.admin import answer, catch_up, context, directory_for_change, json_body, services, text_field
from nodes.http.errors import bad_request

ROUTES = web.RouteTableDef()


@ROUTES.get("/v1/shared/{place}")
async def show(request: web.Request) -> web.Response:
    """{"folders": [{"name", "rights": [{"whom", "negative", "rights"}]}]}; "*" stands for every folder."""
    stale = await catch_up(request)
    where = request.match_info["place"]
    with services(request).log.snapshot() as snapshot:
        found = [
            {"name": one.name, "rights": [line._asdict() for line in one.lines]} for one in shared(snapshot, where)
        ]
    return answer({"place": where, "folders": found}, stale=stale)


@ROUTES.put("/v1/shared/{place}/rights")
async def set_rights(request: web.Request) -> web.Response:
    """{"name", "whom", "rights", "negative"}; rights of RFC 4314, none to take them away."""
    body = await json_body(request)
    name, whom, rights = text_field(body, "name"), text_field(body, "whom", 320), body.get("rights")
    if not isinstance(rights, str) or not isinstance(body.get("negative", False), bool):
        raise bad_request("rights: must be text, which may be empty; negative: true or false")
    line = Line(whom, body.get("negative", False), rights)
    directory = await directory_for_change(request)
    given = await directory.sharing.set_rights(request.match_info["place"], name, line, context(request))
    return web.json_response({"name": name, "whom": whom, "rights": given, "negative": line.negative})


@ROUTES.post("/v1/tenants/{name}/folders")
async def create(request: web.Request) -> web.Response:
    folder = text_field(await json_body(request), "name")
    directory = await directory_for_change(request)
    await directory.sharing.create_public(request.match_info["name"], folder, context(request))
    return web.json_response({"name": folder}, status=201)


@ROUTES.delete("/v1/tenants/{name}/folders")
async def delete(request: web.Request) -> web.Response:
    """?name=FOLDER"""
    folder = request.query.get("name", "")
    directory = await directory_for_change(request)
    await directory.sharing.delete_public(request.match_info["name"], folder, context(request))
    return web.json_response({})
