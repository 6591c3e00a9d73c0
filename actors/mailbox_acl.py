"""Who else may do what with a mailbox's folders (RFC 4314): the lists, and what a command of another account needs.

Rows of the owner's stream: R + folder id (EVERY for all of them) + "+" or "-" + whom (the id of an account or group, or
ANYONE of the tenant): rights; R alone: how many such rows. What another account asks for arrives as `Acting`; the rows
that it stands on become guards of its record, so a right that was taken away meanwhile lets nothing through.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, assert_never

from actors.errors import InvalidName, NoRight, NoSuchFolder, TooLarge
from actors.kind import Command, Fact
from eventlog.views import View

RIGHTS = "lrswipkxtea"  # RFC 4314 2.1, in the order in which they are shown
ANYONE = bytes(16)  # in place of an account: all of the tenant's
EVERY = bytes(16)  # in place of a folder: all folders, those to come too
MAX_ENTRIES = 500  # of one account's mailbox

Mode = Literal["replace", "add", "remove"]

_TOTAL_KEY = b"R"
_VIRTUAL = {"c": "kx", "d": "tex"}


class Entry(NamedTuple):
    """One line of a list; `negative` rights are taken from what other lines grant."""

    whom: bytes
    negative: bool
    rights: str


@dataclass(frozen=True, slots=True)
class SetRights(Command):
    """Rights of one line, in place of those that it has, or beside them, or out of them. A line without any goes."""

    folder_id: bytes
    whom: bytes
    negative: bool
    rights: str
    mode: Mode = "replace"


@dataclass(frozen=True, slots=True)
class ForgetGrantee(Command):
    """Every line of an account that goes: it would count for ever and could not be shown to anybody."""

    whom: bytes


@dataclass(frozen=True, slots=True)
class Acting(Command):
    """A command for a mailbox by an account that is not its owner; `needs` stands in for what it needs by itself."""

    SLICED: ClassVar[bool] = True
    account: bytes
    command: Command
    needs: str = ""
    groups: tuple[bytes, ...] = ()  # that the account is in, as of the command: no guard stands on that

    @property
    def who(self) -> tuple[bytes, ...]:
        """All names under which the account has rights."""
        return (self.account, *self.groups)


@dataclass(frozen=True, slots=True)
class FolderRightsSet(Fact):
    folder_id: bytes
    whom: bytes
    negative: bool
    rights: str
    SINCE: ClassVar[int] = 3


def ordered(rights: str | frozenset[str]) -> str:
    """Rights once each, in the order in which they are shown."""
    return "".join(right for right in RIGHTS if right in rights)


def parsed(text: str) -> str:
    """Rights as people and clients write them, those of RFC 2086 too (RFC 4314 2.1.1). Raises InvalidName."""
    rights = "".join(_VIRTUAL.get(one, one) for one in text)
    if any(one not in RIGHTS for one in rights):
        raise InvalidName(f"the rights are {RIGHTS}")
    return ordered(rights)


def held(read: Callable[[bytes], Any], folder_id: bytes, who: Sequence[bytes]) -> frozenset[str]:
    """What somebody who is not the owner may do with a folder; `read` is a view's get or peek.

    `who`: the account, and the groups that it is in.
    """
    granted: set[str] = set()
    taken: set[str] = set()
    for scope in (folder_id, EVERY):
        for whom in (*who, ANYONE):
            granted.update(read(_key(scope, False, whom)) or "")
            taken.update(read(_key(scope, True, whom)) or "")
    return frozenset(granted - taken)


def entries(view: View, folder_id: bytes) -> list[Entry]:
    """The list of a folder, or with EVERY what holds for all of them."""
    return [
        Entry(key[18:], key[17:18] == b"-", rights)
        for key, rights in view.range(b"R" + folder_id)
        if len(key) > len(_TOTAL_KEY)
    ]


def require(view: View, folder_id: bytes, who: Sequence[bytes], needed: str) -> frozenset[str]:
    """All that the account may do, where it has the rights that are needed.

    Raises NoSuchFolder where it may not even know of the folder (RFC 4314 6), NoRight.
    """
    found = held(view.get, folder_id, who)
    if "l" not in found:
        raise NoSuchFolder("no such folder")
    missing = [right for right in needed if right not in found]
    if missing:
        raise NoRight(f"you do not have the right {missing[0]!r} there")
    return found


def decide(view: View, command: SetRights) -> tuple[FolderRightsSet, ...]:
    """For actors/mailbox.py, which has looked whether the folder is there. Raises TooLarge."""
    before = view.get(_key(command.folder_id, command.negative, command.whom))
    rights = _changed(before or "", command)
    if rights == (before or ""):
        return ()
    if before is None and (view.get(_TOTAL_KEY) or 0) >= MAX_ENTRIES:
        raise TooLarge(f"the lists of an account have at most {MAX_ENTRIES} lines")
    return (FolderRightsSet(command.folder_id, command.whom, command.negative, rights),)


def forgotten(view: View, command: ForgetGrantee) -> tuple[FolderRightsSet, ...]:
    """For actors/mailbox.py: what takes the lines away."""
    found = [key for key, _ in view.range(_TOTAL_KEY) if key[18:] == command.whom]
    for key in found:
        view.get(key)  # the record stands on the lines that it takes away
    return tuple(FolderRightsSet(key[1:17], command.whom, key[17:18] == b"-", "") for key in found)


def _changed(before: str, command: SetRights) -> str:
    match command.mode:
        case "replace":
            return ordered(command.rights)
        case "add":
            return ordered(before + command.rights)
        case "remove":
            return ordered(frozenset(before) - frozenset(command.rights))
        case _:
            assert_never(command.mode)


def inherited(view: View, parent_id: bytes, folder_id: bytes) -> tuple[FolderRightsSet, ...]:
    """The list of the folder above, for a new one."""
    found = entries(view, parent_id)
    if found and (view.get(_TOTAL_KEY) or 0) + len(found) > MAX_ENTRIES:
        raise TooLarge(f"the lists of an account have at most {MAX_ENTRIES} lines")
    return tuple(FolderRightsSet(folder_id, one.whom, one.negative, one.rights) for one in found)


def evolve(view: View, fact: FolderRightsSet) -> None:
    """For actors/mailbox_fold.py, which has looked whether the folder is there."""
    key = _key(fact.folder_id, fact.negative, fact.whom)
    total = view.get(_TOTAL_KEY) or 0
    before = view.get(key)
    if fact.rights:
        view.put(key, fact.rights)
    else:
        view.delete(key)
    view.put(_TOTAL_KEY, total + bool(fact.rights) - (before is not None))


def forget(view: View, folder_id: bytes) -> None:
    """The folder goes, and with it who could see it."""
    keys = [key for key, _ in view.range(b"R" + folder_id)]
    if keys:
        for key in keys:
            view.delete(key)
        view.put(_TOTAL_KEY, view.get(_TOTAL_KEY) - len(keys))


def forget_all(view: View) -> None:
    """The account goes."""
    for key, _ in list(view.range(_TOTAL_KEY)):
        view.delete(key)


def _key(folder_id: bytes, negative: bool, whom: bytes) -> bytes:
    return b"R" + folder_id + (b"-" if negative else b"+") + whom
