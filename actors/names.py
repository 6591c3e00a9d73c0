"""Names that must be unique in the cell (tenants, domains, addresses): how they are normalised, and who holds them.

Normalising happens once, before the log, and everything after compares bytes. The stated rule: a domain is IDNA
A-labels in lower case; a local part is NFC and case-folded (RFC 5321 2.4 leaves its case to us: we ignore it), an
unneeded quoting removed. Each name is a stream of its own, found by hash, holding one claim; two claims meet in its
one row, so only one is committed.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, assert_never

import idna

from actors.errors import InvalidName, NameTaken, NotAllowed
from actors.kind import Command, Fact
from eventlog.record import Stamp, stream_id
from eventlog.views import View

Purpose = Literal["tenant", "domain", "account", "alias", "group"]

HOLDER_KEY = b"H"
INVISIBLE = ("Cf", "Zl", "Zp", "Co", "Cn")  # categories of Unicode: marks of direction, joiners, what is unassigned
MAX_LOCAL_BYTES = 64  # RFC 5321 4.5.3.1.1
MAX_DOMAIN_BYTES = 255  # RFC 5321 4.5.3.1.2
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_TENANT = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_ESCAPE = re.compile(r"\\(.)")
_MUST_ESCAPE = re.compile(r'(["\\])')
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\x80-\U0010ffff]+"
_DOT_STRING = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")


class NameHolder(NamedTuple):
    tenant: bytes
    owner: bytes  # the id of the tenant, account, alias or group that holds the name
    purpose: Purpose


@dataclass(frozen=True, slots=True)
class ClaimName(Command):
    name: str  # "tenant:example", "domain:example.test" or "address:alice@example.test", normalised
    tenant: bytes
    owner: bytes
    purpose: Purpose


@dataclass(frozen=True, slots=True)
class ReleaseName(Command):
    name: str
    owner: bytes


@dataclass(frozen=True, slots=True)
class NameClaimed(Fact):
    name: str
    tenant: bytes
    owner: bytes
    purpose: Purpose


@dataclass(frozen=True, slots=True)
class NameReleased(Fact):
    name: str
    owner: bytes


NameCommand = ClaimName | ReleaseName
NameFact = NameClaimed | NameReleased


def decide(view: View, command: NameCommand) -> tuple[NameFact, ...]:
    """Raises NameTaken when another holds the name, NotAllowed on releasing a name that one does not hold."""
    row = view.get(HOLDER_KEY)
    match command:
        case ClaimName(name, tenant, owner, purpose):
            if row is not None:
                raise NameTaken(f"{name.partition(':')[2]} is taken")
            _require_visible(name.partition(":")[2].rpartition("@")[0])
            return (NameClaimed(name, tenant, owner, purpose),)
        case ReleaseName(name, owner):
            if row is None or row[1] != owner:
                raise NotAllowed(f"{name.partition(':')[2]} is held by another")
            return (NameReleased(name, owner),)
        case _:
            assert_never(command)


def _require_visible(local: str) -> None:
    """Nobody new is given a local part that looks like another's, or that a log-in to the past would be taken for."""
    if any(unicodedata.category(character) in INVISIBLE for character in local):
        raise InvalidName("a mailbox name has no characters that are not seen")
    if "@@" in local:
        raise InvalidName("@@ stands before the moment in a log-in to the past, and in no mailbox name")


def evolve(view: View, fact: NameFact, stamp: Stamp) -> None:
    """The first claim holds until its owner releases it."""
    row = view.get(HOLDER_KEY)
    match fact:
        case NameClaimed():
            if row is None:
                view.put(HOLDER_KEY, (fact.tenant, fact.owner, fact.purpose))
        case NameReleased():
            if row is not None and row[1] == fact.owner:
                view.delete(HOLDER_KEY)
        case _:
            assert_never(fact)


def holder(view: View) -> NameHolder | None:
    """Who holds the name whose stream this is."""
    row = view.peek(HOLDER_KEY)
    return NameHolder._make(row) if row else None


@lru_cache(4096)
def name_stream(name: str) -> bytes:
    """The stream of a claim, as "domain:example.test"."""
    return stream_id("name", name)


def domain_name(domain: str) -> str:
    return "domain:" + domain


def address_name(address: str) -> str:
    return "address:" + address


@lru_cache(4096)
def normalise_domain(domain: str) -> str:
    """A-labels in lower case; an address literal ("[192.0.2.1]") in lower case. Raises InvalidName."""
    domain = domain.strip().removesuffix(".")
    if domain.startswith("[") and domain.endswith("]") and domain[1:-1].isascii():
        return domain.lower()
    if not domain.isascii():
        domain = _to_ascii(domain)
    domain = domain.lower()
    if len(domain) > MAX_DOMAIN_BYTES or not all(map(_LABEL.fullmatch, domain.split("."))):
        raise InvalidName("not a domain name")
    return domain


@lru_cache(4096)
def normalise_address(address: str) -> str:
    """local-part@domain, normalised as this module states. Raises InvalidName (RFC 5321 4.1.2, RFC 6531 3.3)."""
    local, at, domain = address.strip().rpartition("@")
    if not at:
        raise InvalidName("an address has the form name@domain")
    return f"{normalise_local_part(local)}@{normalise_domain(domain)}"


def normalise_local_part(local: str) -> str:
    """NFC, case-folded, without quoting. Raises InvalidName when it is empty, too long or has control characters."""
    local = unquoted(local)
    local = unicodedata.normalize("NFC", unicodedata.normalize("NFC", local).casefold())
    if not local or any(unicodedata.category(character) in ("Cc", "Cs") for character in local):
        raise InvalidName("not a mailbox name")
    if len(local.encode()) > MAX_LOCAL_BYTES:
        raise InvalidName(f"a mailbox name is at most {MAX_LOCAL_BYTES} octets long")
    return local


def unquoted(local: str) -> str:
    """What a local part says, without the quoting that SMTP may need to write it."""
    if len(local) > 1 and local.startswith('"') and local.endswith('"'):
        return _ESCAPE.sub(r"\1", local[1:-1])
    return local


def written(address: str) -> str:
    """An address whose local part has no quoting, as SMTP writes it: quoted where it must be (RFC 5321 4.1.2)."""
    local, at, domain = address.rpartition("@")
    if not at or _DOT_STRING.fullmatch(local):
        return address
    escaped = _MUST_ESCAPE.sub(r"\\\1", local)
    return f'"{escaped}"@{domain}'


def normalise_tenant_name(name: str) -> str:
    """Lower-case letters, digits and inner hyphens, at most 63. Raises InvalidName."""
    name = name.strip().lower()
    if not _TENANT.fullmatch(name):
        raise InvalidName("a tenant's name has lower-case letters, digits and inner hyphens only, at most 63")
    return name


def _to_ascii(domain: str) -> str:
    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError) as error:
        raise InvalidName("not a domain name") from error
