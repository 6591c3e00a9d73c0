"""Queued mail whose domain is ours: it is delivered here, never looked up in DNS, which would lead back to us.

Mail comes to the queue that way when a submitter had it held (RFC 4865), or when a domain became ours meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.directory import is_local_domain, resolve
from actors.errors import CommandRefused, InvalidName, NotLocal, TooLarge
from eventlog.errors import OutcomeUnknown, Rejected
from nodes.delivery.attempt import Attempt, AttemptResult, OutcomeStatus, RecipientOutcome, Transport
from nodes.delivery.generated import context, prepare

if TYPE_CHECKING:
    from nodes.services import Services


class LocalFirst:
    """A transport that keeps what is ours and leaves everything else to another one."""

    def __init__(self, services: Services, elsewhere: Transport) -> None:
        self._services = services
        self._elsewhere = elsewhere

    async def send(self, attempt: Attempt) -> AttemptResult:
        """As `Transport.send`. A route that an administrator chose leads where it leads."""
        with self._services.log.snapshot() as snapshot:
            local = not attempt.route and is_local_domain(snapshot, attempt.domain)
        if not local:
            return await self._elsewhere.send(attempt)
        data = b"".join([part async for part in attempt.read()])
        return AttemptResult(tuple([await self._deliver(attempt, data, address) for address, _ in attempt.recipients]))

    async def _deliver(self, attempt: Attempt, data: bytes, address: str) -> RecipientOutcome:
        """Each recipient is a record of its own, so that one full mailbox does not keep mail from the others."""
        if not self._exists(address):
            return self._outcome(address, "failed", 550, "5.1.1", "there is no such mailbox here")
        prepared = prepare(self._services, attempt.sender, [address], data, attempt.tenant)
        if prepared.left_out or not prepared.steps:
            return self._outcome(address, "deferred", 452, "4.2.2", "the mailbox can not take it at the moment")
        cause = f"queue {attempt.item_id.hex()}"
        try:
            await self._services.runtime.transact(
                prepared.steps, context(self._services, attempt.tenant, cause), prepared.bodies
            )
        except OutcomeUnknown:
            return self._outcome(address, "unknown", 451, "4.4.0", "the outcome of the delivery is not known")
        except (Rejected, CommandRefused) as error:
            return self._outcome(address, "deferred", 451, "4.3.0", str(error))
        return self._outcome(address, "delivered", 250, "2.1.5", "delivered to the mailbox")._replace(final=True)

    def _exists(self, address: str) -> bool:
        with self._services.log.snapshot() as snapshot:
            try:
                return bool(resolve(snapshot, address))
            except (NotLocal, InvalidName):
                return False
            except TooLarge:
                return True

    def _outcome(self, address: str, status: OutcomeStatus, code: int, enhanced: str, text: str) -> RecipientOutcome:
        return RecipientOutcome(address, status, code, enhanced, text, self._services.config.node.hostname, "")
