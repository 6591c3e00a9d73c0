"""How every tenant of the cell stands: suspended or not, due to be deleted, what it may use, what it was warned of.

One stream for all of them, so that a node follows a single one and knows of a change at once (actors/standings.py).
It is written when an administrator, or a threshold that is crossed, changes something. Tenants that are active,
without limits, have no row here. What one may use is in `standing_quotas`, importable from here. Row: s how it stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, assert_never

from actors import standing_quotas
from actors.errors import NotAllowed
from actors.kind import Command, Fact
from actors.standing_quotas import (
    DEFAULT_THRESHOLDS,
    QUOTAS,
    REARM_PERCENT,
    NoteQuotaLevel,
    Quota,
    QuotaCommand,
    QuotaFact,
    QuotaLevelNoted,
    SetTenantQuotas,
    TenantQuotasSet,
    all_quotas,
    check_quota,
    check_thresholds,
    level_after,
    quotas,
    thresholds,
    told_level,
)
from eventlog.record import Stamp, stream_id
from eventlog.views import View

STANDING = stream_id("standing", "tenants")
MAX_REASON_CHARACTERS = 200
MOST_GRACE_MS = 366 * 86_400_000

Mail = Literal["defer", "refuse"]


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


_ServiceCommand = SuspendTenant | ResumeTenant | ScheduleDeletion | CancelDeletion | FinishDeletion
StandingCommand = _ServiceCommand | FinishErasure | QuotaCommand


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


_ServiceFact = TenantSuspended | TenantResumed | TenantDeletionScheduled | TenantDeletionCancelled | TenantDeleted
StandingFact = _ServiceFact | TenantErased | QuotaFact


def tenant_of(view: View, command: StandingCommand) -> bytes:
    """Whose event it is: each is of one tenant."""
    return command.tenant


def decide(view: View, command: StandingCommand) -> tuple[StandingFact, ...]:
    """Raises NotAllowed."""
    if isinstance(command, SetTenantQuotas | NoteQuotaLevel):
        return standing_quotas.decide(view, command)
    row = view.get(b"s" + command.tenant)
    found = Standing(*row) if row else None
    if isinstance(command, FinishErasure):
        if found is None or not found.deleted_ms:
            raise NotAllowed("the tenant is not deleted")
        return () if found.erased_at else (TenantErased(command.tenant, command.position),)
    if found is not None and found.deleted_ms:
        raise NotAllowed("the tenant is deleted")
    return (_change(found, command),)


def _change(found: Standing | None, command: _ServiceCommand) -> _ServiceFact:
    match command:
        case SuspendTenant(tenant, mail, reason):
            if found is not None and found.suspended and (found.mail, found.reason) == (mail, reason):
                raise NotAllowed("the tenant is suspended already")
            return TenantSuspended(tenant, mail, _reason(reason))
        case ResumeTenant(tenant):
            if found is None or not found.suspended:
                raise NotAllowed("the tenant is not suspended")
            return TenantResumed(tenant)
        case ScheduleDeletion(tenant, due_ms, reason, now_ms):
            if due_ms > now_ms + MOST_GRACE_MS:
                raise NotAllowed("a grace time is at most 366 days")
            return TenantDeletionScheduled(tenant, max(due_ms, 1), _reason(reason))
        case CancelDeletion(tenant):
            if found is None or not found.due_ms:
                raise NotAllowed("the tenant is not to be deleted")
            return TenantDeletionCancelled(tenant)
        case FinishDeletion(tenant):
            if found is None or not found.due_ms:
                raise NotAllowed("the tenant is not to be deleted")
            return TenantDeleted(tenant)
        case _:
            assert_never(command)


def _reason(text: str) -> str:
    if len(text) > MAX_REASON_CHARACTERS or not text.isprintable():
        raise NotAllowed(f"a reason has at most {MAX_REASON_CHARACTERS} printable characters")
    return text


def evolve(view: View, fact: StandingFact, stamp: Stamp) -> None:
    """Total. A tenant that is deleted stays so."""
    if isinstance(fact, TenantQuotasSet | QuotaLevelNoted):
        standing_quotas.evolve(view, fact)
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
            standing_quotas.forget(view, fact.tenant)
        case _:
            assert_never(fact)
    if after.suspended or after.due_ms:
        view.put(key, tuple(after))
    else:
        view.delete(key)


def standings(view: View) -> dict[bytes, Standing]:
    """Every tenant that is not simply active."""
    return {key[1:]: Standing(*row) for key, row in view.range(b"s")}


def standing(view: View, tenant: bytes) -> Standing | None:
    """None: it is active, or there is none."""
    row = view.peek(b"s" + tenant)
    return Standing(*row) if row else None


__all__ = [
    "DEFAULT_THRESHOLDS",
    "MAX_REASON_CHARACTERS",
    "MOST_GRACE_MS",
    "QUOTAS",
    "REARM_PERCENT",
    "STANDING",
    "CancelDeletion",
    "FinishDeletion",
    "FinishErasure",
    "Mail",
    "NoteQuotaLevel",
    "Quota",
    "QuotaLevelNoted",
    "ResumeTenant",
    "ScheduleDeletion",
    "SetTenantQuotas",
    "Standing",
    "StandingCommand",
    "StandingFact",
    "SuspendTenant",
    "TenantDeleted",
    "TenantDeletionCancelled",
    "TenantDeletionScheduled",
    "TenantErased",
    "TenantQuotasSet",
    "TenantResumed",
    "TenantSuspended",
    "all_quotas",
    "check_quota",
    "check_thresholds",
    "decide",
    "evolve",
    "level_after",
    "quotas",
    "standing",
    "standings",
    "tenant_of",
    "thresholds",
    "told_level",
]
