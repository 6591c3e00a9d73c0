"""Bring a mailbox, a folder or a message back to what it was: the difference first, then the events that undo it.

Nothing is taken back in the log: what is restored is appended, as the mailbox's own commands would do it, so the
mistake and its repair both stay in the history. Folders, flags, keywords, dates and trace headers come back exactly;
a message that is gone comes back under a new UID, as IMAP demands (RFC 3501 2.3.1.1). What has arrived since stays
unless its removal is asked for. The difference is computed anew by each call, so an interrupted one is repeated.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from actors import mailbox as actor
from actors.directory import Target
from actors.facts import message_facts
from actors.mailbox import (
    DELIMITER,
    INBOX,
    Folder,
    Message,
    folder_by_name,
    folders,
    messages,
    subscriptions,
    superior_names,
)
from actors.runtime import Context, NewBody, Runtime
from eventlog.log import EventLog
from eventlog.record import new_id
from eventlog.views import View
from nodes.past import PastMailbox
from nodes.reading import Present, Source

READ_AT_ONCE = 1000
GROUP_MESSAGES = 50
GROUP_BYTES = 1024 * 1024
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
    return Plan(
        tuple(plans),
        tuple(sorted(subscribed_then - subscribed_now)) if whole else (),
        tuple(sorted(subscribed_now - subscribed_then)) if whole and scope.drop_newer else (),
        scope.drop_newer,
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


async def carry_out(
    plan: Plan, log: EventLog, runtime: Runtime, target: Target, context: Context
) -> AsyncIterator[int]:
    """Does it, and yields how many steps are done. Raises CommandRefused and LogError; a repeated call goes on."""
    done = 0
    places = await _folders(plan, log, runtime, target, context)
    for one in plan.folders:
        folder_id = places[one.then.id]
        done += 1
        for group in _groups(one.bring_back):
            await _bring_back(group, one.moved, folder_id, log, runtime, target, context)
            done += len(group)
            yield done
        for flags, uids in one.flags.items():
            await runtime.ask(target.account, actor.ChangeFlags(folder_id, uids, "replace", flags), context)
            done += 1
            yield done
        if one.newer:
            await runtime.ask(target.account, actor.Expunge(folder_id, one.newer, force=True), context)
        yield done
    for name in plan.subscribe:
        await runtime.ask(target.account, actor.Subscribe(name), context)
    for name in plan.unsubscribe:
        await runtime.ask(target.account, actor.Unsubscribe(name), context)
    yield plan.steps


async def _folders(plan: Plan, log: EventLog, runtime: Runtime, target: Target, context: Context) -> dict[bytes, bytes]:
    """Makes and renames folders; gives by the id of then the one of now. Each waits for its name, and for superiors."""
    places: dict[bytes, bytes] = {}
    waiting = list(plan.folders)
    aside: set[bytes] = set()
    while waiting:
        names = {one.then.name for one in waiting}
        leaving = {one.then.id for one in waiting if one.rename}
        for one in waiting:
            if not names.isdisjoint(superior_names(one.then.name)):
                continue
            found = await _folder(one, leaving, log, runtime, target, context)
            if found is not None:
                places[one.then.id] = found
                names.discard(one.then.name)
                leaving.discard(one.then.id)
        left = [one for one in waiting if one.then.id not in places]
        if len(left) == len(waiting):  # each waits for another: one of them gives its name away first
            await _put_aside(left, aside, runtime, target, context)
        waiting = left
    return places


async def _put_aside(
    waiting: Sequence[FolderPlan], aside: set[bytes], runtime: Runtime, target: Target, context: Context
) -> None:
    one = next((one for one in waiting if one.rename and one.then.id not in aside), None)
    if one is None:
        raise NothingThere("the folders are being changed by somebody else")
    aside.add(one.then.id)
    await runtime.ask(target.account, actor.RenameFolder(one.then.id, _unused(one), None, ()), context)


async def _folder(
    one: FolderPlan, leaving: set[bytes], log: EventLog, runtime: Runtime, target: Target, context: Context
) -> bytes | None:
    """The folder of now that one of then is, made or renamed where it must be; None while its name is taken."""
    name = one.then.name
    with Present(log, target)() as reading:
        present = actor.folder(reading.view, one.present.id) if one.present is not None else None
        holder = folder_by_name(reading.view, name)
    if present is not None and (present.name == name or not one.rename):
        return present.id
    if holder is not None:
        return None if holder.id in leaving else (present or holder).id
    parents = tuple((new_id(), superior) for superior in superior_names(name))
    if present is not None:
        if name.startswith(present.name + DELIMITER):  # a folder can not move below itself
            await runtime.ask(target.account, actor.RenameFolder(present.id, _unused(one), None, ()), context)
        await runtime.ask(target.account, actor.RenameFolder(present.id, name, None, parents), context)
        return present.id
    folder_id = new_id()
    await runtime.ask(target.account, actor.CreateFolder(folder_id, name, one.then.special_use, parents), context)
    return folder_id


def _unused(one: FolderPlan) -> str:
    """A name for a folder on its way to another; a run that is repeated takes it on from there."""
    return f"restoring {one.then.id.hex()}"


async def _bring_back(
    group: Sequence[Message],
    moved: dict[int, tuple[bytes, int]],
    folder_id: bytes,
    log: EventLog,
    runtime: Runtime,
    target: Target,
    context: Context,
) -> None:
    """One record: what was moved leaves where it is now, which makes room, and all come back; or none of it."""
    elsewhere = _by_folder(moved[row.uid] for row in group if row.uid in moved)
    steps: list[tuple[bytes, actor.MailboxCommand]] = [
        (target.account, actor.Expunge(place, uids, force=True)) for place, uids in elsewhere
    ]
    bodies: dict[bytes, NewBody] = {}
    for row in group:
        with log.snapshot() as snapshot:
            data = snapshot.body(target.tenant, row.digest)
        if data is None:
            raise NothingThere(f"the bytes of the message with UID {row.uid} are not kept any more")
        facts = message_facts(data)
        message = actor.NewMessage(
            row.id, row.digest, row.size, row.internaldate_ms, row.trace, facts.message_id, facts.references,
            facts.sent_ms,
        )  # fmt: skip
        steps.append((target.account, actor.Append(folder_id, message, row.flags)))
        bodies[row.digest] = NewBody(target.tenant, data, row.digest)
    await runtime.transact(steps, context, tuple(bodies.values()))


def _groups(rows: Sequence[Message]) -> Iterator[list[Message]]:
    """As many messages as go into one record."""
    group: list[Message] = []
    size_bytes = 0
    for row in rows:
        if group and (len(group) == GROUP_MESSAGES or size_bytes + row.size > GROUP_BYTES):
            yield group
            group, size_bytes = [], 0
        group.append(row)
        size_bytes += row.size
    if group:
        yield group


def _by_folder(places: Iterable[tuple[bytes, int]]) -> Iterator[tuple[bytes, tuple[int, ...]]]:
    found: dict[bytes, list[int]] = defaultdict(list)
    for folder_id, uid in places:
        found[folder_id].append(uid)
    for folder_id, uids in found.items():
        yield folder_id, tuple(sorted(uids))
