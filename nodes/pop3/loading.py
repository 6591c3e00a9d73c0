"""Reads a maildrop from the tables at log-in, in slices, so that a large INBOX does not stop the event loop."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from actors.mailbox import INBOX, counters, folder_by_name, messages
from eventlog.errors import OutcomeUnknown
from nodes.pop3.maildrop import Entry, Maildrop
from nodes.reading import Present, Source

if TYPE_CHECKING:
    from actors.directory import Target
    from eventlog.log import EventLog
    from nodes.past import PastMailbox

SLICE_UIDS = 1000
BARRIER_S = 1.0


async def load_maildrop(log: EventLog, target: Target, read_only: str | None = None) -> Maildrop | None:
    """INBOX as it is now, with all that was acknowledged by any node; None when the mailbox is closed.

    Without a majority it is what this node knows: reads go on.
    """
    with contextlib.suppress(OutcomeUnknown):
        await log.barrier(BARRIER_S)
    return await _load(Present(log, target), target, None, read_only)


async def load_past_maildrop(past: PastMailbox, target: Target) -> Maildrop | None:
    """INBOX as it was; None when the mailbox was closed then."""
    why = f"This is the maildrop as of {past.moment}: nothing can be deleted"
    return await _load(past, target, past.moment, why)


async def _load(source: Source, target: Target, as_of: str | None, read_only: str | None) -> Maildrop | None:
    with source() as reading:
        inbox = folder_by_name(reading.view, INBOX)
        if inbox is None:
            return None
        end = counters(reading.view, inbox.id).uidnext
    entries: list[Entry] = []
    for first in range(1, end, SLICE_UIDS):
        with source() as reading:
            last = min(first + SLICE_UIDS, end) - 1
            found = messages(reading.view, inbox.id, first, last)
            entries += (Entry(m.uid, m.id, m.digest, m.size, m.trace) for m in found)
        await asyncio.sleep(0)
    return Maildrop(target.tenant, target.account, inbox.id, entries, as_of, read_only)
