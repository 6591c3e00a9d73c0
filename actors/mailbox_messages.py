"""How the mailbox decides about messages: what comes in, flags, what goes, what is copied and moved.

Each gives the events that carry out its command, none when nothing would change, and raises CommandRefused. What
commutes guards only the identity of the account and of the folder, so that it never starves.
"""

from __future__ import annotations

from collections.abc import Iterable

from actors.errors import (
    NoSuchMessage,
    TooLarge,
)
from actors.mailbox_flags import FlagBlocks
from actors.mailbox_required import require_folder, require_open
from actors.mailbox_rows import (
    DELETED,
    INBOX,
    MAX_MESSAGES_PER_RECORD,
    USAGE_KEY,
    Message,
    message,
    message_key,
    name_key,
    normalise_flags,
    normalise_folder_name,
    require_room,
    stand_on,
)
from actors.mailbox_terms import (
    Append,
    ChangeFlags,
    CopyMessages,
    Deliver,
    Expunge,
    FlagsChanged,
    MailboxFact,
    MessageAppended,
    MessageDelivered,
    MessagesCopied,
    MessagesExpunged,
    MessagesMoved,
    MessagesRedacted,
    MoveMessages,
    NewMessage,
    RedactMessages,
    ReplaceMessage,
)
from actors.redaction import PLACEHOLDER, PLACEHOLDER_DIGEST
from eventlog.views import View

Facts = tuple[MailboxFact, ...]


def deliver(view: View, command: Deliver) -> Facts:
    require_open(view)
    wanted = normalise_folder_name(command.folder)
    folder_id = view.peek(name_key(wanted)) or view.peek(name_key(INBOX))
    require_folder(view, folder_id or b"")
    message_in = command.message
    require_room(view, message_in.size)
    return (
        MessageDelivered(
            folder_id,
            message_in.id,
            message_in.digest,
            message_in.size,
            message_in.internaldate_ms,
            normalise_flags(command.flags),
            message_in.trace,
            message_in.message_id,
            message_in.references,
            message_in.sent_ms,
            command.envelope_from,
            command.envelope_to,
            command.protocol,
            command.verdicts,
        ),
    )


def append(view: View, command: Append) -> Facts:
    require_open(view)
    require_folder(view, command.folder_id)
    require_room(view, command.message.size)
    return (_appended(command.folder_id, command.message, command.flags),)


def replace(view: View, command: ReplaceMessage) -> Facts:
    """Stands on the row of the old message: of two who replace one draft at once, one is told that it has gone."""
    require_open(view)
    require_folder(view, command.folder_id)
    require_folder(view, command.target_id)
    if view.get(message_key(command.folder_id, command.uid)) is None:
        raise NoSuchMessage("the message that is to be replaced is no longer there")
    old = message(view, command.folder_id, command.uid)
    require_room(view, max(0, command.message.size - (old.size if old else 0)), 0)
    return (
        _appended(command.target_id, command.message, command.flags),
        MessagesExpunged(command.folder_id, (command.uid,), True),
    )


def _appended(folder_id: bytes, message_in: NewMessage, flags: tuple[str, ...]) -> MessageAppended:
    return MessageAppended(
        folder_id,
        message_in.id,
        message_in.digest,
        message_in.size,
        message_in.internaldate_ms,
        normalise_flags(flags),
        message_in.trace,
        message_in.message_id,
        message_in.references,
        message_in.sent_ms,
    )


def change_flags(view: View, command: ChangeFlags) -> Facts:
    require_open(view)
    require_folder(view, command.folder_id)
    flags = normalise_flags(command.flags)
    uids = tuple(found.uid for found in found_messages(view, command.folder_id, command.uids))
    if not uids:
        return ()
    return (FlagsChanged(command.folder_id, uids, command.mode, flags, command.unchanged_since),)


def expunge(view: View, command: Expunge) -> Facts:
    require_open(view)
    require_folder(view, command.folder_id)
    for uid, modseq in zip(command.uids, command.modseqs):
        stand_on(view, command.folder_id, uid)
        row = message(view, command.folder_id, uid)
        if row is None or row.modseq != modseq:
            raise NoSuchMessage("some of the messages are no longer there, or not as they were")
    found = found_messages(view, command.folder_id, command.uids)
    uids = tuple(one.uid for one in found if command.force or DELETED in one.flags)
    return (MessagesExpunged(command.folder_id, uids, command.force),) if uids else ()


def copy(view: View, command: CopyMessages) -> Facts:
    found = _for_transfer(view, command)
    require_room(view, sum(one.size for one in found), len(found))
    return (MessagesCopied(command.folder_id, tuple(one.uid for one in found), command.target_id),)


def move(view: View, command: MoveMessages) -> Facts:
    found = _for_transfer(view, command)
    return (MessagesMoved(command.folder_id, tuple(one.uid for one in found), command.target_id),)


def _for_transfer(view: View, command: CopyMessages | MoveMessages) -> list[Message]:
    require_open(view)
    require_folder(view, command.folder_id)
    require_folder(view, command.target_id)
    found = found_messages(view, command.folder_id, command.uids)
    if not found:
        raise NoSuchMessage("the messages are no longer there")
    return found


def found_messages(view: View, folder_id: bytes, uids: Iterable[int]) -> list[Message]:
    """Those of the UIDs that are there, ascending. Raises TooLarge for more than one record may have."""
    wanted = sorted(set(uids))
    if len(wanted) > MAX_MESSAGES_PER_RECORD:
        raise TooLarge(f"at most {MAX_MESSAGES_PER_RECORD} messages in one record")
    blocks = FlagBlocks(view, folder_id)
    return [found for uid in wanted if (found := message(view, folder_id, uid, blocks))]


def redact(view: View, command: RedactMessages) -> Facts:
    """Every copy, wherever it went: that none comes while this is decided is why usage is a guard."""
    view.get(USAGE_KEY)
    found: dict[bytes, list[Message]] = {}
    for key, row in view.range(b"m"):  # all folders in one go: a mailbox may have a million rows
        if row[1] == command.digest if command.digest is not None else row[0] in command.message_ids:
            found.setdefault(key[1:-4], []).append(Message(int.from_bytes(key[-4:], "big"), *row))
    facts: list[MailboxFact] = []
    for folder_id, ones in found.items():
        for at in range(0, len(ones), MAX_MESSAGES_PER_RECORD):
            part = ones[at : at + MAX_MESSAGES_PER_RECORD]
            uids = tuple(one.uid for one in part)
            if command.digest is not None:
                facts.append(MessagesRedacted(folder_id, uids, (len(PLACEHOLDER),) * len(part), PLACEHOLDER_DIGEST))
            else:
                facts.append(MessagesRedacted(folder_id, uids, tuple(one.size - len(one.trace) for one in part), None))
    return tuple(facts)
