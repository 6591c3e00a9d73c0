"""Bring a mailbox, a folder or a message back to what it was: first, the difference between then and now.

A message is the same by its id, a folder by its id or, where it is gone, by its name. The difference is computed anew
by each call, so a restore that was interrupted is repeated (nodes/restore.py carries it out).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from actors import mailbox as actor
from actors.directory import Target
from actors.mailbox import INBOX, Folder, Message, folder_by_name, folders, messages, subscriptions
from eventlog.log import EventLog
from eventlog.views import View
from nodes.past import PastMailbox
from nodes.reading import Present, Source

READ_AT_ONCE = 1000
DELETED = "\\Deleted"


class NothingThere(Exception):
    """What should be restored was not there then; the text says what."""


class Scope(NamedTuple):
    """What to restore: everything, one folder of then, or some of its messages. `drop_newer`: also what came since."""

    folder: str | None = None
    uids: frozenset[int] | None = None
    drop_newer: bool = False


class FolderPlan(NamedTuple):
    """What one folder of then needs. `present` is the folder of now that it is, None where it is gone."""

    then: Folder
    present: Folder | None
    rename: bool
    bring_back: tuple[Message, ...]
    moved: dict[int, tuple[bytes, int]]  # of those to bring back by UID: the folder and UID to which each was moved
    flags: dict[tuple[str, ...], tuple[int, ...]]  # flags of then, and the UIDs of now that have others
    newer: tuple[int, ...]
    gone: tuple[int, ...]  # UIDs of then whose bytes are not kept any more

    @property
    def is_empty(self) -> bool:
        return self.present is not None and not (self.rename or self.bring_back or self.flags)

    @property
    def deleted(self) -> int:
        """How many come back, or get flags back, with \\Deleted: the next EXPUNGE takes them away again."""
        again = sum(DELETED in flags and len(uids) for flags, uids in self.flags.items())
        return sum(DELETED in message.flags for message in self.bring_back) + again

    @property
    def keeps_name(self) -> str | None:
        """What a folder goes on being called, because another one has its name of then."""
        if self.present is None or self.rename or self.present.name == self.then.name:
            return None
        return self.present.name


class Plan(NamedTuple):
    """The difference between then and now, as far as the scope goes."""

    folders: tuple[FolderPlan, ...]
    subscribe: tuple[str, ...]
    unsubscribe: tuple[str, ...]
    drop_newer: bool
    made_since: tuple[str, ...] = ()  # folders that were not there then: they stay, whatever comes back

    @property
    def is_empty(self) -> bool:
        newer = self.drop_newer and any(one.newer for one in self.folders)
        return not newer and not self.subscribe and not self.unsubscribe and all(one.is_empty for one in self.folders)

    @property
    def steps(self) -> int:
        """How much there is to do, for a progress bar."""
        messages = sum(len(one.bring_back) + len(one.flags) for one in self.folders)
        return messages + len(self.folders) + len(self.subscribe) + len(self.unsubscribe)

    def as_json(self) -> dict[str, Any]:
        return {
            "folders": [
                {
                    "name": one.then.name,
                    "create": one.present is None,
                    "rename_from": one.present.name if one.present is not None and one.rename else None,
                    "keeps_name": one.keeps_name,
                    "bring_back": [message.uid for message in one.bring_back],
                    "moved_back": len(one.moved),
                    "flags": [{"flags": list(flags), "uids": list(uids)} for flags, uids in one.flags.items()],
                    "newer": list(one.newer),
                    "gone": list(one.gone),
                    "deleted": one.deleted,
                }
                for one in self.folders
            ],
            "subscribe": list(self.subscribe),
            "unsubscribe": list(self.unsubscribe),
            "drop_newer": self.drop_newer,
            "made_since": list(self.made_since),
        }


class _Row(NamedTuple):
    """What the difference is made of; texts and traces stay where they are."""

    folder: bytes
    uid: int
    id: bytes
    flags: tuple[str, ...]


async def difference(log: EventLog, target: Target, past: PastMailbox, scope: Scope) -> Plan:
    """What would have to be done. Raises NothingThere."""
    present = Present(log, target)
    with past() as reading:
        wanted = _wanted(reading.view, scope)
        then_everywhere = folders(reading.view)
        subscribed_then = set(subscriptions(reading.view))
    with present() as reading:
        now = {one.id: one for one in folders(reading.view)}
        subscribed_now = set(subscriptions(reading.view))
    rows_then = {one.id: await _rows(past, one.id) for one in then_everywhere}
    rows_now = {folder_id: await _rows(present, folder_id) for folder_id in now}
    renamed = _renamed(wanted, now)
    same = _same_folders(then_everywhere, now, renamed)
    was = {same[one.id].id: one.id for one in then_everywhere if one.id in same} | {one: one for one in rows_then}
    had = {one: {row.id for row in rows_then.get(was.get(one, one), ())} for one in rows_now}
    plans = []
    for folder in wanted:
        found, rename = same.get(folder.id), folder.id in renamed
        rows = [row for row in rows_then[folder.id] if scope.uids is None or row.uid in scope.uids]
        missing, flags, newer = _compare(rows, rows_now[found.id] if found is not None else [])
        bring_back, gone = _bodies(log, target, past, folder.id, missing)
        moved = _moved(bring_back, had, rows_now)
        anothers = found is not None and found.id != folder.id and found.id in rows_then
        keep_newer = scope.uids is not None or not scope.drop_newer or anothers
        plans.append(FolderPlan(folder, found, rename, bring_back, moved, flags, () if keep_newer else newer, gone))
    whole = scope.folder is None
    known = rows_then.keys() | {one.id for one in same.values()}
    return Plan(
        tuple(plans),
        tuple(sorted(subscribed_then - subscribed_now)) if whole else (),
        tuple(sorted(subscribed_now - subscribed_then)) if whole and scope.drop_newer else (),
        scope.drop_newer,
        tuple(sorted(one.name for one in now.values() if one.id not in known)) if whole else (),
    )


def _renamed(wanted: Sequence[Folder], now: dict[bytes, Folder]) -> set[bytes]:
    """The folders that are called otherwise now and can have their name again, as nobody else keeps it."""
    holder = {one.name: one.id for one in now.values()}
    renamed = {one.id for one in wanted if one.id in now and INBOX != now[one.id].name != one.name}
    while kept := {one.id for one in wanted if one.id in renamed and holder.get(one.name, one.id) not in renamed}:
        renamed -= kept
    return renamed


def _same_folders(then: Iterable[Folder], now: dict[bytes, Folder], renamed: set[bytes]) -> dict[bytes, Folder]:
    """By the id of then, the folder of now: itself, or where it is gone the one that has its name and keeps it."""
    named = {one.name: one for one in now.values() if one.id not in renamed}
    return {one.id: found for one in then if (found := now.get(one.id) or named.get(one.name))}


def _wanted(view: View, scope: Scope) -> list[Folder]:
    """Superior names first, so that they are there when an inferior is made."""
    if scope.folder is None:
        return sorted(folders(view), key=lambda folder: folder.name.count("/"))
    found = folder_by_name(view, scope.folder)
    if found is None:
        raise NothingThere(f"there was no folder {scope.folder} then")
    there = {row.uid for row in messages(view, found.id)} if scope.uids is not None else set()
    missing = sorted((scope.uids or frozenset()) - there)
    if missing:
        raise NothingThere(f"{scope.folder} had no message with UID {', '.join(map(str, missing))} then")
    return [found]


async def _rows(source: Source, folder_id: bytes) -> list[_Row]:
    """All messages of a folder, read in slices."""
    found: list[_Row] = []
    first = 1
    while True:
        with source() as reading:
            batch = []
            for row in messages(reading.view, folder_id, first):
                batch.append(_Row(folder_id, row.uid, row.id, row.flags))
                if len(batch) == READ_AT_ONCE:
                    break
        found += batch
        if len(batch) < READ_AT_ONCE:
            return found
        first = batch[-1].uid + 1
        await asyncio.sleep(0)


def _compare(
    then: Sequence[_Row], now: Sequence[_Row]
) -> tuple[list[_Row], dict[tuple[str, ...], tuple[int, ...]], tuple[int, ...]]:
    """The rows of then that are missing, the UIDs of now that need other flags, and those that have come since.

    A message is the same by its id; where a folder has several copies of one, those with the same UID are paired first.
    """
    left: dict[bytes, list[_Row]] = defaultdict(list)
    for row in now:
        left[row.id].append(row)
    missing: list[_Row] = []
    flags: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for row in sorted(then, key=lambda row: all(row.uid != other.uid for other in left[row.id])):
        candidates = left[row.id]
        if not candidates:
            missing.append(row)
            continue
        found = next((one for one in candidates if one.uid == row.uid), candidates[0])
        candidates.remove(found)
        if set(found.flags) != set(row.flags):
            flags[row.flags].append(found.uid)
    newer = sorted(row.uid for rows in left.values() for row in rows)
    missing.sort(key=lambda row: row.uid)
    return missing, {key: tuple(sorted(uids)) for key, uids in flags.items()}, tuple(newer)


def _moved(
    missing: Iterable[Message], had: dict[bytes, set[bytes]], now: dict[bytes, list[_Row]]
) -> dict[int, tuple[bytes, int]]:
    """Where messages that are missing are now, in folders that did not have them then: they were moved there."""
    wanted: dict[bytes, list[int]] = defaultdict(list)
    for message in missing:
        wanted[message.id].append(message.uid)
    found: dict[int, tuple[bytes, int]] = {}
    for folder_id, rows in now.items():
        for row in rows:
            if row.id in wanted and wanted[row.id] and row.id not in had[folder_id]:
                found[wanted[row.id].pop(0)] = (folder_id, row.uid)
    return found


def _bodies(
    log: EventLog, target: Target, past: PastMailbox, folder_id: bytes, rows: Sequence[_Row]
) -> tuple[tuple[Message, ...], tuple[int, ...]]:
    """The rows in full, and the UIDs of those whose bytes are not kept any more."""
    bring_back: list[Message] = []
    gone: list[int] = []
    with past() as reading, log.snapshot() as snapshot:
        for row in rows:
            found = actor.message(reading.view, folder_id, row.uid)
            assert found is not None, "it was read from there"
            if snapshot.has_body(target.tenant, found.digest):
                bring_back.append(found)
            else:
                gone.append(row.uid)
    return tuple(bring_back), tuple(gone)
