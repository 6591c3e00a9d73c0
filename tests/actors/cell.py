"""A cell of one node for tests: the real log in a folder, with the runtime and the directory on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from actors.directory import Directory, resolve
from actors.mailbox import Deliver, Folder, Message, NewMessage, folder_by_name, messages
from actors.registry import fold_event
from actors.runtime import Context, NewBody, Runtime
from eventlog import levels
from eventlog.log import EventLog, LogConfig
from eventlog.record import By, digest_of, new_id

Run = Callable[[Coroutine[Any, Any, Any]], Any]

CLUSTER_KEY = b"k" * 32
ADMIN = Context(By("admin", b"", "cli 127.0.0.1:1"), "test")


class Mail(NamedTuple):
    """A message on its way in."""

    message: NewMessage
    data: bytes


class Cell(NamedTuple):
    log: EventLog
    runtime: Runtime
    directory: Directory

    def account(self, address: str) -> bytes:
        with self.log.snapshot() as snapshot:
            found = resolve(snapshot, address)
        assert found is not None
        return found[0].account

    def tenant(self, address: str) -> bytes:
        with self.log.snapshot() as snapshot:
            found = resolve(snapshot, address)
        assert found is not None
        return found[0].tenant

    def folder(self, account: bytes, name: str = "INBOX") -> Folder:
        with self.log.snapshot() as snapshot:
            found = folder_by_name(snapshot.view(account), name)
        assert found is not None
        return found

    def messages(self, account: bytes, name: str = "INBOX") -> list[Message]:
        folder = self.folder(account, name)
        with self.log.snapshot() as snapshot:
            return list(messages(snapshot.view(account), folder.id))

    @property
    def position(self) -> int:
        with self.log.snapshot() as snapshot:
            return snapshot.position

    async def deliver(self, address: str, data: bytes) -> Any:
        mail = a_mail(data)
        body = NewBody(self.tenant(address), data)
        return await self.runtime.ask(self.account(address), Deliver(mail.message), ADMIN, [body])


def a_mail(data: bytes) -> Mail:
    return Mail(NewMessage(new_id(), digest_of(data), len(data), 1_790_000_000_000), data)


@asynccontextmanager
async def a_cell(folder: Path, idle_s: float = 60.0) -> AsyncIterator[Cell]:
    """A started cell, stopped cleanly at the end."""
    config = LogConfig("n1", folder, {"n1": "127.0.0.1:1"}, "127.0.0.1:1", (0.05, 0.1), 0.02, 256 << 20, 1 << 20)
    log = EventLog.open(config, evolve=fold_event)
    await log.start()
    while log.feature_level < levels.NEWEST:  # a new cell raises it at once
        await asyncio.sleep(0.005)
    runtime = Runtime(log, idle_s=idle_s)
    directory = Directory(log, runtime, CLUSTER_KEY)
    try:
        yield Cell(log, runtime, directory)
    finally:
        await runtime.stop()
        await directory.stop()
        await log.stop()


@asynccontextmanager
async def example_cell(folder: Path, idle_s: float = 60.0) -> AsyncIterator[Cell]:
    """With the tenant `example`, its domain example.test, and the accounts alice and bob, who have no passwords."""
    async with a_cell(folder, idle_s) as cell:
        await cell.directory.add_tenant("example", ["example.test"], ADMIN)
        for name in ("alice", "bob"):
            await cell.directory.add_account(f"{name}@example.test", None, None, ADMIN)
        yield cell
