"""The mailbox: one account's folders, messages, flags and usage.

This file decides; its vocabulary is in `mailbox_terms`, its rows and readers in `mailbox_rows`, its fold in
`mailbox_fold`, the cutting of large work in `mailbox_slices`, all of it importable from here. What commutes
(deliveries, appends, flags, expunges) guards only the identity of the account and of the folder, so that it never
starves; usage and counters are read without a guard until the mailbox is nearly full.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from actors import mailbox_acl, mailbox_acting, mailbox_annotations, mailbox_maildrop, mailbox_spread
from actors.errors import (
    FolderExists,
    NoSuchAccount,
    NoSuchFolder,
    NoSuchMessage,
    NotAllowed,
    TooLarge,
)
from actors.mailbox_acl import EVERY, Acting, FolderRightsSet, ForgetGrantee, SetRights
from actors.mailbox_annotations import SERVER, Annotation, AnnotationsSet, SetAnnotations, annotations_of
from actors.mailbox_expunged import expunged_since
from actors.mailbox_flags import FlagBlocks, FlagsOfMany, spans_of_sorted
from actors.mailbox_fold import Change, evolve
from actors.mailbox_maildrop import LockMaildrop, UnlockMaildrop
from actors.mailbox_rows import (
    DELETED,
    DELIMITER,
    IDENTITY_KEY,
    INBOX,
    MAX_MESSAGES_PER_RECORD,
    MAX_UID,
    SEEN,
    SYSTEM_FLAGS,
    USAGE_KEY,
    Counters,
    Folder,
    FolderRow,
    IdentityRow,
    Message,
    Usage,
    address_of,
    apply_flags,
    counters,
    folder,
    folder_by_name,
    folder_key,
    folders,
    is_inferior,
    is_open,
    message,
    message_key,
    messages,
    name_key,
    normalise_flags,
    normalise_folder_name,
    require_room,
    stand_on,
    subscription_key,
    subscriptions,
    superior_names,
    tenant_of,
    uids_in,
    usage,
)
from actors.mailbox_slices import slices
from actors.mailbox_terms import (
    DEFAULT_FOLDERS,
    Append,
    ChangeFlags,
    CloseMailbox,
    CopyMessages,
    CreateFolder,
    DeleteFolder,
    Deliver,
    Expunge,
    FlagsChanged,
    FolderCreated,
    FolderDeleted,
    FolderNamesRedacted,
    FolderRenamed,
    FolderSubscribed,
    FolderUnsubscribed,
    MailboxClosed,
    MailboxCommand,
    MailboxFact,
    MailboxOpened,
    ManyFlagsChanged,
    MessageAppended,
    MessageDelivered,
    MessagesCopied,
    MessagesExpunged,
    MessagesMoved,
    MessagesRedacted,
    Mode,
    MoveMessages,
    NewMessage,
    NotePastViewed,
    OpenMailbox,
    Parents,
    PastViewed,
    QuotaSet,
    RedactFolderNames,
    RedactMessages,
    RenameFolder,
    ReplaceMessage,
    SetQuota,
    SpreadFlags,
    Subscribe,
    Unsubscribe,
)
from actors.redaction import PLACEHOLDER, PLACEHOLDER_DIGEST
from eventlog.views import View

MAX_FOLDERS = 5000

Facts = tuple[MailboxFact, ...]


def decide(view: View, command: MailboxCommand) -> Facts:
    """The events that carry out `command`, none when nothing would change. Raises CommandRefused."""
    match command:
        case Deliver():
            return _deliver(view, command)
        case Append():
            return _append(view, command)
        case ReplaceMessage():
            return _replace(view, command)
        case ChangeFlags():
            return _change_flags(view, command)
        case SpreadFlags():
            _identity(view)
            _existing(view, command.folder_id)
            return mailbox_spread.decide(view, command)
        case Expunge():
            return _expunge(view, command)
        case CopyMessages():
            return _copy(view, command)
        case MoveMessages():
            return _move(view, command)
        case OpenMailbox():
            return _open(view, command)
        case CloseMailbox():
            return (MailboxClosed(_identity(view)[1]),)
        case CreateFolder():
            return _create(view, command)
        case RenameFolder():
            return _rename(view, command)
        case DeleteFolder():
            return _delete(view, command)
        case Subscribe() | Unsubscribe():
            return _subscription(view, command)
        case RedactMessages():
            return _redact(view, command)
        case RedactFolderNames():
            return (FolderNamesRedacted(command.keys),)
        case SetQuota():
            _identity(view)
            return (QuotaSet(command.limit_bytes, command.limit_messages),)
        case SetAnnotations():
            return _annotate(view, command)
        case SetRights():
            return _set_rights(view, command)
        case ForgetGrantee():
            _identity(view)
            return mailbox_acl.forgotten(view, command)
        case Acting():
            _identity(view)
            return mailbox_acting.decide(view, command, decide)
        case NotePastViewed():
            _identity(view)
            return (PastViewed(command.position),)
        case LockMaildrop() | UnlockMaildrop():
            _identity(view)
            return mailbox_maildrop.decide(view, command)
        case _:
            assert_never(command)


# Messages


def _deliver(view: View, command: Deliver) -> Facts:
    _identity(view)
    wanted = normalise_folder_name(command.folder)
    folder_id = view.peek(name_key(wanted)) or view.peek(name_key(INBOX))
    _existing(view, folder_id or b"")
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


def _append(view: View, command: Append) -> Facts:
    _identity(view)
    _existing(view, command.folder_id)
    require_room(view, command.message.size)
    return (_appended(command.folder_id, command.message, command.flags),)


def _replace(view: View, command: ReplaceMessage) -> Facts:
    """Stands on the row of the old message: of two who replace one draft at once, one is told that it has gone."""
    _identity(view)
    _existing(view, command.folder_id)
    _existing(view, command.target_id)
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


def _change_flags(view: View, command: ChangeFlags) -> Facts:
    _identity(view)
    _existing(view, command.folder_id)
    flags = normalise_flags(command.flags)
    uids = tuple(found.uid for found in _found(view, command.folder_id, command.uids))
    if not uids:
        return ()
    return (FlagsChanged(command.folder_id, uids, command.mode, flags, command.unchanged_since),)


def _expunge(view: View, command: Expunge) -> Facts:
    _identity(view)
    _existing(view, command.folder_id)
    for uid, modseq in zip(command.uids, command.modseqs):
        stand_on(view, command.folder_id, uid)
        row = message(view, command.folder_id, uid)
        if row is None or row.modseq != modseq:
            raise NoSuchMessage("some of the messages are no longer there, or not as they were")
    found = _found(view, command.folder_id, command.uids)
    uids = tuple(one.uid for one in found if command.force or DELETED in one.flags)
    return (MessagesExpunged(command.folder_id, uids, command.force),) if uids else ()


def _copy(view: View, command: CopyMessages) -> Facts:
    found = _for_transfer(view, command)
    require_room(view, sum(one.size for one in found), len(found))
    return (MessagesCopied(command.folder_id, tuple(one.uid for one in found), command.target_id),)


def _move(view: View, command: MoveMessages) -> Facts:
    found = _for_transfer(view, command)
    return (MessagesMoved(command.folder_id, tuple(one.uid for one in found), command.target_id),)


def _for_transfer(view: View, command: CopyMessages | MoveMessages) -> list[Message]:
    _identity(view)
    _existing(view, command.folder_id)
    _existing(view, command.target_id)
    found = _found(view, command.folder_id, command.uids)
    if not found:
        raise NoSuchMessage("the messages are no longer there")
    return found


def _found(view: View, folder_id: bytes, uids: Iterable[int]) -> list[Message]:
    wanted = sorted(set(uids))
    if len(wanted) > MAX_MESSAGES_PER_RECORD:
        raise TooLarge(f"at most {MAX_MESSAGES_PER_RECORD} messages in one record")
    blocks = FlagBlocks(view, folder_id)
    return [found for uid in wanted if (found := message(view, folder_id, uid, blocks))]


def _redact(view: View, command: RedactMessages) -> Facts:
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


# The mailbox and its folders


def _open(view: View, command: OpenMailbox) -> Facts:
    if view.get(IDENTITY_KEY) is not None or view.get(USAGE_KEY) is not None:
        raise NotAllowed("a mailbox is opened once")
    if command.folder_ids and len(command.folder_ids) != len(DEFAULT_FOLDERS):
        raise NotAllowed(f"a mailbox is opened with {len(DEFAULT_FOLDERS)} folder ids")
    standard = tuple((id_, name, use) for id_, (name, use) in zip(command.folder_ids, DEFAULT_FOLDERS))
    return (MailboxOpened(command.tenant, command.address, standard, command.quota_bytes),)


def _create(view: View, command: CreateFolder) -> Facts:
    _identity(view)
    name = normalise_folder_name(command.name)
    _free_name(view, name)
    missing = _missing_superiors(view, name, command.parents)
    if sum(1 for _ in view.range(b"f")) + len(missing) >= MAX_FOLDERS:
        raise TooLarge(f"at most {MAX_FOLDERS} folders")
    created = FolderCreated(command.folder_id, name, command.special_use)
    return (*missing, created, *_inherited(view, command.folder_id, name, missing))


def _inherited(view: View, folder_id: bytes, name: str, missing: tuple[FolderCreated, ...]) -> Facts:
    """Who may see the nearest folder above may see the new ones below it (RFC 4314 6)."""
    above = [view.get(name_key(superior)) for superior in superior_names(name)]
    parent_id = next((one for one in reversed(above) if one is not None), None)
    if parent_id is None:
        return ()
    new = (*(one.folder_id for one in missing), folder_id)
    return tuple(fact for one in new for fact in mailbox_acl.inherited(view, parent_id, one))


def _rename(view: View, command: RenameFolder) -> Facts:
    _identity(view)
    old_name = _existing(view, command.folder_id)[0]
    new_name = normalise_folder_name(command.name)
    if is_inferior(new_name, old_name) and old_name != INBOX:
        raise NotAllowed("a folder can not move below itself")
    _free_name(view, new_name)
    missing = _missing_superiors(view, new_name, command.parents)
    if old_name == INBOX:
        return (*missing, *_rename_inbox(view, command, new_name))
    moved = [FolderRenamed(command.folder_id, old_name, new_name)]
    for child in folders(view):
        if is_inferior(child.name, old_name):
            _existing(view, child.id)
            child_name = normalise_folder_name(new_name + child.name[len(old_name) :])
            _free_name(view, child_name)
            moved.append(FolderRenamed(child.id, child.name, child_name))
    if len(moved) > MAX_MESSAGES_PER_RECORD:
        raise TooLarge(f"at most {MAX_MESSAGES_PER_RECORD} folders renamed at once")
    return (*missing, *moved)


def _rename_inbox(view: View, command: RenameFolder, new_name: str) -> Facts:
    """INBOX keeps its inferior names; its messages move to a new folder (RFC 3501 6.3.5)."""
    if command.inbox_id is None:
        raise NotAllowed("renaming INBOX needs an id for the new folder")
    created = FolderCreated(command.inbox_id, new_name, None)
    uids = tuple(one.uid for one in _found(view, command.folder_id, uids_in(view, command.folder_id)))
    return (created, MessagesMoved(command.folder_id, uids, command.inbox_id)) if uids else (created,)


def _delete(view: View, command: DeleteFolder) -> Facts:
    _identity(view)
    name = _existing(view, command.folder_id)[0]
    if name == INBOX:
        raise NotAllowed("INBOX can not be deleted")  # RFC 3501 6.3.4
    return (FolderDeleted(command.folder_id, name),)


def _subscription(view: View, command: Subscribe | Unsubscribe) -> Facts:
    _identity(view)
    name = normalise_folder_name(command.name)
    subscribed = view.get(subscription_key(name)) is not None
    if isinstance(command, Subscribe):
        return () if subscribed else (FolderSubscribed(name),)
    return (FolderUnsubscribed(name),) if subscribed else ()


def _annotate(view: View, command: SetAnnotations) -> Facts:
    _identity(view)
    if command.folder_id != SERVER:
        _existing(view, command.folder_id)
    return mailbox_annotations.decide(view, command)


def _set_rights(view: View, command: SetRights) -> Facts:
    _identity(view)
    if command.folder_id != EVERY:
        _existing(view, command.folder_id)
    return mailbox_acl.decide(view, command)


def _identity(view: View) -> IdentityRow:
    row: IdentityRow | None = view.get(IDENTITY_KEY)
    if row is None:
        raise NoSuchAccount("the mailbox is closed")
    return row


def _existing(view: View, folder_id: bytes) -> FolderRow:
    row: FolderRow | None = view.get(folder_key(folder_id))
    if row is None:
        raise NoSuchFolder("no such folder")
    return row


def _free_name(view: View, name: str) -> None:
    if view.get(name_key(name)) is not None:
        raise FolderExists(f"{name} exists")


def _missing_superiors(view: View, name: str, parents: Parents) -> tuple[FolderCreated, ...]:
    ids = {normalise_folder_name(parent): folder_id for folder_id, parent in parents}
    needed = [superior for superior in superior_names(name) if superior in ids]
    return tuple(FolderCreated(ids[one], one, None) for one in needed if view.get(name_key(one)) is None)


__all__ = [
    "DEFAULT_FOLDERS",
    "DELETED",
    "DELIMITER",
    "EVERY",
    "INBOX",
    "MAX_MESSAGES_PER_RECORD",
    "MAX_UID",
    "SEEN",
    "SERVER",
    "SYSTEM_FLAGS",
    "Acting",
    "Annotation",
    "AnnotationsSet",
    "Append",
    "Change",
    "ChangeFlags",
    "CloseMailbox",
    "CopyMessages",
    "Counters",
    "CreateFolder",
    "DeleteFolder",
    "Deliver",
    "Expunge",
    "FlagsChanged",
    "FlagsOfMany",
    "Folder",
    "FolderCreated",
    "FolderDeleted",
    "FolderNamesRedacted",
    "FolderRenamed",
    "FolderRightsSet",
    "FolderSubscribed",
    "FolderUnsubscribed",
    "MailboxClosed",
    "MailboxCommand",
    "MailboxFact",
    "MailboxOpened",
    "ManyFlagsChanged",
    "Message",
    "MessageAppended",
    "MessageDelivered",
    "MessagesCopied",
    "MessagesExpunged",
    "MessagesMoved",
    "MessagesRedacted",
    "Mode",
    "MoveMessages",
    "NewMessage",
    "NotePastViewed",
    "OpenMailbox",
    "PastViewed",
    "QuotaSet",
    "RedactFolderNames",
    "RedactMessages",
    "RenameFolder",
    "ReplaceMessage",
    "SetAnnotations",
    "SetQuota",
    "SetRights",
    "SpreadFlags",
    "Subscribe",
    "Unsubscribe",
    "Usage",
    "address_of",
    "annotations_of",
    "apply_flags",
    "counters",
    "decide",
    "evolve",
    "expunged_since",
    "folder",
    "folder_by_name",
    "folders",
    "is_open",
    "message",
    "messages",
    "normalise_flags",
    "normalise_folder_name",
    "slices",
    "spans_of_sorted",
    "subscriptions",
    "superior_names",
    "tenant_of",
    "usage",
]
