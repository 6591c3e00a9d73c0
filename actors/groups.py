"""Groups: an address whose mail reaches every member, and a name for all of them in access control lists.

A part of the tenant kind (actors/tenant.py). Members are accounts of the tenant. Rows: g + group: address, when it was
made, how many members; G + group + account: a member; M + account + group: the same from the other side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, assert_never

from actors.errors import NameTaken, NoSuchAccount, NoSuchDomain, NoSuchGroup, NotAllowed, TooLarge
from actors.kind import Command, Fact
from eventlog.record import Stamp
from eventlog.views import View

MAX_MEMBERS = 500
MAX_GROUPS_OF_ACCOUNT = 100
IDENTIFIER = "group:"  # in access control lists (RFC 4314 1: an identifier is any text)


class Group(NamedTuple):
    id: bytes
    address: str
    created_ms: int
    members: int


@dataclass(frozen=True, slots=True)
class AddGroup(Command):
    group: bytes
    address: str
    members: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class RemoveGroup(Command):
    group: bytes


@dataclass(frozen=True, slots=True)
class ChangeMembers(Command):
    """Who is a member already stays one; who is none can not be removed."""

    group: bytes
    added: tuple[bytes, ...] = ()
    removed: tuple[bytes, ...] = ()


GroupCommand = AddGroup | RemoveGroup | ChangeMembers


@dataclass(frozen=True, slots=True)
class GroupAdded(Fact):
    SINCE: ClassVar[int] = 3
    group: bytes
    address: str
    members: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class GroupRemoved(Fact):
    SINCE: ClassVar[int] = 3
    group: bytes
    address: str


@dataclass(frozen=True, slots=True)
class GroupMembersChanged(Fact):
    SINCE: ClassVar[int] = 3
    group: bytes
    added: tuple[bytes, ...]
    removed: tuple[bytes, ...]


GroupFact = GroupAdded | GroupRemoved | GroupMembersChanged


def decide(view: View, command: GroupCommand) -> tuple[GroupFact, ...]:
    """Raises NoSuchDomain, NoSuchGroup, NoSuchAccount, NameTaken, NotAllowed, TooLarge."""
    match command:
        case AddGroup(group, address, members):
            domain = address.rpartition("@")[2]
            if view.get(b"d" + domain.encode()) is None:
                raise NoSuchDomain(f"{domain} is not a domain of this tenant")
            if view.get(b"g" + group) is not None:
                raise NameTaken("the group exists")
            _require_members(view, members, 0)
            return (GroupAdded(group, address, members),)
        case RemoveGroup(group):
            return (GroupRemoved(group, _row(view, group)[0]),)
        case ChangeMembers(group, added, removed):
            return _change(view, group, added, removed)
        case _:
            assert_never(command)


def _change(
    view: View, group: bytes, added: tuple[bytes, ...], removed: tuple[bytes, ...]
) -> tuple[GroupMembersChanged, ...]:
    row = _row(view, group)
    new = tuple(one for one in dict.fromkeys(added) if view.get(_member_key(group, one)) is None)
    gone = tuple(dict.fromkeys(removed))
    if any(view.get(_member_key(group, one)) is None for one in gone):
        raise NotAllowed("who is to be removed is no member")
    _require_members(view, new, row[2] - len(gone))
    return (GroupMembersChanged(group, new, gone),) if new or gone else ()


def _row(view: View, group: bytes) -> tuple[str, int, int]:
    row: tuple[str, int, int] | None = view.get(b"g" + group)
    if row is None:
        raise NoSuchGroup("no such group")
    return row


def _require_members(view: View, members: tuple[bytes, ...], present: int) -> None:
    if present + len(members) > MAX_MEMBERS:
        raise TooLarge(f"a group has at most {MAX_MEMBERS} members")
    for one in members:
        if view.get(b"a" + one) is None:
            raise NoSuchAccount("a member is an account of the same tenant")
        if sum(1 for _ in view.range(b"M" + one)) >= MAX_GROUPS_OF_ACCOUNT:
            raise TooLarge(f"an account is in at most {MAX_GROUPS_OF_ACCOUNT} groups")


def evolve(view: View, fact: GroupFact, stamp: Stamp) -> None:
    """Total: an account that has gone meanwhile becomes no member."""
    match fact:
        case GroupAdded():
            if view.get(b"g" + fact.group) is None:
                view.put(b"g" + fact.group, (fact.address, stamp.at_ms, 0))
                _join(view, fact.group, fact.members)
        case GroupRemoved():
            for key, _ in list(view.range(b"G" + fact.group)):
                view.delete(key)
                view.delete(b"M" + key[17:] + fact.group)
            view.delete(b"g" + fact.group)
        case GroupMembersChanged():
            if view.get(b"g" + fact.group) is not None:
                _join(view, fact.group, fact.added)
                for one in fact.removed:
                    _leave(view, fact.group, one)
        case _:
            assert_never(fact)


def _join(view: View, group: bytes, members: tuple[bytes, ...]) -> None:
    joined = 0
    for one in members:
        if view.get(b"a" + one) is not None and view.get(_member_key(group, one)) is None:
            view.put(_member_key(group, one), True)
            view.put(b"M" + one + group, True)
            joined += 1
    address, created_ms, count = view.get(b"g" + group)
    view.put(b"g" + group, (address, created_ms, count + joined))


def _leave(view: View, group: bytes, account: bytes) -> None:
    if view.get(_member_key(group, account)) is None:
        return
    view.delete(_member_key(group, account))
    view.delete(b"M" + account + group)
    address, created_ms, count = view.get(b"g" + group)
    view.put(b"g" + group, (address, created_ms, count - 1))


def forget(view: View, account: bytes) -> None:
    """The account goes, out of its groups too."""
    for key, _ in list(view.range(b"M" + account)):
        _leave(view, key[17:], account)


def groups(view: View) -> list[Group]:
    """The tenant's groups, by address."""
    return sorted((Group(key[1:], *row) for key, row in view.range(b"g")), key=lambda group: group.address)


def group(view: View, group_id: bytes) -> Group | None:
    row = view.peek(b"g" + group_id)
    return Group(group_id, *row) if row else None


def members(view: View, group_id: bytes) -> list[bytes]:
    """The accounts that are in it."""
    return [key[17:] for key, _ in view.range(b"G" + group_id)]


def groups_of(view: View, account: bytes) -> tuple[bytes, ...]:
    """The groups that the account is in."""
    return tuple(key[17:] for key, _ in view.range(b"M" + account))


def identified(view: View, text: str, near: str = "") -> bytes | None:
    """The group that `group:NAME` names in an access control list; None for nobody.

    NAME is its address; or the name before the @, in the domain of `near`, an address of the tenant.
    """
    if not text.startswith(IDENTIFIER):
        return None
    name = text.removeprefix(IDENTIFIER).casefold()
    wanted = name if "@" in name else f"{name}@{near.rpartition('@')[2]}"
    return next((one.id for one in groups(view) if one.address == wanted), None)


def identifier(view: View, group_id: bytes) -> str | None:
    """How access control lists name a group; None where it has gone."""
    found = group(view, group_id)
    return IDENTIFIER + found.address if found is not None else None


def _member_key(group: bytes, account: bytes) -> bytes:
    return b"G" + group + account
