"""Grants and subscriptions over the admin API: who may follow this cell's log, and what this cell follows."""

from __future__ import annotations

import time
from typing import Any

from aiohttp import web

from actors import directory, mailbox, region, tenant
from actors.errors import NoSuchTenant, NotAllowed
from actors.region import REGION, WHOLE_TENANT
from actors.sealing import KEY_BYTES
from eventlog.record import DIGEST_BYTES
from eventlog.store import Snapshot
from nodes.follower import grants
from nodes.follower.feed import grant_place
from nodes.follower.followers import Followers, follow_json
from nodes.http.admin import (
    STATE,
    answer,
    catch_up,
    context,
    count_field,
    directory_for_change,
    json_body,
    services,
    text_field,
)
from nodes.http.errors import bad_request
from nodes.tls import follower_client_context

ROUTES = web.RouteTableDef()
MOST_NAME = 63


@ROUTES.post("/v1/region/scope")
async def scope(request: web.Request) -> web.Response:
    """{"tenant": NAME} or {"account": ADDRESS}: the ids that a grant would have. Raises ApiError."""
    body = await json_body(request)
    stale = await catch_up(request)
    with services(request).log.snapshot() as snapshot:
        found = _scope(snapshot, body)
        home = region.home_of(snapshot.view(REGION), bytes.fromhex(found["tenant"]))
    if home is not None:
        raise NotAllowed(f"the tenant is a replica here: its home, the cell {home}, grants following it")
    return answer(found, stale=stale)


@ROUTES.get("/v1/region/grants")
async def list_grants(request: web.Request) -> web.Response:
    stale = await catch_up(request)
    now_ms = time.time_ns() // 1_000_000
    with services(request).log.snapshot() as snapshot:
        names = _tenant_names(snapshot)
        found = [_grant_json(snapshot, one, names, now_ms) for one in region.grants(snapshot.view(REGION))]
    return answer({"grants": found}, stale=stale)


@ROUTES.post("/v1/region/grants")
async def issue_grant(request: web.Request) -> web.Response:
    """name, tenant, account (ids), fingerprint and transfer_key (hexadecimal), expires_ms."""
    body = await json_body(request)
    name, expires_ms = text_field(body, "name", MOST_NAME), count_field(body, "expires_ms")
    if expires_ms is None:
        raise bad_request("expires_ms: is missing")
    owner = await directory_for_change(request)
    command = region.IssueGrant(
        name,
        _hex(body, "tenant"),
        _hex(body, "account") if body.get("account") else WHOLE_TENANT,
        _hex(body, "fingerprint", DIGEST_BYTES),
        expires_ms,
        owner.seal(_hex(body, "transfer_key", KEY_BYTES), grant_place(name)),
    )
    await services(request).runtime.ask(REGION, command, context(request))
    return web.json_response({"name": name}, status=201)


@ROUTES.delete("/v1/region/grants/{name}")
async def revoke_grant(request: web.Request) -> web.Response:
    await directory_for_change(request)
    await services(request).runtime.ask(REGION, region.RevokeGrant(request.match_info["name"]), context(request))
    return web.json_response({})


@ROUTES.get("/v1/region/follows")
async def list_follows(request: web.Request) -> web.Response:
    """What is followed. "leads" says whether this node pulls, and so knows the lag."""
    stale = await catch_up(request)
    followers = _followers(request)
    with services(request).log.snapshot() as snapshot:
        names = _tenant_names(snapshot)
        found = [
            {
                **follow_json(follow, at, progress),
                "tenant_name": names.get(follow.tenant),
                "address": _address(snapshot, follow.account),
            }
            for follow, at, progress in followers.follows()
        ]
    return answer({"leads": followers.leads, "follows": found}, stale=stale)


@ROUTES.post("/v1/region/follows")
async def start_follow(request: web.Request) -> web.Response:
    """A grant file, and in "as" the name that it is to have here."""
    body = await json_body(request)
    try:
        grant = grants.read(body)
    except ValueError as error:
        raise bad_request(f"the grant can not be used: {error}") from None
    try:
        follower_client_context(grant.authority, grant.certificate, grant.key)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise bad_request(f"the grant's certificate can not be used: {error}") from None
    if grant.cell == request.app[STATE].config.node.cluster_id:
        raise bad_request("that is a grant of this cell itself", "another cell's folder in --cluster")
    name = text_field(body, "as", MOST_NAME) if body.get("as") else grant.name
    owner = await directory_for_change(request)
    place = grants.follow_place(grant.cell, grant.tenant, grant.account)
    command = region.StartFollow(
        name,
        grant.cell,
        grant.tenant,
        grant.account,
        grant.endpoints,
        grant.authority,
        grant.certificate,
        owner.seal(grant.secret, place),
    )
    await services(request).runtime.ask(REGION, command, context(request))
    return web.json_response({"name": name, "cell": grant.cell}, status=201)


@ROUTES.delete("/v1/region/follows/{name}")
async def end_follow(request: web.Request) -> web.Response:
    await directory_for_change(request)
    command = region.HaltFollow(request.match_info["name"], "an administrator has ended it")
    await services(request).runtime.ask(REGION, command, context(request))
    return web.json_response({})


def _followers(request: web.Request) -> Followers:
    services(request)  # raises ApiError while the node is not ready
    followers = request.app[STATE].followers
    assert followers is not None
    return followers


def _scope(snapshot: Snapshot, body: dict[str, Any]) -> dict[str, Any]:
    address, name = body.get("account"), body.get("tenant")
    if (address is None) == (name is None):
        raise bad_request("tenant or account: one of them")
    if name is not None:
        id_ = directory.tenant_named(snapshot, text_field(body, "tenant"))
        return {"tenant": id_.hex(), "tenant_name": _tenant_name(snapshot, id_), "account": "", "address": ""}
    target = directory.account_of(snapshot, text_field(body, "account", 320))
    return {
        "tenant": target.tenant.hex(),
        "tenant_name": _tenant_name(snapshot, target.tenant),
        "account": target.account.hex(),
        "address": target.address,
    }


def _tenant_name(snapshot: Snapshot, id_: bytes) -> str:
    found = _tenant_names(snapshot).get(id_)
    if found is None:
        raise NoSuchTenant("there is no such tenant")
    return found


def _tenant_names(snapshot: Snapshot) -> dict[bytes, str]:
    return {entry.id: entry.name for entry in tenant.tenants(snapshot)}


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


def _hex(body: dict[str, Any], name: str, length: int = 16) -> bytes:
    try:
        value = bytes.fromhex(text_field(body, name))
    except ValueError:
        value = b""
    if len(value) != length:
        raise bad_request(f"{name}: must be {length} bytes in hexadecimal")
    return value
