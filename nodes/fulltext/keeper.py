"""The full-text index as a part of a node: starts the process that makes it follow the log, and asks it for searches.

Whatever goes wrong with an index, a search is answered all the same: by reading the messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from actors import tenant
from actors.custody import CUSTODY
from actors.mailbox import Change
from nodes import fulltext, jobs
from nodes.imap.search import HeaderHas, Key, TextHas
from nodes.imap.search_match import Narrowed

if TYPE_CHECKING:
    from eventlog.log import Applied, EventLog
    from nodes.config.fulltext import FullTextSection
    from nodes.fulltext.reader import Reader
    from nodes.services import Logger

RETRY_S = 5.0
LINGER_S = 20.0  # how long the process waits for more before it ends
POLL_S = 1.0
KEYS_LIMIT = 100  # of one search; it scans for more


class Status(NamedTuple):
    """`state`: off, missing (the library), current, waiting (new messages are gathered), indexing, rebuilding, failed.

    `position`: all up to it is in. A node that is current may have indexed less far than the log goes: what came since
    changed no messages.
    """

    state: str
    position: int
    messages: int
    done: int
    total: int
    error: str | None


class FullText:
    """One node's index. Event loop only, but for what `Reader` does."""

    def __init__(self, config: FullTextSection, log: EventLog, data_dir: Path, logger: Logger) -> None:
        self._config = config
        self._log = log
        self._data_dir = data_dir
        self._root = data_dir / fulltext.FOLDER
        self._logger = logger
        self._reader: Reader | None = None
        self._wanted = asyncio.Event()
        self._at_once = asyncio.Event()
        self._rebuild = False
        self._state = "off" if not config.index else "missing" if not fulltext.is_installed() else "waiting"
        self._done = self._total = 0
        self._error: str | None = None
        self._unsubscribe: Callable[[], None] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to follow the log, if it is to."""
        if self._state != "waiting":
            shutil.rmtree(self._root, ignore_errors=True)  # of another day: nobody would take out what is redacted
            return
        from nodes.fulltext import stamp
        from nodes.fulltext.reader import Reader

        reader = Reader(self._root)
        with self._log.snapshot() as snapshot:
            is_ours = stamp.is_of(reader.stamp, snapshot)
            behind = snapshot.position > reader.stamp.done.position
            if behind and (reader.stamp.generations or _has_accounts(snapshot)):
                self._wanted.set()
        self._reader = reader if is_ours else None  # of another history: the indexer begins anew
        self._unsubscribe = self._log.subscribe(None, self._applied)
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def stop(self) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # -- searches

    async def narrow(
        self, account: bytes, folder: bytes, keys: Collection[HeaderHas | TextHas]
    ) -> Mapping[Key, Narrowed]:
        """What the index knows of these keys in a folder as it is now; nothing where it can not be asked."""
        if self._reader is None or not keys or len(keys) > KEYS_LIMIT:
            return {}
        try:
            return await asyncio.to_thread(self._reader.narrow, account, folder, keys)
        except Exception as error:  # tantivy raises what it likes; a search must not fail for want of an index
            self._logger.warning(
                "full-text index could not be asked", code="fulltext_behind", error=f"{type(error).__name__}: {error}"
            )
            return {}

    # -- administration

    def status(self) -> Status:
        position = self._reader.stamp.done.position if self._reader is not None else 0
        state = self._state
        if state == "indexing" and position >= self._log.status().applied:
            state = "waiting"  # the process is there still, in case that more comes
        if state == "waiting" and not self._wanted.is_set():
            state = "current"
        with contextlib.suppress(Exception):  # between two generations; the next call knows
            messages = self._reader.messages() if self._reader is not None else 0
            return Status(state, position, messages, self._done, self._total, self._error)
        return Status(state, position, 0, self._done, self._total, self._error)

    def is_free_of(self, redaction: int) -> bool:
        """Whether what the redaction at this position erased is in no file of the index any more."""
        if self._task is None:
            return True
        found = self._reader.stamp if self._reader is not None else None
        return found is not None and (not found.generations or found.done.position >= redaction)

    def rebuild(self) -> bool:
        """Has all of it made anew while searches go on with the old one; False where there is no index."""
        if self._task is None:
            return False
        self._rebuild = True
        self._state = "rebuilding"
        self._done = self._total = 0
        self._restart()
        return True

    def _restart(self) -> None:
        assert self._task is not None
        self._wanted.set()
        self._at_once.set()
        self._task.cancel()
        self._task = asyncio.get_running_loop().create_task(self._keep(after=self._task))

    # -- following the log

    def _applied(self, items: list[Applied]) -> None:
        wanted = self._wanted.is_set()
        for item in items:
            if item.event.stream == CUSTODY:
                self._wanted.set()
                self._at_once.set()
            elif not wanted and isinstance(item.result, list) and _changes_messages(item.result):
                wanted = True
                self._wanted.set()

    async def _keep(self, after: asyncio.Task[None] | None = None) -> None:
        if after is not None:  # its process has to end before another may write
            await asyncio.gather(after, return_exceptions=True)
        while True:
            await self._wanted.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._config.delay_s):
                    await self._at_once.wait()
            self._wanted.clear()
            self._at_once.clear()
            mode, self._rebuild = ("rebuild" if self._rebuild else "follow"), False
            try:
                await self._run(mode)
                self._state, self._error = "waiting", None
            except (OSError, jobs.JobFailed) as error:
                self._state, self._error = "failed", str(error)
                self._rebuild = self._rebuild or mode == "rebuild"
                self._logger.error(
                    "full-text index is behind", code="fulltext_behind", error=self._error, again_in_s=RETRY_S
                )
                await asyncio.sleep(RETRY_S)
                self._wanted.set()

    async def _run(self, mode: str) -> None:
        """One life of the process. Raises JobFailed, OSError."""
        self._state = "rebuilding" if mode == "rebuild" else "indexing"
        arguments = (str(self._root), mode, str(LINGER_S), str(POLL_S), str(self._config.niceness))
        async with contextlib.aclosing(jobs.run("fulltext", self._data_dir, *arguments)) as lines:
            async for line in lines:
                self._take(json.loads(line))
        if self._reader is not None and self._reader.stamp.done.position >= self._log.status().applied:
            self._wanted.clear()

    def _take(self, said: dict[str, Any]) -> None:
        if "error" in said:
            raise jobs.JobFailed(said["error"])
        if "progress" in said:
            self._done, self._total = said["progress"]
        if "committed" in said:
            self._refresh()
        if "rebuilt" in said:
            self._state = "indexing"

    def _refresh(self) -> None:
        from nodes.fulltext.reader import Reader

        if self._reader is None:
            self._reader = Reader(self._root)
        else:
            self._reader.refresh()


def _changes_messages(result: list[Any]) -> bool:
    return any(isinstance(one, Change) and one.kind in ("added", "expunged") for one in result)


def _has_accounts(snapshot: Any) -> bool:
    return any(tenant.accounts(snapshot.view(each.id)) for each in tenant.tenants(snapshot))
