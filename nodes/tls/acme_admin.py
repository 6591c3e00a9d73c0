"""The cell's ACME account and the certificates that it keeps valid, as an administrator handles them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from actors import acme
from actors.acme import ACME, Account, Challenge, Manage, Managed, PlanRenewal, Release, SetAccount, account_place
from actors.errors import InvalidName, NoSuchCertificate
from actors.names import normalise_domain
from actors.runtime import Context
from eventlog.record import NO_TENANT, new_id
from nodes.services import Services
from nodes.tls.acme_client import Acme, new_key
from nodes.tls.certificates import owner_of


class AcmeAdmin:
    """What can be done to them."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def account(self) -> Account | None:
        with self._services.log.snapshot() as snapshot:
            return acme.account(snapshot.view(ACME))

    def managed(self) -> list[Managed]:
        """By their first names."""
        with self._services.log.snapshot() as snapshot:
            return acme.managed(snapshot.view(ACME))

    def require(self, name: str) -> Managed:
        """The one that a host name is in. Raises NoSuchCertificate."""
        for one in self.managed():
            if name.lower() in one.names:
                return one
        raise NoSuchCertificate(f"no certificate for {name} is kept")

    async def register(
        self, directory: str, contacts: Sequence[str], binding: tuple[str, str] | None, context: Context
    ) -> Account:
        """An account at an authority, whose terms the administrator has agreed to; orders go there from now on.

        Raises OrderProblem, Rejected, OutcomeUnknown.
        """
        before = self.account()
        if before is not None and before.directory == directory:
            key = self._services.directory.unseal(before.sealed, account_place(directory))
        else:
            key = new_key()
        ca = self._services.config.acme.ca
        client = await asyncio.to_thread(Acme, directory, key, "", str(ca) if ca else None)
        url = await asyncio.to_thread(client.register, contacts, binding)
        sealed = self._services.directory.seal(key, account_place(directory))
        await self._services.runtime.ask(ACME, SetAccount(directory, tuple(contacts), url, sealed), context)
        found = self.account()
        assert found is not None
        return found

    async def keep(self, names: Sequence[str], challenge: Challenge, context: Context) -> Managed:
        """Has a certificate for these names ordered now, and renewed for as long as it is kept.

        Raises InvalidName, NameTaken, NotAllowed, TooLarge.
        """
        wanted = tuple(dict.fromkeys(_host(name) for name in names))
        with self._services.log.snapshot() as snapshot:
            owners = {owner_of(snapshot, name) for name in wanted}
        owner = owners.pop() if len(owners) == 1 else NO_TENANT
        command = Manage(new_id(), owner, wanted, challenge)
        await self._services.runtime.ask(ACME, command, context._replace(tenant=owner))
        return self.require(wanted[0])

    async def renew(self, name: str, context: Context) -> Managed:
        """Orders anew, now. Raises NoSuchCertificate."""
        one = self.require(name)
        command = PlanRenewal(one.id, time.time_ns() // 1_000_000)
        await self._services.runtime.ask(ACME, command, context._replace(tenant=one.tenant))
        return one

    async def release(self, name: str, context: Context) -> Managed:
        """Renews no more; the certificate that there is stays until it is removed. Raises NoSuchCertificate."""
        one = self.require(name)
        await self._services.runtime.ask(ACME, Release(one.id), context._replace(tenant=one.tenant))
        return one


def _host(name: str) -> str:
    """A name for a certificate. Raises InvalidName."""
    host = normalise_domain(name.removeprefix("*."))
    if "." not in host or host.startswith("[") or host.rpartition(".")[2].isdigit():
        raise InvalidName(f"{name} is no host name that an authority certifies")
    return f"*.{host}" if name.startswith("*.") else host
