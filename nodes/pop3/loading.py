"""Reads a maildrop from the tables at log-in, in slices, so that a large INBOX does not stop the event loop."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from actors.mailbox import INBOX, counters, folder_by_name, messages
from eventlog.errors import OutcomeUnknown
from nodes.pop3.maildrop import Entry, Maildrop

if TYPE_CHECKING:
    from actors.directory import Target
    from eventlog.log import EventLog

SLICE_UIDS = 1000
BARRIER_S = 1.0


async def load_maildrop(log: EventLog, target: Target) -> Maildrop | None:
    """INBOX as it is now, with all that was acknowledged by any node; None when the mailbox is closed.

    Without a majority it is what this node knows: reads go on.
    """
    with contextlib.suppress(OutcomeUnknown):
        await log.barrier(BARRIER_S)
    with log.snapshot() as snapshot:
        view = snapshot.view(target.account)
        inbox = folder_by_name(view, INBOX)
        if inbox is None:
            return None
        end = counters(view, inbox.id).uidnext
    entries: list[Entry] = []
    for first in range(1, end, SLICE_UIDS):
        with log.snapshot() as snapshot:
            view = snapshot.view(target.account)
            last = min(first + SLICE_UIDS, end) - 1
            entries += (Entry(m.uid, m.id, m.digest, m.size, m.trace) for m in messages(view, inbox.id, first, last))
        await asyncio.sleep(0)
    return Maildrop(target.tenant, target.account, inbox.id, entries)
