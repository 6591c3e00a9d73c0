"""The directory: which address is whose, who may log in, and the administration that spans several streams.

Reads take a snapshot and stand alone; the `Directory` object adds what needs the runtime (an account is a name claim,
a tenant's row and a mailbox, in one record) and what needs the cluster key. Addresses are normalised here, on the
way in. Passwords are checked off the event loop, and asking about nobody costs as much as a wrong password.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from actors import groups, password_policy, tenant_admin
from actors import tenant as tenants_kind
from actors.account_state import RequirePasswordChange
from actors.authentication import Authentication
from actors.credential_admin import CredentialAdmin
from actors.errors import (
    InvalidName,
    NoSuchAccount,
    NoSuchAlias,
    NoSuchDomain,
    NoSuchTenant,
    NotLocal,
    TooLarge,
)
from actors.kind import Command
from actors.mailbox import DEFAULT_FOLDERS, CloseMailbox, OpenMailbox, SetQuota
from actors.mailbox_acl import ForgetGrantee
from actors.names import (
    ClaimName,
    NameHolder,
    ReleaseName,
    address_name,
    domain_name,
    holder,
    name_stream,
    normalise_address,
    normalise_domain,
    normalise_tenant_name,
    written,
)
from actors.passwords import Passwords
from actors.region import REGION, RegisterTenant
from actors.runtime import Context, Runtime
from actors.sealing import KeyRing
from actors.sharing import granters
from actors.sharing_admin import SharingAdmin
from actors.tenant import POSTMASTER
from actors.tenant_policy import extension_mark
from actors.usage import CountUsage, UsageCounted, usage_stream
from eventlog.errors import OutcomeUnknown, Rejected
from eventlog.log import EventLog
from eventlog.record import new_id
from eventlog.store import Snapshot

CATCH_ALL = "*"  # the local part of the alias that takes what nobody in its domain has
MAX_ALIAS_DEPTH = 10
MAX_TARGETS = 100


OUTSIDE = b""  # in place of an account


class Target(NamedTuple):
    """An account that an address leads to, or that somebody logged in as; `address` is the account's own.

    Of an alias that leads out of the cell: OUTSIDE, the tenant of the address that was asked for, and where it leads.
    """

    tenant: bytes
    account: bytes
    address: str

    @property
    def is_outside(self) -> bool:
        return self.account == OUTSIDE


# Reads


def is_local_domain(snapshot: Snapshot, domain: str) -> bool:
    """Whether mail for the domain is ours to keep; False too for what is no domain."""
    return tenant_with(snapshot, domain) is not None


def tenant_with(snapshot: Snapshot, domain: str) -> bytes | None:
    """The tenant that a domain belongs to, however it is written; None too for what is no domain."""
    try:
        return domain_tenant(snapshot, normalise_domain(domain))
    except InvalidName:
        return None


def domain_tenant(snapshot: Snapshot, domain: str) -> bytes | None:
    """The tenant that a normalised domain belongs to."""
    held = holder(snapshot.view(name_stream(domain_name(domain))))
    return held.tenant if held else None


def resolve(snapshot: Snapshot, address: str, default_domain: str | None = None) -> list[Target] | None:
    """Where mail for `address` goes, following aliases; None: nobody has it, in a domain of ours.

    Behind a mark that the tenant may choose stands an extension (alice+shop@ is alice@); the alias *@domain takes what
    nobody else has.
    "postmaster" needs no domain (RFC 5321 4.5.1); any other bare name is taken in `default_domain`. Aliases are
    followed 10 deep to at most 100 accounts, each once, and 500 more that are members of groups. Raises NotLocal,
    InvalidName; TooLarge beyond those limits, because leaving some recipients out would lose mail that is answered for.
    """
    address = normalise_address(_with_domain(snapshot, address, default_domain))
    tenant = domain_tenant(snapshot, address.rpartition("@")[2])
    if tenant is None:
        raise NotLocal("not one of our domains")
    found: list[Target] = []
    seen = {address}
    level = [address]
    most = MAX_TARGETS
    for _ in range(MAX_ALIAS_DEPTH):
        following: list[str] = []
        for one in level:
            held = _receiver(snapshot, one)
            if held is None:
                if domain_tenant(snapshot, one.rpartition("@")[2]) is None:
                    found.append(Target(tenant, OUTSIDE, written(one)))
                continue
            if held.purpose == "account":
                found.append(Target(held.tenant, held.owner, one))
            elif held.purpose == "group":
                members = list(_members(snapshot, held, seen))
                found += members
                most = min(most + len(members), MAX_TARGETS + groups.MAX_MEMBERS)
            else:
                following += _alias_targets(snapshot, held)
        level = [one for one in dict.fromkeys(following) if one not in seen]
        seen.update(level)
        if not level or len(found) > most:
            break
    if level or len(found) > most:
        raise TooLarge(f"aliases lead further than {MAX_ALIAS_DEPTH} levels or {MAX_TARGETS} accounts")
    return found or None


def account_of(snapshot: Snapshot, address: str) -> Target:
    """The account of exactly this address, no alias. Raises NoSuchAccount, InvalidName."""
    address = normalise_address(address)
    held = address_holder(snapshot, address)
    if held is None or held.purpose != "account":
        raise NoSuchAccount(f"there is no account {address}")
    return Target(held.tenant, held.owner, address)


def tenant_named(snapshot: Snapshot, name: str) -> bytes:
    """The id of the tenant of that name. Raises NoSuchTenant, InvalidName."""
    held = holder(snapshot.view(name_stream("tenant:" + normalise_tenant_name(name))))
    if held is None:
        raise NoSuchTenant(f"there is no tenant {name}")
    return held.owner


def _with_domain(snapshot: Snapshot, address: str, default_domain: str | None) -> str:
    if "@" in address:
        return address
    if default_domain is None and address.lower() == POSTMASTER:
        default_domain = next(_all_domains(snapshot), None)
    if default_domain is None:
        raise InvalidName("an address has the form name@domain")
    return f"{address}@{default_domain}"


def _all_domains(snapshot: Snapshot) -> Iterator[str]:
    for entry in tenants_kind.tenants(snapshot):
        for domain in tenants_kind.domains(snapshot.view(entry.id)):
            yield domain.name


def address_holder(snapshot: Snapshot, address: str) -> NameHolder | None:
    """Who has exactly this address, which is normalised."""
    return holder(snapshot.view(name_stream(address_name(address))))


def _receiver(snapshot: Snapshot, address: str) -> NameHolder | None:
    """Who gets mail for the address: its holder; whoever has it without its extension (RFC 5233); the catch-all."""
    held = address_holder(snapshot, address)
    if held is not None:
        return held
    local, _, domain = address.rpartition("@")
    plain = _without_extension(snapshot, local, domain)
    if plain:
        held = address_holder(snapshot, f"{plain}@{domain}")
    return held or address_holder(snapshot, f"{CATCH_ALL}@{domain}")


def _without_extension(snapshot: Snapshot, local: str, domain: str) -> str:
    """What stands before the mark of the domain's tenant; "" where there is none."""
    tenant = domain_tenant(snapshot, domain)
    mark = extension_mark(snapshot.view(tenant)) if tenant is not None else ""
    plain, found, _ = local.partition(mark) if mark else ("", "", "")
    return plain if found else ""


def _members(snapshot: Snapshot, held: NameHolder, seen: set[str]) -> Iterator[Target]:
    """The group's members that are not reached already."""
    view = snapshot.view(held.tenant)
    for account_id in groups.members(view, held.owner):
        account = tenants_kind.account(view, account_id)
        if account is not None and account.address not in seen:
            seen.add(account.address)
            yield Target(held.tenant, account_id, account.address)


def _alias_targets(snapshot: Snapshot, held: NameHolder) -> tuple[str, ...]:
    alias = tenants_kind.alias(snapshot.view(held.tenant), held.owner)
    return alias.targets if alias else ()


# Logins and administration


class Directory:
    """Logins and administration. cluster_key: the 32 bytes that seal secrets on the log, or several of them, oldest
    first."""

    def __init__(self, log: EventLog, runtime: Runtime, cluster_key: bytes) -> None:
        self.event_log = log
        self.runtime = runtime
        self.keys = KeyRing(cluster_key)
        self.passwords = Passwords()
        self.logins = Authentication(log, self.keys, self.passwords, account_of)
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
        if self.runtime.check(target.account, CloseMailbox()) is None:
            await self.runtime.ask(target.account, CloseMailbox(), context)
        await self._take_from_lists(target, context)
        name = address_name(target.address)
        release = ReleaseName(name, target.account)
        try:
            await self.runtime.transact([(name_stream(name), release), (target.tenant, delete)], whole)
        except Rejected as error:
            raise OutcomeUnknown(f"the mailbox is closed, the account is not deleted yet: {error}") from error

    async def _take_from_lists(self, target: Target, context: Context) -> None:
        """What others shared with an account that goes."""
        with self.event_log.snapshot() as snapshot:
            owners = granters(snapshot.view(target.tenant), target.account)
        forget = ForgetGrantee(target.account)
        for owner in owners:
            if self.runtime.check(owner, forget) is None:
                await self.runtime.ask(owner, forget, context)

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
            (name_stream(name), ReleaseName(name, held.owner)),
            (held.tenant, tenants_kind.DeleteAlias(held.owner)),
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
