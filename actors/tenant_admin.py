"""Administration of tenants as a whole: what is said of them, their domains, whether they are served, and their end.

Each change is one record over the streams that it concerns. What the end of a tenant takes is in tenant_ending.py.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from actors import groups, standing, tenant, tenant_details, usage
from actors.addresses import account_of, address_holder, tenant_named
from actors.errors import NoSuchAccount, NoSuchGroup, NoSuchTenant
from actors.groups import AddGroup, ChangeMembers, RemoveGroup
from actors.kind import Command
from actors.mailbox import CloseMailbox
from actors.names import (
    ClaimName,
    ReleaseName,
    address_name,
    domain_name,
    name_stream,
    normalise_address,
    normalise_domain,
    normalise_tenant_name,
)
from actors.region import REGION, ChangeTenantName
from actors.runtime import Context
from actors.standing import (
    STANDING,
    CancelDeletion,
    Mail,
    ResumeTenant,
    ScheduleDeletion,
    SetTenantQuotas,
    SuspendTenant,
)
from actors.tenant_details import RemoveDomain, RenameTenant, SetDetails
from actors.usage import CountUsage, usage_stream
from eventlog.record import new_id
from eventlog.store import Snapshot

if TYPE_CHECKING:
    from actors.directory import Directory

Steps = list[tuple[bytes, Command]]


class TenantAdmin:
    """`directory` has the runtime and the log. Tenants are named; whoever calls has judged who asks."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    async def set_details(self, name: str, title: str | None, contact: str | None, context: Context) -> None:
        """None: as it is; "": none. Raises NoSuchTenant, InvalidName, NotAllowed."""
        found = self._tenant(name)
        address = normalise_address(contact) if contact else contact
        await self._transact([(found, SetDetails(title, address))], found, context)

    async def rename(self, name: str, new_name: str, context: Context) -> str:
        """Gives the new name. Raises NoSuchTenant, InvalidName, NameTaken."""
        found, new_name = self._tenant(name), normalise_tenant_name(new_name)
        old, new = "tenant:" + normalise_tenant_name(name), "tenant:" + new_name
        steps: Steps = [
            (name_stream(new), ClaimName(new, found, found, "tenant")),
            (name_stream(old), ReleaseName(old, found)),
            (REGION, ChangeTenantName(found, new_name)),
            (found, RenameTenant(new_name)),
        ]
        await self._transact(steps, found, context)
        return new_name

    async def remove_domain(self, name: str, domain: str, context: Context) -> None:
        """With its postmaster and what is in that mailbox. Raises NoSuchTenant, NoSuchDomain, NotAllowed."""
        found, domain = self._tenant(name), normalise_domain(domain)
        address = f"{tenant.POSTMASTER}@{domain}"
        with self._directory.event_log.snapshot() as snapshot:
            tenant_details.decide_removal(
                snapshot.view(found), RemoveDomain(domain, bytes(16))
            )  # before anything is closed
            postmaster = account_of(snapshot, address).account
        claims = ((address_name(address), postmaster), (domain_name(domain), found))
        steps: Steps = [(name_stream(claim), ReleaseName(claim, owner)) for claim, owner in claims]
        if self._directory.runtime.check(postmaster, CloseMailbox()) is None:
            steps.append((postmaster, CloseMailbox()))
        await self._transact([*steps, (found, RemoveDomain(domain, postmaster))], found, context)

    async def suspend(self, name: str, mail: Mail, reason: str, context: Context) -> None:
        """Raises NoSuchTenant, NotAllowed."""
        found = self._tenant(name)
        await self._transact([(STANDING, SuspendTenant(found, mail, reason))], found, context)

    async def resume(self, name: str, context: Context) -> None:
        """Raises NoSuchTenant, NotAllowed."""
        found = self._tenant(name)
        await self._transact([(STANDING, ResumeTenant(found))], found, context)

    async def delete(self, name: str, grace_ms: int, reason: str, context: Context) -> int:
        """Out of service at once, gone for good after the grace time; gives when. Raises NoSuchTenant, NotAllowed."""
        found, now_ms = self._tenant(name), time.time_ns() // 1_000_000
        due_ms = now_ms + grace_ms
        await self._transact([(STANDING, ScheduleDeletion(found, due_ms, reason, now_ms))], found, context)
        return due_ms

    async def undelete(self, name: str, context: Context) -> None:
        """Raises NoSuchTenant, NotAllowed."""
        found = self._tenant(name)
        await self._transact([(STANDING, CancelDeletion(found))], found, context)

    async def set_quotas(
        self,
        name: str,
        values: Mapping[str, int],
        reset: Sequence[str],
        thresholds: Sequence[int] | None,
        context: Context,
    ) -> None:
        """Raises NoSuchTenant, NotAllowed."""
        found = self._tenant(name)
        percents = None if thresholds is None else tuple(thresholds)
        change = SetTenantQuotas(found, tuple(sorted(values.items())), tuple(dict.fromkeys(reset)), percents)
        await self._transact([(usage_stream(found), CountUsage(found)), (STANDING, change)], found, context)

    # -- groups --------------------------------------------------------------------------------------------------------

    async def add_group(self, address: str, members: Sequence[str], context: Context) -> bytes:
        """Gives its id. Raises NoSuchDomain, NoSuchAccount, NameTaken, InvalidName, TooLarge."""
        address = normalise_address(address)
        found, group = self._directory.tenant_for(address), new_id()
        accounts = self._accounts(found, members)
        name = address_name(address)
        steps: Steps = [
            (name_stream(name), ClaimName(name, found, group, "group")),
            (found, AddGroup(group, address, accounts)),
        ]
        await self._transact(steps, found, context)
        return group

    async def remove_group(self, address: str, context: Context) -> None:
        """Raises NoSuchGroup."""
        with self._directory.event_log.snapshot() as snapshot:
            found, group = group_of(snapshot, address)
        name = address_name(group.address)
        steps: Steps = [(name_stream(name), ReleaseName(name, group.id)), (found, RemoveGroup(group.id))]
        await self._transact(steps, found, context)

    async def change_members(
        self, address: str, added: Sequence[str], removed: Sequence[str], context: Context
    ) -> None:
        """Raises NoSuchGroup, NoSuchAccount, NotAllowed, TooLarge."""
        with self._directory.event_log.snapshot() as snapshot:
            found, group = group_of(snapshot, address)
        change = ChangeMembers(group.id, self._accounts(found, added), self._accounts(found, removed))
        await self._transact([(found, change)], found, context)

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _accounts(self, tenant_id: bytes, addresses: Sequence[str]) -> tuple[bytes, ...]:
        """Their ids; somebody of another tenant is nobody. Raises NoSuchAccount, InvalidName."""
        with self._directory.event_log.snapshot() as snapshot:
            targets = [account_of(snapshot, one) for one in addresses]
        for target in targets:
            if target.tenant != tenant_id:
                raise NoSuchAccount(f"there is no account {target.address}")
        return tuple(dict.fromkeys(target.account for target in targets))

    def _tenant(self, name: str) -> bytes:
        with self._directory.event_log.snapshot() as snapshot:
            return tenant_named(snapshot, name)

    async def _transact(self, steps: Steps, tenant_id: bytes, context: Context) -> None:
        await self._directory.runtime.transact(steps, context._replace(tenant=tenant_id))


def group_of(snapshot: Snapshot, address: str) -> tuple[bytes, groups.Group]:
    """The tenant and the group of exactly this address. Raises NoSuchGroup, InvalidName."""
    address = normalise_address(address)
    held = address_holder(snapshot, address)
    found = groups.group(snapshot.view(held.tenant), held.owner) if held and held.purpose == "group" else None
    if held is None or found is None:
        raise NoSuchGroup(f"there is no group {address}")
    return held.tenant, found


def name_of(snapshot: Snapshot, tenant_id: bytes) -> str:
    """Raises NoSuchTenant."""
    row = snapshot.view(tenant_id).peek(tenant.TENANT_KEY)
    if row is None:
        raise NoSuchTenant("no such tenant")
    return str(row[0])


def usage_of(snapshot: Snapshot, tenant_id: bytes) -> usage.Used:
    """As it is counted; counted here and now where it is not kept yet."""
    found = usage.used(snapshot.view(usage_stream(tenant_id)))
    return found if found is not None else usage.count(snapshot.view, tenant_id)


def standing_of(snapshot: Snapshot, tenant_id: bytes) -> standing.Standing | None:
    return standing.standing(snapshot.view(STANDING), tenant_id)
