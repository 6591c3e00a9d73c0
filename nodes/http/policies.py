"""Tenants' mail policies over the admin API: what holds, what was set, and setting it."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from actors import tenant_policy, verdicts
from actors.errors import NotAllowed
from actors.kind import Command
from actors.tenant_policy import SETTINGS, SetMailPolicy
from actors.verdicts import CHOICES, VERDICTS, SetTenantMode
from eventlog.store import Snapshot
from nodes.http import places, rows
from nodes.http.calls import Call
from nodes.http.endpoint import Endpoints
from nodes.http.models import Model, TenantName
from nodes.http.places import in_path
from nodes.logins.callers import permits
from nodes.policy.tenants import defaults

ENDPOINTS = Endpoints("policies")
NAMED = places.tenant(in_path("name"))
LIMITS = frozenset(name for name in SETTINGS if name.startswith(("account_", "tenant_")))  # the operator's to set
DMARC = "dmarc"  # stands beside the cell's own in actors/verdicts.py, and is set there too


Value = str | int | bool


class Setting(Model):
    """What holds, what holds where nothing is set (of the node that answers), and what it is about."""

    value: Any
    default: Any
    is_set: bool
    text: str


class MailPolicy(Model):
    """Every setting by its name."""

    tenant: TenantName
    policy: dict[str, Setting]


class PolicyChange(Model):
    """A setting that is named twice is reset. Nothing at all resets everything."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"set": {"dmarc": "mark"}, "reset": []}]})

    set: dict[str, Value] = Field({})
    reset: list[str] = Field([])


@ENDPOINTS.get("/v1/tenants/{name}/policy", "policies:read", NAMED, MailPolicy, made_of=rows.mail_policy)
async def show(call: Call) -> dict[str, Any]:
    """Show what a tenant's policy for mail is."""
    with call.services.log.snapshot() as snapshot:
        found = _policy(call, snapshot, call.tenant)
    return {"tenant": call.path["name"], "policy": found}


@ENDPOINTS.put(
    "/v1/tenants/{name}/policy",
    "policies:write",
    NAMED,
    PolicyChange,
    problems=("not_allowed",),
    made_of=rows.mail_policy,
)
async def change(call: Call, body: PolicyChange) -> dict[str, Any]:
    """Set and reset settings of a tenant's policy, all at once; limits of accounts and tenants are the operator's."""
    reset, sets_limits = body.reset, permits(call.caller, "limits:write", None)
    if not body.set and not reset:
        with call.services.log.snapshot() as snapshot:
            own = _set_names(snapshot, call.tenant)
        reset = [name for name in own if sets_limits or name not in LIMITS]
    limits = sorted(LIMITS.intersection((*body.set, *reset)))
    if limits and not sets_limits:
        raise NotAllowed(f"{limits[0]}: limits are set by the cluster's administrators")
    steps = _steps(call.tenant, body.set, reset)
    if steps:
        await call.services.runtime.transact(steps, call.context)
    return {"set": body.set, "reset": reset}


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


def _policy(call: Call, snapshot: Snapshot, tenant: bytes) -> dict[str, dict[str, Any]]:
    own = dict(tenant_policy.settings(snapshot.view(tenant)))
    usual = defaults(call.services.config)._asdict()
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
