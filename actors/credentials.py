"""What else lets somebody in, besides the account's password: app passwords and one-time codes; and what was refused.

Part of the tenant kind (actors/tenant.py), whose streams these events stand on. Secrets arrive sealed. One-time codes
are in `one_time_codes`, importable from here. Rows of the tenant's stream: k app password, f refused logins, p-password
policy; each, but the last, under the account's id.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, assert_never

from actors import one_time_codes as one_time
from actors.errors import NameTaken, NoSuchAccount, NoSuchCredential, NotAllowed, TooLarge
from actors.kind import Command, Fact
from actors.one_time_codes import (
    ConfirmOneTimeCodes,
    DisableOneTimeCodes,
    EnrolOneTimeCodes,
    OneTimeCodes,
    OneTimeCodesConfirmed,
    OneTimeCodesDisabled,
    OneTimeCodesEnrolled,
    OneTimeCodeUsed,
    OneTimeCommand,
    OneTimeFact,
    RecoveryCodeUsed,
    UseOneTimeCode,
    UseRecoveryCode,
    one_time_codes,
    one_time_place,
)
from eventlog.record import Stamp
from eventlog.views import View

SCOPES = ("imap", "pop3", "smtp")
LEAST_CHARACTERS = 8  # NIST SP 800-63B 5.1.1.2, where the tenant's policy says nothing
MAX_APP_PASSWORDS = 25
MAX_NAME = 64  # characters
REFUSED_EVERY_MS = 55_000
DAY_MS = 86_400_000
PASSWORD_POLICY_KEY = b"p-password"


class AppPassword(NamedTuple):
    """`used_ms`: when it was last known to be used, not finer than a day; None: never."""

    id: bytes
    name: str
    scopes: tuple[str, ...]
    expires_ms: int | None
    created_ms: int
    sealed: bytes
    used_ms: int | None


class Refused(NamedTuple):
    """Attempts to log in that were refused: all that were told, and when last."""

    attempts: int
    last_ms: int


@dataclass(frozen=True, slots=True)
class AddAppPassword(Command):
    account: bytes
    id: bytes
    name: str
    scopes: tuple[str, ...]
    expires_ms: int | None
    sealed: bytes


@dataclass(frozen=True, slots=True)
class RevokeAppPassword(Command):
    account: bytes
    id: bytes


@dataclass(frozen=True, slots=True)
class NoteAppPasswordUse(Command):
    account: bytes
    id: bytes
    at_ms: int


@dataclass(frozen=True, slots=True)
class NoteRefusedLogins(Command):
    """A burst of attempts that a node has refused: how many, from how many networks, since when."""

    account: bytes
    attempts: int
    networks: int
    since_ms: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class SetPasswordPolicy(Command):
    least_characters: int


CredentialCommand = (
    AddAppPassword | RevokeAppPassword | NoteAppPasswordUse | OneTimeCommand | NoteRefusedLogins | SetPasswordPolicy
)


@dataclass(frozen=True, slots=True)
class AppPasswordAdded(Fact):
    SINCE: ClassVar[int] = 3
    account: bytes
    id: bytes
    name: str
    scopes: tuple[str, ...]
    expires_ms: int | None
    sealed: bytes


@dataclass(frozen=True, slots=True)
class AppPasswordRevoked(Fact):
    SINCE: ClassVar[int] = 3
    account: bytes
    id: bytes
    name: str


@dataclass(frozen=True, slots=True)
class AppPasswordUsed(Fact):
    SINCE: ClassVar[int] = 3
    account: bytes
    id: bytes
    at_ms: int


@dataclass(frozen=True, slots=True)
class LoginsRefused(Fact):
    SINCE: ClassVar[int] = 3
    account: bytes
    attempts: int
    networks: int
    since_ms: int


@dataclass(frozen=True, slots=True)
class PasswordPolicySet(Fact):
    SINCE: ClassVar[int] = 3
    least_characters: int


CredentialFact = (
    AppPasswordAdded | AppPasswordRevoked | AppPasswordUsed | OneTimeFact | LoginsRefused | PasswordPolicySet
)


def decide(view: View, command: CredentialCommand) -> CredentialFact:
    """Raises CommandRefused: the account or credential is missing, or the code was used before."""
    if not isinstance(command, SetPasswordPolicy) and view.get(b"a" + command.account) is None:
        raise NoSuchAccount("no such account")
    match command:
        case AddAppPassword():
            return _add(view, command)
        case RevokeAppPassword(account, id_):
            return AppPasswordRevoked(account, id_, _app_password(view, account, id_).name)
        case NoteAppPasswordUse(account, id_, at_ms):
            used_ms = _app_password(view, account, id_).used_ms
            if used_ms is not None and at_ms - used_ms < DAY_MS:
                raise NotAllowed("its use of this day is known")
            return AppPasswordUsed(account, id_, at_ms)
        case EnrolOneTimeCodes() | ConfirmOneTimeCodes() | UseOneTimeCode() | UseRecoveryCode() | DisableOneTimeCodes():
            return one_time.decide(view, command)
        case NoteRefusedLogins(account, attempts, networks, since_ms, at_ms):
            if at_ms - refused_logins(view, account).last_ms < REFUSED_EVERY_MS:
                raise NotAllowed("refused logins of this minute are told of already")
            return LoginsRefused(account, attempts, networks, since_ms)
        case SetPasswordPolicy(least):
            return PasswordPolicySet(least)
        case _:
            assert_never(command)


def _add(view: View, command: AddAppPassword) -> AppPasswordAdded:
    if not command.name or len(command.name) > MAX_NAME or not command.name.isprintable():
        raise NotAllowed(f"an app password is called by 1 to {MAX_NAME} printable characters")
    if not command.scopes or not set(command.scopes) <= set(SCOPES):
        raise NotAllowed(f"the scopes of an app password are some of {', '.join(SCOPES)}")
    existing = app_passwords(view, command.account)
    if any(one.name == command.name for one in existing):
        raise NameTaken(f"the account has an app password called {command.name}")
    if len(existing) >= MAX_APP_PASSWORDS:
        raise TooLarge(f"an account has at most {MAX_APP_PASSWORDS} app passwords")
    return AppPasswordAdded(
        command.account, command.id, command.name, command.scopes, command.expires_ms, command.sealed
    )


def _app_password(view: View, account: bytes, id_: bytes) -> AppPassword:
    row = view.get(b"k" + account + id_)
    if row is None:
        raise NoSuchCredential("no such app password")
    return AppPassword(id_, *row)


def evolve(view: View, fact: CredentialFact, stamp: Stamp) -> None:
    """Total: what is no longer there is left as it is."""
    match fact:
        case AppPasswordAdded():
            if view.get(b"a" + fact.account) is not None:
                row = (fact.name, fact.scopes, fact.expires_ms, stamp.at_ms, fact.sealed, None)
                view.put(b"k" + fact.account + fact.id, row)
        case AppPasswordRevoked():
            view.delete(b"k" + fact.account + fact.id)
        case AppPasswordUsed():
            row = view.get(b"k" + fact.account + fact.id)
            if row is not None:
                view.put(b"k" + fact.account + fact.id, (*row[:5], fact.at_ms))
        case (
            OneTimeCodesEnrolled()
            | OneTimeCodesConfirmed()
            | OneTimeCodeUsed()
            | RecoveryCodeUsed()
            | OneTimeCodesDisabled()
        ):
            one_time.evolve(view, fact, stamp)
        case LoginsRefused():
            row = view.get(b"f" + fact.account)
            if view.get(b"a" + fact.account) is not None:
                view.put(b"f" + fact.account, ((row[0] if row else 0) + fact.attempts, stamp.at_ms))
        case PasswordPolicySet():
            view.put(PASSWORD_POLICY_KEY, fact.least_characters)
        case _:
            assert_never(fact)


def forget(view: View, account: bytes) -> None:
    """The account is deleted: nothing of this is left."""
    for key in [b"k" + account + one.id for one in app_passwords(view, account)]:
        view.delete(key)
    one_time.forget(view, account)
    view.delete(b"f" + account)


def app_password_place(tenant: bytes, account: bytes, id_: bytes) -> bytes:
    """What the keys of an app password are bound to when they are sealed (actors/sealing.py)."""
    return tenant + account + id_


def app_passwords(view: View, account: bytes) -> list[AppPassword]:
    """The account's app passwords, oldest first; those that have expired too."""
    found = [AppPassword(key[17:], *row) for key, row in view.range(b"k" + account)]
    return sorted(found, key=lambda one: (one.created_ms, one.id))


def refused_logins(view: View, account: bytes) -> Refused:
    """What was told of refused attempts to log in to the account."""
    row = view.get(b"f" + account)
    return Refused(*row) if row is not None else Refused(0, 0)


def least_characters(view: View) -> int:
    """How long a password of this tenant is at least."""
    found = view.peek(PASSWORD_POLICY_KEY)
    return LEAST_CHARACTERS if found is None else int(found)


__all__ = [
    "DAY_MS",
    "LEAST_CHARACTERS",
    "MAX_APP_PASSWORDS",
    "MAX_NAME",
    "PASSWORD_POLICY_KEY",
    "REFUSED_EVERY_MS",
    "SCOPES",
    "AddAppPassword",
    "AppPassword",
    "AppPasswordAdded",
    "AppPasswordRevoked",
    "AppPasswordUsed",
    "ConfirmOneTimeCodes",
    "CredentialCommand",
    "CredentialFact",
    "DisableOneTimeCodes",
    "EnrolOneTimeCodes",
    "LoginsRefused",
    "NoteAppPasswordUse",
    "NoteRefusedLogins",
    "OneTimeCodeUsed",
    "OneTimeCodes",
    "OneTimeCodesConfirmed",
    "OneTimeCodesDisabled",
    "OneTimeCodesEnrolled",
    "PasswordPolicySet",
    "RecoveryCodeUsed",
    "Refused",
    "RevokeAppPassword",
    "SetPasswordPolicy",
    "UseOneTimeCode",
    "UseRecoveryCode",
    "app_password_place",
    "app_passwords",
    "decide",
    "evolve",
    "forget",
    "least_characters",
    "one_time_codes",
    "one_time_place",
    "refused_logins",
]
