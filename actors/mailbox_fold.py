"""How mailbox events change the tables.

`evolve` is total and deterministic: between `decide` and here the account may have gone and folders been renamed or
deleted, and the same event must then do the same, harmless thing on every node and on every refold. It reads no
clock and raises for nothing. Frozen once released: a changed rule is a new event version.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple, assert_never

from actors import (
    mailbox_acl,
    mailbox_annotations,
    mailbox_expunged,
    mailbox_flags,
    mailbox_maildrop,
    mailbox_spread,
)
from actors.mailbox_acl import EVERY, FolderRightsSet
from actors.mailbox_annotations import SERVER, AnnotationsSet
from actors.mailbox_flags import FlagBlocks, FlagsOfMany
from actors.mailbox_maildrop import MaildropLocked, MaildropUnlocked
from actors.mailbox_rows import (
    DELETED,
    EMPTY_USAGE,
    IDENTITY_KEY,
    INBOX,
    LIMITS_KEY,
    SEEN,
    USAGE_KEY,
    CountersRow,
    FolderRow,
    MessageRow,
    UsageRow,
    apply_flags,
    counters_key,
    folder_key,
    message_key,
    name_hash,
    name_key,
    redacted_name,
    saved_after_s,
    subscription_key,
    with_state,
)
from actors.mailbox_terms import (
    FlagsChanged,
    FolderCreated,
    FolderDeleted,
    FolderNamesRedacted,
    FolderRenamed,
    FolderSubscribed,
    FolderUnsubscribed,
    MailboxClosed,
    MailboxFact,
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
from actors.redaction import redacted_id
from eventlog.levels import SYNC_SINCE
from eventlog.record import Stamp
from eventlog.views import View

_tuple = tuple.__new__  # of a NamedTuple: as its own constructor, at half the cost


class Change(NamedTuple):
    """What an event did to one message; kind "folder": the folder itself came, went or was renamed (uid 0)."""

    folder: bytes
    uid: int
    kind: Literal["added", "flags", "expunged", "folder"]
    flags: tuple[str, ...]
    modseq: int
    source_uid: int = 0  # of a copy or move: the UID it had in the folder that it came from


def evolve(view: View, fact: MailboxFact, stamp: Stamp) -> Sequence[Change | FlagsOfMany]:
    """Fold one event into the account's tables and say which messages and folders changed, in order."""
    match fact:
        case MessageDelivered() | MessageAppended():
            return _arrived(view, fact, stamp)
        case FlagsChanged():
            return _flags_changed(view, fact)
        case ManyFlagsChanged():
            return mailbox_spread.evolve(view, fact)
        case MessagesExpunged():
            return _expunged(view, fact, stamp)
        case MessagesCopied():
            return _copied(view, fact, stamp)
        case MessagesMoved():
            return _moved(view, fact, stamp)
        case MailboxOpened():
            return _opened(view, fact, stamp)
        case MailboxClosed():
            return _closed(view)
        case FolderCreated():
            return _folder_created(view, fact.folder_id, fact.name, fact.special_use, stamp)
        case FolderRenamed():
            return _folder_renamed(view, fact)
        case FolderDeleted():
            return _folder_deleted(view, fact.folder_id)
        case MessagesRedacted():
            return _messages_redacted(view, fact, stamp)
        case FolderNamesRedacted():
            return _names_redacted(view, fact)
        case FolderSubscribed():
            _put_if_open(view, subscription_key(fact.name), fact.name)
        case FolderUnsubscribed():
            view.delete(subscription_key(fact.name))
        case QuotaSet():
            many = () if fact.limit_messages is None else (fact.limit_messages,)
            _put_if_open(view, LIMITS_KEY, (fact.limit_bytes, *many))
        case FolderRightsSet():
            return _rights_set(view, fact)
        case AnnotationsSet():
            if view.get(IDENTITY_KEY if fact.folder_id == SERVER else folder_key(fact.folder_id)) is not None:
                mailbox_annotations.evolve(view, fact)
        case MaildropLocked() | MaildropUnlocked():
            if view.get(IDENTITY_KEY) is not None:
                mailbox_maildrop.evolve(view, fact)
        case PastViewed():
            pass
        case _:
            assert_never(fact)
    return []


# Messages


def _arrived(view: View, fact: MessageDelivered | MessageAppended, stamp: Stamp) -> list[Change]:
    folder_id = fact.folder_id
    if view.peek(folder_key(folder_id)) is None:
        folder_id = view.peek(name_key(INBOX))
        if folder_id is None:
            return []
    size, flags = fact.size, fact.flags
    used_bytes, used_messages, modseq, uidvalidity = view.get(USAGE_KEY) or EMPTY_USAGE
    uid, _, count, unseen, size_bytes = view.get(counters_key(folder_id))
    modseq += 1
    row = (fact.message_id, fact.digest, size, fact.internaldate_ms, flags, modseq, fact.trace)
    if stamp.level >= SYNC_SINCE:
        row = (*row, saved_after_s(stamp.at_ms, fact.internaldate_ms))  # type: ignore[assignment]
    view.put(message_key(folder_id, uid), row)
    view.put(counters_key(folder_id), (uid + 1, modseq, count + 1, unseen + (SEEN not in flags), size_bytes + size))
    view.put(USAGE_KEY, (used_bytes + size, used_messages + 1, modseq, uidvalidity))
    return [_tuple(Change, (folder_id, uid, "added", flags, modseq, 0))]


def _flags_changed(view: View, fact: FlagsChanged) -> list[Change]:
    """Tells of each message that was there and passed `unchanged_since`; one that stays as it was keeps its MODSEQ."""
    folder_id = fact.folder_id
    counters: CountersRow | None = view.get(counters_key(folder_id))
    if counters is None:
        return []
    usage = _usage(view)
    modseq = usage[2] + 1
    unseen_delta = 0
    changes = []
    blocks = FlagBlocks(view, folder_id)
    for uid, row in _present(view, folder_id, fact.uids, blocks):
        before = row[4]
        if fact.unchanged_since is not None and row[5] > fact.unchanged_since:
            continue
        after = apply_flags(before, fact.mode, fact.flags)
        if after == before:
            changes.append(Change(folder_id, uid, "flags", before, row[5]))
            continue
        if not blocks.set(uid, (after, modseq)):
            view.put(message_key(folder_id, uid), with_state(row, after, modseq))
        unseen_delta += (SEEN in before) - (SEEN in after)
        changes.append(Change(folder_id, uid, "flags", after, modseq))
    blocks.save()
    if any(change.modseq == modseq for change in changes):
        uidnext, _, count, unseen, size_bytes = counters
        view.put(counters_key(folder_id), (uidnext, modseq, count, unseen + unseen_delta, size_bytes))
        view.put(USAGE_KEY, (usage[0], usage[1], modseq, usage[3]))
    return changes


def _expunged(view: View, fact: MessagesExpunged, stamp: Stamp) -> list[Change]:
    folder_id = fact.folder_id
    counters: CountersRow | None = view.get(counters_key(folder_id))
    if counters is None:
        return []
    gone = [(uid, row) for uid, row in _present(view, folder_id, fact.uids) if fact.force or DELETED in row[4]]
    if not gone:
        return []
    used_bytes, used_messages, modseq, uidvalidity = _usage(view)
    modseq += 1
    freed = _remove(view, folder_id, counters, gone, modseq, stamp)
    view.put(USAGE_KEY, (used_bytes - freed, used_messages - len(gone), modseq, uidvalidity))
    return [Change(folder_id, uid, "expunged", row[4], modseq) for uid, row in gone]


def _copied(view: View, fact: MessagesCopied, stamp: Stamp) -> list[Change]:
    target: CountersRow | None = view.get(counters_key(fact.target_id))
    found = list(_present(view, fact.folder_id, fact.uids))
    if target is None or not found:
        return []
    used_bytes, used_messages, modseq, uidvalidity = _usage(view)
    modseq += 1
    changes = _add(view, fact.target_id, target, _saved(found, stamp), modseq)
    added = sum(row[2] for _, row in found)
    view.put(USAGE_KEY, (used_bytes + added, used_messages + len(found), modseq, uidvalidity))
    return changes


def _moved(view: View, fact: MessagesMoved, stamp: Stamp) -> list[Change]:
    """Each message leaves with an expunge and arrives with a new UID (RFC 6851 3.3); usage stays as it is."""
    source: CountersRow | None = view.get(counters_key(fact.folder_id))
    found = list(_present(view, fact.folder_id, fact.uids))
    if source is None or not found or view.get(counters_key(fact.target_id)) is None:
        return []
    used_bytes, used_messages, modseq, uidvalidity = _usage(view)
    modseq += 1
    _remove(view, fact.folder_id, source, found, modseq, stamp)
    # Read after the removal: source and target may be the same folder.
    added = _add(view, fact.target_id, view.get(counters_key(fact.target_id)), _saved(found, stamp), modseq)
    view.put(USAGE_KEY, (used_bytes, used_messages, modseq, uidvalidity))
    return [*added, *(Change(fact.folder_id, uid, "expunged", row[4], modseq) for uid, row in found)]


def _messages_redacted(view: View, fact: MessagesRedacted, stamp: Stamp) -> list[Change]:
    """Whatever a row said, it says the same afterwards: nothing here depends on what was redacted."""
    counters: CountersRow | None = view.get(counters_key(fact.folder_id))
    sizes = dict(zip(fact.uids, fact.sizes, strict=False))
    found = list(_present(view, fact.folder_id, sizes))
    if counters is None or not found:
        return []
    used_bytes, used_messages, modseq, uidvalidity = _usage(view)
    modseq += 1
    freed = _remove(view, fact.folder_id, counters, found, modseq, stamp)
    left: list[tuple[int, MessageRow]] = [
        (uid, (redacted_id(row[0]), fact.digest or row[1], sizes[uid], row[3], row[4], modseq, b""))
        for uid, row in found
    ]
    added = _add(view, fact.folder_id, view.get(counters_key(fact.folder_id)), left, modseq)
    grown = sum(row[2] for _, row in left)
    view.put(USAGE_KEY, (used_bytes - freed + grown, used_messages, modseq, uidvalidity))
    return [*added, *(Change(fact.folder_id, uid, "expunged", row[4], modseq) for uid, row in found)]


def _names_redacted(view: View, fact: FolderNamesRedacted) -> list[Change]:
    changes = []
    keys = set(fact.keys)
    for key, row in list(view.range(b"f")):
        if name_hash(row[0]) in keys:
            view.put(key, (redacted_name(name_hash(row[0])), *row[1:]))
            changes.append(Change(key[1:], 0, "folder", (), _usage(view)[2]))
    for name in sorted(keys):
        if view.get(b"b" + name) is not None:
            view.put(b"b" + name, redacted_name(name))
    return changes


def _present(
    view: View, folder_id: bytes, uids: Iterable[int], blocks: FlagBlocks | None = None
) -> Iterator[tuple[int, MessageRow]]:
    """Those that are there, with the flags and the MODSEQ that they have now."""
    blocks = blocks or FlagBlocks(view, folder_id)
    for uid in uids:
        row: MessageRow | None = view.get(message_key(folder_id, uid))
        if row is not None:
            state = blocks.state(uid)
            yield uid, row if state is None else with_state(row, *state)


def _remove(
    view: View, folder_id: bytes, counters: CountersRow, rows: list[tuple[int, MessageRow]], modseq: int, stamp: Stamp
) -> int:
    freed = 0
    seen = 0
    blocks = FlagBlocks(view, folder_id)
    for uid, row in rows:
        view.delete(message_key(folder_id, uid))
        blocks.remove(uid)
        freed += row[2]
        seen += SEEN in row[4]
    blocks.save()
    if stamp.level >= SYNC_SINCE:
        mailbox_expunged.note(view, folder_id, modseq, [uid for uid, _ in rows])
    uidnext, _, count, unseen, size_bytes = counters
    after = (uidnext, modseq, count - len(rows), unseen - (len(rows) - seen), size_bytes - freed)
    view.put(counters_key(folder_id), after)
    return freed


def _saved(rows: list[tuple[int, MessageRow]], stamp: Stamp) -> list[tuple[int, MessageRow]]:
    """The rows as they come into a folder now."""
    if stamp.level < SYNC_SINCE:
        return rows
    return [(uid, (*row[:7], saved_after_s(stamp.at_ms, row[3]))) for uid, row in rows]


def _add(
    view: View, folder_id: bytes, counters: CountersRow, rows: list[tuple[int, MessageRow]], modseq: int
) -> list[Change]:
    uid, _, count, unseen, size_bytes = counters
    changes = []
    for source_uid, row in rows:
        view.put(message_key(folder_id, uid), (*row[:5], modseq, *row[6:]))
        unseen += SEEN not in row[4]
        size_bytes += row[2]
        changes.append(Change(folder_id, uid, "added", row[4], modseq, source_uid))
        uid += 1
    view.put(counters_key(folder_id), (uid, modseq, count + len(rows), unseen, size_bytes))
    return changes


def _usage(view: View) -> UsageRow:
    usage: UsageRow = view.get(USAGE_KEY) or EMPTY_USAGE
    return usage


# The mailbox and its folders


def _opened(view: View, fact: MailboxOpened, stamp: Stamp) -> list[Change]:
    if view.get(IDENTITY_KEY) is not None:
        return []
    view.put(IDENTITY_KEY, (fact.tenant, fact.address, stamp.at_ms))
    view.put(LIMITS_KEY, (fact.limit_bytes,))
    if stamp.level >= SYNC_SINCE:
        mailbox_expunged.begin(view)
    changes = []
    for folder_id, name, special_use in fact.folders:
        changes += _folder_created(view, folder_id, name, special_use, stamp)
        view.put(subscription_key(name), name)
    return changes


def _closed(view: View) -> list[Change]:
    """Nothing is left but the usage row, whose UIDVALIDITY and MODSEQ must never go back."""
    changes = [change for key, _ in list(view.range(b"f")) for change in _folder_deleted(view, key[1:])]
    for key, _ in list(view.range(b"b")):
        view.delete(key)
    mailbox_expunged.forget_all(view)
    mailbox_annotations.forget_all(view)
    mailbox_acl.forget_all(view)
    mailbox_maildrop.forget_all(view)
    view.delete(LIMITS_KEY)
    view.delete(IDENTITY_KEY)
    return changes


def _rights_set(view: View, fact: FolderRightsSet) -> list[Change]:
    if view.get(IDENTITY_KEY if fact.folder_id == EVERY else folder_key(fact.folder_id)) is None:
        return []
    mailbox_acl.evolve(view, fact)
    return [Change(fact.folder_id, 0, "folder", (), _usage(view)[2])]


def _put_if_open(view: View, key: bytes, value: object) -> None:
    if view.get(IDENTITY_KEY) is not None:
        view.put(key, value)


def _folder_created(view: View, folder_id: bytes, name: str, special_use: str | None, stamp: Stamp) -> list[Change]:
    if view.get(IDENTITY_KEY) is None or view.get(name_key(name)) or view.get(folder_key(folder_id)):
        return []
    used_bytes, used_messages, modseq, last_uidvalidity = _usage(view)
    modseq += 1
    uidvalidity = max(stamp.at_ms // 1000, last_uidvalidity + 1)
    view.put(folder_key(folder_id), (name, uidvalidity, special_use, stamp.at_ms))
    view.put(name_key(name), folder_id)
    view.put(counters_key(folder_id), (1, modseq, 0, 0, 0))
    view.put(USAGE_KEY, (used_bytes, used_messages, modseq, uidvalidity))
    return [Change(folder_id, 0, "folder", (), modseq)]


def _folder_renamed(view: View, fact: FolderRenamed) -> list[Change]:
    row: FolderRow | None = view.get(folder_key(fact.folder_id))
    if row is None or row[0] == INBOX or view.get(name_key(fact.new_name)) is not None:
        return []
    view.delete(name_key(row[0]))
    view.put(name_key(fact.new_name), fact.folder_id)
    view.put(folder_key(fact.folder_id), (fact.new_name, *row[1:]))
    return [Change(fact.folder_id, 0, "folder", (), _usage(view)[2])]


def _folder_deleted(view: View, folder_id: bytes) -> list[Change]:
    row: FolderRow | None = view.get(folder_key(folder_id))
    if row is None:
        return []
    _, _, count, _, size_bytes = view.get(counters_key(folder_id))
    for key, _ in list(view.range(b"m" + folder_id)):
        view.delete(key)
    mailbox_flags.forget(view, folder_id)
    mailbox_annotations.forget(view, folder_id)
    mailbox_acl.forget(view, folder_id)
    for key in (folder_key(folder_id), name_key(row[0]), counters_key(folder_id)):
        view.delete(key)
    used_bytes, used_messages, modseq, uidvalidity = _usage(view)
    view.put(USAGE_KEY, (used_bytes - size_bytes, used_messages - count, modseq + 1, uidvalidity))
    return [Change(folder_id, 0, "folder", (), modseq + 1)]
