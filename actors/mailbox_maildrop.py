"""Who alone may have an account's maildrop open (RFC 1939 4), where its tenant wants that: a lease, as events.

Row of the account's stream: P: [session, node, until_ms], while a session holds the maildrop. The lease is taken with
a guard on that row, so that of two who come at once one is refused; it is renewed while the session lives, and ends by
itself where the node that had it was killed. Time stands in the commands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from actors.errors import MaildropInUse, NotAllowed
from actors.kind import Command, Fact
from eventlog.views import View

MOST_LEASE_MS = 600_000

_KEY = b"P"


class Holder(NamedTuple):
    """The session that has the maildrop open; not after `until_ms`."""

    session: bytes
    node: str
    until_ms: int


@dataclass(frozen=True, slots=True)
class LockMaildrop(Command):
    """For a session, named by a new id; `renew`: it has the maildrop already, and must have it still."""

    session: bytes
    node: str
    until_ms: int
    now_ms: int
    renew: bool = False


@dataclass(frozen=True, slots=True)
class UnlockMaildrop(Command):
    """The session has ended."""

    session: bytes


MaildropCommand = LockMaildrop | UnlockMaildrop


@dataclass(frozen=True, slots=True)
class MaildropLocked(Fact):
    SINCE: ClassVar[int] = 3
    session: bytes
    node: str
    until_ms: int


@dataclass(frozen=True, slots=True)
class MaildropUnlocked(Fact):
    SINCE: ClassVar[int] = 3
    session: bytes


MaildropFact = MaildropLocked | MaildropUnlocked


def decide(view: View, command: MaildropCommand) -> tuple[MaildropFact, ...]:
    """For actors/mailbox.py, which has looked whether the account is there. Raises MaildropInUse, NotAllowed."""
    row = view.get(_KEY)
    held = Holder(*row) if row else None
    if isinstance(command, UnlockMaildrop):
        is_own = held is not None and held.session == command.session
        return (MaildropUnlocked(command.session),) if is_own else ()
    if not 0 < command.until_ms - command.now_ms <= MOST_LEASE_MS:
        raise NotAllowed(f"a maildrop is held for at most {MOST_LEASE_MS // 1000} s at a time")
    if held is not None and held.session != command.session and (held.until_ms > command.now_ms or command.renew):
        raise MaildropInUse("another session has the maildrop open")
    if held is None and command.renew:
        raise MaildropInUse("the maildrop is no longer held by this session")
    return (MaildropLocked(command.session, command.node, command.until_ms),)


def evolve(view: View, fact: MaildropFact) -> None:
    """For actors/mailbox_fold.py, which has looked whether the account is there."""
    if isinstance(fact, MaildropLocked):
        view.put(_KEY, (fact.session, fact.node, fact.until_ms))
        return
    row = view.get(_KEY)
    if row is not None and row[0] == fact.session:
        view.delete(_KEY)


def forget_all(view: View) -> None:
    """The account goes."""
    view.delete(_KEY)


def holder(view: View) -> Holder | None:
    """The session that had the maildrop last and has not ended it: its time may be over."""
    row = view.peek(_KEY)
    return Holder(*row) if row else None
