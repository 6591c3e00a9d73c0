"""Queued mail whose domain is ours: it is delivered here, never looked up in DNS, which would lead back to us.

Mail comes to the queue that way when a submitter had it held (RFC 4865), or when a domain became ours meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.directory import is_local_domain, resolve
from actors.errors import InvalidName, NotLocal, TooLarge
from nodes.delivery.attempt import Attempt, AttemptResult, OutcomeStatus, RecipientOutcome, Transport
from nodes.delivery.generated import prepare

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
        return self._delivery(attempt, data)

    def _delivery(self, attempt: Attempt, data: bytes) -> AttemptResult:
        """What delivers it goes into the record of the outcomes: a node that dies in between has done neither."""
        found = {address: self._exists(address) for address, _ in attempt.recipients}
        there = [address for address, exists in found.items() if exists]
        prepared = prepare(
            self._services, attempt.sender, there, data, attempt.tenant, require_tls=attempt.options.require_tls
        )
        outcomes = []
        for address, exists in found.items():
            if not exists:
                outcome = self._outcome(address, "failed", 550, "5.1.1", "there is no such mailbox here")
            elif address in prepared.left_out:
                outcome = self._outcome(address, "deferred", 452, "4.2.2", "the mailbox can not take it at the moment")
            else:
                outcome = self._outcome(address, "delivered", 250, "2.1.5", "delivered to the mailbox")
                outcome = outcome._replace(final=True)
            outcomes.append(outcome)
        return AttemptResult(tuple(outcomes), delivery=prepared if prepared.steps else None)

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
