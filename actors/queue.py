"""A queue: mail waiting to be sent to one destination domain.

This file decides; its vocabulary is in `queue_terms`, its rows and readers in `queue_rows`, its fold in `queue_fold`,
all of it importable from here. An item stays until every recipient is settled: nothing expires by itself and a claim
without an outcome is simply taken up by the next node, so an attempt happens at least once and no mail is lost in
between. A claim is a lease: while it lives, only its holder may record outcomes. Times come with the command, never
from a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import assert_never

from actors.errors import NameTaken, NoSuchItem, NotAllowed, TooLarge
from actors.kind import Command
from actors.queue_fold import evolve
from actors.queue_rows import (
    EVERY_QUEUE,
    Claimed,
    Day,
    Item,
    Recipient,
    Suspension,
    Throttle,
    Totals,
    days,
    domain,
    from_row,
    item,
    item_key,
    items,
    items_after,
    queue_stream,
    queues,
    returned,
    suspension,
    throttle,
    totals,
)
from actors.queue_terms import (
    EVERY_DOMAIN,
    MAX_BATCH,
    MAX_RECIPIENTS,
    AttemptRecorded,
    AttemptsRecorded,
    Claim,
    ClaimItems,
    ClaimReleased,
    ClaimsReleased,
    ClaimsRenewed,
    DomainThrottled,
    Enqueue,
    FailItem,
    HoldItems,
    ItemClaimed,
    ItemOutcome,
    ItemRemoved,
    ItemsClaimed,
    ItemsParked,
    ItemsRerouted,
    ItemsRescheduled,
    MailQueued,
    MailReturned,
    NoteReturn,
    QueueCommand,
    QueueFact,
    QueueResumed,
    QueueSuspended,
    RecordAttempt,
    RecordOutcomes,
    Release,
    ReleaseClaims,
    RemoveItem,
    RenewClaims,
    RerouteItems,
    Result,
    ResumeQueue,
    RetryItems,
    SuspendQueue,
    ThrottleDomain,
)
from actors.region import REGION, OpenQueue, has_queue
from eventlog.store import Snapshot
from eventlog.views import View

__all__ = [
    "EVERY_DOMAIN",
    "EVERY_QUEUE",
    "MAX_BATCH",
    "MAX_RECIPIENTS",
    "AttemptRecorded",
    "AttemptsRecorded",
    "Claim",
    "ClaimItems",
    "ClaimReleased",
    "Claimed",
    "ClaimsReleased",
    "ClaimsRenewed",
    "Day",
    "DomainThrottled",
    "Enqueue",
    "FailItem",
    "HoldItems",
    "Item",
    "ItemClaimed",
    "ItemOutcome",
    "ItemRemoved",
    "ItemsClaimed",
    "ItemsParked",
    "ItemsRerouted",
    "ItemsRescheduled",
    "MailQueued",
    "MailReturned",
    "NoteReturn",
    "QueueCommand",
    "QueueFact",
    "QueueResumed",
    "QueueSuspended",
    "Recipient",
    "RecordAttempt",
    "RecordOutcomes",
    "Release",
    "ReleaseClaims",
    "RemoveItem",
    "RenewClaims",
    "RerouteItems",
    "Result",
    "ResumeQueue",
    "RetryItems",
    "SuspendQueue",
    "Suspension",
    "Throttle",
    "ThrottleDomain",
    "Totals",
    "days",
    "decide",
    "domain",
    "enqueue_commands",
    "evolve",
    "item",
    "items",
    "items_after",
    "queue_stream",
    "queues",
    "returned",
    "suspension",
    "tenant_of",
    "throttle",
    "totals",
]  # fmt: skip


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
        case Claim() | RecordAttempt() | Release() | RemoveItem():
            return _decide_one(view, command)
        case ClaimItems() | RenewClaims() | ReleaseClaims() | RecordOutcomes():
            return _decide_work(view, command)
        case FailItem() | HoldItems() | RetryItems() | RerouteItems():
            return _decide_by_hand(view, command)
        case ThrottleDomain() | SuspendQueue() | ResumeQueue():
            return _decide_domain(view, command)
        case NoteReturn(_, recipient, item):
            return (MailReturned(recipient, item),)
        case _:
            assert_never(command)


def tenant_of(view: View, command: QueueCommand) -> bytes | None:
    """Whose item the command is about: of many, the first that is there; None for one about the domain."""
    match command:
        case Enqueue(tenant=tenant) | NoteReturn(tenant=tenant):
            return tenant
        case Claim() | RecordAttempt() | Release() | RemoveItem() | FailItem():
            ids: Iterable[bytes] = (command.item_id,)
        case ClaimItems() | RenewClaims() | ReleaseClaims() | HoldItems() | RetryItems() | RerouteItems():
            ids = command.item_ids
        case RecordOutcomes(outcomes=outcomes):
            ids = (outcome.item_id for outcome in outcomes)
        case ThrottleDomain() | SuspendQueue() | ResumeQueue():
            ids = ()
        case _:
            assert_never(command)
    found = (item(view, item_id) for item_id in ids)
    return next((one.tenant for one in found if one is not None), None)


def _enqueue(view: View, command: Enqueue) -> MailQueued:
    if not command.recipients:
        raise NotAllowed("a message needs a recipient")
    if len(command.recipients) > MAX_RECIPIENTS:
        raise TooLarge(f"at most {MAX_RECIPIENTS} recipients")
    if view.get(item_key(command.item_id)) is not None:
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
        counted=True,
        session=command.session,
    )


def _decide_one(view: View, command: Claim | RecordAttempt | Release | RemoveItem) -> tuple[QueueFact, ...]:
    match command:
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


def _decide_work(
    view: View, command: ClaimItems | RenewClaims | ReleaseClaims | RecordOutcomes
) -> tuple[QueueFact, ...]:
    match command:
        case ClaimItems(item_ids, node, until_ms, now_ms):
            free = _those(view, item_ids, lambda one: _claimable(one, node, now_ms))
            return (ItemsClaimed(free, node, until_ms),) if free else ()
        case RenewClaims(item_ids, node, until_ms):
            own = _those(view, item_ids, lambda one: _is_held(one, node))
            return (ClaimsRenewed(own, node, until_ms),) if own else ()
        case ReleaseClaims(item_ids, node):
            own = _those(view, item_ids, lambda one: _is_held(one, node))
            return (ClaimsReleased(own, node),) if own else ()
        case RecordOutcomes():
            return _record(view, command)
        case _:
            assert_never(command)


def _record(view: View, command: RecordOutcomes) -> tuple[QueueFact, ...]:
    """What a holder says stands. Who holds an item no more can only say that it was delivered.

    A failure, a warning, and what is bound to something else in the same record, are refused without the claim.
    """
    texts = iter(command.texts)
    kept: list[ItemOutcome] = []
    kept_texts: list[str] = []
    for outcome in command.outcomes:
        said = [(result, next(texts, "")) for result in outcome.results]
        row = view.get(item_key(outcome.item_id))
        if row is None or not _is_held(from_row(outcome.item_id, row), command.node):
            bound = outcome.warned or outcome.item_id in command.bound
            if bound or any(result.status == "failed" for result, _ in said):
                raise NotAllowed("not claimed by this node") if row else NoSuchItem("no such item in the queue")
            said = [one for one in said if row is not None and one[0].status == "delivered"]
        if said:
            kept.append(outcome._replace(results=tuple(result for result, _ in said)))
            kept_texts += [text for _, text in said]
    return (AttemptsRecorded(command.node, tuple(kept), tuple(kept_texts)),) if kept else ()


def _decide_by_hand(view: View, command: FailItem | HoldItems | RetryItems | RerouteItems) -> tuple[QueueFact, ...]:
    match command:
        case FailItem(item_id, text, now_ms):
            found = _item(view, item_id)
            if found.claim is not None and found.claim.until_ms > now_ms:
                raise NotAllowed(f"{found.claim.node} is sending it: wait a moment, or hold it first")
            results = [
                Result(index, "failed", 0, 0, "5.0.0", "")
                for index, one in enumerate(found.recipients)
                if one.state == "waiting"
            ]
            return (AttemptsRecorded("", (ItemOutcome(item_id, tuple(results)),), (text,) * len(results)),)
        case HoldItems(item_ids):
            there = _those(view, item_ids, lambda one: not one.held)
            return (ItemsParked(there),) if there else ()
        case RetryItems(item_ids, now_ms, release):
            there = _those(view, item_ids, lambda one: one.next_ms is not None and (release or not one.held))
            return (ItemsRescheduled(there, now_ms, release),) if there else ()
        case RerouteItems(item_ids, route, now_ms):
            there = _those(view, item_ids, lambda one: one.next_ms is not None)
            return (ItemsRerouted(there, route, now_ms),) if there else ()
        case _:
            assert_never(command)


def _decide_domain(view: View, command: ThrottleDomain | SuspendQueue | ResumeQueue) -> tuple[QueueFact, ...]:
    match command:
        case ThrottleDomain(until_ms, reason, level):
            before = throttle(view)
            if (until_ms == 0 and before is None) or (before is not None and 0 < until_ms <= before.until_ms):
                return ()
            return (DomainThrottled(until_ms, reason, level),)
        case SuspendQueue(reason):
            return () if suspension(view) is not None else (QueueSuspended(reason),)
        case ResumeQueue():
            return () if suspension(view) is None else (QueueResumed(),)
        case _:
            assert_never(command)


def _item(view: View, item_id: bytes) -> Item:
    row = view.get(item_key(item_id))
    if row is None:
        raise NoSuchItem("no such item in the queue")
    return from_row(item_id, row)


def _those(view: View, item_ids: tuple[bytes, ...], wanted: Callable[[Item], bool]) -> tuple[bytes, ...]:
    if len(item_ids) > MAX_BATCH:
        raise TooLarge(f"at most {MAX_BATCH} items at once")
    rows = [(item_id, view.get(item_key(item_id))) for item_id in dict.fromkeys(item_ids)]
    return tuple([item_id for item_id, row in rows if row is not None and wanted(from_row(item_id, row))])


def _claimable(one: Item, node: str, now_ms: int) -> bool:
    free = one.claim is None or one.claim.until_ms <= now_ms or one.claim.node == node
    return free and not one.held and one.next_ms is not None


def _held(view: View, item_id: bytes, node: str) -> None:
    if not _is_held(_item(view, item_id), node):
        raise NotAllowed("not claimed by this node")


def _is_held(one: Item, node: str) -> bool:
    return one.claim is not None and one.claim.node == node
