"""Large mailbox commands cut into records of bounded size.

A record may write only so many rows, so that a tick never waits long for one fold. Each step is a command of its own
that leaves the mailbox consistent; nothing here writes or proposes.
"""

from __future__ import annotations

from actors import mailbox_acting, mailbox_spread
from actors.kind import Command
from actors.mailbox_acl import Acting
from actors.mailbox_rows import (
    INBOX,
    MAX_MESSAGES_PER_RECORD,
    folder,
    folders,
    message,
    require_room,
    uids_in,
)
from actors.mailbox_terms import (
    ChangeFlags,
    CloseMailbox,
    CopyMessages,
    CreateFolder,
    DeleteFolder,
    Expunge,
    MoveMessages,
    RenameFolder,
    SpreadFlags,
)
from eventlog.views import View


def slices(view: View, command: Command) -> tuple[Command, ...]:
    """The command as steps of at most 1000 messages each, in order; alone when it is no larger.

    A step that was done is not undone when a later one fails: asking again goes on from there.
    """
    match command:
        case ChangeFlags(folder_id, uids, mode, flags, since):
            return tuple(ChangeFlags(folder_id, part, mode, flags, since) for part in _parts(uids)) or (command,)
        case SpreadFlags():
            return mailbox_spread.slices(view, command) or (command,)
        case CopyMessages(folder_id, uids, target_id):
            # A COPY is whole or not at all (RFC 3501 6.4.7): its room is looked for before the first slice.
            sizes = [one.size for uid in set(uids) if (one := message(view, folder_id, uid))]
            require_room(view, sum(sizes), len(sizes))
            return tuple(CopyMessages(folder_id, part, target_id) for part in _parts(uids)) or (command,)
        case MoveMessages(folder_id, uids, target_id):
            return tuple(MoveMessages(folder_id, part, target_id) for part in _parts(uids)) or (command,)
        case Expunge(folder_id, uids, force) if not command.modseqs:
            return tuple(Expunge(folder_id, part, force) for part in _parts(uids)) or (command,)
        case DeleteFolder(folder_id):
            doomed = folder(view, folder_id)
            if doomed is None or doomed.name == INBOX:
                return (command,)  # will be refused: nothing may be emptied for it
            return (*_emptying(view, folder_id), command)
        case CloseMailbox():
            return (*(step for found in folders(view) for step in _emptying(view, found.id, leave=0)), command)
        case Acting():
            return mailbox_acting.slices(view, command, slices)
        case RenameFolder():
            return _rename_steps(view, command)
        case _:
            return (command,)


def _parts(uids: tuple[int, ...]) -> list[tuple[int, ...]]:
    wanted = sorted(set(uids))
    step = MAX_MESSAGES_PER_RECORD
    return [tuple(wanted[at : at + step]) for at in range(0, len(wanted), step)]


def _emptying(view: View, folder_id: bytes, leave: int = 1) -> tuple[Command, ...]:
    """Expunges that leave at most so many records' worth of messages to the event that removes the folder."""
    parts = _parts(uids_in(view, folder_id))
    return tuple(Expunge(folder_id, part, force=True) for part in parts[: max(len(parts) - leave, 0)])


def _rename_steps(view: View, command: RenameFolder) -> tuple[Command, ...]:
    renamed = folder(view, command.folder_id)
    if renamed is None or renamed.name != INBOX or command.inbox_id is None:
        return (command,)
    parts = _parts(uids_in(view, command.folder_id))
    if len(parts) <= 1:
        return (command,)
    created = CreateFolder(command.inbox_id, command.name, None, command.parents)
    return (created, *(MoveMessages(command.folder_id, part, command.inbox_id) for part in parts))
