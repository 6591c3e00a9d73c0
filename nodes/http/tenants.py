"""Tenants and their domains over the admin API."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from actors import credentials, tenant
from actors.names import normalise_domain
from eventlog.store import Snapshot
from nodes.http import places
from nodes.http.calls import Call
from nodes.http.endpoint import Endpoints
from nodes.http.errors import bad_request
from nodes.http.models import Count, Domain, Id, Milliseconds, Model, Page, PageQuery, TenantName
from nodes.http.pages import page
from nodes.http.places import CLUSTER, OWN, in_path

ENDPOINTS = Endpoints("tenants")
NAMED = places.tenant(in_path("name"))
MOST_DOMAINS = 100


class Tenant(Model):
    """A customer of the platform."""

    name: TenantName
    id: Id
    domains: list[Domain]
    accounts: int = Field(examples=[12])
    time_travel: bool = Field(description="Whether accounts may log in to their mailboxes as they were.")
    password_characters: int = Field(description="How long a password is at least.", examples=[8])
    created_ms: Milliseconds


class TenantPage(Page):
    """Tenants by name."""

    tenants: list[Tenant]


class NewTenant(Model):
    """Each domain gets an account postmaster (RFC 5321 4.5.1)."""

    name: TenantName
    domains: list[Domain] = Field(min_length=1, max_length=MOST_DOMAINS, examples=[["example.test"]])


class NewDomain(Model):
    """A domain that nobody has yet."""

    domain: Domain


class TenantChange(Model):
    """One of them."""

    time_travel: bool | None = Field(None, description="Whether accounts may log in to their mailboxes as they were.")
    password_characters: Count | None = Field(
        None, description="How long passwords that are set from now on are at least.", examples=[12]
    )


@ENDPOINTS.get("/v1/tenants", "tenants:read", OWN, TenantPage)
async def list_tenants(call: Call, query: PageQuery) -> dict[str, Any]:
    """List tenants: all that the caller may see."""
    with call.services.log.snapshot() as snapshot:
        found, following = page(
            call.tenants(snapshot), lambda one: (one.name,), query, lambda one: tenant_json(snapshot, one)
        )
    return {"tenants": found, "next": following}


@ENDPOINTS.post("/v1/tenants", "tenants:write", CLUSTER, Tenant, status=201, problems=("name_taken", "invalid_name"))
async def add_tenant(call: Call, body: NewTenant) -> dict[str, Any]:
    """Add a tenant with its domains."""
    added = await call.directory.add_tenant(body.name, body.domains, call.context)
    return _shown(call, added)


@ENDPOINTS.get("/v1/tenants/{name}", "tenants:read", NAMED, Tenant)
async def show_tenant(call: Call) -> dict[str, Any]:
    """Show a tenant."""
    return _shown(call, call.tenant)


@ENDPOINTS.post(
    "/v1/tenants/{name}/domains",
    "domains:write",
    NAMED,
    NewDomain,
    status=201,
    problems=("name_taken", "invalid_name"),
)
async def add_domain(call: Call, body: NewDomain) -> dict[str, Any]:
    """Give a tenant one more domain."""
    await call.directory.add_domain(call.path["name"], body.domain, call.context)
    return {"domain": normalise_domain(body.domain)}


@ENDPOINTS.patch("/v1/tenants/{name}", "tenants:write", NAMED, TenantChange)
async def change_tenant(call: Call, body: TenantChange) -> dict[str, Any]:
    """Change what holds for a tenant, one thing at a time."""
    allowed, least = body.time_travel, body.password_characters
    if (allowed is None) == (least is None):
        raise bad_request("time_travel, password_characters: one of them must be given")
    if least is not None:
        await call.directory.credentials.set_password_policy(call.tenant, least, call.context)
        return {"password_characters": least}
    assert allowed is not None
    await call.directory.allow_time_travel(call.path["name"], allowed, call.context)
    return {"time_travel": allowed}


def _shown(call: Call, id_: bytes) -> dict[str, Any]:
    with call.services.log.snapshot() as snapshot:
        entry = next(one for one in tenant.tenants(snapshot) if one.id == id_)
        return tenant_json(snapshot, entry)


def tenant_json(snapshot: Snapshot, entry: tenant.TenantEntry) -> dict[str, Any]:
    """A tenant as the API tells it."""
    view = snapshot.view(entry.id)
    domains = tenant.domains(view)
    return {
        "name": entry.name,
        "id": entry.id.hex(),
        "domains": [domain.name for domain in domains],
        "accounts": sum(1 for _ in view.range(b"a")),
        "time_travel": tenant.allows_time_travel(view),
        "password_characters": credentials.least_characters(view),
        "created_ms": min((domain.added_ms for domain in domains), default=0),
    }
