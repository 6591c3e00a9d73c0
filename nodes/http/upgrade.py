"""The feature level of the cell, over the admin API: what may be written, and raising it after an upgrade."""

from __future__ import annotations

from aiohttp import web

from eventlog import levels
from nodes.http.admin import context, directory_for_change, services

ROUTES = web.RouteTableDef()


@ROUTES.post("/v1/cluster/upgrade")
async def upgrade(request: web.Request) -> web.Response:
    """Raises the level to what this node's program knows; refused, naming them, while members do not know it."""
    await directory_for_change(request)
    log, who = services(request).log, context(request)
    before = log.feature_level
    if before < levels.NEWEST:
        await log.raise_feature_level(levels.NEWEST, who.by, who.cause, who.timeout_s)
    return web.json_response({"before": before, "level": max(before, levels.NEWEST)})
