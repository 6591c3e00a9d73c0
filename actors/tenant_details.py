"""What is said of a tenant (its name, its title, whom to write to), and the end of one of its domains, or of all.

A part of the tenant kind (actors/tenant.py). Row: i, the details.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, assert_never

from actors.errors import NoSuchDomain, NotAllowed
from actors.kind import Command, Fact
from actors.tenant_rows import TENANT_KEY, domain_key
from eventlog.views import View

DETAILS_KEY = b"i"
MAX_TITLE_CHARACTERS = 200
POSTMASTER_PREFIX = "postmaster@"


class Details(NamedTuple):
    """`contact`: the address that is told of what concerns the tenant as a whole; "" for none."""

    title: str = ""
    contact: str = ""


@dataclass(frozen=True, slots=True)
class SetDetails(Command):
    """None: as it is. `contact` is normalised, or "" for none."""

    title: str | None = None
    contact: str | None = None


@dataclass(frozen=True, slots=True)
class RenameTenant(Command):
    """The name itself is claimed and released in the same record (actors/names.py)."""

    name: str


@dataclass(frozen=True, slots=True)
class RemoveDomain(Command):
    """With its postmaster, by the id of that account (b"": it has gone). Nothing else is in the domain."""

    domain: str
    postmaster: bytes


@dataclass(frozen=True, slots=True)
class CloseTenant(Command):
    """All that it had has gone; what is left are rows of its own, which go with this."""


@dataclass(frozen=True, slots=True)
class DetailsSet(Fact):
    SINCE: ClassVar[int] = 3
    title: str
    contact: str


@dataclass(frozen=True, slots=True)
class TenantRenamed(Fact):
    SINCE: ClassVar[int] = 3
    name: str


@dataclass(frozen=True, slots=True)
class DomainRemoved(Fact):
    SINCE: ClassVar[int] = 3
    domain: str


@dataclass(frozen=True, slots=True)
class TenantClosed(Fact):
    SINCE: ClassVar[int] = 3


DetailsCommand = SetDetails | RenameTenant | RemoveDomain | CloseTenant
DetailsFact = DetailsSet | TenantRenamed | DomainRemoved | TenantClosed


def decide(view: View, command: SetDetails | RenameTenant | CloseTenant) -> tuple[DetailsFact, ...]:
    """Raises NotAllowed."""
    match command:
        case SetDetails():
            return _set_details(view, command)
        case RenameTenant(name):
            return (TenantRenamed(name),)
        case CloseTenant():
            return (TenantClosed(),)
        case _:
            assert_never(command)


def _set_details(view: View, command: SetDetails) -> tuple[DetailsSet, ...]:
    view.get(DETAILS_KEY)
    before = details(view)
    after = Details(
        before.title if command.title is None else command.title,
        before.contact if command.contact is None else command.contact,
    )
    if command.title is not None and (len(after.title) > MAX_TITLE_CHARACTERS or not after.title.isprintable()):
        raise NotAllowed(f"a title has at most {MAX_TITLE_CHARACTERS} printable characters")
    return (DetailsSet(*after),) if after != before else ()


def decide_removal(view: View, command: RemoveDomain) -> DomainRemoved:
    """Raises NoSuchDomain, NotAllowed."""
    if view.get(domain_key(command.domain)) is None:
        raise NoSuchDomain(f"{command.domain} is not a domain of this tenant")
    found = _addresses_in(view, command.domain)
    kept = POSTMASTER_PREFIX + command.domain if command.postmaster else ""
    left = next((one for one in found if one != kept), None)
    if left is not None:
        raise NotAllowed(f"{left} is still in that domain: what has an address there goes first")
    return DomainRemoved(command.domain)


def _addresses_in(view: View, domain: str) -> Iterator[str]:
    end = "@" + domain
    for prefix in (b"a", b"l", b"g"):
        for _, row in view.range(prefix):
            if row[0].endswith(end):
                yield row[0]


def evolve(view: View, fact: DetailsFact) -> None:
    """Total: what is no longer there is left as it is."""
    match fact:
        case DetailsSet():
            view.put(DETAILS_KEY, (fact.title, fact.contact))
        case TenantRenamed():
            row = view.get(TENANT_KEY)
            if row is not None:
                view.put(TENANT_KEY, (fact.name, row[1]))
        case DomainRemoved():
            view.delete(domain_key(fact.domain))
        case TenantClosed():
            for key, _ in list(view.range(b"")):
                view.delete(key)
        case _:
            assert_never(fact)


def details(view: View) -> Details:
    row = view.peek(DETAILS_KEY)
    return Details(*row) if row else Details()
