"""DKIM keys as an administrator, or the clock, handles them: make, look for them in DNS, let them take over, delete.

A new pair is `pending` until its record is seen in DNS, so that nothing is ever signed with a key that nobody can look
up; an old one is deleted once what it signed has arrived (its overlap).
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from actors import dkim, tenant
from actors.directory import domain_tenant
from actors.dkim import ActivateKeys, AddKeys, Algorithm, DeleteKey, Key, Schedule, ScheduleRotation, dkim_stream
from actors.errors import CommandRefused, NoSuchDomain, NotAllowed
from actors.names import normalise_domain
from actors.runtime import Context
from eventlog.errors import OutcomeUnknown, Rejected
from eventlog.record import By
from nodes import dkim_keys
from nodes.resolver import NoAnswer, ResolverError
from nodes.resolver import NoSuchDomain as NoSuchName
from nodes.services import Services

FIRST_LOOK_S = 5.0
LOOK_S = 60.0
RSA_BITS = 2048


class Published(NamedTuple):
    """What DNS says of a key: `problem` is empty where its record is right."""

    key: Key
    problem: str


class DkimAdmin:
    """What can be done to the keys of the domains of this cell."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def keys(self, domain: str) -> list[Key]:
        """The domain's keys, oldest first."""
        with self._services.log.snapshot() as snapshot:
            return dkim.all_keys(snapshot.view(dkim_stream(domain)))

    def schedule(self, domain: str) -> Schedule | None:
        with self._services.log.snapshot() as snapshot:
            return dkim.schedule(snapshot.view(dkim_stream(domain)))

    def domains(self) -> Iterator[str]:
        """Every domain of the cell, by tenant."""
        with self._services.log.snapshot() as snapshot:
            entries = [tenant.domains(snapshot.view(entry.id)) for entry in tenant.tenants(snapshot)]
        return (one.name for domains in entries for one in domains)

    def require(self, domain: str) -> tuple[str, bytes]:
        """The normalised domain and its tenant. Raises InvalidName, NoSuchDomain."""
        domain = normalise_domain(domain)
        with self._services.log.snapshot() as snapshot:
            owner = domain_tenant(snapshot, domain)
        if owner is None:
            raise NoSuchDomain(f"{domain} is not one of our domains")
        return domain, owner

    async def generate(
        self,
        domain: str,
        context: Context,
        *,
        algorithms: Sequence[Algorithm] = dkim_keys.ALGORITHMS,
        rsa_bits: int = RSA_BITS,
        selector: str | None = None,
        active: bool = False,
    ) -> list[str]:
        """New keys, one of each algorithm; gives their selectors. `selector` names the one key of one algorithm.

        Raises NoSuchDomain, NameTaken, NotAllowed, TooLarge, Rejected, OutcomeUnknown.
        """
        domain, owner = self.require(domain)
        if selector is not None and len(algorithms) != 1:
            raise NotAllowed("a selector names one key: give one algorithm")
        taken = {key.selector for key in self.keys(domain)}
        today = datetime.datetime.now(datetime.UTC).date()
        made = []
        for algorithm in algorithms:
            name = selector or dkim_keys.free_selector(algorithm, today, taken)
            made.append(
                await asyncio.to_thread(
                    dkim_keys.make, domain, name, algorithm, rsa_bits, self._services.directory.seal
                )
            )
        command = AddKeys(owner, domain, tuple(made), active)
        await self._services.runtime.ask(dkim_stream(domain), command, context._replace(tenant=owner))
        return [key.selector for key in made]

    async def rotate(self, domain: str, context: Context, *, active: bool = False) -> list[str]:
        """New keys of the algorithms that sign now; those that sign are retired when the new ones take over.

        Raises NotAllowed where keys that nobody has put into DNS are waiting already.
        """
        domain, _ = self.require(domain)
        keys = self.keys(domain)
        if waiting := [key.selector for key in keys if key.state == "pending"]:
            raise NotAllowed(f"{', '.join(waiting)} wait for their DNS records: mailraft dkim dns {domain}")
        algorithms = [key.algorithm for key in keys if key.state == "active"] or list(dkim_keys.ALGORITHMS)
        return await self.generate(domain, context, algorithms=algorithms, active=active)

    async def published(self, domain: str) -> list[Published]:
        """What DNS says of each key of a normalised domain; changes nothing."""
        return [Published(key, await self._problem(domain, key)) for key in self.keys(domain)]

    async def validate(self, domain: str, context: Context) -> list[Published]:
        """Looks each key up in DNS, and lets those that wait take over where their records are right."""
        domain, owner = self.require(domain)
        found = await self.published(domain)
        ready = tuple(one.key.selector for one in found if one.key.state == "pending" and not one.problem)
        if ready:
            scoped = context._replace(tenant=owner)
            await self._services.runtime.ask(dkim_stream(domain), ActivateKeys(ready), scoped)
            now = {key.selector: key for key in self.keys(domain)}
            found = [one._replace(key=now.get(one.key.selector, one.key)) for one in found]
        return found

    async def delete(self, domain: str, selector: str, context: Context, *, force: bool = False) -> None:
        """Raises NoSuchKey, NotAllowed (mail is signed with it)."""
        domain, owner = self.require(domain)
        command = DeleteKey(selector, force)
        await self._services.runtime.ask(dkim_stream(domain), command, context._replace(tenant=owner))

    async def set_schedule(self, domain: str, every_ms: int, overlap_ms: int, context: Context) -> None:
        """every_ms 0: no rotation but by hand."""
        domain, owner = self.require(domain)
        command = ScheduleRotation(every_ms, overlap_ms)
        await self._services.runtime.ask(dkim_stream(domain), command, context._replace(tenant=owner))

    async def _problem(self, domain: str, key: Key) -> str:
        name = dkim_keys.record_name(domain, key.selector)
        try:
            records = await self._services.resolver.txt(name)
        except (NoAnswer, NoSuchName):
            return f"{name} has no TXT record"
        except ResolverError as error:
            return f"{name} could not be looked up: {error}"
        if any(dkim_keys.shows(record, key) for record in records):
            return ""
        return f"{name} holds another record"


class DkimRotation:
    """The duty of the node that leads: keys take over, are made anew and go, as DNS and the schedule say."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._admin = DkimAdmin(services)
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        await asyncio.sleep(FIRST_LOOK_S)
        while True:
            status = self._services.log.status()
            if status.leader == status.name:
                await self.look(int(time.time() * 1000))
            await asyncio.sleep(LOOK_S)

    async def look(self, now_ms: int) -> None:
        """One round over all domains."""
        for domain in self._admin.domains():
            try:
                await self._look_after(domain, now_ms)
            except (CommandRefused, Rejected, OutcomeUnknown) as error:
                self._services.logger.warning("DKIM keys could not be looked after", domain=domain, error=str(error))
            except Exception:
                self._services.logger.exception("DKIM keys could not be looked after", domain=domain)

    async def _look_after(self, domain: str, now_ms: int) -> None:
        keys = self._admin.keys(domain)
        if any(key.state == "pending" for key in keys):
            await self._admin.validate(domain, self._context())
            return
        schedule = self._admin.schedule(domain)
        if schedule is None:
            return
        for key in keys:
            if key.state == "retired" and now_ms >= key.retired_ms + schedule.overlap_ms:
                await self._admin.delete(domain, key.selector, self._context())
        active_ms = [key.activated_ms for key in keys if key.state == "active"]
        if active_ms and now_ms >= min(active_ms) + schedule.every_ms:
            made = await self._admin.rotate(domain, self._context())
            self._services.logger.warning("new DKIM keys wait for their DNS records", domain=domain, selectors=made)

    def _context(self) -> Context:
        name = self._services.config.node.name
        timeout_s = self._services.config.raft.propose_timeout_s
        return Context(By("node", name.encode(), "dkim rotation"), "schedule", b"", timeout_s)
