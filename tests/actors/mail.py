"""Messages and mailboxes for tests: what is not named has a sensible value."""

from __future__ import annotations

from itertools import count

from actors.mailbox import (
    DEFAULT_FOLDERS,
    Append,
    CreateFolder,
    Deliver,
    Folder,
    NewMessage,
    OpenMailbox,
    folder_by_name,
)
from eventlog.record import digest_of
from tests.actors.stage import START_MS, TENANT, Stage

_serial = count(1)


def an_id() -> bytes:
    """An id that no other call gives, the same in every run."""
    return next(_serial).to_bytes(16, "big")


def a_message(size: int = 100, trace: bytes = b"") -> NewMessage:
    id_ = an_id()
    return NewMessage(id_, digest_of(id_), size, START_MS, trace)


def open_mailbox(stage: Stage, quota_bytes: int | None = None) -> None:
    ids = tuple(an_id() for _ in DEFAULT_FOLDERS)
    stage.do(OpenMailbox(TENANT, "alice@example.test", ids, quota_bytes))


def folder_named(stage: Stage, name: str) -> Folder:
    found = folder_by_name(stage.view, name)
    assert found is not None, f"no folder {name}"
    return found


def create(stage: Stage, name: str) -> Folder:
    stage.do(CreateFolder(an_id(), name))
    return folder_named(stage, name)


def deliver(stage: Stage, messages: int = 1, size: int = 100) -> list[int]:
    """Deliver to INBOX; gives the UIDs."""
    return [stage.do(Deliver(a_message(size)))[0].uid for _ in range(messages)]


def append(stage: Stage, folder: Folder, *flags: str, size: int = 100) -> int:
    """Append to a folder; gives the UID."""
    uid: int = stage.do(Append(folder.id, a_message(size), flags))[0].uid
    return uid
