"""Mailboxes as they were, for sessions that look back: folded once by a process of their own, kept while in use.

Who may look is who has the account now, by its password of now, and only into its own history: an address that
somebody else had then shows nothing of theirs. Each look is an event; a tenant can switch it off. The files hold
copies of tables, so they go when nobody looks, when something was erased from the log, and when the node stops.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from actors import mailbox, tenant
from actors.directory import Target
from actors.runtime import Context, Runtime
from eventlog.errors import LogError
from eventlog.log import EventLog
from eventlog.past import PastTables
from eventlog.record import By
from eventlog.store import Snapshot, StoredRecord
from nodes import jobs
from nodes.log_selection import last_before
from nodes.moments import Moment
from nodes.reading import Reading, body_of
from nodes.record_json import utc

KEPT = 16  # views that nobody looks through at the moment
FOLDS_AT_ONCE = 2
PENDING_FOLDS = 2  # of one account
MOST_VIEWS = 1000  # looks back in a row that are passed over to find what they look at


class NotThen(Exception):
    """There is nothing to show; the text says why, and is meant for the client."""


class PastMailbox:
    """One account's mailbox as of a position; `moment` says when that was."""

    def __init__(self, log: EventLog, target: Target, position: int, moment: str, tables: PastTables) -> None:
        self._log = log
        self._target = target
        self._tables = tables
        self.position = position
        self.moment = moment

    @contextmanager
    def __call__(self) -> Iterator[Reading]:
        target = self._target
        with self._tables.view(target.account) as view, self._log.snapshot() as snapshot:
            yield Reading(view, lambda digest: body_of(snapshot, target.tenant, digest))


class PastMailboxes:
    """The past of a node's mailboxes. Event loop only."""

    def __init__(self, log: EventLog, runtime: Runtime, folder: Path, timeout_s: float) -> None:
        self._log = log
        self._runtime = runtime
        self._folder = folder
        self._timeout_s = timeout_s
        self._kept: OrderedDict[tuple[bytes, int], asyncio.Task[PastTables]] = OrderedDict()
        self._users: dict[tuple[bytes, int], int] = {}
        self._folding = asyncio.Semaphore(FOLDS_AT_ONCE)
        self._made = 0
        shutil.rmtree(folder, ignore_errors=True)

    async def open(self, target: Target, moment: Moment, by: By, cause: str) -> PastMailbox:
        """The mailbox as of a moment; the caller gives it back with `close`. Raises NotThen."""
        with self._log.snapshot() as snapshot:
            position, at = _resolve(snapshot, target, moment)
        key = (target.account, position)
        if key not in self._kept and self._pending(target.account) >= PENDING_FOLDS:
            raise NotThen("other looks back into this mailbox are being made ready; try again in a moment")
        context = Context(by, cause, target.tenant, self._timeout_s)
        try:
            await self._runtime.ask(target.account, mailbox.NotePastViewed(position), context)
        except LogError:
            raise NotThen("a look back is noted in the log, and that can not be written now; try again") from None
        self._users[key] = self._users.get(key, 0) + 1
        try:
            tables = await asyncio.shield(self._tables(key))
        except BaseException as error:
            self._leave(key)
            if isinstance(error, jobs.JobFailed):
                raise NotThen("the history could not be read; the node's log tells why") from None
            raise
        return PastMailbox(self._log, target, position, at, tables)

    def close(self, target: Target, past: PastMailbox) -> None:
        """A session has ended: what nobody looks through goes after a while."""
        self._leave((target.account, past.position))

    async def stop(self) -> None:
        """Removes everything."""
        for task in self._kept.values():
            task.cancel()
        await asyncio.gather(*self._kept.values(), return_exceptions=True)
        self._kept.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def forget(self) -> None:
        """Something was erased from the log: what was folded before may still show it. Sessions that look end."""
        for key in list(self._kept):
            self._remove(key)

    def _tables(self, key: tuple[bytes, int]) -> asyncio.Task[PastTables]:
        task = self._kept.get(key)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._kept[key] = asyncio.get_running_loop().create_task(self._fold(*key))
        self._kept.move_to_end(key)
        return task

    async def _fold(self, account: bytes, position: int) -> PastTables:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._made += 1
        folder = self._folder / str(self._made)
        async with self._folding:
            arguments = (account.hex(), str(position), str(folder))
            try:
                async with jobs.started("past", self._log.config.data_dir, *arguments) as process:
                    while await jobs.output(process):
                        pass
            except BaseException:
                shutil.rmtree(folder.with_suffix(".partial"), ignore_errors=True)
                raise
        return PastTables(folder)

    def _pending(self, account: bytes) -> int:
        """Folds of one account that are not done: one who asks for many must not keep everybody waiting."""
        return sum(key[0] == account and not task.done() for key, task in self._kept.items())

    def _leave(self, key: tuple[bytes, int]) -> None:
        self._users[key] -= 1
        if not self._users[key]:
            del self._users[key]
        idle = [one for one in self._kept if one not in self._users]
        for one in idle[: max(0, len(idle) - KEPT)]:
            self._remove(one)

    def _remove(self, key: tuple[bytes, int]) -> None:
        task = self._kept.pop(key)
        if task.done() and not task.cancelled() and task.exception() is None:
            task.result().remove()
        else:
            task.cancel()


def _resolve(snapshot: Snapshot, target: Target, moment: Moment) -> tuple[int, str]:
    """The last position up to the moment that touched the mailbox, and when the moment was. Raises NotThen."""
    if not tenant.allows_time_travel(snapshot.view(target.tenant)):
        raise NotThen("your organisation has switched off looking back")
    position = last_before(snapshot, moment.at_ms) if moment.position is None else moment.position
    if position > snapshot.position:
        raise NotThen(f"the log has no position {position} yet: it ends at {snapshot.position}")
    last = snapshot.last_stream_position(target.account, position)
    for _ in range(MOST_VIEWS):  # a look back changes no table: the next one shows what this one did
        if last is None or not _is_view(snapshot.record(last)):
            break
        last = snapshot.last_stream_position(target.account, last - 1)
    if last is None:
        raise NotThen("this mailbox did not exist then")
    stored = snapshot.record(position)
    at_ms = moment.at_ms if moment.at_ms is not None else stored.at_ms if stored is not None else 0
    return last, utc(at_ms)


def _is_view(stored: StoredRecord | None) -> bool:
    record = stored.record if stored is not None else None
    return record is not None and all(event.type == mailbox.PastViewed.TYPE for event in record.events)
