"""Others' reports, as they arrive at an address that is one for reports: understood, and kept beside the message.

The message is delivered like any other. A report that can not be understood stays a message; one that the log does not
take is put off with the message, so that what was answered 250 is kept whole.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from actors.errors import CommandRefused, InvalidName
from actors.names import normalise_address
from actors.reports import REPORTS, TakeReport, settings
from actors.runtime import Context
from eventlog.errors import OutcomeUnknown, Rejected
from eventlog.record import By, new_id
from nodes.followed import Followed
from nodes.reports.attachments import MOST_MESSAGE_BYTES, Unreadable
from nodes.reports.incoming import Understood, understand
from nodes.smtp import replies
from nodes.smtp.checks import Check, Incoming
from nodes.smtp.replies import Refused

if TYPE_CHECKING:
    from actors.runtime import Runtime
    from eventlog.log import EventLog
    from nodes.config.node import NodeConfig
    from nodes.services import Logger
    from nodes.smtp.session import Envelope, Session

AT_ONCE = 1  # a large one takes a hundred megabytes for a moment, and the address is known to everybody


class ReportArrival(Check):
    """Looks at messages for the addresses that `mailraft report set` has named."""

    def __init__(self, config: NodeConfig, log: EventLog, runtime: Runtime, logger: Logger) -> None:
        self._settings = Followed(log, REPORTS, settings)
        self._runtime = runtime
        self._logger = logger
        self._timeout_s = config.raft.propose_timeout_s
        self._turn = asyncio.Semaphore(AT_ONCE)

    def wants(self, session: Session, envelope: Envelope, incoming: Incoming) -> bool:
        """Whether there are addresses for reports at all."""
        return bool(self._settings.value.addresses)

    async def message(self, session: Session, envelope: Envelope, incoming: Incoming) -> None:
        """Raises Refused where the log does not take a report now."""
        found = self._addressed(envelope)
        if found is None or len(incoming.data) > MOST_MESSAGE_BYTES:
            return
        address, tenant = found
        try:
            async with self._turn:
                report = await asyncio.to_thread(understand, incoming.data)
        except Unreadable as error:
            self._logger.info("mail for the reports' address is no report", address=address, reason=str(error))
            return
        await self._take(session, incoming, report, address, tenant)

    def _addressed(self, envelope: Envelope) -> tuple[str, bytes] | None:
        """The recipient that is for reports, with its tenant."""
        wanted = self._settings.value.addresses
        for recipient, targets in envelope.accepted:
            if targets and _normalised(recipient) in wanted:
                return recipient, targets[0].tenant
        return None

    async def _take(
        self, session: Session, incoming: Incoming, report: Understood, address: str, tenant: bytes
    ) -> None:
        span = (report.begin_s, report.end_s)
        who = (report.kind, report.organisation, report.report_id, report.domain)
        at_ms = int(incoming.received_s * 1000)
        command = TakeReport(new_id(), tenant, at_ms, *who, *span, address, report.packed())
        by = By("client", b"", f"{session.profile.kind} {session.origin}")
        try:
            await self._runtime.ask(REPORTS, command, Context(by, session.cause, tenant, self._timeout_s))
        except CommandRefused:
            pass  # it has come before
        except Rejected as rejected:
            if rejected.reason != "feature_level":
                raise Refused(replies.NOT_ACCEPTED) from None
        except OutcomeUnknown:
            raise Refused(replies.OUTCOME_UNKNOWN) from None


def _normalised(address: str) -> str:
    try:
        return normalise_address(address)
    except InvalidName:
        return ""
