"""How the mailbox decides about itself and its folders: names, subscriptions, who may see them, what is noted on them.

Each gives the events that carry out its command, none when nothing would change, and raises CommandRefused.
"""

from __future__ import annotations

from actors import mailbox_acl, mailbox_annotations
from actors.errors import (
    FolderExists,
    NotAllowed,
    TooLarge,
)
from actors.mailbox_acl import EVERY, SetRights
from actors.mailbox_annotations import SERVER, SetAnnotations
from actors.mailbox_messages import found_messages
from actors.mailbox_required import require_folder, require_open
from actors.mailbox_rows import (
    IDENTITY_KEY,
    INBOX,
    MAX_MESSAGES_PER_RECORD,
    USAGE_KEY,
    folders,
    is_inferior,
    name_key,
    normalise_folder_name,
    subscription_key,
    superior_names,
    uids_in,
)
from actors.mailbox_terms import (
    DEFAULT_FOLDERS,
    CreateFolder,
    DeleteFolder,
    FolderCreated,
    FolderDeleted,
    FolderRenamed,
    FolderSubscribed,
    FolderUnsubscribed,
    MailboxFact,
    MailboxOpened,
    MessagesMoved,
    OpenMailbox,
    Parents,
    RenameFolder,
    Subscribe,
    Unsubscribe,
)
from eventlog.views import View

Facts = tuple[MailboxFact, ...]


MAX_FOLDERS = 5000


def open_mailbox(view: View, command: OpenMailbox) -> Facts:
    if view.get(IDENTITY_KEY) is not None or view.get(USAGE_KEY) is not None:
        raise NotAllowed("a mailbox is opened once")
    if command.folder_ids and len(command.folder_ids) != len(DEFAULT_FOLDERS):
        raise NotAllowed(f"a mailbox is opened with {len(DEFAULT_FOLDERS)} folder ids")
    standard = tuple((id_, name, use) for id_, (name, use) in zip(command.folder_ids, DEFAULT_FOLDERS))
    return (MailboxOpened(command.tenant, command.address, standard, command.quota_bytes),)


def create(view: View, command: CreateFolder) -> Facts:
    require_open(view)
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


def rename(view: View, command: RenameFolder) -> Facts:
    require_open(view)
    old_name = require_folder(view, command.folder_id)[0]
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
            require_folder(view, child.id)
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
    uids = tuple(one.uid for one in found_messages(view, command.folder_id, uids_in(view, command.folder_id)))
    return (created, MessagesMoved(command.folder_id, uids, command.inbox_id)) if uids else (created,)


def delete(view: View, command: DeleteFolder) -> Facts:
    require_open(view)
    name = require_folder(view, command.folder_id)[0]
    if name == INBOX:
        raise NotAllowed("INBOX can not be deleted")  # RFC 3501 6.3.4
    return (FolderDeleted(command.folder_id, name),)


def change_subscription(view: View, command: Subscribe | Unsubscribe) -> Facts:
    require_open(view)
    name = normalise_folder_name(command.name)
    subscribed = view.get(subscription_key(name)) is not None
    if isinstance(command, Subscribe):
        return () if subscribed else (FolderSubscribed(name),)
    return (FolderUnsubscribed(name),) if subscribed else ()


def annotate(view: View, command: SetAnnotations) -> Facts:
    require_open(view)
    if command.folder_id != SERVER:
        require_folder(view, command.folder_id)
    return mailbox_annotations.decide(view, command)


def set_rights(view: View, command: SetRights) -> Facts:
    require_open(view)
    if command.folder_id != EVERY:
        require_folder(view, command.folder_id)
    return mailbox_acl.decide(view, command)


def _free_name(view: View, name: str) -> None:
    if view.get(name_key(name)) is not None:
        raise FolderExists(f"{name} exists")


def _missing_superiors(view: View, name: str, parents: Parents) -> tuple[FolderCreated, ...]:
    ids = {normalise_folder_name(parent): folder_id for folder_id, parent in parents}
    needed = [superior for superior in superior_names(name) if superior in ids]
    return tuple(FolderCreated(ids[one], one, None) for one in needed if view.get(name_key(one)) is None)
