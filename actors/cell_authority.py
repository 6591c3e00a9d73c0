"""The cell's own authority on its log: its sealed key, tokens with which nodes join, and calls for new certificates.

One stream. With the key here any member can issue certificates to nodes, so that a node needs nothing from the machine
that the cell was made on. A token is for one node, once, and for a time; the log holds its hash alone. Rows: A the
authority, t + id a token, r when new certificates were last called for.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, assert_never

from actors.errors import NotAllowed, TooLarge
from actors.kind import Command, Fact
from eventlog.record import Stamp, stream_id
from eventlog.views import View

AUTHORITY = stream_id("cell", "authority")
MAX_TOKENS = 100
NO_TOKEN = "the token is not good: it was used, has expired, or was never issued"
NOT_KEPT = "the cell's authority is not in its log: mailraft cluster token create DIR brings it there"
AUTHORITY_KEY = b"A"
SUCCESSOR_KEY, FORMER_KEY = b"n", b"o"  # actors/cell_succession.py
ROTATION_KEY = b"r"


class Authority(NamedTuple):
    certificate: str  # PEM
    sealed: bytes


class Token(NamedTuple):
    """`digest` is the SHA-256 of its secret."""

    id: bytes
    name: str  # of the node that it is for
    digest: bytes
    expires_ms: int


@dataclass(frozen=True, slots=True)
class KeepAuthority(Command):
    certificate: str
    sealed: bytes


@dataclass(frozen=True, slots=True)
class IssueToken(Command):
    id: bytes
    name: str
    digest: bytes
    expires_ms: int
    now_ms: int


@dataclass(frozen=True, slots=True)
class UseToken(Command):
    id: bytes
    digest: bytes
    fingerprint: bytes  # of the certificate that is issued for it
    now_ms: int


@dataclass(frozen=True, slots=True)
class RevokeToken(Command):
    id: bytes


@dataclass(frozen=True, slots=True)
class CallForCertificates(Command):
    pass


@dataclass(frozen=True, slots=True)
class CellAuthorityStored(Fact):
    SINCE: ClassVar[int] = 3
    certificate: str
    sealed: bytes


@dataclass(frozen=True, slots=True)
class JoinTokenIssued(Fact):
    SINCE: ClassVar[int] = 3
    id: bytes
    name: str
    digest: bytes
    expires_ms: int


@dataclass(frozen=True, slots=True)
class JoinTokenUsed(Fact):
    SINCE: ClassVar[int] = 3
    id: bytes
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class JoinTokenRevoked(Fact):
    SINCE: ClassVar[int] = 3
    id: bytes


@dataclass(frozen=True, slots=True)
class NodeCertificatesRequested(Fact):
    SINCE: ClassVar[int] = 3


AuthorityCommand = KeepAuthority | IssueToken | UseToken | RevokeToken | CallForCertificates
AuthorityFact = CellAuthorityStored | JoinTokenIssued | JoinTokenUsed | JoinTokenRevoked | NodeCertificatesRequested


def authority_place(certificate: str) -> bytes:
    """What the authority's key is sealed to."""
    return b"cell/authority/" + certificate.encode()


def decide(view: View, command: AuthorityCommand) -> tuple[AuthorityFact, ...]:
    """Raises NotAllowed (no authority; a token that is not good any more), TooLarge."""
    match command:
        case KeepAuthority(certificate, sealed):
            kept = authority(view)
            return () if kept and kept.certificate == certificate else (CellAuthorityStored(certificate, sealed),)
        case IssueToken(id_, name, digest, expires_ms, now_ms):
            _require_authority(view)
            if sum(1 for one in tokens(view) if one.expires_ms > now_ms) >= MAX_TOKENS:
                raise TooLarge(f"at most {MAX_TOKENS} tokens at a time")
            return (JoinTokenIssued(id_, name, digest, expires_ms),)
        case UseToken(id_, digest, fingerprint, now_ms):
            row = view.get(b"t" + id_)
            if row is None or not hmac.compare_digest(row[1], digest) or row[2] <= now_ms:
                raise NotAllowed(NO_TOKEN)
            return (JoinTokenUsed(id_, fingerprint),)
        case RevokeToken(id_):
            return () if view.get(b"t" + id_) is None else (JoinTokenRevoked(id_),)
        case CallForCertificates():
            _require_authority(view)
            return (NodeCertificatesRequested(),)
        case _:
            assert_never(command)


def _require_authority(view: View) -> None:
    if view.get(AUTHORITY_KEY) is None:
        raise NotAllowed(NOT_KEPT)


def evolve(view: View, fact: AuthorityFact, stamp: Stamp) -> None:
    """Tokens that have expired go when another is issued."""
    match fact:
        case CellAuthorityStored(certificate, sealed):
            view.put(AUTHORITY_KEY, (certificate, sealed))
            for key in (SUCCESSOR_KEY, FORMER_KEY):  # of a cell that this one was restored from
                view.delete(key)
        case JoinTokenIssued(id_, name, digest, expires_ms):
            for one in tokens(view):
                if one.expires_ms <= stamp.at_ms:
                    view.delete(b"t" + one.id)
            view.put(b"t" + id_, (name, digest, expires_ms))
        case JoinTokenUsed(id_) | JoinTokenRevoked(id_):
            if view.get(b"t" + id_) is not None:
                view.delete(b"t" + id_)
        case NodeCertificatesRequested():
            view.put(ROTATION_KEY, stamp.at_ms)
        case _:
            assert_never(fact)


def authority(view: View) -> Authority | None:
    row = view.peek(AUTHORITY_KEY)
    return Authority(*row) if row else None


def token(view: View, id_: bytes) -> Token | None:
    row = view.peek(b"t" + id_)
    return Token(id_, *row) if row else None


def tokens(view: View) -> list[Token]:
    """Those that were not used; some may have expired."""
    return [Token(key[1:], *row) for key, row in view.range(b"t")]


def called_ms(view: View) -> int:
    """When new certificates were called for last: older ones are replaced. 0: never."""
    return int(view.peek(ROTATION_KEY) or 0)
