"""What became of attempts, on its way into the log: many in one record, with the notices that they lead to.

While one record is on its way the next one fills, so the load makes the batches. An outcome is proposed until the log
has it, or says that it came too late; a notice stands in the same record as the failure that it tells of, so a crash
neither loses nor doubles it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from actors.errors import CommandRefused, IsReplica, NoSuchItem, NotAllowed
from actors.kind import Command
from actors.queue import Item, RecordOutcomes, ThrottleDomain
from actors.runtime import NewBody
from eventlog.errors import OutcomeUnknown, Rejected
from nodes.delivery.generated import Prepared, context
from nodes.delivery.lane import Lane
from nodes.delivery.notices import prepare_notice
from nodes.delivery.plan import Plan
from nodes.trail import cause_of, following

if TYPE_CHECKING:
    from nodes.services import Services

MOST_AT_ONCE = 500
MOST_NOTICES = 20  # and deliveries here, in one record
OF_THE_BATCH = ("too_large", "bad_record")  # a smaller one may be taken
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0


class Finished(NamedTuple):
    """An attempt that has ended. `throttle`: leave the domain alone.

    `delivery` gives it to mailboxes here, in the same record; `undelivered` is the plan if that is refused.
    """

    lane: Lane
    item: Item
    plan: Plan
    throttle: ThrottleDomain | None
    delivery: Prepared | None = None
    undelivered: Callable[[str], Plan] | None = None

    @property
    def is_bound(self) -> bool:
        """Whether something stands beside the outcome that must not be done twice."""
        return self.delivery is not None or bool(self.plan.notices)

    def freed(self) -> Finished | None:
        """What may be said without the claim: that a server took it. A notice of that is left out.

        It was given already, where the log took the record without our hearing of it; or whoever holds the claim
        gives it.
        """
        told_of = {notice.kind for notice in self.plan.notices}
        if self.delivery is not None or not told_of or not told_of <= {"relayed", "delivered"}:
            return None
        return self._replace(plan=self.plan._replace(notices=()))


class Outcomes:
    """Records what is put in, in order; `recorded` is called for each once the log has it, or does not want it."""

    def __init__(self, services: Services, recorded: Callable[[Finished], None]) -> None:
        self._services = services
        self._recorded = recorded
        self._waiting: list[Finished] = []
        self._later = 0  # how many have been put off
        self._more = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self, grace_s: float) -> None:
        """Waits until all is recorded, at most so long."""
        try:
            async with asyncio.timeout(grace_s):
                await self._idle.wait()
        except TimeoutError:
            self._services.logger.warning(
                "outcomes are not recorded: those items are sent again", code="outcomes_unrecorded", count=len(self)
            )
        if self._task is not None:
            self._task.cancel()

    def __len__(self) -> int:
        return len(self._waiting) + self._later

    def put(self, finished: Finished) -> None:
        self._waiting.append(finished)
        self._idle.clear()
        self._more.set()

    async def _run(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            while self._waiting:
                batch, self._waiting = self._batch()
                await self._record(batch)
            if not self._later:
                self._idle.set()

    def _batch(self) -> tuple[list[Finished], list[Finished]]:
        notices = 0
        for at, finished in enumerate(self._waiting[:MOST_AT_ONCE]):
            notices += len(finished.plan.notices) + (finished.delivery is not None)
            if notices > MOST_NOTICES and at:
                return self._waiting[:at], self._waiting[at:]
        return self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]

    async def _record(self, batch: list[Finished]) -> None:
        """Never gives up: an outcome that is not in the log would be an item sent twice.

        One that can not be recorded for a reason of its own keeps no other waiting.
        """
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                await self._propose(batch)
            except CommandRefused as refusal:
                if len(batch) > 1:
                    return await self._one_by_one(batch)
                (one,) = batch
                if one.undelivered is not None and not isinstance(refusal, NoSuchItem | NotAllowed):
                    batch = [one._replace(plan=one.undelivered(str(refusal)), delivery=None, undelivered=None)]
                    continue
                if isinstance(refusal, NoSuchItem | NotAllowed | IsReplica):
                    freed = one.freed()
                    if freed is None:
                        break  # another holds it by now, it was taken out, or it is recorded already
                    batch = [freed]
                    continue
                self._services.logger.warning("an outcome is refused", code="outcomes_unrecorded", reason=str(refusal))
                return self._try_later(batch)
            except (Rejected, OutcomeUnknown) as error:
                if isinstance(error, Rejected) and error.reason in OF_THE_BATCH and len(batch) > 1:
                    return await self._one_by_one(batch)
                self._services.logger.warning(
                    "outcomes are not recorded yet", code="outcomes_unrecorded", count=len(batch), error=str(error)
                )
            except Exception as error:
                if len(batch) > 1:
                    return await self._one_by_one(batch)
                self._services.logger.exception(
                    "outcomes can not be recorded", code="outcomes_unrecorded", error=repr(error)
                )
                return self._try_later(batch)
            else:
                break
            await asyncio.sleep(random.uniform(0.5, 1.0) * pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
        for one in batch:
            self._recorded(one)

    async def _one_by_one(self, batch: list[Finished]) -> None:
        for one in batch:
            await self._record([one])

    def _try_later(self, batch: list[Finished]) -> None:
        self._later += len(batch)
        asyncio.get_running_loop().call_later(LONGEST_PAUSE_S, self._again, batch)

    def _again(self, batch: list[Finished]) -> None:
        self._later -= len(batch)
        for one in batch:
            self.put(one)

    async def _propose(self, batch: list[Finished]) -> None:
        steps, bodies = self._steps(batch)
        named = sorted(
            batch, key=lambda one: not one.plan.notices
        )  # a sender is told, by a record with the sender's id
        who = context(self._services, batch[0].item.tenant, cause_of("queue", (one.item.session for one in named)))
        await self._services.runtime.transact(steps, who, bodies)

    def _steps(self, batch: list[Finished]) -> tuple[list[tuple[bytes, Command]], list[NewBody]]:
        """Outcomes by domain and tenant, throttles, and for each notice what gives it to somebody."""
        groups: dict[tuple[bytes, bytes], list[Finished]] = {}
        for one in batch:
            groups.setdefault((one.lane.stream, one.item.tenant), []).append(one)
        steps: list[tuple[bytes, Command]] = [(stream, self._command(those)) for (stream, _), those in groups.items()]
        steps += [(one.lane.stream, one.throttle) for one in batch if one.throttle is not None]
        bodies: list[NewBody] = []
        for one in batch:
            if one.delivery is not None:
                steps += one.delivery.steps
                bodies += one.delivery.bodies
            for notice in one.plan.notices:
                with following(one.item.session, "delivery"):
                    prepared = prepare_notice(self._services, one.item, notice)
                if not prepared.steps:
                    self._services.logger.warning(
                        "nobody can be told", code="outcomes_unrecorded", item=one.item.id.hex(), kind=notice.kind
                    )
                steps += prepared.steps
                bodies += prepared.bodies
        return steps, bodies

    def _command(self, batch: list[Finished]) -> RecordOutcomes:
        return RecordOutcomes(
            self._services.config.node.name,
            tuple(one.plan.outcome for one in batch),
            tuple(text for one in batch for text in one.plan.texts),
            frozenset(one.item.id for one in batch if one.is_bound),
        )
