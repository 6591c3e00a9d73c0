"""The end of a tenant whose grace time has passed: everything of its closed, its names free, the log redacted.

Done by the node that leads, in small steps that each leave things whole; whoever leads after it goes on where the
tables say that it stopped. The mailboxes go first, the tenant's own entry last, then what the log holds of it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from actors import acme, certificates, dkim, groups, tenant, tenant_admin
from actors.acme import ACME, Release
from actors.api_tokens import RevokeApiToken, api_tokens
from actors.certificates import CERTIFICATES, DistrustClients, RemoveCertificate
from actors.custody import CUSTODY, Redact
from actors.dkim import DeleteKey, dkim_stream
from actors.groups import RemoveGroup
from actors.kind import Command
from actors.mailbox import CloseMailbox, is_open
from actors.names import ReleaseName, address_name, domain_name, holder, name_stream
from actors.queue import RemoveItem, items_after, queue_stream, queues
from actors.region import REGION, UnregisterTenant
from actors.roles import RevokeRole, roles
from actors.runtime import Context
from actors.sharing import public_stream
from actors.standing import STANDING, FinishDeletion, FinishErasure
from actors.tenant import DeleteAccount, DeleteAlias
from actors.tenant_details import CloseTenant, RemoveDomain
from eventlog.errors import LogError
from nodes import jobs
from nodes.delivery.generated import context
from nodes.redaction import Plan, unpacked

if TYPE_CHECKING:
    from nodes.services import Services

AT_ONCE = 50  # accounts, aliases, items in one record
REDACTED_AT_ONCE = 1000  # events and bodies
REASON = "the tenant was deleted and its grace time has passed"

T = TypeVar("T")
Step = tuple[bytes, Command]


class EndingFailed(LogError):
    """The log could not be read for what is to be erased; it is tried again."""

    code = "tenant_not_deleted"


class Ending:
    """Of one tenant."""

    def __init__(self, services: Services, tenant_id: bytes) -> None:
        self._services = services
        self._tenant = tenant_id

    async def close(self) -> None:
        """Everything of it that is in tables. Raises CommandRefused, LogError; then it may be called again."""
        await self._close_accounts()
        public = public_stream(self._tenant)
        if self._is_open(public):
            await self._ask(public, CloseMailbox())
        await self._close_names()
        await self._close_queues()
        await self._close_certificates()
        await self._close_domains()
        with self._services.log.snapshot() as snapshot:
            name = "tenant:" + tenant_admin.name_of(snapshot, self._tenant)
        steps: list[Step] = [*self._release(name, self._tenant), (REGION, UnregisterTenant(self._tenant))]
        await self._transact([*steps, (self._tenant, CloseTenant()), (STANDING, FinishDeletion(self._tenant))])

    async def erase(self) -> int:
        """What the log holds of it; gives the position of the last redaction. Raises CommandRefused, LogError."""
        position = 0
        while (plan := await self._plan()) is not None:
            parts = [
                *(Redact(events, (), REASON) for events in _slices(plan.events, REDACTED_AT_ONCE)),
                *(Redact((), bodies, REASON) for bodies in _slices(plan.bodies, REDACTED_AT_ONCE)),
            ]
            for part in parts:
                done = await self._services.runtime.transact([(CUSTODY, part)], self._context())
                position = done.position
        with self._services.log.snapshot() as snapshot:
            position = position or snapshot.position
        await self._ask(STANDING, FinishErasure(self._tenant, position))
        return position

    # -- parts ---------------------------------------------------------------------------------------------------------

    async def _close_accounts(self) -> None:
        with self._services.log.snapshot() as snapshot:
            accounts = tenant.accounts(snapshot.view(self._tenant))
        for some in _slices(accounts, AT_ONCE):
            steps: list[Step] = []
            for one in some:
                if self._is_open(one.id):
                    await self._ask(one.id, CloseMailbox())
                steps += self._release(address_name(one.address), one.id)
                steps.append((self._tenant, DeleteAccount(one.id, with_domain=True)))
            await self._transact(steps)

    async def _close_names(self) -> None:
        with self._services.log.snapshot() as snapshot:
            view = snapshot.view(self._tenant)
            found: list[tuple[str, bytes, Command]] = [
                *((one.address, one.id, DeleteAlias(one.id)) for one in tenant.aliases(view)),
                *((one.address, one.id, RemoveGroup(one.id)) for one in groups.groups(view)),
            ]
        for some in _slices(found, AT_ONCE):
            steps: list[Step] = []
            for address, owner, command in some:
                steps += [*self._release(address_name(address), owner), (self._tenant, command)]
            await self._transact(steps)

    async def _close_queues(self) -> None:
        with self._services.log.snapshot() as snapshot:
            names = queues(snapshot)
        for name in names:
            stream = queue_stream(name)
            with self._services.log.snapshot() as snapshot:
                mine = [one.id for one in items_after(snapshot.view(stream)) if one.tenant == self._tenant]
            for some in _slices(mine, AT_ONCE):
                await self._transact([(stream, RemoveItem(one, force=True)) for one in some])

    async def _close_certificates(self) -> None:
        """And what its accounts may in the whole cell."""
        with self._services.log.snapshot() as snapshot:
            mine, region_view = self._tenant, snapshot.view(REGION)
            kept = [one.id for one in acme.managed(snapshot.view(ACME)) if one.tenant == mine]
            view = snapshot.view(CERTIFICATES)
            shown = [one.fingerprint for one in certificates.all_certificates(view) if one.tenant == mine]
            trusted = [one.name for one in certificates.client_authorities(view, mine)]
            holders = {one.holder for one in roles(region_view) if one.tenant == mine}
            tokens = [one.id for one in api_tokens(region_view) if one.account in holders]
        steps: list[Step] = [
            *((ACME, Release(one)) for one in kept),  # first, or it would order another certificate
            *((CERTIFICATES, RemoveCertificate(one)) for one in shown),
            *((CERTIFICATES, DistrustClients(mine, one)) for one in trusted),
            *((REGION, RevokeApiToken(one)) for one in tokens),
            *((REGION, RevokeRole(one)) for one in sorted(holders)),
        ]
        for some in _slices(steps, AT_ONCE):
            await self._transact(list(some))

    async def _close_domains(self) -> None:
        with self._services.log.snapshot() as snapshot:
            domains = [one.name for one in tenant.domains(snapshot.view(self._tenant))]
        for domain in domains:
            stream = dkim_stream(domain)
            with self._services.log.snapshot() as snapshot:
                keys = dkim.all_keys(snapshot.view(stream))
            for key in keys:
                await self._ask(stream, DeleteKey(key.selector, True))
            released = self._release(domain_name(domain), self._tenant)
            await self._transact([*released, (self._tenant, RemoveDomain(domain, b""))])

    def _release(self, name: str, owner: bytes) -> list[Step]:
        with self._services.log.snapshot() as snapshot:
            held = holder(snapshot.view(name_stream(name)))
        return [(name_stream(name), ReleaseName(name, owner))] if held is not None and held.owner == owner else []

    def _is_open(self, stream: bytes) -> bool:
        with self._services.log.snapshot() as snapshot:
            return is_open(snapshot.view(stream))

    async def _plan(self) -> Plan | None:
        wanted, result = json.dumps({"tenant": self._tenant.hex()}), {}
        path = self._services.config.node.data_dir
        async with contextlib.aclosing(jobs.run("redaction", path, wanted)) as lines:
            async for line in lines:
                result = json.loads(line)
        found = result.get("result")
        if found is None:
            raise EndingFailed(str(result.get("error", "the log could not be read")))
        return None if "nothing" in found else unpacked(bytes.fromhex(found["plan"]))

    def _context(self) -> Context:
        return context(self._services, self._tenant, "tenant deleted")

    async def _ask(self, stream: bytes, command: Command) -> None:
        await self._services.runtime.ask(stream, command, self._context())

    async def _transact(self, steps: list[Step]) -> None:
        if steps:
            await self._services.runtime.transact(steps, self._context())


def _slices(things: Sequence[T], count: int) -> Iterator[tuple[T, ...]]:
    return (tuple(things[at : at + count]) for at in range(0, len(things), count))
