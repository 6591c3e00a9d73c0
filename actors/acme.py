"""Certificates that the cell orders and renews by itself (ACME, RFC 8555): its account, what it orders, how far it is.

One stream. An order stands here with its address at the authority and its sealed key before anything is asked to be
validated, so that whichever node leads next goes on with it; challenges stand here so that every node answers them.
The certificate itself goes to actors/certificates.py in the record that ends the order. Rows: A the account, m + id
what is kept in certificates, t + token what answers an HTTP-01 challenge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, assert_never

from actors.errors import NameTaken, NoSuchCertificate, NotAllowed, TooLarge
from actors.kind import Command, Fact
from eventlog.record import NO_TENANT, Stamp, stream_id
from eventlog.views import View

ACME = stream_id("acme", "root")
MAX_MANAGED = 10_000
MAX_NAMES = 100  # as most authorities take in one order
MAX_TEXT = 500
FIRST_RETRY_MS, MOST_RETRY_MS = 60_000, 24 * 3600_000
ACCOUNT_KEY = b"A"

Challenge = Literal["http-01", "dns-01"]
Answers = tuple[tuple[str, str, str], ...]  # name, token, key authorization


class Account(NamedTuple):
    """`url` is the account's own address at the authority; the key is sealed to the directory's."""

    directory: str
    contacts: tuple[str, ...]
    url: str
    sealed: bytes


class Managed(NamedTuple):
    """A certificate for `names` that is kept valid. `order` "": none is under way. due_ms 0: at once."""

    id: bytes
    tenant: bytes
    names: tuple[str, ...]
    challenge: Challenge
    order: str
    sealed: bytes  # the key of the certificate that is being ordered
    answers: Answers
    fingerprint: bytes  # of the one that was got last
    due_ms: int
    failures: int  # in a row
    problem: str  # why the last one failed


@dataclass(frozen=True, slots=True)
class SetAccount(Command):
    directory: str
    contacts: tuple[str, ...]
    url: str
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Manage(Command):
    id: bytes
    tenant: bytes
    names: tuple[str, ...]
    challenge: Challenge


@dataclass(frozen=True, slots=True)
class Release(Command):
    id: bytes


@dataclass(frozen=True, slots=True)
class PlanRenewal(Command):
    id: bytes
    due_ms: int


@dataclass(frozen=True, slots=True)
class PlaceOrder(Command):
    id: bytes
    order: str
    sealed: bytes
    answers: Answers


@dataclass(frozen=True, slots=True)
class FinishOrder(Command):
    id: bytes
    order: str
    fingerprint: bytes
    due_ms: int


@dataclass(frozen=True, slots=True)
class FailOrder(Command):
    """`order` "": it could not even be placed."""

    id: bytes
    order: str
    problem: str


@dataclass(frozen=True, slots=True)
class AcmeAccountSet(Fact):
    SINCE: ClassVar[int] = 3
    directory: str
    contacts: tuple[str, ...]
    url: str
    sealed: bytes


@dataclass(frozen=True, slots=True)
class AcmeNamesManaged(Fact):
    SINCE: ClassVar[int] = 3
    id: bytes
    tenant: bytes
    names: tuple[str, ...]
    challenge: Challenge


@dataclass(frozen=True, slots=True)
class AcmeNamesReleased(Fact):
    SINCE: ClassVar[int] = 3
    id: bytes


@dataclass(frozen=True, slots=True)
class AcmeRenewalPlanned(Fact):
    SINCE: ClassVar[int] = 3
    id: bytes
    due_ms: int


@dataclass(frozen=True, slots=True)
class AcmeOrderPlaced(Fact):
    SINCE: ClassVar[int] = 3
    id: bytes
    order: str
    sealed: bytes
    answers: Answers


@dataclass(frozen=True, slots=True)
class AcmeOrderFinished(Fact):
    SINCE: ClassVar[int] = 3
    id: bytes
    order: str
    fingerprint: bytes
    due_ms: int


@dataclass(frozen=True, slots=True)
class AcmeOrderFailed(Fact):
    SINCE: ClassVar[int] = 3
    id: bytes
    order: str
    problem: str


AcmeCommand = SetAccount | Manage | Release | PlanRenewal | PlaceOrder | FinishOrder | FailOrder
AcmeFact = (
    AcmeAccountSet
    | AcmeNamesManaged
    | AcmeNamesReleased
    | AcmeRenewalPlanned
    | AcmeOrderPlaced
    | AcmeOrderFinished
    | AcmeOrderFailed
)


def account_place(directory: str) -> bytes:
    """What an account's key is sealed to."""
    return b"acme/account/" + directory.encode()


def order_place(id_: bytes) -> bytes:
    """What the key of a certificate that is being ordered is sealed to."""
    return b"acme/order/" + id_


def decide(view: View, command: AcmeCommand) -> tuple[AcmeFact, ...]:
    """Raises NoSuchCertificate, NotAllowed (no account; another node's order), NameTaken, TooLarge."""
    match command:
        case SetAccount(directory, contacts, url, sealed):
            return (AcmeAccountSet(directory, contacts, url, sealed),)
        case Manage():
            return (_manage(view, command),)
        case Release(id_):
            _require(view, id_)
            return (AcmeNamesReleased(id_),)
        case PlanRenewal(id_, due_ms):
            return () if _require(view, id_).due_ms == due_ms else (AcmeRenewalPlanned(id_, due_ms),)
        case PlaceOrder(id_, order, sealed, answers):
            _require_order(view, id_, "")
            return (AcmeOrderPlaced(id_, order, sealed, answers),)
        case FinishOrder(id_, order, fingerprint, due_ms):
            _require_order(view, id_, order)
            return (AcmeOrderFinished(id_, order, fingerprint, due_ms),)
        case FailOrder(id_, order, problem):
            _require_order(view, id_, order)
            return (AcmeOrderFailed(id_, order, problem[:MAX_TEXT]),)
        case _:
            assert_never(command)


def _manage(view: View, command: Manage) -> AcmeNamesManaged:
    if view.get(ACCOUNT_KEY) is None:
        raise NotAllowed("the cell has no account at an ACME authority: mailraft certificate account")
    if not 1 <= len(command.names) <= MAX_NAMES:
        raise TooLarge(f"1 to {MAX_NAMES} names in one certificate")
    if command.challenge == "http-01" and any(name.startswith("*.") for name in command.names):
        raise NotAllowed("a wildcard is validated over DNS only: --dns")
    others = managed(view)
    if len(others) >= MAX_MANAGED:
        raise TooLarge(f"at most {MAX_MANAGED} certificates are kept")
    for other in others:
        if set(other.names) == set(command.names):
            raise NameTaken(f"a certificate for {', '.join(command.names)} is kept already")
    return AcmeNamesManaged(command.id, command.tenant, command.names, command.challenge)


def _require(view: View, id_: bytes) -> Managed:
    row = view.get(_key(id_))
    if row is None:
        raise NoSuchCertificate("no such certificate is kept")
    return Managed(id_, *row)


def _require_order(view: View, id_: bytes, order: str) -> None:
    if _require(view, id_).order != order:
        raise NotAllowed("another order is under way")


def evolve(view: View, fact: AcmeFact, stamp: Stamp) -> None:
    """Total: what is said of a certificate that is kept no more is passed over."""
    match fact:
        case AcmeAccountSet():
            view.put(ACCOUNT_KEY, (fact.directory, fact.contacts, fact.url, fact.sealed))
        case AcmeNamesManaged(id_, tenant, names, challenge):
            _put(view, Managed(id_, tenant, names, challenge, "", b"", (), b"", 0, 0, ""))
        case _:
            row = view.get(_key(fact.id))
            if row is not None:
                _evolve(view, fact, Managed(fact.id, *row), stamp.at_ms)


def _evolve(
    view: View,
    fact: AcmeNamesReleased | AcmeRenewalPlanned | AcmeOrderPlaced | AcmeOrderFinished | AcmeOrderFailed,
    one: Managed,
    at_ms: int,
) -> None:
    match fact:
        case AcmeNamesReleased():
            _end(view, one)
            view.delete(_key(one.id))
        case AcmeRenewalPlanned():
            _put(view, one._replace(due_ms=fact.due_ms))
        case AcmeOrderPlaced():
            _put(view, one._replace(order=fact.order, sealed=fact.sealed, answers=fact.answers))
            for _, token, authorization in fact.answers:
                view.put(b"t" + token.encode(), authorization)
        case AcmeOrderFinished():
            ended = _end(view, one)
            _put(view, ended._replace(fingerprint=fact.fingerprint, due_ms=fact.due_ms, failures=0, problem=""))
        case AcmeOrderFailed():
            ended = _end(view, one)
            due_ms = at_ms + min(FIRST_RETRY_MS * 2 ** min(one.failures, 20), MOST_RETRY_MS)
            _put(view, ended._replace(due_ms=due_ms, failures=one.failures + 1, problem=fact.problem))
        case _:
            assert_never(fact)


def _end(view: View, one: Managed) -> Managed:
    """Without its order and the answers to its challenges."""
    for _, token, _ in one.answers:
        if view.get(b"t" + token.encode()) is not None:
            view.delete(b"t" + token.encode())
    return one._replace(order="", sealed=b"", answers=())


def account(view: View) -> Account | None:
    """The cell's account; None before there is one."""
    row = view.peek(ACCOUNT_KEY)
    return Account(*row) if row else None


def managed(view: View) -> list[Managed]:
    """Every certificate that is kept valid, by its first name."""
    return sorted((Managed(key[1:], *row) for key, row in view.range(b"m")), key=lambda one: one.names)


def authorization(view: View, token: str) -> str | None:
    """What answers an HTTP-01 challenge (RFC 8555 8.3)."""
    found: str | None = view.peek(b"t" + token.encode())
    return found


def tenant_of(view: View, command: AcmeCommand) -> bytes:
    """Whose event a command makes."""
    if isinstance(command, SetAccount):
        return NO_TENANT
    if isinstance(command, Manage):
        return command.tenant
    row = view.peek(_key(command.id))
    return Managed(command.id, *row).tenant if row else NO_TENANT


def _key(id_: bytes) -> bytes:
    return b"m" + id_


def _put(view: View, one: Managed) -> None:
    view.put(_key(one.id), tuple(one)[1:])
