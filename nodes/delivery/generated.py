"""Mail that the system itself sends: notices, reports, warnings. Local recipients get it, for others it is queued.

`prepare` only says what to transact, so that a notice stands in the same record as what it tells of.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from actors.directory import OUTSIDE, Target, is_local_domain, resolve
from actors.errors import InvalidName, NoSuchAccount, NotLocal, TooLarge
from actors.facts import message_facts
from actors.kind import Command
from actors.mail_options import NO_OPTIONS
from actors.mailbox import Deliver, NewMessage
from actors.names import normalise_domain
from actors.queue import Enqueue, enqueue_commands
from actors.runtime import Context, NewBody
from eventlog.record import By, digest_of, new_id, stream_id
from nodes.delivery.rewriting import PURPOSE as SRS
from nodes.delivery.rewriting import returned
from nodes.trail import current_id

if TYPE_CHECKING:
    from eventlog.store import Snapshot
    from nodes.services import Services

PROTOCOL = "generated"


class Prepared(NamedTuple):
    """What to transact; `left_out` are recipients who can not be given it: nobody has the address, or it is full."""

    steps: list[tuple[bytes, Command]]
    bodies: list[NewBody]
    left_out: list[str]


class _Mail(NamedTuple):
    sender: str
    data: bytes
    digest: bytes
    lines: bytes
    tenant: bytes
    at_ms: int
    require_tls: bool


async def submit(
    services: Services,
    sender: str,
    recipients: list[str],
    data: bytes,
    on_behalf: Context,
) -> None:
    """Sends a message (CRLF line ends) for the tenant of the context; `sender` "" is the null one.

    Signed where the author's domain has DKIM keys. Returns once it is delivered or queued. Raises NoSuchAccount, naming
    them, if a recipient can not be given it (nobody gets it then), Rejected, OutcomeUnknown.
    """
    lines = b"".join(await services.signing.sign(on_behalf.tenant, data))
    prepared = prepare(services, sender, recipients, data, on_behalf.tenant, lines)
    if prepared.left_out or not prepared.steps:
        raise NoSuchAccount(f"it can not be delivered to {', '.join(prepared.left_out) or 'nobody'}")
    await services.runtime.transact(prepared.steps, on_behalf, prepared.bodies)


def context(services: Services, tenant: bytes, cause: str) -> Context:
    """Who does it: this node."""
    name = services.config.node.name
    by = By("node", stream_id("node", name), f"node {name}")
    return Context(by, cause, tenant, services.config.raft.propose_timeout_s)


def prepare(
    services: Services,
    sender: str,
    recipients: Sequence[str],
    data: bytes,
    tenant: bytes,
    lines: bytes = b"",
    *,
    require_tls: bool = False,
) -> Prepared:
    """`lines` are header lines to put in front. `require_tls`: RFC 8689, for what goes elsewhere."""
    mail = _Mail(sender, data, digest_of(data), lines, tenant, int(time.time() * 1000), require_tls)
    deliveries: dict[bytes, tuple[bytes, Deliver]] = {}
    remote: dict[str, list[str]] = {}
    left_out: list[str] = []
    with services.log.snapshot() as snapshot:
        for address in dict.fromkeys(recipients):
            targets = _targets(services, snapshot, tenant, address)
            found = [_delivery(services, mail, address, one) for one in targets if not one.is_outside]
            deliveries.update((account, (owner, deliver)) for account, owner, deliver in found if deliver is not None)
            outside = [one.address for one in targets if one.is_outside and _add_remote(remote, one.address)]
            if not outside and all(deliver is None for _, _, deliver in found):
                left_out.append(address)
        queued = [one for domain, those in remote.items() for one in _queued(services, snapshot, mail, domain, those)]
    steps: list[tuple[bytes, Command]] = [(account, deliver) for account, (_, deliver) in deliveries.items()]
    tenants = dict.fromkeys([owner for owner, _ in deliveries.values()] + ([tenant] if queued else []))
    return Prepared(steps + queued, [NewBody(one, data, mail.digest) for one in tenants], left_out)


def _targets(services: Services, snapshot: Snapshot, tenant: bytes, address: str) -> list[Target]:
    """Where mail for an address goes, elsewhere included; empty: nobody has it, or aliases lead too far."""
    came_back = returned(snapshot, address, services.directory.derived_key(SRS))
    if came_back:
        return came_back
    try:
        return resolve(snapshot, address) or []
    except TooLarge:
        return []
    except (NotLocal, InvalidName):
        return [] if is_local_domain(snapshot, _domain_of(address)) else [Target(tenant, OUTSIDE, address)]


def _delivery(services: Services, mail: _Mail, address: str, target: Target) -> tuple[bytes, bytes, Deliver | None]:
    """Account, tenant and what delivers to it; None where it can not be given the mail now."""
    lines = f"Return-Path: <{mail.sender}>\r\n".encode() + mail.lines
    size = len(lines) + len(mail.data)
    message = NewMessage(new_id(), mail.digest, size, mail.at_ms, lines, *message_facts(mail.data))
    deliver = Deliver(message, envelope_from=mail.sender, envelope_to=address, protocol=PROTOCOL)
    home, refusal = services.runtime.homes.of(target.tenant), services.runtime.check(target.account, deliver)
    return target.account, target.tenant, deliver if home is None and refusal is None else None


def _add_remote(remote: dict[str, list[str]], address: str) -> bool:
    try:
        domain = normalise_domain(_domain_of(address))
    except InvalidName:
        return False
    remote.setdefault(domain, []).append(address)
    return True


def _queued(
    services: Services, snapshot: Snapshot, mail: _Mail, domain: str, recipients: list[str]
) -> list[tuple[bytes, Command]]:
    lifetime_ms = int(services.config.queue.lifetime_s * 1000)
    ascii_only = all(address.isascii() for address in recipients)
    options = NO_OPTIONS._replace(
        body="7BIT" if mail.data.isascii() else "8BITMIME", utf8=not ascii_only, require_tls=mail.require_tls
    )
    command = Enqueue(
        domain=domain,
        item_id=new_id(),
        tenant=mail.tenant,
        sender=mail.sender,
        recipients=tuple(dict.fromkeys(recipients)),
        digest=mail.digest,
        size=len(mail.lines) + len(mail.data),
        trace=mail.lines,
        expires_ms=mail.at_ms + lifetime_ms,
        now_ms=mail.at_ms,
        options=options,
        session=current_id(),
    )
    return enqueue_commands(snapshot, command)


def _domain_of(address: str) -> str:
    return address.rpartition("@")[2]
