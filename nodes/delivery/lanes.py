"""The queues as one node sees them: a lane for each (lane.py), kept by what the log says, and which is looked at when.

Every node hears of every event of a queue. An item that another node has claimed is looked at again when its lease has
run out; what is due waits as long as this node leaves it to the ones before it (sharing.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import math
from collections.abc import Callable, Container, Iterator
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
    queue_stream,
)
from nodes.delivery.claims import items_of
from nodes.delivery.lane import LOOKAHEAD_MS, Lane
from nodes.delivery.sharing import Sharing

if TYPE_CHECKING:
    from eventlog.log import Applied
    from nodes.services import Services

CLOCK_MARGIN_MS = 5_000  # how far clocks of a cell may be apart
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


class Lanes:
    """`mine`: the ids of what this node has claimed. Used on the event loop."""

    def __init__(self, services: Services, mine: Container[bytes], now_ms: Callable[[], int]) -> None:
        config = services.config
        self.all_suspended = False
        self._services = services
        self._mine = mine
        self._now_ms = now_ms
        self._name = config.node.name
        self._lanes: dict[bytes, Lane] = {}
        self._agenda: list[tuple[float, int, Lane]] = []
        self._watches: list[_Watch] = []
        self._numbers = itertools.count()
        self.sharing = Sharing(
            self._name, lambda: [one.name for one in services.log.members()], int(config.queue.takeover_s * 1000)
        )
        self._inactive: frozenset[bytes] = frozenset()  # tenants
        self._stopped = False
        self._wake = asyncio.Event()
        self._unsubscribe: Callable[[], None] | None = None

    async def start(self) -> None:
        """Follows the queues from now on, and has each of them looked at."""
        self._unsubscribe = self._services.log.subscribe(None, self._folded)
        self._services.runtime.standings.watch(self._tenants_changed)
        with self._services.log.snapshot() as snapshot:
            self.all_suspended = queue.suspension(snapshot.view(EVERY_QUEUE)) is not None
            domains = queue.queues(snapshot)
        for at, domain in enumerate(domains):
            if at % 100 == 99:
                await asyncio.sleep(0)
            self._reopen(self._open(domain, queue_stream(domain)))

    def stop(self) -> list[tuple[bytes, bytes]]:
        """Follows nothing more; gives stream and id of what was claimed and is not under way."""
        self._stopped = True
        if self._unsubscribe is not None:
            self._unsubscribe()
        untried = [(lane.stream, one.id) for lane in self._lanes.values() for one in lane.claimed]
        for lane in self._lanes.values():
            lane.claimed.clear()
        return untried

    # -- which is looked at when -------------------------------------------------------------------------------------

    def touch(self, lane: Lane, at_ms: float) -> None:
        """Has the lane looked at then, or when it would have been."""
        if at_ms < lane.agenda_ms:
            lane.agenda_ms = at_ms
            heapq.heappush(self._agenda, (at_ms, next(self._numbers), lane))
            self._wake.set()

    def touch_all(self) -> None:
        """Has every lane looked at now."""
        for lane in list(self._lanes.values()):
            self.touch(lane, 0)

    def due(self, now_ms: int) -> Lane | None:
        """One that is due to be looked at, if there is one."""
        self._wake.clear()
        self._look_at_watches(now_ms)
        while self._agenda and self._agenda[0][0] <= now_ms:
            at_ms, _, lane = heapq.heappop(self._agenda)
            if lane.agenda_ms == at_ms:
                lane.agenda_ms = math.inf
                return lane
        return None

    async def wait(self) -> None:
        """Until one may be due."""
        agenda = self._agenda[0][0] if self._agenda else math.inf
        next_ms = min(agenda, self._watches[0].at_ms if self._watches else math.inf)
        delay_s = (next_ms - self._now_ms()) / 1000
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(max(delay_s, 0.0), MOST_WAIT_S)):
                await self._wake.wait()

    def close_if_idle(self, lane: Lane) -> None:
        """A lane without anything to do is opened again when there is."""
        if lane.idle and self._lanes.get(lane.stream) is lane:
            del self._lanes[lane.stream]

    # -- what may be tried when --------------------------------------------------------------------------------------

    def read_slice(self, lane: Lane, now_ms: int) -> None:
        """Goes on through the lane's table."""
        with self._services.log.snapshot() as snapshot:
            rows = queue.items_after(snapshot.view(lane.stream), lane.scan_from)
            lane.read(self._dues(lane, rows), now_ms)

    def claimable(self, lane: Lane, item_ids: list[bytes], now_ms: int) -> list[Item]:
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

    def _dues(self, lane: Lane, items: Iterator[Item]) -> Iterator[tuple[bytes, int | None, int]]:
        for one in items:
            yield one.id, self._due_ms(lane, one), one.options.priority

    def _due_ms(self, lane: Lane, one: Item) -> int | None:
        """When this node may try it; None: not for now, or it is under way here."""
        at_ms = one.next_ms
        runtime = self._services.runtime
        if at_ms is None or one.held or one.id in self._mine or runtime.homes.of(one.tenant):
            return None
        if runtime.standings.of(one.tenant) is not None:
            return None  # looked at again when that changes
        if one.claim is not None and one.claim.node != self._name:
            return max(at_ms, one.claim.until_ms + CLOCK_MARGIN_MS)
        owed_ms = self._owed_ms(one.tenant)
        return self._patiently(lane, one.id, max(at_ms, self._now_ms() + owed_ms) if owed_ms else at_ms)

    def _owed_ms(self, tenant: bytes) -> int:
        """How long the tenant is to send nothing, since it has sent more than it may; looked at again before long."""
        bandwidth = self._services.bandwidth
        return min(math.ceil(bandwidth.tenant_owes_s(tenant) * 1000), LOOKAHEAD_MS) if bandwidth is not None else 0

    def _patiently(self, lane: Lane, item_id: bytes, at_ms: int) -> int:
        """When this node may try what is due then, others going first."""
        return max(at_ms, lane.open_since_ms) + self.sharing.patience_ms(item_id)

    def _look_at_watches(self, now_ms: int) -> None:
        """Leases of others that have run out: what is still there is due, and the holder counts as silent."""
        while self._watches and self._watches[0].at_ms <= now_ms:
            watch = heapq.heappop(self._watches)
            lane = self._lane(watch.stream, None)
            if lane is None:
                continue
            with self._services.log.snapshot() as snapshot:
                found = items_of(snapshot.view(watch.stream), watch.item_ids)
            for one in found:
                due_ms = self._due_ms(lane, one)
                if one.claim is not None and one.claim.node == watch.node and one.claim.until_ms < now_ms:
                    self.sharing.is_silent(watch.node)
                if due_ms is not None:
                    lane.note(one.id, due_ms, one.options.priority, now_ms)
            self.touch(lane, lane.next_ms())

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
            self.sharing.is_heard(fact.node)
        lane = self._lane(stream, fact.domain if isinstance(fact, MailQueued) else None)
        if lane is None:
            return
        now_ms = self._now_ms()
        for item_id, at_ms, priority in changes:
            if at_ms is None:
                lane.forget(item_id)
            else:
                lane.note(item_id, self._patiently(lane, item_id, at_ms), priority, now_ms)
        self.touch(lane, lane.next_ms())

    def _others_claim(self, stream: bytes, fact: ItemsClaimed | ClaimsRenewed) -> None:
        if fact.node == self._name:
            return
        self.sharing.is_heard(fact.node)
        at_ms = fact.until_ms + CLOCK_MARGIN_MS
        heapq.heappush(self._watches, _Watch(at_ms, next(self._numbers), stream, fact.node, fact.item_ids))

    def _domain_changed(self, stream: bytes, fact: DomainThrottled | QueueSuspended | QueueResumed) -> None:
        if stream == EVERY_QUEUE and not isinstance(fact, DomainThrottled):
            self.all_suspended = isinstance(fact, QueueSuspended)
            for every in self._lanes.values():
                self._reopen(every)
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
        self.touch(lane, 0)

    def _tenants_changed(self, inactive: frozenset[bytes]) -> None:
        """What was held for a tenant may be due now: every queue is gone through again."""
        came_back = self._inactive - inactive
        self._inactive = inactive
        if self._stopped or not came_back:
            return
        with self._services.log.snapshot() as snapshot:
            domains = queue.queues(snapshot)
        for domain in domains:
            lane = self._lane(queue_stream(domain), domain)
            assert lane is not None
            lane.rescan()
            self._reopen(lane)

    def _reopen(self, lane: Lane) -> None:
        lane.open_since_ms = self._now_ms()
        self.touch(lane, 0)

    def _lane(self, stream: bytes, domain: str | None) -> Lane | None:
        known = self._lanes.get(stream)
        if known is not None:
            return known
        if domain is None:
            with self._services.log.snapshot() as snapshot:
                domain = queue.domain(snapshot.view(stream))
        return self._open(domain, stream) if domain is not None else None

    def _open(self, domain: str, stream: bytes) -> Lane:
        lane = self._lanes[stream] = Lane(domain, stream, self._services.config.queue.domain_concurrency)
        with self._services.log.snapshot() as snapshot:
            view = snapshot.view(stream)
            throttle = queue.throttle(view)
            lane.suspended = queue.suspension(view) is not None
        if throttle is not None:
            lane.throttled(throttle.until_ms, throttle.level)
        return lane
