"""The parts of a tenant that have a module each: which command and which event is whose.

All of it stands on the tenant's stream, so that one event says that an account has gone, to all of them.
"""

from __future__ import annotations

from actors import (
    account_state,
    api_tokens,
    apop,
    credentials,
    delegation,
    groups,
    roles,
    sharing,
    tenant_details,
    tenant_policy,
)
from actors.apop import ApopSecretRemoved, ApopSecretSet, RemoveApopSecret, SetApopSecret
from actors.delegation import LetSend, SendingGranted, SendingRevoked
from actors.errors import NotAllowed
from actors.groups import AddGroup, ChangeMembers, GroupAdded, GroupMembersChanged, GroupRemoved, RemoveGroup
from actors.sharing import MailboxShared, NoteShare
from actors.tenant_details import (
    CloseTenant,
    DetailsSet,
    DomainRemoved,
    RemoveDomain,
    RenameTenant,
    SetDetails,
    TenantClosed,
    TenantRenamed,
)
from actors.tenant_policy import MailPolicySet, SetMailPolicy
from actors.tenant_rows import POSTMASTER, account_key
from actors.tenant_terms import AccountDeleted, PartCommand, PartFact, TenantFact
from eventlog.record import Stamp
from eventlog.views import View


def decide(view: View, command: PartCommand) -> tuple[TenantFact, ...]:
    """What the part decides whose command it is. Raises CommandRefused."""
    match command:
        case NoteShare():
            return sharing.decide(view, command)
        case LetSend():
            return delegation.decide(view, command)
        case AddGroup() | RemoveGroup() | ChangeMembers():
            return groups.decide(view, command)
        case SetMailPolicy():
            return (tenant_policy.decide(view, command),)
        case SetApopSecret() | RemoveApopSecret():
            return (apop.decide(view, command),)
        case RemoveDomain():
            return _remove_domain(view, command)
        case SetDetails() | RenameTenant() | CloseTenant():
            return tenant_details.decide(view, command)
        case _:
            return (credentials.decide(view, command),)


def _remove_domain(view: View, command: RemoveDomain) -> tuple[TenantFact, ...]:
    removed = tenant_details.decide_removal(view, command)
    if not command.postmaster:
        return (removed,)
    account = view.get(account_key(command.postmaster))
    if account is None or account[0] != f"{POSTMASTER}@{command.domain}":
        raise NotAllowed("its postmaster has changed: try again")
    return (AccountDeleted(command.postmaster, account[0]), removed)


def evolve(view: View, fact: PartFact, stamp: Stamp) -> None:
    """Total, as each of them is."""
    match fact:
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
        case DetailsSet() | TenantRenamed() | DomainRemoved() | TenantClosed():
            tenant_details.evolve(view, fact)
        case _:
            credentials.evolve(view, fact, stamp)


def forget(view: View, account: bytes) -> None:
    """The account is deleted: nothing that they keep of it is left."""
    credentials.forget(view, account)
    apop.forget(view, account)
    sharing.forget(view, account)
    delegation.forget(view, account)
    groups.forget(view, account)
    roles.forget(view, account)
    account_state.forget(view, account)
    api_tokens.forget(view, account)
