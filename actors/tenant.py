"""A tenant: its domains, accounts, aliases and sealed passwords; what else lets somebody in is in credentials.py, how
its mail is treated in tenant_policy.py, its groups in groups.py, what is said of it in tenant_details.py.

The vocabulary is in `tenant_terms`, rows and readers in `tenant_rows`, those other parts in `tenant_parts`, what a
sealed secret is bound to in `tenant_secrets`, all that is a tenant's own importable from here. That a domain or address
is unique in the cell is settled by the name claims that stand in the same record; a tenant decides only about its own.
"""

from __future__ import annotations

from typing import assert_never

from actors import tenant_parts
from actors.errors import NameTaken, NoSuchAccount, NoSuchAlias, NoSuchDomain, NoSuchTenant, NotAllowed, TooLarge
from actors.tenant_rows import (
    POSTMASTER,
    TENANT_KEY,
    TIME_TRAVEL_KEY,
    Account,
    Alias,
    Domain,
    Status,
    TenantEntry,
    account,
    account_key,
    accounts,
    alias,
    alias_key,
    aliases,
    allows_time_travel,
    credentials,
    domain_key,
    domains,
    tenants,
    verifiers_key,
)
from actors.tenant_secrets import (
    SEALED,
    password_place,
    sealed_place,
)
from actors.tenant_terms import (
    AccountAdded,
    AccountDeleted,
    AccountFact,
    AccountQuotaSet,
    AddAccount,
    AddAlias,
    AddDomain,
    AliasAdded,
    AliasDeleted,
    AllowTimeTravel,
    CreateTenant,
    DeleteAccount,
    DeleteAlias,
    DomainAdded,
    PasswordSet,
    SetPassword,
    SetQuota,
    TenantCommand,
    TenantCreated,
    TenantFact,
    TimeTravelAllowed,
)
from eventlog.record import Stamp
from eventlog.views import View

MAX_ALIAS_TARGETS = 100


def decide(view: View, command: TenantCommand) -> tuple[TenantFact, ...]:
    """Raises CommandRefused: the tenant, domain, account or alias is missing, or there already."""
    exists = view.get(TENANT_KEY) is not None
    if isinstance(command, CreateTenant):
        if exists:
            raise NameTaken("the tenant exists")
        return (TenantCreated(command.name),)
    if not exists:
        raise NoSuchTenant("no such tenant")
    match command:
        case AddDomain(domain):
            if view.get(domain_key(domain)) is not None:
                raise NameTaken(f"{domain} is there already")
            return (DomainAdded(domain),)
        case AddAccount():
            return (_add_account(view, command),)
        case SetPassword(account, sealed):
            _require_account(view, account)
            return (PasswordSet(account, sealed),)
        case SetQuota(account, quota_bytes):
            _require_account(view, account)
            return (AccountQuotaSet(account, quota_bytes),)
        case DeleteAccount():
            return (_delete_account(view, command),)
        case AddAlias():
            return (_add_alias(view, command),)
        case DeleteAlias():
            return (_delete_alias(view, command),)
        case AllowTimeTravel(allowed):
            return (TimeTravelAllowed(allowed),)
        case _:
            return tenant_parts.decide(view, command)


def _add_account(view: View, command: AddAccount) -> AccountAdded:
    _require_domain(view, command.address)
    if view.get(account_key(command.account)) is not None:
        raise NameTaken("the account exists")
    return AccountAdded(command.account, command.address, command.quota_bytes)


def _delete_account(view: View, command: DeleteAccount) -> AccountDeleted:
    address = _require_account(view, command.account)
    if address.partition("@")[0] == POSTMASTER and not command.with_domain:
        raise NotAllowed("every domain keeps its postmaster")  # RFC 5321 4.5.1
    return AccountDeleted(command.account, address)


def _add_alias(view: View, command: AddAlias) -> AliasAdded:
    _require_domain(view, command.address)
    if not command.targets:
        raise NotAllowed("an alias needs a target")
    if len(command.targets) > MAX_ALIAS_TARGETS:
        raise TooLarge(f"an alias has at most {MAX_ALIAS_TARGETS} targets")
    if view.get(alias_key(command.alias_id)) is not None:
        raise NameTaken("the alias exists")
    return AliasAdded(command.alias_id, command.address, command.targets)


def _delete_alias(view: View, command: DeleteAlias) -> AliasDeleted:
    row = view.get(alias_key(command.alias_id))
    if row is None:
        raise NoSuchAlias("no such alias")
    return AliasDeleted(command.alias_id, row[0])


def _require_domain(view: View, address: str) -> None:
    domain = address.rpartition("@")[2]
    if view.get(domain_key(domain)) is None:
        raise NoSuchDomain(f"{domain} is not a domain of this tenant")


def _require_account(view: View, account: bytes) -> str:
    row = view.get(account_key(account))
    if row is None:
        raise NoSuchAccount("no such account")
    address: str = row[0]
    return address


def evolve(view: View, fact: TenantFact, stamp: Stamp) -> None:
    """Total: what is there already, or no longer, is left as it is."""
    match fact:
        case TenantCreated():
            view.put(TENANT_KEY, (fact.name, stamp.at_ms))
        case DomainAdded():
            view.put(domain_key(fact.domain), stamp.at_ms)
        case AccountAdded() | PasswordSet() | AccountQuotaSet() | AccountDeleted():
            _evolve_account(view, fact, stamp)
        case AliasAdded():
            view.put(alias_key(fact.alias_id), (fact.address, fact.targets, stamp.at_ms))
        case AliasDeleted():
            view.delete(alias_key(fact.alias_id))
        case TimeTravelAllowed():
            view.put(TIME_TRAVEL_KEY, fact.allowed)
        case _:
            tenant_parts.evolve(view, fact, stamp)


def _evolve_account(view: View, fact: AccountFact, stamp: Stamp) -> None:
    key = account_key(fact.account)
    match fact:
        case AccountAdded():
            view.put(key, (fact.address, "active", fact.quota_bytes, stamp.at_ms))
        case PasswordSet():
            if view.get(key) is not None:
                view.put(verifiers_key(fact.account), fact.sealed)
        case AccountQuotaSet():
            row = view.get(key)
            if row is not None:
                view.put(key, (row[0], row[1], fact.quota_bytes, row[3]))
        case AccountDeleted():
            view.delete(key)
            view.delete(verifiers_key(fact.account))
            tenant_parts.forget(view, fact.account)
        case _:
            assert_never(fact)


__all__ = [
    "MAX_ALIAS_TARGETS",
    "POSTMASTER",
    "SEALED",
    "TENANT_KEY",
    "TIME_TRAVEL_KEY",
    "Account",
    "AccountAdded",
    "AccountDeleted",
    "AccountQuotaSet",
    "AddAccount",
    "AddAlias",
    "AddDomain",
    "Alias",
    "AliasAdded",
    "AliasDeleted",
    "AllowTimeTravel",
    "CreateTenant",
    "DeleteAccount",
    "DeleteAlias",
    "Domain",
    "DomainAdded",
    "PasswordSet",
    "SetPassword",
    "SetQuota",
    "Status",
    "TenantCommand",
    "TenantCreated",
    "TenantEntry",
    "TenantFact",
    "TimeTravelAllowed",
    "account",
    "accounts",
    "alias",
    "aliases",
    "allows_time_travel",
    "credentials",
    "decide",
    "domains",
    "evolve",
    "password_place",
    "sealed_place",
    "tenants",
]
