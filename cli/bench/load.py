"""The loads of `mailraft bench log`, run inside a member's event loop. Times are seconds unless the name says ms."""

import asyncio
import itertools
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from actors.directory import Directory, Target, account_of
from actors.kind import Fact, encode
from actors.mailbox import Deliver, FlagsChanged, MessageDelivered, MessagesExpunged, NewMessage, folder_by_name
from actors.runtime import Context, NewBody, Runtime
from eventlog.log import EventLog
from eventlog.record import NO_TENANT, By, Event, Record, digest_of, new_id, new_salt

OPAQUE: Final = "Opaque"
PUT: Final = "Put"
BENCH = By("admin", bytes(16), "bench")
CONTEXT = Context(BENCH, "bench")
LIFETIME_MS = 60_000
HISTORY_BATCH = 200
TRACE = b"Return-Path: <a@sender.test>\r\n"
MESSAGE_HEAD = b"From: <a@sender.test>\r\nTo: <b@bench.test>\r\nSubject: bench\r\n\r\n"


class Filler:
    """Text that differs each time, at next to no cost: it is the log that is measured, not the making of messages."""

    def __init__(self) -> None:
        self._block = os.urandom(1 << 20).hex().encode()
        self._offset = 0

    def take(self, size_bytes: int) -> bytes:
        self._offset = (self._offset + 4099) % (len(self._block) - size_bytes)
        return self._block[self._offset : self._offset + size_bytes]


async def in_flight(count: int, width: int, once: Callable[[], Awaitable[object]]) -> float:
    """Runs `once` `count` times, `width` at a time; seconds from the first to the last."""
    left = iter(range(count))

    async def worker() -> None:
        for _ in left:
            await once()

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(min(width, count)):
            group.create_task(worker())
    return time.perf_counter() - began


def _record(*events: Event) -> Record:
    return Record(new_id(), int(time.time() * 1000) + LIFETIME_MS, BENCH, CONTEXT.cause, (), events)


def _opaque_record(data: bytes) -> Record:
    return _record(Event(NO_TENANT, NO_TENANT, OPAQUE, 1, data, new_salt()))


def put_record(put: bytes) -> Record:
    """A key and its value, as a key-value store would be asked for it."""
    return _record(Event(NO_TENANT, NO_TENANT, PUT, 1, put, new_salt()))


async def opaque(log: EventLog, count: int, width: int, size_bytes: int) -> float:
    """Proposes records that change no table."""
    filler = Filler()
    return await in_flight(count, width, lambda: log.propose(_opaque_record(filler.take(size_bytes))))


async def latencies_ms(log: EventLog, count: int, size_bytes: int) -> list[float]:
    """Commits one record at a time; milliseconds each."""
    filler, times = Filler(), []
    for _ in range(count):
        record = _opaque_record(filler.take(size_bytes))
        began = time.perf_counter()
        await log.propose(record)
        times.append((time.perf_counter() - began) * 1000)
    return times


async def open_mailboxes(log: EventLog, directory: Directory, tenant: str, count: int) -> list[Target]:
    """Makes a tenant with `count` accounts in its domain, without passwords."""
    domain = f"{tenant}.test"
    await directory.add_tenant(tenant, [domain], CONTEXT)
    addresses = [f"user{number}@{domain}" for number in range(count)]
    for address in addresses:
        await directory.add_account(address, None, None, CONTEXT)
    with log.snapshot() as snapshot:
        return [account_of(snapshot, address) for address in addresses]


async def deliveries(runtime: Runtime, targets: list[Target], count: int, width: int, size_bytes: int) -> float:
    """Delivers messages with bodies of their own, over the accounts by turns, through decide, log and fold."""
    turns, filler = itertools.cycle(targets), Filler()

    async def deliver() -> None:
        target = next(turns)
        data = MESSAGE_HEAD + filler.take(size_bytes - len(MESSAGE_HEAD))
        command = Deliver(_message(data), envelope_from="a@sender.test", envelope_to=target.address)
        await runtime.ask(target.account, command, CONTEXT, [NewBody(target.tenant, data)])

    return await in_flight(count, width, deliver)


def _message(data: bytes) -> NewMessage:
    now_ms = int(time.time() * 1000)
    return NewMessage(new_id(now_ms), digest_of(data), len(data), now_ms, TRACE)


async def write_history(log: EventLog, target: Target, events: int) -> int:
    """Gives a mailbox a past: of ten events six deliveries, three flag changes, one expunge; many to a record.

    Returns the position of its end.
    """
    with log.snapshot() as snapshot:
        inbox = folder_by_name(snapshot.view(target.account), "INBOX")
    assert inbox is not None
    facts = itertools.islice(_past(inbox.id), events)
    position = 0
    while batch := list(itertools.islice(facts, HISTORY_BATCH)):
        position = (await log.propose(_record(*(_event(target, fact) for fact in batch)))).position
    return position


def _event(target: Target, fact: Fact) -> Event:
    return Event(target.tenant, target.account, fact.TYPE, fact.VERSION, encode(fact), new_salt())


def _past(folder: bytes) -> Iterator[Fact]:
    sender, recipient = "a@sender.test", "user0@bench.test"
    delivered = 0
    while True:
        for _ in range(6):
            delivered += 1
            digest = digest_of(b"%d" % delivered)
            yield MessageDelivered(
                folder, new_id(), digest, 4096, 0, (), TRACE, None, (), None, sender, recipient, "smtp"
            )
        for uid in range(delivered - 2, delivered + 1):
            yield FlagsChanged(folder, (uid,), "add", ("\\Seen",), None)
        yield MessagesExpunged(folder, (delivered - 5,), True)
