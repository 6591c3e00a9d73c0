"""What all filters share: whose mail they are asked about, and what is done with what they say, or do not say.

The message's bytes stay as they came. Lines that a filter adds go in front, below our own Authentication-Results; what
it wants to change or take out is not done, and stands in the delivery event (`verdicts.filters`) as "not applied".
A 250 always means that the message is kept, so a filter that would drop it silently gets it into Junk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import structlog

from nodes.config.filters import FilterSection
from nodes.filters.health import Busy, Down, Health
from nodes.filters.slots import Room
from nodes.smtp.checks import Check, Incoming
from nodes.smtp.replies import Refused, reply
from nodes.tls.trust import Trust

if TYPE_CHECKING:
    from nodes.smtp.session import Envelope, Session

_log = structlog.get_logger("mailraft.filters")

JUNK = "Junk"

NOT_AVAILABLE = reply(451, "4.7.1", "A filter is not available at the moment, try again later", error="filter_down")
TOO_LARGE = reply(552, "5.3.4", "The message is larger than what a filter looks at", error="too_large")
HELD_BACK = reply(550, "5.7.1", "A filter holds this message back: it is not sent elsewhere", error="filter_refused")


class TooLarge(Exception):
    """The filter itself finds the message too large."""


class Opinion(NamedTuple):
    """What a filter says of a message. `found` stands in the event, `lines` in front of the message."""

    action: Literal["accept", "junk", "refuse"]
    found: dict[str, Any]
    lines: tuple[bytes, ...] = ()
    reply: bytes = b""  # of a refusal


class Filter(Check):
    """One filter: a kind of it says how it is asked (`judge`) and looked at (`look`)."""

    def __init__(self, section: FilterSection, health: Health, room: Room) -> None:
        self.health = health
        self._room = room
        self.name = health.name
        self._section = section
        self._exempt = Trust(section.exempt)

    async def judge(self, session: Session, envelope: Envelope, incoming: Incoming) -> Opinion:
        """What it says. Raises Down, TooLarge."""
        raise NotImplementedError

    async def look(self) -> None:
        """Returns if it answers; raises what asking it would raise. Costs it little."""
        raise NotImplementedError

    async def close(self) -> None:
        """The node stops."""

    def covers(self, session: Session) -> bool:
        """Whether it is asked about this client's mail."""
        return session.profile.kind in self._section.listeners and not self._exempt.covers(session.client)

    async def message(self, session: Session, envelope: Envelope, incoming: Incoming) -> None:
        """Raises Refused."""
        if not self.covers(session):
            return
        if len(incoming.data) > self._section.message_bytes:
            self._skip_large(incoming)
            return
        try:
            with self._room.held(len(incoming.data)):
                opinion = await self.judge(session, envelope, incoming)
        except Down as down:
            self.without(down)
            _note(incoming, self.name, {"down": down.reason})
            return
        except TooLarge:
            self._skip_large(incoming)
            return
        self._follow(opinion, session, envelope, incoming)

    def without(self, down: Down) -> None:
        """It can not be asked. Raises Refused, unless mail is taken all the same."""
        self._count("busy" if isinstance(down, Busy) else "down")
        if self._section.when_down == "tempfail":
            raise Refused(NOT_AVAILABLE) from None

    def refuse(self, session: Session, refusal: bytes) -> Refused:
        """The refusal to raise, counted and told to the operator."""
        self._count("reject" if refusal[:1] == b"5" else "tempfail")
        told = refusal.decode("ascii", "replace").strip()
        _log.info("refused by a filter", filter=self.name, reply=told, code="filter_refused", client=session.client)
        return Refused(refusal)

    def _skip_large(self, incoming: Incoming) -> None:
        self._count("large")
        if self._section.when_large == "refuse":
            raise Refused(TOO_LARGE)
        _note(incoming, self.name, {"skipped": "large"})

    def _follow(self, opinion: Opinion, session: Session, envelope: Envelope, incoming: Incoming) -> None:
        if opinion.action == "refuse":
            raise self.refuse(session, opinion.reply)
        self._count(opinion.action)
        _note(incoming, self.name, opinion.found)
        incoming.lines[-1:-1] = opinion.lines  # above our Received line, which is the last
        if opinion.action == "junk":
            if envelope.remote:
                raise Refused(HELD_BACK)  # there is no Junk elsewhere
            incoming.folder = JUNK

    def _count(self, outcome: str) -> None:
        self.health.metrics.filter_answered(self.name, outcome)


def content_for(incoming: Incoming) -> tuple[bytes, bytes]:
    """What filters see: the lines in front, but not our Received, which tells them nothing new, and the message."""
    return b"".join(incoming.lines[:-1]), incoming.data


def _note(incoming: Incoming, name: str, found: dict[str, Any]) -> None:
    incoming.verdicts.setdefault("filters", {})[name] = found
