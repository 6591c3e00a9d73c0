"""Many accounts at once: a batch is one record, and each account of it has an outcome of its own.

What is there already is left as it is, so that a batch whose outcome was unknown, or a file of which a part was done,
is given again without harm. Where a record as a whole is refused, its accounts are tried one by one, so that one that
can not be does not keep the others out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from actors.addresses import address_holder
from actors.directory import Directory, account_steps
from actors.errors import CommandRefused, NameTaken, NoSuchDomain
from actors.kind import Command
from actors.names import normalise_address
from actors.runtime import Context
from actors.tenant import SetPassword
from eventlog.errors import Rejected
from eventlog.record import new_id

MOST_AT_ONCE = 200  # some forty rows each; a record has half the fold's budget

Outcome = Literal["added", "exists", "refused"]


class Wanted(NamedTuple):
    """An account as it is asked for; without a password nobody can log in to it yet."""

    address: str
    password: str | None = None
    quota_bytes: int | None = None


class Imported(NamedTuple):
    """What became of it; `detail` says why it was refused."""

    address: str
    outcome: Outcome
    detail: str = ""


class _Prepared(NamedTuple):
    place: int
    address: str
    steps: list[tuple[bytes, Command]]


async def add_accounts(
    made_by: Directory, wanted: Sequence[Wanted], context: Context, only: bytes | None = None
) -> list[Imported]:
    """At most MOST_AT_ONCE, with outcomes in the same order. `only`: of this tenant; others are nobody's.

    Raises Overloaded (nothing was done), Rejected, OutcomeUnknown (the same batch again tells).
    """
    found: dict[int, Imported] = {}
    prepared: list[_Prepared] = []
    seen: set[str] = set()
    for place, one in enumerate(wanted):
        try:
            ready = await _prepare(made_by, place, one, only, seen)
        except CommandRefused as refusal:
            found[place] = Imported(one.address, "refused", str(refusal))
            continue
        if ready is None:
            found[place] = Imported(one.address, "exists")
        else:
            prepared.append(ready)
    found |= await _carry_out(made_by, prepared, context)
    return [found[place] for place in range(len(wanted))]


async def _prepare(made_by: Directory, place: int, one: Wanted, only: bytes | None, seen: set[str]) -> _Prepared | None:
    """None: it is there. Raises CommandRefused."""
    address = normalise_address(one.address)
    tenant = made_by.tenant_for(address)
    if only not in (None, tenant):
        raise NoSuchDomain(f"{address.rpartition('@')[2]} is not one of our domains")
    with made_by.event_log.snapshot() as snapshot:
        held = address_holder(snapshot, address)
    if held is not None:
        if held.purpose != "account":
            raise NameTaken(f"{address} is taken: it is an {held.purpose}")
        return None
    if address in seen:
        return None
    seen.add(address)
    account = new_id()
    steps = account_steps(tenant, account, address, one.quota_bytes)
    if one.password is not None:
        steps.append((tenant, SetPassword(account, await made_by.sealed(tenant, account, address, one.password))))
    return _Prepared(place, address, steps)


async def _carry_out(made_by: Directory, prepared: list[_Prepared], context: Context) -> dict[int, Imported]:
    if not prepared:
        return {}
    try:
        await made_by.runtime.transact([step for one in prepared for step in one.steps], context)
    except (CommandRefused, Rejected) as refusal:
        if len(prepared) == 1:
            if isinstance(refusal, Rejected):
                raise
            return {prepared[0].place: Imported(prepared[0].address, "refused", str(refusal))}
        if isinstance(refusal, Rejected) and refusal.reason != "guard":
            raise
        found: dict[int, Imported] = {}
        for one in prepared:
            found |= await _carry_out(made_by, [one], context)
        return found
    return {one.place: Imported(one.address, "added") for one in prepared}
