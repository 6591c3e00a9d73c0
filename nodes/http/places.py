"""Whose thing a request is about: the tenant and account that its path, query or body names.

One place holds both how it is found and what is said where it is not there; to a caller who may not know of it, what is
there is answered in the same words and after the same look-ups as what is not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from actors import directory, tenant_admin
from actors.errors import CommandRefused, NoSuchAccount, NoSuchAlias, NoSuchDomain, NoSuchGroup, NoSuchTenant
from actors.names import address_name, holder, name_stream, normalise_address, normalise_domain
from eventlog.store import Snapshot

if TYPE_CHECKING:
    from nodes.http.calls import Call


class Subject(NamedTuple):
    """Whose it is; a tenant of None is the cluster."""

    tenant: bytes | None
    account: bytes | None = None


class Place(NamedTuple):
    """How the subject is found. `find` raises CommandRefused where there is none; then `missing` is what is said."""

    text: str
    find: Callable[[Snapshot, Call], Subject] | None = None
    missing: Callable[[Call], CommandRefused] | None = None


CLUSTER = Place("the cluster")
OWN = Place("the caller's tenant; a caller of the whole cluster sees those of all tenants")


def tenant(read: Callable[[Call], str]) -> Place:
    """The tenant of that name."""
    return Place(
        "the tenant that is named",
        lambda snapshot, call: Subject(directory.tenant_named(snapshot, read(call))),
        lambda call: NoSuchTenant(f"there is no tenant {read(call)}"),
    )


def account(read: Callable[[Call], str]) -> Place:
    """The account of that address."""

    def find(snapshot: Snapshot, call: Call) -> Subject:
        target = directory.account_of(snapshot, read(call))
        return Subject(target.tenant, target.account)

    return Place(
        "the account that is named",
        find,
        lambda call: NoSuchAccount(f"there is no account {normalise_address(read(call))}"),
    )


def alias(read: Callable[[Call], str]) -> Place:
    """The alias of that address."""

    def find(snapshot: Snapshot, call: Call) -> Subject:
        held = holder(snapshot.view(name_stream(address_name(normalise_address(read(call))))))
        if held is None or held.purpose != "alias":
            raise NoSuchAlias
        return Subject(held.tenant)

    return Place(
        "the alias that is named",
        find,
        lambda call: NoSuchAlias(f"there is no alias {normalise_address(read(call))}"),
    )


def group(read: Callable[[Call], str]) -> Place:
    """The group of that address."""

    def find(snapshot: Snapshot, call: Call) -> Subject:
        return Subject(tenant_admin.group_of(snapshot, read(call))[0])

    return Place(
        "the group that is named",
        find,
        lambda call: NoSuchGroup(f"there is no group {normalise_address(read(call))}"),
    )


def domain(read: Callable[[Call], str]) -> Place:
    """The tenant that has the domain, or the domain of the address."""

    def name(call: Call) -> str:
        text = read(call)
        return normalise_address(text).rpartition("@")[2] if "@" in text else normalise_domain(text)

    def find(snapshot: Snapshot, call: Call) -> Subject:
        found = directory.domain_tenant(snapshot, name(call))
        if found is None:
            raise NoSuchDomain
        return Subject(found)

    return Place(
        "the tenant of the domain that is named",
        find,
        lambda call: NoSuchDomain(f"{name(call)} is not one of our domains"),
    )


def in_path(name: str) -> Callable[[Call], str]:
    """The text that the path has there."""
    return lambda call: call.path[name]


def in_body(name: str) -> Callable[[Call], str]:
    """The text that the body has there."""
    return lambda call: _text(call.body, name)


def in_query(name: str) -> Callable[[Call], str]:
    """The text that the query has there."""
    return lambda call: _text(call.query, name)


def _text(model: Any, name: str) -> str:
    found: str = getattr(model, name)
    return found
