"""Reports over the admin API: who reports, what is collected, what was sent, what others have reported."""

from __future__ import annotations

from typing import Any

import msgpack
from aiohttp import web

from actors import directory, reports
from actors.errors import InvalidName
from actors.names import normalise_address
from actors.reports import REPORTS, Collected, Received, Sent, SetReporting
from nodes.http.admin import STATE, answer, catch_up, context, directory_for_change, json_body, number_query, services
from nodes.http.errors import ApiError, bad_request

ROUTES = web.RouteTableDef()
KINDS = ("dmarc", "tls", "arf")
MOST_ORGANISATION = 100


@ROUTES.get("/v1/reports/settings")
async def show_settings(request: web.Request) -> web.Response:
    stale = await catch_up(request)
    with services(request).log.snapshot() as snapshot:
        found = reports.settings(snapshot.view(REPORTS))
    return answer(found._asdict(), stale=stale)


@ROUTES.put("/v1/reports/settings")
async def change_settings(request: web.Request) -> web.Response:
    """Any of sender, organisation, addresses; what is left out stays. An empty sender ends collecting."""
    body = await json_body(request)
    await directory_for_change(request)
    with services(request).log.snapshot() as snapshot:
        before = reports.settings(snapshot.view(REPORTS))
        sender = _address(body.get("sender", before.sender), "sender")
        if sender and directory.domain_tenant(snapshot, sender.rpartition("@")[2]) is None:
            raise bad_request("sender: its domain is not one of this cell", "mailraft tenant list")
    organisation = body.get("organisation", before.organisation)
    if not isinstance(organisation, str) or len(organisation) > MOST_ORGANISATION or not organisation.isprintable():
        raise bad_request(f"organisation: must be text of at most {MOST_ORGANISATION} characters")
    addresses = body.get("addresses", list(before.addresses))
    if not isinstance(addresses, list):
        raise bad_request("addresses: must be a list")
    wanted = tuple(dict.fromkeys(_address(one, "addresses") for one in addresses))
    await services(request).runtime.ask(REPORTS, SetReporting(sender, organisation, wanted), context(request))
    return web.json_response({})


@ROUTES.get("/v1/reports")
async def list_received(request: web.Request) -> web.Response:
    """What others have reported, the newest first; ?kind=dmarc|tls|arf, ?limit=."""
    kind, limit = request.query.get("kind"), number_query(request, "limit", 100, reports.MAX_KEPT)
    if kind is not None and kind not in KINDS:
        raise bad_request(f"kind: one of {', '.join(KINDS)}")
    stale = await catch_up(request)
    with services(request).log.snapshot() as snapshot:
        found = [one for one in reports.received(snapshot.view(REPORTS)) if kind in (None, one.kind)]
    return answer({"reports": [_summary(one) for one in found[:limit]]}, stale=stale)


@ROUTES.get("/v1/reports/received/{id}")
async def show_received(request: web.Request) -> web.Response:
    """One of them whole; the id may be shortened as long as it is the only one that begins so."""
    stale = await catch_up(request)
    wanted = request.match_info["id"].lower()
    with services(request).log.snapshot() as snapshot:
        found = [one for one in reports.received(snapshot.view(REPORTS)) if one.id.hex().startswith(wanted)]
    if len(found) != 1:
        what = "there is no such report" if not found else "several reports begin like that"
        raise ApiError(404, "no_such_report", what, "mailraft report list")
    return answer({**_summary(found[0]), "content": _content(found[0])}, stale=stale)


@ROUTES.get("/v1/reports/collected")
async def list_collected(request: web.Request) -> web.Response:
    stale = await catch_up(request)
    with services(request).log.snapshot() as snapshot:
        found = [_collected(one) for one in reports.collected(snapshot.view(REPORTS))]
    return answer({"reports": found}, stale=stale)


@ROUTES.get("/v1/reports/sent")
async def list_sent(request: web.Request) -> web.Response:
    limit = number_query(request, "limit", 100, reports.MAX_KEPT)
    stale = await catch_up(request)
    with services(request).log.snapshot() as snapshot:
        found = [_sent(one) for one in reports.sent(snapshot.view(REPORTS))[:limit]]
    return answer({"reports": found}, stale=stale)


@ROUTES.post("/v1/reports/send")
async def send(request: web.Request) -> web.Response:
    """Sends now what is due; with {"today": true} what is collected of this day too."""
    body = await json_body(request)
    await directory_for_change(request)
    services(request)  # raises ApiError while the node is not ready
    sender = request.app[STATE].report_sender
    assert sender is not None
    await services(request).reports.flush()
    return web.json_response({"outcomes": await sender.send(unfinished_days=body.get("today") is True)})


def _address(value: Any, name: str) -> str:
    if value == "" and name == "sender":
        return ""
    try:
        return normalise_address(value) if isinstance(value, str) else _no_address(name)
    except InvalidName as error:
        raise bad_request(f"{name}: {error}") from None


def _no_address(name: str) -> str:
    raise bad_request(f"{name}: must be an address")


def _summary(one: Received) -> dict[str, Any]:
    found: dict[str, Any] = {
        name: getattr(one, name)
        for name in ("kind", "organisation", "report_id", "domain", "begin_s", "end_s", "address", "at_ms")
    }
    content = _content(one)
    totals = {name: content[name] for name in ("messages", "passed", "succeeded", "failed") if name in content}
    return {"id": one.id.hex(), **found, "totals": totals}


def _content(one: Received) -> dict[str, Any]:
    content: dict[str, Any] = msgpack.unpackb(one.content)
    return content


def _collected(one: Collected) -> dict[str, Any]:
    return {
        **one.subject._asdict(),
        **{name: getattr(one, name) for name in ("first_ms", "last_ms", "lines", "left_out")},
    }


def _sent(one: Sent) -> dict[str, Any]:
    told = {name: getattr(one, name) for name in ("at_ms", "outcome", "recipients", "results")}
    return {**one.subject._asdict(), **told}
