"""Who may send mail as another account, or on its behalf: rows of the tenant's stream, beside actors/tenant.py.

D + owner + whom (an account or a group of the tenant): [how, since_ms]. Granting again takes the place of what was
granted. What it means for a message is the front end's to say (nodes/smtp/authors.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, assert_never

from actors.errors import NoSuchAccount, NotAllowed, TooLarge
from actors.groups import groups_of
from actors.kind import Command, Fact
from eventlog.record import Stamp
from eventlog.views import View

SEND_AS, ON_BEHALF = "send-as", "on-behalf"
WAYS = (SEND_AS, ON_BEHALF)
MAX_DELEGATES = 500


class Delegate(NamedTuple):
    """`whom` is an account or a group; `how` one of WAYS."""

    whom: bytes
    how: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class LetSend(Command):
    """`how`: one of WAYS, or "" for not any more."""

    owner: bytes
    whom: bytes
    how: str


@dataclass(frozen=True, slots=True)
class SendingGranted(Fact):
    SINCE: ClassVar[int] = 3
    owner: bytes
    whom: bytes
    how: str


@dataclass(frozen=True, slots=True)
class SendingRevoked(Fact):
    SINCE: ClassVar[int] = 3
    owner: bytes
    whom: bytes


DelegationFact = SendingGranted | SendingRevoked


def decide(view: View, command: LetSend) -> tuple[DelegationFact, ...]:
    """Raises NoSuchAccount, NotAllowed, TooLarge; what holds already is no event."""
    owner, whom, how = command.owner, command.whom, command.how
    before = view.get(_key(owner, whom))
    if not how:
        return () if before is None else (SendingRevoked(owner, whom),)
    if how not in WAYS:
        raise NotAllowed(f"one sends in one of these ways: {', '.join(WAYS)}")
    if owner == whom:
        raise NotAllowed("everybody sends as themselves")
    if view.get(b"a" + owner) is None or (view.get(b"a" + whom) is None and view.get(b"g" + whom) is None):
        raise NoSuchAccount("no such account")
    if before is not None and before[0] == how:
        return ()
    if before is None and len(delegates(view, owner)) >= MAX_DELEGATES:
        raise TooLarge(f"at most {MAX_DELEGATES} may send as one account: grant it to a group")
    return (SendingGranted(owner, whom, how),)


def evolve(view: View, fact: DelegationFact, stamp: Stamp) -> None:
    """Total: what is of accounts and groups that have gone is left out."""
    match fact:
        case SendingGranted(owner, whom, how):
            there = view.get(b"a" + whom) is not None or view.get(b"g" + whom) is not None
            if there and view.get(b"a" + owner) is not None:
                view.put(_key(owner, whom), (how, stamp.at_ms))
        case SendingRevoked(owner, whom):
            view.delete(_key(owner, whom))
        case _:
            assert_never(fact)


def forget(view: View, whom: bytes) -> None:
    """The account or group goes: as one that sends, and as one that is sent as."""
    for key, _ in list(view.range(b"D")):
        if whom in (key[1:17], key[17:]):
            view.delete(key)


def delegates(view: View, owner: bytes) -> list[Delegate]:
    """Who may send as the account."""
    return [Delegate(key[17:], *row) for key, row in view.range(prefix(owner))]


def way(view: View, owner: bytes, sender: bytes) -> str | None:
    """How `sender` may send as the account: one of WAYS, the first that a line for it or for a group of it gives."""
    rows = [view.peek(_key(owner, whom)) for whom in (sender, *groups_of(view, sender))]
    given = {row[0] for row in rows if row is not None}
    return next((one for one in WAYS if one in given), None)


def prefix(owner: bytes) -> bytes:
    """With which the keys begin of all rows of the account."""
    return b"D" + owner


def _key(owner: bytes, whom: bytes) -> bytes:
    return prefix(owner) + whom
