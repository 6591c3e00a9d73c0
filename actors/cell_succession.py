"""How another authority takes the place of the cell's own, on the stream of that one (actors/cell_authority.py).

A successor is named and trusted beside the one in force; when every member has said that it trusts it, it issues; when
every member shows a certificate of it, the one before is trusted no more. Each step waits in the log for the next, so
whoever asks for them may be interrupted anywhere. Rows: n the successor, o the one before and since when it is that,
w + node: what a node trusts and whose certificate it shows, while it matters.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, assert_never

from actors import cell_authority
from actors.cell_authority import AUTHORITY_KEY, FORMER_KEY, SUCCESSOR_KEY, Authority
from actors.errors import NotAllowed
from actors.kind import Command, Fact
from eventlog.record import Stamp
from eventlog.views import View

_NODE = b"w"


class Former(NamedTuple):
    """The authority that was followed by another, and is still trusted."""

    certificate: str  # PEM
    followed_ms: int


class Standing(NamedTuple):
    """Fingerprints of what a node trusts, and of the authority of the certificate that it shows."""

    trusted: tuple[bytes, ...]
    issuer: bytes


@dataclass(frozen=True, slots=True)
class NameSuccessor(Command):
    certificate: str
    sealed: bytes


@dataclass(frozen=True, slots=True)
class TellStanding(Command):
    node: str
    trusted: tuple[bytes, ...]
    issuer: bytes


@dataclass(frozen=True, slots=True)
class PromoteSuccessor(Command):
    """`members`: who must trust it."""

    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RetireFormer(Command):
    """`members`: who must show a certificate of the one in force."""

    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CellAuthoritySuccessorNamed(Fact):
    SINCE: ClassVar[int] = 3
    certificate: str
    sealed: bytes


@dataclass(frozen=True, slots=True)
class NodeStandingTold(Fact):
    SINCE: ClassVar[int] = 3
    node: str
    trusted: tuple[bytes, ...]
    issuer: bytes


@dataclass(frozen=True, slots=True)
class CellAuthoritySucceeded(Fact):
    SINCE: ClassVar[int] = 3
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class CellAuthorityRetired(Fact):
    SINCE: ClassVar[int] = 3
    fingerprint: bytes


SuccessionCommand = NameSuccessor | TellStanding | PromoteSuccessor | RetireFormer
SuccessionFact = CellAuthoritySuccessorNamed | NodeStandingTold | CellAuthoritySucceeded | CellAuthorityRetired


def fingerprint(certificate: str) -> bytes:
    """The SHA-256 of a certificate (PEM). Raises ValueError."""
    inner = certificate.partition("-----BEGIN CERTIFICATE-----")[2].partition("-----END")[0]
    return hashlib.sha256(base64.b64decode(inner)).digest()


def decide(view: View, command: SuccessionCommand) -> tuple[SuccessionFact, ...]:
    """Raises NotAllowed: it is not time for that step. What is so already is no event."""
    match command:
        case NameSuccessor():
            return _name(view, command)
        case TellStanding(node, trusted, issuer):
            row = view.get(_NODE + node.encode())
            told = Standing(tuple(row[0]), row[1]) if row is not None else None
            return () if told == (trusted, issuer) else (NodeStandingTold(node, trusted, issuer),)
        case PromoteSuccessor(members):
            return _promote(view, members)
        case RetireFormer(members):
            return _retire(view, members)
        case _:
            assert_never(command)


def _name(view: View, command: NameSuccessor) -> tuple[SuccessionFact, ...]:
    in_force = view.get(AUTHORITY_KEY)
    if in_force is None:
        raise NotAllowed(cell_authority.NOT_KEPT)
    if view.get(FORMER_KEY) is not None:
        raise NotAllowed("the authority before this one is still trusted: mailraft cluster rotate-ca DIR ends that")
    if in_force[0] == command.certificate:
        raise NotAllowed("that is the authority in force")
    named = view.get(SUCCESSOR_KEY)
    if named is not None and named[0] == command.certificate:
        return ()
    return (CellAuthoritySuccessorNamed(command.certificate, command.sealed),)


def _promote(view: View, members: tuple[str, ...]) -> tuple[SuccessionFact, ...]:
    row = view.get(SUCCESSOR_KEY)
    if row is None:
        if view.get(FORMER_KEY) is not None:
            return ()  # it was done before
        raise NotAllowed("no authority was named as the next one: mailraft cluster rotate-ca DIR")
    wanted = fingerprint(row[0])
    without = [name for name in members if not _trusts(view, name, wanted)]
    if without:
        raise NotAllowed(f"the next authority is not trusted yet by {', '.join(without)}")
    return (CellAuthoritySucceeded(wanted),)


def _retire(view: View, members: tuple[str, ...]) -> tuple[SuccessionFact, ...]:
    former, in_force = view.get(FORMER_KEY), view.get(AUTHORITY_KEY)
    if former is None or in_force is None:
        return ()
    wanted = fingerprint(in_force[0])
    without = [name for name in members if not _shows(view, name, wanted)]
    if without:
        raise NotAllowed(f"a certificate of the authority before is still shown by {', '.join(without)}")
    return (CellAuthorityRetired(fingerprint(former[0])),)


def _trusts(view: View, node: str, wanted: bytes) -> bool:
    row = view.get(_NODE + node.encode())
    return row is not None and wanted in row[0]


def _shows(view: View, node: str, wanted: bytes) -> bool:
    row = view.get(_NODE + node.encode())
    return row is not None and row[1] == wanted


def evolve(view: View, fact: SuccessionFact, stamp: Stamp) -> None:
    """Total."""
    match fact:
        case CellAuthoritySuccessorNamed(certificate, sealed):
            view.put(SUCCESSOR_KEY, (certificate, sealed))
        case NodeStandingTold(node, trusted, issuer):
            view.put(_NODE + node.encode(), (trusted, issuer))
        case CellAuthoritySucceeded():
            _succeed(view, stamp)
        case CellAuthorityRetired():
            for key in [FORMER_KEY, *(key for key, _ in view.range(_NODE))]:
                view.delete(key)
        case _:
            assert_never(fact)


def _succeed(view: View, stamp: Stamp) -> None:
    followed, following = view.get(AUTHORITY_KEY), view.get(SUCCESSOR_KEY)
    if followed is not None and following is not None:
        view.put(FORMER_KEY, (followed[0], stamp.at_ms))
        view.put(AUTHORITY_KEY, following)
        view.delete(SUCCESSOR_KEY)


def successor(view: View) -> Authority | None:
    """Who is to issue next."""
    row = view.peek(SUCCESSOR_KEY)
    return Authority(*row) if row else None


def former(view: View) -> Former | None:
    """Who issued before, while it is trusted."""
    row = view.peek(FORMER_KEY)
    return Former(*row) if row else None


def standings(view: View) -> dict[str, Standing]:
    """What each node said last, by its name; nothing where nothing goes on."""
    return {key[1:].decode(): Standing(tuple(row[0]), row[1]) for key, row in view.range(_NODE)}


def trusted(view: View) -> list[str]:
    """Certificates (PEM) of the authorities that are trusted now, the one in force first; none where it is not kept."""
    found = (cell_authority.authority(view), successor(view), former(view))
    return [one.certificate for one in found if one is not None] if found[0] is not None else []
