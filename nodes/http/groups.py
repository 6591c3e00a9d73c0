"""Groups over the admin API: addresses whose mail reaches every member."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from actors import groups, tenant, tenant_admin
from actors.names import normalise_address
from eventlog.store import Snapshot
from nodes.http import places, rows
from nodes.http.calls import Call
from nodes.http.endpoint import Endpoints
from nodes.http.models import Address, Milliseconds, Model, Nothing, Page, PageQuery, TenantName
from nodes.http.pages import Found, page_of_tenants
from nodes.http.places import OWN, in_body, in_path

ENDPOINTS = Endpoints("groups")
NAMED = places.group(in_path("address"))
Members = Annotated[list[Address], Field(max_length=groups.MAX_MEMBERS, examples=[["alice@example.test"]])]


class GroupsQuery(PageQuery):
    """All, or those of a tenant."""

    tenant: str | None = Field(None, min_length=1, max_length=63)


class Group(Model):
    """A group and who is in it."""

    address: Address = Field(examples=["staff@example.test"])
    tenant: TenantName
    members: Members
    created_ms: Milliseconds


class ListedGroup(Model):
    """A group and how many are in it."""

    address: Address = Field(examples=["staff@example.test"])
    tenant: TenantName
    members: int = Field(examples=[12])
    created_ms: Milliseconds


class GroupPage(Page):
    """Groups by tenant, and in each as they came."""

    groups: list[ListedGroup]


class NewGroup(Model):
    """Members are accounts of the same tenant."""

    address: Address = Field(examples=["staff@example.test"])
    members: Members = Field(default_factory=list)


class MemberChange(Model):
    """Who is a member already stays one."""

    add: Members = Field(default_factory=list)
    remove: Members = Field(default_factory=list)


@ENDPOINTS.get("/v1/groups", "aliases:read", OWN, GroupPage, problems=("no_such_tenant", "invalid_name"))
async def list_groups(call: Call, query: GroupsQuery) -> dict[str, Any]:
    """List groups."""
    with call.services.log.snapshot() as snapshot:
        found, following = page_of_tenants(call, snapshot, query, b"g", _listed, named=query.tenant)
    return {"groups": found, "next": following}


def _listed(one: Found) -> dict[str, Any] | None:
    group = groups.group(one.view, one.key)
    if group is None:
        return None
    shown = {"address": group.address, "tenant": one.tenant}
    return {**shown, "members": group.members, "created_ms": group.created_ms}


_PROBLEMS = ("no_such_account", "not_allowed", "too_large", "invalid_name")


@ENDPOINTS.post(
    "/v1/groups",
    "aliases:write",
    places.domain(in_body("address")),
    Group,
    status=201,
    problems=("name_taken", "over_tenant_quota", *_PROBLEMS),
)
async def add_group(call: Call, body: NewGroup) -> dict[str, Any]:
    """Add a group."""
    await call.directory.tenants.add_group(body.address, body.members, call.context)
    return _shown(call, body.address)


@ENDPOINTS.get(
    "/v1/groups/{address}",
    "aliases:read",
    NAMED,
    Group,
    problems=("no_such_group", "invalid_name"),
    made_of=rows.group,
)
async def show_group(call: Call) -> dict[str, Any]:
    """Show a group and who is in it."""
    return _shown(call, call.path["address"])


@ENDPOINTS.patch(
    "/v1/groups/{address}", "aliases:write", NAMED, Group, problems=("no_such_group", *_PROBLEMS), made_of=rows.group
)
async def change_members(call: Call, body: MemberChange) -> dict[str, Any]:
    """Change who is in a group."""
    await call.directory.tenants.change_members(call.path["address"], body.add, body.remove, call.context)
    return _shown(call, call.path["address"])


@ENDPOINTS.delete(
    "/v1/groups/{address}",
    "aliases:write",
    NAMED,
    Nothing,
    problems=("no_such_group", "invalid_name"),
    made_of=rows.group,
)
async def remove_group(call: Call) -> dict[str, Any]:
    """Remove a group; its members stay what they are."""
    await call.directory.tenants.remove_group(call.path["address"], call.context)
    return {}


def _shown(call: Call, address: str) -> dict[str, Any]:
    with call.services.log.snapshot() as snapshot:
        return _group_json(snapshot, address)


def _group_json(snapshot: Snapshot, address: str) -> dict[str, Any]:
    tenant_id, group = tenant_admin.group_of(snapshot, address)
    view = snapshot.view(tenant_id)
    found = [tenant.account(view, one) for one in groups.members(view, group.id)]
    return {
        "address": normalise_address(address),
        "tenant": tenant_admin.name_of(snapshot, tenant_id),
        "members": sorted(one.address for one in found if one is not None),
        "created_ms": group.created_ms,
    }
