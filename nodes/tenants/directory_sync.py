"""Accounts as an LDAP directory has them: what differs, and the commands that make it so.

Who is in the directory and not here gets an account, without a password: the directory has it. Who is not in it any
more, or is disabled there, is suspended: the mailbox stays, and nobody comes in. Nothing is ever deleted, and only what
was suspended here for such a reason is opened again; what an administrator has closed stays closed. Postmasters are
left alone. All of it are the events of the same changes by hand, of whoever asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, runtime_checkable

from actors import account_state, bulk, mailbox, tenant
from actors.account_state import DisableAccount, EnableAccount, MailFor
from actors.directory import domain_tenant
from actors.errors import CommandRefused
from actors.names import normalise_domain
from eventlog.errors import Rejected

if TYPE_CHECKING:
    from actors.directory import Directory
    from actors.kind import Command
    from actors.runtime import Context
    from eventlog.store import Snapshot
    from nodes.config.ldap import LdapDirectory
    from nodes.logins.ldap_listing import Entry

GONE, CLOSED = "directory: not in it", "directory: disabled there"
AT_ONCE = 100  # changes in one record

Kind = Literal["create", "suspend", "resume", "quota", "conflict"]


@runtime_checkable
class Listing(Protocol):
    """Who can list directories (nodes/logins/ldap_logins.py)."""

    async def listed(self) -> list[tuple[LdapDirectory, list[Entry]]]: ...


class Change(NamedTuple):
    """One difference. `conflict`: nothing is done, and `detail` says why."""

    address: str
    kind: Kind
    detail: str = ""
    quota_bytes: int | None = None


class Done(NamedTuple):
    """What became of it; `refused` says why where nothing did."""

    change: Change
    refused: str = ""


def differences(snapshot: Snapshot, entries: Sequence[Entry], domains: Iterable[str]) -> list[Change]:
    """By address. `domains`: those that the directory speaks for."""
    times = Counter(one.address for one in entries)
    by_address = {one.address: one for one in entries}
    found = [
        Change(address, "conflict", f"{count} entries have this address")
        for address, count in times.items()
        if count > 1
    ]
    for domain in map(normalise_domain, domains):
        mine = {
            address: one
            for address, one in by_address.items()
            if times[address] == 1 and address.rpartition("@")[2] == domain
        }
        owner = domain_tenant(snapshot, domain)
        if owner is None:
            found += [Change(one, "conflict", f"no tenant has the domain {domain}") for one in mine]
        else:
            found += _of_domain(snapshot, owner, domain, mine, {one for one, count in times.items() if count > 1})
    return sorted(found)


def _of_domain(
    snapshot: Snapshot, owner: bytes, domain: str, entries: dict[str, Entry], twice: set[str]
) -> Iterable[Change]:
    view, suffix = snapshot.view(owner), f"@{domain}"
    states = account_state.states(view)
    accounts = {one.address: one for one in tenant.accounts(view) if one.address.endswith(suffix)}
    for address, account in accounts.items():
        if address in twice or address == tenant.POSTMASTER + suffix:
            continue
        state, entry = states.get(account.id, account_state.OPEN), entries.get(address)
        why = GONE if entry is None else CLOSED if entry.disabled else ""
        if why and not state.disabled:
            yield Change(address, "suspend", why)
        elif not why and state.disabled and state.reason in (GONE, CLOSED):
            yield Change(address, "resume", "in the directory again")
        if entry is not None and entry.quota_bytes is not None and entry.quota_bytes != account.quota_bytes:
            yield Change(address, "quota", _quota_text(account.quota_bytes, entry.quota_bytes), entry.quota_bytes)
    for address, entry in entries.items():
        if address not in accounts and not entry.disabled:
            yield Change(address, "create", "", entry.quota_bytes)


def _quota_text(before: int | None, after: int) -> str:
    return f"{'none' if before is None else before} to {after} octets"


async def carry_out(directory: Directory, changes: Sequence[Change], mail: MailFor, context: Context) -> list[Done]:
    """In records of many; the same again is harmless. Raises LogError: what was done before it stays."""
    done = [Done(one, one.detail) for one in changes if one.kind == "conflict"]
    created = [one for one in changes if one.kind == "create"]
    for at in range(0, len(created), bulk.MOST_AT_ONCE):
        batch = created[at : at + bulk.MOST_AT_ONCE]
        wanted = [bulk.Wanted(one.address, None, one.quota_bytes) for one in batch]
        outcomes = await bulk.add_accounts(directory, wanted, context)
        done += [Done(one, got.detail) for one, got in zip(batch, outcomes, strict=True)]
    others = [one for one in changes if one.kind not in ("create", "conflict")]
    for at in range(0, len(others), AT_ONCE):
        done += await _together(directory, others[at : at + AT_ONCE], mail, context)
    return sorted(done)


async def _together(directory: Directory, changes: Sequence[Change], mail: MailFor, context: Context) -> list[Done]:
    """In one record; one by one where that is refused."""
    try:
        steps = [step for one in changes for step in _steps(directory, one, mail)]
        await directory.runtime.transact(steps, context)
    except (CommandRefused, Rejected) as refusal:
        if len(changes) == 1:
            return [Done(changes[0], str(refusal))]
        return [done for one in changes for done in await _together(directory, [one], mail, context)]
    return [Done(one) for one in changes]


def _steps(directory: Directory, change: Change, mail: MailFor) -> list[tuple[bytes, Command]]:
    """Raises NoSuchAccount."""
    target = directory.account(change.address)
    match change.kind:
        case "suspend":
            return [(target.tenant, DisableAccount(target.account, mail, change.detail))]
        case "resume":
            return [(target.tenant, EnableAccount(target.account))]
        case _:
            with directory.event_log.snapshot() as snapshot:
                messages = mailbox.usage(snapshot.view(target.account)).limit_messages
            return [
                (target.tenant, tenant.SetQuota(target.account, change.quota_bytes)),
                (target.account, mailbox.SetQuota(change.quota_bytes, messages)),
            ]
