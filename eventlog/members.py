"""Who belongs to the cell: the configuration, how it may change, and how it stands in the log.

A configuration is an entry of kind KIND_CONFIG: an ordinary record with one event that holds all of it, so that who
changed it, when and why is in the log. It is in force from the moment it is appended (Ongaro's thesis, 4.1), which is
why the fold asks nothing and only writes down what it says. What this refuses, the leader never appends.
"""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import msgpack

from eventlog.errors import Rejected
from eventlog.record import NO_TENANT, SALT_BYTES, By, Event, Record, RecordError, decode, stream_id
from eventlog.views import View

MEMBERS = stream_id("log", "members")
MEMBERS_CHANGED = "MembersChanged"
MAX_MEMBERS = 9
MAX_ADDRESS = 270  # the longest host name, brackets, a port
EXPIRES_MS = 60_000

_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_ADDRESS = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[^\s\[\]:]+):([0-9]{1,5})")
_MEMBER = b"m"  # name -> (address, voter, position and time in ms since which it is a member)
_REMOVED = b"r"  # name -> (position, time in ms)


class Member(NamedTuple):
    """One node of the cell; `address` is where its peers reach it. A learner gets entries and decides nothing."""

    name: str
    address: str
    voter: bool


Members = tuple[Member, ...]  # in the order of their names


class Configuration(NamedTuple):
    """The members as of a position; 0 is what the configuration file says, before the log says anything."""

    position: int
    members: Members

    def member(self, name: str) -> Member | None:
        return next((member for member in self.members if member.name == name), None)


def configured(peers: Collection[str]) -> Members:
    """What a configuration file names: all of them vote. Names alone will do where nobody connects."""
    addresses = peers if isinstance(peers, Mapping) else {}
    return tuple(Member(name, addresses.get(name, ""), True) for name in sorted(peers))


# -- what may be asked for ------------------------------------------------------------------------------------------


def added(members: Members, name: str, address: str) -> Members:
    """With a new learner. Raises Rejected."""
    if not _NAME.fullmatch(name):
        raise Rejected("bad_name", "a name has 1 to 32 lower-case letters, digits and dashes, a letter first")
    if not _is_address(address):
        raise Rejected("bad_address", f"{address[:80]!r}: must be host:port, an IPv6 host in brackets")
    if any(member.name == name for member in members):
        raise Rejected("is_a_member", f"{name} is a member of the cell already")
    if any(member.address == address for member in members):
        raise Rejected("bad_address", f"{address} is the address of another member")
    if len(members) >= MAX_MEMBERS:
        raise Rejected("too_many_members", f"a cell has at most {MAX_MEMBERS} members")
    return tuple(sorted((*members, Member(name, address, False))))


def removed(members: Members, name: str) -> Members:
    """Without one. Raises Rejected."""
    left = tuple(member for member in members if member.name != name)
    if len(left) == len(members):
        raise Rejected("not_a_member", f"{name} is no member of the cell")
    if not any(member.voter for member in left):
        raise Rejected("last_voter", f"{name} is the last member that votes: without it the cell could decide nothing")
    return left


def promoted(members: Members, name: str) -> Members:
    """With a learner that votes from now on."""
    return tuple(member._replace(voter=member.voter or member.name == name) for member in members)


def is_one_step(old: Members, new: Members) -> bool:
    """Whether at most one node comes (as a learner), goes, or begins to vote: then majorities overlap (4.1)."""
    before, after = {m.name: m for m in old}, {m.name: m for m in new}
    come = [after[name] for name in after.keys() - before.keys()]
    gone = before.keys() - after.keys()
    changed = [name for name in before.keys() & after.keys() if before[name] != after[name]]
    if len(come) + len(gone) + len(changed) > 1:
        return False
    return not any(member.voter for member in come) and all(
        after[name] == before[name]._replace(voter=True) for name in changed
    )


def _is_address(address: str) -> bool:
    found = _ADDRESS.fullmatch(address) if len(address) <= MAX_ADDRESS else None
    return found is not None and 0 < int(found[1]) <= 65535


# -- on the log -----------------------------------------------------------------------------------------------------


def change_record(members: Members, by: By, cause: str, now_ms: int, entropy: Callable[[int], bytes]) -> Record:
    """The record of an entry that puts these members in force. `entropy` gives so many random bytes."""
    event = Event(NO_TENANT, MEMBERS, MEMBERS_CHANGED, 1, pack(members), entropy(SALT_BYTES))
    id_ = now_ms.to_bytes(6, "big") + entropy(10)
    return Record(id_, now_ms + EXPIRES_MS, by, cause, (), (event,))


def members_in(data: bytes) -> Members:
    """The members that a configuration entry puts in force. Raises RecordError."""
    events = decode(data).events
    if len(events) != 1 or events[0].stream != MEMBERS or events[0].type != MEMBERS_CHANGED:
        raise RecordError("not a configuration")
    return unpack(events[0].data)


def pack(members: Members) -> bytes:
    return bytes(msgpack.packb(members))


def unpack(data: bytes) -> Members:
    """Raises RecordError for what no leader has written."""
    try:
        members = tuple(Member(*row) for row in msgpack.unpackb(data, use_list=False))
    except Exception as error:
        raise RecordError(f"not a configuration: {error}") from error
    names = [member.name for member in members]
    sound = all(type(m.name) is type(m.address) is str and type(m.voter) is bool for m in members)
    if not sound or not 1 <= len(members) <= MAX_MEMBERS or names != sorted(set(names)):
        raise RecordError("a configuration names 1 to 9 members, each once, in order")
    if not any(member.voter for member in members):
        raise RecordError("a configuration has a member that votes")
    return members


def evolve(view: View, event: Event, position: int, at_ms: int) -> Members:
    """Writes the rows of a configuration: who is a member and since when, and who was."""
    members = unpack(event.data)
    before = dict(view.range(_MEMBER))
    for member in members:
        row = before.pop(_MEMBER + member.name.encode(), None)
        since = row[2:] if row else (position, at_ms)
        view.put(_MEMBER + member.name.encode(), (member.address, member.voter, *since))
    for key in sorted(before):
        view.delete(key)
        view.put(_REMOVED + key[1:], (position, at_ms))
    return members


def removed_names(view: View) -> frozenset[str]:
    """Every node that was a member once: it is not trusted, and its name not used, again."""
    return frozenset(key[1:].decode() for key, _ in view.range(_REMOVED))


def rows(view: View) -> list[tuple[str, Any]]:
    """Name and row of each member as folded, for people: address, voter, position and time since when."""
    return [(key[1:].decode(), row) for key, row in view.range(_MEMBER)]
