"""The mailbox's vocabulary: its commands and its events.

Names and addresses are normalised, ids drawn and messages parsed before a command is built; nothing here reads a
clock or a table. Events keep what `decide` knew; what only the order of the log can tell (UID, MODSEQ, usage) is
assigned by `evolve` and stands in no event.
"""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

from actors.kind import Command, Fact
from actors.mailbox_acl import Acting, FolderRightsSet, ForgetGrantee, SetRights
from actors.mailbox_annotations import AnnotationsSet, SetAnnotations
from actors.mailbox_maildrop import MaildropCommand, MaildropFact
from actors.values import dataclass

Mode = Literal["add", "remove", "replace"]
Parents = tuple[tuple[bytes, str], ...]


class DefaultFolder(NamedTuple):
    name: str
    special_use: str | None  # RFC 6154


DEFAULT_FOLDERS = (
    DefaultFolder("INBOX", None),
    DefaultFolder("Drafts", "\\Drafts"),
    DefaultFolder("Sent", "\\Sent"),
    DefaultFolder("Junk", "\\Junk"),
    DefaultFolder("Trash", "\\Trash"),
    DefaultFolder("Archive", "\\Archive"),
)


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message about to enter a mailbox; its body travels beside the record, keyed by `digest`."""

    id: bytes  # new_id()
    digest: bytes  # SHA-256 of the client's bytes, without `trace`
    size: int  # octets of `trace` and body together
    internaldate_ms: int
    trace: bytes = b""  # Return-Path and Received lines, CRLF, put in front when read
    message_id: str | None = None
    references: tuple[str, ...] = ()
    sent_ms: int | None = None


# Commands


@dataclass(frozen=True, slots=True)
class OpenMailbox(Command):
    """Of an account; or of a tenant, where it has no address: its public folders, none at first."""

    tenant: bytes
    address: str
    folder_ids: tuple[bytes, ...]  # one new_id() for each of DEFAULT_FOLDERS
    quota_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class NotePastViewed(Command):
    """Somebody looks at the mailbox as it was at a position of the log."""

    PIPELINES: ClassVar[bool] = True
    ON_REPLICA: ClassVar[bool] = True  # it changes nothing, and who looked is noted where they looked
    position: int


@dataclass(frozen=True, slots=True)
class CloseMailbox(Command):
    SLICED: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Deliver(Command):
    """A message from SMTP or LMTP; `folder` is a name, and INBOX stands in when there is none of that name."""

    message: NewMessage
    folder: str = "INBOX"
    flags: tuple[str, ...] = ()
    envelope_from: str = ""
    envelope_to: str = ""
    protocol: str = "smtp"
    verdicts: bytes = b""  # what the checks found: a MessagePack map, empty where nothing was judged
    PIPELINES: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Append(Command):
    """IMAP APPEND (RFC 3501 6.3.11)."""

    folder_id: bytes
    message: NewMessage
    flags: tuple[str, ...] = ()
    PIPELINES: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class ReplaceMessage(Command):
    """IMAP REPLACE (RFC 8508): `message` comes to `target_id` and the old one goes, or neither."""

    folder_id: bytes
    uid: int
    target_id: bytes
    message: NewMessage
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ChangeFlags(Command):
    """IMAP STORE; with `unchanged_since`, messages changed after that MODSEQ are left alone (RFC 7162 3.1.3)."""

    folder_id: bytes
    uids: tuple[int, ...]
    mode: Mode
    flags: tuple[str, ...]
    unchanged_since: int | None = None
    SLICED: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class SpreadFlags(Command):
    """ChangeFlags of all that is there of spans of UIDs: of thousands at once, in a cell of feature level 3."""

    folder_id: bytes
    spans: tuple[tuple[int, int], ...]  # first and last
    mode: Mode
    flags: tuple[str, ...]
    unchanged_since: int | None = None
    SLICED: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class CopyMessages(Command):
    folder_id: bytes
    uids: tuple[int, ...]
    target_id: bytes
    SLICED: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class MoveMessages(Command):
    """RFC 6851."""

    folder_id: bytes
    uids: tuple[int, ...]
    target_id: bytes
    SLICED: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Expunge(Command):
    """Remove those of `uids` that carry \\Deleted; with `force`, all of them (POP3 QUIT).

    With `modseqs`, one for each of `uids`, refused where one of them has gone or has changed since: what is appended
    elsewhere in the same record is then not doubled, and is as the message was.
    """

    folder_id: bytes
    uids: tuple[int, ...]
    force: bool = False
    modseqs: tuple[int, ...] = ()
    SLICED: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class CreateFolder(Command):
    """`parents`: an id and a name for each superior name, used for those that are missing (RFC 3501 6.3.3)."""

    folder_id: bytes
    name: str
    special_use: str | None = None
    parents: Parents = ()


@dataclass(frozen=True, slots=True)
class RenameFolder(Command):
    """Inferior names move along. INBOX stays and its messages move to a new folder `inbox_id` (RFC 3501 6.3.5)."""

    folder_id: bytes
    name: str
    inbox_id: bytes | None = None
    parents: Parents = ()
    SLICED: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class DeleteFolder(Command):
    folder_id: bytes
    SLICED: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Subscribe(Command):
    name: str


@dataclass(frozen=True, slots=True)
class Unsubscribe(Command):
    name: str


@dataclass(frozen=True, slots=True)
class SetQuota(Command):
    limit_bytes: int | None
    limit_messages: int | None = None


@dataclass(frozen=True, slots=True)
class RedactMessages(Command):
    """The part of a redaction that is this mailbox's: every message with that body, if its content goes.

    Else `message_ids` loses trace headers alone. For the record that carries the redaction.
    """

    digest: bytes | None
    message_ids: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class RedactFolderNames(Command):
    """Likewise for names: `keys` are the ends of their rows' keys (mailbox_rows.name_key)."""

    keys: tuple[bytes, ...]


MailboxCommand = (
    OpenMailbox
    | CloseMailbox
    | Deliver
    | Append
    | ReplaceMessage
    | ChangeFlags
    | SpreadFlags
    | CopyMessages
    | MoveMessages
    | Expunge
    | CreateFolder
    | RenameFolder
    | DeleteFolder
    | Subscribe
    | Unsubscribe
    | SetQuota
    | SetAnnotations
    | SetRights
    | ForgetGrantee
    | Acting
    | RedactMessages
    | RedactFolderNames
    | NotePastViewed
    | MaildropCommand
)


# Events


@dataclass(frozen=True, slots=True)
class MailboxOpened(Fact):
    tenant: bytes
    address: str
    folders: tuple[tuple[bytes, str, str | None], ...]  # id, name, special use
    limit_bytes: int | None


@dataclass(frozen=True, slots=True)
class MailboxClosed(Fact):
    address: str


@dataclass(frozen=True, slots=True)
class MessageDelivered(Fact):
    folder_id: bytes
    message_id: bytes
    digest: bytes
    size: int
    internaldate_ms: int
    flags: tuple[str, ...]
    trace: bytes
    header_message_id: str | None
    references: tuple[str, ...]
    sent_ms: int | None
    envelope_from: str
    envelope_to: str
    protocol: str
    verdicts: bytes = b""
    GREW: ClassVar[tuple[tuple[int, str], ...]] = ((3, "verdicts"),)
    REDACTABLE: ClassVar[tuple[str, ...]] = (
        "trace",
        "header_message_id",
        "references",
        "envelope_from",
        "envelope_to",
        "verdicts",
    )


@dataclass(frozen=True, slots=True)
class MessageAppended(Fact):
    folder_id: bytes
    message_id: bytes
    digest: bytes
    size: int
    internaldate_ms: int
    flags: tuple[str, ...]
    trace: bytes
    header_message_id: str | None
    references: tuple[str, ...]
    sent_ms: int | None
    REDACTABLE: ClassVar[tuple[str, ...]] = ("trace", "header_message_id", "references")


@dataclass(frozen=True, slots=True)
class FlagsChanged(Fact):
    folder_id: bytes
    uids: tuple[int, ...]
    mode: Mode
    flags: tuple[str, ...]
    unchanged_since: int | None


@dataclass(frozen=True, slots=True)
class ManyFlagsChanged(Fact):
    """What FlagsChanged is, of spans of UIDs, ascending and disjoint; in the tables it is a row for many messages."""

    folder_id: bytes
    spans: tuple[tuple[int, int], ...]
    mode: Mode
    flags: tuple[str, ...]
    unchanged_since: int | None
    SINCE: ClassVar[int] = 3


@dataclass(frozen=True, slots=True)
class MessagesCopied(Fact):
    folder_id: bytes
    uids: tuple[int, ...]
    target_id: bytes


@dataclass(frozen=True, slots=True)
class MessagesMoved(Fact):
    folder_id: bytes
    uids: tuple[int, ...]
    target_id: bytes


@dataclass(frozen=True, slots=True)
class MessagesExpunged(Fact):
    folder_id: bytes
    uids: tuple[int, ...]
    force: bool


@dataclass(frozen=True, slots=True)
class MessagesRedacted(Fact):
    """These messages lose their trace headers, and their content where `digest` names what is shown instead.

    Each leaves and comes back under a new UID, because a UID stands for bytes that never change (RFC 3501 2.3.1.1).
    """

    folder_id: bytes
    uids: tuple[int, ...]
    sizes: tuple[int, ...]  # of what is left of each, in octets
    digest: bytes | None
    SINCE: ClassVar[int] = 2


@dataclass(frozen=True, slots=True)
class FolderNamesRedacted(Fact):
    """Folders and subscriptions lose their names; `keys` are the hashes under which rows find them, and go on to."""

    keys: tuple[bytes, ...]
    SINCE: ClassVar[int] = 2


@dataclass(frozen=True, slots=True)
class FolderCreated(Fact):
    folder_id: bytes
    name: str
    special_use: str | None
    REDACTABLE: ClassVar[tuple[str, ...]] = ("name",)


@dataclass(frozen=True, slots=True)
class FolderRenamed(Fact):
    folder_id: bytes
    old_name: str
    new_name: str
    REDACTABLE: ClassVar[tuple[str, ...]] = ("old_name", "new_name")


@dataclass(frozen=True, slots=True)
class FolderDeleted(Fact):
    folder_id: bytes
    name: str
    REDACTABLE: ClassVar[tuple[str, ...]] = ("name",)


@dataclass(frozen=True, slots=True)
class FolderSubscribed(Fact):
    name: str
    REDACTABLE: ClassVar[tuple[str, ...]] = ("name",)


@dataclass(frozen=True, slots=True)
class FolderUnsubscribed(Fact):
    name: str
    REDACTABLE: ClassVar[tuple[str, ...]] = ("name",)


@dataclass(frozen=True, slots=True)
class QuotaSet(Fact):
    limit_bytes: int | None
    limit_messages: int | None = None
    GREW: ClassVar[tuple[tuple[int, str], ...]] = ((3, "limit_messages"),)


@dataclass(frozen=True, slots=True)
class PastViewed(Fact):
    """Who did is the record's author; it changes no table."""

    SINCE: ClassVar[int] = 2
    position: int


MailboxFact = (
    MailboxOpened
    | MailboxClosed
    | MessageDelivered
    | MessageAppended
    | FlagsChanged
    | ManyFlagsChanged
    | MessagesCopied
    | MessagesMoved
    | MessagesExpunged
    | FolderCreated
    | FolderRenamed
    | FolderDeleted
    | FolderSubscribed
    | FolderUnsubscribed
    | QuotaSet
    | AnnotationsSet
    | FolderRightsSet
    | MessagesRedacted
    | FolderNamesRedacted
    | PastViewed
    | MaildropFact
)
