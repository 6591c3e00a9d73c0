"""Roles: what an account may do in its tenant, or an account or a named administrator in the whole cluster.

A kind of its own that stands on streams of others: on a tenant's for its accounts, on the region's for the cluster.
What a role may is in nodes/logins/callers.py; here is who holds one. One role of the tenant each, and one of the
cluster: a grant takes the place of the one before. Row: r + holder: [role, tenant, name, since_ms].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, assert_never

from actors.errors import NoSuchAccount, NoSuchRole, NotAllowed
from actors.kind import Command, Fact
from actors.region import REGION
from eventlog.record import NO_TENANT, Stamp, stream_id
from eventlog.views import View

CLUSTER_ADMIN, TENANT_ADMIN, HELP_DESK, AUDITOR, USER = "cluster-admin", "tenant-admin", "help-desk", "auditor", "user"
OF_A_TENANT = (TENANT_ADMIN, HELP_DESK, AUDITOR, USER)
OF_THE_CLUSTER = (CLUSTER_ADMIN, HELP_DESK, AUDITOR)


class Held(NamedTuple):
    """`tenant` and `name` are of a role of the cluster: whose account holds it, or which administrator."""

    holder: bytes
    role: str
    tenant: bytes
    name: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class GrantRole(Command):
    """`holder`: an account, or on the region's stream also administrator(name)."""

    holder: bytes
    role: str
    tenant: bytes = b""
    name: str = ""


@dataclass(frozen=True, slots=True)
class RevokeRole(Command):
    holder: bytes


RoleCommand = GrantRole | RevokeRole


@dataclass(frozen=True, slots=True)
class RoleGranted(Fact):
    SINCE: ClassVar[int] = 3
    holder: bytes
    role: str
    tenant: bytes
    name: str


@dataclass(frozen=True, slots=True)
class RoleRevoked(Fact):
    SINCE: ClassVar[int] = 3
    holder: bytes
    role: str


RoleFact = RoleGranted | RoleRevoked


def decide(view: View, command: RoleCommand) -> tuple[RoleFact, ...]:
    """Raises NoSuchAccount, NoSuchRole, NotAllowed for a role that there is not; granting it again is no event."""
    before = view.get(_key(command.holder))
    match command:
        case GrantRole(holder, role, tenant, name):
            _check(view, command)
            if before is not None and tuple(before[:3]) == (role, tenant, name):
                return ()
            return (RoleGranted(holder, role, tenant, name),)
        case RevokeRole(holder):
            if before is None:
                raise NoSuchRole("no such role is held")
            return (RoleRevoked(holder, before[0]),)
        case _:
            assert_never(command)


def _check(view: View, command: GrantRole) -> None:
    among = OF_THE_CLUSTER if view.stream == REGION else OF_A_TENANT
    if command.role not in among:
        where = "the cluster" if view.stream == REGION else "a tenant"
        raise NotAllowed(f"a role of {where} is one of {', '.join(among)}")
    if view.stream != REGION and view.get(b"a" + command.holder) is None:
        raise NoSuchAccount("no such account")


def evolve(view: View, fact: RoleFact, stamp: Stamp) -> None:
    """Total: an account that has gone holds nothing."""
    match fact:
        case RoleGranted():
            if view.stream == REGION or view.get(b"a" + fact.holder) is not None:
                view.put(_key(fact.holder), (fact.role, fact.tenant, fact.name, stamp.at_ms))
        case RoleRevoked():
            view.delete(_key(fact.holder))
        case _:
            assert_never(fact)


def forget(view: View, account: bytes) -> None:
    """The account is deleted."""
    view.delete(_key(account))


def tenant_of(view: View, _: RoleCommand) -> bytes:
    """Whose event it is."""
    return NO_TENANT if view.stream == REGION else view.stream


def administrator(name: str) -> bytes:
    """What an administrator who has a certificate is known by."""
    return stream_id("admin", name)


def role_of(view: View, holder: bytes) -> Held | None:
    """The role that is held by the account or administrator, of the stream that the view is of."""
    row = view.peek(_key(holder))
    return Held(holder, *row) if row is not None else None


def roles(view: View) -> list[Held]:
    """All that are held, of the stream that the view is of."""
    return [Held(key[1:], *row) for key, row in view.range(b"r")]


def _key(holder: bytes) -> bytes:
    return b"r" + holder
