"""Scans in a file of the node, so that a node's next life need not read every message's row again.

Each says up to which position of the log it is right, and what the chain was there: where the log has that chain at
that position, the mailbox was then as the scan has it, whatever happened to the node since. It is brought up to date
by what the mailbox's stream says from there on: which messages may have other flags is read from the events, the flags
themselves from the tables; what came has higher UIDs, what went is noted by MODSEQ. Then it must count as many
messages, and as many unseen ones, as the folder does. A scan of which any of this can not be shown is read anew.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgpack

from actors.following import EventFollowed
from actors.kind import Fact, decode
from actors.mailbox import Counters, counters, expunged_since
from actors.mailbox_acl import FolderRightsSet
from actors.mailbox_annotations import AnnotationsSet
from actors.mailbox_expunged import united
from actors.mailbox_maildrop import MaildropLocked, MaildropUnlocked
from actors.mailbox_overview import Rows, overview
from actors.mailbox_rows import MAX_UID
from actors.mailbox_terms import (
    FlagsChanged,
    FolderCreated,
    FolderDeleted,
    FolderNamesRedacted,
    FolderRenamed,
    FolderSubscribed,
    FolderUnsubscribed,
    MailboxClosed,
    MailboxOpened,
    ManyFlagsChanged,
    MessageAppended,
    MessageDelivered,
    MessagesCopied,
    MessagesExpunged,
    MessagesMoved,
    MessagesRedacted,
    PastViewed,
    QuotaSet,
)
from eventlog.archived import ArchiveError
from eventlog.errors import UnknownEvent
from eventlog.record import decode_events
from eventlog.store import CHAIN_BYTES, LOG_HEAD
from nodes.imap.cache_file import CacheFile
from nodes.imap.scan import Scan

if TYPE_CHECKING:
    from eventlog.store import Snapshot
    from eventlog.views import View

FOLDER = "scans"  # in node.data_dir
VERSION = 1  # raise it with whatever changes what is written, or what the fold makes of a log
FILE_BYTES = 1 << 28
WAITING_BYTES = 1 << 26
LEAST_EVENTS = 200  # that a scan is brought up to date by
MOST_EVENTS = 2000  # and MOST_ROWS that are read for it: it is done in one go, while the other sessions wait
MOST_ROWS = 5000
ROWS_PER_EVENT = 8  # what reading an event takes, in rows

KEEPING_FLAGS = frozenset[type[Fact]](
    (
        AnnotationsSet, FolderCreated, FolderDeleted, FolderNamesRedacted, FolderRenamed, FolderRightsSet,
        FolderSubscribed, FolderUnsubscribed, MailboxClosed, MailboxOpened, MaildropLocked, MaildropUnlocked,
        MessageAppended, MessageDelivered, MessagesCopied, MessagesExpunged, MessagesMoved, MessagesRedacted,
        PastViewed, QuotaSet,
    )
)  # fmt: skip

Span = tuple[int, int]


def scan_file(data_dir: Path, erased_at: int) -> CacheFile:
    return CacheFile(data_dir / FOLDER, VERSION, erased_at, FILE_BYTES, WAITING_BYTES)


def written(snapshot: Snapshot, now: Counters, scan: Scan) -> bytes:
    """A scan that is right as of this snapshot, in which the folder's counters are `now`."""
    place = (snapshot.position, snapshot.chain, now.highestmodseq, now.uidnext)
    data: bytes = msgpack.packb((*place, *scan.packed()))
    return zlib.crc32(data).to_bytes(4, "big") + data


def read(snapshot: Snapshot, account: bytes, folder_id: bytes, data: bytes) -> Scan | None:
    """The scan as of this snapshot; None where it can not be shown to be that, or where reading rows is cheaper."""
    try:
        position, chain, modseq, uidnext, *packed = _unpacked(data)
        if position > snapshot.position or (snapshot.folded(position) or b"")[:CHAIN_BYTES] != chain:
            return None
        found = Scan.of(*packed)
    except (ValueError, TypeError):  # damaged
        return None
    scan: Scan | None = found
    view = snapshot.view(account)
    now = counters(view, folder_id)
    if now.highestmodseq != modseq:
        changed = _changed(snapshot, account, folder_id, position, _most_events(found))
        if changed is None or now.uidnext - uidnext > MOST_ROWS:
            return None
        scan = _brought_up(view, folder_id, found, changed, modseq, uidnext)
    return scan if scan is not None and _agrees(scan, now) else None


def _unpacked(data: bytes) -> Any:
    """Raises ValueError."""
    if zlib.crc32(data[4:]).to_bytes(4, "big") != data[:4]:
        raise ValueError("damaged")
    return msgpack.unpackb(data[4:], use_list=False)


def _agrees(scan: Scan, now: Counters) -> bool:
    return scan.is_whole and len(scan.uids) == now.messages and scan.unseen_count == now.unseen


def _most_events(scan: Scan) -> int:
    return min(MOST_EVENTS, max(LEAST_EVENTS, len(scan.uids) // ROWS_PER_EVENT))


def _changed(snapshot: Snapshot, account: bytes, folder_id: bytes, position: int, most: int) -> list[Span] | None:
    """UIDs whose flags were changed since a position; None where that can not be told, or by too many events."""
    spans: list[Span] = []
    try:
        for count, (_, value) in enumerate(snapshot.stream_entries(account, after=position)):
            if count >= most:
                return None
            for event in decode_events(value[LOG_HEAD.size :], account)[3]:
                spans += _flags_changed(decode(event.type, event.version, event.data), folder_id)
            if len(spans) > MOST_ROWS:
                return None
    except (UnknownEvent, ArchiveError, ValueError, TypeError):  # the latter where something was erased
        return None
    return united(spans)


def _flags_changed(fact: Fact, folder_id: bytes) -> Iterable[Span]:
    """Raises UnknownEvent for what may have changed flags in another way."""
    match fact:
        case EventFollowed():
            return _flags_changed(decode(fact.type, fact.version, fact.data), folder_id)
        case FlagsChanged():
            return [(uid, uid) for uid in fact.uids] if fact.folder_id == folder_id else ()
        case ManyFlagsChanged():
            return fact.spans if fact.folder_id == folder_id else ()
        case _ if type(fact) in KEEPING_FLAGS:
            return ()
    raise UnknownEvent(fact.TYPE)


def _brought_up(
    view: View, folder_id: bytes, scan: Scan, changed: list[Span], modseq: int, uidnext: int
) -> Scan | None:
    gone = expunged_since(view, folder_id, modseq)
    if gone is None:
        return None
    scan = scan.without(gone)
    for first, last in changed:
        _read_again(view, folder_id, scan, first, min(last, uidnext - 1))
    pieces, following = overview(view, folder_id, uidnext, MAX_UID, 1 << 62)
    assert not following
    scan.take(pieces)
    return scan


def _read_again(view: View, folder_id: bytes, scan: Scan, first: int, last: int) -> None:
    if first > last:
        return
    for piece in overview(view, folder_id, first, last, 1 << 62)[0]:
        if isinstance(piece, Rows):
            for uid, flags in zip(piece.uids, piece.flags, strict=True):
                scan.set(uid, flags, is_new=False)
        else:
            scan.spread(piece)
