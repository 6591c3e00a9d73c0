"""The notice that a sender asked for of a delivery here: NOTIFY=SUCCESS of a recipient whose mailbox is ours.

RFC 3461 6.2: it stands in the same record as the delivery, so that one is never without the other. A message from
nobody has nobody to tell (6.1); what an alias leads out of the cell is told of by the queue. Nor is anybody told whose
name may be forged: such notices would go to whoever a spammer names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.mail_options import NO_RECIPIENT_OPTIONS, RecipientOptions
from actors.queue import Item
from actors.queue_rows import Recipient
from nodes.delivery.generated import Prepared
from nodes.delivery.notices import prepare_notice
from nodes.delivery.plan import Notice, Told
from nodes.policy.clients import stranger
from nodes.smtp.grammar import domain_of
from nodes.tls.trust import Trust

if TYPE_CHECKING:
    from nodes.services import Services
    from nodes.smtp.checks import Incoming
    from nodes.smtp.session import Envelope, Session

DELIVERED = "2.1.5"
NOTHING = Prepared([], [], [])


def is_known(session: Session, envelope: Envelope, incoming: Incoming, exempt: Trust) -> bool:
    """Whether the sender is who sent it: one of ours, a trusted peer, or one whom SPF or DMARC proves."""
    if stranger(session, exempt) is None:
        return True
    domain = domain_of(envelope.mail_from or "").casefold()
    spf, dmarc = incoming.verdicts.get("spf"), incoming.verdicts.get("dmarc")
    if spf and spf["result"] == "pass" and spf["domain"].casefold() == domain:
        return True
    author = dmarc["domain"] if dmarc and dmarc["result"] == "pass" else ""
    return bool(author) and (domain == author or domain.endswith(f".{author}"))


def failures_only(envelope: Envelope) -> dict[str, RecipientOptions]:
    """What was asked of each recipient, without what would tell the sender of success or delay."""
    found = {}
    for address, _ in envelope.accepted:
        asked = envelope.recipient_options.get(address, NO_RECIPIENT_OPTIONS)
        told = not asked.notify or "FAILURE" in asked.notify
        found[address] = asked._replace(notify=("FAILURE",) if told else ("NEVER",))
    return found


def success_notice(services: Services, envelope: Envelope, incoming: Incoming, digest: bytes) -> Prepared:
    """What to transact beside the deliveries so that the sender is told of those that it asked about."""
    if not envelope.recipient_options:
        return NOTHING
    told = tuple(_told(services, envelope, address) for address in _asked_about(envelope))
    if not told:
        return NOTHING
    at_ms = int(incoming.received_s * 1000)
    trace = b"".join(incoming.lines)
    tenant = next(targets[0].tenant for _, targets in envelope.accepted)
    delivered = Item(
        id=incoming.message_id,
        tenant=tenant,
        sender=envelope.mail_from or "",
        recipients=tuple(one.recipient for one in told),
        digest=digest,
        size=len(trace) + len(incoming.data),
        trace=trace,
        expires_ms=at_ms,
        queued_ms=at_ms,
        attempts=1,
        claim=None,
        options=envelope.options,
    )
    return prepare_notice(services, delivered, Notice("delivered", told), incoming.data)


def _asked_about(envelope: Envelope) -> list[str]:
    if not envelope.mail_from:
        return []
    here = {address for address, targets in envelope.accepted if any(not one.is_outside for one in targets)}
    return [
        address
        for address, asked in envelope.recipient_options.items()
        if "SUCCESS" in asked.notify and address in here
    ]


def _told(services: Services, envelope: Envelope, address: str) -> Told:
    recipient = Recipient(address, "delivered", 0, "", envelope.recipient_options[address])
    return Told(recipient, DELIVERED, 250, "delivered to the mailbox", services.config.node.hostname)
