"""Tokens of the admin API: 256 random bits, shown once; the log keeps a hash, sealed under the cluster's key.

A kind of its own that stands on streams of others: on a tenant's for what is the tenant's, on the region's for the
cluster. A token says where it stands, so that it is found by one read. It speaks for an account, with whatever role
that has there at the moment, or for itself with a role of its own; scopes narrow either. One that stands on a tenant's
stream never has a role of the cluster, whatever its account is granted later. Row: K + id.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import ClassVar, NamedTuple, assert_never

from actors.errors import NoSuchAccount, NoSuchToken, NotAllowed, TooLarge
from actors.kind import Command, Fact
from actors.region import REGION
from actors.roles import OF_A_TENANT, OF_THE_CLUSTER, USER
from eventlog.record import NO_TENANT, Stamp
from eventlog.views import View

MARK = "mrt_"  # so that who finds one in a file knows what it is
STREAM_BYTES, ID_BYTES, SECRET_BYTES = 16, 8, 32
MAX_TOKENS = 1000  # of a tenant
MAX_NAME = 64
MAX_SCOPES = 100
DAY_MS = 86_400_000
_WRITTEN = len(base64.urlsafe_b64encode(bytes(STREAM_BYTES + ID_BYTES + SECRET_BYTES)).rstrip(b"="))


class Presented(NamedTuple):
    """A token that somebody shows: where it would stand, and what proves it."""

    stream: bytes
    id: bytes
    secret: bytes


class ApiToken(NamedTuple):
    """`role` "": that of `account`, as it is when the token is used. `used_ms`: not finer than a day."""

    id: bytes
    name: str
    role: str
    scopes: tuple[str, ...]
    account: bytes
    expires_ms: int | None
    created_ms: int
    sealed: bytes
    used_ms: int | None


@dataclass(frozen=True, slots=True)
class CreateApiToken(Command):
    id: bytes
    name: str
    role: str
    scopes: tuple[str, ...]
    account: bytes
    expires_ms: int | None
    sealed: bytes


@dataclass(frozen=True, slots=True)
class RevokeApiToken(Command):
    id: bytes


@dataclass(frozen=True, slots=True)
class NoteApiTokenUse(Command):
    id: bytes
    at_ms: int


ApiTokenCommand = CreateApiToken | RevokeApiToken | NoteApiTokenUse


@dataclass(frozen=True, slots=True)
class ApiTokenCreated(Fact):
    SINCE: ClassVar[int] = 3
    id: bytes
    name: str
    role: str
    scopes: tuple[str, ...]
    account: bytes
    expires_ms: int | None
    sealed: bytes


@dataclass(frozen=True, slots=True)
class ApiTokenRevoked(Fact):
    SINCE: ClassVar[int] = 3
    id: bytes
    name: str


@dataclass(frozen=True, slots=True)
class ApiTokenUsed(Fact):
    SINCE: ClassVar[int] = 3
    id: bytes
    at_ms: int


ApiTokenFact = ApiTokenCreated | ApiTokenRevoked | ApiTokenUsed


def decide(view: View, command: ApiTokenCommand) -> tuple[ApiTokenFact, ...]:
    """Raises NoSuchAccount, NoSuchToken, NotAllowed, TooLarge."""
    match command:
        case CreateApiToken():
            return (_create(view, command),)
        case RevokeApiToken(id_):
            return (ApiTokenRevoked(id_, _existing(view, id_).name),)
        case NoteApiTokenUse(id_, at_ms):
            used_ms = _existing(view, id_).used_ms
            known = used_ms is not None and at_ms - used_ms < DAY_MS
            return () if known else (ApiTokenUsed(id_, at_ms),)
        case _:
            assert_never(command)


def _create(view: View, command: CreateApiToken) -> ApiTokenCreated:
    of_cluster = view.stream == REGION
    if len(command.name) > MAX_NAME or not (command.name or " ").isprintable():
        raise NotAllowed(f"a token is called by at most {MAX_NAME} printable characters")
    if command.account:
        if command.role or view.get((b"r" if of_cluster else b"a") + command.account) is None:
            raise NoSuchAccount("no such account, or it has no role of the cluster")
    elif command.role == USER or command.role not in (OF_THE_CLUSTER if of_cluster else OF_A_TENANT):
        roles = ", ".join(role for role in (OF_THE_CLUSTER if of_cluster else OF_A_TENANT) if role != USER)
        raise NotAllowed(f"a token speaks for an account, or has a role: {roles}")
    if len(command.scopes) > MAX_SCOPES:
        raise TooLarge(f"a token has at most {MAX_SCOPES} scopes")
    if sum(1 for _ in view.range(b"K")) >= MAX_TOKENS:
        raise TooLarge(f"there are {MAX_TOKENS} tokens already: revoke some")
    return ApiTokenCreated(
        command.id, command.name, command.role, command.scopes, command.account, command.expires_ms, command.sealed
    )


def _existing(view: View, id_: bytes) -> ApiToken:
    row = view.get(b"K" + id_)
    if row is None:
        raise NoSuchToken("no such token")
    return ApiToken(id_, *row)


def evolve(view: View, fact: ApiTokenFact, stamp: Stamp) -> None:
    """Total: a token that is no longer there was not used, and one of nobody is not made."""
    match fact:
        case ApiTokenCreated():
            if not fact.account or view.stream == REGION or view.get(b"a" + fact.account) is not None:
                row = (fact.name, fact.role, fact.scopes, fact.account, fact.expires_ms, stamp.at_ms, fact.sealed, None)
                view.put(b"K" + fact.id, row)
        case ApiTokenRevoked():
            view.delete(b"K" + fact.id)
        case ApiTokenUsed():
            row = view.get(b"K" + fact.id)
            if row is not None:
                view.put(b"K" + fact.id, (*row[:7], fact.at_ms))
        case _:
            assert_never(fact)


def forget(view: View, account: bytes) -> None:
    """The account is deleted: nobody speaks for it any more."""
    for one in api_tokens(view):
        if one.account == account:
            view.delete(b"K" + one.id)


def tenant_of(view: View, _: ApiTokenCommand) -> bytes:
    """Whose event it is."""
    return NO_TENANT if view.stream == REGION else view.stream


def api_token(view: View, id_: bytes) -> ApiToken | None:
    """The token of that id, expired or not, of the stream that the view is of."""
    row = view.peek(b"K" + id_)
    return ApiToken(id_, *row) if row is not None else None


def api_tokens(view: View) -> list[ApiToken]:
    """All of the stream that the view is of, oldest first; those that have expired too."""
    found = [ApiToken(key[1:], *row) for key, row in view.range(b"K")]
    return sorted(found, key=lambda one: (one.created_ms, one.id))


# -- the text that is shown once


def generate(stream: bytes, entropy: Callable[[int], bytes]) -> tuple[Presented, str]:
    """A new token of a stream, and the text that is shown for it."""
    made = Presented(stream, entropy(ID_BYTES), entropy(SECRET_BYTES))
    return made, MARK + base64.urlsafe_b64encode(b"".join(made)).rstrip(b"=").decode()


def parse(text: str) -> Presented | None:
    """What somebody shows; None for what can not be a token."""
    written = text.removeprefix(MARK)
    if written == text or len(written) != _WRITTEN:
        return None
    try:
        packed = base64.b64decode(written + "=" * (-len(written) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    id_end = STREAM_BYTES + ID_BYTES
    return Presented(packed[:STREAM_BYTES], packed[STREAM_BYTES:id_end], packed[id_end:])


def hashed(secret: bytes) -> bytes:
    """What is kept of one, for sealing: nobody guesses 256 bits, so that a slow hash would protect nothing."""
    return sha256(secret).digest()


def is_right(secret: bytes, kept: bytes) -> bool:
    """Whether this is the secret whose hash was kept."""
    return hmac.compare_digest(hashed(secret), kept)


def place(stream: bytes, id_: bytes) -> bytes:
    """What a token's hash is bound to when it is sealed (actors/sealing.py)."""
    return stream + id_ + b"API token"
