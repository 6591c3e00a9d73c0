"""The members of the cell over the admin API: who they are, adding, removing, handing over leadership.

Every change is an entry of the log, committed when this answers. Adding again what was added is no error.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from eventlog.log import EventLog
from eventlog.members import MEMBERS, Member, rows
from nodes.http.admin import answer, catch_up, context, json_body, services, text_field

ROUTES = web.RouteTableDef()


@ROUTES.get("/v1/members")
async def show(request: web.Request) -> web.Response:
    stale = await catch_up(request)
    return answer(_json(services(request).log), stale=stale)


@ROUTES.post("/v1/members")
async def add(request: web.Request) -> web.Response:
    """{"name", "address"}: as a learner, which votes once it has caught up."""
    body = await json_body(request)
    name, address = text_field(body, "name"), text_field(body, "address")
    log, asked = services(request).log, context(request)
    await catch_up(request)
    if (name, address) not in [(member.name, member.address) for member in log.members()]:
        await log.add_member(name, address, asked.by, asked.cause)
    return web.json_response(_json(log))


@ROUTES.delete("/v1/members/{name}")
async def remove(request: web.Request) -> web.Response:
    log, asked = services(request).log, context(request)
    await log.remove_member(request.match_info["name"], asked.by, asked.cause)
    return web.json_response(_json(log))


@ROUTES.post("/v1/members/{name}/lead")
async def lead(request: web.Request) -> web.Response:
    """Has the leader hand over to this member."""
    log = services(request).log
    await log.transfer_leadership(request.match_info["name"])
    return web.json_response(_json(log))


def _json(log: EventLog) -> dict[str, Any]:
    """What is committed; before the log says anything, what the configuration file does."""
    with log.snapshot() as snapshot:
        folded = [Member(name, address, voter) for name, (address, voter, *_) in rows(snapshot.view(MEMBERS))]
    return {"leader": log.status().leader, "members": [member._asdict() for member in folded or log.members()]}
