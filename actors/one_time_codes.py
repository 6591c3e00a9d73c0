"""One-time codes: an account's second factor, in force once it was shown that the device has the secret.

Part of the tenant kind (actors/tenant.py), beside the other credentials (actors/credentials.py), which has seen to it
that the account is there. A code is checked outside, and here only kept from being used twice. Row: o, under the
account's id.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, assert_never

from actors.errors import NameTaken, NoSuchCredential, NotAllowed
from actors.kind import Command, Fact
from eventlog.record import Stamp
from eventlog.views import View


class OneTimeCodes(NamedTuple):
    """How an account's second factor stands: in force once `confirmed`; `last_step` is the newest one that was used."""

    sealed: bytes
    confirmed: bool
    last_step: int
    used_recovery: tuple[int, ...]
    since_ms: int


@dataclass(frozen=True, slots=True)
class EnrolOneTimeCodes(Command):
    account: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True)
class ConfirmOneTimeCodes(Command):
    account: bytes
    step: int  # of the code that shows that the device has the secret


@dataclass(frozen=True, slots=True)
class UseOneTimeCode(Command):
    account: bytes
    step: int


@dataclass(frozen=True, slots=True)
class UseRecoveryCode(Command):
    account: bytes
    number: int


@dataclass(frozen=True, slots=True)
class DisableOneTimeCodes(Command):
    account: bytes


OneTimeCommand = EnrolOneTimeCodes | ConfirmOneTimeCodes | UseOneTimeCode | UseRecoveryCode | DisableOneTimeCodes


@dataclass(frozen=True, slots=True)
class OneTimeCodesEnrolled(Fact):
    SINCE: ClassVar[int] = 3
    account: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True)
class OneTimeCodesConfirmed(Fact):
    SINCE: ClassVar[int] = 3
    account: bytes
    step: int


@dataclass(frozen=True, slots=True)
class OneTimeCodeUsed(Fact):
    SINCE: ClassVar[int] = 3
    account: bytes
    step: int


@dataclass(frozen=True, slots=True)
class RecoveryCodeUsed(Fact):
    SINCE: ClassVar[int] = 3
    account: bytes
    number: int


@dataclass(frozen=True, slots=True)
class OneTimeCodesDisabled(Fact):
    SINCE: ClassVar[int] = 3
    account: bytes


OneTimeFact = OneTimeCodesEnrolled | OneTimeCodesConfirmed | OneTimeCodeUsed | RecoveryCodeUsed | OneTimeCodesDisabled


def decide(view: View, command: OneTimeCommand) -> OneTimeFact:
    """Raises NoSuchCredential, NameTaken, NotAllowed: the code was used before."""
    match command:
        case EnrolOneTimeCodes(account, sealed):
            found = one_time_codes(view, account)
            if found is not None and found.confirmed:
                raise NameTaken("one-time codes are on already: disable them first")
            return OneTimeCodesEnrolled(account, sealed)
        case ConfirmOneTimeCodes(account, step):
            if _codes(view, account).confirmed:
                raise NameTaken("one-time codes are on already")
            return OneTimeCodesConfirmed(account, step)
        case UseOneTimeCode(account, step):
            if step <= _codes(view, account).last_step:
                raise NotAllowed("this code was used already; wait for the next one")  # RFC 6238 5.2
            return OneTimeCodeUsed(account, step)
        case UseRecoveryCode(account, number):
            if number in _codes(view, account).used_recovery:
                raise NotAllowed("this recovery code was used already")
            return RecoveryCodeUsed(account, number)
        case DisableOneTimeCodes(account):
            _codes(view, account)
            return OneTimeCodesDisabled(account)
        case _:
            assert_never(command)


def _codes(view: View, account: bytes) -> OneTimeCodes:
    found = one_time_codes(view, account)
    if found is None:
        raise NoSuchCredential("the account has no one-time codes")
    return found


def evolve(view: View, fact: OneTimeFact, stamp: Stamp) -> None:
    """Total: what is no longer there is left as it is."""
    match fact:
        case OneTimeCodesEnrolled():
            if view.get(b"a" + fact.account) is not None:
                view.put(_key(fact.account), OneTimeCodes(fact.sealed, False, 0, (), stamp.at_ms))
        case OneTimeCodesConfirmed():
            _change(view, fact.account, confirmed=True, last_step=fact.step, since_ms=stamp.at_ms)
        case OneTimeCodeUsed():
            _change(view, fact.account, last_step=fact.step)
        case RecoveryCodeUsed():
            row = view.get(_key(fact.account))
            _change(view, fact.account, used_recovery=(*(row[3] if row else ()), fact.number))
        case OneTimeCodesDisabled():
            view.delete(_key(fact.account))
        case _:
            assert_never(fact)


def _change(view: View, account: bytes, **values: Any) -> None:
    row = view.get(_key(account))
    if row is not None:
        view.put(_key(account), OneTimeCodes(*row)._replace(**values))


def forget(view: View, account: bytes) -> None:
    """The account is deleted: nothing of this is left."""
    view.delete(_key(account))


def one_time_place(tenant: bytes, account: bytes) -> bytes:
    """What the secret of one-time codes is bound to when it is sealed."""
    return tenant + account + b"one-time codes"


def one_time_codes(view: View, account: bytes) -> OneTimeCodes | None:
    """The account's one-time codes, confirmed or not."""
    row = view.get(_key(account))
    return OneTimeCodes(*row) if row is not None else None


def _key(account: bytes) -> bytes:
    return b"o" + account
