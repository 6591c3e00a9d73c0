"""The fold of a queue: its events into its rows. Total: what is said of an item that has gone changes nothing.

An item leaves when the last of its recipients is settled; what its sender is told of that stands in the same record.
Gives for each item that an event changed (id, when it is due, priority), with None for one that has left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import assert_never

from actors.mail_options import MailOptions, RecipientOptions
from actors.queue_rows import (
    DAY_KEY,
    DAY_MS,
    DAYS_KEPT,
    DOMAIN_KEY,
    RETURN_KEY,
    SUSPENSION_KEY,
    THROTTLE_KEY,
    TOTALS_KEY,
    Claimed,
    Day,
    Item,
    Recipient,
    day_key,
    from_row,
    item,
    item_key,
    put_item,
    throttle,
    totals,
)
from actors.queue_terms import (
    AttemptRecorded,
    AttemptsRecorded,
    ClaimReleased,
    ClaimsReleased,
    ClaimsRenewed,
    DomainThrottled,
    ItemClaimed,
    ItemOutcome,
    ItemRemoved,
    ItemsClaimed,
    ItemsParked,
    ItemsRerouted,
    ItemsRescheduled,
    MailQueued,
    MailReturned,
    QueueFact,
    QueueResumed,
    QueueSuspended,
    Result,
)
from eventlog.record import Stamp
from eventlog.views import View

MAX_TEXT = 500  # characters of a reply that are kept

Change = tuple[bytes, int | None, int]


def evolve(view: View, fact: QueueFact, stamp: Stamp) -> list[Change]:
    match fact:
        case MailQueued():
            return _queued(view, fact, stamp)
        case ItemClaimed() | ClaimReleased() | AttemptRecorded() | ItemRemoved():
            return _of_one(view, fact)
        case ItemsClaimed():
            return _claimed(view, fact, stamp)
        case ClaimsRenewed(item_ids, node, until_ms):
            _hold(view, item_ids, node, Claimed(node, until_ms))
            return []
        case ClaimsReleased(item_ids, node):
            return _hold(view, item_ids, node, None)
        case AttemptsRecorded():
            return _attempted(view, fact, stamp)
        case ItemsParked(item_ids):
            return _each(view, item_ids, lambda one: one._replace(held=True))
        case ItemsRescheduled(item_ids, now_ms, released):
            return _each(view, item_ids, lambda one: _due(one, now_ms, release=released))
        case ItemsRerouted(item_ids, route, now_ms):
            return _each(view, item_ids, lambda one: _due(one._replace(route=route), now_ms, release=False))
        case DomainThrottled() | QueueSuspended() | QueueResumed():
            _of_domain(view, fact, stamp)
            return []
        case MailReturned():
            _count_return(view, stamp)
            return []
        case _:
            assert_never(fact)


def _queued(view: View, fact: MailQueued, stamp: Stamp) -> list[Change]:
    first_ms = max(fact.now_ms, MailOptions(*fact.options).hold_until_ms)
    asked = [RecipientOptions(*one) for one in fact.recipient_options]
    asked += [RecipientOptions()] * (len(fact.recipients) - len(asked))
    queued = Item(
        fact.item_id,
        fact.tenant,
        fact.sender,
        tuple([Recipient(address, "waiting", first_ms, "", one) for address, one in zip(fact.recipients, asked)]),
        fact.digest,
        fact.size,
        fact.trace,
        fact.expires_ms,
        stamp.at_ms,
        0,
        None,
        MailOptions(*fact.options),
        counted=fact.counted,
        session=fact.session,
    )
    if view.get(DOMAIN_KEY) is None:
        view.put(DOMAIN_KEY, fact.domain)
    _count(view, queued, 1)
    put_item(view, queued)
    return [_change(queued)]


def _of_one(view: View, fact: ItemClaimed | ClaimReleased | AttemptRecorded | ItemRemoved) -> list[Change]:
    found = item(view, fact.item_id)
    if found is None:
        return []
    match fact:
        case ItemClaimed():
            found = found._replace(claim=Claimed(fact.node, fact.until_ms))
        case ClaimReleased():
            found = found._replace(claim=None)
        case AttemptRecorded():
            found = _attempted_once(found, fact)
            if all(one.state == "delivered" for one in found.recipients):
                return _remove(view, found)
        case ItemRemoved():
            return _remove(view, found)
        case _:
            assert_never(fact)
    put_item(view, found)
    return [_change(found)]


def _attempted_once(found: Item, fact: AttemptRecorded) -> Item:
    deferred = {address: (next_ms, reason) for address, next_ms, reason in fact.deferred}
    failed = dict(fact.failed)
    recipients = []
    for one in found.recipients:
        if one.state == "waiting" and one.address in fact.delivered:
            one = one._replace(state="delivered", reason="")
        elif one.state == "waiting" and one.address in failed:
            one = one._replace(state="failed", reason=failed[one.address])
        elif one.state == "waiting" and one.address in deferred:
            next_ms, reason = deferred[one.address]
            one = one._replace(next_ms=next_ms, reason=reason)
        recipients.append(one)
    return found._replace(recipients=tuple(recipients), attempts=found.attempts + 1, claim=None)


def _claimed(view: View, fact: ItemsClaimed, stamp: Stamp) -> list[Change]:
    """A claim over one that was neither released nor followed by an outcome: its holder may have sent the mail."""
    taken_over = 0

    def claim(one: Item) -> Item:
        nonlocal taken_over
        if one.claim is not None:
            taken_over += 1
            one = one._replace(duplicates=one.duplicates + 1)
        return one._replace(claim=Claimed(fact.node, fact.until_ms))

    _each(view, fact.item_ids, claim)
    if taken_over:
        _add_to_day(view, stamp, Day(0, taken_over=taken_over))
    return []


def _attempted(view: View, fact: AttemptsRecorded, stamp: Stamp) -> list[Change]:
    changes: list[Change] = []
    texts = iter(fact.texts)  # empty when they were redacted
    counts = dict.fromkeys(("delivered", "failed", "deferred", "unknown"), 0)
    for outcome in fact.outcomes:
        outcome = ItemOutcome(*outcome)
        results = [(Result(*one), next(texts, "")[:MAX_TEXT]) for one in outcome.results]
        row = view.get(item_key(outcome.item_id))
        if row is None:
            continue
        found, settled = _with_results(from_row(outcome.item_id, row), fact.node, results)
        for status in settled:
            counts[status] += 1
        if found.next_ms is None:
            changes += _remove(view, found)
        else:
            found = found._replace(warned=found.warned or outcome.warned)
            put_item(view, found)
            changes.append(_change(found))
    _add_to_day(view, stamp, Day(0, **counts))
    if counts["delivered"] and (before := throttle(view)) is not None and before.until_ms <= stamp.at_ms:
        view.delete(THROTTLE_KEY)
    return changes


def _with_results(found: Item, node: str, results: Iterable[tuple[Result, str]]) -> tuple[Item, list[str]]:
    """The item after an attempt, and what of that was news."""
    recipients = list(found.recipients)
    news: list[str] = []
    for result, text in results:
        if result.place >= len(recipients) or recipients[result.place].state != "waiting":
            continue
        before = recipients[result.place]
        said = before._replace(reason=text, code=result.code, enhanced=result.enhanced, host=result.host)
        if result.status in ("delivered", "failed"):
            recipients[result.place] = said._replace(state=result.status)
        else:
            recipients[result.place] = said._replace(next_ms=result.next_ms)
        news.append(result.status)
    return (
        found._replace(
            recipients=tuple(recipients),
            attempts=found.attempts + (1 if node else 0),
            claim=None if not node or _held_by(found, node) else found.claim,
            duplicates=found.duplicates + ("unknown" in news),
        ),
        news,
    )


def _each(view: View, item_ids: Iterable[bytes], change: Callable[[Item], Item | None]) -> list[Change]:
    changes: list[Change] = []
    for item_id in item_ids:
        row = view.get(item_key(item_id))
        changed = change(from_row(item_id, row)) if row is not None else None
        if changed is not None:
            put_item(view, changed)
            changes.append(_change(changed))
    return changes


def _hold(view: View, item_ids: Iterable[bytes], node: str, claim: Claimed | None) -> list[Change]:
    return _each(view, item_ids, lambda one: one._replace(claim=claim) if _held_by(one, node) else None)


def _due(one: Item, now_ms: int, *, release: bool) -> Item:
    recipients = [r._replace(next_ms=now_ms) if r.state == "waiting" else r for r in one.recipients]
    return one._replace(recipients=tuple(recipients), held=one.held and not release)


def _of_domain(view: View, fact: DomainThrottled | QueueSuspended | QueueResumed, stamp: Stamp) -> None:
    match fact:
        case DomainThrottled(0, _, _):
            view.delete(THROTTLE_KEY)
        case DomainThrottled(until_ms, reason, level):
            view.put(THROTTLE_KEY, (until_ms, reason, level))
        case QueueSuspended(reason):
            view.put(SUSPENSION_KEY, (stamp.at_ms, reason))
        case QueueResumed():
            view.delete(SUSPENSION_KEY)
        case _:
            assert_never(fact)


def _held_by(one: Item, node: str) -> bool:
    return one.claim is not None and one.claim.node == node


def _remove(view: View, found: Item) -> list[Change]:
    view.delete(item_key(found.id))
    _count(view, found, -1)
    return [(found.id, None, found.options.priority)]


def _change(found: Item) -> Change:
    return found.id, found.next_ms, found.options.priority


def _count(view: View, one: Item, sign: int) -> None:
    if one.counted:
        before = totals(view)
        view.put(TOTALS_KEY, (before.items + sign, before.bytes + sign * one.size))


def _count_return(view: View, stamp: Stamp) -> None:
    """By day, kept as long as the other counts of days."""
    day = stamp.at_ms // DAY_MS
    key = RETURN_KEY + day.to_bytes(4, "big")
    before = view.peek(key)
    if before is None:
        for old, _ in list(view.range(RETURN_KEY, b"", (day - DAYS_KEPT).to_bytes(4, "big"))):
            view.delete(old)
    view.put(key, (before or 0) + 1)


def _add_to_day(view: View, stamp: Stamp, more: Day) -> None:
    """Rows of the last month stay; those before go with the first of a new day."""
    day = stamp.at_ms // DAY_MS
    before = view.peek(day_key(day))
    if before is None:
        for key, _ in list(view.range(DAY_KEY, b"", day_key(day - DAYS_KEPT)[1:])):
            view.delete(key)
    counts = before or (0,) * (len(Day._fields) - 1)
    view.put(day_key(day), tuple(a + b for a, b in zip(counts, more[1:])))
