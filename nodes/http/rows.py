"""The rows of the tables that things of the admin API are made of: their versions are in the ETag of who shows a thing,
and who changes it under If-Match has them as guards.

Usage and other sums that change by themselves are no part of a thing: mail that comes in keeps nobody from changing a
quota. Keys are those of the actors' modules; a test changes every thing and sees its ETag change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from actors import (
    acme,
    apop,
    cell_authority,
    certificates,
    credentials,
    delegation,
    dkim,
    reports,
    tenant,
    tenant_details,
)
from actors import tenant_policy as policies
from actors.directory import Target, account_of, tenant_named
from actors.keyring import KEYRING
from actors.mailbox_rows import LIMITS_KEY
from actors.names import address_name, holder, name_stream, normalise_address, normalise_domain
from actors.region import REGION
from actors.settings import SETTINGS
from actors.sharing import public_stream
from actors.standing import STANDING
from actors.tenant_admin import group_of
from actors.verdicts import CELL_KEY, VERDICTS
from eventlog.store import Snapshot

if TYPE_CHECKING:
    from nodes.http.calls import Call


class Rows(NamedTuple):
    """A row; or, with `every`, all whose keys begin so."""

    stream: bytes
    key: bytes
    every: bool = False


MadeOf = Callable[["Call", Snapshot], Iterable[Rows]]


def of(*rows: Rows) -> MadeOf:
    """A thing of which there is one in the cell."""
    return lambda _call, _snapshot: rows


def tenant_itself(call: Call, snapshot: Snapshot) -> Iterable[Rows]:
    """Its name, details, domains, what holds for its accounts, and whether it is served."""
    id_ = tenant_named(snapshot, call.path["name"])
    for key in (tenant.TENANT_KEY, tenant_details.DETAILS_KEY, tenant.TIME_TRAVEL_KEY, credentials.PASSWORD_POLICY_KEY):
        yield Rows(id_, key)
    yield Rows(id_, b"d", every=True)
    yield Rows(STANDING, b"s" + id_)


def quotas(call: Call, snapshot: Snapshot) -> Iterable[Rows]:
    """A tenant's limits and thresholds."""
    yield Rows(STANDING, b"q" + tenant_named(snapshot, call.path["name"]))


def mail_policy(call: Call, snapshot: Snapshot) -> Iterable[Rows]:
    """What a tenant has set, DMARC among it."""
    id_ = tenant_named(snapshot, call.path["name"])
    yield Rows(id_, policies.MAIL_POLICY_KEY)
    yield Rows(VERDICTS, b"t" + id_)


def account(call: Call, snapshot: Snapshot) -> Iterable[Rows]:
    """The account, its password, and the limits of its mailbox."""
    target = _target(call, snapshot)
    yield Rows(target.tenant, b"a" + target.account)
    yield Rows(target.tenant, b"c" + target.account)
    yield Rows(target.account, LIMITS_KEY)


def account_state(call: Call, snapshot: Snapshot) -> Iterable[Rows]:
    """Whether it is open."""
    target = _target(call, snapshot)
    yield Rows(target.tenant, b"x" + target.account)


def log_ins(call: Call, snapshot: Snapshot) -> Iterable[Rows]:
    """All that lets somebody in to an account."""
    target = _target(call, snapshot)
    yield Rows(target.tenant, b"c" + target.account)
    yield Rows(target.tenant, b"o" + target.account)
    yield Rows(target.tenant, apop.row_key(target.account))
    yield Rows(target.tenant, b"k" + target.account, every=True)


def alias(call: Call, snapshot: Snapshot) -> Iterable[Rows]:
    """The alias, and that the name is its."""
    name = name_stream(address_name(normalise_address(call.path["address"])))
    held = holder(snapshot.view(name))
    if held is not None:
        yield Rows(held.tenant, b"l" + held.owner)


def group(call: Call, snapshot: Snapshot) -> Iterable[Rows]:
    """The group; its row has the number of its members, and so changes with each that comes or goes."""
    id_, found = group_of(snapshot, call.path["address"])
    yield Rows(id_, b"g" + found.id)
    yield Rows(id_, b"G" + found.id, every=True)


def shares(call: Call, snapshot: Snapshot) -> Iterable[Rows]:
    """The lists of rights of an account; of a tenant's public folders, and those folders."""
    place = call.path.get("place") or call.path["name"]
    if "@" in place:
        yield Rows(account_of(snapshot, place).account, b"R", every=True)
        return
    stream = public_stream(tenant_named(snapshot, place))
    yield Rows(stream, b"R", every=True)
    yield Rows(stream, b"f", every=True)


def senders(call: Call, snapshot: Snapshot) -> Iterable[Rows]:
    """Who may send as an account."""
    target = _target(call, snapshot)
    yield Rows(target.tenant, delegation.prefix(target.account), every=True)


def signing(call: Call, snapshot: Snapshot) -> Iterable[Rows]:
    """A domain's keys, and when they are changed."""
    stream = dkim.dkim_stream(normalise_domain(call.path["domain"]))
    yield Rows(stream, dkim.SCHEDULE_KEY)
    yield Rows(stream, b"k", every=True)


AUTHORITY = of(Rows(cell_authority.AUTHORITY, cell_authority.AUTHORITY_KEY))
JOIN_TOKENS = of(Rows(cell_authority.AUTHORITY, b"t", every=True))
CLIENT_AUTHORITIES = of(Rows(certificates.CERTIFICATES, b"a", every=True))
ACME = of(Rows(acme.ACME, acme.ACCOUNT_KEY), Rows(acme.ACME, b"m", every=True))
CELL_SETTINGS = of(Rows(SETTINGS, b"s", every=True))
SEALING_KEYS = of(Rows(KEYRING, b""))
VERDICT_POLICY = of(Rows(VERDICTS, CELL_KEY))
REPORTING = of(Rows(reports.REPORTS, reports.SETTINGS_KEY))
GRANTS = of(Rows(REGION, b"g", every=True))
FOLLOWS = of(Rows(REGION, b"f", every=True))


def _target(call: Call, snapshot: Snapshot) -> Target:
    return account_of(snapshot, call.path["address"])
