"""Sends mail to other servers: finds the destination's hosts, goes through them in order, and says what became of each
recipient.

A host that can not be reached, does not greet or fails its TLS is passed over for the next; what a host says of a
recipient counts. Nothing that a peer, a name server or the network does is raised.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from actors.mail_options import RecipientOptions
from nodes.config.node import NodeConfig
from nodes.delivery import destinations
from nodes.delivery.attempt import Attempt, AttemptResult, OutcomeStatus, RecipientOutcome
from nodes.delivery.client import Answer, Message, Refused, Sent, Session
from nodes.delivery.connections import Connections
from nodes.delivery.content import in_slices, is_ascii, waives_tls
from nodes.delivery.converting import Convert, converter_of, is_wanted
from nodes.delivery.destinations import Host, NoWay, Ourselves
from nodes.delivery.login import LoginFailed
from nodes.delivery.mta_sts import StsPolicies, StsPolicy
from nodes.delivery.opening import Opener, verifying_context
from nodes.delivery.parameters import Unsendable, most_recipients
from nodes.delivery.replies import throttle_ms
from nodes.delivery.routes import FindWay, Way, given_way_or_mx, ways_of
from nodes.delivery.tls_policy import Demand, HostForbidden, TlsPolicies, demand_of_route
from nodes.delivery.tls_results import RecordTlsResult
from nodes.delivery.wire import PeerFailed, TlsFailed
from nodes.resolver import Resolver

if TYPE_CHECKING:
    from nodes.metrics import Metrics
    from nodes.services import Services

STS_FILE = "mta-sts.json"
TOO_MANY = (452, "4.5.3")
WAIVED = Demand("may")  # of no domain: what becomes of it is in no report (RFC 8460 3)

Recipient = tuple[str, RecipientOptions]


_log = structlog.get_logger("mailraft.delivery")


@dataclass
class Progress:
    """Of one attempt: what is known so far, and why the hosts so far could not be used."""

    attempt: Attempt
    outcomes: dict[str, RecipientOutcome] = field(default_factory=dict)
    failures: list[Answer] = field(default_factory=list)
    host: str = ""
    tries: int = 0
    converted: bytes | None = None
    waives_tls: bool | None = None
    shared: bool = False  # the way that it goes is that of all mail for the domain

    @property
    def left(self) -> list[Recipient]:
        """Recipients of whom nothing is known."""
        return [one for one in self.attempt.recipients if one[0] not in self.outcomes]

    def settle(
        self, answers: Iterable[tuple[str, Answer]], host: str, session: Session | None, *, reached: bool
    ) -> None:
        """What a host said of recipients, in a session if there was one."""
        offered = session.offered if session is not None else {}
        tls, relayed, untimed = session.tls if session else "", "DSN" not in offered, "DELIVERBY" not in offered
        for address, answer in answers:
            if address not in self.outcomes:
                outcome = RecipientOutcome(address, *answer, host, tls, relayed, reached=reached, untimed=untimed)
                self.outcomes[address] = outcome

    def take(self, sent: Sent, session: Session) -> None:
        """What became of a transaction. Recipients that were too many for it have another."""
        answers = sent.answers
        if any(one.status == "delivered" for one in answers.values()):
            answers = {address: one for address, one in answers.items() if (one.code, one.enhanced) != TOO_MANY}
        if sent.failure is not None and not sent.reached:
            answers = {address: one for address, one in answers.items() if one.status == "failed"}
        self.settle(answers.items(), session.host, session, reached=sent.reached)

    def result(self) -> AttemptResult:
        """Everything; those of whom nothing is known fare as the hosts that were tried."""
        rest = self._of_rest()
        self.settle(((address, rest) for address, _ in self.left), self.host, None, reached=False)
        outcomes = tuple(self.outcomes[address] for address, _ in self.attempt.recipients)
        asked_ms = max((throttle_ms(one.code, one.text) for one in outcomes), default=0)
        return AttemptResult(outcomes, asked_ms, shared=self.shared)

    def _of_rest(self) -> Answer:
        """Permanent only if no host gave any hope."""
        hopeful = [one for one in self.failures if one.status != "failed"]
        return (hopeful or self.failures or [Answer("deferred", 0, "4.4.1", "no host was tried")])[-1]


class MailTransport:
    """The transport of one node; `stop` closes what is open."""

    def __init__(
        self,
        config: NodeConfig,
        resolver: Resolver,
        *,
        find_way: FindWay = given_way_or_mx,
        record: RecordTlsResult = lambda _: None,
        file: Path | None = None,
        metrics: Metrics | None = None,
        convert: Convert | None = None,
    ) -> None:
        """`find_way` knows the routes, `record` is told of each TLS session, `file` keeps MTA-STS policies, `convert`
        makes 7 bits of what a server does not take as it is.

        Raises OSError, ssl.SSLError.
        """
        trust = verifying_context(config.delivery.trust)
        self._find_way = find_way
        self._metrics = metrics
        self._convert = convert
        self._config = config
        self._resolver = resolver
        self._ourselves = Ourselves(config)
        self._connections = Connections(config.delivery)
        self._opener = Opener(config, trust, record)
        self._policies = TlsPolicies(config, resolver, record)
        self._sts = StsPolicies(resolver, trust, config.delivery.mta_sts_port, file, record)

    @classmethod
    def of(cls, services: Services) -> MailTransport:
        """The one that a node's parts make."""
        find_way = ways_of(services.log, services.directory)
        file = services.config.node.data_dir / STS_FILE
        record, metrics = services.reports.record_tls_result, services.metrics
        return cls(
            services.config,
            services.resolver,
            find_way=find_way,
            record=record,
            file=file,
            metrics=metrics,
            convert=converter_of(services),
        )

    async def stop(self) -> None:
        """Closes idle connections."""
        await self._connections.stop()
        await self._sts.stop()

    async def send(self, attempt: Attempt) -> AttemptResult:
        """One outcome for each recipient; never raises for a peer's or the network's fault."""
        progress, started_s = Progress(attempt), time.perf_counter()
        try:
            async with asyncio.timeout(self._config.delivery.attempt_timeout_s):
                await self._go_through(progress)
        except NoWay as error:
            progress.failures = [Answer(error.status, error.code, error.enhanced, str(error))]
        except TimeoutError:
            progress.failures = [Answer("deferred", 0, "4.4.7", "the attempt took too long")]
        except Exception as error:  # a fault of ours: what a transaction before it brought is not to be lost
            _log.exception("an attempt broke off", code="delivery_broken", domain=attempt.domain)
            progress.failures = [Answer("deferred", 0, "4.3.0", f"a fault of this server: {type(error).__name__}")]
            progress.shared = False
        if self._metrics is not None:
            self._metrics.delivery_seconds.observe(time.perf_counter() - started_s)
        return progress.result()

    async def _go_through(self, progress: Progress) -> None:
        domain, way = progress.attempt.domain, self._find_way(progress.attempt)
        progress.shared, policy = way.shared, None
        if way.host:
            port = way.port or self._config.delivery.port
            hosts = [await destinations.host_named(way.host, port, self._resolver, self._config)]
        else:
            hosts = await destinations.hosts_of(domain, self._resolver, self._config, self._ourselves)
            if self._config.delivery.mta_sts and not hosts[0].is_literal:
                policy = await self._sts.of(domain)
        for host in hosts:
            left = list(host.addresses)
            while left and progress.left and progress.tries < self._config.delivery.hosts:
                progress.tries += 1
                progress.host = host.name
                async with self._connections.slot((host.name, host.port)):
                    await self._try(host, left, way, policy, progress)

    async def _try(self, host: Host, left: list[str], way: Way, policy: StsPolicy | None, progress: Progress) -> None:
        """One connection to the host; addresses that are no use are taken out of `left`."""
        attempt = progress.attempt
        try:
            if way.host:
                demand = demand_of_route(way.tls, require_tls=attempt.requires_tls)
            else:
                demand = await self._demand(host, policy, progress)
            key = (host.name, host.port, demand.level, demand.strict, demand.tlsa, way.pool, way.login)
            while progress.left:
                session = self._connections.take(key)
                fresh = session is None
                session = session or await self._open(host, left, way, demand)
                await self._over(session, key, progress, fresh=fresh)
                if fresh:
                    left.insert(0, session.address)  # it is of use
        except Refused as refused:
            status: OutcomeStatus = "failed" if refused.reply.is_permanent else "deferred"
            enhanced = refused.reply.enhanced or f"{refused.reply.code // 100}.3.2"
            progress.failures.append(Answer(status, refused.reply.code, enhanced, str(refused)))
        except HostForbidden as failure:
            left.clear()
            progress.failures.append(Answer("deferred", 0, "4.7.5", str(failure)))
        except PeerFailed as failure:
            enhanced = {TlsFailed: "4.7.5", LoginFailed: "4.7.8"}.get(type(failure), "4.4.2")
            progress.failures.append(Answer("deferred", 0, enhanced, str(failure)))
        except Unsendable as error:
            left.clear()
            progress.failures.append(Answer("failed", error.code, error.enhanced, str(error)))

    async def _demand(self, host: Host, policy: StsPolicy | None, progress: Progress) -> Demand:
        """What TLS has to be. Raises HostForbidden, Unsendable."""
        attempt = progress.attempt
        try:
            found = await self._policies.demand(attempt.domain, host, policy, require_tls=attempt.requires_tls)
        except HostForbidden:
            if not await self._waives_tls(progress):
                raise
            return WAIVED
        return WAIVED if found.level != "may" and await self._waives_tls(progress) else found

    async def _waives_tls(self, progress: Progress) -> bool:
        """The message's header is read for it once, and only where a policy stands in its way."""
        if progress.waives_tls is None:
            attempt = progress.attempt
            progress.waives_tls = not attempt.options.require_tls and await waives_tls(attempt.read)
        return progress.waives_tls

    async def _fitting(self, message: Message, session: Session, progress: Progress) -> Message:
        """The message as the server takes it. Raises Unsendable."""
        if self._convert is None or not is_wanted(message.options, session.offered):
            return message
        if message.options.body == "8BITMIME" and await is_ascii(message.read):
            return message
        if progress.converted is None:
            progress.converted = await self._convert(progress.attempt)
        data = progress.converted
        options = message.options._replace(body="7BIT")
        return message._replace(size=len(data), read=lambda: in_slices(data), options=options)

    async def _open(self, host: Host, left: list[str], way: Way, demand: Demand) -> Session:
        session = await self._opener.open(host, left, way, demand)
        if self._metrics is not None:
            self._metrics.delivery_sessions_total.labels(session.verified if session.tls else "clear").inc()
        return session

    async def _over(self, session: Session, key: Hashable, progress: Progress, *, fresh: bool) -> None:
        """Transactions over a session for as long as it takes them. Raises PeerFailed, Unsendable."""
        sender_for = progress.attempt.sender_for
        most = 1 if sender_for else min(self._config.delivery.recipients, most_recipients(session.offered))
        try:
            while progress.left and (fresh or session.is_reusable):
                sent, attempt = Sent(), progress.attempt
                recipients = tuple(progress.left[:most])
                sender = sender_for(recipients[0][0]) if sender_for else attempt.sender
                message = Message(sender, recipients, attempt.size, attempt.read, attempt.options)
                try:
                    await session.send(await self._fitting(message, session, progress), sent)
                finally:
                    progress.take(sent, session)
                if sent.failure is not None:
                    break
                fresh = False
        except Unsendable:  # found before anything was said of the message
            self._connections.give_back(key, session)
            raise
        except BaseException:
            session.wire.close()
            raise
        self._connections.give_back(key, session)
        if sent.failure is not None and not sent.reached and fresh:
            raise sent.failure
