"""The mailbox's tables: row keys, typed readers, and the rules for folder names and flags.

Rows of one account's stream, by first byte of the key:
  A identity [tenant, address, opened_ms]           L limits [limit_bytes, limit_messages]
  Q usage [bytes, messages, modseq, uidvalidity]    (changes with each message: peek, never a guard)
  f + folder id: identity [name, uidvalidity, special_use, created_ms]
  n + hash of name: folder id                       b + hash of name: a subscribed name
  s + folder id: counters [uidnext, highestmodseq, messages, unseen, size_bytes]    (peek, never a guard)
  m + folder id + UID: message [id, digest, size, internaldate_ms, flags, modseq, trace, saved_s]
    (saved_s: seconds from the internal date to when it came into the folder: few bytes for what was delivered;
    not there in rows of a program before)
  g + folder id + UID // 1024: flags and MODSEQs of many messages, in place of their own (mailbox_flags.py)
  x, X: expunged messages (mailbox_expunged.py)    P: who has the maildrop open (mailbox_maildrop.py)
Readers take any view and never write. A closed mailbox has no A row and no folders.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

from actors.errors import InvalidName, OverQuota, TooLarge
from actors.mailbox_flags import BLOCK_UIDS, FlagBlocks, block_key
from actors.mailbox_terms import Mode
from eventlog.views import View

DELIMITER = "/"
INBOX = "INBOX"
MAX_UID = 2**32 - 1
MAX_NAME_BYTES = 1000
MAX_DEPTH = 30
MAX_FLAGS = 64
MAX_FLAG_BYTES = 128
MAX_MESSAGES_PER_RECORD = 1000

IDENTITY_KEY = b"A"
LIMITS_KEY = b"L"
USAGE_KEY = b"Q"

SEEN = "\\Seen"
DELETED = "\\Deleted"
SYSTEM_FLAGS = {flag.lower(): flag for flag in ("\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft")}

IdentityRow = tuple[bytes, str, int]
FolderRow = tuple[str, int, str | None, int]
CountersRow = tuple[int, int, int, int, int]
UsageRow = tuple[int, int, int, int]
MessageRow = tuple[bytes, bytes, int, int, tuple[str, ...], int, bytes, *tuple[int, ...]]

_FLAG = re.compile(r"\\?[!#$&'+-\[^-z|}~]+")  # RFC 3501 9: flag, atom

REDACTED_NAME = "%redacted-"  # no name that is not redacted has a %
_SHOWN_REDACTED = re.compile("redacted-[0-9a-f]{32}")

NEARLY_FULL = 0.9  # of the quota: from here on, deliveries wait for one another
NO_LIMITS = (None, None)
EMPTY_USAGE: UsageRow = (0, 0, 1, 0)


class Folder(NamedTuple):
    id: bytes
    name: str
    uidvalidity: int
    special_use: str | None
    subscribed: bool


class Counters(NamedTuple):
    uidnext: int
    highestmodseq: int
    messages: int
    unseen: int
    size_bytes: int


class Message(NamedTuple):
    uid: int
    id: bytes
    digest: bytes
    size: int
    internaldate_ms: int
    flags: tuple[str, ...]
    modseq: int
    trace: bytes
    saved_s: int | None = None  # after the internal date

    @property
    def saved_ms(self) -> int | None:
        """When it came into its folder (RFC 8514), to the second; None where that was not noted."""
        return None if self.saved_s is None else (self.internaldate_ms // 1000 + self.saved_s) * 1000


class Usage(NamedTuple):
    bytes: int
    messages: int
    limit_bytes: int | None
    limit_messages: int | None = None

    @property
    def is_limited(self) -> bool:
        return self.limit_bytes is not None or self.limit_messages is not None

    def has_room(self, size: int, count: int, share: float = 1.0) -> bool:
        """Whether so many octets more, in so many messages more, are within `share` of the quota."""
        return (self.limit_bytes is None or self.bytes + size <= self.limit_bytes * share) and (
            self.limit_messages is None or self.messages + count <= self.limit_messages * share
        )


# Keys


def folder_key(folder_id: bytes) -> bytes:
    return b"f" + folder_id


@lru_cache(4096)
def name_key(name: str) -> bytes:
    return b"n" + name_hash(name)


@lru_cache(4096)
def subscription_key(name: str) -> bytes:
    return b"b" + name_hash(name)


def name_hash(name: str) -> bytes:
    """What stands for a name in keys, and in the guards of records. A name that was redacted keeps its own."""
    if name.startswith(REDACTED_NAME):
        return bytes.fromhex(name.removeprefix(REDACTED_NAME))
    return sha256(name.encode()).digest()[:16]


def redacted_name(key: bytes) -> str:
    """What stands in a row or an event in place of the name whose hash this is."""
    return REDACTED_NAME + key.hex()


def counters_key(folder_id: bytes) -> bytes:
    return b"s" + folder_id


def message_key(folder_id: bytes, uid: int) -> bytes:
    return b"m" + folder_id + uid.to_bytes(4, "big")


def saved_after_s(at_ms: int, internaldate_ms: int) -> int:
    """How a row keeps when a message came into its folder."""
    return at_ms // 1000 - internaldate_ms // 1000


# Names and flags


@lru_cache(4096)
def normalise_folder_name(name: str) -> str:
    """The name as it is stored: NFC, INBOX (alone or as the first level) in upper case.

    Raises InvalidName for an empty level, a control character, a LIST wildcard, or a name that is too long or deep.
    """
    name = unicodedata.normalize("NFC", name)
    first, delimiter, rest = name.partition(DELIMITER)
    if first.upper() == INBOX:
        name = INBOX + delimiter + rest
    levels = name.split(DELIMITER)
    if "" in levels or len(levels) > MAX_DEPTH or any(map(_is_forbidden, name)):
        raise InvalidName("a folder name has no empty level, no control character and neither * nor %")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise InvalidName(f"a folder name is at most {MAX_NAME_BYTES} octets long")
    return name


def superior_names(name: str) -> tuple[str, ...]:
    """The names above `name`, outermost first: a/b/c gives a, a/b."""
    levels = name.split(DELIMITER)
    return tuple(DELIMITER.join(levels[:depth]) for depth in range(1, len(levels)))


def is_inferior(name: str, superior: str) -> bool:
    """Whether `name` stands below `superior` in the hierarchy."""
    return name.startswith(superior + DELIMITER)


def normalise_flags(flags: Collection[str]) -> tuple[str, ...]:
    """System flags in their canonical case, each flag once whatever its case, without \\Recent.

    Raises TooLarge beyond 64 flags or 128 octets in one, InvalidName for what is no atom. That they are ASCII matters:
    the fold compares them without case, and must do so alike in every version of Unicode.
    """
    if not flags:  # as with nearly every delivery
        return ()
    unique = {flag.lower(): SYSTEM_FLAGS.get(flag.lower(), flag) for flag in flags}
    unique.pop("\\recent", None)
    if len(unique) > MAX_FLAGS or any(len(flag) > MAX_FLAG_BYTES for flag in unique):
        raise TooLarge(f"at most {MAX_FLAGS} flags of {MAX_FLAG_BYTES} octets")
    if not all(map(_FLAG.fullmatch, unique.values())):
        raise InvalidName("a flag is an atom")
    return tuple(unique.values())


def apply_flags(before: tuple[str, ...], mode: Mode, flags: tuple[str, ...]) -> tuple[str, ...]:
    """The flags after STORE; keywords match whatever their case, and the first spelling of one stays."""
    named = {flag.lower() for flag in flags}
    kept = {flag.lower() for flag in before}
    if mode == "remove":
        return tuple(flag for flag in before if flag.lower() not in named)
    if mode == "add":
        return (*before, *(flag for flag in flags if flag.lower() not in kept))
    return before if named == kept else flags


def _is_forbidden(character: str) -> bool:
    return character in "*%" or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


# Readers


def is_open(view: View) -> bool:
    return view.peek(IDENTITY_KEY) is not None


def tenant_of(view: View) -> bytes:
    """The tenant that the mailbox belongs to; empty when it is closed or was never opened."""
    row: IdentityRow | None = view.peek(IDENTITY_KEY)
    return row[0] if row else b""


def address_of(view: View) -> str:
    """The address that the mailbox was opened for; empty when it is closed or was never opened."""
    row: IdentityRow | None = view.peek(IDENTITY_KEY)
    return row[1] if row else ""


def folders(view: View) -> list[Folder]:
    """All folders, INBOX first, then by name."""
    found = [_folder(view, key[1:], row) for key, row in view.range(b"f")]
    return sorted(found, key=lambda folder: (folder.name != INBOX, folder.name))


def folder(view: View, folder_id: bytes) -> Folder | None:
    row: FolderRow | None = view.peek(folder_key(folder_id))
    return _folder(view, folder_id, row) if row else None


def folder_by_name(view: View, name: str) -> Folder | None:
    """The folder of that name (INBOX in any case), or None; also None for a name that none can have."""
    try:
        name = normalise_folder_name(name)
    except InvalidName:
        return None
    folder_id = view.peek(name_key(name))
    if folder_id is None and _SHOWN_REDACTED.fullmatch(name):
        folder_id = view.peek(b"n" + bytes.fromhex(name.removeprefix("redacted-")))
    found = folder(view, folder_id) if folder_id else None
    return found if found is None or found.name == name else None


def counters(view: View, folder_id: bytes) -> Counters:
    """The folder's counters; those of an empty folder when there is none."""
    row: CountersRow | None = view.peek(counters_key(folder_id))
    return Counters._make(row) if row else Counters(1, 1, 0, 0, 0)


def messages(view: View, folder_id: bytes, first: int = 1, last: int = MAX_UID) -> Iterator[Message]:
    """The folder's messages with first <= UID <= last, by UID."""
    stop = (last + 1).to_bytes(4, "big") if last < MAX_UID else None
    state = FlagBlocks(view, folder_id).state
    for key, row in view.range(b"m" + folder_id, max(first, 0).to_bytes(4, "big"), stop):
        uid = int.from_bytes(key[-4:], "big")
        now = state(uid)
        yield Message(uid, *(row if now is None else with_state(row, *now)))


def message(view: View, folder_id: bytes, uid: int, blocks: FlagBlocks | None = None) -> Message | None:
    """`blocks`: of the folder, for who looks up many."""
    if not 0 < uid <= MAX_UID:
        return None
    row: MessageRow | None = view.peek(message_key(folder_id, uid))
    if row is None:
        return None
    now = (blocks or FlagBlocks(view, folder_id)).state(uid)
    return Message(uid, *(row if now is None else with_state(row, *now)))


def stand_on(view: View, folder_id: bytes, uid: int) -> None:
    """In `decide`: what is decided holds as long as the message is there with the flags that it has."""
    view.get(message_key(folder_id, uid))
    view.get(block_key(folder_id, uid // BLOCK_UIDS))


def with_state(row: MessageRow, flags: tuple[str, ...], modseq: int) -> MessageRow:
    return (*row[:4], flags, modseq, *row[6:])


def usage(view: View) -> Usage:
    size_bytes, count, _, _ = view.peek(USAGE_KEY) or EMPTY_USAGE
    return Usage(size_bytes, count, *_limits(view))


def _limits(view: View) -> tuple[int | None, int | None]:
    """The mailbox's quota in octets and in messages; None: no limit."""
    row: tuple[int | None, ...] = view.peek(LIMITS_KEY) or (None,)
    return row[0], row[1] if len(row) > 1 else None


def require_room(view: View, size: int, count: int = 1) -> None:
    """Raises OverQuota when so many messages more, of so many octets, would not fit."""
    if _limits(view) == NO_LIMITS:
        return
    used = usage(view)
    if not used.has_room(size, count, NEARLY_FULL):
        view.get(USAGE_KEY)  # near the limit a decision stands on the usage that it saw, so that none runs over it
    if not used.has_room(size, count):
        raise OverQuota("the mailbox is full")


def uids_in(view: View, folder_id: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(key[-4:], "big") for key, _ in view.range(b"m" + folder_id))


def subscriptions(view: View) -> list[str]:
    """Subscribed names, whether or not a folder of that name exists (RFC 3501 6.3.6)."""
    return sorted(_shown(name) for _, name in view.range(b"b"))


def _folder(view: View, folder_id: bytes, row: FolderRow) -> Folder:
    name, uidvalidity, special_use, _ = row
    subscribed = view.peek(subscription_key(name)) is not None
    return Folder(folder_id, _shown(name), uidvalidity, special_use, subscribed)


def _shown(name: str) -> str:
    """The name as clients get it: a redacted one without the mark that tells it from a name of their own."""
    return name.removeprefix("%")
