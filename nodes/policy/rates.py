"""How much mail an hour may bring: from one client, from one account that submits, from one tenant.

A client that goes beyond is told when to come again, with a reply that makes every mail server wait (4xx). Recipients
count when they are named, messages when they have come; who is out of messages hears so at the first recipient already.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from nodes.config_policy import PolicySection
from nodes.failures import key_of
from nodes.policy.buckets import Buckets
from nodes.policy.clients import stranger
from nodes.security import network_of
from nodes.smtp.checks import Check, Incoming
from nodes.smtp.replies import Refused, reply
from nodes.trust import Trust

if TYPE_CHECKING:
    from nodes.metrics import Metrics
    from nodes.policy.sharing import Shared
    from nodes.smtp.session import Envelope, Session

CONNECTIONS, MESSAGES, RECIPIENTS = "connections", "messages", "recipients"
CLIENT, ACCOUNT, TENANT = "client", "account", "tenant"


class Due(NamedTuple):
    """A bucket that a token is due from."""

    buckets: Buckets
    key: bytes
    scope: str


class Rates(Check):
    """Takes a token of each bucket that concerns a session, or none of any where one is empty."""

    def __init__(self, config: PolicySection, metrics: Metrics, now_s: Callable[[], float] = time.monotonic) -> None:
        self._metrics = metrics
        self._exempt = Trust(config.exempt)
        limits = {
            (CLIENT, CONNECTIONS): config.client_connections_per_hour,
            (CLIENT, MESSAGES): config.client_messages_per_hour,
            (CLIENT, RECIPIENTS): config.client_recipients_per_hour,
            (ACCOUNT, MESSAGES): config.account_messages_per_hour,
            (ACCOUNT, RECIPIENTS): config.account_recipients_per_hour,
            (TENANT, MESSAGES): config.tenant_messages_per_hour,
            (TENANT, RECIPIENTS): config.tenant_recipients_per_hour,
        }
        self.buckets = {what: Buckets(per_hour, now_s) for what, per_hour in limits.items() if per_hour}

    @property
    def shared(self) -> dict[str, Shared]:
        """What the nodes tell each other, by topic."""
        return {f"rate {scope} {what}": buckets for (scope, what), buckets in self.buckets.items()}

    async def connected(self, session: Session) -> None:
        """Raises Refused."""
        self._take(self._due(session, CONNECTIONS), 421, CONNECTIONS)

    async def recipient(self, session: Session, envelope: Envelope, address: str, local: bool) -> None:
        """Raises Refused."""
        self._refuse_empty(self._due(session, MESSAGES), 451, MESSAGES)
        self._take(self._due(session, RECIPIENTS), 451, RECIPIENTS)

    async def message(self, session: Session, envelope: Envelope, incoming: Incoming) -> None:
        """Raises Refused."""
        self._take(self._due(session, MESSAGES), 451, MESSAGES)

    def _take(self, due: list[Due], code: int, what: str) -> None:
        self._refuse_empty(due, code, what)
        for one in due:
            one.buckets.take(one.key)

    def _refuse_empty(self, due: list[Due], code: int, what: str) -> None:
        waits = [(wait_s, one.scope) for one in due if (wait_s := one.buckets.wait_s(one.key)) > 0]
        if not waits:
            return
        wait_s, scope = max(waits)
        self._metrics.policy_refused(f"{scope} rate")
        seconds = math.ceil(wait_s)
        raise Refused(reply(code, "4.7.0", f"Too many {what} of this {scope} for now, come again in {seconds} seconds"))

    def _due(self, session: Session, what: str) -> list[Due]:
        return [
            Due(buckets, key_of(scope, name), scope)
            for scope, name in self._scopes(session)
            if (buckets := self.buckets.get((scope, what))) is not None
        ]

    def _scopes(self, session: Session) -> Iterable[tuple[str, str]]:
        if session.account is not None:
            return (ACCOUNT, session.account.account.hex()), (TENANT, session.account.tenant.hex())
        client = stranger(session, self._exempt)
        return ((CLIENT, network_of(str(client))),) if client is not None else ()


def checks(config: PolicySection, metrics: Metrics) -> tuple[Rates, ...]:
    """The check, if anything is limited."""
    rates = Rates(config, metrics)
    return (rates,) if rates.shared else ()
