"""How tenants stand and what they may use, asked for every command: in memory, read again when it changes.

A node knows of a change as soon as it has folded it. `require_active` keeps a suspended tenant from acting and from
being delivered to, whatever front end it is; `require_room` keeps a tenant within its quotas.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from actors import standing, usage
from actors.errors import OverTenantQuota, TenantInactive
from actors.groups import GroupAdded
from actors.kind import Command, Fact
from actors.mailbox_rows import message
from actors.mailbox_terms import Deliver, MessageAppended, MessageDelivered, MessagesCopied
from actors.queue import MailQueued
from actors.standing import STANDING, Standing
from actors.tenant import AccountAdded, AliasAdded, DomainAdded
from eventlog.log import EventLog
from eventlog.record import By, Guard
from eventlog.store import Snapshot

FREE_SHARE = 10  # a decision stands on the sum that it saw once less than this part of the quota is left
FREE_BYTES, FREE_MESSAGES, FREE_SENDING = 64 * 1024 * 1024, 1000, 1000  # or less than this

Watcher = Callable[[frozenset[bytes]], None]
Growth = Mapping[str, int]

TEXTS = {
    "storage_bytes": "the organisation's storage is full",
    "messages": "the organisation has as many messages as it may",
    "accounts": "the tenant has as many accounts as it may",
    "aliases": "the tenant has as many aliases as it may",
    "groups": "the tenant has as many groups as it may",
    "domains": "the tenant has as many domains as it may",
    "sending_per_hour": "the organisation has sent as much as it may in one hour",
    "sending_per_day": "the organisation has sent as much as it may in one day",
    "account_sending_per_hour": "you have sent as much as you may in one hour",
    "account_sending_per_day": "you have sent as much as you may in one day",
}
SENDING = ("sending_per_hour", "sending_per_day", "account_sending_per_hour", "account_sending_per_day")
_HELD = ("storage_bytes", "messages")
_ADDS: dict[type[Fact], str] = {
    AccountAdded: "accounts",
    AliasAdded: "aliases",
    DomainAdded: "domains",
    GroupAdded: "groups",
}


class _Sum(NamedTuple):
    """What a quota counts now, and the row that says so."""

    used: int
    key: bytes


class Standings:
    """Event loop only."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._standings: dict[bytes, Standing] = {}
        self._quotas: dict[bytes, Mapping[str, int]] = {}
        self._watchers: list[Watcher] = []
        log.subscribe(STANDING, self._changed)
        self._changed([])

    def of(self, tenant: bytes) -> Standing | None:
        """None: it is active."""
        return self._standings.get(tenant)

    def quotas(self, tenant: bytes) -> Mapping[str, int]:
        """What it may use; empty where nothing is limited."""
        return self._quotas.get(tenant, {})

    @property
    def has_quotas(self) -> bool:
        """Whether anything is limited for any tenant."""
        return bool(self._quotas)

    def watch(self, watcher: Watcher) -> None:
        """Has the tenants that are not active told, each time that anything changed."""
        self._watchers.append(watcher)

    def _changed(self, _: list[Any]) -> None:
        with self._log.snapshot() as snapshot:
            view = snapshot.view(STANDING)
            self._standings, self._quotas = standing.standings(view), standing.all_quotas(view)
        inactive = frozenset(self._standings)
        for watcher in self._watchers:
            watcher(inactive)

    def require_active(self, tenant: bytes, command: Command, by: By) -> None:
        """Raises TenantInactive. Administrators and nodes may go on; no mail is delivered for anybody."""
        found = self._standings.get(tenant)
        acts = by.kind in ("account", "client") or (isinstance(command, Deliver) and by.kind != "admin")
        if found is not None and acts:
            raise inactive(found)

    def require_room(
        self, snapshot: Snapshot, facts: Iterable[tuple[bytes, bytes, Fact]], by: By, at_ms: int
    ) -> list[Guard]:
        """Of tenant, stream and fact of all that a record says: what it must stand on. Raises OverTenantQuota."""
        if not self._quotas:
            return []
        grown: defaultdict[bytes, Counter[str]] = defaultdict(Counter)
        for tenant, stream, fact in facts:
            if tenant in self._quotas:
                _add_growth(grown[tenant], snapshot, stream, fact, by)
        guards: list[Guard] = []
        for tenant, growth in grown.items():
            if +growth:
                guards += self._room(snapshot, tenant, growth, by, at_ms)
        return guards

    def _room(self, snapshot: Snapshot, tenant: bytes, growth: Growth, by: By, at_ms: int) -> list[Guard]:
        limits = self._quotas[tenant]
        view = snapshot.view(usage.usage_stream(tenant))
        keys: dict[bytes, None] = {}
        for quota, more in growth.items():
            limit = limits.get(quota)
            if limit is None or more <= 0:
                continue
            found = _sum_of(view, quota, at_ms, by)
            if found.used + more > limit:
                raise OverTenantQuota(quota, TEXTS[quota])
            if limit - found.used - more < _free(quota, limit):
                keys[found.key] = None
        return [Guard(view.stream, key, view.version(key)) for key in keys]

    def check(self, snapshot: Snapshot, tenant: bytes, growth: Growth, by: By, at_ms: int) -> None:
        """Whether there is room now; nothing is kept free by that. Raises OverTenantQuota."""
        if tenant in self._quotas:
            self._room(snapshot, tenant, growth, by, at_ms)


def inactive(found: Standing) -> TenantInactive:
    return TenantInactive(found.text, refuse=bool(found.due_ms) or found.mail == "refuse")


def _free(quota: str, limit: int) -> int:
    match quota:
        case "storage_bytes":
            return max(limit // FREE_SHARE, FREE_BYTES)
        case "messages":
            return max(limit // FREE_SHARE, FREE_MESSAGES)
        case "accounts" | "aliases" | "groups" | "domains":
            return limit + 1  # always: they are few, and one over is one too many
        case _:
            return max(limit // FREE_SHARE, FREE_SENDING)


def _sum_of(view: Any, quota: str, at_ms: int, by: By) -> _Sum:
    if quota.startswith("account_sending"):
        sent = usage.sent(view, at_ms, by.id)
        return _Sum(sent.in_hour if quota.endswith("hour") else sent.in_day, b"s" + by.id)
    if quota.startswith("sending"):
        sent = usage.sent(view, at_ms)
        return _Sum(sent.in_hour if quota.endswith("hour") else sent.in_day, usage.SENT_KEY)
    found = usage.used(view) or usage.Used()
    number = found.bytes if quota == "storage_bytes" else getattr(found, quota)
    return _Sum(number, usage.HELD_KEY if quota in _HELD else usage.NAMES_KEY)


def _add_growth(growth: Counter[str], snapshot: Snapshot, stream: bytes, fact: Fact, by: By) -> None:
    match fact:
        case MessageDelivered(protocol="generated"):
            pass  # what the system itself writes, a warning among it, is counted and never refused by this
        case MessageDelivered() | MessageAppended():
            growth["storage_bytes"] += fact.size
            growth["messages"] += 1
            if isinstance(fact, MessageDelivered) and fact.protocol in usage.SUBMITTED:
                _send(growth, 1)
        case MessagesCopied():
            view = snapshot.view(stream)
            found = [one for uid in fact.uids if (one := message(view, fact.folder_id, uid))]
            growth["storage_bytes"] += sum(one.size for one in found)
            growth["messages"] += len(found)
        case MailQueued():
            if by.kind == "account":
                _send(growth, len(fact.recipients))
        case _:
            quota = _ADDS.get(type(fact))
            if quota is not None:
                growth[quota] += 1


def _send(growth: Counter[str], recipients: int) -> None:
    for quota in SENDING:
        growth[quota] += recipients
