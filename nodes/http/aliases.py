"""Aliases over the admin API: addresses that lead to others."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from actors import tenant, tenant_admin
from actors.directory import domain_tenant, resolve
from actors.errors import NoSuchAlias, NotLocal
from actors.names import address_name, holder, name_stream, normalise_address
from eventlog.store import Snapshot
from nodes.http import places, rows
from nodes.http.calls import Call
from nodes.http.endpoint import Endpoints
from nodes.http.errors import ApiError
from nodes.http.models import Address, Id, Model, Nothing, Page, PageQuery, TenantName
from nodes.http.pages import Found, page_of_tenants
from nodes.http.places import OWN, in_body, in_path

ENDPOINTS = Endpoints("aliases")
NAMED = places.alias(in_path("address"))
MOST_TARGETS = 1000


class Alias(Model):
    """An address that leads to others, here or elsewhere."""

    address: Address
    targets: list[Address]
    tenant: TenantName


class AliasPage(Page):
    """Aliases by tenant, and in each as they came."""

    aliases: list[Alias]


class NewAlias(Model):
    """`*@DOMAIN` takes what nobody in the domain has."""

    address: Address = Field(examples=["info@example.test"])
    targets: list[Address] = Field(min_length=1, max_length=MOST_TARGETS, examples=[["alice@example.test"]])


class AddedAlias(NewAlias):
    """The addresses as they are kept."""

    id: Id


@ENDPOINTS.get("/v1/aliases", "aliases:read", OWN, AliasPage)
async def list_aliases(call: Call, query: PageQuery) -> dict[str, Any]:
    """List aliases."""
    with call.services.log.snapshot() as snapshot:
        found, following = page_of_tenants(call, snapshot, query, b"l", _listed)
    return {"aliases": found, "next": following}


@ENDPOINTS.post(
    "/v1/aliases",
    "aliases:write",
    places.domain(in_body("address")),
    AddedAlias,
    status=201,
    problems=("name_taken", "invalid_name"),
)
async def add_alias(call: Call, body: NewAlias) -> dict[str, Any]:
    """Lead mail for an address to others."""
    with call.services.log.snapshot() as snapshot:
        for target in body.targets:
            if call.caller.tenant is None or domain_tenant(snapshot, _domain_of(target)) == call.tenant:
                _require_somebody(snapshot, target)  # who is there at another tenant is nobody else's business
    await call.directory.add_alias(body.address, body.targets, call.context)
    address = normalise_address(body.address)
    with call.services.log.snapshot() as snapshot:
        held = holder(snapshot.view(name_stream(address_name(address))))
    if held is None:
        raise NoSuchAlias(f"there is no alias {address}")  # it was added, and is gone again
    return {"address": address, "targets": list(map(normalise_address, body.targets)), "id": held.owner.hex()}


@ENDPOINTS.get("/v1/aliases/{address}", "aliases:read", NAMED, Alias, made_of=rows.alias)
async def show_alias(call: Call) -> dict[str, Any]:
    """Show an alias."""
    address = normalise_address(call.path["address"])
    with call.services.log.snapshot() as snapshot:
        held = holder(snapshot.view(name_stream(address_name(address))))
        found = None if held is None else tenant.alias(snapshot.view(held.tenant), held.owner)
        if held is None or found is None:
            raise NoSuchAlias(f"there is no alias {address}")
        return _alias_json(tenant_admin.name_of(snapshot, held.tenant), found)


@ENDPOINTS.delete("/v1/aliases/{address}", "aliases:write", NAMED, Nothing, made_of=rows.alias)
async def delete_alias(call: Call) -> dict[str, Any]:
    """Delete an alias."""
    await call.directory.delete_alias(call.path["address"], call.context)
    return {}


def _listed(one: Found) -> dict[str, Any] | None:
    found = tenant.alias(one.view, one.key)
    return None if found is None else _alias_json(one.tenant, found)


def _alias_json(tenant_name: str | None, one: tenant.Alias) -> dict[str, Any]:
    return {"address": one.address, "targets": list(one.targets), "tenant": tenant_name}


def _domain_of(address: str) -> str:
    return normalise_address(address).rpartition("@")[2]


def _require_somebody(snapshot: Snapshot, target: str) -> None:
    """An alias that leads nowhere would refuse, or lose, mail. Raises ApiError, InvalidName."""
    try:
        found = resolve(snapshot, target)
    except NotLocal:
        return  # the directory says what it thinks of it
    if found is None:
        message = f"nobody has the address {target}, so mail for the alias would get nowhere"
        raise ApiError(404, "not_found", message, f"mailraft account add {target}, then the alias", code="nobody_there")
