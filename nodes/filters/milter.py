"""A filter that speaks the milter protocol, as a check: it is asked at each recipient and at the message.

Of what it wants changed, header fields that are new are added in front, and quarantine means Junk; everything else
would change the client's bytes or envelope, and is noted in the event instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nodes.config.filters import MilterSection
from nodes.filters.check import Filter, Opinion, content_for
from nodes.filters.health import Down, Health
from nodes.filters.milter_connection import Limits, MilterConnection
from nodes.filters.milter_pool import Pool
from nodes.filters.milter_protocol import Change, Decision
from nodes.filters.milter_talk import Talk, Told, header_fields
from nodes.filters.slots import Room
from nodes.filters.text import MOST_NAME, Lines, NotApplied, plain
from nodes.mime.header import header_end

if TYPE_CHECKING:
    from nodes.smtp.checks import Incoming
    from nodes.smtp.session import Envelope, Session


class MilterFilter(Filter):
    """One milter."""

    def __init__(
        self,
        address: str,
        section: MilterSection,
        health: Health,
        room: Room,
        hostname: str,
        host_name_of: Callable[[str], str | None],
    ) -> None:
        super().__init__(section, health, room)
        self._address = address
        self._limits = Limits(section.connect_s, section.command_s, section.message_s)
        self._pool = Pool(address, self._limits, section.connections)
        self._hostname = hostname
        self._host_name_of = host_name_of
        self._key = f"milter {self.name}"

    async def recipient(self, session: Session, envelope: Envelope, address: str, local: bool) -> None:
        """Raises Refused."""
        if not self.covers(session):
            return
        try:
            decision = await self._talk(session).recipient(session, envelope, address)
        except Down as down:
            self.without(down)
            return
        if decision.move == "refuse":
            raise self.refuse(session, decision.reply)

    async def judge(self, session: Session, envelope: Envelope, incoming: Incoming) -> Opinion:
        """Raises Down."""
        told = Told(*content_for(incoming), incoming.message_id.hex())
        decision, changes = await self._talk(session).message(session, envelope, told)
        return opinion_of(decision, changes, told)

    def disconnected(self, session: Session) -> None:
        talk = session.notes.pop(self._key, None)
        if talk is not None:
            talk.let_go()

    async def look(self) -> None:
        (await MilterConnection.open(self._address, self._limits)).close()

    async def close(self) -> None:
        self._pool.close()

    def _talk(self, session: Session) -> Talk:
        talk: Talk | None = session.notes.get(self._key)
        if talk is None:
            talk = session.notes[self._key] = Talk(self._pool, self.health, self._hostname, self._host_name_of)
        return talk


def opinion_of(decision: Decision, changes: list[Change], told: Told) -> Opinion:
    """What becomes of the message."""
    if decision.move == "refuse":
        return Opinion("refuse", {}, reply=decision.reply)
    lines, missed = Lines(), NotApplied()
    is_junk = decision.move == "discard"
    found: dict[str, Any] = {"action": decision.move}
    for one in changes:
        if one.what == "quarantine":
            is_junk = True
            found["quarantine"] = plain(one.value.decode("utf-8", "replace"), MOST_NAME)
        elif not _is_new(one, told) or not lines.add(one.name, one.value):
            missed.note(f"{one.what} {one.name.decode('ascii', 'replace')}")
    if missed.what:
        found["not_applied"] = missed.what
    return Opinion("junk" if is_junk else "accept", found, tuple(lines.lines))


def _is_new(change: Change, told: Told) -> bool:
    """A field to add: told so, or as a change of one that the message does not have (smfi_chgheader)."""
    if change.what == "add header":
        return True
    if change.what != "change header" or not change.value:
        return False
    end = header_end(told.data, 0, len(told.data))
    names = [name.lower() for name, _ in (*header_fields(told.lines, len(told.lines)), *header_fields(told.data, end))]
    return names.count(change.name.lower()) < max(change.nth, 1)
