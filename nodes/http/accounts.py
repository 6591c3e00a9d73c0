"""Tenants, accounts and aliases over the admin API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiohttp import web

from actors import credentials, mailbox, tenant
from actors.directory import resolve, tenant_named
from actors.errors import NoSuchTenant, NotLocal
from actors.names import normalise_address, normalise_domain
from eventlog.store import Snapshot
from nodes.http.admin import (
    answer,
    catch_up,
    context,
    count_field,
    directory_for_change,
    json_body,
    services,
    text_field,
    text_list_field,
)
from nodes.http.errors import ApiError, bad_request

ROUTES = web.RouteTableDef()
MOST_PASSWORD = 1024


@ROUTES.get("/v1/tenants")
async def list_tenants(request: web.Request) -> web.Response:
    stale = await catch_up(request)
    with services(request).log.snapshot() as snapshot:
        found = [_tenant_json(snapshot, entry) for entry in tenant.tenants(snapshot)]
    return answer({"tenants": found}, stale=stale)


@ROUTES.post("/v1/tenants")
async def add_tenant(request: web.Request) -> web.Response:
    body = await json_body(request)
    name, domains = text_field(body, "name", 63), text_list_field(body, "domains")
    directory = await directory_for_change(request)
    added = await directory.add_tenant(name, domains, context(request))
    with services(request).log.snapshot() as snapshot:
        entry = next(one for one in tenant.tenants(snapshot) if one.id == added)
        return web.json_response(_tenant_json(snapshot, entry), status=201)


@ROUTES.post("/v1/tenants/{name}/domains")
async def add_domain(request: web.Request) -> web.Response:
    domain = text_field(await json_body(request), "domain", 255)
    directory = await directory_for_change(request)
    await directory.add_domain(request.match_info["name"], domain, context(request))
    return web.json_response({"domain": normalise_domain(domain)}, status=201)


@ROUTES.patch("/v1/tenants/{name}")
async def change_tenant(request: web.Request) -> web.Response:
    """{"time_travel": true or false}: whether accounts may log in to their mailboxes as they were; or
    {"password_characters": 12}: how long passwords that are set from now on are at least."""
    body = await json_body(request)
    allowed, least, name = body.get("time_travel"), count_field(body, "password_characters"), request.match_info["name"]
    if (allowed is None) == (least is None):
        raise bad_request("time_travel, password_characters: one of them must be given")
    if least is not None:
        directory = await directory_for_change(request)
        await directory.credentials.set_password_policy(_tenant_id(request, name), least, context(request))
        return web.json_response({"password_characters": least})
    if not isinstance(allowed, bool):
        raise bad_request("time_travel: must be true or false")
    directory = await directory_for_change(request)
    await directory.allow_time_travel(name, allowed, context(request))
    return web.json_response({"time_travel": allowed})


def _tenant_id(request: web.Request, name: str) -> bytes:
    with services(request).log.snapshot() as snapshot:
        return tenant_named(snapshot, name)


@ROUTES.get("/v1/accounts")
async def list_accounts(request: web.Request) -> web.Response:
    stale = await catch_up(request)
    with services(request).log.snapshot() as snapshot:
        entries = _chosen(snapshot, request.query.get("tenant"))
        found = [
            _account_json(snapshot, entry, account)
            for entry in entries
            for account in tenant.accounts(snapshot.view(entry.id))
        ]
    return answer({"accounts": found}, stale=stale)


@ROUTES.post("/v1/accounts")
async def add_account(request: web.Request) -> web.Response:
    body = await json_body(request)
    address, quota = text_field(body, "address", 320), count_field(body, "quota_bytes")
    directory = await directory_for_change(request)
    added = await directory.add_account(address, _password(body), quota, context(request))
    return web.json_response({"address": normalise_address(address), "id": added.hex()}, status=201)


@ROUTES.put("/v1/accounts/{address}/password")
async def set_password(request: web.Request) -> web.Response:
    password = _password(await json_body(request))
    directory = await directory_for_change(request)
    await directory.set_password(request.match_info["address"], password, context(request))
    return web.json_response({})


@ROUTES.put("/v1/accounts/{address}/quota")
async def set_quota(request: web.Request) -> web.Response:
    body = await json_body(request)
    if "quota_bytes" not in body:  # null means: no limit
        raise bad_request("quota_bytes: is missing: a whole number above 0, or null")
    quota, messages = count_field(body, "quota_bytes"), count_field(body, "quota_messages")
    directory = await directory_for_change(request)
    await directory.set_quota(request.match_info["address"], quota, context(request), messages)
    address = normalise_address(request.match_info["address"])
    return web.json_response({"address": address, "quota_bytes": quota, "quota_messages": messages})


@ROUTES.delete("/v1/accounts/{address}")
async def delete_account(request: web.Request) -> web.Response:
    directory = await directory_for_change(request)
    await directory.delete_account(request.match_info["address"], context(request))
    return web.json_response({})


@ROUTES.get("/v1/aliases")
async def list_aliases(request: web.Request) -> web.Response:
    stale = await catch_up(request)
    with services(request).log.snapshot() as snapshot:
        found = [
            {"address": alias.address, "targets": list(alias.targets), "tenant": entry.name}
            for entry in tenant.tenants(snapshot)
            for alias in tenant.aliases(snapshot.view(entry.id))
        ]
    return answer({"aliases": found}, stale=stale)


@ROUTES.post("/v1/aliases")
async def add_alias(request: web.Request) -> web.Response:
    body = await json_body(request)
    address, targets = text_field(body, "address", 320), text_list_field(body, "targets")
    directory = await directory_for_change(request)
    with services(request).log.snapshot() as snapshot:
        for target in targets:
            _require_somebody(snapshot, target)
    added = await directory.add_alias(address, targets, context(request))
    names = [normalise_address(target) for target in targets]
    return web.json_response({"address": normalise_address(address), "targets": names, "id": added.hex()}, status=201)


@ROUTES.delete("/v1/aliases/{address}")
async def delete_alias(request: web.Request) -> web.Response:
    directory = await directory_for_change(request)
    await directory.delete_alias(request.match_info["address"], context(request))
    return web.json_response({})


def _require_somebody(snapshot: Snapshot, target: str) -> None:
    """An alias that leads nowhere would refuse, or lose, mail. Raises ApiError, InvalidName."""
    try:
        found = resolve(snapshot, target)
    except NotLocal:
        return  # the directory says what it thinks of it
    if found is None:
        message = f"nobody has the address {target}, so mail for the alias would get nowhere"
        raise ApiError(404, "not_found", message, f"mailraft account add {target}, then the alias")


def _password(body: dict[str, Any]) -> str:
    password = text_field(body, "password", MOST_PASSWORD)
    if "\0" in password or "\n" in password or "\r" in password:
        raise bad_request("password: must not hold NUL or a line break")  # no protocol could send it back
    return password


def _chosen(snapshot: Snapshot, name: str | None) -> list[tenant.TenantEntry]:
    entries = tenant.tenants(snapshot)
    if name is None:
        return entries
    chosen = [entry for entry in entries if entry.name == name]
    if not chosen:
        raise NoSuchTenant(f"there is no tenant {name}")
    return chosen


def _tenant_json(snapshot: Snapshot, entry: tenant.TenantEntry) -> dict[str, Any]:
    view = snapshot.view(entry.id)
    domains = tenant.domains(view)
    return {
        "name": entry.name,
        "id": entry.id.hex(),
        "domains": [domain.name for domain in domains],
        "accounts": _count(view.range(b"a")),
        "time_travel": tenant.allows_time_travel(view),
        "password_characters": credentials.least_characters(view),
        "created_ms": min((domain.added_ms for domain in domains), default=0),
    }


def _account_json(snapshot: Snapshot, entry: tenant.TenantEntry, account: tenant.Account) -> dict[str, Any]:
    usage = mailbox.usage(snapshot.view(account.id))
    return {
        "address": account.address,
        "id": account.id.hex(),
        "tenant": entry.name,
        "messages": usage.messages,
        "bytes": usage.bytes,
        "quota_bytes": account.quota_bytes,
        "quota_messages": usage.limit_messages,
        "has_password": tenant.credentials(snapshot.view(entry.id), account.id) is not None,
        "created_ms": account.created_ms,
    }


def _count(rows: Iterator[Any]) -> int:
    return sum(1 for _ in rows)
