"""A node's full-text index over the admin API: how far it is, and having it made anew."""

from __future__ import annotations

from aiohttp import web

from nodes.http.admin import services
from nodes.http.errors import ApiError

ROUTES = web.RouteTableDef()


@ROUTES.get("/v1/search")
async def status(request: web.Request) -> web.Response:
    """The index's state, the position up to which all is in it, where the log ends, and how far what it does is."""
    node = services(request)
    assert node.fulltext is not None
    return web.json_response({**node.fulltext.status()._asdict(), "log": node.log.status().applied})


@ROUTES.post("/v1/search/rebuild")
async def rebuild(request: web.Request) -> web.Response:
    """Has this node's index made anew; answers at once, and the status tells how far it is."""
    index = services(request).fulltext
    assert index is not None
    if not index.rebuild():
        why = "it is switched off (fulltext.index)" if index.status().state == "off" else "its library is missing"
        raise ApiError(409, "conflict", f"this node has no full-text index: {why}", "pip install 'mailraft[search]'")
    return web.json_response({"started": True})
