"""The rows of a tenant's stream that are its own, and who reads them: T tenant, d domain, a account, c credentials,
l alias, p policy. What its other parts keep there, each of them says.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from actors.region import REGION, tenant_ids
from eventlog.store import Snapshot
from eventlog.views import View

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


def domain_key(domain: str) -> bytes:
    return b"d" + domain.encode()


def account_key(account_id: bytes) -> bytes:
    return b"a" + account_id


def verifiers_key(account_id: bytes) -> bytes:
    return b"c" + account_id


def alias_key(alias_id: bytes) -> bytes:
    return b"l" + alias_id


def tenants(snapshot: Snapshot) -> list[TenantEntry]:
    """All tenants of the region, oldest first."""
    return [TenantEntry(id_, name) for id_, name in tenant_ids(snapshot.view(REGION))]


def accounts(view: View) -> list[Account]:
    """The tenant's accounts, by address."""
    found = [Account(key[1:], *row) for key, row in view.range(b"a")]
    return sorted(found, key=lambda account: account.address)


def account(view: View, account_id: bytes) -> Account | None:
    row = view.peek(account_key(account_id))
    return Account(account_id, *row) if row else None


def aliases(view: View) -> list[Alias]:
    """The tenant's aliases, by address."""
    found = [Alias(key[1:], *row) for key, row in view.range(b"l")]
    return sorted(found, key=lambda alias: alias.address)


def alias(view: View, alias_id: bytes) -> Alias | None:
    row = view.peek(alias_key(alias_id))
    return Alias(alias_id, *row) if row else None


def allows_time_travel(view: View) -> bool:
    """Whether its accounts may log in to their mailboxes as they were; they may unless it was switched off."""
    return view.peek(TIME_TRAVEL_KEY) is not False


def domains(view: View) -> list[Domain]:
    """The tenant's domains, by name."""
    return [Domain(key[1:].decode(), added_ms) for key, added_ms in view.range(b"d")]


def credentials(view: View, account_id: bytes) -> bytes | None:
    """The account's sealed verifiers; None when it has no password and nobody can log in."""
    sealed: bytes | None = view.peek(verifiers_key(account_id))
    return sealed
