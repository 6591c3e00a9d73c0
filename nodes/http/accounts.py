"""Accounts over the admin API."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from actors import mailbox, tenant, tenant_admin
from actors.directory import account_of
from actors.errors import NoSuchTenant
from actors.names import normalise_address
from eventlog.store import Snapshot
from nodes.http import places, rows
from nodes.http.calls import Call
from nodes.http.endpoint import Endpoints
from nodes.http.models import Address, Bytes, Count, Id, Milliseconds, Model, Nothing, Page, PageQuery, TenantName
from nodes.http.pages import cursor_key, page, wrong_cursor
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
    """Accounts by tenant and address."""

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
        found, following = page(
            _from_cursor(snapshot, _chosen(call, snapshot, query.tenant), query),
            lambda one: (one[0].name, one[1].address),
            query,
            lambda one: _account_json(snapshot, one[0], one[1]),
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
        entry = tenant.TenantEntry(target.tenant, tenant_admin.name_of(snapshot, target.tenant))
        account = tenant.account(snapshot.view(target.tenant), target.account)
        assert account is not None
        return _account_json(snapshot, entry, account)


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


def _from_cursor(
    snapshot: Snapshot, entries: list[tenant.TenantEntry], query: PageQuery
) -> list[tuple[tenant.TenantEntry, tenant.Account]]:
    """Of the tenants from the cursor's on as many as a page needs: a page costs what it shows, not what there is."""
    after = cursor_key(query.after)
    found: list[tuple[tenant.TenantEntry, tenant.Account]] = []
    for entry in sorted(entries, key=lambda one: one.name):
        if after is not None and entry.name < str(after[0]):
            continue
        found += [(entry, account) for account in tenant.accounts(snapshot.view(entry.id))]
        passed_by = 0 if after is None else _passed_by(found, after)
        if len(found) - passed_by > query.limit:
            break
    return found


def _passed_by(found: list[tuple[tenant.TenantEntry, tenant.Account]], after: tuple[Any, ...]) -> int:
    """How many of them stand before the cursor. Raises ApiError for one that no page gave."""
    try:
        return sum((entry.name, account.address) <= after for entry, account in found)
    except TypeError:
        raise wrong_cursor() from None


def _chosen(call: Call, snapshot: Snapshot, name: str | None) -> list[tenant.TenantEntry]:
    entries = call.tenants(snapshot)
    if name is None:
        return entries
    chosen = [entry for entry in entries if entry.name == name]
    if not chosen:
        raise NoSuchTenant(f"there is no tenant {name}")
    return chosen


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
