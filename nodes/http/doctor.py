"""The examination of a domain over the admin API."""

from __future__ import annotations

from aiohttp import web

from nodes.dkim_admin import DkimAdmin
from nodes.doctor import examine
from nodes.doctor.finding import worst
from nodes.http.admin import answer, catch_up, services

ROUTES = web.RouteTableDef()


@ROUTES.get("/v1/doctor/{domain}")
async def examine_domain(request: web.Request) -> web.Response:
    """Takes as long as names and hosts take to answer, or not to."""
    stale = await catch_up(request)
    parts = services(request)
    domain, _ = DkimAdmin(parts).require(request.match_info["domain"])
    findings = await examine(parts, domain)
    rows = [{**one._asdict(), "records": list(one.records)} for one in findings]
    return answer({"domain": domain, "worst": worst(findings), "findings": rows}, stale=stale)
