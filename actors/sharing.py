"""Where an account may find folders that others share with it: rows of the tenant's stream, beside actors/tenant.py.

S + whom (an account, a group, or mailbox_acl.ANYONE) + owner: that some folder of the owner names them. A hint, written
in one record with the right itself and never the right: what it leads to is looked up in the owner's lists. It stays
when the last right goes, and leads to nothing then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from actors.kind import Command, Fact
from actors.mailbox_acl import ANYONE
from eventlog.record import stream_id
from eventlog.views import View


@dataclass(frozen=True, slots=True)
class NoteShare(Command):
    whom: bytes
    owner: bytes


@dataclass(frozen=True, slots=True)
class MailboxShared(Fact):
    whom: bytes
    owner: bytes
    SINCE: ClassVar[int] = 3


def decide(view: View, command: NoteShare) -> tuple[MailboxShared, ...]:
    if view.get(_key(command.whom, command.owner)) is not None:
        return ()
    return (MailboxShared(command.whom, command.owner),)


def evolve(view: View, fact: MailboxShared) -> None:
    view.put(_key(fact.whom, fact.owner), True)


def forget(view: View, account: bytes) -> None:
    """The account goes: as one that shares, and as one that is shared with."""
    for key, _ in list(view.range(b"S")):
        if account in (key[1:17], key[17:]):
            view.delete(key)


def owners(view: View, account: bytes, groups: Sequence[bytes] = ()) -> list[bytes]:
    """The accounts that may share something with this one, or with a group that it is in."""
    found = {key[17:] for whom in (account, *groups, ANYONE) for key, _ in view.range(b"S" + whom)}
    return sorted(found - {account})


def granters(view: View, account: bytes) -> list[bytes]:
    """The accounts (or the tenant's public folders) whose lists may name this one."""
    return [key[17:] for key, _ in view.range(b"S" + account)]


def public_stream(tenant: bytes) -> bytes:
    """The mailbox whose folders are the tenant's own."""
    return stream_id("public", tenant.hex())


def _key(whom: bytes, owner: bytes) -> bytes:
    return b"S" + whom + owner
