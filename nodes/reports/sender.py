"""Sends the reports of days that are over: by the node that leads the cell, each in one record with its own end.

So a report is sent once: what is killed in between has neither queued nor ended it, and who leads next goes on. Where
the DNS does not say who wants a report, it waits, at most three days.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from actors.directory import domain_tenant
from actors.errors import CommandRefused
from actors.reports import DAY_MS, REPORTS, Collected, FinishReport, Settings, collected, lines, settings
from eventlog.errors import OutcomeUnknown, Rejected
from nodes.delivery import generated
from nodes.reports import outgoing, recipients
from nodes.resolver import ResolverFailed

if TYPE_CHECKING:
    from nodes.services import Services

LOOK_S = 60.0
AFTER_MIDNIGHT_MS = 600_000  # every node has put its counts into the log by then
MOST_DAYS = 3  # that a report waits for the DNS

NOBODY = "nobody wants it"
SENT = "sent"
UNANSWERED = "the DNS did not say who wants it"


class Sender:
    """Made on the event loop; `stop` ends it. `clock`: seconds since 1970."""

    def __init__(self, services: Services, look_s: float = LOOK_S, clock: Callable[[], float] = time.time) -> None:
        self._services = services
        self._look_s = look_s
        self._clock = clock
        self._turn = asyncio.Lock()
        self.failure = ""  # why the last attempt to send what is due came to nothing
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._look_s)
            try:
                status = self._services.log.status()
                if status.leader == status.name:
                    await self.send()
                self.failure = ""
            except Exception as error:  # nothing may end this for good
                self.failure = repr(error)
                self._services.logger.exception("reports could not be sent", code="reports_failed")

    async def send(self, *, unfinished_days: bool = False) -> dict[str, int]:
        """Sends what is due, or whatever is collected; gives how many came to which outcome."""
        now_ms = int(self._clock() * 1000)
        last_day = (now_ms - AFTER_MIDNIGHT_MS) // DAY_MS - 1 if not unfinished_days else now_ms // DAY_MS
        outcomes: dict[str, int] = {}
        async with self._turn:
            with self._services.log.snapshot() as snapshot:
                view = snapshot.view(REPORTS)
                sender = settings(view)
                due = [one for one in collected(view) if one.subject.day <= last_day]
            for one in due if sender.sender else ():
                outcome = await self._try_one(one, sender, now_ms // DAY_MS - one.subject.day > MOST_DAYS)
                outcomes[outcome] = outcomes.get(outcome, 0) + 1
        return outcomes

    async def _try_one(self, one: Collected, sender: Settings, is_late: bool) -> str:
        """Whatever a stranger's domain makes us stumble over keeps no other domain's report back."""
        try:
            return await self._send_one(one, sender, is_late)
        except Exception:
            self._services.logger.exception(
                "a report can not be made", code="reports_failed", domain=one.subject.domain
            )
        return await self._finish(one, "a fault of this system", (), None) if is_late else "failed"

    async def _send_one(self, one: Collected, sender: Settings, is_late: bool) -> str:
        find = recipients.for_dmarc if one.subject.kind == "dmarc" else recipients.for_tls
        try:
            wanted = await find(self._services.resolver, one.subject.domain)
        except ResolverFailed:
            return await self._finish(one, UNANSWERED, (), None) if is_late else "waits for the DNS"
        with self._services.log.snapshot() as snapshot:
            told = lines(snapshot.view(REPORTS), one.subject)
            tenant = domain_tenant(snapshot, sender.sender.rpartition("@")[2])
        if not wanted or tenant is None:
            return await self._finish(
                one, NOBODY if tenant is not None else "the sender's domain is not ours", (), None
            )
        report = await asyncio.to_thread(outgoing.make, one, told, sender, wanted)
        if not report.recipients:
            return await self._finish(one, "it is larger than anybody takes", (), None)
        signed = b"".join(await self._services.signing.sign(tenant, report.data))
        prepared = generated.prepare(self._services, sender.sender, report.recipients, report.data, tenant, signed)
        if not prepared.steps:
            return await self._finish(one, "nobody can be given it", (), None)
        return await self._finish(one, SENT, report.recipients, (prepared, tenant))

    async def _finish(
        self, one: Collected, outcome: str, to: tuple[str, ...], mail: tuple[generated.Prepared, bytes] | None
    ) -> str:
        services = self._services
        steps, bodies, tenant = (mail[0].steps, mail[0].bodies, mail[1]) if mail else ([], [], b"")
        context = generated.context(services, tenant, "reports")
        steps = [*steps, (REPORTS, FinishReport(*one.subject, outcome, to))]
        try:
            await services.runtime.transact(steps, context, bodies)
        except (CommandRefused, Rejected, OutcomeUnknown) as error:
            services.logger.warning(
                "a report was not sent, and is tried again", domain=one.subject.domain, error=str(error)
            )
            return "not sent"
        return outcome
