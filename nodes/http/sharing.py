"""What is shared, over the admin API: public folders of tenants, and who may do what with whose folders.

A place is an account's address, or a tenant's name for its public folders.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from actors import directory
from actors.errors import CommandRefused, NoSuchAccount, NoSuchTenant
from actors.sharing_admin import Line, shared
from eventlog.store import Snapshot
from nodes.http import places, rows
from nodes.http.calls import Call
from nodes.http.endpoint import Endpoints
from nodes.http.models import Model, Nothing, Page, PageQuery, Query
from nodes.http.pages import page
from nodes.http.places import Place, Subject, in_path

ENDPOINTS = Endpoints("sharing")
NAMED = places.tenant(in_path("name"))
FolderName = Annotated[str, Field(min_length=1, max_length=1024, examples=["News/2026"])]


class Rights(Model):
    """Who may do what (RFC 4314)."""

    whom: Annotated[str, Field(min_length=1, max_length=320, examples=["bob@example.test"])]
    negative: bool
    rights: Annotated[str, Field(max_length=64, examples=["lrs"])]


class SharedFolder(Model):
    """`*` stands for every folder."""

    name: FolderName
    rights: list[Rights]


class Shared(Page):
    """What is shared of an account, or of a tenant's public folders."""

    place: str = Field(examples=["alice@example.test"])
    folders: list[SharedFolder]


class NewRights(Model):
    """Rights of RFC 4314, none to take them away."""

    name: FolderName
    whom: Annotated[str, Field(min_length=1, max_length=320, examples=["bob@example.test"])]
    rights: Annotated[str, Field(max_length=64, examples=["lrs"])]
    negative: bool = False


class NewFolder(Model):
    """A public folder."""

    name: FolderName


class FolderQuery(Query):
    """Which folder."""

    name: str = Field("", max_length=1024)


def _place_of(snapshot: Snapshot, call: Call) -> Subject:
    where = call.path["place"]
    if "@" in where:
        target = directory.account_of(snapshot, where)
        return Subject(target.tenant, target.account)
    return Subject(directory.tenant_named(snapshot, where))


def _missing(call: Call) -> CommandRefused:
    where = call.path["place"]
    return (
        NoSuchAccount(f"there is no account {where}") if "@" in where else NoSuchTenant(f"there is no tenant {where}")
    )


PLACE = Place("the account, or the tenant, that is named", _place_of, _missing)


@ENDPOINTS.get("/v1/shared/{place}", "shares:read", PLACE, Shared, made_of=rows.shares)
async def show(call: Call, query: PageQuery) -> dict[str, Any]:
    """Show what is shared, and with whom."""
    where = call.path["place"]
    with call.services.log.snapshot() as snapshot:
        found, following = page(
            shared(snapshot, where),
            lambda one: (one.name,),
            query,
            lambda one: {"name": one.name, "rights": [line._asdict() for line in one.lines]},
        )
    return {"place": where, "folders": found, "next": following}


@ENDPOINTS.put("/v1/shared/{place}/rights", "shares:write", PLACE, NewRights, made_of=rows.shares)
async def set_rights(call: Call, body: NewRights) -> dict[str, Any]:
    """Say who may do what with a folder."""
    line = Line(body.whom, body.negative, body.rights)
    given = await call.directory.sharing.set_rights(call.path["place"], body.name, line, call.context)
    return {"name": body.name, "whom": body.whom, "rights": given, "negative": line.negative}


@ENDPOINTS.post("/v1/tenants/{name}/folders", "shares:write", NAMED, NewFolder, status=201, made_of=rows.shares)
async def create(call: Call, body: NewFolder) -> dict[str, Any]:
    """Make a public folder of a tenant."""
    await call.directory.sharing.create_public(call.path["name"], body.name, call.context)
    return {"name": body.name}


@ENDPOINTS.delete("/v1/tenants/{name}/folders", "shares:write", NAMED, Nothing, made_of=rows.shares)
async def delete(call: Call, query: FolderQuery) -> dict[str, Any]:
    """Delete a public folder of a tenant."""
    await call.directory.sharing.delete_public(call.path["name"], query.name, call.context)
    return {}
