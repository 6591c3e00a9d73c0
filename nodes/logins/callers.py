"""Who asks the admin API, and what they may: roles, scopes, tenants, in one function.

A permission is `topic:read` or `topic:write`. A caller of a tenant has it in that tenant only, a caller of no tenant in
the whole cluster; scopes only ever narrow what the role may. Nothing here reads the log: nodes/http finds the caller
(a certificate or a token) and what the request is about, and asks `permits`. What a caller may not even know of is
answered as what is not there (`knows`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from actors import roles
from actors.roles import AUDITOR, CLUSTER_ADMIN, HELP_DESK, TENANT_ADMIN, USER
from eventlog.record import By

READ, WRITE = "read", "write"
TENANT_TOPICS = frozenset({
    "accounts", "aliases", "credentials", "dkim", "domains", "limits", "log", "mailboxes", "policies", "queue",
    "redaction", "reports", "roles", "search", "shares", "tenants", "tokens",
})  # fmt: skip
CLUSTER_TOPICS = frozenset({"backup", "certificates", "cluster", "config", "regions", "routes"})
MAIL_TOPICS = frozenset({"mailboxes", "search"})  # what shows somebody's mail
TOPICS = TENANT_TOPICS | CLUSTER_TOPICS
PERMISSIONS = frozenset(f"{topic}:{what}" for topic in TOPICS for what in (READ, WRITE))


def _of(topics: Iterable[str], *what: str) -> frozenset[str]:
    return frozenset(f"{topic}:{one}" for topic in topics for one in what)


ROLES: dict[str, frozenset[str]] = {
    CLUSTER_ADMIN: PERMISSIONS,
    TENANT_ADMIN: _of(TENANT_TOPICS, READ, WRITE),
    HELP_DESK: _of(("accounts", "aliases", "credentials", "domains"), READ) | _of(("credentials",), WRITE),
    AUDITOR: _of(TOPICS - MAIL_TOPICS, READ),
    USER: _of(("accounts",), READ) | _of(("credentials", "mailboxes", "search", "shares", "tokens"), READ, WRITE),
}


@dataclass(frozen=True, slots=True)
class Caller:
    """`tenant` None: the whole cluster. `scopes`: permissions that the role is narrowed to; none: all of the role.

    `account`: whose credentials these are, where they are an account's; the role `user` reaches that account alone.
    """

    name: str
    role: str
    tenant: bytes | None
    scopes: frozenset[str]
    by: By
    account: bytes | None = None


def administrator(name: str, remote: str) -> Caller:
    """Who shows an administrator's certificate of the cell; `remote`: the address that they come from."""
    by = By("admin", roles.administrator(name), f"admin {name} {remote}")
    return Caller(name, CLUSTER_ADMIN, None, frozenset(), by)


def permits(caller: Caller, permission: str, tenant: bytes | None, account: bytes | None = None) -> bool:
    """Whether the caller may do that. `tenant`: whose thing it is, None for the cluster's; `account`: the one that it
    is about, None where it is about none or about many."""
    if permission not in ROLES.get(caller.role, frozenset()) or (caller.scopes and permission not in caller.scopes):
        return False
    if caller.tenant is not None and caller.tenant != tenant:
        return False
    return caller.role != USER or (account is not None and account == caller.account)


def covers(caller: Caller, role: str, scopes: frozenset[str], tenant: bytes | None) -> bool:
    """Whether the caller may all that this would be: nobody gives what they do not have."""
    given = Caller("", role, tenant, scopes, caller.by)
    return caller.tenant in (None, tenant) and permissions(given) <= permissions(caller)


def knows(caller: Caller, tenant: bytes | None) -> bool:
    """Whether the caller may know that something of this tenant is there: if not, a refusal is "not found" (404), in
    the words and at the cost of what is not there. What the cluster has at all (None) is no secret (403)."""
    return tenant is None or caller.tenant is None or caller.tenant == tenant


def permissions(caller: Caller) -> frozenset[str]:
    """All that the caller may, in its tenant or in the cluster."""
    found = ROLES.get(caller.role, frozenset())
    if caller.tenant is not None:
        found = frozenset(one for one in found if one.partition(":")[0] in TENANT_TOPICS)
    return found & caller.scopes if caller.scopes else found


def expand(scopes: Iterable[str]) -> frozenset[str]:
    """Scopes as people write them: `accounts:read`, `accounts:*`, `*:read`. Raises ValueError, naming the wrong one."""
    found: set[str] = set()
    for scope in scopes:
        topic, _, what = scope.strip().partition(":")
        named = {one for one in PERMISSIONS if _fits(one, topic, what)}
        if not named:
            raise ValueError(scope)
        found |= named
    return frozenset(found)


def _fits(permission: str, topic: str, what: str) -> bool:
    own_topic, _, own_what = permission.partition(":")
    return topic in (own_topic, "*") and what in (own_what, "*")
