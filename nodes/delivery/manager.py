"""Sends what is due: claims items of the queues by lease, has them sent, records what became of them.

Runs on every node. An item has a preferred node, by rendezvous hashing among the members; the others take it when that
one lets it lie, or lets its lease run out. Claims and outcomes go many to a record. What is in memory is a window onto
the tables (lanes.py); all else is read when it is needed.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from actors import queue
from actors.queue import Item, ThrottleDomain
from nodes.delivery.attempt import AttemptResult, Transport
from nodes.delivery.claims import Claims
from nodes.delivery.lane import Lane
from nodes.delivery.lanes import CLOCK_MARGIN_MS, Lanes
from nodes.delivery.outcomes import Finished, Outcomes
from nodes.delivery.plan import Plan, Policy, next_deadline_ms, plan, throttle_span_ms
from nodes.delivery.sending import send
from nodes.delivery.telling import tell

if TYPE_CHECKING:
    from nodes.config.queue import QueueSection
    from nodes.services import Services

CLAIM_AT_ONCE = 200
MOST_HELD = 1000  # items claimed here and not recorded
AFTER_FAULT_MS = 2_000


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
        self._claims = Claims(services, int(config.lease_s * 1000), now_ms)
        self._lanes = Lanes(services, self._claims, now_ms)
        self._starved: dict[Lane, None] = {}  # have something to do, but this node has enough under way
        self._sending = 0
        self._stopping = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._attempts: set[asyncio.Task[None]] = set()
        self._outcomes = Outcomes(services, self._recorded)

    @property
    def is_at_work(self) -> bool:
        """Whether it goes through the queues, and keeps what it has claimed."""
        return bool(self._loops) and not any(task.done() for task in self._loops)

    def reload(self) -> None:
        """From now on by the configuration that `services` has now."""
        self._heed(self._services.config.queue)
        self._lanes.touch_all()

    def _heed(self, config: QueueSection) -> None:
        self._concurrency = config.concurrency
        self._policy = Policy(
            int(config.retry_first_s * 1000), int(config.retry_max_s * 1000), int(config.warn_after_s * 1000)
        )

    # -- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Follows the queues from now on, and begins to go through what is in them."""
        await self._lanes.start()
        self._outcomes.start()
        self._loops = [asyncio.create_task(self._run()), asyncio.create_task(self._claims.keep_renewing())]

    async def stop(self, grace_s: float = 5.0) -> None:
        """Begins no attempt more; those under way may end within the grace. What was not tried is given back."""
        self._stopping = True
        if self._loops:
            self._loops[0].cancel()
        untried = self._lanes.stop()
        if self._attempts:
            await asyncio.wait(self._attempts, timeout=grace_s)
        for task in (*self._attempts, *self._tasks, *self._loops):
            task.cancel()
        await self._outcomes.stop(grace_s)
        await self._claims.give_back(untried)

    # -- turns -------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            try:
                lane = self._lanes.due(self._now_ms())
                if lane is not None:
                    self._serve(lane, self._now_ms())
            except Exception as error:
                self._services.logger.exception("the queue's turn failed", code="delivery_broken", error=repr(error))
                lane = None
            if lane is not None:
                await asyncio.sleep(0)
            else:
                await self._lanes.wait()

    def _serve(self, lane: Lane, now_ms: int) -> None:
        """One step for a lane: a slice of its table, claims, attempts."""
        if not self._services.config.queue.send or self._lanes.all_suspended or lane.suspended:
            return  # it is touched when that changes
        if lane.throttled_until_ms > now_ms:
            self._lanes.touch(lane, lane.throttled_until_ms)
            return
        self._begin_attempts(lane)
        if lane.wants_slice(now_ms):
            self._lanes.read_slice(lane, now_ms)
            self._lanes.touch(lane, 0)
        elif not lane.has_due(now_ms):
            self._lanes.touch(lane, lane.next_ms())
            self._lanes.close_if_idle(lane)
        elif len(self._claims) >= MOST_HELD:
            self._starved[lane] = None
        elif not lane.claiming and len(lane.claimed) <= lane.limit:
            lane.claiming = True
            self._spawn(self._claim(lane), self._tasks)

    # -- claims ------------------------------------------------------------------------------------------------------

    async def _claim(self, lane: Lane) -> None:
        now_ms = self._now_ms()
        most = 1 if lane.throttle_level else CLAIM_AT_ONCE
        wanted = self._lanes.claimable(lane, lane.take(now_ms, most), now_ms)
        try:
            claimed = await self._claims.propose(lane.stream, wanted) if wanted else []
        finally:
            lane.claiming = False
            self._lanes.touch(lane, 0)
        before = {one.id: one.duplicates for one in wanted}
        for one in claimed:
            self._lanes.sharing.is_silent(*self._lanes.sharing.before(one.id))
            self._services.metrics.taken_over_total.inc(one.duplicates > before[one.id])
            lane.claimed.append(one)
        left = {one.id for one in wanted} - {one.id for one in claimed}
        for one in wanted:
            if one.id in left:
                lane.note(one.id, now_ms + AFTER_FAULT_MS, one.options.priority, now_ms)

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
                if lane.suspended or self._lanes.all_suspended or lane.throttled_until_ms > self._now_ms():
                    self._drop_claims(lane)
                    break
                await self._try(lane, lane.claimed.popleft())
                if len(lane.claimed) <= lane.limit:
                    self._lanes.touch(lane, 0)  # the next ones are claimed while these are sent
        finally:
            lane.sending -= 1
            self._sending -= 1
            self._lanes.touch(lane, 0)
            self._feed_one()

    def _feed_one(self) -> None:
        if self._starved:
            lane = next(iter(self._starved))
            del self._starved[lane]
            self._lanes.touch(lane, 0)

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
        finished = Finished(lane, item, planned, self._throttle(lane, item, planned), result.delivery)
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

    def _throttle(self, lane: Lane, item: Item, planned: Plan) -> ThrottleDomain | None:
        """When a peer wants the domain left alone, or none could be reached: longer each time in a row, but not beyond
        the time at which the sender is to hear of the message."""
        if not planned.throttle_ms and not planned.unreached:
            return None
        now_ms = self._now_ms()
        if lane.throttled_until_ms > now_ms:
            return None  # one of several attempts at a time, and the first to come back
        level = lane.throttle_level + 1
        span_ms = throttle_span_ms(level, planned.throttle_ms, self._jitter())
        until_ms = min(now_ms + span_ms, next_deadline_ms(item, self._policy, now_ms))
        lane.throttled(until_ms, level)
        return ThrottleDomain(until_ms, planned.throttle_reason or "no server of the domain could be reached", level)

    def _recorded(self, finished: Finished) -> None:
        self._claims.forget(finished.item.id)
        tell(self._services, finished)
        self._lanes.touch(finished.lane, 0)
        self._feed_one()

    def _spawn(self, work: Any, tasks: set[asyncio.Task[None]]) -> None:
        task = asyncio.ensure_future(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
