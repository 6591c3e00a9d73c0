"""Which address is whose: the accounts that mail for one reaches, and the tenant that a domain or a name belongs to.

Reads of one snapshot, which stand alone. Addresses are normalised here, on the way in.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from actors import groups, tenant_rows
from actors.errors import InvalidName, NoSuchAccount, NoSuchTenant, NotLocal, TooLarge
from actors.names import (
    NameHolder,
    address_name,
    domain_name,
    holder,
    name_stream,
    normalise_address,
    normalise_domain,
    normalise_tenant_name,
    written,
)
from actors.tenant_policy import extension_mark
from actors.tenant_rows import POSTMASTER
from eventlog.store import Snapshot

CATCH_ALL = "*"  # the local part of the alias that takes what nobody in its domain has
MAX_ALIAS_DEPTH = 10
MAX_TARGETS = 100
OUTSIDE = b""  # in place of an account


class Target(NamedTuple):
    """An account that an address leads to, or that somebody logged in as; `address` is the account's own.

    Of an alias that leads out of the cell: OUTSIDE, the tenant of the address that was asked for, and where it leads.
    """

    tenant: bytes
    account: bytes
    address: str

    @property
    def is_outside(self) -> bool:
        return self.account == OUTSIDE


def is_local_domain(snapshot: Snapshot, domain: str) -> bool:
    """Whether mail for the domain is ours to keep; False too for what is no domain."""
    return tenant_with(snapshot, domain) is not None


def tenant_with(snapshot: Snapshot, domain: str) -> bytes | None:
    """The tenant that a domain belongs to, however it is written; None too for what is no domain."""
    try:
        return domain_tenant(snapshot, normalise_domain(domain))
    except InvalidName:
        return None


def domain_tenant(snapshot: Snapshot, domain: str) -> bytes | None:
    """The tenant that a normalised domain belongs to."""
    held = holder(snapshot.view(name_stream(domain_name(domain))))
    return held.tenant if held else None


def resolve(snapshot: Snapshot, address: str, default_domain: str | None = None) -> list[Target] | None:
    """Where mail for `address` goes, following aliases; None: nobody has it, in a domain of ours.

    Behind a mark that the tenant may choose stands an extension (alice+shop@ is alice@); the alias *@domain takes what
    nobody else has.
    "postmaster" needs no domain (RFC 5321 4.5.1); any other bare name is taken in `default_domain`. Aliases are
    followed 10 deep to at most 100 accounts, each once, and 500 more that are members of groups. Raises NotLocal,
    InvalidName; TooLarge beyond those limits, because leaving some recipients out would lose mail that is answered for.
    """
    address = normalise_address(_with_domain(snapshot, address, default_domain))
    tenant = domain_tenant(snapshot, address.rpartition("@")[2])
    if tenant is None:
        raise NotLocal("not one of our domains")
    search = _Search(snapshot, tenant, address)
    level = [address]
    for _ in range(MAX_ALIAS_DEPTH):
        level = search.follow(level)
        if not level or search.is_too_large:
            break
    if level or search.is_too_large:
        raise TooLarge(f"aliases lead further than {MAX_ALIAS_DEPTH} levels or {MAX_TARGETS} accounts")
    return search.found or None


class _Search:
    """What was found so far behind an address of `tenant`, and which addresses were met on the way."""

    def __init__(self, snapshot: Snapshot, tenant: bytes, address: str) -> None:
        self.found: list[Target] = []
        self._snapshot = snapshot
        self._tenant = tenant
        self._seen = {address}
        self._most = MAX_TARGETS

    @property
    def is_too_large(self) -> bool:
        return len(self.found) > self._most

    def follow(self, addresses: list[str]) -> list[str]:
        """Take up whom these addresses lead to; gives where the aliases among them lead on, but not what was met."""
        following: list[str] = []
        for one in addresses:
            held = _receiver(self._snapshot, one)
            if held is None:
                self._add_outside(one)
            elif held.purpose == "account":
                self.found.append(Target(held.tenant, held.owner, one))
            elif held.purpose == "group":
                self._add_members(held)
            else:
                following += _alias_targets(self._snapshot, held)
        level = [one for one in dict.fromkeys(following) if one not in self._seen]
        self._seen.update(level)
        return level

    def _add_outside(self, address: str) -> None:
        if domain_tenant(self._snapshot, address.rpartition("@")[2]) is None:
            self.found.append(Target(self._tenant, OUTSIDE, written(address)))

    def _add_members(self, held: NameHolder) -> None:
        """The group's members that are not reached already."""
        view = self._snapshot.view(held.tenant)
        before = len(self.found)
        for account_id in groups.members(view, held.owner):
            account = tenant_rows.account(view, account_id)
            if account is not None and account.address not in self._seen:
                self._seen.add(account.address)
                self.found.append(Target(held.tenant, account_id, account.address))
        self._most = min(self._most + len(self.found) - before, MAX_TARGETS + groups.MAX_MEMBERS)


def account_of(snapshot: Snapshot, address: str) -> Target:
    """The account of exactly this address, no alias. Raises NoSuchAccount, InvalidName."""
    address = normalise_address(address)
    held = address_holder(snapshot, address)
    if held is None or held.purpose != "account":
        raise NoSuchAccount(f"there is no account {address}")
    return Target(held.tenant, held.owner, address)


def tenant_named(snapshot: Snapshot, name: str) -> bytes:
    """The id of the tenant of that name. Raises NoSuchTenant, InvalidName."""
    held = holder(snapshot.view(name_stream("tenant:" + normalise_tenant_name(name))))
    if held is None:
        raise NoSuchTenant(f"there is no tenant {name}")
    return held.owner


def _with_domain(snapshot: Snapshot, address: str, default_domain: str | None) -> str:
    if "@" in address:
        return address
    if default_domain is None and address.lower() == POSTMASTER:
        default_domain = next(_all_domains(snapshot), None)
    if default_domain is None:
        raise InvalidName("an address has the form name@domain")
    return f"{address}@{default_domain}"


def _all_domains(snapshot: Snapshot) -> Iterator[str]:
    for entry in tenant_rows.tenants(snapshot):
        for domain in tenant_rows.domains(snapshot.view(entry.id)):
            yield domain.name


def address_holder(snapshot: Snapshot, address: str) -> NameHolder | None:
    """Who has exactly this address, which is normalised."""
    return holder(snapshot.view(name_stream(address_name(address))))


def _receiver(snapshot: Snapshot, address: str) -> NameHolder | None:
    """Who gets mail for the address: its holder; whoever has it without its extension (RFC 5233); the catch-all."""
    held = address_holder(snapshot, address)
    if held is not None:
        return held
    local, _, domain = address.rpartition("@")
    plain = _without_extension(snapshot, local, domain)
    if plain:
        held = address_holder(snapshot, f"{plain}@{domain}")
    return held or address_holder(snapshot, f"{CATCH_ALL}@{domain}")


def _without_extension(snapshot: Snapshot, local: str, domain: str) -> str:
    """What stands before the mark of the domain's tenant; "" where there is none."""
    tenant = domain_tenant(snapshot, domain)
    mark = extension_mark(snapshot.view(tenant)) if tenant is not None else ""
    plain, found, _ = local.partition(mark) if mark else ("", "", "")
    return plain if found else ""


def _alias_targets(snapshot: Snapshot, held: NameHolder) -> tuple[str, ...]:
    alias = tenant_rows.alias(snapshot.view(held.tenant), held.owner)
    return alias.targets if alias else ()
