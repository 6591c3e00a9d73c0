"""Warnings of quotas that fill up: once for each threshold that is crossed, as an event and a mail in one record.

The node that leads compares what is used with what may be, for what has changed since it last looked; a node that
begins to lead looks at everything once, so that a crossing is told even if whoever saw it died. A threshold counts as
told until usage has fallen well below it (actors/standing.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import TYPE_CHECKING, NamedTuple

from actors import standing, tenant, tenant_details, usage
from actors.directory import account_of
from actors.errors import CommandRefused, InvalidName, NoSuchAccount
from actors.kind import Command
from actors.mailbox import address_of, tenant_of
from actors.mailbox import usage as mailbox_usage
from actors.standing import STANDING, NoteQuotaLevel
from actors.tenant import POSTMASTER
from eventlog.record import new_id
from nodes.delivery.generated import context, prepare

if TYPE_CHECKING:
    from eventlog.log import Applied
    from eventlog.store import Snapshot
    from nodes.services import Services

AT_ONCE = 200  # mailboxes that are looked at before the event loop has its turn
TENANT = b""  # in place of an account
WHAT = {
    "storage_bytes": "storage",
    "messages": "messages",
    "accounts": "accounts",
    "aliases": "aliases",
    "groups": "groups",
    "domains": "domains",
    "sending_per_hour": "recipients an hour",
    "sending_per_day": "recipients a day",
}


class Crossing(NamedTuple):
    """Usage that has come to another threshold than was told. `account` TENANT: of the tenant as a whole."""

    tenant: bytes
    account: bytes
    quota: str
    told: int
    percent: int
    used: int
    limit: int


class QuotaWarnings:
    """Of one node; `begin` when it leads, `end` when it does not. Event loop only."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._streams: set[bytes] = set()  # mailboxes that have changed
        self._tenants: set[bytes] = set()
        self._forget: Callable[[], None] | None = None

    async def begin(self) -> None:
        """Follows what changes from now on, and takes everything for changed."""
        if self._forget is not None:
            return
        self._forget = self._services.log.subscribe(None, self._changed)
        with self._services.log.snapshot() as snapshot:
            entries = tenant.tenants(snapshot)
        for entry in entries:
            self._look_at_all_of(entry.id)
            await asyncio.sleep(0)

    def end(self) -> None:
        if self._forget is not None:
            self._forget()
        self._forget = None
        self._streams.clear()
        self._tenants.clear()

    def _changed(self, applied: list[Applied]) -> None:
        for one in applied:
            tenant, stream, type_, *_ = one.event
            if type_ in usage.COUNTED or type_ in ("QuotaSet", "TenantQuotasSet"):
                self._streams.add(stream)
                self._tenants.add(tenant)
            elif type_ == "TenantResumed":
                self._look_at_all_of(tenant)

    def _look_at_all_of(self, tenant_id: bytes) -> None:
        """Nothing was told while it was not served."""
        with self._services.log.snapshot() as snapshot:
            self._streams.update(key[1:] for key, _ in snapshot.view(tenant_id).range(b"a"))
        self._tenants.add(tenant_id)

    async def look(self, now_ms: int) -> None:
        """Tells of what was crossed. Raises LogError: what was not told is looked at again."""
        tenants, self._tenants = self._tenants, set()
        streams, self._streams = list(self._streams), set()
        try:
            for one in tenants:
                with self._services.log.snapshot() as snapshot:
                    crossings = list(_of_tenant(snapshot, one, now_ms))
                for crossing in crossings:
                    await self.tell(crossing)
            for at in range(0, len(streams), AT_ONCE):
                with self._services.log.snapshot() as snapshot:
                    crossings = [c for one in streams[at : at + AT_ONCE] for c in _of_account(snapshot, one)]
                for crossing in crossings:
                    await self.tell(crossing)
                await asyncio.sleep(0)
        except BaseException:
            self._tenants |= tenants
            self._streams |= set(streams)
            raise

    async def tell(self, crossing: Crossing) -> None:
        """Unless it is another cell's to tell, or nobody is served. Raises LogError."""
        runtime = self._services.runtime
        if runtime.homes.of(crossing.tenant) is not None or runtime.standings.of(crossing.tenant) is not None:
            return
        try:
            await self._tell(crossing)
        except CommandRefused as refusal:  # one that can not be told does not keep the others from it
            self._services.logger.warning("a quota's warning could not be sent", error=str(refusal))

    async def _tell(self, crossing: Crossing) -> None:
        """The event, and for a crossing upwards the mail; it goes to nobody where nobody can be given it."""
        steps: list[tuple[bytes, Command]] = []
        bodies = []
        if crossing.percent > crossing.told:
            for recipient in self._recipients(crossing):
                told = self._with_the_warning(crossing, recipient)
                prepared = prepare(self._services, "", [recipient], self._message(told, recipient), crossing.tenant)
                if prepared.steps:
                    crossing, steps, bodies = told, prepared.steps, prepared.bodies
                    break
        note = NoteQuotaLevel(
            crossing.tenant, crossing.account, crossing.quota, crossing.percent, crossing.used, crossing.limit
        )
        steps = [(STANDING, note), *steps]
        where = context(self._services, crossing.tenant, "quota warning")
        await self._services.runtime.transact(steps, where, bodies)

    def _with_the_warning(self, crossing: Crossing, recipient: str) -> Crossing:
        """As it will be when the warning is in a mailbox that counts: what it brings about itself is told with it."""
        with self._services.log.snapshot() as snapshot:
            try:
                target = account_of(snapshot, recipient)
            except (NoSuchAccount, InvalidName):
                return crossing
            percents = standing.thresholds(snapshot.view(STANDING), crossing.tenant)
        counts = target.account == crossing.account if crossing.account else target.tenant == crossing.tenant
        more = {"messages": 1, "storage_bytes": len(self._message(crossing, recipient))}.get(crossing.quota, 0)
        if not counts or not more:
            return crossing
        used = crossing.used + more
        percent = standing.level_after(crossing.percent, used, crossing.limit, percents)
        return crossing._replace(used=used, percent=percent)

    def _recipients(self, crossing: Crossing) -> Iterator[str]:
        """Whom it concerns; who comes next in place of somebody who can not be given it."""
        with self._services.log.snapshot() as snapshot:
            view = snapshot.view(crossing.tenant)
            account = tenant.account(view, crossing.account) if crossing.account != TENANT else None
            contact = tenant_details.details(view).contact
            domains = tenant.domains(view)
        found = [account.address if account is not None else "", contact]
        found += [f"{POSTMASTER}@{one.name}" for one in domains[:1]]
        return (one for one in found if one)

    def _message(self, crossing: Crossing, recipient: str) -> bytes:
        hostname = self._services.config.node.hostname
        with self._services.log.snapshot() as snapshot:
            view = snapshot.view(crossing.tenant)
            account = tenant.account(view, crossing.account) if crossing.account != TENANT else None
        whose = f"The mailbox {account.address}" if account is not None else "Your organisation"
        what = WHAT.get(crossing.quota, crossing.quota)
        message = EmailMessage(policy=SMTP)
        message["From"] = f"{POSTMASTER}@{recipient.rpartition('@')[2]}"
        message["To"] = recipient
        message["Subject"] = f"{whose} has reached {crossing.percent} % of its {what}"
        message["Date"] = format_datetime(datetime.now(UTC))
        message["Message-ID"] = f"<{new_id().hex()}@{hostname}>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834 5
        full = crossing.used >= crossing.limit
        message.set_content(
            f"{whose} uses {crossing.used} of {crossing.limit} ({what}).\n\n"
            + ("Nothing more is taken until there is room.\n" if full else "At 100 % nothing more is taken.\n")
        )
        return message.as_bytes()


def _of_tenant(snapshot: Snapshot, tenant_id: bytes, now_ms: int) -> Iterator[Crossing]:
    view = snapshot.view(STANDING)
    limits = standing.quotas(view, tenant_id)
    found = standing.standing(view, tenant_id)
    if not limits or (found is not None and found.deleted_ms):
        return
    sums = snapshot.view(usage.usage_stream(tenant_id))
    used, sent = usage.used(sums) or usage.Used(), usage.sent(sums, now_ms)
    numbers = {**used._asdict(), "storage_bytes": used.bytes}
    numbers |= {"sending_per_hour": sent.in_hour, "sending_per_day": sent.in_day}
    percents = standing.thresholds(view, tenant_id)
    for quota, limit in limits.items():
        if quota in numbers:
            yield from _crossing(snapshot, tenant_id, TENANT, quota, numbers[quota], limit, percents)


def _of_account(snapshot: Snapshot, stream: bytes) -> Iterator[Crossing]:
    view = snapshot.view(stream)
    used = mailbox_usage(view)
    if not used.is_limited or not address_of(view):
        return
    owner = tenant_of(view)
    percents = standing.thresholds(snapshot.view(STANDING), owner)
    for quota, number, limit in (
        ("storage_bytes", used.bytes, used.limit_bytes),
        ("messages", used.messages, used.limit_messages),
    ):
        if limit is not None:
            yield from _crossing(snapshot, owner, stream, quota, number, limit, percents)


def _crossing(
    snapshot: Snapshot, owner: bytes, account: bytes, quota: str, used: int, limit: int, percents: tuple[int, ...]
) -> Iterator[Crossing]:
    told = standing.told_level(snapshot.view(STANDING), owner, account, quota)
    percent = standing.level_after(told, used, limit, percents)
    if percent != told:
        yield Crossing(owner, account, quota, told, percent, used, limit)
