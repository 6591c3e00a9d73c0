"""Mail that an alias leads out of the cell: queued for where it goes, with a reverse path of ours and an ARC seal.

The seal (RFC 8617) hands on what we found when the mail came, since SPF can not hold any more further on. Delivered-To
names the alias, so that mail which comes round again is seen to.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from actors.directory import is_local_domain
from actors.errors import InvalidName
from actors.mail_options import NO_RECIPIENT_OPTIONS
from actors.names import normalise_domain
from actors.queue import Enqueue
from eventlog.record import new_id
from nodes.delivery.rewriting import PURPOSE, Srs
from nodes.mime.header import fields, header_end
from nodes.smtp import replies
from nodes.smtp.checks import INBOX
from nodes.smtp.grammar import domain_of
from nodes.smtp.replies import Refused
from nodes.trail import current_id
from nodes.verdicts import arc

if TYPE_CHECKING:
    from nodes.services import Services
    from nodes.smtp.checks import Incoming
    from nodes.smtp.session import Envelope

HEADER_BYTES = 1024 * 1024
_RESULTS = b"Authentication-Results:"


async def forwarded(services: Services, envelope: Envelope, incoming: Incoming, digest: bytes) -> list[Enqueue]:
    """An item for each alias and domain outside that it leads to.

    Raises Refused for mail that comes round again, and for what is not to gain by coming from us.
    """
    groups: dict[tuple[str, bytes, str], list[str]] = {}
    for recipient, targets in envelope.accepted:
        for target in targets:
            if target.is_outside:
                domain = _domain(target.address)
                groups.setdefault((recipient, target.tenant, domain), []).append(target.address)
    if not groups:
        return []
    check_author(services, incoming, {tenant for _, tenant, _ in groups})
    check_loop(incoming.data, [recipient for recipient, _, _ in groups])
    return [
        await _item(services, envelope, incoming, digest, recipient, tenant, domain, addresses)
        for (recipient, tenant, domain), addresses in groups.items()
    ]


def check_author(services: Services, incoming: Incoming, tenants: Iterable[bytes]) -> None:
    """Raises Refused for what would gain by coming from us: quarantined mail, and forgeries of our own domains.

    The next server would find our address, and so SPF of our domain, behind an author that DMARC has just refuted.
    """
    if any(folder != INBOX for folder in (incoming.folder, *map(incoming.folder_of, tenants))):
        raise Refused(replies.NOT_FORWARDED)
    dmarc = incoming.verdicts.get("dmarc")
    if dmarc is None or dmarc["result"] != "fail" or dmarc["sealer"]:
        return
    with services.log.snapshot() as snapshot:
        if is_local_domain(snapshot, dmarc["domain"]):
            raise Refused(replies.NOT_FORWARDED)


def check_loop(data: bytes, recipients: Iterable[str]) -> None:
    """Raises Refused if the message was delivered to one of these already (RFC 5321 6.3)."""
    end = header_end(data, 0, min(len(data), HEADER_BYTES))
    seen = {data[one.value : one.end].strip().lower() for one in fields(data, 0, end) if one.name == b"delivered-to"}
    if any(recipient.lower().encode() in seen for recipient in recipients):
        raise Refused(replies.MAIL_LOOP)


async def _item(
    services: Services,
    envelope: Envelope,
    incoming: Incoming,
    digest: bytes,
    recipient: str,
    tenant: bytes,
    domain: str,
    addresses: list[str],
) -> Enqueue:
    ours = _domain(recipient)
    lines = await _seal(services, tenant, ours, incoming)
    lines += [f"Delivered-To: {recipient}\r\n".encode(), *incoming.lines]
    at_ms = int(incoming.received_s * 1000)
    asked = envelope.recipient_options.get(recipient, NO_RECIPIENT_OPTIONS)
    unique = tuple(dict.fromkeys(addresses))
    return Enqueue(
        domain=domain,
        item_id=new_id(),
        tenant=tenant,
        sender=_reverse_path(services, envelope.mail_from or "", ours),
        recipients=unique,
        digest=digest,
        size=sum(map(len, lines)) + len(incoming.data),
        trace=b"".join(lines),
        expires_ms=max(at_ms, envelope.options.hold_until_ms) + int(services.config.queue.lifetime_s * 1000),
        now_ms=at_ms,
        options=envelope.options,
        recipient_options=(asked._replace(orcpt=asked.orcpt or f"rfc822;{recipient}"),) * len(unique),
        session=current_id(),
    )


def _reverse_path(services: Services, sender: str, ours: str) -> str:
    """A sender of ours may be sent from here as it is."""
    with services.log.snapshot() as snapshot:
        if not sender or is_local_domain(snapshot, domain_of(sender)):
            return sender
    return Srs(services.directory.derived_key(PURPOSE)).forward(sender, ours)


async def _seal(services: Services, tenant: bytes, domain: str, incoming: Incoming) -> list[bytes]:
    """None for mail that was not judged when it came, or where the domain has no RSA key."""
    judged = incoming.verdicts.get("arc")
    results = next((line for line in incoming.lines if line.startswith(_RESULTS)), None)
    key = services.signing.sealing_key(tenant, domain) if judged and results else None
    if judged is None or results is None or key is None:
        return []
    found = results.removeprefix(_RESULTS).strip()
    return await asyncio.to_thread(arc.seal, incoming.data, arc.Chain(judged["result"]), found, key, int(time.time()))


def _domain(address: str) -> str:
    try:
        return normalise_domain(domain_of(address))
    except InvalidName:
        raise Refused(replies.NOT_ROUTABLE) from None
