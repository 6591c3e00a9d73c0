"""What a command of an account that is not the owner becomes: the rights that it needs (RFC 4314 4), and what is left.

Flags are shared, \\Seen too: `s` is the right to \\Seen, `t` to \\Deleted, `w` to all others. Where a command may do a
part of what it asks, it does that part, as RFC 4314 4 has it for APPEND and STORE.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import cast

from actors import mailbox_acl
from actors.errors import NoRight, NoSuchFolder
from actors.kind import Command
from actors.mailbox_acl import EVERY, Acting, SetRights
from actors.mailbox_annotations import SERVER, SetAnnotations
from actors.mailbox_rows import (
    DELETED,
    SEEN,
    folder_key,
    message,
    name_key,
    normalise_folder_name,
    stand_on,
    superior_names,
)
from actors.mailbox_terms import (
    Append,
    ChangeFlags,
    CreateFolder,
    DeleteFolder,
    Expunge,
    MailboxCommand,
    MailboxFact,
    RenameFolder,
    ReplaceMessage,
)
from eventlog.views import View

Facts = tuple[MailboxFact, ...]
Decide = Callable[[View, MailboxCommand], Facts]


def decide(view: View, acting: Acting, owners: Decide) -> Facts:
    """The events of the owner's `decide`, for what the account may. Raises NoSuchFolder, NoRight, and as that does."""
    command, who = acting.command, acting.who
    if acting.needs:
        mailbox_acl.require(view, _folder_of(command), who, acting.needs)
        return owners(view, cast(MailboxCommand, command))
    match command:
        case Append():
            rights = mailbox_acl.require(view, command.folder_id, who, "i")
            return owners(view, replace(command, flags=_allowed(command.flags, rights)))
        case ReplaceMessage():
            mailbox_acl.require(view, command.folder_id, who, "te")
            rights = mailbox_acl.require(view, command.target_id, who, "i")
            return owners(view, replace(command, flags=_allowed(command.flags, rights)))
        case ChangeFlags():
            return _flags(view, command, who, owners)
        case Expunge():
            mailbox_acl.require(view, command.folder_id, who, "te" if command.force else "e")
        case CreateFolder():
            _may_create(view, command.name, who)
        case DeleteFolder():
            mailbox_acl.require(view, command.folder_id, who, "x")
        case RenameFolder():
            mailbox_acl.require(view, command.folder_id, who, "x")
            _may_create(view, command.name, who)
        case SetRights():
            mailbox_acl.require(view, command.folder_id, who, "a")
        case SetAnnotations():
            shared = any(entry.lower().startswith("/shared/") for entry, _ in command.changes)
            mailbox_acl.require(view, command.folder_id, who, "rw" if shared else "r")
        case _:
            raise NoRight("that is the owner's alone")
    return owners(view, cast(MailboxCommand, command))


def slices(view: View, acting: Acting, owners: Callable[[View, Command], tuple[Command, ...]]) -> tuple[Command, ...]:
    """The steps of the owner's command; emptying a folder that may be deleted needs no right but that one."""
    inner = acting.command
    if isinstance(inner, DeleteFolder):
        mailbox_acl.require(view, inner.folder_id, acting.who, "x")
        return tuple(replace(acting, command=step, needs="x") for step in owners(view, inner))
    return tuple(replace(acting, command=step) for step in owners(view, inner))


def _folder_of(command: Command) -> bytes:
    folder_id = getattr(command, "folder_id", SERVER)
    if folder_id == SERVER:
        raise NoSuchFolder("no such folder")
    return cast(bytes, folder_id)


def _allowed(flags: Iterable[str], rights: frozenset[str]) -> tuple[str, ...]:
    return tuple(flag for flag in flags if _right_to(flag) in rights)


def _right_to(flag: str) -> str:
    return {SEEN.lower(): "s", DELETED.lower(): "t"}.get(flag.lower(), "w")


def _flags(view: View, command: ChangeFlags, who: Sequence[bytes], owners: Decide) -> Facts:
    rights = mailbox_acl.require(view, command.folder_id, who, "")
    allowed = _allowed(command.flags, rights)
    if not rights & set("stw") or (command.flags and not allowed):
        raise NoRight("you may not change these flags there")
    if command.mode != "replace" or rights >= set("stw"):
        return owners(view, replace(command, flags=allowed))
    return _replaced(view, command, allowed, rights, owners)


def _replaced(
    view: View, command: ChangeFlags, allowed: tuple[str, ...], rights: frozenset[str], owners: Decide
) -> Facts:
    """Of the flags that are there, those stay that the account has no right to."""
    rows = [row for uid in command.uids if (row := message(view, command.folder_id, uid))]
    if command.unchanged_since is not None:
        rows = [row for row in rows if row.modseq <= (command.unchanged_since or 0)]
        for row in rows:
            stand_on(view, command.folder_id, row.uid)  # the two events below are one change
    kept = {flag.lower() for flag in allowed}
    gone = dict.fromkeys(flag for row in rows for flag in _allowed(row.flags, rights) if flag.lower() not in kept)
    change = replace(command, uids=tuple(row.uid for row in rows), unchanged_since=None)
    removed = owners(view, replace(change, mode="remove", flags=tuple(gone))) if gone else ()
    return removed + (owners(view, replace(change, mode="add", flags=allowed)) if allowed else ())


def _may_create(view: View, name: str, who: Sequence[bytes]) -> None:
    """`k` on the nearest folder above, or on all where there is none (RFC 4314 4)."""
    for superior in reversed(superior_names(normalise_folder_name(name))):
        folder_id = view.get(name_key(superior))
        if folder_id is not None and view.get(folder_key(folder_id)) is not None:
            mailbox_acl.require(view, folder_id, who, "k")
            return
    mailbox_acl.require(view, EVERY, who, "k")
