"""A queue: mail waiting to be sent to one destination domain.

An item stays until every recipient is settled and somebody said so: nothing expires by itself and a claim without an
outcome is simply taken up by the next node, so an attempt happens at least once and no mail is lost in between. A
claim is a lease: while it lives, only its holder may record outcomes. Times come with the command, never from a clock.
Rows: d the domain, i + item id one item.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, assert_never

from actors.errors import NameTaken, NoSuchItem, NotAllowed, TooLarge
from actors.kind import Command, Fact
from actors.mail_options import NO_OPTIONS, MailOptions, RecipientOptions
from actors.region import REGION, OpenQueue, has_queue, queue_domains
from eventlog.record import Stamp, stream_id
from eventlog.store import Snapshot
from eventlog.views import View

MAX_RECIPIENTS = 1000
DOMAIN_KEY = b"d"

State = Literal["waiting", "delivered", "failed"]
Deferral = tuple[str, int, str]  # recipient, next_ms, reason
Failure = tuple[str, str]  # recipient, reason
RecipientRow = tuple[str, State, int, str]


class Recipient(NamedTuple):
    address: str
    state: State
    next_ms: int  # not to be tried again before
    reason: str  # what the last attempt said


class Claimed(NamedTuple):
    node: str
    until_ms: int


class Item(NamedTuple):
    id: bytes
    tenant: bytes
    sender: str
    recipients: tuple[Recipient, ...]
    digest: bytes
    size: int
    trace: bytes
    expires_ms: int
    queued_ms: int
    attempts: int
    claim: Claimed | None  # the last one; it may have run out

    @property
    def next_ms(self) -> int | None:
        """When the next attempt is due; None when every recipient is settled."""
        return min((one.next_ms for one in self.recipients if one.state == "waiting"), default=None)


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


QueueCommand = Enqueue | Claim | RecordAttempt | Release | RemoveItem


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


QueueFact = MailQueued | ItemClaimed | AttemptRecorded | ClaimReleased | ItemRemoved


def queue_stream(domain: str) -> bytes:
    """The stream of the queue for a normalised destination domain."""
    return stream_id("queue", domain)


def enqueue_commands(snapshot: Snapshot, command: Enqueue) -> list[tuple[bytes, Command]]:
    """What to transact to enqueue: the item, and for the first one of a domain its queue's entry in the region."""
    steps: list[tuple[bytes, Command]] = [(queue_stream(command.domain), command)]
    if not has_queue(snapshot.view(REGION), command.domain):
        steps.append((REGION, OpenQueue(command.domain)))
    return steps


def decide(view: View, command: QueueCommand) -> tuple[QueueFact, ...]:
    """Raises NoSuchItem, NotAllowed (a lease is held by another, recipients are waiting), NameTaken, TooLarge."""
    match command:
        case Enqueue():
            return (_enqueue(view, command),)
        case Claim(item_id, node, until_ms, now_ms):
            claim = _item(view, item_id).claim
            if claim is not None and claim.until_ms > now_ms and claim.node != node:
                raise NotAllowed(f"claimed by {claim.node}")
            return (ItemClaimed(item_id, node, until_ms),)
        case RecordAttempt(item_id, node, delivered, deferred, failed):
            _held(view, item_id, node)
            return (AttemptRecorded(item_id, node, delivered, deferred, failed),)
        case Release(item_id, node):
            _held(view, item_id, node)
            return (ClaimReleased(item_id, node),)
        case RemoveItem(item_id, force):
            if not force and _item(view, item_id).next_ms is not None:
                raise NotAllowed("recipients are waiting")
            _item(view, item_id)
            return (ItemRemoved(item_id),)
        case _:
            assert_never(command)


def _enqueue(view: View, command: Enqueue) -> MailQueued:
    if not command.recipients:
        raise NotAllowed("a message needs a recipient")
    if len(command.recipients) > MAX_RECIPIENTS:
        raise TooLarge(f"at most {MAX_RECIPIENTS} recipients")
    if view.get(_key(command.item_id)) is not None:
        raise NameTaken("the item is queued already")
    return MailQueued(
        command.domain,
        command.item_id,
        command.tenant,
        command.sender,
        command.recipients,
        command.digest,
        command.size,
        command.trace,
        command.expires_ms,
        command.now_ms,
        command.options,
        command.recipient_options,
    )


def _item(view: View, item_id: bytes) -> Item:
    row = view.get(_key(item_id))
    if row is None:
        raise NoSuchItem("no such item in the queue")
    return _from_row(item_id, row)


def _held(view: View, item_id: bytes, node: str) -> None:
    claim = _item(view, item_id).claim
    if claim is None or claim.node != node:
        raise NotAllowed("not claimed by this node")


def evolve(view: View, fact: QueueFact, stamp: Stamp) -> None:
    """Total: outcomes for an item that has gone change nothing. All delivered: the item is done and leaves."""
    if isinstance(fact, MailQueued):
        _queued(view, fact, stamp)
        return
    row = view.get(_key(fact.item_id))
    if row is None:
        return
    item = _from_row(fact.item_id, row)
    match fact:
        case ItemClaimed():
            _put(view, item._replace(claim=Claimed(fact.node, fact.until_ms)))
        case ClaimReleased():
            _put(view, item._replace(claim=None))
        case AttemptRecorded():
            _attempted(view, item, fact)
        case ItemRemoved():
            view.delete(_key(item.id))
        case _:
            assert_never(fact)


def _queued(view: View, fact: MailQueued, stamp: Stamp) -> None:
    recipients = tuple(Recipient(address, "waiting", fact.now_ms, "") for address in fact.recipients)
    item = Item(
        fact.item_id,
        fact.tenant,
        fact.sender,
        recipients,
        fact.digest,
        fact.size,
        fact.trace,
        fact.expires_ms,
        stamp.at_ms,
        0,
        None,
    )
    if view.get(DOMAIN_KEY) is None:
        view.put(DOMAIN_KEY, fact.domain)
    _put(view, item)


def _attempted(view: View, item: Item, fact: AttemptRecorded) -> None:
    deferred = {address: (next_ms, reason) for address, next_ms, reason in fact.deferred}
    failed = dict(fact.failed)
    recipients = []
    for one in item.recipients:
        if one.state == "waiting" and one.address in fact.delivered:
            one = one._replace(state="delivered", reason="")
        elif one.state == "waiting" and one.address in failed:
            one = one._replace(state="failed", reason=failed[one.address])
        elif one.state == "waiting" and one.address in deferred:
            next_ms, reason = deferred[one.address]
            one = one._replace(next_ms=next_ms, reason=reason)
        recipients.append(one)
    if all(one.state == "delivered" for one in recipients):
        view.delete(_key(item.id))
        return
    _put(view, item._replace(recipients=tuple(recipients), attempts=item.attempts + 1, claim=None))


def items(view: View) -> list[Item]:
    """What is queued for this destination, oldest first."""
    return [_from_row(key[1:], row) for key, row in view.range(b"i")]


def item(view: View, item_id: bytes) -> Item | None:
    row = view.peek(_key(item_id))
    return _from_row(item_id, row) if row else None


def domain(view: View) -> str | None:
    """The destination domain; None before anything was queued."""
    name: str | None = view.peek(DOMAIN_KEY)
    return name


def queues(snapshot: Snapshot) -> list[str]:
    """Destination domains that ever had a queue, sorted; `queue_stream` finds each."""
    return queue_domains(snapshot.view(REGION))


def _key(item_id: bytes) -> bytes:
    return b"i" + item_id


def _put(view: View, item: Item) -> None:
    view.put(_key(item.id), tuple(item[1:]))


def _from_row(item_id: bytes, row: tuple[object, ...]) -> Item:
    built = Item(item_id, *row)  # type: ignore[arg-type]
    claim = Claimed._make(built.claim) if built.claim else None
    return built._replace(recipients=tuple(map(Recipient._make, built.recipients)), claim=claim)
