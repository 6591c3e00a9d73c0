"""What a tenant may use, and which thresholds of it were told: a part of the stream of standings (actors/standing.py).

A quota is a name of the catalogue below and a whole number; one that is not set has no limit. Rows: q a tenant's quotas
and thresholds, w the highest threshold that was told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, NamedTuple, assert_never

from actors.errors import NotAllowed
from actors.kind import Command, Fact
from eventlog.views import View

DEFAULT_THRESHOLDS = (80, 90, 95, 100)
REARM_PERCENT = 5  # so far below a threshold usage must fall before its crossing is told again


class Quota(NamedTuple):
    """What a quota of a tenant limits."""

    text: str
    most: int = 2**53


QUOTAS: dict[str, Quota] = {
    "storage_bytes": Quota("octets of all mailboxes together"),
    "messages": Quota("messages in all mailboxes together"),
    "accounts": Quota("accounts, postmasters among them"),
    "aliases": Quota("aliases"),
    "groups": Quota("groups"),
    "domains": Quota("domains"),
    "sending_per_hour": Quota("recipients of mail that its accounts submit in one hour, by the clock in UTC"),
    "sending_per_day": Quota("the same in one day"),
    "account_sending_per_hour": Quota("recipients of mail that one account submits in one hour"),
    "account_sending_per_day": Quota("the same in one day"),
}


@dataclass(frozen=True, slots=True)
class SetTenantQuotas(Command):
    """Quotas and thresholds by name; `reset`: there is no such limit any more."""

    tenant: bytes
    values: tuple[tuple[str, int], ...] = ()
    reset: tuple[str, ...] = ()
    thresholds: tuple[int, ...] | None = None  # None: they stay; (): the usual ones


@dataclass(frozen=True, slots=True)
class NoteQuotaLevel(Command):
    """Usage has crossed a threshold, upwards or (0, or the one below) downwards. `account` b"": the tenant itself."""

    tenant: bytes
    account: bytes
    quota: str
    percent: int
    used: int
    limit: int


QuotaCommand = SetTenantQuotas | NoteQuotaLevel


@dataclass(frozen=True, slots=True)
class TenantQuotasSet(Fact):
    SINCE: ClassVar[int] = 3
    tenant: bytes
    values: tuple[tuple[str, int], ...]
    reset: tuple[str, ...]
    thresholds: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class QuotaLevelNoted(Fact):
    SINCE: ClassVar[int] = 3
    tenant: bytes
    account: bytes
    quota: str
    percent: int
    used: int
    limit: int


QuotaFact = TenantQuotasSet | QuotaLevelNoted


def decide(view: View, command: QuotaCommand) -> tuple[QuotaFact, ...]:
    """Raises NotAllowed."""
    match command:
        case SetTenantQuotas():
            return (_set_quotas(command),)
        case NoteQuotaLevel():
            return _note_level(view, command)
        case _:
            assert_never(command)


def _note_level(view: View, command: NoteQuotaLevel) -> tuple[QuotaLevelNoted, ...]:
    before = view.get(_level_key(command.tenant, command.account, command.quota)) or 0
    if before == command.percent:
        return ()  # another node was quicker
    values = (command.account, command.quota, command.percent, command.used, command.limit)
    return (QuotaLevelNoted(command.tenant, *values),)


def _set_quotas(command: SetTenantQuotas) -> TenantQuotasSet:
    for name, value in command.values:
        check_quota(name, value)
    unknown = [name for name in command.reset if name not in QUOTAS]
    if unknown:
        raise NotAllowed(f"{unknown[0]}: there is no such quota")
    check_thresholds(command.thresholds or ())
    if not command.values and not command.reset and command.thresholds is None:
        raise NotAllowed("nothing is to be changed")
    return TenantQuotasSet(command.tenant, command.values, command.reset, command.thresholds)


def check_quota(name: str, value: int) -> None:
    """Raises NotAllowed, saying what the quota may be."""
    quota = QUOTAS.get(name)
    if quota is None:
        raise NotAllowed(f"{name}: there is no such quota")
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= quota.most:
        raise NotAllowed(f"{name}: a whole number from 0 to {quota.most}")


def check_thresholds(percents: tuple[int, ...]) -> None:
    """Raises NotAllowed."""
    rising = all(low < high for low, high in pairwise(percents))
    if len(percents) > 10 or not rising or not all(1 <= one <= 100 for one in percents):
        raise NotAllowed("thresholds are at most ten percentages from 1 to 100, each above the one before")


def evolve(view: View, fact: QuotaFact) -> None:
    """Total."""
    match fact:
        case TenantQuotasSet():
            _quotas_set(view, fact)
        case QuotaLevelNoted():
            key = _level_key(fact.tenant, fact.account, fact.quota)
            if fact.percent:
                view.put(key, fact.percent)
            else:
                view.delete(key)
        case _:
            assert_never(fact)


def _quotas_set(view: View, fact: TenantQuotasSet) -> None:
    key = b"q" + fact.tenant
    row = view.get(key) or ((), ())
    values = dict(row[0])
    values.update(fact.values)
    for name in fact.reset:
        values.pop(name, None)
    thresholds = row[1] if fact.thresholds is None else fact.thresholds
    if values or thresholds:
        view.put(key, (tuple(sorted(values.items())), tuple(thresholds)))
    else:
        view.delete(key)


def forget(view: View, tenant: bytes) -> None:
    """The tenant is deleted: nothing of this is left."""
    view.delete(b"q" + tenant)
    for level, _ in list(view.range(b"w" + tenant)):
        view.delete(level)


def quotas(view: View, tenant: bytes) -> Mapping[str, int]:
    """What it may use; a quota that is missing has no limit."""
    row = view.peek(b"q" + tenant)
    return dict(row[0]) if row else {}


def all_quotas(view: View) -> dict[bytes, Mapping[str, int]]:
    return {key[1:]: dict(row[0]) for key, row in view.range(b"q")}


def thresholds(view: View, tenant: bytes) -> tuple[int, ...]:
    """The percentages of a quota at which a warning is sent, rising."""
    row = view.peek(b"q" + tenant)
    found: tuple[int, ...] = row[1] if row and row[1] else DEFAULT_THRESHOLDS
    return found


def told_level(view: View, tenant: bytes, account: bytes, quota: str) -> int:
    """The highest threshold that was told, 0 for none."""
    found: int = view.peek(_level_key(tenant, account, quota)) or 0
    return found


def level_after(told: int, used: int, limit: int, percents: tuple[int, ...]) -> int:
    """The threshold that counts as told at this usage: up at once, down when usage is REARM_PERCENT below it."""
    percent = used * 100 / limit if limit else (100.0 if used else 0.0)
    reached = max((one for one in percents if percent >= one), default=0)
    if reached >= told or percent < told - REARM_PERCENT:
        return reached
    return told


def _level_key(tenant: bytes, account: bytes, quota: str) -> bytes:
    return b"w" + tenant + account + quota.encode()
