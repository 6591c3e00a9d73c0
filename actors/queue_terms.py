"""The vocabulary of a queue: its commands and its events.

What concerns many items at once is one event (claims, outcomes), because a busy queue has hundreds of them in a tick.
Events of the first release (ItemClaimed, AttemptRecorded, ClaimReleased) are read for ever.
"""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

from actors.kind import Command, Fact
from actors.mail_options import NO_OPTIONS, MailOptions, RecipientOptions
from actors.values import dataclass

MAX_RECIPIENTS = 1000
MAX_BATCH = 1000  # items that one command names
EVERY_DOMAIN = "*"  # in place of a domain: its queue holds no mail, only whether all are suspended

Deferral = tuple[str, int, str]  # recipient, next_ms, reason
Failure = tuple[str, str]  # recipient, reason
Status = Literal["delivered", "deferred", "failed", "unknown"]


class Result(NamedTuple):
    """What became of one recipient. `place` is its place among those of the item, so that no event names it again."""

    place: int
    status: Status
    next_ms: int  # of one that is tried again; 0
    code: int  # the peer's, or 0
    enhanced: str
    host: str


class ItemOutcome(NamedTuple):
    """What became of an attempt at one item; `warned`: its sender is told with this that it is late."""

    item_id: bytes
    results: tuple[Result, ...]
    warned: bool = False


@dataclass(frozen=True, slots=True)
class Enqueue(Command):
    domain: str
    item_id: bytes
    tenant: bytes
    sender: str
    recipients: tuple[str, ...]
    digest: bytes
    size: int
    trace: bytes
    expires_ms: int
    now_ms: int
    options: MailOptions = NO_OPTIONS
    recipient_options: tuple[RecipientOptions, ...] = ()  # parallel to recipients; () if none says anything
    session: bytes = b""  # the id of the connection that brought it


@dataclass(frozen=True, slots=True)
class Claim(Command):
    item_id: bytes
    node: str
    until_ms: int
    now_ms: int


@dataclass(frozen=True, slots=True)
class RecordAttempt(Command):
    """What became of an attempt; recipients that are not named are as they were. Ends the claim."""

    item_id: bytes
    node: str
    delivered: tuple[str, ...] = ()
    deferred: tuple[Deferral, ...] = ()
    failed: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True)
class Release(Command):
    item_id: bytes
    node: str


@dataclass(frozen=True, slots=True)
class RemoveItem(Command):
    """Take an item out: all is settled and reported, or an administrator said so (`force`)."""

    item_id: bytes
    force: bool = False


@dataclass(frozen=True, slots=True)
class ClaimItems(Command):
    """Those of the items that are waiting, not held and not claimed by another; none of them: no event."""

    item_ids: tuple[bytes, ...]
    node: str
    until_ms: int
    now_ms: int


@dataclass(frozen=True, slots=True)
class RenewClaims(Command):
    item_ids: tuple[bytes, ...]
    node: str
    until_ms: int


@dataclass(frozen=True, slots=True)
class ReleaseClaims(Command):
    item_ids: tuple[bytes, ...]
    node: str


@dataclass(frozen=True, slots=True)
class RecordOutcomes(Command):
    """What became of attempts at many items of one tenant. `texts` says it in words, one for each result, in order.

    `bound` are items whose outcome stands in one record with what follows from it, a delivery here or a notice: it is
    recorded by whoever holds the claim, or not at all.
    """

    node: str
    outcomes: tuple[ItemOutcome, ...]
    texts: tuple[str, ...]
    bound: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class FailItem(Command):
    """An administrator gives an item up: whoever still waits has failed. Not while it is being sent."""

    item_id: bytes
    text: str
    now_ms: int


@dataclass(frozen=True, slots=True)
class HoldItems(Command):
    """They are not tried, and do not expire, until they are released."""

    item_ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class RetryItems(Command):
    """They are due now, and held no more if `release`."""

    item_ids: tuple[bytes, ...]
    now_ms: int
    release: bool = False


@dataclass(frozen=True, slots=True)
class RerouteItems(Command):
    """They go to this next hop (`host` or `host:port`); "" : as their domain's mail does. They are due now."""

    item_ids: tuple[bytes, ...]
    route: str
    now_ms: int


@dataclass(frozen=True, slots=True)
class ThrottleDomain(Command):
    """Leave the domain alone until then; 0: no more. A throttle is only ever prolonged by another."""

    until_ms: int
    reason: str
    level: int  # how many have followed each other


@dataclass(frozen=True, slots=True)
class SuspendQueue(Command):
    reason: str


@dataclass(frozen=True, slots=True)
class ResumeQueue(Command):
    pass


@dataclass(frozen=True, slots=True)
class NoteReturn(Command):
    """Mail to this recipient, which a server had taken, came back; `item` is the beginning of its item's id."""

    PIPELINES: ClassVar[bool] = True
    tenant: bytes
    recipient: str
    item: bytes


QueueCommand = (
    Enqueue
    | Claim
    | RecordAttempt
    | Release
    | RemoveItem
    | ClaimItems
    | RenewClaims
    | ReleaseClaims
    | RecordOutcomes
    | FailItem
    | HoldItems
    | RetryItems
    | RerouteItems
    | ThrottleDomain
    | SuspendQueue
    | ResumeQueue
    | NoteReturn
)


@dataclass(frozen=True, slots=True)
class MailQueued(Fact):
    domain: str
    item_id: bytes
    tenant: bytes
    sender: str
    recipients: tuple[str, ...]
    digest: bytes
    size: int
    trace: bytes
    expires_ms: int
    now_ms: int
    options: MailOptions = NO_OPTIONS
    recipient_options: tuple[RecipientOptions, ...] = ()
    counted: bool = False  # in the queue's totals, which were not kept before
    session: bytes = b""
    REDACTABLE: ClassVar[tuple[str, ...]] = ("sender", "recipients", "trace")
    GREW: ClassVar[tuple[tuple[int, str], ...]] = ((3, "options"),)


@dataclass(frozen=True, slots=True)
class ItemClaimed(Fact):
    item_id: bytes
    node: str
    until_ms: int


@dataclass(frozen=True, slots=True)
class AttemptRecorded(Fact):
    item_id: bytes
    node: str
    delivered: tuple[str, ...]
    deferred: tuple[Deferral, ...]
    failed: tuple[Failure, ...]
    REDACTABLE: ClassVar[tuple[str, ...]] = ("delivered", "deferred", "failed")


@dataclass(frozen=True, slots=True)
class ClaimReleased(Fact):
    item_id: bytes
    node: str


@dataclass(frozen=True, slots=True)
class ItemRemoved(Fact):
    item_id: bytes


@dataclass(frozen=True, slots=True)
class ItemsClaimed(Fact):
    SINCE: ClassVar[int] = 3
    item_ids: tuple[bytes, ...]
    node: str
    until_ms: int


@dataclass(frozen=True, slots=True)
class ClaimsRenewed(Fact):
    SINCE: ClassVar[int] = 3
    item_ids: tuple[bytes, ...]
    node: str
    until_ms: int


@dataclass(frozen=True, slots=True)
class ClaimsReleased(Fact):
    SINCE: ClassVar[int] = 3
    item_ids: tuple[bytes, ...]
    node: str


@dataclass(frozen=True, slots=True)
class AttemptsRecorded(Fact):
    """`node` is "" where it was no attempt but an administrator who gave the item up."""

    SINCE: ClassVar[int] = 3
    node: str
    outcomes: tuple[ItemOutcome, ...]
    texts: tuple[str, ...]
    REDACTABLE: ClassVar[tuple[str, ...]] = ("texts",)


@dataclass(frozen=True, slots=True)
class ItemsParked(Fact):
    SINCE: ClassVar[int] = 3
    item_ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ItemsRescheduled(Fact):
    SINCE: ClassVar[int] = 3
    item_ids: tuple[bytes, ...]
    now_ms: int
    released: bool


@dataclass(frozen=True, slots=True)
class ItemsRerouted(Fact):
    SINCE: ClassVar[int] = 3
    item_ids: tuple[bytes, ...]
    route: str
    now_ms: int


@dataclass(frozen=True, slots=True)
class DomainThrottled(Fact):
    SINCE: ClassVar[int] = 3
    until_ms: int
    reason: str
    level: int


@dataclass(frozen=True, slots=True)
class QueueSuspended(Fact):
    SINCE: ClassVar[int] = 3
    reason: str


@dataclass(frozen=True, slots=True)
class QueueResumed(Fact):
    SINCE: ClassVar[int] = 3


@dataclass(frozen=True, slots=True)
class MailReturned(Fact):
    SINCE: ClassVar[int] = 3
    recipient: str
    item: bytes
    REDACTABLE: ClassVar[tuple[str, ...]] = ("recipient",)


QueueFact = (
    MailQueued
    | ItemClaimed
    | AttemptRecorded
    | ClaimReleased
    | ItemRemoved
    | ItemsClaimed
    | ClaimsRenewed
    | ClaimsReleased
    | AttemptsRecorded
    | ItemsParked
    | ItemsRescheduled
    | ItemsRerouted
    | DomainThrottled
    | QueueSuspended
    | QueueResumed
    | MailReturned
)
