"""The mailbox: one account's folders, messages, flags and usage.

`decide` says who decides what: about messages `mailbox_messages`, about folders `mailbox_folders`. The vocabulary is in
`mailbox_terms`, rows and readers in `mailbox_rows`, the fold in `mailbox_fold`, the cutting of large work in
`mailbox_slices`, all of it importable from here. What commutes (deliveries, appends, flags, expunges) guards only the
identity of the account and of the folder, so that it never starves; usage and counters are read without a guard until
the mailbox is nearly full.
"""

from __future__ import annotations

from typing import assert_never

from actors import (
    mailbox_acl,
    mailbox_acting,
    mailbox_folders,
    mailbox_maildrop,
    mailbox_messages,
    mailbox_spread,
)
from actors.mailbox_acl import EVERY, Acting, FolderRightsSet, ForgetGrantee, SetRights
from actors.mailbox_annotations import SERVER, Annotation, AnnotationsSet, SetAnnotations, annotations_of
from actors.mailbox_expunged import expunged_since
from actors.mailbox_flags import FlagsOfMany, spans_of_sorted
from actors.mailbox_fold import Change, evolve
from actors.mailbox_maildrop import LockMaildrop, UnlockMaildrop
from actors.mailbox_required import require_folder, require_open
from actors.mailbox_rows import (
    DELETED,
    DELIMITER,
    INBOX,
    MAX_MESSAGES_PER_RECORD,
    MAX_UID,
    SEEN,
    SYSTEM_FLAGS,
    Counters,
    Folder,
    Message,
    Usage,
    address_of,
    apply_flags,
    counters,
    folder,
    folder_by_name,
    folders,
    is_open,
    message,
    messages,
    normalise_flags,
    normalise_folder_name,
    subscriptions,
    superior_names,
    tenant_of,
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
from eventlog.views import View

Facts = tuple[MailboxFact, ...]


def decide(view: View, command: MailboxCommand) -> Facts:
    """The events that carry out `command`, none when nothing would change. Raises CommandRefused."""
    match command:
        case Deliver():
            return mailbox_messages.deliver(view, command)
        case Append():
            return mailbox_messages.append(view, command)
        case ReplaceMessage():
            return mailbox_messages.replace(view, command)
        case ChangeFlags():
            return mailbox_messages.change_flags(view, command)
        case SpreadFlags():
            require_open(view)
            require_folder(view, command.folder_id)
            return mailbox_spread.decide(view, command)
        case Expunge():
            return mailbox_messages.expunge(view, command)
        case CopyMessages():
            return mailbox_messages.copy(view, command)
        case MoveMessages():
            return mailbox_messages.move(view, command)
        case OpenMailbox():
            return mailbox_folders.open_mailbox(view, command)
        case CloseMailbox():
            return (MailboxClosed(require_open(view)[1]),)
        case CreateFolder():
            return mailbox_folders.create(view, command)
        case RenameFolder():
            return mailbox_folders.rename(view, command)
        case DeleteFolder():
            return mailbox_folders.delete(view, command)
        case Subscribe() | Unsubscribe():
            return mailbox_folders.change_subscription(view, command)
        case RedactMessages():
            return mailbox_messages.redact(view, command)
        case RedactFolderNames():
            return (FolderNamesRedacted(command.keys),)
        case SetQuota():
            require_open(view)
            return (QuotaSet(command.limit_bytes, command.limit_messages),)
        case SetAnnotations():
            return mailbox_folders.annotate(view, command)
        case SetRights():
            return mailbox_folders.set_rights(view, command)
        case ForgetGrantee():
            require_open(view)
            return mailbox_acl.forgotten(view, command)
        case Acting():
            require_open(view)
            return mailbox_acting.decide(view, command, decide)
        case NotePastViewed():
            require_open(view)
            return (PastViewed(command.position),)
        case LockMaildrop() | UnlockMaildrop():
            require_open(view)
            return mailbox_maildrop.decide(view, command)
        case _:
            assert_never(command)


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
