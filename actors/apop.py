"""Secrets for APOP (RFC 1939 7): one of its own for an account that wants it, and no password of it.

Part of the tenant kind (actors/tenant.py). To check a digest the secret itself is needed, so unlike passwords it is
kept as it is, sealed; it counts only while the tenant's policy allows APOP. What is removed or replaced can be erased
from the log (nodes/redaction.py). Row of the tenant's stream: A + account: [sealed, since_ms].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from actors.errors import NoSuchAccount, NoSuchCredential, NotAllowed
from actors.kind import Command, Fact
from actors.tenant_policy import ON, settings
from eventlog.record import Stamp
from eventlog.views import View

LEAST_CHARACTERS, MOST_CHARACTERS = 16, 128  # a digest that was overheard must not be worth guessing at


class Secret(NamedTuple):
    sealed: bytes
    since_ms: int


@dataclass(frozen=True, slots=True)
class SetApopSecret(Command):
    account: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True)
class RemoveApopSecret(Command):
    account: bytes


ApopCommand = SetApopSecret | RemoveApopSecret


@dataclass(frozen=True, slots=True)
class ApopSecretSet(Fact):
    SINCE: ClassVar[int] = 3
    REDACTABLE: ClassVar[tuple[str, ...]] = ("sealed",)
    account: bytes
    sealed: bytes  # b"" once it is removed and redacted


@dataclass(frozen=True, slots=True)
class ApopSecretRemoved(Fact):
    SINCE: ClassVar[int] = 3
    account: bytes


ApopFact = ApopSecretSet | ApopSecretRemoved


def decide(view: View, command: ApopCommand) -> ApopFact:
    """Raises NoSuchAccount, NoSuchCredential, NotAllowed where the tenant does not allow APOP."""
    if view.get(b"a" + command.account) is None:
        raise NoSuchAccount("no such account")
    if isinstance(command, SetApopSecret):
        if not is_allowed(view):
            raise NotAllowed("the tenant does not allow APOP: mailraft policy set TENANT pop3_apop=on")
        return ApopSecretSet(command.account, command.sealed)
    if view.get(row_key(command.account)) is None:
        raise NoSuchCredential("the account has no secret for APOP")
    return ApopSecretRemoved(command.account)


def evolve(view: View, fact: ApopFact, stamp: Stamp) -> None:
    """Total: an account that has gone has no secret."""
    if isinstance(fact, ApopSecretRemoved):
        view.delete(row_key(fact.account))
    elif view.get(b"a" + fact.account) is not None:
        view.put(row_key(fact.account), (fact.sealed, stamp.at_ms))


def forget(view: View, account: bytes) -> None:
    """The account is deleted."""
    view.delete(row_key(account))


def check(secret: str) -> None:
    """Raises NotAllowed, saying what a secret may be."""
    if not LEAST_CHARACTERS <= len(secret) <= MOST_CHARACTERS or not secret.isprintable():
        raise NotAllowed(f"a secret for APOP has {LEAST_CHARACTERS} to {MOST_CHARACTERS} printable characters")


def is_allowed(view: View) -> bool:
    """Whether the tenant whose stream this is lets its accounts log in so; not unless it was switched on."""
    return settings(view).get("pop3_apop") == ON


def secret_of(view: View, account: bytes) -> Secret | None:
    """The account's secret, whether it counts or not."""
    row = view.peek(row_key(account))
    return Secret(*row) if row is not None else None


def place(tenant: bytes, account: bytes) -> bytes:
    """What a secret is bound to when it is sealed (actors/sealing.py)."""
    return tenant + account + b"APOP"


def row_key(account: bytes) -> bytes:
    """The row that it stands in."""
    return b"A" + account
