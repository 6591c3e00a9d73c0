"""One cell with two tenants, read as a source reads its log."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from actors import region
from actors.directory import Directory
from actors.kind import decode, encode
from actors.mailbox import Deliver
from actors.runtime import NewBody
from actors.sealing import seal
from actors.tenant import PasswordSet
from eventlog.record import Event
from eventlog.store import GENESIS
from nodes.follower import wire
from nodes.follower.feed import read_slice
from nodes.follower.scope import Scope
from tests.actors.cell import ADMIN, Cell, a_mail, example_cell

OURS, FOREIGN = b"our-own-words", b"words-of-the-other-tenant"
TRANSFER_KEY = b"t" * 32


class Sent(NamedTuple):
    """What a follower gets of a log, verified: entries, the bytes of their bodies, and all frames as they went."""

    entries: list[wire.Entry]
    events: list[Event]
    bodies: list[bytes]
    raw: bytes
    walk: wire.Walk


class Source(NamedTuple):
    cell: Cell

    def scope(self, account: str | None = None) -> Scope:
        tenant = self.cell.tenant("alice@example.test")
        return Scope(tenant, region.WHOLE_TENANT if account is None else self.cell.account(account))

    def sent(self, scope: Scope, position: int = 0, chain: bytes = GENESIS) -> Sent:
        """Everything from a position on, slice after slice, as a follower would verify it."""
        walk, raw = wire.Walk(position, chain), b""
        entries, events, bodies = list[wire.Entry](), list[Event](), list[bytes]()
        while True:
            found = read_slice(self.cell.log, walk.position + 1, scope, _sealer(self.cell.directory))
            for data in found.frames:
                raw += data
                match wire.unpack(data[4:]):
                    case wire.Skipped() as skipped:
                        walk.skip(skipped)
                    case wire.Entry() as entry:
                        entries.append(entry)
                        events += walk.take(entry)[2].values()
                        bodies.append(b"")
                    case wire.Piece(piece):
                        bodies[-1] += piece
            if found.head is not None:
                walk.check(found.head)
                return Sent(entries, events, [body for body in bodies if body], raw, walk)

    async def deliver(self, *recipients: str, data: bytes) -> None:
        """One record with a delivery to each, as SMTP makes it."""
        mail = a_mail(data)
        steps = [(self.cell.account(one), Deliver(mail.message, envelope_to=one)) for one in recipients]
        tenants = dict.fromkeys(self.cell.tenant(one) for one in recipients)
        await self.cell.runtime.transact(steps, ADMIN, [NewBody(tenant, data) for tenant in tenants])


def _sealer(directory: Directory) -> Any:
    def sealed_anew(event: Event) -> Event:
        fact: Any = decode(event.type, event.version, event.data)
        place = event.tenant + fact.account
        sealed = seal(TRANSFER_KEY, directory.unseal(fact.sealed, place), place)
        return event._replace(data=encode(PasswordSet(fact.account, sealed)))

    return sealed_anew


@asynccontextmanager
async def a_source(folder: Path) -> AsyncIterator[Source]:
    """example.test with alice and bob, and other.test with eve."""
    async with example_cell(folder) as cell:
        await cell.directory.add_tenant("other", ["other.test"], ADMIN)
        await cell.directory.add_account("eve@other.test", None, None, ADMIN)
        yield Source(cell)


@pytest.fixture
def source() -> Any:
    return a_source
