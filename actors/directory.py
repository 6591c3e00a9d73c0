"""The administration of tenants, accounts and aliases that spans several streams, and who may log in.

An account is a name claim, a tenant's row and a mailbox, in one record; secrets are sealed with the cluster's key.
Which address is whose is read in `addresses`, all of it importable from here. Addresses are normalised on the way in.
Passwords are checked off the event loop, and asking about nobody costs as much as a wrong password.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from actors import password_policy, tenant_admin
from actors import tenant as tenants_kind
from actors.account_state import RequirePasswordChange
from actors.addresses import (
    CATCH_ALL,
    MAX_ALIAS_DEPTH,
    MAX_TARGETS,
    OUTSIDE,
    Target,
    account_of,
    address_holder,
    domain_tenant,
    is_local_domain,
    resolve,
    tenant_named,
    tenant_with,
)
from actors.authentication import Authentication
from actors.credential_admin import CredentialAdmin
from actors.errors import NoSuchAccount, NoSuchAlias, NoSuchDomain
from actors.kind import Command
from actors.mailbox import DEFAULT_FOLDERS, CloseMailbox, OpenMailbox, SetQuota
from actors.mailbox_acl import ForgetGrantee
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
from actors.passwords import Passwords
from actors.region import REGION, RegisterTenant
from actors.runtime import Context, Runtime
from actors.sealing import KeyRing
from actors.sharing import granters
from actors.sharing_admin import SharingAdmin
from actors.tenant import POSTMASTER
from actors.usage import CountUsage, UsageCounted, usage_stream
from eventlog.errors import OutcomeUnknown, Rejected
from eventlog.log import EventLog
from eventlog.record import new_id


class Directory:
    """Logins and administration. cluster_key: the 32 bytes that seal secrets on the log, or several of them, oldest
    first."""

    def __init__(self, log: EventLog, runtime: Runtime, cluster_key: bytes) -> None:
        self.event_log = log
        self.runtime = runtime
        self.keys = KeyRing(cluster_key)
        self.passwords = Passwords()
        self.logins = Authentication(log, self.keys, self.passwords)
        self.credentials = CredentialAdmin(self)
        self.sharing = SharingAdmin(self)
        self.tenants = tenant_admin.TenantAdmin(self)

    async def stop(self) -> None:
        """End the thread that checks passwords."""
        await self.passwords.stop()

    def seal(self, secret: bytes, place: bytes) -> bytes:
        """A secret for the log, under the cluster's key and bound to what it belongs to."""
        return self.keys.seal(secret, place)

    def unseal(self, sealed: bytes, place: bytes) -> bytes:
        """What `seal` took. Raises SealBroken."""
        return self.keys.unseal(sealed, place)

    def derived_key(self, purpose: str) -> bytes:
        """32 bytes for one purpose, made of the cluster's key: the same on every node."""
        return self.keys.derive(f"mailraft/{purpose}".encode())

    async def add_tenant(self, name: str, domains: Sequence[str], context: Context) -> bytes:
        """A tenant with its domains, each with a postmaster account (RFC 5321 4.5.1); gives the tenant's id.

        Raises NameTaken, InvalidName.
        """
        name = normalise_tenant_name(name)
        tenant = new_id()
        steps: list[tuple[bytes, Command]] = [
            (name_stream("tenant:" + name), ClaimName("tenant:" + name, tenant, tenant, "tenant")),
            (REGION, RegisterTenant(tenant, name)),
            (tenant, tenants_kind.CreateTenant(tenant, name)),
        ]
        if self.event_log.feature_level >= UsageCounted.SINCE:
            steps.append((usage_stream(tenant), CountUsage(tenant)))
        for domain in dict.fromkeys(map(normalise_domain, domains)):
            steps += _domain_steps(tenant, domain)
        await self.runtime.transact(steps, context._replace(tenant=tenant))
        return tenant

    async def add_domain(self, tenant_name: str, domain: str, context: Context) -> None:
        """One more domain, with its postmaster. Raises NoSuchTenant, NameTaken, InvalidName."""
        with self.event_log.snapshot() as snapshot:
            tenant = tenant_named(snapshot, tenant_name)
        steps = _domain_steps(tenant, normalise_domain(domain))
        await self.runtime.transact(steps, context._replace(tenant=tenant))

    async def allow_time_travel(self, tenant_name: str, allowed: bool, context: Context) -> None:
        """Whether its accounts may log in to their mailboxes as they were. Raises NoSuchTenant, InvalidName."""
        with self.event_log.snapshot() as snapshot:
            tenant = tenant_named(snapshot, tenant_name)
        command = tenants_kind.AllowTimeTravel(allowed)
        await self.runtime.ask(tenant, command, context._replace(tenant=tenant))

    async def add_account(self, address: str, password: str | None, quota_bytes: int | None, context: Context) -> bytes:
        """An account with its mailbox; gives its id. Without a password nobody can log in to it.

        Raises NoSuchDomain, NameTaken, InvalidName, NotAllowed (the password), Overloaded.
        """
        address = normalise_address(address)
        tenant = self.tenant_for(address)
        account = new_id()
        steps = account_steps(tenant, account, address, quota_bytes)
        if password is not None:
            sealed = await self.sealed(tenant, account, address, password)
            steps.append((tenant, tenants_kind.SetPassword(account, sealed)))
        await self.runtime.transact(steps, context._replace(tenant=tenant))
        return account

    async def set_password(self, address: str, password: str, context: Context, *, by_owner: bool = False) -> None:
        """`by_owner`: it need not be changed any more. Raises NoSuchAccount, NotAllowed (the password), Overloaded."""
        target = self.account(address)
        sealed = await self.sealed(target.tenant, target.account, target.address, password)
        steps: list[tuple[bytes, Command]] = [(target.tenant, tenants_kind.SetPassword(target.account, sealed))]
        if by_owner:
            steps.append((target.tenant, RequirePasswordChange(target.account, False)))
        await self.runtime.transact(steps, context._replace(tenant=target.tenant))

    async def set_quota(
        self, address: str, quota_bytes: int | None, context: Context, quota_messages: int | None = None
    ) -> None:
        """How much a mailbox may hold; None: no limit. Raises NoSuchAccount."""
        target = self.account(address)
        steps: list[tuple[bytes, Command]] = [
            (target.tenant, tenants_kind.SetQuota(target.account, quota_bytes)),
            (target.account, SetQuota(quota_bytes, quota_messages)),
        ]
        await self.runtime.transact(steps, context._replace(tenant=target.tenant))

    async def delete_account(self, address: str, context: Context) -> None:
        """Close the mailbox, then give up account and address; a repeated call goes on where one was interrupted.

        Raises NoSuchAccount, NotAllowed for a postmaster; OutcomeUnknown where only the first is known to be done.
        """
        target = self.account(address)
        whole = context._replace(tenant=target.tenant)
        context = whole._replace(once=None)
        delete = tenants_kind.DeleteAccount(target.account)
        refusal = self.runtime.check(target.tenant, delete)
        if refusal is not None:
            raise refusal
        await self._ask_unless_done(target.account, CloseMailbox(), context)
        name = address_name(target.address)
        release = ReleaseName(name, target.account)
        try:
            await self._take_from_lists(target, context)
            await self.runtime.transact([(target.tenant, delete), (name_stream(name), release)], whole)
        except Rejected as error:
            raise OutcomeUnknown(f"the mailbox is closed, the account is not deleted yet: {error}") from error

    async def _take_from_lists(self, target: Target, context: Context) -> None:
        """What others shared with an account that goes."""
        with self.event_log.snapshot() as snapshot:
            owners = granters(snapshot.view(target.tenant), target.account)
        forget = ForgetGrantee(target.account)
        for owner in owners:
            await self._ask_unless_done(owner, forget, context)

    async def _ask_unless_done(self, account: bytes, command: Command, context: Context) -> None:
        """A step of a deletion. That the mailbox is closed, by another deletion meanwhile, says nothing of this one."""
        with contextlib.suppress(NoSuchAccount):
            await self.runtime.ask(account, command, context)

    async def add_alias(self, address: str, targets: Sequence[str], context: Context) -> bytes:
        """An address that leads to others, here or elsewhere; gives its id.

        Raises NoSuchDomain, NameTaken, InvalidName.
        """
        address = normalise_address(address)
        tenant = self.tenant_for(address)
        wanted = tuple(dict.fromkeys(map(normalise_address, targets)))
        alias = new_id()
        name = address_name(address)
        steps: list[tuple[bytes, Command]] = [
            (name_stream(name), ClaimName(name, tenant, alias, "alias")),
            (tenant, tenants_kind.AddAlias(alias, address, wanted)),
        ]
        await self.runtime.transact(steps, context._replace(tenant=tenant))
        return alias

    async def delete_alias(self, address: str, context: Context) -> None:
        """Raises NoSuchAlias."""
        address = normalise_address(address)
        with self.event_log.snapshot() as snapshot:
            held = address_holder(snapshot, address)
        if held is None or held.purpose != "alias":
            raise NoSuchAlias(f"there is no alias {address}")
        name = address_name(address)
        steps: list[tuple[bytes, Command]] = [
            (held.tenant, tenants_kind.DeleteAlias(held.owner)),
            (name_stream(name), ReleaseName(name, held.owner)),
        ]
        await self.runtime.transact(steps, context._replace(tenant=held.tenant))

    # -- parts -----------------------------------------------------------------------------------------------------

    def account(self, address: str) -> Target:
        """Raises NoSuchAccount, InvalidName."""
        with self.event_log.snapshot() as snapshot:
            return account_of(snapshot, address)

    def tenant_for(self, address: str) -> bytes:
        """Whose domain a normalised address is in. Raises NoSuchDomain."""
        domain = address.rpartition("@")[2]
        with self.event_log.snapshot() as snapshot:
            tenant = domain_tenant(snapshot, domain)
        if tenant is None:
            raise NoSuchDomain(f"{domain} is not one of our domains")
        return tenant

    async def sealed(self, tenant: bytes, account: bytes, address: str, password: str) -> bytes:
        """A new password's verifiers. Raises NotAllowed, Overloaded."""
        with self.event_log.snapshot() as snapshot:
            password_policy.check(snapshot.view(tenant), address, password)
        verifiers = await self.passwords.make(password, *self.logins.salt(address))
        return self.keys.seal(verifiers, tenants_kind.password_place(tenant, account))


def _domain_steps(tenant: bytes, domain: str) -> list[tuple[bytes, Command]]:
    name = domain_name(domain)
    return [
        (name_stream(name), ClaimName(name, tenant, tenant, "domain")),
        (tenant, tenants_kind.AddDomain(domain)),
        *account_steps(tenant, new_id(), f"{POSTMASTER}@{domain}", None),
    ]


def account_steps(tenant: bytes, account: bytes, address: str, quota_bytes: int | None) -> list[tuple[bytes, Command]]:
    """What makes an account: the claim on its address, the tenant's row, the mailbox."""
    name = address_name(address)
    folder_ids = tuple(new_id() for _ in DEFAULT_FOLDERS)
    return [
        (name_stream(name), ClaimName(name, tenant, account, "account")),
        (tenant, tenants_kind.AddAccount(account, address, quota_bytes)),
        (account, OpenMailbox(tenant, address, folder_ids, quota_bytes)),
    ]


__all__ = [
    "CATCH_ALL",
    "MAX_ALIAS_DEPTH",
    "MAX_TARGETS",
    "OUTSIDE",
    "Directory",
    "Target",
    "account_of",
    "account_steps",
    "address_holder",
    "domain_tenant",
    "is_local_domain",
    "resolve",
    "tenant_named",
    "tenant_with",
]
