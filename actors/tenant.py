"""A tenant: its domains, accounts, aliases and sealed passwords; what else lets somebody in is in credentials.py, how
its mail is treated in tenant_policy.py, its groups in groups.py, what is said of it in tenant_details.py.

That a domain or address is unique in the cell is settled by the name claims that stand in the same record; a tenant
decides only about its own. Addresses arrive normalised and secrets sealed. Rows: T tenant, d domain, a account,
c credentials, l alias, p policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from actors import account_state, api_tokens, apop, delegation, groups, roles, sharing, tenant_details, tenant_policy
from actors import credentials as more
from actors.apop import ApopCommand, ApopFact, ApopSecretRemoved, ApopSecretSet, RemoveApopSecret, SetApopSecret
from actors.credentials import CredentialCommand, CredentialFact
from actors.delegation import DelegationFact, LetSend, SendingGranted, SendingRevoked
from actors.errors import NameTaken, NoSuchAccount, NoSuchAlias, NoSuchDomain, NoSuchTenant, NotAllowed, TooLarge
from actors.groups import (
    AddGroup,
    ChangeMembers,
    GroupAdded,
    GroupCommand,
    GroupFact,
    GroupMembersChanged,
    GroupRemoved,
    RemoveGroup,
)
from actors.kind import Command, Fact
from actors.region import REGION, tenant_ids
from actors.sharing import MailboxShared, NoteShare
from actors.tenant_details import (
    CloseTenant,
    DetailsCommand,
    DetailsFact,
    DetailsSet,
    DomainRemoved,
    RemoveDomain,
    RenameTenant,
    SetDetails,
    TenantClosed,
    TenantRenamed,
)
from actors.tenant_policy import MailPolicySet, SetMailPolicy
from eventlog.record import Stamp
from eventlog.store import Snapshot
from eventlog.views import View

MAX_ALIAS_TARGETS = 100
POSTMASTER = "postmaster"
TENANT_KEY = b"T"
TIME_TRAVEL_KEY = b"p-time-travel"

Status = Literal["active"]


class TenantEntry(NamedTuple):
    id: bytes
    name: str


class Domain(NamedTuple):
    name: str
    added_ms: int


class Account(NamedTuple):
    id: bytes
    address: str
    status: Status
    quota_bytes: int | None
    created_ms: int


class Alias(NamedTuple):
    id: bytes
    address: str
    targets: tuple[str, ...]
    created_ms: int


@dataclass(frozen=True, slots=True)
class CreateTenant(Command):
    tenant: bytes
    name: str


@dataclass(frozen=True, slots=True)
class AddDomain(Command):
    domain: str


@dataclass(frozen=True, slots=True)
class AddAccount(Command):
    account: bytes
    address: str
    quota_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class SetPassword(Command):
    account: bytes
    sealed: bytes  # see actors.sealing


@dataclass(frozen=True, slots=True)
class SetQuota(Command):
    account: bytes
    quota_bytes: int | None


@dataclass(frozen=True, slots=True)
class DeleteAccount(Command):
    """`with_domain`: its domain goes too, so that even a postmaster may."""

    account: bytes
    with_domain: bool = False


@dataclass(frozen=True, slots=True)
class AddAlias(Command):
    alias_id: bytes
    address: str
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeleteAlias(Command):
    alias_id: bytes


@dataclass(frozen=True, slots=True)
class AllowTimeTravel(Command):
    """Whether accounts may log in to their mailboxes as they were."""

    allowed: bool


TenantCommand = (
    CreateTenant
    | AddDomain
    | AddAccount
    | SetPassword
    | SetQuota
    | DeleteAccount
    | AddAlias
    | DeleteAlias
    | AllowTimeTravel
    | SetMailPolicy
    | NoteShare
    | LetSend
    | ApopCommand
    | GroupCommand
    | DetailsCommand
    | CredentialCommand
)


@dataclass(frozen=True, slots=True)
class TenantCreated(Fact):
    name: str


@dataclass(frozen=True, slots=True)
class DomainAdded(Fact):
    domain: str


@dataclass(frozen=True, slots=True)
class AccountAdded(Fact):
    account: bytes
    address: str
    quota_bytes: int | None


@dataclass(frozen=True, slots=True)
class PasswordSet(Fact):
    account: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True)
class AccountQuotaSet(Fact):
    account: bytes
    quota_bytes: int | None


@dataclass(frozen=True, slots=True)
class AccountDeleted(Fact):
    account: bytes
    address: str


@dataclass(frozen=True, slots=True)
class AliasAdded(Fact):
    alias_id: bytes
    address: str
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AliasDeleted(Fact):
    alias_id: bytes
    address: str


@dataclass(frozen=True, slots=True)
class TimeTravelAllowed(Fact):
    SINCE: ClassVar[int] = 2
    allowed: bool


TenantFact = (
    TenantCreated
    | DomainAdded
    | AccountAdded
    | PasswordSet
    | AccountQuotaSet
    | AccountDeleted
    | AliasAdded
    | AliasDeleted
    | TimeTravelAllowed
    | MailPolicySet
    | MailboxShared
    | DelegationFact
    | ApopFact
    | GroupFact
    | DetailsFact
    | CredentialFact
)


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
        case NoteShare():
            return sharing.decide(view, command)
        case LetSend():
            return delegation.decide(view, command)
        case AddGroup() | RemoveGroup() | ChangeMembers():
            return groups.decide(view, command)
        case SetDetails():
            return tenant_details.decide_details(view, command)
        case RenameTenant(name):
            return (TenantRenamed(name),)
        case CloseTenant():
            return (TenantClosed(),)
        case RemoveDomain():
            removed = tenant_details.decide_removal(view, command)
            if not command.postmaster:
                return (removed,)
            account = view.get(b"a" + command.postmaster)
            if account is None or account[0] != f"{POSTMASTER}@{command.domain}":
                raise NotAllowed("its postmaster has changed: try again")
            return (AccountDeleted(command.postmaster, account[0]), removed)
        case _:
            return (_decide(view, command),)


def _decide(
    view: View,
    command: (
        AddDomain
        | AddAccount
        | SetPassword
        | SetQuota
        | DeleteAccount
        | AddAlias
        | DeleteAlias
        | AllowTimeTravel
        | SetMailPolicy
        | ApopCommand
        | CredentialCommand
    ),
) -> TenantFact:
    match command:
        case AddDomain(domain):
            if view.get(b"d" + domain.encode()) is not None:
                raise NameTaken(f"{domain} is there already")
            return DomainAdded(domain)
        case AddAccount(account, address, quota_bytes):
            _require_domain(view, address)
            if view.get(b"a" + account) is not None:
                raise NameTaken("the account exists")
            return AccountAdded(account, address, quota_bytes)
        case SetPassword(account, sealed):
            _require_account(view, account)
            return PasswordSet(account, sealed)
        case SetQuota(account, quota_bytes):
            _require_account(view, account)
            return AccountQuotaSet(account, quota_bytes)
        case DeleteAccount(account, with_domain):
            return AccountDeleted(
                account, _require_account(view, account) if with_domain else _deletable(view, account)
            )
        case AddAlias(alias_id, address, targets):
            return _add_alias(view, alias_id, address, targets)
        case DeleteAlias(alias_id):
            row = view.get(b"l" + alias_id)
            if row is None:
                raise NoSuchAlias("no such alias")
            return AliasDeleted(alias_id, row[0])
        case AllowTimeTravel(allowed):
            return TimeTravelAllowed(allowed)
        case SetMailPolicy():
            return tenant_policy.decide(view, command)
        case SetApopSecret() | RemoveApopSecret():
            return apop.decide(view, command)
        case _:
            return more.decide(view, command)


def _add_alias(view: View, alias_id: bytes, address: str, targets: tuple[str, ...]) -> AliasAdded:
    _require_domain(view, address)
    if not targets:
        raise NotAllowed("an alias needs a target")
    if len(targets) > MAX_ALIAS_TARGETS:
        raise TooLarge(f"an alias has at most {MAX_ALIAS_TARGETS} targets")
    if view.get(b"l" + alias_id) is not None:
        raise NameTaken("the alias exists")
    return AliasAdded(alias_id, address, targets)


def _require_domain(view: View, address: str) -> None:
    domain = address.rpartition("@")[2]
    if view.get(b"d" + domain.encode()) is None:
        raise NoSuchDomain(f"{domain} is not a domain of this tenant")


def _require_account(view: View, account: bytes) -> str:
    row = view.get(b"a" + account)
    if row is None:
        raise NoSuchAccount("no such account")
    address: str = row[0]
    return address


def _deletable(view: View, account: bytes) -> str:
    address = _require_account(view, account)
    if address.partition("@")[0] == POSTMASTER:
        raise NotAllowed("every domain keeps its postmaster")  # RFC 5321 4.5.1
    return address


def evolve(view: View, fact: TenantFact, stamp: Stamp) -> None:
    """Total: what is there already, or no longer, is left as it is."""
    match fact:
        case TenantCreated():
            view.put(TENANT_KEY, (fact.name, stamp.at_ms))
        case DomainAdded():
            view.put(b"d" + fact.domain.encode(), stamp.at_ms)
        case AccountAdded():
            view.put(b"a" + fact.account, (fact.address, "active", fact.quota_bytes, stamp.at_ms))
        case PasswordSet():
            if view.get(b"a" + fact.account) is not None:
                view.put(b"c" + fact.account, fact.sealed)
        case AccountQuotaSet():
            row = view.get(b"a" + fact.account)
            if row is not None:
                view.put(b"a" + fact.account, (row[0], row[1], fact.quota_bytes, row[3]))
        case AccountDeleted():
            view.delete(b"a" + fact.account)
            view.delete(b"c" + fact.account)
            more.forget(view, fact.account)
            apop.forget(view, fact.account)
            sharing.forget(view, fact.account)
            delegation.forget(view, fact.account)
            groups.forget(view, fact.account)
            roles.forget(view, fact.account)
            account_state.forget(view, fact.account)
            api_tokens.forget(view, fact.account)
        case AliasAdded():
            view.put(b"l" + fact.alias_id, (fact.address, fact.targets, stamp.at_ms))
        case AliasDeleted():
            view.delete(b"l" + fact.alias_id)
        case TimeTravelAllowed():
            view.put(TIME_TRAVEL_KEY, fact.allowed)
        case MailPolicySet():
            tenant_policy.evolve(view, fact)
        case MailboxShared():
            sharing.evolve(view, fact)
        case SendingGranted() | SendingRevoked():
            delegation.evolve(view, fact, stamp)
        case ApopSecretSet() | ApopSecretRemoved():
            apop.evolve(view, fact, stamp)
        case GroupAdded() | GroupRemoved() | GroupMembersChanged():
            groups.evolve(view, fact, stamp)
            if isinstance(fact, GroupRemoved):
                delegation.forget(view, fact.group)
        case DetailsSet():
            view.put(tenant_details.DETAILS_KEY, (fact.title, fact.contact))
        case TenantRenamed():
            row = view.get(TENANT_KEY)
            if row is not None:
                view.put(TENANT_KEY, (fact.name, row[1]))
        case DomainRemoved():
            view.delete(b"d" + fact.domain.encode())
        case TenantClosed():
            for key, _ in list(view.range(b"")):
                view.delete(key)
        case _:
            more.evolve(view, fact, stamp)


def tenants(snapshot: Snapshot) -> list[TenantEntry]:
    """All tenants of the region, oldest first."""
    return [TenantEntry(id_, name) for id_, name in tenant_ids(snapshot.view(REGION))]


def accounts(view: View) -> list[Account]:
    """The tenant's accounts, by address."""
    found = [Account(key[1:], *row) for key, row in view.range(b"a")]
    return sorted(found, key=lambda account: account.address)


def account(view: View, account_id: bytes) -> Account | None:
    row = view.peek(b"a" + account_id)
    return Account(account_id, *row) if row else None


def aliases(view: View) -> list[Alias]:
    """The tenant's aliases, by address."""
    found = [Alias(key[1:], *row) for key, row in view.range(b"l")]
    return sorted(found, key=lambda alias: alias.address)


def alias(view: View, alias_id: bytes) -> Alias | None:
    row = view.peek(b"l" + alias_id)
    return Alias(alias_id, *row) if row else None


def allows_time_travel(view: View) -> bool:
    """Whether its accounts may log in to their mailboxes as they were; they may unless it was switched off."""
    return view.peek(TIME_TRAVEL_KEY) is not False


def domains(view: View) -> list[Domain]:
    """The tenant's domains, by name."""
    return [Domain(key[1:].decode(), added_ms) for key, added_ms in view.range(b"d")]


def password_place(tenant: bytes, account_id: bytes) -> bytes:
    """What a password's verifiers are bound to when they are sealed (actors/sealing.py)."""
    return tenant + account_id


SEALED = frozenset((PasswordSet.TYPE, more.AppPasswordAdded.TYPE, more.OneTimeCodesEnrolled.TYPE, ApopSecretSet.TYPE))


def sealed_place(tenant: bytes, fact: Fact) -> bytes | None:
    """The same of a fact that carries a sealed secret, as its field `sealed`; None for one that does not."""
    match fact:
        case PasswordSet():
            return password_place(tenant, fact.account)
        case more.AppPasswordAdded():
            return more.app_password_place(tenant, fact.account, fact.id)
        case more.OneTimeCodesEnrolled():
            return more.one_time_place(tenant, fact.account)
        case ApopSecretSet():
            return apop.place(tenant, fact.account)
        case _:
            return None


def credentials(view: View, account_id: bytes) -> bytes | None:
    """The account's sealed verifiers; None when it has no password and nobody can log in."""
    sealed: bytes | None = view.peek(b"c" + account_id)
    return sealed
