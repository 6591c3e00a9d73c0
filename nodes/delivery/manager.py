"""Sends what is due: follows the queues, claims items by lease, has them sent, records what became of them.

Runs on every node. An item has a preferred node, by rendezvous hashing among the members; the others take it when that
one lets it lie, or lets its lease run out. Claims and outcomes go many to a record. What is in memory is a window onto
the tables (lane.py); all else is read when it is needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import math
import random
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from actors import queue
from actors.queue import (
    EVERY_QUEUE,
    AttemptRecorded,
    AttemptsRecorded,
    ClaimReleased,
    ClaimsReleased,
    ClaimsRenewed,
    DomainThrottled,
    Item,
    ItemRemoved,
    ItemsClaimed,
    ItemsParked,
    ItemsRerouted,
    ItemsRescheduled,
    MailQueued,
    QueueResumed,
    QueueSuspended,
    ThrottleDomain,
    queue_stream,
)
from nodes.delivery.attempt import AttemptResult, Transport
from nodes.delivery.claims import Claims, items_of
from nodes.delivery.lane import Lane
from nodes.delivery.outcomes import Finished, Outcomes
from nodes.delivery.plan import Plan, Policy, plan, throttle_span_ms
from nodes.delivery.sending import send
from nodes.delivery.sharing import Sharing

if TYPE_CHECKING:
    from eventlog.log import Applied
    from nodes.config.queue import QueueSection
    from nodes.services import Services

CLAIM_AT_ONCE = 200
MOST_HELD = 1000  # items claimed here and not recorded
CLOCK_MARGIN_MS = 5_000  # how far clocks of a cell may be apart
AFTER_FAULT_MS = 2_000
MOST_WAIT_S = 5.0

_CHANGES = (MailQueued, AttemptsRecorded, AttemptRecorded, ItemsRescheduled, ItemsRerouted, ClaimsReleased,
            ClaimReleased, ItemRemoved)  # fmt: skip
_OF_DOMAIN = (DomainThrottled, QueueSuspended, QueueResumed)
_OF_QUEUES = frozenset((*_CHANGES, ItemsClaimed, ClaimsRenewed, ItemsParked, *_OF_DOMAIN))


class _Watch(NamedTuple):
    """Items that another node has claimed: looked at when its lease has run out."""

    at_ms: int
    number: int
    stream: bytes
    node: str
    item_ids: tuple[bytes, ...]


class Manager:
    """Used on the event loop; `now_ms` and `jitter` are the clock and the dice, for tests."""

    def __init__(
        self,
        services: Services,
        transport: Transport,
        *,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        config = services.config.queue
        self._services = services
        self._transport = transport
        self._now_ms = now_ms
        self._jitter = jitter
        self._name = services.config.node.name
        self._heed(config)
        self._lanes: dict[bytes, Lane] = {}
        self._agenda: list[tuple[float, int, Lane]] = []
        self._watches: list[_Watch] = []
        self._numbers = itertools.count()
        self._claims = Claims(services, int(config.lease_s * 1000), now_ms)
        self._sharing = Sharing(
            self._name, lambda: [one.name for one in services.log.members()], int(config.takeover_s * 1000)
        )
        self._starved: dict[Lane, None] = {}  # have something to do, but this node has enough under way
        self._all_suspended = False
        self._inactive: frozenset[bytes] = frozenset()  # tenants
        self._sending = 0
        self._stopping = False
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._attempts: set[asyncio.Task[None]] = set()
        self._outcomes = Outcomes(services, self._recorded)
        self._unsubscribe: Callable[[], None] | None = None

    @property
    def is_at_work(self) -> bool:
        """Whether it goes through the queues, and keeps what it has claimed."""
        return bool(self._loops) and not any(task.done() for task in self._loops)

    def reload(self) -> None:
        """From now on by the configuration that `services` has now."""
        self._heed(self._services.config.queue)
        for lane in list(self._lanes.values()):
            self._touch(lane, 0)

    def _heed(self, config: QueueSection) -> None:
        self._concurrency = config.concurrency
        self._domain_concurrency = config.domain_concurrency
        self._policy = Policy(
            int(config.retry_first_s * 1000), int(config.retry_max_s * 1000), int(config.warn_after_s * 1000)
        )

    # -- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Follows the queues from now on, and begins to go through what is in them."""
        self._unsubscribe = self._services.log.subscribe(None, self._folded)
        self._services.runtime.standings.watch(self._tenants_changed)
        with self._services.log.snapshot() as snapshot:
            self._all_suspended = queue.suspension(snapshot.view(EVERY_QUEUE)) is not None
            domains = queue.queues(snapshot)
        for at, domain in enumerate(domains):
            if at % 100 == 99:
                await asyncio.sleep(0)
            lane = self._open(domain, queue_stream(domain))
            lane.open_since_ms = self._now_ms()
            self._touch(lane, 0)
        self._outcomes.start()
        self._loops = [asyncio.create_task(self._run()), asyncio.create_task(self._claims.keep_renewing())]

    async def stop(self, grace_s: float = 5.0) -> None:
        """Begins no attempt more; those under way may end within the grace. What was not tried is given back."""
        self._stopping = True
        if self._unsubscribe is not None:
            self._unsubscribe()
        if self._loops:
            self._loops[0].cancel()
        untried = [(lane.stream, one.id) for lane in self._lanes.values() for one in lane.claimed]
        for lane in self._lanes.values():
            lane.claimed.clear()
        if self._attempts:
            await asyncio.wait(self._attempts, timeout=grace_s)
        for task in (*self._attempts, *self._tasks, *self._loops):
            task.cancel()
        await self._outcomes.stop(grace_s)
        await self._claims.give_back(untried)

    # -- what the log says -------------------------------------------------------------------------------------------

    def _folded(self, applied: list[Applied]) -> None:
        for one in applied:
            fact = one.fact
            if type(fact) not in _OF_QUEUES:  # every event of the cell comes here, and nearly all are of mailboxes
                continue
            if isinstance(fact, _CHANGES):
                self._changed(one.event.stream, fact, one.result)
            elif isinstance(fact, ItemsClaimed | ClaimsRenewed):
                self._others_claim(one.event.stream, fact)
            elif isinstance(fact, ItemsParked):
                if one.event.stream in self._lanes:
                    self._lanes[one.event.stream].forget(*fact.item_ids)
            elif isinstance(fact, _OF_DOMAIN):
                self._domain_changed(one.event.stream, fact)

    def _changed(self, stream: bytes, fact: Any, changes: list[tuple[bytes, int | None, int]]) -> None:
        if isinstance(fact, AttemptsRecorded):
            self._sharing.is_heard(fact.node)
        lane = self._lane(stream, fact.domain if isinstance(fact, MailQueued) else None)
        if lane is None:
            return
        now_ms = self._now_ms()
        for item_id, at_ms, priority in changes:
            if at_ms is None:
                lane.forget(item_id)
            else:
                lane.note(item_id, self._patiently(lane, item_id, at_ms), priority, now_ms)
        self._touch(lane, lane.next_ms())

    def _others_claim(self, stream: bytes, fact: ItemsClaimed | ClaimsRenewed) -> None:
        if fact.node == self._name:
            return
        self._sharing.is_heard(fact.node)
        at_ms = fact.until_ms + CLOCK_MARGIN_MS
        heapq.heappush(self._watches, _Watch(at_ms, next(self._numbers), stream, fact.node, fact.item_ids))

    def _domain_changed(self, stream: bytes, fact: DomainThrottled | QueueSuspended | QueueResumed) -> None:
        if stream == EVERY_QUEUE and not isinstance(fact, DomainThrottled):
            self._all_suspended = isinstance(fact, QueueSuspended)
            for every in self._lanes.values():
                every.open_since_ms = self._now_ms()
                self._touch(every, 0)
            return
        lane = self._lane(stream, None)
        if lane is None:
            return
        match fact:
            case DomainThrottled(until_ms, _, level):
                lane.throttled(until_ms, level)
            case QueueSuspended() | QueueResumed():
                lane.suspended = isinstance(fact, QueueSuspended)
                lane.open_since_ms = self._now_ms()
        self._touch(lane, 0)

    def _tenants_changed(self, inactive: frozenset[bytes]) -> None:
        """What was held for a tenant may be due now: every queue is gone through again."""
        if self._stopping or inactive >= self._inactive:
            self._inactive = inactive
            return
        self._inactive = inactive
        with self._services.log.snapshot() as snapshot:
            domains = queue.queues(snapshot)
        for domain in domains:
            lane = self._lane(queue_stream(domain), domain)
            assert lane is not None
            lane.rescan()
            lane.open_since_ms = self._now_ms()
            self._touch(lane, 0)

    def _lane(self, stream: bytes, domain: str | None) -> Lane | None:
        known = self._lanes.get(stream)
        if known is not None:
            return known
        if domain is None:
            with self._services.log.snapshot() as snapshot:
                domain = queue.domain(snapshot.view(stream))
        return self._open(domain, stream) if domain is not None else None

    def _open(self, domain: str, stream: bytes) -> Lane:
        lane = self._lanes[stream] = Lane(domain, stream, self._domain_concurrency)
        with self._services.log.snapshot() as snapshot:
            view = snapshot.view(stream)
            throttle = queue.throttle(view)
            lane.suspended = queue.suspension(view) is not None
        if throttle is not None:
            lane.throttled(throttle.until_ms, throttle.level)
        return lane

    # -- turns -------------------------------------------------------------------------------------------------------

    def _touch(self, lane: Lane, at_ms: float) -> None:
        """Has the lane looked at then, or when it would have been."""
        if at_ms < lane.agenda_ms:
            lane.agenda_ms = at_ms
            heapq.heappush(self._agenda, (at_ms, next(self._numbers), lane))
            self._wake.set()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                self._look_at_watches()
                worked = self._turn()
            except Exception as error:
                self._services.logger.exception("the queue's turn failed", error=repr(error))
                worked = False
            if worked:
                await asyncio.sleep(0)
                continue
            delay_s = (self._next_ms() - self._now_ms()) / 1000
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(max(delay_s, 0.0), MOST_WAIT_S)):
                    await self._wake.wait()

    def _next_ms(self) -> float:
        agenda = self._agenda[0][0] if self._agenda else math.inf
        return min(agenda, self._watches[0].at_ms if self._watches else math.inf)

    def _turn(self) -> bool:
        """Looks at one lane that is due to be looked at, if there is one."""
        now_ms = self._now_ms()
        while self._agenda and self._agenda[0][0] <= now_ms:
            at_ms, _, lane = heapq.heappop(self._agenda)
            if lane.agenda_ms != at_ms:
                continue
            lane.agenda_ms = math.inf
            self._serve(lane, now_ms)
            return True
        return False

    def _serve(self, lane: Lane, now_ms: int) -> None:
        """One step for a lane: a slice of its table, claims, attempts."""
        if not self._services.config.queue.send or self._all_suspended or lane.suspended:
            return  # it is touched when that changes
        if lane.throttled_until_ms > now_ms:
            self._touch(lane, lane.throttled_until_ms)
            return
        self._begin_attempts(lane)
        if lane.wants_slice(now_ms):
            self._read_slice(lane, now_ms)
            self._touch(lane, 0)
        elif not lane.has_due(now_ms):
            self._touch(lane, lane.next_ms())
            if lane.idle and self._lanes.get(lane.stream) is lane:
                del self._lanes[lane.stream]
        elif len(self._claims) >= MOST_HELD:
            self._starved[lane] = None
        elif not lane.claiming and len(lane.claimed) <= lane.limit:
            lane.claiming = True
            self._spawn(self._claim(lane), self._tasks)

    def _read_slice(self, lane: Lane, now_ms: int) -> None:
        with self._services.log.snapshot() as snapshot:
            rows = queue.items_after(snapshot.view(lane.stream), lane.scan_from)
            lane.read(self._dues(lane, rows), now_ms)

    def _dues(self, lane: Lane, items: Iterator[Item]) -> Iterator[tuple[bytes, int | None, int]]:
        for one in items:
            yield one.id, self._due_ms(lane, one), one.options.priority

    def _due_ms(self, lane: Lane, one: Item) -> int | None:
        """When this node may try it; None: not for now, or it is under way here."""
        at_ms = one.next_ms
        runtime = self._services.runtime
        if at_ms is None or one.held or one.id in self._claims or runtime.homes.of(one.tenant):
            return None
        if runtime.standings.of(one.tenant) is not None:
            return None  # looked at again when that changes
        if one.claim is not None and one.claim.node != self._name:
            return max(at_ms, one.claim.until_ms + CLOCK_MARGIN_MS)
        return self._patiently(lane, one.id, at_ms)

    def _patiently(self, lane: Lane, item_id: bytes, at_ms: int) -> int:
        """When this node may try what is due then, others going first."""
        return max(at_ms, lane.open_since_ms) + self._sharing.patience_ms(item_id)

    def _look_at_watches(self) -> None:
        """Leases of others that have run out: what is still there is due, and the holder counts as silent."""
        now_ms = self._now_ms()
        while self._watches and self._watches[0].at_ms <= now_ms:
            watch = heapq.heappop(self._watches)
            lane = self._lane(watch.stream, None)
            if lane is None:
                continue
            with self._services.log.snapshot() as snapshot:
                view = snapshot.view(watch.stream)
                found = items_of(view, watch.item_ids)
            for one in found:
                due_ms = self._due_ms(lane, one)
                if one.claim is not None and one.claim.node == watch.node and one.claim.until_ms < now_ms:
                    self._sharing.is_silent(watch.node)
                if due_ms is not None:
                    lane.note(one.id, due_ms, one.options.priority, now_ms)
            self._touch(lane, lane.next_ms())

    # -- claims ------------------------------------------------------------------------------------------------------

    async def _claim(self, lane: Lane) -> None:
        now_ms = self._now_ms()
        most = 1 if lane.throttle_level else CLAIM_AT_ONCE
        wanted = self._claimable(lane, lane.take(now_ms, most), now_ms)
        try:
            claimed = await self._claims.propose(lane.stream, wanted) if wanted else []
        finally:
            lane.claiming = False
            self._touch(lane, 0)
        before = {one.id: one.duplicates for one in wanted}
        for one in claimed:
            self._sharing.is_silent(*self._sharing.before(one.id))
            self._services.metrics.taken_over_total.inc(one.duplicates > before[one.id])
            lane.claimed.append(one)
        left = {one.id for one in wanted} - {one.id for one in claimed}
        for one in wanted:
            if one.id in left:
                lane.note(one.id, now_ms + AFTER_FAULT_MS, one.options.priority, now_ms)

    def _claimable(self, lane: Lane, item_ids: list[bytes], now_ms: int) -> list[Item]:
        """Those of them that are as due as they were thought to be."""
        claimable: list[Item] = []
        with self._services.log.snapshot() as snapshot:
            view = snapshot.view(lane.stream)
            for one in items_of(view, item_ids):
                due_ms = self._due_ms(lane, one)
                if due_ms is None:
                    continue
                if due_ms <= now_ms:
                    claimable.append(one)
                else:
                    lane.note(one.id, due_ms, one.options.priority, now_ms)
        return claimable

    # -- attempts ----------------------------------------------------------------------------------------------------

    def _begin_attempts(self, lane: Lane) -> None:
        wanted = min(len(lane.claimed), lane.limit - lane.sending)
        possible = min(wanted, self._concurrency - self._sending)
        if possible < wanted and not lane.sending:
            self._starved[lane] = None
        for _ in range(possible):
            lane.sending += 1
            self._sending += 1
            self._spawn(self._work(lane), self._attempts)

    async def _work(self, lane: Lane) -> None:
        """Tries one item after the other, so that they go over one connection."""
        try:
            while lane.claimed and lane.sending <= lane.limit and not self._stopping:
                if lane.suspended or self._all_suspended or lane.throttled_until_ms > self._now_ms():
                    self._drop_claims(lane)
                    break
                await self._try(lane, lane.claimed.popleft())
                if len(lane.claimed) <= lane.limit:
                    self._touch(lane, 0)  # the next ones are claimed while these are sent
        finally:
            lane.sending -= 1
            self._sending -= 1
            self._touch(lane, 0)
            self._feed_one()

    def _feed_one(self) -> None:
        if self._starved:
            lane = next(iter(self._starved))
            del self._starved[lane]
            self._touch(lane, 0)

    def _drop_claims(self, lane: Lane) -> None:
        """What is not to be tried now goes back, so that it can be seen, and taken by whoever may."""
        untried = [(lane.stream, one.id) for one in lane.claimed]
        now_ms = self._now_ms()
        for one in lane.claimed:
            self._claims.forget(one.id)
            lane.note(one.id, now_ms + AFTER_FAULT_MS, one.options.priority, now_ms)
        lane.claimed.clear()
        self._spawn(self._claims.give_back(untried), self._tasks)

    async def _try(self, lane: Lane, item: Item) -> None:
        now_ms = self._now_ms()
        if not self._claims.is_safe(item.id):
            self._claims.forget(item.id)  # another may have it by now
            lane.note(item.id, now_ms + CLOCK_MARGIN_MS, item.options.priority, now_ms)
            return
        now = self._as_it_is(lane, item, now_ms)
        if now is None:
            return
        item, result = now, await send(self._services, self._transport, lane.domain, now, now_ms)
        planned = self._plan(item, result)
        if any(one.status == "delivered" for one in planned.outcome.results):
            lane.succeeded()
        finished = Finished(lane, item, planned, self._throttle(lane, planned), result.delivery)
        if result.delivery is not None:
            finished = finished._replace(undelivered=lambda reason: self._plan(item, result.undelivered(reason)))
        self._outcomes.put(finished)

    def _plan(self, item: Item, result: AttemptResult) -> Plan:
        return plan(item, result, self._policy, self._now_ms(), self._jitter())

    def _as_it_is(self, lane: Lane, item: Item, now_ms: int) -> Item | None:
        """What an administrator may have made of a claimed item while it waited here; None: it is not to be sent."""
        with self._services.log.snapshot() as snapshot:
            found = queue.item(snapshot.view(lane.stream), item.id)
        held = found is not None and (found.held or self._services.runtime.standings.of(found.tenant) is not None)
        if found is not None and not held and found.claim is not None and found.claim.node == self._name:
            return found
        self._claims.forget(item.id)
        if held:
            self._spawn(self._claims.give_back([(lane.stream, item.id)]), self._tasks)
        elif found is not None:
            lane.note(item.id, now_ms + CLOCK_MARGIN_MS, item.options.priority, now_ms)
        return None

    def _throttle(self, lane: Lane, planned: Plan) -> ThrottleDomain | None:
        """When a peer wants the domain left alone, or none could be reached: longer each time in a row."""
        unreached = not planned.reached and any(one.status == "deferred" for one in planned.outcome.results)
        if not planned.throttle_ms and not unreached:
            return None
        now_ms = self._now_ms()
        if lane.throttled_until_ms > now_ms:
            return None  # one of several attempts at a time, and the first to come back
        level = lane.throttle_level + 1
        until_ms = now_ms + throttle_span_ms(level, planned.throttle_ms, self._jitter())
        lane.throttled(until_ms, level)
        return ThrottleDomain(until_ms, planned.throttle_reason or "no server of the domain could be reached", level)

    def _recorded(self, finished: Finished) -> None:
        self._claims.forget(finished.item.id)
        results = [one.status for one in finished.plan.outcome.results]
        self._services.metrics.attempted(results)
        self._services.logger.debug("mail tried", item=finished.item.id.hex(), results=results)
        self._touch(finished.lane, 0)
        self._feed_one()

    def _spawn(self, work: Any, tasks: set[asyncio.Task[None]]) -> None:
        task = asyncio.ensure_future(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
