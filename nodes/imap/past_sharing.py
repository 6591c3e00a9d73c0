"""Mailboxes of others in a look back: as they were then, for who had access then and has it now.

Each owner's mailbox is folded once a command speaks of others, and each such look is an event in the owner's own
stream, as a look into one's own is. More owners than the limit are not listed: each is a fold of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from eventlog.record import By
from nodes.imap import commands, places
from nodes.imap.search_commands import MultiSearch
from nodes.past import NotThen, PastMailbox

if TYPE_CHECKING:
    from actors.directory import Target
    from nodes.imap.commands import Command
    from nodes.imap.session import Session
    from nodes.moments import Moment

OWNERS_LIMIT = 16  # whose mailboxes a LIST opens
NAMED_LIMIT = 64  # with those that are named beside them


class PastOfOthers:
    """What one session that looks back may see of others. `close` it."""

    def __init__(self, session: Session, moment: Moment) -> None:
        self._session = session
        self._moment = moment
        self._opened: dict[bytes, tuple[Target, PastMailbox]] = {}
        self._asked: set[bytes] = set()

    def of(self, owner: Target) -> PastMailbox | None:
        """None where nothing is shown of the owner, or not yet."""
        found = self._opened.get(owner.account)
        return found[1] if found is not None else None

    async def open_for(self, command: Command) -> None:
        """Before a command that may speak of others' mailboxes is carried out."""
        if not _speaks_of_others(command):
            return
        name = getattr(command, "name", "")
        limit = NAMED_LIMIT if name else OWNERS_LIMIT
        known = [owner for prefix, owner in places.sharing(self._session) if name.startswith(prefix) or not name]
        wanted = [owner for owner in known if owner.account not in self._asked]
        wanted = wanted[: max(0, limit - len(self._asked))]
        self._asked.update(owner.account for owner in wanted)
        await asyncio.gather(*map(self._open, wanted))

    async def _open(self, owner: Target) -> None:
        session = self._session
        by = By("account", session.target.account, session.origin)
        with contextlib.suppress(NotThen):  # it was not there then: nothing is shown of it
            past = await session.services.past.open(owner, self._moment, by, session.cause)
            self._opened[owner.account] = owner, past

    def close(self) -> None:
        for owner, past in self._opened.values():
            self._session.services.past.close(owner, past)
        self._opened.clear()


def _speaks_of_others(command: Command) -> bool:
    name = getattr(command, "name", "")
    return isinstance(command, commands.List | MultiSearch) or places.is_of_others(name)
