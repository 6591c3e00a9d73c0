"""The cell's policy on SPF, DKIM, ARC and DMARC over the admin API, and the tenants' own modes."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from actors import directory, tenant, verdicts
from actors.errors import InvalidName
from actors.names import normalise_domain
from actors.verdicts import CHOICES, VERDICTS, SetTenantMode, SetVerdictPolicy
from nodes.http.admin import answer, catch_up, context, directory_for_change, json_body, services, text_field
from nodes.http.errors import bad_request

ROUTES = web.RouteTableDef()
INHERIT = "inherit"


@ROUTES.get("/v1/verdicts")
async def show(request: web.Request) -> web.Response:
    stale = await catch_up(request)
    with services(request).log.snapshot() as snapshot:
        view = snapshot.view(VERDICTS)
        names = {one.id: one.name for one in tenant.tenants(snapshot)}
        modes = {names.get(id_, id_.hex()): mode for id_, mode in verdicts.tenant_modes(view).items()}
        policy = verdicts.policy(view)._asdict()
    judge = services(request).config.verdicts.judge
    return answer(
        {"policy": {**policy, "sealers": list(policy["sealers"])}, "tenants": modes, "judge": judge}, stale=stale
    )


@ROUTES.put("/v1/verdicts")
async def change(request: web.Request) -> web.Response:
    """Any of the choices, and lists "trust" and "distrust"; what is left out stays as it is."""
    body = await json_body(request)
    unknown = set(body) - {*CHOICES, "trust", "distrust"}
    if unknown:
        raise bad_request(f"{', '.join(sorted(unknown))}: there is no such choice")
    choices = {name: text_field(body, name, 32) for name in CHOICES if name in body}
    await directory_for_change(request)
    command = SetVerdictPolicy(**choices, trust=_domains(body, "trust"), distrust=_domains(body, "distrust"))
    await services(request).runtime.ask(VERDICTS, command, context(request))
    return web.json_response({})


@ROUTES.put("/v1/verdicts/tenants/{name}")
async def change_tenant(request: web.Request) -> web.Response:
    """{"dmarc": "enforce" | "mark" | "inherit"}."""
    mode = text_field(await json_body(request), "dmarc", 32)
    await directory_for_change(request)
    with services(request).log.snapshot() as snapshot:
        id_ = directory.tenant_named(snapshot, request.match_info["name"])
    command = SetTenantMode(id_, "" if mode == INHERIT else mode)
    await services(request).runtime.ask(VERDICTS, command, context(request))
    return web.json_response({})


def _domains(body: dict[str, Any], name: str) -> tuple[str, ...]:
    value = body.get(name, [])
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise bad_request(f"{name}: must be a list of domains")
    try:
        return tuple(normalise_domain(one) for one in value)
    except InvalidName as error:
        raise bad_request(f"{name}: {error}") from None
