"""Quotas of tenants over the admin API: what is used, what may be, and setting it, which is the platform's to do."""

from __future__ import annotations

import time
from typing import Annotated, Any

from pydantic import Field

from actors import directory, standing, tenant_admin, usage
from actors.standing import QUOTAS, STANDING
from eventlog.store import Snapshot
from nodes.http import rows
from nodes.http.calls import Call
from nodes.http.endpoint import Endpoints
from nodes.http.models import Model, TenantName
from nodes.http.places import CLUSTER
from nodes.http.tenants import NAMED, Used

ENDPOINTS = Endpoints("quotas")
Percent = Annotated[int, Field(ge=1, le=100, examples=[80])]


class OneQuota(Model):
    """What is used of it and may be; null: not known for the tenant as a whole, and not limited."""

    used: int | None = Field(examples=[17])
    limit: int | None = Field(examples=[100])
    told: int = Field(description="The highest threshold that was warned of; 0: none.", examples=[80])
    text: str = Field(examples=["accounts, postmasters among them"])


class TenantQuotas(Model):
    """All quotas of a tenant by name."""

    tenant: TenantName
    quotas: dict[str, OneQuota] = Field(
        examples=[{"accounts": {"used": 17, "limit": 100, "told": 0, "text": "accounts, postmasters among them"}}]
    )
    thresholds: list[Percent]
    counted: bool = Field(description="Whether the fold keeps the sums; otherwise they were counted for this answer.")


class QuotaChange(Model):
    """Quotas to set, and those that are not limited any more; no thresholds at all: the usual ones."""

    set: dict[str, int] = Field(default_factory=dict, max_length=len(QUOTAS), examples=[{"accounts": 100}])
    reset: list[str] = Field(default_factory=list, max_length=len(QUOTAS), examples=[["aliases"]])
    thresholds: list[Percent] | None = Field(None, max_length=10)


class Recount(Model):
    """The sums that the fold keeps, and the same made anew from every mailbox, as of one position."""

    kept: Used | None
    recounted: Used
    position: int


@ENDPOINTS.get("/v1/tenants/{name}/quotas", "limits:read", NAMED, TenantQuotas, made_of=rows.quotas)
async def show_quotas(call: Call) -> dict[str, Any]:
    """Show what a tenant may use, and what it uses now."""
    with call.services.log.snapshot() as snapshot:
        return _quotas(snapshot, call.tenant, call.path["name"])


@ENDPOINTS.put(
    "/v1/tenants/{name}/quotas",
    "limits:write",
    CLUSTER,
    TenantQuotas,
    problems=("no_such_tenant", "not_allowed", "invalid_name"),
    made_of=rows.quotas,
)
async def set_quotas(call: Call, body: QuotaChange) -> dict[str, Any]:
    """Limit what a tenant may use."""
    name = call.path["name"]
    await call.directory.tenants.set_quotas(name, body.set, body.reset, body.thresholds, call.context)
    with call.services.log.snapshot() as snapshot:
        return _quotas(snapshot, directory.tenant_named(snapshot, name), name)


@ENDPOINTS.get("/v1/tenants/{name}/usage", "limits:read", NAMED, Recount)
async def recount(call: Call) -> dict[str, Any]:
    """Count what a tenant uses anew, beside the sums that are kept."""
    with call.services.log.snapshot() as snapshot:
        kept = usage.used(snapshot.view(usage.usage_stream(call.tenant)))
        anew = usage.count(snapshot.view, call.tenant)
        position = snapshot.position
    return {"kept": kept._asdict() if kept else None, "recounted": anew._asdict(), "position": position}


def _quotas(snapshot: Snapshot, tenant: bytes, name: str) -> dict[str, Any]:
    view, at_ms = snapshot.view(STANDING), time.time_ns() // 1_000_000
    sums = snapshot.view(usage.usage_stream(tenant))
    sent, used = usage.sent(sums, at_ms), tenant_admin.usage_of(snapshot, tenant)
    numbers: dict[str, int | None] = {
        **used._asdict(),
        "storage_bytes": used.bytes,
        "sending_per_hour": sent.in_hour,
        "sending_per_day": sent.in_day,
    }
    limits = standing.quotas(view, tenant)
    found = {
        quota: {
            "used": numbers.get(quota),
            "limit": limits.get(quota),
            "told": standing.told_level(view, tenant, b"", quota),
            "text": told.text,
        }
        for quota, told in QUOTAS.items()
    }
    kept = usage.used(sums) is not None
    return {"tenant": name, "quotas": found, "thresholds": list(standing.thresholds(view, tenant)), "counted": kept}
