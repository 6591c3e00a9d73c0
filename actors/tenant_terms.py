"""The tenant's vocabulary: the commands and events of its domains, accounts, aliases and passwords, and the unions that
take in those of its other parts.

Addresses arrive normalised, ids drawn and secrets sealed; nothing here reads a clock or a table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from actors.apop import ApopCommand, ApopFact
from actors.credentials import CredentialCommand, CredentialFact
from actors.delegation import DelegationFact, LetSend
from actors.groups import GroupCommand, GroupFact
from actors.kind import Command, Fact
from actors.sharing import MailboxShared, NoteShare
from actors.tenant_details import DetailsCommand, DetailsFact
from actors.tenant_policy import MailPolicySet, SetMailPolicy

# Commands


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


PartCommand = SetMailPolicy | NoteShare | LetSend | ApopCommand | GroupCommand | DetailsCommand | CredentialCommand
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
    | PartCommand
)


# Events


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


AccountFact = AccountAdded | PasswordSet | AccountQuotaSet | AccountDeleted
PartFact = MailPolicySet | MailboxShared | DelegationFact | ApopFact | GroupFact | DetailsFact | CredentialFact
TenantFact = TenantCreated | DomainAdded | AccountFact | AliasAdded | AliasDeleted | TimeTravelAllowed | PartFact
