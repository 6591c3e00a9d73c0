"""What is asked before mail is taken: the interface between this front end and policies, verdicts and filters.

Checks stand in `Services.checks` and are asked in that order: limits, policy, verdicts, filters. Each step asks only
those that have something to say about it, so that with none configured a command costs what it did without them.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from actors.facts import MAX_HEADER_BYTES, MessageFacts, message_facts

if TYPE_CHECKING:
    from nodes.smtp.session import Envelope, Session


INBOX, JUNK = "INBOX", "Junk"


class Incoming:
    """A message that has come whole and is not committed yet; a check may change any of it.

    `lines` are header lines to put in front, each with its CRLF, newest first: at the beginning our own Received line
    alone; Return-Path is added above them at delivery. `verdicts` holds MessagePack values and stands in the delivery
    event. `folder` is where local mailboxes get it; `folders` are other ones, by tenant. `added` are fields that the
    message lacked: the last of `lines`, and as good as its own.
    """

    __slots__ = (
        "_facts",
        "_facts_of",
        "added",
        "data",
        "folder",
        "folders",
        "lines",
        "message_id",
        "received_s",
        "verdicts",
    )

    def __init__(self, data: bytes, lines: list[bytes], message_id: bytes, received_s: float) -> None:
        self.data = data
        self.lines = lines
        self.added = b""
        self.folder = INBOX
        self.folders: dict[bytes, str] = {}
        self.verdicts: dict[str, Any] = {}
        self.message_id = message_id  # the id that 250 tells, hexadecimal in Received
        self.received_s = received_s  # seconds since 1970
        self._facts: MessageFacts | None = None
        self._facts_of = b""

    def folder_of(self, tenant: bytes) -> str:
        """Where a tenant's mailboxes get it."""
        return self.folders.get(tenant, self.folder) if self.folders else self.folder

    @property
    def facts(self) -> MessageFacts:
        """What the fold needs of the message, parsed once for as long as `data` stays the same."""
        if self.added:
            return message_facts(self.added + self.data[:MAX_HEADER_BYTES])
        if self._facts is None or self._facts_of is not self.data:
            self._facts, self._facts_of = message_facts(self.data), self.data
        return self._facts


Pause = Coroutine[Any, Any, None]


class Check:
    """One check: override what it looks at. Each may wait, and may raise Refused with the reply to give.

    heeds_strangers: whether `command` has anything to say of clients that have not logged in.

    What a check wants to remember of a client until `disconnected` goes into `session.notes` under a key of its own;
    STARTTLS begins a new session, with `connected` not asked again and the notes kept.
    """

    heeds_strangers = True

    async def connected(self, session: Session) -> None:
        """Before the greeting; a refusal closes the connection (421, 554: RFC 5321 3.1)."""

    def concerns(self, session: Session, envelope: Envelope) -> bool:
        """Whether `recipient` has anything to say of the recipient that is named; `envelope.tenant` is whose it is."""
        return True

    async def recipient(self, session: Session, envelope: Envelope, address: str, local: bool) -> None:
        """RCPT of an address that exists here (`local`) or that this client may send to; not yet in the envelope."""

    def wants(self, session: Session, envelope: Envelope, incoming: Incoming) -> bool:
        """Whether `message` is to be asked about this one: mostly not, and that takes no coroutine to find out."""
        return True

    async def message(self, session: Session, envelope: Envelope, incoming: Incoming) -> None:
        """The whole message, before it is committed; where `wants` says so."""

    async def logged_in(self, session: Session) -> None:
        """Somebody has logged in, and waits to be told so."""

    def command(self, session: Session) -> None:
        """Before a command is executed; it does not wait, and a refusal closes the connection (421)."""

    def refused(self, session: Session) -> Pause | None:
        """A command was refused for good (5xx); gives what its reply is to wait for. The pause ends with the client."""
        return None

    def disconnected(self, session: Session) -> None:
        """The client has gone."""


class Checks(NamedTuple):
    """The checks by what they look at."""

    connected: tuple[Check, ...]
    recipient: tuple[Check, ...]
    message: tuple[Check, ...]
    logged_in: tuple[Check, ...]
    command: tuple[Check, ...]
    strangers_command: tuple[Check, ...]
    refused: tuple[Check, ...]
    disconnected: tuple[Check, ...]


def by_step(checks: Iterable[Check]) -> Checks:
    """For each step the checks that override it, in their order."""
    all_checks = tuple(checks)

    def overriding(step: str) -> tuple[Check, ...]:
        return tuple(one for one in all_checks if getattr(type(one), step) is not getattr(Check, step))

    return Checks(
        connected=overriding("connected"),
        recipient=overriding("recipient"),
        message=overriding("message"),
        logged_in=overriding("logged_in"),
        command=(command := overriding("command")),
        strangers_command=tuple(one for one in command if one.heeds_strangers),
        refused=overriding("refused"),
        disconnected=overriding("disconnected"),
    )
