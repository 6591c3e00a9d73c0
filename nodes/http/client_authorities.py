"""Whose certificates log mail clients in, over the admin API."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from actors.certificates import ClientAuthority
from eventlog.record import NO_TENANT
from nodes.http import rows
from nodes.http.calls import Call
from nodes.http.certificates import READ, WRITE, Pem, Time, bad_certificate
from nodes.http.endpoint import Endpoints
from nodes.http.models import Model, Nothing, Page, PageQuery, Query, TenantName
from nodes.http.pages import page
from nodes.http.places import CLUSTER
from nodes.record_json import utc
from nodes.tls.certificates import CertificateAdmin
from nodes.tls.chain import BadCertificate

ENDPOINTS = Endpoints("certificates")


class TenantQuery(Query):
    """Of a tenant; of the cluster without one."""

    tenant: str | None = Field(None, max_length=63)


class LoginAuthority(Model):
    """Whose certificates log clients in."""

    name: str = Field(examples=["staff"])
    tenant: TenantName | None = Field(description="For whose accounts; null: for all.")
    certificates: Pem
    added: Time


class ClientAuthorities(Page):
    """Those for all tenants first, then by tenant and name."""

    authorities: list[LoginAuthority]


class TrustedAuthority(Model):
    """Certificates of authorities, for the accounts of one tenant or of all."""

    certificates: Pem
    tenant: TenantName | None = None


@ENDPOINTS.get("/v1/client-authorities", READ, CLUSTER, ClientAuthorities, made_of=rows.CLIENT_AUTHORITIES)
async def list_authorities(call: Call, query: PageQuery) -> dict[str, Any]:
    """List whose certificates log clients in."""
    found, names = CertificateAdmin(call.services).authorities(), call.tenant_names()
    shown, following = page(found, lambda one: (one.tenant.hex(), one.name), query, lambda one: _json(one, names))
    return {"authorities": shown, "next": following}


@ENDPOINTS.put(
    "/v1/client-authorities/{name}",
    WRITE,
    CLUSTER,
    Nothing,
    status=201,
    problems=("bad_certificate",),
    made_of=rows.CLIENT_AUTHORITIES,
)
async def trust(call: Call, body: TrustedAuthority) -> dict[str, Any]:
    """Let certificates of these authorities log clients in."""
    try:
        await CertificateAdmin(call.services).trust(
            body.tenant, call.path["name"], body.certificates.encode(), call.context
        )
    except BadCertificate as error:
        raise bad_certificate(error) from None
    return {}


@ENDPOINTS.delete("/v1/client-authorities/{name}", WRITE, CLUSTER, Nothing, made_of=rows.CLIENT_AUTHORITIES)
async def distrust(call: Call, query: TenantQuery) -> dict[str, Any]:
    """Take certificates of this authority for log-ins no longer."""
    await CertificateAdmin(call.services).distrust(query.tenant, call.path["name"], call.context)
    return {}


def _json(one: ClientAuthority, tenants: dict[bytes, str]) -> dict[str, Any]:
    owner = None if one.tenant == NO_TENANT else tenants.get(one.tenant)
    return {"name": one.name, "tenant": owner, "certificates": one.pem, "added": utc(one.added_ms)}
