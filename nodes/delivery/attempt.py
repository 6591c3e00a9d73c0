"""What the queue hands to the transport, and what it gets back.

The transport never raises for what a peer, a name server or the network did: every recipient of an attempt has an
outcome. "unknown" is for a message whose end was sent and whose final reply was lost: it may have been taken, so it is
sent again and counted as a possible duplicate.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from actors.mail_options import NO_OPTIONS, MailOptions, RecipientOptions
from eventlog.record import NO_TENANT

if TYPE_CHECKING:
    from nodes.delivery.generated import Prepared

OutcomeStatus = Literal["delivered", "deferred", "failed", "unknown"]
Read = Callable[[], AsyncIterator[bytes]]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One item of one domain's queue, for those of its recipients that are due.

    `read` gives the bytes to send, header lines of ours in front, CRLF line ends; each call begins anew. `size` is how
    many they are. `route` is a next hop (`host` or `host:port`) that an administrator chose for this item, "" for none.
    `sender_for` gives each recipient an envelope sender of its own; None: `sender` for all.
    """

    item_id: bytes
    domain: str
    sender: str
    recipients: tuple[tuple[str, RecipientOptions], ...]
    size: int
    read: Read
    options: MailOptions = NO_OPTIONS
    tenant: bytes = NO_TENANT
    route: str = ""
    sender_for: Callable[[str], str] | None = None

    @property
    def requires_tls(self) -> bool:
        """Whether it goes over proven TLS or not at all: a report asks for it and is not lost for it (RFC 8689 5)."""
        return self.options.require_tls and bool(self.sender)


class RecipientOutcome(NamedTuple):
    """What became of one recipient. `code` and `enhanced` are the peer's (RFC 5321, RFC 3463), 0 and "" without one.

    `text` is the reply or the reason, for people; `host` the peer as in a DSN's Remote-MTA, "" where none was reached;
    `tls` the protocol that was spoken, "" in clear. `relayed`: the peer that took it does not do DSN (RFC 3461 5.2.2).
    `final`: it is in its mailbox here. `reached`: a server spoke of the message, though perhaps not to its end.
    `untimed`: the peer knows nothing of times to deliver by (RFC 2852).
    """

    address: str
    status: OutcomeStatus
    code: int
    enhanced: str
    text: str
    host: str
    tls: str
    relayed: bool = False
    final: bool = False
    reached: bool = False
    untimed: bool = False


class AttemptResult(NamedTuple):
    """`throttle_ms`: how long the peer wants the whole domain to be left alone, 0 if it did not say so.

    `delivery`: what delivers to mailboxes here, to be committed in one record with the outcomes that are final.
    `shared`: other mail for the domain goes the same way, so what stood in its way is no fault of this message alone.
    """

    outcomes: tuple[RecipientOutcome, ...]
    throttle_ms: int = 0
    delivery: Prepared | None = None
    shared: bool = True

    def undelivered(self, reason: str) -> AttemptResult:
        """The same without that delivery, which the log did not take."""
        deferred = [
            one._replace(status="deferred", code=451, enhanced="4.3.0", text=reason, final=False) if one.final else one
            for one in self.outcomes
        ]
        return AttemptResult(tuple(deferred), self.throttle_ms)


class Transport(Protocol):
    """Sends. Keeps connections, so that attempts for one domain that follow each other go over one."""

    async def send(self, attempt: Attempt) -> AttemptResult:
        """One outcome for each recipient; never raises for a peer's or the network's fault."""
        ...
