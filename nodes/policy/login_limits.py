"""How often accounts log in, how many sessions they have at a time, how much they transfer: of an account, of a tenant.

Log-ins are tokens that the nodes lease to each other (leases.py). Sessions are counted at each node, which tells the
others how many there are of whoever has such a limit, every second, and is forgotten when it says nothing any more;
so are octets (buckets.py). Those limits hold for the cell but for what happens within that second. Whoever goes beyond
hears which limit it is and when to come again, and the log and the metrics say it too.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import msgpack
import structlog

from nodes.config.policy import PolicySection
from nodes.failures import KEY_BYTES, key_of
from nodes.logins.security import Limited, is_loopback, network_of
from nodes.policy.buckets import Buckets
from nodes.policy.leases import Tokens
from nodes.policy.rates import ACCOUNT, CLIENT, TENANT, Due, bucket, gather
from nodes.policy.tenants import TenantPolicies
from nodes.tls.trust import Trust

if TYPE_CHECKING:
    from actors.directory import Target
    from nodes.metrics import Metrics
    from nodes.policy.sharing import Shared

LOGINS, SESSIONS, BYTES = "logins", "sessions", "bytes"
TOLD_AT_ONCE = 2000  # accounts and tenants whose sessions are told of in one message
SILENT_S = 5.0  # a node that says nothing for so long has no sessions
MOST_PAUSE_S = 10.0  # of a session that has transferred too much, before each answer
BLOCK_BYTES = 1024  # what a token of a bucket for bytes stands for

_log = structlog.get_logger("mailraft.policy")


class SessionCounts:
    """Sessions by key, here and at the other nodes. `changes` is told, `merge` hears it."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._own: Counter[bytes] = Counter()
        self._others: dict[str, tuple[float, dict[bytes, int]]] = {}
        self._told_some = False

    def add(self, key: bytes, change: int) -> None:
        """A session more, or one less, here."""
        self._own[key] += change
        if self._own[key] <= 0:
            del self._own[key]

    def count(self, key: bytes) -> int:
        """At all nodes that speak."""
        since_s = self._now_s() - SILENT_S
        return self._own[key] + sum(
            counts.get(key, 0) for heard_s, counts in self._others.values() if heard_s >= since_s
        )

    def changes(self) -> bytes | None:
        """All that there are; None for nothing, but for once, so that the others learn that they have ended."""
        told = list(self._own.items())[:TOLD_AT_ONCE]
        if not told and not self._told_some:
            return None
        self._told_some = bool(told)
        packed: bytes = msgpack.packb(told)
        return packed

    def merge(self, peer: str, data: bytes) -> None:
        """What another node tells. Raises ValueError for what is no such thing."""
        told = msgpack.unpackb(data, use_list=False, max_array_len=TOLD_AT_ONCE, max_bin_len=KEY_BYTES)
        if any(len(key) != KEY_BYTES or not 0 <= count < 1 << 31 for key, count in told):
            raise ValueError("not a count of sessions")
        self._others[peer] = (self._now_s(), dict(told))


class _Scope(NamedTuple):
    name: str
    id: bytes

    @property
    def key(self) -> bytes:
        return key_of(self.name, self.id.hex())


class LoginLimits:
    """Of one node, for all its front ends."""

    def __init__(
        self,
        policies: TenantPolicies,
        metrics: Metrics,
        leases: Tokens,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policies = policies
        self._metrics = metrics
        self.leases = leases
        self._exempt, self._of_client = Trust(()), 0
        self.sessions = SessionCounts(now_s)
        self.buckets = {(scope, what): Buckets(now_s) for scope in (ACCOUNT, TENANT) for what in (BYTES,)}

    @property
    def shared(self) -> dict[str, Shared]:
        """What the nodes tell each other, by topic."""
        buckets: dict[str, Shared] = {f"rate {scope} {what}": one for (scope, what), one in self.buckets.items()}
        return {**buckets, SESSIONS: self.sessions}

    def reload(self, config: PolicySection) -> None:
        """What clients may, from now on; what was taken stays taken."""
        self._exempt, self._of_client = Trust(config.exempt), config.client_logins_per_hour

    async def come(self, client: str) -> None:
        """A client tries to log in, whoever it is: takes the token for it. Raises Limited."""
        if not self._of_client or is_loopback(client) or self._exempt.covers(client):
            return
        due = (Due(self.leases, bucket(CLIENT, LOGINS, network_of(client)), self._of_client, CLIENT),)
        await gather(self.leases, due)
        wait_s = self.leases.wait_s(due[0].key, self._of_client)
        if wait_s > 0:
            self._metrics.policy_refused(f"{CLIENT} {LOGINS}")
            raise Limited(f"too many log-ins of this {CLIENT} for now, come again in {math.ceil(wait_s)} seconds")
        self.leases.take(due[0].key, self._of_client)

    async def admit(self, target: Target) -> None:
        """Whether the account may log in once more: takes the tokens for it. Raises Limited."""
        policy = self._policies.of(target.tenant)
        due: list[Due] = []
        for scope in _scopes(target):
            most = getattr(policy, f"{scope.name}_sessions")
            if most and self.sessions.count(scope.key) >= most:
                whose = "your account" if scope.name == ACCOUNT else "your organisation"
                raise self._limited(
                    scope.name, SESSIONS, f"{whose} has {most} sessions open, and may have no more", target
                )
            per_hour = getattr(policy, f"{scope.name}_logins_per_hour")
            if per_hour:
                due.append(Due(self.leases, bucket(scope.name, LOGINS, scope.id.hex()), per_hour, scope.name))
        await gather(self.leases, due)
        for one in due:
            wait_s = self.leases.wait_s(one.key, one.per_hour)
            if wait_s > 0:
                text = f"too many log-ins of this {one.scope} for now, come again in {math.ceil(wait_s)} seconds"
                raise self._limited(one.scope, LOGINS, text, target)
        for one in due:
            self.leases.take(one.key, one.per_hour)

    def enter(self, target: Target) -> Callable[[], None]:
        """A session counts from here on; gives what ends that, once."""
        policy = self._policies.of(target.tenant)
        keys = [scope.key for scope in _scopes(target) if getattr(policy, f"{scope.name}_sessions")]
        for key in keys:
            self.sessions.add(key, 1)

        def leave() -> None:
            for key in keys:
                self.sessions.add(key, -1)
            keys.clear()

        return leave

    def transferred(self, target: Target, size_bytes: int) -> float:
        """So many bytes went to a client of the account: gives for how many seconds it is to wait, 0: not at all."""
        policy, wait_s, slowed = self._policies.of(target.tenant), 0.0, ""
        for scope in _scopes(target):
            blocks_per_hour = getattr(policy, f"{scope.name}_bytes_per_hour") // BLOCK_BYTES
            if blocks_per_hour:
                buckets = self.buckets[scope.name, BYTES]
                buckets.take(scope.key, blocks_per_hour, -(-size_bytes // BLOCK_BYTES))
                if (own_s := buckets.wait_s(scope.key, blocks_per_hour)) > wait_s:
                    wait_s, slowed = own_s, scope.name
        if slowed:
            self._metrics.policy_refused(f"{slowed} {BYTES}")
        return min(wait_s, MOST_PAUSE_S)

    def _limited(self, scope: str, what: str, text: str, target: Target) -> Limited:
        self._metrics.policy_refused(f"{scope} {what}")
        told = {"limit": f"{scope}_{what}", "account": target.address}
        _log.warning("a log-in was refused by a limit", code="login_limited", **told)
        return Limited(text)


def _scopes(target: Target) -> Iterator[_Scope]:
    yield _Scope(ACCOUNT, target.account)
    yield _Scope(TENANT, target.tenant)
