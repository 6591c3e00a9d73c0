"""Who gets a notice, and what it takes to give it: the sender, or the postmaster of our side where that can not be.

Sent from nobody (RFC 5321 4.5.5), so that nothing is ever sent about it. What was itself from nobody, or whose sender
can not be told, is a double bounce: the postmaster of the item's tenant keeps it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from actors.queue import Item
from actors.tenant import POSTMASTER, domains
from eventlog.record import new_id
from nodes.delivery.bounces import Original, notice_message
from nodes.delivery.generated import Prepared, prepare
from nodes.delivery.plan import Notice

if TYPE_CHECKING:
    from nodes.services import Services


def prepare_notice(services: Services, item: Item, notice: Notice, data: bytes | None = None) -> Prepared:
    """What to transact so that the sender of `item`, or else the postmaster, has the notice.

    `data`: the message, where it is not in the log yet.
    """
    original = _original(services, item) if data is None else Original(item.trace, data)
    if item.sender:
        prepared = _addressed_to(services, item, notice, original, item.sender)
        if prepared.steps:
            return prepared
    if notice.kind != "failed":
        return Prepared([], [], [item.sender])
    return _addressed_to(services, item, notice, original, _postmaster(services, item.tenant))


def _addressed_to(services: Services, item: Item, notice: Notice, original: Original, recipient: str) -> Prepared:
    hostname = services.config.node.hostname
    data = notice_message(
        notice,
        item,
        original,
        recipient=recipient,
        hostname=hostname,
        message_id=f"{new_id().hex()}@{hostname}",
        now_s=time.time(),
    )
    return prepare(services, "", [recipient], data, item.tenant, require_tls=item.options.require_tls)


def _original(services: Services, item: Item) -> Original:
    with services.log.snapshot() as snapshot:
        return Original(item.trace, snapshot.body(item.tenant, item.digest))


def _postmaster(services: Services, tenant: bytes) -> str:
    """That of the tenant's first domain; without one, the cell's."""
    with services.log.snapshot() as snapshot:
        first = next(iter(domains(snapshot.view(tenant))), None)
    return f"{POSTMASTER}@{first.name}" if first else POSTMASTER
