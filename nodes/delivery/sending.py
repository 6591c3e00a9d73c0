"""One attempt at one item: what the transport is given, and what it says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from actors.directory import tenant_with
from actors.queue import Item
from actors.tenant_policy import ON, settings
from nodes.delivery.attempt import Attempt, AttemptResult, OutcomeStatus, Read, RecipientOutcome, Transport
from nodes.delivery.plan import out_of_time
from nodes.delivery.verp import PURPOSE, Verp
from nodes.trail import following

if TYPE_CHECKING:
    from nodes.services import Services

SLICE_BYTES = 64 * 1024


async def send(services: Services, transport: Transport, domain: str, item: Item, now_ms: int) -> AttemptResult:
    """Tries the item's recipients that are due. Never raises for what happens on the way.

    It is done under the id of the connection that brought the message.
    """
    attempt = _attempt(services, domain, item, now_ms)
    with following(item.session, "delivery") as trail:
        if services.tracing is None or trail is None:
            return await _send(services, transport, item, attempt, now_ms)
        with services.tracing.attempt(trail, item.id, domain) as span:
            result = await _send(services, transport, item, attempt, now_ms)
            span.set_attribute("mailraft.outcomes", [one.status for one in result.outcomes])
            return result


async def _send(services: Services, transport: Transport, item: Item, attempt: Attempt, now_ms: int) -> AttemptResult:
    if late := out_of_time(item, now_ms):
        return AttemptResult(late, shared=False)
    with services.log.snapshot() as snapshot:
        if not snapshot.has_body(item.tenant, item.digest):
            return _alike(attempt, "failed", "5.6.0", "its content was erased")
    if services.bandwidth is not None:
        services.bandwidth.sent(item.tenant, item.size)
    try:
        return await transport.send(attempt)
    except Exception as error:
        services.logger.exception("the transport failed", code="delivery_broken", item=item.id.hex(), error=repr(error))
        return _alike(attempt, "deferred", "4.3.0", "a fault of this system")


def _attempt(services: Services, domain: str, item: Item, now_ms: int) -> Attempt:
    waiting = [one for one in item.recipients if one.state == "waiting"]
    due = [one for one in waiting if one.next_ms <= now_ms] or waiting
    return Attempt(
        item.id,
        domain,
        item.sender,
        tuple((one.address, one.options) for one in due),
        item.size,
        _reader(services, item),
        item.options,
        item.tenant,
        item.route,
        _senders(services, domain, item),
    )


def _senders(services: Services, domain: str, item: Item) -> Callable[[str], str] | None:
    """Where the sender asked for it, or its tenant has it so. Addresses that we made for others stay as they are."""
    local, _, host = item.sender.rpartition("@")
    if not host or local[:3].upper() == "SRS":
        return None
    with services.log.snapshot() as snapshot:
        wanted = item.options.verp or settings(snapshot.view(item.tenant)).get("verp") == ON
        if not wanted or tenant_with(snapshot, host) != item.tenant:
            return None
    verp = Verp(services.directory.derived_key(PURPOSE))
    return lambda recipient: verp.sender_for(item.sender, recipient, item.id, domain)


def _reader(services: Services, item: Item) -> Read:
    async def read() -> AsyncIterator[bytes]:
        if item.trace:
            yield item.trace
        with services.log.snapshot() as snapshot:
            body = snapshot.body(item.tenant, item.digest) or b""
        for start in range(0, len(body), SLICE_BYTES):
            yield body[start : start + SLICE_BYTES]

    return read


def _alike(attempt: Attempt, status: OutcomeStatus, enhanced: str, text: str) -> AttemptResult:
    outcomes = (RecipientOutcome(address, status, 0, enhanced, text, "", "") for address, _ in attempt.recipients)
    return AttemptResult(tuple(outcomes), shared=False)
