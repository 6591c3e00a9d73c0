"""How much mail an hour may bring: from one client, from one account that submits, from one tenant.

A client that goes beyond is told when to come again, with a reply that makes every mail server wait (4xx). Recipients
count when they are named, messages when they have come; who is out of messages hears so at the first recipient already.
A tenant that has a rate of its own for clients counts them apart: what they send to it, and to nobody else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol

from nodes.config.policy import PolicySection
from nodes.failures import key_of
from nodes.logins.security import network_of
from nodes.policy.clients import stranger
from nodes.policy.leases import Tokens
from nodes.policy.tenants import MailPolicy, TenantPolicies
from nodes.smtp.checks import Check, Incoming
from nodes.smtp.replies import Refused, reply
from nodes.tls.trust import Trust

if TYPE_CHECKING:
    from nodes.metrics import Metrics
    from nodes.smtp.session import Envelope, Session

CONNECTIONS, MESSAGES, RECIPIENTS = "connections", "messages", "recipients"
CLIENT, ACCOUNT, TENANT = "client", "account", "tenant"


class Held(Protocol):
    """Buckets: nodes/policy/buckets.py, nodes/policy/leases.py."""

    def wait_s(self, key: bytes, per_hour: int) -> float: ...
    def take(self, key: bytes, per_hour: int, count: int = 1) -> None: ...


class Due(NamedTuple):
    """A bucket that a token is due from."""

    buckets: Held
    key: bytes
    per_hour: int
    scope: str


class Connecting(Check):
    """Takes a token for each connection of a client."""

    def __init__(self, config: PolicySection, metrics: Metrics, leases: Tokens) -> None:
        self._metrics = metrics
        self.leases = leases
        self.reload(config)

    def reload(self, config: PolicySection) -> None:
        """From now on by this; what was taken stays taken."""
        self._exempt = Trust(config.exempt)
        self._per_hour = config.client_connections_per_hour

    async def connected(self, session: Session) -> None:
        """Raises Refused."""
        client = stranger(session, self._exempt)
        if client is not None:
            due = [Due(self.leases, bucket(CLIENT, CONNECTIONS, network_of(str(client))), self._per_hour, CLIENT)]
            await demand(self.leases, due, self._metrics, 421, CONNECTIONS)
            spend(due)


class Rates(Check):
    """Takes a token of each bucket that concerns a session, or none of any where one is empty."""

    def __init__(
        self,
        config: PolicySection,
        policies: TenantPolicies,
        metrics: Metrics,
        leases: Tokens,
    ) -> None:
        self._policies = policies
        self._metrics = metrics
        self.leases = leases
        self.reload(config)

    def reload(self, config: PolicySection) -> None:
        """From now on by this, and by the defaults of `policies`; what was taken stays taken."""
        self._exempt = Trust(config.exempt)
        self._by_default = any(
            _rate(self._policies.default, scope, what)
            for scope in (CLIENT, ACCOUNT, TENANT)
            for what in (MESSAGES, RECIPIENTS)
        )

    def concerns(self, session: Session, envelope: Envelope) -> bool:
        """Whether anything is limited for those whom this recipient is about."""
        tenant = session.account.tenant if session.account is not None else envelope.tenant
        return self._by_default or self._policies.of(tenant) is not self._policies.default

    async def recipient(self, session: Session, envelope: Envelope, address: str, local: bool) -> None:
        """Raises Refused."""
        tenants = (envelope.tenant,)
        messages, recipients = (self._due(session, tenants, what) for what in (MESSAGES, RECIPIENTS))
        await demand(self.leases, messages, self._metrics, 451, MESSAGES)
        await demand(self.leases, recipients, self._metrics, 451, RECIPIENTS)
        spend(recipients)

    def wants(self, session: Session, envelope: Envelope, incoming: Incoming) -> bool:
        """Whether anything is limited for those whom the message is about."""
        if self._by_default:
            return True
        policies = self._policies
        for tenant in envelope.tenants if session.account is None else (session.account.tenant,):
            if policies.of(tenant) is not policies.default:
                return True
        return False

    async def message(self, session: Session, envelope: Envelope, incoming: Incoming) -> None:
        """Raises Refused."""
        due = self._due(session, envelope.tenants, MESSAGES)
        await demand(self.leases, due, self._metrics, 451, MESSAGES)
        spend(due)

    def _due(self, session: Session, tenants: Iterable[bytes], what: str) -> list[Due]:
        found: dict[bytes, Due] = {}
        for scope, name, per_hour in self._scopes(session, tenants, what):
            if per_hour:
                key = bucket(scope, what, *name)
                found[key] = Due(self.leases, key, per_hour, scope)
        return list(found.values())

    def _scopes(
        self, session: Session, tenants: Iterable[bytes], what: str
    ) -> Iterator[tuple[str, tuple[str, ...], int]]:
        """Scope, name and rate of each bucket that is concerned."""
        if session.account is not None:
            policy = self._policies.of(session.account.tenant)
            for scope, id_ in ((ACCOUNT, session.account.account), (TENANT, session.account.tenant)):
                yield scope, (id_.hex(),), _rate(policy, scope, what)
            return
        client = stranger(session, self._exempt)
        if client is None:
            return
        network, usual = network_of(str(client)), _rate(self._policies.default, CLIENT, what)
        for tenant in tenants:
            own = _rate(self._policies.of(tenant), CLIENT, what)
            yield CLIENT, (network,) if own == usual else (network, tenant.hex()), own


def bucket(scope: str, what: str, *name: str) -> bytes:
    """The key of what is limited, of whom."""
    return key_of(f"{scope} {what}", *name)


async def gather(leases: Tokens, due: Iterable[Due]) -> bool:
    """Asks other nodes for tokens that are due and not here; False: there was no need to."""
    short = leases.lacking(due)
    if short:
        await leases.gather(short)
    return bool(short)


async def demand(leases: Tokens, due: list[Due], metrics: Metrics, code: int, what: str) -> None:
    """Sees to it that there is a token of each here. Raises Refused where there is none at any node."""
    if await gather(leases, due):
        refuse_empty(due, metrics, code, what)


def take(due: list[Due], metrics: Metrics, code: int, what: str) -> None:
    """One token of each, or of none. Raises Refused."""
    refuse_empty(due, metrics, code, what)
    spend(due)


def spend(due: Iterable[Due]) -> None:
    """One token of each."""
    for one in due:
        one.buckets.take(one.key, one.per_hour)


def refuse_empty(due: list[Due], metrics: Metrics, code: int, what: str) -> None:
    """Raises Refused where one of them has no token; takes none."""
    waits = [(wait_s, one.scope) for one in due if (wait_s := one.buckets.wait_s(one.key, one.per_hour)) > 0]
    if not waits:
        return
    wait_s, scope = max(waits)
    metrics.policy_refused(f"{scope} rate")
    seconds = math.ceil(wait_s)
    raise Refused(
        reply(
            code,
            "4.7.0",
            f"Too many {what} of this {scope} for now, come again in {seconds} seconds",
            error="rate_limited",
        )
    )


def _rate(policy: MailPolicy, scope: str, what: str) -> int:
    per_hour: int = getattr(policy, f"{scope}_{what}_per_hour")
    return per_hour
