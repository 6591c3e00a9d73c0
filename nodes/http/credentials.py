"""Over the admin API: app passwords, one-time codes, secrets for APOP, and logging in on the web with them.

A secret is in the answer of the request that made it, and never again.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from actors import apop, credentials
from actors.credentials import SCOPES
from actors.directory import Target, account_of
from nodes import web_login
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
from nodes.logins import LoginRefused

ROUTES = web.RouteTableDef()
MOST_CODE = 64


@ROUTES.get("/v1/accounts/{address}/credentials")
async def show(request: web.Request) -> web.Response:
    """All of an account's, without secrets, and what was refused."""
    stale = await catch_up(request)
    with services(request).log.snapshot() as snapshot:
        target = account_of(snapshot, request.match_info["address"])
        view = snapshot.view(target.tenant)
        apps = credentials.app_passwords(view, target.account)
        codes = credentials.one_time_codes(view, target.account)
        refused = credentials.refused_logins(view, target.account)
        secret, allowed = apop.secret_of(view, target.account), apop.is_allowed(view)
    found = {
        "address": target.address,
        "app_passwords": [_app_json(one) for one in apps],
        "totp": _codes_json(codes),
        "apop": {"since_ms": secret.since_ms if secret else None, "allowed": allowed},
        "refused_logins": {"attempts": refused.attempts, "last_ms": refused.last_ms or None},
    }
    return answer(found, stale=stale)


@ROUTES.post("/v1/accounts/{address}/app-passwords")
async def add_app_password(request: web.Request) -> web.Response:
    """{"name": "phone", "scopes": ["imap", "smtp"], "expires_ms": null}: the answer holds the password."""
    body = await json_body(request)
    name, scopes = text_field(body, "name", credentials.MAX_NAME), text_list_field(body, "scopes")
    if not set(scopes) <= set(SCOPES):
        raise bad_request(f"scopes: must be some of {', '.join(SCOPES)}")
    expires_ms = count_field(body, "expires_ms")
    directory = await directory_for_change(request)
    address = request.match_info["address"]
    password = await directory.credentials.add_app_password(address, name, scopes, expires_ms, context(request))
    made = {"name": name, "scopes": sorted(set(scopes)), "expires_ms": expires_ms, "password": password}
    return web.json_response(made, status=201)


@ROUTES.delete("/v1/accounts/{address}/app-passwords/{name}")
async def revoke_app_password(request: web.Request) -> web.Response:
    directory = await directory_for_change(request)
    asked = request.match_info
    await directory.credentials.revoke_app_password(asked["address"], asked["name"], context(request))
    return web.json_response({})


@ROUTES.post("/v1/accounts/{address}/totp")
async def enrol(request: web.Request) -> web.Response:
    """New one-time codes; they are asked for once a first code confirms them."""
    directory = await directory_for_change(request)
    made = await directory.credentials.enrol(request.match_info["address"], context(request))
    shown = {"secret": made.secret, "uri": made.uri, "recovery_codes": list(made.recovery)}
    return web.json_response(shown, status=201)


@ROUTES.put("/v1/accounts/{address}/totp")
async def confirm(request: web.Request) -> web.Response:
    code = text_field(await json_body(request), "code", MOST_CODE)
    directory = await directory_for_change(request)
    await directory.credentials.confirm(request.match_info["address"], code, context(request))
    return web.json_response({})


@ROUTES.delete("/v1/accounts/{address}/totp")
async def disable(request: web.Request) -> web.Response:
    directory = await directory_for_change(request)
    await directory.credentials.disable(request.match_info["address"], context(request))
    return web.json_response({})


@ROUTES.put("/v1/accounts/{address}/apop")
async def set_apop_secret(request: web.Request) -> web.Response:
    """{"secret"}: what APOP takes from now on."""
    secret = text_field(await json_body(request), "secret", apop.MOST_CHARACTERS)
    directory = await directory_for_change(request)
    await directory.credentials.set_apop_secret(request.match_info["address"], secret, context(request))
    return web.json_response({})


@ROUTES.delete("/v1/accounts/{address}/apop")
async def remove_apop_secret(request: web.Request) -> web.Response:
    directory = await directory_for_change(request)
    await directory.credentials.remove_apop_secret(request.match_info["address"], context(request))
    return web.json_response({})


@ROUTES.post("/v1/login")
async def log_in(request: web.Request) -> web.Response:
    """{"login", "password", "code", "client"}: whether a person at the network address `client` is let in on the web.

    200 with the account; 401 with the category "wrong" or "code_needed", the latter where only the one-time code is
    missing; 429 where too many attempts were wrong before.
    """
    body = await json_body(request)
    login, password = text_field(body, "login", 320), text_field(body, "password")
    code = text_field(body, "code", MOST_CODE) if body.get("code") is not None else None
    client = text_field(body, "client", 64)
    await directory_for_change(request)
    try:
        found = await web_login.log_in(services(request), client, login, password, code, context(request))
    except web_login.CodeNeeded:
        raise ApiError(401, "code_needed", "a one-time code is needed", "the same with `code`") from None
    except LoginRefused as refused:
        if refused.reason == "wrong":
            raise ApiError(401, "wrong", "wrong address, password or code") from None
        raise ApiError(429, refused.reason, "too many attempts; try again later") from None
    return web.json_response(_target_json(found))


def _target_json(target: Target) -> dict[str, Any]:
    return {"address": target.address, "id": target.account.hex()}


def _app_json(one: credentials.AppPassword) -> dict[str, Any]:
    return {
        "name": one.name,
        "scopes": list(one.scopes),
        "expires_ms": one.expires_ms,
        "created_ms": one.created_ms,
        "used_ms": one.used_ms,
    }


def _codes_json(codes: credentials.OneTimeCodes | None) -> dict[str, Any]:
    if codes is None:
        return {"state": "off", "since_ms": None, "recovery_codes_used": 0}
    state = "on" if codes.confirmed else "unconfirmed"
    return {"state": state, "since_ms": codes.since_ms, "recovery_codes_used": len(codes.used_recovery)}
