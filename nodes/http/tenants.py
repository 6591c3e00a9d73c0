"""Tenants and their domains over the admin API."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from actors import credentials, tenant, tenant_admin, tenant_details
from actors.directory import tenant_named
from actors.names import normalise_domain
from actors.runtime import Context
from eventlog.store import Snapshot
from nodes.http import places, rows
from nodes.http.calls import Call
from nodes.http.endpoint import Endpoints
from nodes.http.errors import bad_request
from nodes.http.models import Count, Domain, Id, Milliseconds, Model, Page, PageQuery, TenantName
from nodes.http.pages import page
from nodes.http.places import CLUSTER, OWN, in_path
from nodes.tenants.new_domains import require_sound

ENDPOINTS = Endpoints("tenants")
NAMED = places.tenant(in_path("name"))
MOST_DOMAINS = 100


class Used(Model):
    """What a tenant uses now."""

    bytes: int = Field(examples=[7_340_032])
    messages: int = Field(examples=[1017])
    accounts: int = Field(examples=[12])
    aliases: int = Field(examples=[3])
    domains: int = Field(examples=[1])
    groups: int = Field(examples=[2])


class Tenant(Model):
    """A customer of the platform."""

    name: TenantName
    id: Id
    title: str = Field(examples=["Example Ltd"])
    contact: str = Field(description="Who is told of quotas; empty for nobody.", examples=["it@example.test"])
    state: Literal["active", "suspended", "deleting"]
    mail: Literal["defer", "refuse"] | None = Field(description="What becomes of mail for it; null: it is delivered.")
    reason: str = Field(description="Why it is not served.", examples=[""])
    since_ms: Milliseconds | None = Field(description="Since when it is in this state; null where that is active.")
    deleted_at_ms: Milliseconds | None = Field(description="When its grace time ends; null: it is not to be deleted.")
    domains: list[Domain]
    accounts: int = Field(examples=[12])
    used: Used
    time_travel: bool = Field(description="Whether accounts may log in to their mailboxes as they were.")
    password_characters: int = Field(description="How long a password is at least.", examples=[8])
    created_ms: Milliseconds


class TenantPage(Page):
    """Tenants by name."""

    tenants: list[Tenant]


FORCE = "Also a domain below another tenant's, a public suffix, localhost or a network address."


class NewTenant(Model):
    """Each domain gets an account postmaster (RFC 5321 4.5.1)."""

    name: TenantName
    domains: list[Domain] = Field(min_length=1, max_length=MOST_DOMAINS, examples=[["example.test"]])
    force: bool = Field(False, description=FORCE)


class NewDomain(Model):
    """A domain that nobody has yet."""

    domain: Domain
    force: bool = Field(False, description=FORCE)


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


@ENDPOINTS.post(
    "/v1/tenants", "tenants:write", CLUSTER, Tenant, status=201, problems=("name_taken", "invalid_name", "not_allowed")
)
async def add_tenant(call: Call, body: NewTenant) -> dict[str, Any]:
    """Add a tenant with its domains."""
    if not body.force:
        await require_sound(call.services.log, body.domains, None)
    await call.directory.add_tenant(body.name, body.domains, _context(call, body.force))
    with call.services.log.snapshot() as snapshot:
        return tenant_named_json(snapshot, body.name)


@ENDPOINTS.get("/v1/tenants/{name}", "tenants:read", NAMED, Tenant, made_of=rows.tenant_itself)
async def show_tenant(call: Call) -> dict[str, Any]:
    """Show a tenant."""
    return _shown(call, call.tenant)


@ENDPOINTS.post(
    "/v1/tenants/{name}/domains",
    "domains:write",
    CLUSTER,  # who gives itself a domain gets the mail of others for it
    NewDomain,
    status=201,
    problems=("name_taken", "invalid_name", "not_allowed"),
    made_of=rows.tenant_itself,
)
async def add_domain(call: Call, body: NewDomain) -> dict[str, Any]:
    """Give a tenant one more domain."""
    name = call.path["name"]
    if not body.force:
        with call.services.log.snapshot() as snapshot:
            whose = tenant_named(snapshot, name)
        await require_sound(call.services.log, (body.domain,), whose)
    await call.directory.add_domain(name, body.domain, _context(call, body.force))
    return {"domain": normalise_domain(body.domain)}


def _context(call: Call, force: bool) -> Context:
    """The record says whether it was meant."""
    found = call.context
    return found._replace(cause=f"{found.cause} forced") if force else found


@ENDPOINTS.patch("/v1/tenants/{name}", "tenants:write", NAMED, TenantChange, made_of=rows.tenant_itself)
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
        return tenant_json(snapshot, tenant.TenantEntry(id_, tenant_admin.name_of(snapshot, id_)))


def tenant_named_json(snapshot: Snapshot, name: str) -> dict[str, Any]:
    """The tenant of that name. Raises NoSuchTenant, InvalidName."""
    id_ = tenant_named(snapshot, name)
    return tenant_json(snapshot, tenant.TenantEntry(id_, tenant_admin.name_of(snapshot, id_)))


def tenant_json(snapshot: Snapshot, entry: tenant.TenantEntry) -> dict[str, Any]:
    """A tenant as the API tells it."""
    view = snapshot.view(entry.id)
    domains, said = tenant.domains(view), tenant_details.details(view)
    used = tenant_admin.usage_of(snapshot, entry.id)
    return {
        "name": entry.name,
        "id": entry.id.hex(),
        "title": said.title,
        "contact": said.contact,
        **_state(snapshot, entry.id),
        "domains": [domain.name for domain in domains],
        "accounts": used.accounts,
        "used": used._asdict(),
        "time_travel": tenant.allows_time_travel(view),
        "password_characters": credentials.least_characters(view),
        "created_ms": min((domain.added_ms for domain in domains), default=0),
    }


def _state(snapshot: Snapshot, tenant_id: bytes) -> dict[str, Any]:
    found = tenant_admin.standing_of(snapshot, tenant_id)
    if found is None:
        return {"state": "active", "mail": None, "reason": "", "since_ms": None, "deleted_at_ms": None}
    return {
        "state": "deleting" if found.due_ms else "suspended",
        "mail": "refuse" if found.due_ms else found.mail,
        "reason": found.reason,
        "since_ms": found.since_ms,
        "deleted_at_ms": found.due_ms or None,
    }
