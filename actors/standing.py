"""How every tenant of the cell stands: suspended or not, due to be deleted, what it may use, what it was warned of.

One stream for all of them, so that a node follows a single one and knows of a change at once (actors/standings.py).
It is written when an administrator, or a threshold that is crossed, changes something. Tenants that are active,
without limits, have no row here. Rows: s how it stands, q its quotas, w the highest threshold that was told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal, NamedTuple, assert_never

from actors.errors import NotAllowed
from actors.kind import Command, Fact
from eventlog.record import Stamp, stream_id
from eventlog.views import View

STANDING = stream_id("standing", "tenants")
MAX_REASON_CHARACTERS = 200
MOST_GRACE_MS = 366 * 86_400_000
DEFAULT_THRESHOLDS = (80, 90, 95, 100)
REARM_PERCENT = 5  # so far below a threshold usage must fall before its crossing is told again

Mail = Literal["defer", "refuse"]


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


class Standing(NamedTuple):
    """Of a tenant that is not simply active. `due_ms`: when it is deleted, 0 if it is not to be; then `deleted_ms`."""

    suspended: bool
    mail: Mail
    reason: str
    since_ms: int
    due_ms: int = 0
    deleted_ms: int = 0
    erased_at: int = 0  # the position of the last redaction that its end took; 0 while some of it is in the log

    @property
    def text(self) -> str:
        """For those whom it keeps out. The administrator's own reason is not for strangers."""
        return "the organisation is being deleted" if self.due_ms else "the organisation's service is suspended"


@dataclass(frozen=True, slots=True)
class SuspendTenant(Command):
    """Mail for it is put off (`defer`, 4xx: it is delivered after a resumption in time) or refused (5xx)."""

    tenant: bytes
    mail: Mail
    reason: str


@dataclass(frozen=True, slots=True)
class ResumeTenant(Command):
    tenant: bytes


@dataclass(frozen=True, slots=True)
class ScheduleDeletion(Command):
    tenant: bytes
    due_ms: int
    reason: str
    now_ms: int


@dataclass(frozen=True, slots=True)
class CancelDeletion(Command):
    """Until it has begun."""

    tenant: bytes


@dataclass(frozen=True, slots=True)
class FinishDeletion(Command):
    """All that it had is closed and its names are free; what the log holds of it is redacted from here on."""

    tenant: bytes


@dataclass(frozen=True, slots=True)
class FinishErasure(Command):
    """No record holds anything more of the tenant that a redaction can erase."""

    tenant: bytes
    position: int  # of the last redaction, or of the deletion where nothing was to be erased


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


StandingCommand = (
    SuspendTenant
    | ResumeTenant
    | ScheduleDeletion
    | CancelDeletion
    | FinishDeletion
    | FinishErasure
    | SetTenantQuotas
    | NoteQuotaLevel
)


@dataclass(frozen=True, slots=True)
class TenantSuspended(Fact):
    SINCE: ClassVar[int] = 3
    tenant: bytes
    mail: Mail
    reason: str


@dataclass(frozen=True, slots=True)
class TenantResumed(Fact):
    SINCE: ClassVar[int] = 3
    tenant: bytes


@dataclass(frozen=True, slots=True)
class TenantDeletionScheduled(Fact):
    SINCE: ClassVar[int] = 3
    tenant: bytes
    due_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class TenantDeletionCancelled(Fact):
    SINCE: ClassVar[int] = 3
    tenant: bytes


@dataclass(frozen=True, slots=True)
class TenantDeleted(Fact):
    SINCE: ClassVar[int] = 3
    tenant: bytes


@dataclass(frozen=True, slots=True)
class TenantErased(Fact):
    SINCE: ClassVar[int] = 3
    tenant: bytes
    position: int


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


StandingFact = (
    TenantSuspended
    | TenantResumed
    | TenantDeletionScheduled
    | TenantDeletionCancelled
    | TenantDeleted
    | TenantErased
    | TenantQuotasSet
    | QuotaLevelNoted
)


def tenant_of(view: View, command: StandingCommand) -> bytes:
    """Whose event it is: each is of one tenant."""
    return command.tenant


def decide(view: View, command: StandingCommand) -> tuple[StandingFact, ...]:
    """Raises NotAllowed."""
    if isinstance(command, SetTenantQuotas):
        return (_set_quotas(command),)
    if isinstance(command, NoteQuotaLevel):
        before = view.get(_level_key(command.tenant, command.account, command.quota)) or 0
        if before == command.percent:
            return ()  # another node was quicker
        values = (command.account, command.quota, command.percent, command.used, command.limit)
        return (QuotaLevelNoted(command.tenant, *values),)
    row = view.get(b"s" + command.tenant)
    found = Standing(*row) if row else None
    if isinstance(command, FinishErasure):
        if found is None or not found.deleted_ms:
            raise NotAllowed("the tenant is not deleted")
        return () if found.erased_at else (TenantErased(command.tenant, command.position),)
    if found is not None and found.deleted_ms:
        raise NotAllowed("the tenant is deleted")
    match command:
        case SuspendTenant(tenant, mail, reason):
            if found is not None and found.suspended and (found.mail, found.reason) == (mail, reason):
                raise NotAllowed("the tenant is suspended already")
            return (TenantSuspended(tenant, mail, _reason(reason)),)
        case ResumeTenant(tenant):
            if found is None or not found.suspended:
                raise NotAllowed("the tenant is not suspended")
            return (TenantResumed(tenant),)
        case ScheduleDeletion(tenant, due_ms, reason, now_ms):
            if due_ms > now_ms + MOST_GRACE_MS:
                raise NotAllowed("a grace time is at most 366 days")
            return (TenantDeletionScheduled(tenant, max(due_ms, 1), _reason(reason)),)
        case CancelDeletion(tenant):
            if found is None or not found.due_ms:
                raise NotAllowed("the tenant is not to be deleted")
            return (TenantDeletionCancelled(tenant),)
        case FinishDeletion(tenant):
            if found is None or not found.due_ms:
                raise NotAllowed("the tenant is not to be deleted")
            return (TenantDeleted(tenant),)
        case _:
            assert_never(command)


def _reason(text: str) -> str:
    if len(text) > MAX_REASON_CHARACTERS or not text.isprintable():
        raise NotAllowed(f"a reason has at most {MAX_REASON_CHARACTERS} printable characters")
    return text


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


def evolve(view: View, fact: StandingFact, stamp: Stamp) -> None:
    """Total. A tenant that is deleted stays so."""
    match fact:
        case TenantQuotasSet():
            _quotas_set(view, fact)
            return
        case QuotaLevelNoted():
            key = _level_key(fact.tenant, fact.account, fact.quota)
            if fact.percent:
                view.put(key, fact.percent)
            else:
                view.delete(key)
            return
    key = b"s" + fact.tenant
    row = view.get(key)
    found = Standing(*row) if row else Standing(False, "defer", "", stamp.at_ms)
    if isinstance(fact, TenantErased):
        view.put(key, tuple(found._replace(erased_at=fact.position)))
        return
    if found.deleted_ms:
        return
    match fact:
        case TenantSuspended():
            after = found._replace(suspended=True, mail=fact.mail, reason=fact.reason, since_ms=stamp.at_ms)
        case TenantResumed():
            after = found._replace(suspended=False, reason="")
        case TenantDeletionScheduled():
            after = found._replace(due_ms=fact.due_ms, reason=fact.reason, since_ms=stamp.at_ms)
        case TenantDeletionCancelled():
            after = found._replace(due_ms=0)
        case TenantDeleted():
            after = found._replace(deleted_ms=max(stamp.at_ms, 1))
            view.delete(b"q" + fact.tenant)
            for level, _ in list(view.range(b"w" + fact.tenant)):
                view.delete(level)
        case _:
            assert_never(fact)
    if after.suspended or after.due_ms:
        view.put(key, tuple(after))
    else:
        view.delete(key)


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


def standings(view: View) -> dict[bytes, Standing]:
    """Every tenant that is not simply active."""
    return {key[1:]: Standing(*row) for key, row in view.range(b"s")}


def standing(view: View, tenant: bytes) -> Standing | None:
    """None: it is active, or there is none."""
    row = view.peek(b"s" + tenant)
    return Standing(*row) if row else None


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
