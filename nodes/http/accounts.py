"""Accounts over the admin API."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from actors import mailbox, tenant, tenant_admin
from actors.directory import account_of
from actors.names import normalise_address
from eventlog.store import Snapshot
from eventlog.views import View
from nodes.http import places, rows
from nodes.http.calls import Call
from nodes.http.endpoint import Endpoints
from nodes.http.models import Address, Bytes, Count, Id, Milliseconds, Model, Nothing, Page, PageQuery, TenantName
from nodes.http.pages import Found, page_of_tenants
from nodes.http.places import OWN, in_body, in_path

ENDPOINTS = Endpoints("accounts")
NAMED = places.account(in_path("address"))
MOST_PASSWORD = 1024
_BREAKS = frozenset("\0\n\r")


def _sendable(password: str) -> str:
    if _BREAKS & set(password):
        raise ValueError("must not hold NUL or a line break")  # no protocol could send it back
    return password


Password = Annotated[
    str, AfterValidator(_sendable), Field(min_length=1, max_length=MOST_PASSWORD, examples=["correct horse battery"])
]


class AccountsQuery(PageQuery):
    """All, or those of a tenant."""

    tenant: str | None = Field(None, min_length=1, max_length=63)


class Account(Model):
    """Somebody who has a mailbox."""

    address: Address
    id: Id
    tenant: TenantName
    messages: int
    bytes: int
    quota_bytes: Bytes | None
    quota_messages: Count | None
    has_password: bool = Field(description="Without one nobody can log in.")
    created_ms: Milliseconds


class AccountPage(Page):
    """Accounts by tenant, and in each as they came."""

    accounts: list[Account]


class NewAccount(Model):
    """An address in a domain of ours. Without a password nobody can log in to it."""

    address: Address
    password: Password
    quota_bytes: Bytes | None = None


class AddedAccount(Model):
    """The address as it is kept, and the id under which the log speaks of the account."""

    address: Address
    id: Id


class NewPassword(Model):
    """It is kept as verifiers only."""

    password: Password


class Quota(Model):
    """How much a mailbox may hold; null: no limit."""

    quota_bytes: Bytes | None
    quota_messages: Count | None = None


class AccountQuota(Quota):
    """The quota that was set."""

    address: Address


@ENDPOINTS.get("/v1/accounts", "accounts:read", OWN, AccountPage, problems=("no_such_tenant",))
async def list_accounts(call: Call, query: AccountsQuery) -> dict[str, Any]:
    """List accounts."""
    with call.services.log.snapshot() as snapshot:
        found, following = page_of_tenants(
            call, snapshot, query, b"a", lambda one: _listed(snapshot, one), named=query.tenant
        )
    return {"accounts": found, "next": following}


@ENDPOINTS.post(
    "/v1/accounts",
    "accounts:write",
    places.domain(in_body("address")),
    AddedAccount,
    status=201,
    problems=("name_taken", "invalid_name", "not_allowed"),
)
async def add_account(call: Call, body: NewAccount) -> dict[str, Any]:
    """Add an account with its mailbox."""
    await call.directory.add_account(body.address, body.password, body.quota_bytes, call.context)
    added = call.directory.account(body.address)
    return {"address": added.address, "id": added.account.hex()}


@ENDPOINTS.get("/v1/accounts/{address}", "accounts:read", NAMED, Account, made_of=rows.account)
async def show_account(call: Call) -> dict[str, Any]:
    """Show an account."""
    with call.services.log.snapshot() as snapshot:
        target = account_of(snapshot, call.path["address"])
        view = snapshot.view(target.tenant)
        account = tenant.account(view, target.account)
        assert account is not None
        return _account_json(snapshot, view, tenant_admin.name_of(snapshot, target.tenant), account)


@ENDPOINTS.put(
    "/v1/accounts/{address}/password",
    "credentials:write",
    NAMED,
    Nothing,
    problems=("not_allowed", "overloaded"),
    made_of=rows.account,
)
async def set_password(call: Call, body: NewPassword) -> dict[str, Any]:
    """Set an account's password."""
    by_owner = call.caller.account is not None and call.caller.account == call.subject.account
    await call.directory.set_password(call.path["address"], body.password, call.context, by_owner=by_owner)
    return {}


@ENDPOINTS.put("/v1/accounts/{address}/quota", "accounts:write", NAMED, AccountQuota, made_of=rows.account)
async def set_quota(call: Call, body: Quota) -> dict[str, Any]:
    """Set how much an account's mailbox may hold."""
    address = call.path["address"]
    await call.directory.set_quota(address, body.quota_bytes, call.context, body.quota_messages)
    return {
        "address": normalise_address(address),
        "quota_bytes": body.quota_bytes,
        "quota_messages": body.quota_messages,
    }


@ENDPOINTS.delete(
    "/v1/accounts/{address}", "accounts:write", NAMED, Nothing, problems=("not_allowed",), made_of=rows.account
)
async def delete_account(call: Call) -> dict[str, Any]:
    """Delete an account and its mailbox."""
    await call.directory.delete_account(call.path["address"], call.context)
    return {}


def _listed(snapshot: Snapshot, one: Found) -> dict[str, Any] | None:
    account = tenant.account(one.view, one.key)
    return None if account is None else _account_json(snapshot, one.view, one.tenant, account)


def _account_json(snapshot: Snapshot, view: View, name: str | None, account: tenant.Account) -> dict[str, Any]:
    usage = mailbox.usage(snapshot.view(account.id))
    return {
        "address": account.address,
        "id": account.id.hex(),
        "tenant": name,
        "messages": usage.messages,
        "bytes": usage.bytes,
        "quota_bytes": account.quota_bytes,
        "quota_messages": usage.limit_messages,
        "has_password": tenant.credentials(view, account.id) is not None,
        "created_ms": account.created_ms,
    }
