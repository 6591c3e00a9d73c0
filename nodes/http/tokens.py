"""Tokens of the admin API, over it: make one (it is in that answer and never again), list, revoke."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import Field

from actors import api_tokens, roles, tenant, tenant_admin
from actors.api_tokens import ApiToken, CreateApiToken, RevokeApiToken
from actors.directory import account_of, tenant_named
from actors.errors import CommandRefused, NoSuchAccount, NoSuchTenant, NoSuchToken
from actors.names import normalise_address
from actors.region import REGION
from eventlog.store import Snapshot
from nodes.http.asking import TOKEN
from nodes.http.authority import STATE
from nodes.http.calls import Call, forbidden
from nodes.http.endpoint import Endpoints
from nodes.http.errors import bad_request
from nodes.http.models import Address, Milliseconds, Model, Nothing, Page, PageQuery, TenantName
from nodes.http.pages import Found, page_of_tenants
from nodes.http.places import Place, Subject
from nodes.http.roles import RoleName
from nodes.http.rows import Rows
from nodes.logins.callers import covers, expand, permits

ENDPOINTS = Endpoints("tokens")
Scope = Annotated[str, Field(min_length=1, max_length=64, examples=["accounts:read"])]


class Token(Model):
    """A token without what lets one in."""

    id: str = Field(examples=["0193a1b2c3d4e5f6"])
    name: str = Field(description="What it is for.", examples=["sync"])
    role: str | None = Field(description="null: that of its account, as it is at the moment.", examples=["auditor"])
    account: Address | None = Field(description="The account that it speaks for.")
    scopes: list[Scope] = Field(description="What the role is narrowed to; none: all of it.")
    tenant: TenantName | None = Field(description="null: of the whole cluster.")
    created_ms: Milliseconds
    expires_ms: Milliseconds | None
    used_ms: Milliseconds | None = Field(description="Exact for the node that is asked, to the day for the others.")


class TokenPage(Page):
    """Tokens by tenant and age."""

    tokens: list[Token]


class TokensQuery(PageQuery):
    """All, or those of a tenant."""

    tenant: str | None = Field(None, min_length=1, max_length=63)


class NewToken(Model):
    """Without role and account it has the role of whoever asks; of a tenant that is named, its administrator's."""

    name: str = Field("", max_length=api_tokens.MAX_NAME, examples=["sync"])
    role: RoleName | None = None
    tenant: TenantName | None = Field(None, description="For this tenant; the caller's own if not given.")
    account: Address | None = Field(None, description="Speaks for this account, with the role that it has then.")
    cluster: bool = Field(False, description="With the role that the account has of the cluster.")
    scopes: list[Scope] = Field([], max_length=api_tokens.MAX_SCOPES, examples=[["accounts:read", "log:*"]])
    expires_ms: Milliseconds | None = Field(None, examples=[None])


class MadeToken(Token):
    """What is shown once."""

    token: str = Field(description="Goes with requests: Authorization: Bearer TOKEN.", examples=["mrt_..."])


def _of_new(snapshot: Snapshot, call: Call) -> Subject:
    body = call.body
    assert isinstance(body, NewToken)
    if body.cluster:
        return Subject(None)
    if body.account is not None:
        target = account_of(snapshot, body.account)
        return Subject(target.tenant, target.account)
    return Subject(tenant_named(snapshot, body.tenant) if body.tenant is not None else call.caller.tenant)


def _new_missing(call: Call) -> CommandRefused:
    body = call.body
    assert isinstance(body, NewToken)
    if body.account is not None:
        return NoSuchAccount(f"there is no account {normalise_address(body.account)}")
    return NoSuchTenant(f"there is no tenant {body.tenant}")


def _of_id(snapshot: Snapshot, call: Call) -> Subject:
    """Looked for everywhere, whoever asks: what is another's is not found any sooner."""
    stream, one = _by_id(snapshot, call)
    return Subject(_tenant_of(stream), one.account or None)


def _id_missing(call: Call) -> CommandRefused:
    return NoSuchToken(f"there is no token {call.path['id'][:32]}")


NEW = Place("the tenant of the account, or that is named, or the caller's", _of_new, _new_missing)
BY_ID = Place("the tenant that the token is of, or the cluster", _of_id, _id_missing)
CALLERS = Place(
    "the caller's tenant and account",
    lambda _, call: Subject(call.caller.tenant, call.caller.account),
    lambda _: NoSuchToken("there are no tokens"),
)


@ENDPOINTS.get("/v1/tokens", "tokens:read", CALLERS, TokenPage, problems=("no_such_tenant",))
async def list_tokens(call: Call, query: TokensQuery) -> dict[str, Any]:
    """List tokens. A user sees those that speak for the own account."""

    def listed(found: Found) -> dict[str, Any] | None:
        stream, one = found.view.stream, api_tokens.api_token(found.view, found.key)
        if one is None or not permits(call.caller, "tokens:read", _tenant_of(stream), one.account or None):
            return None
        return _token_json(call, snapshot, stream, found.tenant, one)

    with call.services.log.snapshot() as snapshot:
        shown, following = page_of_tenants(call, snapshot, query, b"K", listed, named=query.tenant, cluster=True)
    return {"tokens": shown, "next": following}


def _tenant_of(stream: bytes) -> bytes | None:
    return None if stream == REGION else stream


@ENDPOINTS.post(
    "/v1/tokens",
    "tokens:write",
    NEW,
    MadeToken,
    status=201,
    problems=("no_such_account", "no_such_tenant", "not_allowed", "too_large"),
)
async def create(call: Call, body: NewToken) -> dict[str, Any]:
    """Make a token; it is in this answer and never again. Nobody makes one that may more than they may."""
    if body.expires_ms is not None and body.expires_ms <= time.time_ns() // 1_000_000:
        raise bad_request("expires_ms: it would have expired already")
    shown = call.request.get(TOKEN)
    ends_ms = None if shown is None else shown.expires_ms
    if ends_ms is not None and (body.expires_ms is None or body.expires_ms > ends_ms):
        raise forbidden(call.caller, "a token that itself lives as long (expires_ms)")
    scopes, where = _scopes(body), call.subject.tenant
    stream = REGION if where is None else where
    role, account = _speaks_for(call, body, stream)
    held = role or _role_of(call, stream, account)
    if not covers(call.caller, held, scopes, where):
        raise forbidden(call.caller, f"all that such a token may ({held})")
    made, text = api_tokens.generate(stream, os.urandom)
    sealed = call.directory.seal(api_tokens.hashed(made.secret), api_tokens.place(stream, made.id))
    command = CreateApiToken(made.id, body.name, role, tuple(sorted(scopes)), account, body.expires_ms, sealed)
    await call.directory.runtime.ask(stream, command, call.context)
    with call.services.log.snapshot() as snapshot:
        kept = api_tokens.api_token(snapshot.view(stream), made.id)
        if kept is None:
            raise NoSuchAccount("the account went while its token was made")
        name = None if where is None else tenant_admin.name_of(snapshot, where)
        return {**_token_json(call, snapshot, stream, name, kept), "token": text}


def made_of(call: Call, snapshot: Snapshot) -> Iterable[Rows]:
    """The token; that it was used changes its row, too, from time to time."""
    stream, one = _by_id(snapshot, call)
    yield Rows(stream, b"K" + one.id)


@ENDPOINTS.get("/v1/tokens/{id}", "tokens:read", BY_ID, Token, problems=("no_such_token",), made_of=made_of)
async def show(call: Call) -> dict[str, Any]:
    """Show a token, without its secret."""
    with call.services.log.snapshot() as snapshot:
        stream, one = _by_id(snapshot, call)
        name = None if stream == REGION else tenant_admin.name_of(snapshot, stream)
        return _token_json(call, snapshot, stream, name, one)


@ENDPOINTS.delete("/v1/tokens/{id}", "tokens:write", BY_ID, Nothing, problems=("no_such_token",), made_of=made_of)
async def revoke(call: Call) -> dict[str, Any]:
    """Revoke a token: it lets nobody in from now on, and what it asks for at the moment ends."""
    with call.services.log.snapshot() as snapshot:
        stream, one = _by_id(snapshot, call)
    await call.directory.runtime.ask(stream, RevokeApiToken(one.id), call.context)
    return {}


def _scopes(body: NewToken) -> frozenset[str]:
    try:
        return expand(body.scopes)
    except ValueError as wrong:
        hint = "topic:read or topic:write, as in accounts:read; *:read for all of them"
        raise bad_request(f"scopes: there is no {str(wrong)!r}", hint) from None


def _speaks_for(call: Call, body: NewToken, stream: bytes) -> tuple[str, bytes]:
    """Its own role, or the account."""
    if body.account is not None:
        with call.services.log.snapshot() as snapshot:
            return "", account_of(snapshot, body.account).account
    of_tenant = stream != REGION and call.caller.tenant is None
    return body.role or (roles.TENANT_ADMIN if of_tenant else call.caller.role), b""


def _role_of(call: Call, stream: bytes, account: bytes) -> str:
    with call.services.log.snapshot() as snapshot:
        held = roles.role_of(snapshot.view(stream), account)
    return held.role if held is not None else roles.USER


def _by_id(snapshot: Snapshot, call: Call) -> tuple[bytes, ApiToken]:
    """Where the token stands. Raises NoSuchToken."""
    try:
        wanted = bytes.fromhex(call.path["id"])
    except ValueError:
        wanted = b""
    for stream in (REGION, *(entry.id for entry in tenant.tenants(snapshot))):
        one = api_tokens.api_token(snapshot.view(stream), wanted) if len(wanted) == api_tokens.ID_BYTES else None
        if one is not None:
            return stream, one
    raise _id_missing(call)


def _token_json(call: Call, snapshot: Snapshot, stream: bytes, name: str | None, one: ApiToken) -> dict[str, Any]:
    identities = call.request.app[STATE].identities
    home = roles.role_of(snapshot.view(REGION), one.account) if stream == REGION else None
    account = tenant.account(snapshot.view(home.tenant if home else stream), one.account) if one.account else None
    return {
        "id": one.id.hex(),
        "name": one.name,
        "role": one.role or None,
        "account": account.address if account is not None else None,
        "scopes": list(one.scopes),
        "tenant": name,
        "created_ms": one.created_ms,
        "expires_ms": one.expires_ms,
        "used_ms": identities.used_ms(stream, one) if identities is not None else one.used_ms,
    }
