"""DKIM keys over the admin API."""

from __future__ import annotations

import re
from typing import Any

from aiohttp import web

from actors.dkim import Algorithm, Key
from nodes import dkim_keys
from nodes.dkim_admin import DkimAdmin, Published
from nodes.http.admin import answer, catch_up, context, directory_for_change, json_body, services
from nodes.http.errors import ApiError, bad_request
from nodes.record_json import utc

ROUTES = web.RouteTableDef()
_SELECTOR = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?)?")
MOST_MS = 10 * 366 * 86_400_000


@ROUTES.get("/v1/dkim")
async def list_keys(request: web.Request) -> web.Response:
    """Every domain with its keys; those that have none are not signed for."""
    stale = await catch_up(request)
    admin = DkimAdmin(services(request))
    return answer({"domains": [_domain_json(admin, domain) for domain in admin.domains()]}, stale=stale)


@ROUTES.get("/v1/dkim/{domain}")
async def show(request: web.Request) -> web.Response:
    stale = await catch_up(request)
    admin = DkimAdmin(services(request))
    domain, _ = admin.require(request.match_info["domain"])
    return answer(_domain_json(admin, domain), stale=stale)


@ROUTES.post("/v1/dkim/{domain}/keys")
async def generate(request: web.Request) -> web.Response:
    """{"algorithms": [...], "rsa_bits", "selector", "active"}, all of them optional."""
    body = await json_body(request)
    algorithms, selector = _algorithms(body), _selector(body)
    bits = body.get("rsa_bits", 2048)
    if bits not in dkim_keys.RSA_BITS or isinstance(bits, bool):
        raise bad_request(f"rsa_bits: must be one of {', '.join(map(str, dkim_keys.RSA_BITS))}")
    admin = await _changing(request)
    made = await admin.generate(
        request.match_info["domain"],
        context(request),
        algorithms=algorithms,
        rsa_bits=bits,
        selector=selector,
        active=_flag(body, "active"),
    )
    return _made(admin, request, made)


@ROUTES.post("/v1/dkim/{domain}/rotate")
async def rotate(request: web.Request) -> web.Response:
    body = await json_body(request)
    admin = await _changing(request)
    made = await admin.rotate(request.match_info["domain"], context(request), active=_flag(body, "active"))
    return _made(admin, request, made)


@ROUTES.post("/v1/dkim/{domain}/validate")
async def validate(request: web.Request) -> web.Response:
    """Looks into DNS; keys that wait take over where their records are right."""
    admin = await _changing(request)
    domain, _ = admin.require(request.match_info["domain"])
    found = await admin.validate(domain, context(request))
    return web.json_response({"domain": domain, "keys": [_published_json(domain, one) for one in found]})


@ROUTES.put("/v1/dkim/{domain}/schedule")
async def set_schedule(request: web.Request) -> web.Response:
    """{"every_ms", "overlap_ms"}; every_ms 0 ends it."""
    body = await json_body(request)
    every_ms, overlap_ms = _span(body, "every_ms"), _span(body, "overlap_ms")
    admin = await _changing(request)
    await admin.set_schedule(request.match_info["domain"], every_ms, overlap_ms, context(request))
    return web.json_response(_domain_json(admin, admin.require(request.match_info["domain"])[0]))


@ROUTES.delete("/v1/dkim/{domain}/keys/{selector}")
async def delete(request: web.Request) -> web.Response:
    admin = await _changing(request)
    force = request.query.get("force") == "1"
    await admin.delete(request.match_info["domain"], request.match_info["selector"], context(request), force=force)
    return web.json_response({})


async def _changing(request: web.Request) -> DkimAdmin:
    await directory_for_change(request)
    return DkimAdmin(services(request))


def _made(admin: DkimAdmin, request: web.Request, selectors: list[str]) -> web.Response:
    domain, _ = admin.require(request.match_info["domain"])
    keys = [_key_json(domain, key) for key in admin.keys(domain) if key.selector in selectors]
    return web.json_response({"domain": domain, "keys": keys}, status=201)


def _domain_json(admin: DkimAdmin, domain: str) -> dict[str, Any]:
    schedule = admin.schedule(domain)
    return {
        "domain": domain,
        "keys": [_key_json(domain, key) for key in admin.keys(domain)],
        "schedule": None if schedule is None else schedule._asdict(),
    }


def _key_json(domain: str, key: Key) -> dict[str, Any]:
    return {
        "selector": key.selector,
        "algorithm": key.algorithm,
        "state": key.state,
        "added": utc(key.added_ms),
        "activated": utc(key.activated_ms) if key.activated_ms else None,
        "retired": utc(key.retired_ms) if key.retired_ms else None,
        "record_name": dkim_keys.record_name(domain, key.selector),
        "record_value": dkim_keys.record_value(key.algorithm, key.public),
        "zone_line": dkim_keys.zone_line(domain, key),
    }


def _published_json(domain: str, one: Published) -> dict[str, Any]:
    return {**_key_json(domain, one.key), "published": not one.problem, "problem": one.problem}


def _algorithms(body: dict[str, Any]) -> list[Algorithm]:
    wanted = body.get("algorithms", list(dkim_keys.ALGORITHMS))
    if not isinstance(wanted, list) or not wanted or any(one not in dkim_keys.ALGORITHMS for one in wanted):
        raise bad_request(f"algorithms: must be a list of {' and '.join(dkim_keys.ALGORITHMS)}")
    return list(dict.fromkeys(wanted))


def _selector(body: dict[str, Any]) -> str | None:
    selector = body.get("selector")
    if selector is None:
        return None
    if not isinstance(selector, str) or not _SELECTOR.fullmatch(selector):
        raise ApiError(400, "bad_request", "selector: must be a name of DNS in lower case", "as in 2026-mail")
    return selector


def _flag(body: dict[str, Any], name: str) -> bool:
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise bad_request(f"{name}: must be true or false")
    return value


def _span(body: dict[str, Any], name: str) -> int:
    value = body.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST_MS:
        raise bad_request(f"{name}: must be milliseconds from 0 to {MOST_MS}")
    return value
