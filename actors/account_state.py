"""Whether an account is open: disabled, expired, or waiting for its owner to choose another password.

A kind of its own that stands on the tenant's stream, beside actors/tenant.py. When an account expires is a date in the
log; whether it has passed is asked outside decide and evolve, of the clock of the node that somebody comes to, so that
no fold ever depends on it. Row: x + account.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, assert_never

from actors.errors import NoSuchAccount, NotAllowed
from actors.kind import Command, Fact
from eventlog.record import Stamp
from eventlog.views import View

MAX_REASON = 200
MailFor = Literal["accept", "defer", "refuse"]
MAIL_FOR: tuple[MailFor, ...] = ("accept", "defer", "refuse")
DISABLED, EXPIRED = "the account is disabled", "the account has expired"
CHANGE_NEEDED = "the password must be changed first"


class AccountState(NamedTuple):
    """`mail`: what becomes of mail for the account while it is closed. `reason` is for administrators only."""

    disabled: bool = False
    mail: MailFor = "accept"
    reason: str = ""
    since_ms: int = 0
    expires_ms: int | None = None
    must_change: bool = False

    def closed(self, now_ms: int) -> str | None:
        """Why nobody comes in, for who has shown the right password; None: it is open."""
        if self.disabled:
            return DISABLED
        return EXPIRED if self.expires_ms is not None and self.expires_ms <= now_ms else None


OPEN = AccountState()


@dataclass(frozen=True, slots=True)
class DisableAccount(Command):
    account: bytes
    mail: MailFor
    reason: str


@dataclass(frozen=True, slots=True)
class EnableAccount(Command):
    account: bytes


@dataclass(frozen=True, slots=True)
class SetAccountExpiry(Command):
    """`mail`: what becomes of mail for it from then on."""

    account: bytes
    expires_ms: int | None
    mail: MailFor


@dataclass(frozen=True, slots=True)
class RequirePasswordChange(Command):
    account: bytes
    required: bool


AccountStateCommand = DisableAccount | EnableAccount | SetAccountExpiry | RequirePasswordChange


@dataclass(frozen=True, slots=True)
class AccountDisabled(Fact):
    SINCE: ClassVar[int] = 3
    account: bytes
    mail: MailFor
    reason: str


@dataclass(frozen=True, slots=True)
class AccountEnabled(Fact):
    SINCE: ClassVar[int] = 3
    account: bytes


@dataclass(frozen=True, slots=True)
class AccountExpirySet(Fact):
    SINCE: ClassVar[int] = 3
    account: bytes
    expires_ms: int | None
    mail: MailFor


@dataclass(frozen=True, slots=True)
class PasswordChangeRequired(Fact):
    SINCE: ClassVar[int] = 3
    account: bytes
    required: bool


AccountStateFact = AccountDisabled | AccountEnabled | AccountExpirySet | PasswordChangeRequired


def decide(view: View, command: AccountStateCommand) -> tuple[AccountStateFact, ...]:
    """Raises NoSuchAccount, NotAllowed; what is so already is no event."""
    if view.get(b"a" + command.account) is None:
        raise NoSuchAccount("no such account")
    row = view.get(b"x" + command.account)
    before = AccountState(*row) if row is not None else OPEN
    match command:
        case DisableAccount(account, mail, reason):
            if len(reason) > MAX_REASON or not (reason or " ").isprintable():
                raise NotAllowed(f"a reason is at most {MAX_REASON} printable characters")
            same = (before.disabled, before.mail, before.reason) == (True, mail, reason)
            return () if same else (AccountDisabled(account, _mail(mail), reason),)
        case EnableAccount(account):
            return (AccountEnabled(account),) if before.disabled else ()
        case SetAccountExpiry(account, expires_ms, mail):
            return (AccountExpirySet(account, expires_ms, _mail(mail)),)
        case RequirePasswordChange(account, required):
            return () if before.must_change == required else (PasswordChangeRequired(account, required),)
        case _:
            assert_never(command)


def _mail(mail: MailFor) -> MailFor:
    if mail not in MAIL_FOR:
        raise NotAllowed(f"mail is one of {', '.join(MAIL_FOR)}")
    return mail


def evolve(view: View, fact: AccountStateFact, stamp: Stamp) -> None:
    """Total: an account that has gone has no state."""
    if view.get(b"a" + fact.account) is None:
        return
    row = view.get(b"x" + fact.account)
    before = AccountState(*row) if row is not None else OPEN
    match fact:
        case AccountDisabled():
            after = before._replace(disabled=True, mail=fact.mail, reason=fact.reason, since_ms=stamp.at_ms)
        case AccountEnabled():
            after = before._replace(disabled=False, reason="", since_ms=stamp.at_ms)
        case AccountExpirySet():
            after = before._replace(expires_ms=fact.expires_ms, mail=fact.mail)
        case PasswordChangeRequired():
            after = before._replace(must_change=fact.required)
        case _:
            assert_never(fact)
    if (after.disabled, after.expires_ms, after.must_change) == (False, None, False):
        view.delete(b"x" + fact.account)
    else:
        view.put(b"x" + fact.account, tuple(after))


def forget(view: View, account: bytes) -> None:
    """The account is deleted."""
    view.delete(b"x" + account)


def tenant_of(view: View, _: AccountStateCommand) -> bytes:
    """Whose event it is."""
    return view.stream


def state_of(view: View, account: bytes) -> AccountState:
    """How the account stands, of the tenant whose stream the view is of."""
    row = view.peek(b"x" + account)
    return AccountState(*row) if row is not None else OPEN


def states(view: View) -> dict[bytes, AccountState]:
    """Every account of the tenant that is not simply open."""
    return {key[1:]: AccountState(*row) for key, row in view.range(b"x")}
