"""Roles over the admin API: who holds which, of a tenant or of the cluster; and who asks (/v1/whoami).

Nobody grants a role that may more than their own, and nobody takes one away that may more.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field

from actors import roles, tenant, tenant_admin
from actors.directory import account_of
from actors.errors import CommandRefused, NoSuchAccount, NoSuchRole
from actors.names import normalise_address
from actors.region import REGION
from actors.roles import GrantRole, Held, RevokeRole
from eventlog.store import Snapshot
from nodes.http.calls import Call, forbidden
from nodes.http.endpoint import ANYBODY_KNOWN, Endpoints
from nodes.http.errors import bad_request
from nodes.http.models import Address, Milliseconds, Model, Nothing, Page, PageQuery, Query, TenantName
from nodes.http.pages import Found, page_of_tenants
from nodes.http.places import OWN, Place, Subject
from nodes.http.rows import Rows
from nodes.logins.callers import covers, permissions

ENDPOINTS = Endpoints("roles")
AdminName = Field(None, min_length=1, max_length=64, examples=[None], description="An administrator's certificate.")
RoleName = Literal["cluster-admin", "tenant-admin", "help-desk", "auditor"]


class Whoami(Model):
    """Who the node takes the caller for."""

    name: str = Field(examples=["alice@example.test"])
    role: str = Field(examples=["tenant-admin"])
    tenant: TenantName | None = Field(description="null: the whole cluster.")
    scopes: list[str] = Field(description="What the role is narrowed to; none: all of it.", examples=[["log:read"]])
    permissions: list[str] = Field(description="All that the caller may.", examples=[["log:read"]])


class Role(Model):
    """A role that somebody holds."""

    holder: str = Field(description="An address, or an administrator's name.", examples=["alice@example.test"])
    kind: Literal["account", "administrator"]
    role: str = Field(examples=["tenant-admin"])
    tenant: TenantName | None = Field(description="null: of the whole cluster.")
    since_ms: Milliseconds


class RolePage(Page):
    """Those of the cluster, then by tenant."""

    roles: list[Role]


class RolesQuery(PageQuery):
    """All, or those of a tenant."""

    tenant: str | None = Field(None, min_length=1, max_length=63)


class Holder(Model):
    """An account by its address, or an administrator who has a certificate by the name in it."""

    address: Address | None = None
    administrator: str | None = AdminName
    cluster: bool = Field(False, description="A role of the cluster, not of the account's tenant.")


class NewRole(Holder):
    """It takes the place of the one that is held."""

    role: RoleName


class HolderQuery(Query):
    """Whose role it is."""

    address: Address | None = None
    administrator: str | None = AdminName
    cluster: bool = False


def _holder_of(call: Call) -> Holder | HolderQuery:
    found = call.body if isinstance(call.body, Holder) else call.query
    assert isinstance(found, Holder | HolderQuery)
    if (found.address is None) == (found.administrator is None):
        raise bad_request("address, administrator: one of them must be given")
    return found


def _where(snapshot: Snapshot, call: Call) -> Subject:
    """The tenant of the account, or the cluster."""
    found = _holder_of(call)
    if found.address is None or found.cluster:
        return Subject(None)
    return Subject(account_of(snapshot, found.address).tenant)


def _missing(call: Call) -> CommandRefused:
    return NoSuchAccount(f"there is no account {normalise_address(_holder_of(call).address or '')}")


HOLDER = Place("the account's tenant, or the cluster", _where, _missing)


@ENDPOINTS.get("/v1/whoami", ANYBODY_KNOWN, OWN, Whoami)
async def whoami(call: Call) -> dict[str, Any]:
    """Who asks, with which role and scopes, and what that includes."""
    asker = call.caller
    with call.services.log.snapshot() as snapshot:
        name = tenant_admin.name_of(snapshot, asker.tenant) if asker.tenant is not None else None
    shown = {"name": asker.name, "role": asker.role, "tenant": name, "scopes": sorted(asker.scopes)}
    return {**shown, "permissions": sorted(permissions(asker))}


@ENDPOINTS.get("/v1/roles", "roles:read", OWN, RolePage, problems=("no_such_tenant",))
async def list_roles(call: Call, query: RolesQuery) -> dict[str, Any]:
    """List who has a role.

    Those of the cluster are shown to callers of the cluster.
    """
    with call.services.log.snapshot() as snapshot:
        found, following = page_of_tenants(
            call, snapshot, query, b"r", lambda one: _listed(snapshot, one), named=query.tenant, cluster=True
        )
    return {"roles": found, "next": following}


def _listed(snapshot: Snapshot, one: Found) -> dict[str, Any] | None:
    held = roles.role_of(one.view, one.key)
    return None if held is None else _role_json(snapshot, held, one.view.stream, one.tenant)


def made_of(call: Call, snapshot: Snapshot) -> Iterable[Rows]:
    """The role of whom path or body name."""
    stream, holder = _held_by(call, snapshot)
    yield Rows(stream, b"r" + holder)


@ENDPOINTS.get(
    "/v1/roles/held", "roles:read", HOLDER, Role, problems=("no_such_account", "no_such_role"), made_of=made_of
)
async def show(call: Call, query: HolderQuery) -> dict[str, Any]:
    """Show the role that an account or an administrator holds."""
    with call.services.log.snapshot() as snapshot:
        stream, holder = _held_by(call, snapshot)
        held = roles.role_of(snapshot.view(stream), holder)
        name = tenant_admin.name_of(snapshot, call.subject.tenant) if call.subject.tenant is not None else None
        shown = _role_json(snapshot, held, stream, name) if held is not None else None
    if shown is None:
        raise NoSuchRole(f"{query.address or query.administrator} holds no role")
    return shown


def _held_by(call: Call, snapshot: Snapshot) -> tuple[bytes, bytes]:
    """The stream that the role stands on, and its holder there."""
    who = _holder_of(call)
    stream = REGION if call.subject.tenant is None else call.subject.tenant
    if who.administrator is not None:
        return stream, roles.administrator(who.administrator)
    return stream, account_of(snapshot, who.address or "").account


@ENDPOINTS.put(
    "/v1/roles", "roles:write", HOLDER, Nothing, problems=("no_such_account", "not_allowed"), made_of=made_of
)
async def grant(call: Call, body: NewRole) -> dict[str, Any]:
    """Give an account or an administrator a role, in place of the one that it has."""
    stream, command = _grant(call, body, body.role)
    await call.directory.runtime.ask(stream, command, call.context)
    return {}


@ENDPOINTS.delete(
    "/v1/roles", "roles:write", HOLDER, Nothing, problems=("no_such_account", "no_such_role"), made_of=made_of
)
async def revoke(call: Call, query: HolderQuery) -> dict[str, Any]:
    """Take its role away: an account is a user then, an administrator may do everything again."""
    stream, command = _grant(call, query, roles.USER)
    await call.directory.runtime.ask(stream, RevokeRole(command.holder), call.context)
    return {}


def _grant(call: Call, who: Holder | HolderQuery, role: str) -> tuple[bytes, GrantRole]:
    """The stream that it stands on and what to ask for; the caller has all that the role may. Raises ApiError."""
    with call.services.log.snapshot() as snapshot:
        stream, holder = _held_by(call, snapshot)
        if who.administrator is not None:
            command = GrantRole(holder, role, b"", who.administrator)
        else:
            home = account_of(snapshot, who.address or "").tenant
            command = GrantRole(holder, role, home if stream == REGION else b"")
        before = roles.role_of(snapshot.view(stream), command.holder)
    for one in (role, before.role if before is not None else roles.USER):
        if one != roles.USER and not covers(call.caller, one, frozenset(), call.subject.tenant):
            raise forbidden(call.caller, f"all that {one} may")
    return stream, command


def _role_json(snapshot: Snapshot, held: Held, stream: bytes, name: str | None) -> dict[str, Any] | None:
    """None for an account that has gone."""
    home = held.tenant if stream == REGION else stream
    account = tenant.account(snapshot.view(home), held.holder) if home else None
    if account is None and not held.name:
        return None
    return {
        "holder": held.name or (account.address if account else ""),
        "kind": "administrator" if held.name else "account",
        "role": held.role,
        "tenant": name,
        "since_ms": held.since_ms,
    }
