"""The region: its tenants, the queues that were ever opened, who may follow this log, and which logs are followed here.

One stream, found by name. It is written when one of these appears or goes, never on the path of an ordinary message.
Rows: t tenant, q queue, g grant, f what is followed, h the home of a tenant that is a replica here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, assert_never

from actors.errors import NameTaken, NoSuchFollow, NoSuchGrant, NotAllowed, TooLarge
from actors.kind import Command, Fact
from eventlog.record import Stamp, stream_id
from eventlog.views import View

REGION = stream_id("region", "root")
MAX_GRANTS = 1000
MAX_FOLLOWS = 100
WHOLE_TENANT = b""  # in place of an account: all of them

Endpoints = tuple[tuple[str, str], ...]  # name and host:port of each node


class Grant(NamedTuple):
    """Leave to follow a tenant, or one account of it. `sealed` holds the key that passwords travel under."""

    name: str
    tenant: bytes
    account: bytes
    fingerprint: bytes  # SHA-256 of the certificate that it was given to
    expires_ms: int
    sealed: bytes
    issued_ms: int
    revoked_ms: int | None


class Follow(NamedTuple):
    """What is followed: a tenant, or one account of it, of another cell. `halted` says why it is not any more."""

    name: str
    cell: str
    tenant: bytes
    account: bytes
    endpoints: Endpoints
    authority: str  # PEM
    certificate: str  # PEM
    sealed: bytes  # the certificate's key, and the key that passwords travel under
    since_ms: int
    halted: str | None


@dataclass(frozen=True, slots=True)
class RegisterTenant(Command):
    tenant: bytes
    name: str


@dataclass(frozen=True, slots=True)
class ChangeTenantName(Command):
    tenant: bytes
    name: str


@dataclass(frozen=True, slots=True)
class UnregisterTenant(Command):
    """It is deleted."""

    tenant: bytes


@dataclass(frozen=True, slots=True)
class OpenQueue(Command):
    domain: str


@dataclass(frozen=True, slots=True)
class IssueGrant(Command):
    name: str
    tenant: bytes
    account: bytes
    fingerprint: bytes
    expires_ms: int
    sealed: bytes


@dataclass(frozen=True, slots=True)
class RevokeGrant(Command):
    name: str


@dataclass(frozen=True, slots=True)
class StartFollow(Command):
    """Begins, or goes on with another certificate: the checkpoint is by what is followed, not by name."""

    name: str
    cell: str
    tenant: bytes
    account: bytes
    endpoints: Endpoints
    authority: str
    certificate: str
    sealed: bytes


@dataclass(frozen=True, slots=True)
class HaltFollow(Command):
    """What was followed so far stays, read-only."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class TenantRegistered(Fact):
    tenant: bytes
    name: str


@dataclass(frozen=True, slots=True)
class TenantNameChanged(Fact):
    SINCE: ClassVar[int] = 3
    tenant: bytes
    name: str


@dataclass(frozen=True, slots=True)
class TenantUnregistered(Fact):
    SINCE: ClassVar[int] = 3
    tenant: bytes


@dataclass(frozen=True, slots=True)
class QueueOpened(Fact):
    domain: str


@dataclass(frozen=True, slots=True)
class GrantIssued(Fact):
    SINCE: ClassVar[int] = 2
    name: str
    tenant: bytes
    account: bytes
    fingerprint: bytes
    expires_ms: int
    sealed: bytes


@dataclass(frozen=True, slots=True)
class GrantRevoked(Fact):
    SINCE: ClassVar[int] = 2
    name: str


@dataclass(frozen=True, slots=True)
class FollowStarted(Fact):
    SINCE: ClassVar[int] = 2
    name: str
    cell: str
    tenant: bytes
    account: bytes
    endpoints: Endpoints
    authority: str
    certificate: str
    sealed: bytes


@dataclass(frozen=True, slots=True)
class FollowHalted(Fact):
    SINCE: ClassVar[int] = 2
    name: str
    reason: str


RegionCommand = (
    RegisterTenant
    | ChangeTenantName
    | UnregisterTenant
    | OpenQueue
    | IssueGrant
    | RevokeGrant
    | StartFollow
    | HaltFollow
)
RegionFact = (
    TenantRegistered
    | TenantNameChanged
    | TenantUnregistered
    | QueueOpened
    | GrantIssued
    | GrantRevoked
    | FollowStarted
    | FollowHalted
)


def decide(view: View, command: RegionCommand) -> tuple[RegionFact, ...]:
    """Raises CommandRefused; opening an open queue, or halting what is halted, is no event."""
    match command:
        case RegisterTenant(tenant, name):
            if view.get(b"t" + tenant) is not None:
                raise NameTaken("the tenant is registered")
            return (TenantRegistered(tenant, name),)
        case ChangeTenantName(tenant, name):
            view.get(b"t" + tenant)
            return (TenantNameChanged(tenant, name),)
        case UnregisterTenant(tenant):
            return () if view.get(b"t" + tenant) is None else (TenantUnregistered(tenant),)
        case OpenQueue(domain):
            return () if has_queue(view, domain) else (QueueOpened(domain),)
        case IssueGrant():
            return (_issue(view, command),)
        case RevokeGrant(name):
            row = view.get(b"g" + name.encode())
            if row is None:
                raise NoSuchGrant(f"there is no grant {name}")
            return () if row[6] is not None else (GrantRevoked(name),)
        case StartFollow():
            return (_start(view, command),)
        case HaltFollow(name, reason):
            row = view.get(b"f" + name.encode())
            if row is None:
                raise NoSuchFollow(f"nothing is followed as {name}")
            return () if row[8] is not None else (FollowHalted(name, reason),)
        case _:
            assert_never(command)


def _issue(view: View, command: IssueGrant) -> GrantIssued:
    row = view.get(b"g" + command.name.encode())
    if row is not None and row[6] is None:
        raise NameTaken(f"there is a grant {command.name}; revoke it first, or choose another name")
    home = view.get(b"h" + command.tenant)  # a guard: it may become a replica in the same moment
    if home is not None:
        raise NotAllowed(f"the tenant is a replica here: its home, the cell {home}, grants following it")
    if sum(1 for _ in view.range(b"g")) >= MAX_GRANTS:
        raise TooLarge(f"at most {MAX_GRANTS} grants")
    return GrantIssued(
        command.name, command.tenant, command.account, command.fingerprint, command.expires_ms, command.sealed
    )


def _start(view: View, command: StartFollow) -> FollowStarted:
    before = view.get(b"f" + command.name.encode())
    scope = (command.cell, command.tenant, command.account)
    if before is not None and before[:3] != scope:
        raise NameTaken(f"something else is followed as {command.name}")
    home = view.get(b"h" + command.tenant)  # a guard: each that begins writes it, so no two overlap
    if home is None and view.get(b"t" + command.tenant) is not None:
        raise NotAllowed("this cell is the tenant's home")
    if home is not None and home != command.cell:
        raise NotAllowed(f"the tenant is a replica of the cell {home} here")
    others = [one for one in follows(view) if one.name != command.name]
    if len(others) >= MAX_FOLLOWS:
        raise TooLarge(f"at most {MAX_FOLLOWS} things are followed")
    for one in others:
        if one[1:4] == scope:
            raise NotAllowed(f"that is followed as {one.name}, and goes on under that name (--as {one.name})")
        if one.tenant == command.tenant and WHOLE_TENANT in (one.account, command.account):
            raise NotAllowed(f"that, or a part of it, is followed as {one.name}")
    return FollowStarted(
        command.name,
        command.cell,
        command.tenant,
        command.account,
        command.endpoints,
        command.authority,
        command.certificate,
        command.sealed,
    )


def evolve(view: View, fact: RegionFact, stamp: Stamp) -> None:
    match fact:
        case TenantRegistered():
            view.put(b"t" + fact.tenant, (fact.name, stamp.at_ms))
        case TenantNameChanged():
            row = view.get(b"t" + fact.tenant)
            if row is not None:
                view.put(b"t" + fact.tenant, (fact.name, row[1]))
        case TenantUnregistered():
            view.delete(b"t" + fact.tenant)
        case QueueOpened():
            if not has_queue(view, fact.domain):
                view.put(b"q" + fact.domain.encode(), stamp.at_ms)
        case GrantIssued():
            row = (fact.tenant, fact.account, fact.fingerprint, fact.expires_ms, fact.sealed, stamp.at_ms, None)
            view.put(b"g" + fact.name.encode(), row)
        case GrantRevoked():
            found = view.get(b"g" + fact.name.encode())
            if found is not None:
                view.put(b"g" + fact.name.encode(), (*found[:6], stamp.at_ms))
        case FollowStarted():
            scope = (fact.cell, fact.tenant, fact.account)
            access = (fact.endpoints, fact.authority, fact.certificate, fact.sealed)
            view.put(b"f" + fact.name.encode(), (*scope, *access, stamp.at_ms, None))
            view.put(b"h" + fact.tenant, fact.cell)
        case FollowHalted():
            found = view.get(b"f" + fact.name.encode())
            if found is not None:
                view.put(b"f" + fact.name.encode(), (*found[:8], fact.reason))
        case _:
            assert_never(fact)


def has_queue(view: View, domain: str) -> bool:
    # Not a guard: two openings of one queue are one opening.
    return view.peek(b"q" + domain.encode()) is not None


def tenant_ids(view: View) -> list[tuple[bytes, str]]:
    """Id and name of each tenant, oldest first."""
    return [(key[1:], row[0]) for key, row in view.range(b"t")]


def has_tenant(view: View, tenant: bytes) -> bool:
    """Whether that is the id of a tenant."""
    return view.peek(b"t" + tenant) is not None


def queue_domains(view: View) -> list[str]:
    """The destination domains that ever had a queue, sorted."""
    return [key[1:].decode() for key, _ in view.range(b"q")]


def grants(view: View) -> list[Grant]:
    """All that were issued, revoked ones too, by name."""
    return [Grant(key[1:].decode(), *row) for key, row in view.range(b"g")]


def grant(view: View, name: str) -> Grant | None:
    row = view.peek(b"g" + name.encode())
    return Grant(name, *row) if row else None


def follows(view: View) -> list[Follow]:
    """Everything that is followed here, or was, by name."""
    return [Follow(key[1:].decode(), *row) for key, row in view.range(b"f")]


def home_of(view: View, tenant: bytes) -> str | None:
    """The cell that a tenant has its home in, where that is not this one."""
    home: str | None = view.peek(b"h" + tenant)
    return home


def homes(view: View) -> dict[bytes, str]:
    """Every tenant that is a replica here, with the cell that is its home."""
    return {key[1:]: cell for key, cell in view.range(b"h")}
