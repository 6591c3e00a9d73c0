"""Outbound mail that waits, over the admin API: what there is, how it does, and what an administrator does about it.

Long queues are read a slice at a time, so that nothing else waits for it. Each change is an event with the
administrator's name in its record.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

from actors import queue
from actors.errors import CommandRefused, NoSuchItem
from actors.kind import Command
from actors.names import normalise_domain
from actors.queue import EVERY_QUEUE, Item, queue_stream
from actors.runtime import NewBody
from actors.standing import STANDING, standings
from eventlog.store import Snapshot
from eventlog.views import View
from nodes.delivery.notices import prepare_notice
from nodes.delivery.plan import gave_up
from nodes.delivery.routes import hop
from nodes.http.calls import Call
from nodes.http.endpoint import Endpoints
from nodes.http.errors import ApiError, bad_request
from nodes.http.pages import cursor, cursor_key, wrong_cursor
from nodes.http.places import CLUSTER, OWN
from nodes.http.queue_items import Filter, Place, item_json, state_of
from nodes.http.queue_models import (
    Act,
    Acted,
    DomainChanged,
    ItemFilter,
    QueueItem,
    QueuePage,
    QueueQuery,
    QueueSuspension,
    Stats,
    StatsQuery,
)

ENDPOINTS = Endpoints("queue")
SLICE = 500
MOST_CHANGED = 100_000  # by one request
AT_ONCE = 200  # items that one record changes
NOTICES_AT_ONCE = 20
MOST_REASONS = 5
SAMPLED = 2000  # items of a domain whose reasons are looked at
EVERY = "*"


@ENDPOINTS.get("/v1/queue", "queue:read", OWN, QueuePage)
async def list_items(call: Call, query: QueueQuery) -> dict[str, Any]:
    """List messages that wait to be sent elsewhere."""
    wanted = _filter_of(call, query)
    now_ms, found = _now_ms(), list[dict[str, Any]]()
    following = None
    async for place, item in _items(call, wanted, query.after):
        if len(found) == query.limit:
            following = cursor((found[-1]["domain"], found[-1]["id"]))
            break
        found.append(item_json(place, item, now_ms))
    return {"items": found, "next": following}


@ENDPOINTS.get("/v1/queue/items/{id}", "queue:read", OWN, QueueItem, problems=("no_such_item",))
async def show_item(call: Call) -> dict[str, Any]:
    """Show a message that waits."""
    item_id = _id(call.path["id"])
    async for place, item in _items(call, Filter(ids=frozenset({item_id}), tenant=call.caller.tenant)):
        return item_json(place, item, _now_ms())
    text = f"the queue has no message {item_id.hex()}"
    raise ApiError(404, "not_found", text, "mailraft queue list", code="no_such_item")


@ENDPOINTS.get("/v1/queue/stats", "queue:read", CLUSTER, Stats)
async def stats(call: Call, query: StatsQuery) -> dict[str, Any]:
    """Tell how mail to elsewhere does, by domain."""
    node = call.services
    with node.log.snapshot() as snapshot:
        names = [normalise_domain(query.domain)] if query.domain else queue.queues(snapshot)
        all_suspended = queue.suspension(snapshot.view(EVERY_QUEUE))
    found, following = list[dict[str, Any]](), None
    after = _domain_after(query.after)
    for name in sorted(name for name in names if name > after):
        with node.log.snapshot() as snapshot:
            one = _stats_json(snapshot, name)
        if one["items"] or any(one["last_7_days"].values()) or one["suspended"]:
            if len(found) == query.limit:
                following = cursor((found[-1]["domain"],))
                break
            found.append(one)
        await asyncio.sleep(0)
    return {"domains": found, "all_suspended": all_suspended and all_suspended._asdict(), "next": following}


@ENDPOINTS.post("/v1/queue/actions", "queue:write", OWN, Acted, once=False)
async def act(call: Call, body: Act) -> dict[str, Any]:
    """Do something about messages that wait; all that is done is done by its own, and may be asked for again."""
    action, route = body.action, body.route
    reason = body.reason or "given up by the postmaster"
    if action == "reroute" and route and hop(route) is None:
        raise bad_request(f"{route!r} is no host and no host:port", "smart.example.test:587, say, or [192.0.2.1]")
    wanted = _wanted(call, body)
    batches: dict[bytes, list[Item]] = {}
    async for place, item in _items(call, wanted):
        batches.setdefault(place.stream, []).append(item)
        if sum(map(len, batches.values())) >= MOST_CHANGED:
            break
    done, refused = 0, list[dict[str, str]]()
    if action == "retry" and body.ids is not None:
        held = [item for items in batches.values() for item in items if item.held]
        refused += [{"id": one.id.hex(), "reason": "it is held: release it"} for one in held]
    for stream, items in batches.items():
        size = NOTICES_AT_ONCE if action == "bounce" else AT_ONCE
        for start in range(0, len(items), size):
            batch = items[start : start + size]
            changed, failed = await _change(call, action, stream, batch, route, reason)
            done += changed
            refused += failed
    missing = [one.hex() for one in wanted.ids - {item.id for items in batches.values() for item in items}]
    return {"done": done, "refused": refused, "missing": missing}


@ENDPOINTS.post("/v1/queue/domains/{domain}/suspend", "queue:write", CLUSTER, DomainChanged)
async def suspend_domain(call: Call, body: QueueSuspension) -> dict[str, Any]:
    """Send nothing to a domain until it is resumed; `*` stands for every domain."""
    return await _change_domain(call, queue.SuspendQueue(body.reason))


@ENDPOINTS.post("/v1/queue/domains/{domain}/resume", "queue:write", CLUSTER, DomainChanged)
async def resume_domain(call: Call) -> dict[str, Any]:
    """Send to a domain again; `*` stands for every domain."""
    return await _change_domain(call, queue.ResumeQueue())


async def _change_domain(call: Call, command: queue.SuspendQueue | queue.ResumeQueue) -> dict[str, Any]:
    name = call.path["domain"]
    domain = EVERY if name == EVERY else normalise_domain(name)
    done = await call.services.runtime.ask(queue_stream(domain), command, call.context)
    return {"domain": domain, "changed": bool(done.facts)}


# What is done to items


async def _change(
    call: Call, action: str, stream: bytes, items: list[Item], route: str, reason: str
) -> tuple[int, list[dict[str, str]]]:
    """How many were changed, and which not; one that is refused does not keep the others."""
    steps, bodies = _steps(call, action, stream, items, route, reason)
    try:
        done = await call.services.runtime.transact(steps, call.context, bodies)
    except CommandRefused as refusal:
        if len(items) > 1:
            parts = [await _change(call, action, stream, [one], route, reason) for one in items]
            return sum(part[0] for part in parts), [one for part in parts for one in part[1]]
        if isinstance(refusal, NoSuchItem):
            return 0, []
        return 0, [{"id": items[0].id.hex(), "reason": str(refusal)}]
    return len(items) if action in ("delete", "bounce") else _named(done.facts), []


def _named(facts: tuple[Any, ...]) -> int:
    return sum(len(fact.item_ids) for fact in facts if hasattr(fact, "item_ids"))


def _steps(
    call: Call, action: str, stream: bytes, items: list[Item], route: str, reason: str
) -> tuple[list[tuple[bytes, Command]], list[NewBody]]:
    ids, now_ms = tuple(one.id for one in items), _now_ms()
    match action:
        case "retry":
            lift = (stream, queue.ThrottleDomain(0, "", 0))
            return [(stream, queue.RetryItems(ids, now_ms)), lift], []
        case "hold":
            return [(stream, queue.HoldItems(ids))], []
        case "release":
            return [(stream, queue.RetryItems(ids, now_ms, release=True))], []
        case "reroute":
            return [(stream, queue.RerouteItems(ids, route, now_ms))], []
        case "delete":
            return [(stream, queue.RemoveItem(item_id, force=True)) for item_id in ids], []
    steps: list[tuple[bytes, Command]] = []
    bodies: list[NewBody] = []
    for item in items:
        steps.append((stream, queue.FailItem(item.id, reason, now_ms)))
        notice = gave_up(item, reason)
        if notice is not None:
            prepared = prepare_notice(call.services, item, notice)
            steps += prepared.steps
            bodies += prepared.bodies
    return steps, bodies


# What there is


async def _items(call: Call, wanted: Filter, after: str = "") -> AsyncIterator[tuple[Place, Item]]:
    """Those that the filter takes, by domain and age, from behind the cursor `after` on."""
    log, now_ms = call.services.log, _now_ms()
    first, last_id = _place_of(after)
    with log.snapshot() as snapshot:
        names = [wanted.domain] if wanted.domain else queue.queues(snapshot)
    for name in names:
        if name < first:
            continue
        behind = _id(last_id) if name == first and last_id else b""
        while True:
            with log.snapshot() as snapshot:
                place, items = _slice(snapshot, name, behind)
            for item in items:
                if wanted.takes(place, item, now_ms):
                    yield place, item
            if len(items) < SLICE:
                break
            behind = items[-1].id
            await asyncio.sleep(0)


def _domain_after(after: str) -> str:
    """The last domain of the page before. Raises ApiError."""
    match cursor_key(after) or ("",):
        case (str(domain),):
            return domain
    raise wrong_cursor()


def _place_of(after: str) -> tuple[str, str]:
    """Domain and id that a cursor names. Raises ApiError."""
    match cursor_key(after) or ("", ""):
        case (str(domain), str(id_)):
            return domain, id_
    raise wrong_cursor()


def _slice(snapshot: Snapshot, name: str, behind: bytes) -> tuple[Place, list[Item]]:
    view = snapshot.view(queue_stream(name))
    return _place(snapshot, view, name), list(_first(queue.items_after(view, behind), SLICE))


def _place(snapshot: Snapshot, view: View, name: str) -> Place:
    throttle, inactive = queue.throttle(view), standings(snapshot.view(STANDING))
    why = "all sending is suspended" if queue.suspension(snapshot.view(EVERY_QUEUE)) is not None else ""
    if queue.suspension(view) is not None:
        why = f"sending to {name} is suspended"
    return Place(name, view.stream, why, throttle.until_ms if throttle else 0, inactive)


def _first(items: Iterator[Item], most: int) -> Iterator[Item]:
    for item, _ in zip(items, range(most)):
        yield item


def _stats_json(snapshot: Snapshot, name: str) -> dict[str, Any]:
    view = snapshot.view(queue_stream(name))
    totals, throttle, suspended = queue.totals(view), queue.throttle(view), queue.suspension(view)
    sample = list(_first(queue.items_after(view), SAMPLED))
    now_ms = _now_ms()
    place = _place(snapshot, view, name)
    reasons = Counter(one.reason for item in sample for one in item.recipients if one.state == "waiting" and one.reason)
    week = [one for one in queue.days(view) if one.day > now_ms // 86_400_000 - 7]
    counts = {key: sum(getattr(one, key) for one in week) for key in queue.Day._fields[1:]}
    counts["returned"] = queue.returned(view, now_ms // 86_400_000 - 6)
    settled = counts["delivered"] + counts["failed"]
    return {
        "domain": name,
        "items": max(totals.items, len(sample) if len(sample) < SAMPLED else 0),
        "bytes": totals.bytes,
        "oldest_ms": min((item.queued_ms for item in sample), default=None),
        "states": Counter(state_of(place, item, now_ms) for item in sample),
        "reasons": [{"reason": text, "count": count} for text, count in reasons.most_common(MOST_REASONS)],
        "throttled_until_ms": place.throttled_until_ms if place.throttled_until_ms > now_ms else None,
        "throttle_reason": throttle.reason if throttle else None,
        "suspended": suspended._asdict() if suspended else None,
        "last_7_days": counts,
        "bounce_rate": (counts["failed"] + counts["returned"]) / settled if settled else None,
    }


# What is asked for


def _wanted(call: Call, body: Act) -> Filter:
    if (body.ids is None) == (body.filter is None):
        raise bad_request("either ids or a filter says which messages are meant")
    if body.ids is not None:
        return Filter(ids=frozenset(map(_id, body.ids)), tenant=call.caller.tenant)
    assert body.filter is not None
    return _filter_of(call, body.filter)


def _filter_of(call: Call, wanted: QueueQuery | ItemFilter) -> Filter:
    return Filter(
        domain=normalise_domain(wanted.domain) if wanted.domain else "",
        sender=wanted.sender,
        recipient=wanted.recipient,
        state=wanted.state,
        older_ms=int(wanted.older_s) * 1000,
        tenant=call.caller.tenant,
    )


def _id(text: str) -> bytes:
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != 16:
        raise bad_request(f"{text[:64]} is not the id of a message", "mailraft queue list")
    return found


def _now_ms() -> int:
    return int(time.time() * 1000)
