"""Bring a mailbox, a folder or a message back to what it was: the events that undo the difference.

Nothing is taken back in the log: what is restored is appended, as the mailbox's own commands would do it, so the
mistake and its repair both stay in the history. Folders, flags, keywords, dates and trace headers come back exactly;
a message that is gone comes back under a new UID, as IMAP demands (RFC 3501 2.3.1.1). What has arrived since stays
unless its removal is asked for. What is to be done is a Plan (nodes/restore_plan.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

from actors import mailbox as actor
from actors.directory import Target
from actors.facts import message_facts
from actors.mailbox import DELIMITER, Message, folder_by_name, superior_names
from actors.runtime import Context, NewBody, Runtime
from eventlog.log import EventLog
from eventlog.record import new_id
from nodes.reading import Present
from nodes.restore_plan import FolderPlan, NothingThere, Plan

GROUP_MESSAGES = 50
GROUP_BYTES = 1024 * 1024


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
