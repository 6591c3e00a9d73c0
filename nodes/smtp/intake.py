"""From an SMTP transaction to one record of the log: the handler hooks behind MAIL, RCPT and DATA.

MAIL and RCPT read tables in a snapshot, and RCPT waits only for checks that look at recipients; DATA asks the checks
that look at messages, proposes once and answers after the commit. One record
holds the deliveries to all local mailboxes and the queue items for all other domains, so a transaction takes effect
whole or not at all. "It did not happen" is told from "it may have happened" (451 with another text).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgpack

from actors.errors import (
    CommandRefused,
    IsReplica,
    NoSuchAccount,
    OverQuota,
    OverTenantQuota,
    TenantInactive,
)
from actors.kind import Command
from actors.mailbox import Deliver, NewMessage
from actors.queue import Enqueue, enqueue_commands
from actors.runtime import Context, NewBody
from actors.standings import SENDING
from eventlog.bodies import CHUNK_BYTES
from eventlog.errors import OutcomeUnknown, Rejected
from eventlog.record import NO_TENANT, By, digest_of, new_id
from nodes.delivery import rewriting, verp
from nodes.delivery.verp import Verp
from nodes.smtp import inspection, replies, trace
from nodes.smtp.authors import ELSEWHERE, standing
from nodes.smtp.checks import Check, Incoming, by_step
from nodes.smtp.content import Content
from nodes.smtp.forwarding import forwarded
from nodes.smtp.grammar import MailCommand, RecipientCommand
from nodes.smtp.parameters import NOTHING_ASKED
from nodes.smtp.profile import Profile
from nodes.smtp.rcpt import Recipient, place, take
from nodes.smtp.recipients import Recipients
from nodes.smtp.replies import Refused, Reply
from nodes.smtp.returned import returns
from nodes.smtp.session import Envelope, Session
from nodes.smtp.success import failures_only, is_known, success_notice
from nodes.tls.trust import Trust
from nodes.trail import current_id
from nodes.waiting import within

if TYPE_CHECKING:
    from actors.directory import Target
    from actors.mail_options import RecipientOptions
    from nodes.services import Services
    from nodes.smtp.connection import Waiting

LARGE_BYTES = 1024 * 1024
SLACK_S = 1.5  # the proposal itself gives up before
UPLOAD_BYTES_PER_S = 1024 * 1024  # a large body goes in many proposals: so much more time it may take

_pack = msgpack.Packer(autoreset=True).pack
_stdlog = logging.getLogger("mailraft")

ONE_OF_SEVERAL = (replies.MAILBOX_FULL, replies.RECIPIENT_GONE)

Deliveries = Sequence[tuple[bytes, Command]]


class Intake:
    """aiosmtpd's event handler, one for each listener."""

    def __init__(self, services: Services, profile: Profile) -> None:
        self._services = services
        self._profile = profile
        self._hostname = services.config.node.hostname
        self.reload()
        self._verp = Verp(services.directory.derived_key(verp.PURPOSE))
        srs_key = services.directory.derived_key(rewriting.PURPOSE)
        self._recipients = Recipients(services.log, services.runtime, srs_key, self._verp)
        self._propose_timeout_s = services.config.raft.propose_timeout_s

    def reload(self) -> None:
        """From the next command on by what `services` has now."""
        config = self._services.config
        self._limits, self._rules = config.limits, config.smtp
        self._exempt = Trust(config.policy.exempt)
        self.checks = by_step(self._services.checks)

    def stop(self) -> None:
        """Nothing more is taken in."""
        self._recipients.forget_all()

    def handle_MAIL(self, server: object, session: Session, envelope: Envelope, command: MailCommand) -> bytes:
        """Takes the sender. Raises Refused."""
        if command.size_bytes > self._limits.message_bytes:
            raise Refused(replies.TOO_BIG)
        if self._profile.submits:
            self._check_sender(session, command.sender)
        envelope.mail_from = command.sender
        envelope.smtp_utf8 = command.options.utf8
        envelope.options = command.options
        envelope.size_bytes = command.size_bytes
        return replies.SENDER_OK

    def _check_sender(self, session: Session, sender: str) -> None:
        if session.account is None:
            raise Refused(replies.AUTH_REQUIRED)
        if self._services.runtime.homes.of(session.account.tenant) is not None:
            raise Refused(replies.HOME_ELSEWHERE)
        self._check_tenant(session.account)
        if not sender:
            return
        with self._services.log.snapshot() as snapshot:
            allowed = standing(snapshot, session.account, sender)
        if allowed in (None, ELSEWHERE):
            raise Refused(replies.NOT_YOUR_ADDRESS)

    def _check_tenant(self, account: Target) -> None:
        """Whether whom the account belongs to is served, and may send any more. Raises Refused."""
        standings = self._services.runtime.standings
        standing = standings.of(account.tenant)
        if standing is not None:
            raise Refused(replies.put_out(standing.text))
        if not standings.quotas(account.tenant):
            return
        by, growth = By("account", account.account, ""), dict.fromkeys(SENDING, 1)
        try:
            with self._services.log.snapshot() as snapshot:
                standings.check(snapshot, account.tenant, growth, by, time.time_ns() // 1_000_000)
        except OverTenantQuota as over:
            raise Refused(replies.over_quota(over.quota, str(over))) from None

    def verify(self, address: str) -> bytes:
        """VRFY, where it may tell (RFC 5321 3.5.3): 250 an address of ours, 550 none of ours, 252 elsewhere."""
        try:
            targets = self._recipients.find(address, 0) if address else None
        except Refused as refused:
            return refused.reply
        return replies.CANNOT_VRFY if targets is None else replies.verified(address)

    async def check_client(self, session: Session) -> None:
        """Asks the checks that look at clients. Raises Refused."""
        for check in self.checks.connected:
            await check.connected(session)

    def handle_RCPT(
        self, server: object, session: Session, envelope: Envelope, command: RecipientCommand
    ) -> bytes | Waiting:
        """Takes one recipient; waits only where a check looks at it. Raises Refused."""
        if len(envelope.rcpt_tos) >= self._limits.recipients:
            raise Refused(replies.TOO_MANY_RECIPIENTS)
        targets = self._recipients.find(command.address, envelope.size_bytes)
        recipient = place(session, envelope, command, targets)
        if self.checks.recipient:
            envelope.tenant = targets[0].tenant if targets else NO_TENANT
            concerned = [check for check in self.checks.recipient if check.concerns(session, envelope)]
            if concerned:
                return self._check_recipient(session, envelope, recipient, concerned)
        return take(envelope, recipient)

    async def _check_recipient(
        self, session: Session, envelope: Envelope, recipient: Recipient, concerned: list[Check]
    ) -> bytes:
        await within(self._rules.checks_s, self._ask_of_recipient(session, envelope, recipient, concerned))
        return take(envelope, recipient)

    async def _ask_of_recipient(
        self, session: Session, envelope: Envelope, recipient: Recipient, concerned: list[Check]
    ) -> None:
        for check in concerned:
            await check.recipient(session, envelope, recipient.address, recipient.local)

    async def handle_DATA(self, server: object, session: Session, envelope: Envelope, content: Content) -> bytes:
        """Takes the message; LMTP answers once for each recipient (RFC 2033 4.2)."""
        try:
            self._check_content(envelope, content)
            incoming = self._incoming(session, envelope, content.data)
            if self._are_wanted(session, envelope, incoming):
                await self._check_message(session, envelope, incoming)
        except Refused as refused:
            outcome = refused.reply
        else:
            outcome = await self._commit_or_refuse(session, envelope, incoming)
            if self._profile.lmtp and outcome in ONE_OF_SEVERAL and not _has_one_recipient(envelope):
                return await self._one_by_one(session, envelope, incoming)
        self._count(outcome)
        return outcome * len(envelope.accepted) if self._profile.lmtp else outcome

    def _check_content(self, envelope: Envelope, content: Content) -> None:
        if content.too_big:
            raise Refused(replies.TOO_BIG)
        if content.ambiguous:
            raise Refused(replies.AMBIGUOUS_END)
        options = envelope.options
        reply = inspection.fault(content.data, self._rules, utf8=options.utf8, binary=options.body == "BINARYMIME")
        if reply is not None:
            raise Refused(reply)

    def _incoming(self, session: Session, envelope: Envelope, data: bytes) -> Incoming:
        message_id, received_s = new_id(), trace.now_s()
        return Incoming(data, [self._received(session, envelope, message_id, received_s)], message_id, received_s)

    def _are_wanted(self, session: Session, envelope: Envelope, incoming: Incoming) -> bool:
        """Whether any check is to be asked about the message."""
        try:
            for check in self.checks.message:
                if check.wants(session, envelope, incoming):
                    return True
        except Exception:
            return True  # what fails is found out, and told, where it is asked again
        return False

    async def _check_message(self, session: Session, envelope: Envelope, incoming: Incoming) -> None:
        """What fails in a check must not let its mail pass, nor lose LMTP its place. Raises Refused."""
        try:
            await within(self._rules.checks_s, self._ask_checks(session, envelope, incoming))
        except Refused:
            raise
        except Exception:
            self._services.logger.exception("smtp check failed", code="check_failed")
            raise Refused(replies.INTERNAL_ERROR) from None

    async def _ask_checks(self, session: Session, envelope: Envelope, incoming: Incoming) -> None:
        for check in self.checks.message:
            if check.wants(session, envelope, incoming):
                await check.message(session, envelope, incoming)

    async def _one_by_one(self, session: Session, envelope: Envelope, incoming: Incoming) -> bytes:
        """LMTP can tell which of several mailboxes is full or gone: each delivery is a record of its own."""
        outcomes = []
        for accepted in envelope.accepted:
            single = Envelope()
            single.mail_from, single.smtp_utf8 = envelope.mail_from, envelope.smtp_utf8
            single.rcpt_tos = [accepted[0]]
            single.accept(*accepted)
            single.options, single.recipient_options = envelope.options, envelope.recipient_options
            outcome = await self._commit_or_refuse(session, single, incoming)
            self._count(outcome)
            outcomes.append(outcome)
        return b"".join(outcomes)

    async def _commit_or_refuse(self, session: Session, envelope: Envelope, incoming: Incoming) -> bytes:
        size_bytes = len(incoming.data)
        try:
            if size_bytes <= CHUNK_BYTES:  # one proposal, which has a limit of its own
                return await self._commit(session, envelope, incoming)
            async with asyncio.timeout(self._propose_timeout_s + SLACK_S + size_bytes / UPLOAD_BYTES_PER_S):
                return await self._commit(session, envelope, incoming)
        except Refused as refused:
            return refused.reply
        except OverTenantQuota as over:
            return replies.over_quota(over.quota, str(over))
        except OverQuota:
            return replies.MAILBOX_FULL
        except TenantInactive as inactive:
            refuse = inactive.refuse and not (
                session.account is None and len(envelope.tenants) > 1
            )  # others' come again
            return replies.tenant_inactive(str(inactive), refuse=refuse, recipient=session.account is None)
        except NoSuchAccount:
            return replies.NO_SUCH_MAILBOX if _has_one_recipient(envelope) else replies.RECIPIENT_GONE
        except IsReplica:
            return replies.REPLICA
        except CommandRefused as refused:
            return replies.NOT_ACCEPTED.telling(refused.code)
        except Rejected as rejected:
            return _REJECTED.get(rejected.reason, replies.NOT_ACCEPTED).telling(rejected.code)
        except (OutcomeUnknown, TimeoutError):
            return replies.OUTCOME_UNKNOWN

    async def _commit(self, session: Session, envelope: Envelope, incoming: Incoming) -> bytes:
        if session.put_out:
            raise Refused(replies.may_not_send(session.put_out))
        data, at_ms = incoming.data, int(incoming.received_s * 1000)
        outside = envelope.leads_outside
        if (outside or envelope.recipient_options) and not is_known(session, envelope, incoming, self._exempt):
            envelope.recipient_options = failures_only(envelope)
        # hashing gives the interpreter away: a large message does not keep the others waiting
        digest = digest_of(data) if len(data) < LARGE_BYTES else await asyncio.to_thread(digest_of, data)
        deliveries: list[tuple[bytes, Command]] = []
        tenants: dict[bytes, None] = {}
        if envelope.accepted:
            deliveries += self._deliveries(envelope, incoming, digest)
            deliveries += returns(self._verp, envelope, incoming)
            tenants |= envelope.tenants
        if envelope.remote:
            assert session.account is not None
            tenants[session.account.tenant] = None
            lines = b"".join(incoming.lines)
            items = self._queue_items(session.account.tenant, envelope, digest, len(data), lines, at_ms)
            deliveries += self._queue_steps(items)
        if outside:
            deliveries += self._queue_steps(await forwarded(self._services, envelope, incoming, digest))
        notice = success_notice(self._services, envelope, incoming, digest)
        deliveries += notice.steps
        bodies = [NewBody(tenant, data, digest) for tenant in tenants] + notice.bodies
        await self._services.runtime.transact(deliveries, self._context(session, next(iter(tenants))), bodies)
        if _stdlog.isEnabledFor(logging.DEBUG):  # structlog takes ten times as long to find that out
            self._services.logger.debug("mail taken", message=incoming.message_id.hex())
        return replies.queued(incoming.message_id)

    def _queue_items(
        self, tenant: bytes, envelope: Envelope, digest: bytes, size: int, lines: bytes, at_ms: int
    ) -> list[Enqueue]:
        """One item for each destination domain; a recipient that was given twice is sent to once."""
        lifetime_ms = int(self._services.config.queue.lifetime_s * 1000)
        return [
            Enqueue(
                domain=domain,
                item_id=new_id(),
                tenant=tenant,
                sender=envelope.mail_from or "",
                recipients=(unique := tuple(dict.fromkeys(recipients))),
                digest=digest,
                size=len(lines) + size,
                trace=lines,
                expires_ms=max(at_ms, envelope.options.hold_until_ms) + lifetime_ms,
                now_ms=at_ms,
                options=envelope.options,
                recipient_options=_options_of(envelope, unique),
                session=current_id(),
            )
            for domain, recipients in envelope.remote.items()
        ]

    def _queue_steps(self, items: list[Enqueue]) -> list[tuple[bytes, Command]]:
        with self._services.log.snapshot() as snapshot:
            return [step for item in items for step in enqueue_commands(snapshot, item)]

    def _received(self, session: Session, envelope: Envelope, message_id: bytes, at_s: float) -> bytes:
        return trace.received(
            helo=session.host_name,
            client=session.client,
            client_name=session.client_name or self._services.host_names.of(session.client),
            hostname=self._hostname,
            protocol=trace.protocol_name(
                lmtp=self._profile.lmtp,
                extended=session.extended_smtp,
                secure=session.secure,
                authenticated=session.account is not None,
                utf8=envelope.smtp_utf8,
            ),
            message_id=message_id,
            recipient=envelope.rcpt_tos[0] if len(envelope.rcpt_tos) == 1 else None,
            at_s=at_s,
        )

    def _deliveries(self, envelope: Envelope, incoming: Incoming, digest: bytes) -> Deliveries:
        """One delivery for each mailbox, whichever recipients led to it."""
        sender = envelope.mail_from or ""
        lines = trace.return_path(sender) + b"".join(incoming.lines)
        size_bytes, at_ms = len(lines) + len(incoming.data), int(incoming.received_s * 1000)
        message = NewMessage(incoming.message_id, digest, size_bytes, at_ms, lines, *incoming.facts)
        verdicts = _pack(incoming.verdicts) if incoming.verdicts else b""
        found: dict[bytes, Deliver] = {}
        for recipient, targets in envelope.accepted:
            for target in targets:
                if target.account not in found and not target.is_outside:
                    found[target.account] = Deliver(
                        message,
                        folder=incoming.folder_of(target.tenant),
                        envelope_from=sender,
                        envelope_to=recipient,
                        protocol=self._profile.kind,
                        verdicts=verdicts,
                    )
        return list(found.items())

    def _context(self, session: Session, tenant: bytes) -> Context:
        """Of all messages of a session the same, but for whose they are: the last one is kept."""
        account, known = session.account, session.context
        if known is not None and known[0] is account and known[1].tenant == tenant:
            return known[1]
        origin = f"{self._profile.kind} {session.origin}"
        by = By("client", b"", origin) if account is None else By("account", account.account, origin)
        context = Context(by, session.cause, tenant, self._propose_timeout_s)
        session.context = account, context
        return context

    def _count(self, outcome: bytes) -> None:
        name = "committed" if outcome[:1] == b"2" else "unknown" if outcome == replies.OUTCOME_UNKNOWN else "refused"
        self._services.metrics.delivery(self._profile.kind, name)


_REJECTED: dict[str, Reply] = {
    "disk_full": replies.DISK_FULL,
    "too_large": replies.TOO_BIG,
    "no_leader": replies.NO_LEADER,
    "stopping": replies.STOPPING_WRITES,
}


def _has_one_recipient(envelope: Envelope) -> bool:
    return len(envelope.rcpt_tos) == 1


def _options_of(envelope: Envelope, recipients: tuple[str, ...]) -> tuple[RecipientOptions, ...]:
    asked = envelope.recipient_options
    return tuple(asked.get(one, NOTHING_ASKED) for one in recipients) if asked else ()
