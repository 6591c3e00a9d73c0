"""What people write on a mailbox, and on the server: annotations (RFC 5464), as events of the account's stream.

Rows: M + folder id (SERVER for the server's) + hash of reader and entry: [entry, value, reader]; M alone: totals
[count, bytes]. An entry below /shared is one for all who may see the mailbox; one below /private is its reader's, who
is named where it is not the owner. Totals are a guard, so that no number of writers runs over the limits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import ClassVar, NamedTuple

from actors.errors import InvalidName, TooLarge, TooManyAnnotations
from actors.kind import Command, Fact
from eventlog.views import View

SERVER = bytes(16)  # in place of a folder
OWNER = b""  # in place of a reader
MAX_VALUE_BYTES = 16 * 1024
MAX_ENTRY_BYTES = 250
MAX_ANNOTATIONS = 1000  # of one account
MAX_TOTAL_BYTES = 1024 * 1024

Changes = tuple[tuple[str, bytes | None], ...]

_TOTALS_KEY = b"M"
_ENTRY = re.compile(r"/(?:private|shared)(?:/[^/*%\x00-\x1f\x7f]+)+")  # RFC 5464 3.2


class Annotation(NamedTuple):
    entry: str
    value: bytes


@dataclass(frozen=True, slots=True)
class SetAnnotations(Command):
    """Entries and their new values; None removes. `reader`: whose the private ones are."""

    folder_id: bytes
    reader: bytes
    changes: Changes


@dataclass(frozen=True, slots=True)
class AnnotationsSet(Fact):
    folder_id: bytes
    reader: bytes
    changes: Changes
    SINCE: ClassVar[int] = 3


def normalise_entry(entry: str) -> str:
    """An entry's name in lower case, which it is compared in. Raises InvalidName."""
    entry = entry.lower()
    if not entry.isascii() or len(entry) > MAX_ENTRY_BYTES or not _ENTRY.fullmatch(entry):
        raise InvalidName("an entry is called /private/... or /shared/..., without * and %")
    return entry


def decide(view: View, command: SetAnnotations) -> tuple[AnnotationsSet, ...]:
    """For actors/mailbox.py, which has looked whether the folder is there. Raises InvalidName, TooLarge."""
    wanted = {normalise_entry(entry): value for entry, value in command.changes}
    if any(value is not None and len(value) > MAX_VALUE_BYTES for value in wanted.values()):
        raise TooLarge(f"a value has at most {MAX_VALUE_BYTES} octets")
    count, size = before_count, before_size = view.get(_TOTALS_KEY) or (0, 0)
    changes: list[tuple[str, bytes | None]] = []
    for entry, value in wanted.items():
        before = _row(view, command.folder_id, entry, command.reader)
        if value == before:
            continue
        changes.append((entry, value))
        count += (value is not None) - (before is not None)
        size += len(value or b"") - len(before or b"")
    if any(value is not None for _, value in changes) and (count > MAX_ANNOTATIONS or size > MAX_TOTAL_BYTES):
        raise TooManyAnnotations(f"an account has at most {MAX_ANNOTATIONS} annotations of {MAX_TOTAL_BYTES} octets")
    if command.reader != OWNER and (count > before_count or size > before_size):
        _require_room_beside_owner(view, count - before_count, size - before_size)
    return (AnnotationsSet(command.folder_id, command.reader, tuple(changes)),) if changes else ()


def _require_room_beside_owner(view: View, more: int, more_bytes: int) -> None:
    """What readers keep for themselves takes half of the owner's room and no more. Raises TooManyAnnotations."""
    sizes = [len(row[1]) for key, row in view.range(_TOTALS_KEY) if key != _TOTALS_KEY and row[2] != OWNER]
    if len(sizes) + more > MAX_ANNOTATIONS // 2 or sum(sizes) + more_bytes > MAX_TOTAL_BYTES // 2:
        raise TooManyAnnotations("those who read the mailboxes of this account have written as much as they may")


def evolve(view: View, fact: AnnotationsSet) -> None:
    """For actors/mailbox_fold.py, which has looked whether the folder is there."""
    count, size = view.get(_TOTALS_KEY) or (0, 0)
    for entry, value in fact.changes:
        before = _row(view, fact.folder_id, entry, fact.reader)
        count += (value is not None) - (before is not None)
        size += len(value or b"") - len(before or b"")
        key, reader = _key(fact.folder_id, entry, fact.reader)
        if value is None:
            view.delete(key)
        else:
            view.put(key, (entry, value, reader))
    view.put(_TOTALS_KEY, (count, size))


def forget(view: View, folder_id: bytes) -> None:
    """The folder goes, and what was written on it."""
    rows = list(view.range(b"M" + folder_id))
    if not rows:
        return
    count, size = view.get(_TOTALS_KEY)
    for key, _ in rows:
        view.delete(key)
    view.put(_TOTALS_KEY, (count - len(rows), size - sum(len(row[1]) for _, row in rows)))


def forget_all(view: View) -> None:
    """The account goes."""
    for key, _ in list(view.range(_TOTALS_KEY)):
        view.delete(key)


def annotations_of(view: View, folder_id: bytes, reader: bytes = OWNER) -> list[Annotation]:
    """What a reader sees, by entry."""
    rows: Iterable[tuple[str, bytes, bytes]] = (row for _, row in view.range(b"M" + folder_id))
    return sorted(Annotation(entry, value) for entry, value, whose in rows if whose == _whose(entry, reader))


def _row(view: View, folder_id: bytes, entry: str, reader: bytes) -> bytes | None:
    row: tuple[str, bytes, bytes] | None = view.get(_key(folder_id, entry, reader)[0])
    return row[1] if row else None


def _key(folder_id: bytes, entry: str, reader: bytes) -> tuple[bytes, bytes]:
    """The row's key, and whose it is."""
    whose = _whose(entry, reader)
    return b"M" + folder_id + sha256(whose + entry.encode()).digest()[:16], whose


def _whose(entry: str, reader: bytes) -> bytes:
    return reader if entry.startswith("/private/") else OWNER
