"""How fast a client may go: logins and commands by the hour, and a tarpit for those that are refused again and again.

The tarpit holds back a refusal, longer with each that the client's network got lately, whatever node it came to. Only
so many sessions are held at a time: beyond them refusals leave at once, so that it can not take a node's connections.
Temporary refusals do not count: an honest server gets them from greylisting and rates.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from nodes.config.policy import PolicySection
from nodes.failures import SharedCounts, key_of
from nodes.logins.security import network_of
from nodes.policy.buckets import Buckets
from nodes.policy.clients import stranger
from nodes.policy.leases import Tokens
from nodes.policy.rates import ACCOUNT, CLIENT, CONNECTIONS, TENANT, Due, bucket, gather, spend, take
from nodes.policy.tenants import TenantPolicies
from nodes.smtp.checks import Check, Pause
from nodes.tls.trust import Trust

if TYPE_CHECKING:
    from actors.directory import Target
    from nodes.metrics import Metrics
    from nodes.policy.sharing import Shared
    from nodes.smtp.session import Session

COMMANDS = "commands"
COUNTED = "login counted"  # among a session's notes
REFUSALS_KEPT_S = 600.0  # without another, a network's refusals are forgotten


class Commands(Check):
    """Takes a token for each command: of the client, or of the account and its tenant."""

    def __init__(
        self,
        config: PolicySection,
        policies: TenantPolicies,
        metrics: Metrics,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policies = policies
        self._metrics = metrics
        self.buckets = {scope: Buckets(now_s) for scope in (CLIENT, ACCOUNT, TENANT)}
        self.reload(config)

    def reload(self, config: PolicySection) -> None:
        """From now on by this; what was taken stays taken."""
        self._exempt = Trust(config.exempt)
        self._of_client = config.client_commands_per_hour
        self.heeds_strangers = self._of_client > 0

    @property
    def shared(self) -> dict[str, Shared]:
        """What the nodes tell each other, by topic."""
        return {f"rate {scope} {COMMANDS}": buckets for scope, buckets in self.buckets.items()}

    def command(self, session: Session) -> None:
        """Raises Refused."""
        if due := list(self._due(session)):
            take(due, self._metrics, 421, COMMANDS)

    def _due(self, session: Session) -> Iterator[Due]:
        if session.account is not None:
            policy = self._policies.of(session.account.tenant)
            if policy.account_commands_per_hour:
                key = key_of(ACCOUNT, session.account.account.hex())
                yield Due(self.buckets[ACCOUNT], key, policy.account_commands_per_hour, ACCOUNT)
            if policy.tenant_commands_per_hour:
                key = key_of(TENANT, session.account.tenant.hex())
                yield Due(self.buckets[TENANT], key, policy.tenant_commands_per_hour, TENANT)
        elif self._of_client and (client := stranger(session, self._exempt)) is not None:
            yield Due(self.buckets[CLIENT], key_of(CLIENT, network_of(str(client))), self._of_client, CLIENT)


class LoggedIn(Check):
    """Takes a token for each connection that logs in, of the account and of its tenant; where there is none, at its
    next command, which says so."""

    heeds_strangers = False

    def __init__(self, policies: TenantPolicies, metrics: Metrics, leases: Tokens) -> None:
        self._policies = policies
        self._metrics = metrics
        self._leases = leases

    async def logged_in(self, session: Session) -> None:
        """Takes them, if there are any."""
        if session.account is None:
            return
        due = self._due(session.account)
        await gather(self._leases, due)
        if not self._leases.lacking(due):
            spend(due)
            session.notes[COUNTED] = session.account.account

    def command(self, session: Session) -> None:
        """Raises Refused."""
        if session.account is None or session.notes.get(COUNTED) == session.account.account:
            return
        take(self._due(session.account), self._metrics, 421, CONNECTIONS)
        session.notes[COUNTED] = session.account.account

    def _due(self, account: Target) -> list[Due]:
        policy = self._policies.of(account.tenant)
        rates = (policy.account_connections_per_hour, policy.tenant_connections_per_hour)
        names = ((ACCOUNT, account.account), (TENANT, account.tenant))
        return [
            Due(self._leases, bucket(scope, CONNECTIONS, id_.hex()), per_hour, scope)
            for (scope, id_), per_hour in zip(names, rates, strict=True)
            if per_hour
        ]


class Tarpit(Check):
    """Holds back refusals of servers that have not logged in, are not on this machine and not exempt."""

    def __init__(self, config: PolicySection, metrics: Metrics, now_s: Callable[[], float] = time.monotonic) -> None:
        self._metrics = metrics
        self.held = 0
        self.refusals = SharedCounts(REFUSALS_KEPT_S, now_s)
        self.reload(config)

    def reload(self, config: PolicySection) -> None:
        """From now on by this; refusals that were counted stay."""
        self._exempt = Trust(config.exempt)
        self._step_s = config.tarpit_s
        self._free = config.tarpit_free
        self._longest_s = config.tarpit_longest_s
        self._most = config.tarpit_sessions

    @property
    def shared(self) -> dict[str, Shared]:
        """What the nodes tell each other, by topic."""
        return {"tarpit": self.refusals}

    def refused(self, session: Session) -> Pause | None:
        """The refusal counts; gives what its reply waits for, if it waits."""
        client = stranger(session, self._exempt)
        if client is None:
            return None
        delay_s = self.delay_s(self.refusals.add(key_of("refused", network_of(str(client)))))
        if delay_s <= 0 or self.held >= self._most:
            return None
        self._metrics.policy_refused("tarpit")
        return self._hold(delay_s)

    def delay_s(self, refusals: int) -> float:
        """How long the last of so many refusals waits; 0: not at all."""
        return min(max(refusals - self._free, 0) * self._step_s, self._longest_s)

    async def _hold(self, delay_s: float) -> None:
        self.held += 1
        try:
            await asyncio.sleep(delay_s)
        finally:
            self.held -= 1
