"""What nearly each decision about a mailbox stands on: that it is open, that a folder is there. Both become guards."""

from __future__ import annotations

from actors.errors import (
    NoSuchAccount,
    NoSuchFolder,
)
from actors.mailbox_rows import (
    IDENTITY_KEY,
    FolderRow,
    IdentityRow,
    folder_key,
)
from eventlog.views import View


def require_open(view: View) -> IdentityRow:
    """The account's own row. Raises NoSuchAccount for a mailbox that is closed."""
    row: IdentityRow | None = view.get(IDENTITY_KEY)
    if row is None:
        raise NoSuchAccount("the mailbox is closed")
    return row


def require_folder(view: View, folder_id: bytes) -> FolderRow:
    """The folder's row. Raises NoSuchFolder."""
    row: FolderRow | None = view.get(folder_key(folder_id))
    if row is None:
        raise NoSuchFolder("no such folder")
    return row
