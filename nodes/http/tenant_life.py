"""The life of a tenant over the admin API: what is said of it, its domains' end, suspension, deletion.

What takes a tenant out of service, or back, is the platform's: a tenant's own administrator may not.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from actors.standing import MAX_REASON_CHARACTERS, MOST_GRACE_MS
from actors.tenant_details import MAX_TITLE_CHARACTERS
from nodes.http import rows
from nodes.http.calls import Call
from nodes.http.endpoint import Endpoints
from nodes.http.errors import bad_request
from nodes.http.models import Model, Nothing, TenantName
from nodes.http.places import CLUSTER
from nodes.http.tenants import NAMED, Tenant, tenant_named_json

ENDPOINTS = Endpoints("tenants")
REASON = Field("", max_length=MAX_REASON_CHARACTERS, examples=["unpaid since October"])


class Details(Model):
    """What is missing stays."""

    title: str | None = Field(None, max_length=MAX_TITLE_CHARACTERS, examples=["Example Ltd"])
    contact: str | None = Field(
        None, max_length=320, description="Who is told of quotas; empty for nobody.", examples=["it@example.test"]
    )
    name: TenantName | None = Field(None, description="Another name; domains and addresses stay.")


class Suspension(Model):
    """Why, and what becomes of mail for the tenant."""

    mail: Literal["defer", "refuse"] = Field("defer", description="Put off (4xx) or refused (5xx).")
    reason: str = REASON


class Deletion(Model):
    """How long it can be taken back."""

    grace_ms: int = Field(ge=0, le=MOST_GRACE_MS, examples=[2_592_000_000])
    reason: str = REASON


@ENDPOINTS.put(
    "/v1/tenants/{name}/details",
    "tenants:write",
    NAMED,
    Tenant,
    problems=("name_taken", "invalid_name", "not_allowed"),
    made_of=rows.tenant_itself,
)
async def set_details(call: Call, body: Details) -> dict[str, Any]:
    """Change what is said of a tenant, or its name."""
    name, admin = call.path["name"], call.directory.tenants
    if body.title is None and body.contact is None and body.name is None:
        raise bad_request("title, contact, name: one of them must be given")
    if body.title is not None or body.contact is not None:
        await admin.set_details(name, body.title, body.contact, call.context)
    if body.name is not None:
        name = await admin.rename(name, body.name, call.context)
    return _now(call, name)


@ENDPOINTS.delete(
    "/v1/tenants/{name}/domains/{domain}",
    "domains:write",
    NAMED,
    Nothing,
    problems=("no_such_domain", "no_such_account", "not_allowed", "invalid_name"),
    made_of=rows.tenant_itself,
)
async def remove_domain(call: Call) -> dict[str, Any]:
    """Take a domain from a tenant, with its postmaster; everything else in it must have gone before."""
    await call.directory.tenants.remove_domain(call.path["name"], call.path["domain"], call.context)
    return {}


_STATE = ("no_such_tenant", "not_allowed", "invalid_name")


@ENDPOINTS.post(
    "/v1/tenants/{name}/suspension", "tenants:write", CLUSTER, Tenant, problems=_STATE, made_of=rows.tenant_itself
)
async def suspend(call: Call, body: Suspension) -> dict[str, Any]:
    """Serve a tenant no more until it is resumed."""
    await call.directory.tenants.suspend(call.path["name"], body.mail, body.reason, call.context)
    return _now(call, call.path["name"])


@ENDPOINTS.delete(
    "/v1/tenants/{name}/suspension", "tenants:write", CLUSTER, Tenant, problems=_STATE, made_of=rows.tenant_itself
)
async def resume(call: Call) -> dict[str, Any]:
    """Serve a tenant again."""
    await call.directory.tenants.resume(call.path["name"], call.context)
    return _now(call, call.path["name"])


@ENDPOINTS.post(
    "/v1/tenants/{name}/deletion", "tenants:write", CLUSTER, Tenant, problems=_STATE, made_of=rows.tenant_itself
)
async def delete(call: Call, body: Deletion) -> dict[str, Any]:
    """Take a tenant out of service; after the grace time it is erased for good."""
    await call.directory.tenants.delete(call.path["name"], body.grace_ms, body.reason, call.context)
    return _now(call, call.path["name"])


@ENDPOINTS.delete(
    "/v1/tenants/{name}/deletion", "tenants:write", CLUSTER, Tenant, problems=_STATE, made_of=rows.tenant_itself
)
async def undelete(call: Call) -> dict[str, Any]:
    """Keep a tenant after all, while its grace time runs."""
    await call.directory.tenants.undelete(call.path["name"], call.context)
    return _now(call, call.path["name"])


def _now(call: Call, name: str) -> dict[str, Any]:
    with call.services.log.snapshot() as snapshot:
        return tenant_named_json(snapshot, name)
