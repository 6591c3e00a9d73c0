"""Tenants' mail policies over the admin API: what holds, what was set, and setting it."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from actors import directory, tenant_policy, verdicts
from actors.kind import Command
from actors.tenant_policy import SETTINGS, SetMailPolicy
from actors.verdicts import CHOICES, VERDICTS, SetTenantMode
from eventlog.store import Snapshot
from nodes.http.admin import answer, catch_up, context, directory_for_change, json_body, services
from nodes.http.errors import bad_request
from nodes.policy.tenants import defaults

ROUTES = web.RouteTableDef()
DMARC = "dmarc"  # stands beside the cell's own in actors/verdicts.py, and is set there too


@ROUTES.get("/v1/tenants/{name}/policy")
async def show(request: web.Request) -> web.Response:
    """{"policy": {SETTING: {"value", "default", "is_set", "text"}}}; defaults are those of the node that answers."""
    stale = await catch_up(request)
    with services(request).log.snapshot() as snapshot:
        tenant = directory.tenant_named(snapshot, request.match_info["name"])
        found = _policy(request, snapshot, tenant)
    return answer({"tenant": request.match_info["name"], "policy": found}, stale=stale)


@ROUTES.put("/v1/tenants/{name}/policy")
async def change(request: web.Request) -> web.Response:
    """{"set": {SETTING: VALUE}, "reset": [SETTING]}; a setting that is named twice is reset. [] and {} reset all."""
    body = await json_body(request)
    wanted, reset = body.get("set", {}), body.get("reset", [])
    if not isinstance(wanted, dict) or not isinstance(reset, list) or not all(isinstance(one, str) for one in reset):
        raise bad_request('it takes {"set": {SETTING: VALUE}, "reset": [SETTING]}')
    if not all(isinstance(value, str | int) for value in wanted.values()):
        raise bad_request("set: values are text or whole numbers")
    await directory_for_change(request)
    with services(request).log.snapshot() as snapshot:
        tenant = directory.tenant_named(snapshot, request.match_info["name"])
        if not wanted and not reset:
            reset = _set_names(snapshot, tenant)
    steps = _steps(tenant, wanted, reset)
    if steps:
        await services(request).runtime.transact(steps, context(request)._replace(tenant=tenant))
    return web.json_response({"set": wanted, "reset": reset})


def _steps(tenant: bytes, wanted: dict[str, Any], reset: list[str]) -> list[tuple[bytes, Command]]:
    """One record for both places."""
    values = tuple((name, value) for name, value in wanted.items() if name != DMARC)
    names = tuple(dict.fromkeys(name for name in reset if name != DMARC))
    steps: list[tuple[bytes, Command]] = [(tenant, SetMailPolicy(values, names))] if values or names else []
    if DMARC in reset or DMARC in wanted:
        mode = "" if DMARC in reset else str(wanted[DMARC])
        steps.append((VERDICTS, SetTenantMode(tenant, mode)))
    return steps


def _set_names(snapshot: Snapshot, tenant: bytes) -> list[str]:
    """The settings that this tenant has set."""
    own = list(tenant_policy.settings(snapshot.view(tenant)))
    return own + [DMARC] * (tenant in verdicts.tenant_modes(snapshot.view(VERDICTS)))


def _policy(request: web.Request, snapshot: Snapshot, tenant: bytes) -> dict[str, dict[str, Any]]:
    own = dict(tenant_policy.settings(snapshot.view(tenant)))
    usual = defaults(services(request).config)._asdict()
    view = snapshot.view(VERDICTS)
    usual[DMARC] = verdicts.policy(view).dmarc
    mode = verdicts.tenant_modes(view).get(tenant)
    if mode is not None:
        own[DMARC] = mode
    texts = {name: setting.text for name, setting in SETTINGS.items()}
    texts[DMARC] = f"What is done about mail that fails DMARC: {' or '.join(CHOICES[DMARC])}."
    return {
        name: {"value": own.get(name, usual[name]), "default": usual[name], "is_set": name in own, "text": text}
        for name, text in sorted(texts.items())
    }
