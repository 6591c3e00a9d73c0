"""Grants and subscriptions over the admin API: who may follow this cell's log, and what this cell follows."""

from __future__ import annotations

import time
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from actors import directory, mailbox, region, tenant_admin
from actors.errors import NotAllowed
from actors.region import REGION, WHOLE_TENANT
from actors.sealing import KEY_BYTES
from eventlog.record import DIGEST_BYTES
from eventlog.store import Snapshot
from nodes.follower import grants
from nodes.follower.feed import grant_place
from nodes.follower.followers import Followers, follow_json
from nodes.http import rows
from nodes.http.authority import STATE
from nodes.http.calls import Call
from nodes.http.cell_certificates import MOST_PEM, Pem, addresses_of
from nodes.http.endpoint import Endpoints
from nodes.http.errors import bad_request
from nodes.http.models import Address, Count, Id, Milliseconds, Model, Nothing, Page, PageQuery, TenantName
from nodes.http.pages import page
from nodes.http.places import CLUSTER
from nodes.tls.contexts import follower_client_context
from nodes.tls.node_certificates import CellAuthority

ENDPOINTS = Endpoints("regions")
MOST_NAME = 63
Name = Annotated[str, Field(min_length=1, max_length=MOST_NAME, examples=["north"])]


class ScopeOf(Model):
    """A tenant or an account."""

    tenant: Annotated[str, Field(min_length=1, max_length=1024)] | None = Field(None, examples=["example"])
    account: Address | None = Field(None, examples=[None])


class Scope(Model):
    """The ids that a grant would have; those of an account are empty where a whole tenant is meant."""

    tenant: Id
    tenant_name: TenantName
    account: str
    address: str


class Grant(Model):
    """Who may follow this cell's log, and what of it."""

    name: Name
    state: str = Field(description="valid, expired or revoked.", examples=["valid"])
    tenant: str | None
    account: str | None
    fingerprint: str
    issued_ms: Milliseconds
    expires_ms: Milliseconds
    revoked_ms: Milliseconds | None


class GrantPage(Page):
    """Grants by name."""

    grants: list[Grant]


class NewGrant(Model):
    """Ids, fingerprint and key in hexadecimal; what else the command line knows of a grant is passed over."""

    model_config = ConfigDict(extra="ignore")

    name: Name
    tenant: Id
    account: str = Field("", pattern="^([0-9a-f]{32})?$", description="Empty: the whole tenant.")
    fingerprint: str = Field(max_length=1024, examples=["00" * DIGEST_BYTES])
    expires_ms: Count
    transfer_key: str = Field(max_length=1024, examples=["00" * KEY_BYTES])


class FollowerRequest(Model):
    """For the key that a follower is to have."""

    name: Name = Field(pattern="^[A-Za-z0-9.-]+$")
    request: Pem = Field(description="PKCS #10, of a P-256 key.", examples=["-----BEGIN CERTIFICATE REQUEST-----\n..."])
    days: int = Field(397, ge=1, le=3650)


class FollowerCertificate(Model):
    """`authorities`: all that the cell trusts; `endpoints`: where its nodes listen for followers, by name."""

    cell: str
    certificate: Pem
    authorities: str = Field(max_length=4 * MOST_PEM, examples=["-----BEGIN CERTIFICATE-----\n..."])
    endpoints: dict[str, str] = Field(examples=[{"n1": "192.0.2.4:7443"}])


class Named(Model):
    """It is called so."""

    name: Name


class Follow(Model):
    """What is followed, and how far. A lag of null: this node does not pull."""

    name: Name
    cell: str
    tenant: Id
    account: str | None
    state: str
    reason: str
    node: str | None
    position: int
    records: int
    source_position: int | None
    lag_records: int | None
    lag_s: float | None
    since_ms: Milliseconds
    tenant_name: str | None
    address: str | None


class Follows(Page):
    """`leads` says whether this node pulls, and so knows the lag."""

    leads: bool
    follows: list[Follow]


class NewFollow(Model):
    """A grant file, and in `as` the name that it is to have here."""

    model_config = ConfigDict(extra="allow")


class Followed(Named):
    """What is followed now."""

    cell: str


@ENDPOINTS.post("/v1/region/scope", "regions:read", CLUSTER, Scope, reads="fresh", once=False)
async def scope(call: Call, body: ScopeOf) -> dict[str, Any]:
    """Tell the ids that a grant would have."""
    with call.services.log.snapshot() as snapshot:
        found = _scope(snapshot, body)
        home = region.home_of(snapshot.view(REGION), bytes.fromhex(found["tenant"]))
    if home is not None:
        raise NotAllowed(f"the tenant is a replica here: its home, the cell {home}, grants following it")
    return found


@ENDPOINTS.get("/v1/region/grants", "regions:read", CLUSTER, GrantPage, made_of=rows.GRANTS)
async def list_grants(call: Call, query: PageQuery) -> dict[str, Any]:
    """List who may follow this cell's log."""
    now_ms, names = time.time_ns() // 1_000_000, call.tenant_names()
    with call.services.log.snapshot() as snapshot:
        found, following = page(
            region.grants(snapshot.view(REGION)),
            lambda one: (one.name,),
            query,
            lambda one: _grant_json(snapshot, one, names, now_ms),
        )
    return {"grants": found, "next": following}


@ENDPOINTS.post("/v1/region/certificates", "regions:write", CLUSTER, FollowerCertificate, status=201, once=False)
async def certificate(call: Call, body: FollowerRequest) -> dict[str, Any]:
    """Certify a follower's key. Nothing can be followed with it until a grant names its fingerprint."""
    issued, authorities = CellAuthority(call.services).follower(body.name, body.request, body.days)
    cell = call.services.config.node.cluster_id
    endpoints = addresses_of(call, "region")
    return {"cell": cell, "certificate": issued, "authorities": authorities, "endpoints": endpoints}


@ENDPOINTS.post("/v1/region/grants", "regions:write", CLUSTER, Named, status=201)
async def issue_grant(call: Call, body: NewGrant) -> dict[str, Any]:
    """Let somebody follow this cell's log."""
    command = region.IssueGrant(
        body.name,
        bytes.fromhex(body.tenant),
        bytes.fromhex(body.account) if body.account else WHOLE_TENANT,
        _hex(body.fingerprint, "fingerprint", DIGEST_BYTES),
        body.expires_ms,
        call.directory.seal(_hex(body.transfer_key, "transfer_key", KEY_BYTES), grant_place(body.name)),
    )
    await call.services.runtime.ask(REGION, command, call.context)
    return {"name": body.name}


@ENDPOINTS.delete(
    "/v1/region/grants/{name}", "regions:write", CLUSTER, Nothing, problems=("no_such_grant",), made_of=rows.GRANTS
)
async def revoke_grant(call: Call) -> dict[str, Any]:
    """Let somebody follow this cell's log no more."""
    await call.services.runtime.ask(REGION, region.RevokeGrant(call.path["name"]), call.context)
    return {}


@ENDPOINTS.get("/v1/region/follows", "regions:read", CLUSTER, Follows, made_of=rows.FOLLOWS)
async def list_follows(call: Call, query: PageQuery) -> dict[str, Any]:
    """List what this cell follows of others."""
    names = call.tenant_names()
    followers = _followers(call)
    with call.services.log.snapshot() as snapshot:
        found, following = page(
            followers.follows(),
            lambda one: (one[0].name,),
            query,
            lambda one: {
                **follow_json(*one),
                "tenant_name": names.get(one[0].tenant),
                "address": _address(snapshot, one[0].account),
            },
        )
    return {"leads": followers.leads, "follows": found, "next": following}


@ENDPOINTS.post("/v1/region/follows", "regions:write", CLUSTER, Followed, status=201)
async def start_follow(call: Call, body: NewFollow) -> dict[str, Any]:
    """Follow what another cell grants."""
    document = body.model_dump()
    try:
        grant = grants.read(document)
    except ValueError as error:
        raise bad_request(f"the grant can not be used: {error}") from None
    try:
        follower_client_context(grant.authority, grant.certificate, grant.key)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise bad_request(f"the grant's certificate can not be used: {error}") from None
    if grant.cell == call.request.app[STATE].config.node.cluster_id:
        raise bad_request("that is a grant of this cell itself", "another cell's folder in --cluster")
    name = document.get("as") or grant.name
    if not isinstance(name, str) or len(name) > MOST_NAME:
        raise bad_request(f"as: must be text of at most {MOST_NAME} characters")
    place = grants.follow_place(grant.cell, grant.tenant, grant.account)
    command = region.StartFollow(
        name,
        grant.cell,
        grant.tenant,
        grant.account,
        grant.endpoints,
        grant.authority,
        grant.certificate,
        call.directory.seal(grant.secret, place),
    )
    await call.services.runtime.ask(REGION, command, call.context)
    return {"name": name, "cell": grant.cell}


@ENDPOINTS.delete(
    "/v1/region/follows/{name}",
    "regions:write",
    CLUSTER,
    Nothing,
    problems=("no_such_follow",),
    made_of=rows.FOLLOWS,
)
async def end_follow(call: Call) -> dict[str, Any]:
    """End following."""
    command = region.HaltFollow(call.path["name"], "an administrator has ended it")
    await call.services.runtime.ask(REGION, command, call.context)
    return {}


def _followers(call: Call) -> Followers:
    _ = call.services  # raises ApiError while the node is not ready
    followers = call.request.app[STATE].followers
    assert followers is not None
    return followers


def _scope(snapshot: Snapshot, body: ScopeOf) -> dict[str, Any]:
    if (body.account is None) == (body.tenant is None):
        raise bad_request("tenant or account: one of them")
    if body.tenant is not None:
        id_ = directory.tenant_named(snapshot, body.tenant)
        return {"tenant": id_.hex(), "tenant_name": tenant_admin.name_of(snapshot, id_), "account": "", "address": ""}
    assert body.account is not None
    target = directory.account_of(snapshot, body.account)
    return {
        "tenant": target.tenant.hex(),
        "tenant_name": tenant_admin.name_of(snapshot, target.tenant),
        "account": target.account.hex(),
        "address": target.address,
    }


def _address(snapshot: Snapshot, account: bytes) -> str | None:
    return mailbox.address_of(snapshot.view(account)) or None if account else None


def _grant_json(snapshot: Snapshot, one: region.Grant, names: dict[bytes, str], now_ms: int) -> dict[str, Any]:
    state = "revoked" if one.revoked_ms is not None else "expired" if one.expires_ms < now_ms else "valid"
    return {
        "name": one.name,
        "state": state,
        "tenant": names.get(one.tenant),
        "account": _address(snapshot, one.account),
        "fingerprint": one.fingerprint.hex(),
        "issued_ms": one.issued_ms,
        "expires_ms": one.expires_ms,
        "revoked_ms": one.revoked_ms,
    }


def _hex(text: str, name: str, length: int) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != length:
        raise bad_request(f"{name}: must be {length} bytes in hexadecimal")
    return value
