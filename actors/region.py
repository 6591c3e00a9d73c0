"""The region: which tenants it has and which queues were ever opened, so that both can be listed.

One stream, found by name. It is written when a tenant or the queue of a new destination appears, never on the path
of an ordinary message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from actors.errors import NameTaken
from actors.kind import Command, Fact
from eventlog.record import Stamp, stream_id
from eventlog.views import View

REGION = stream_id("region", "root")


@dataclass(frozen=True, slots=True)
class RegisterTenant(Command):
    tenant: bytes
    name: str


@dataclass(frozen=True, slots=True)
class OpenQueue(Command):
    domain: str


@dataclass(frozen=True, slots=True)
class TenantRegistered(Fact):
    tenant: bytes
    name: str


@dataclass(frozen=True, slots=True)
class QueueOpened(Fact):
    domain: str


RegionCommand = RegisterTenant | OpenQueue
RegionFact = TenantRegistered | QueueOpened


def decide(view: View, command: RegionCommand) -> tuple[RegionFact, ...]:
    """Raises NameTaken for a tenant id that is registered; opening an open queue is no event."""
    match command:
        case RegisterTenant(tenant, name):
            if view.get(b"t" + tenant) is not None:
                raise NameTaken("the tenant is registered")
            return (TenantRegistered(tenant, name),)
        case OpenQueue(domain):
            return () if has_queue(view, domain) else (QueueOpened(domain),)
        case _:
            assert_never(command)


def evolve(view: View, fact: RegionFact, stamp: Stamp) -> None:
    match fact:
        case TenantRegistered():
            view.put(b"t" + fact.tenant, (fact.name, stamp.at_ms))
        case QueueOpened():
            if not has_queue(view, fact.domain):
                view.put(b"q" + fact.domain.encode(), stamp.at_ms)
        case _:
            assert_never(fact)


def has_queue(view: View, domain: str) -> bool:
    # Not a guard: two openings of one queue are one opening.
    return view.peek(b"q" + domain.encode()) is not None


def tenant_ids(view: View) -> list[tuple[bytes, str]]:
    """Id and name of each tenant, oldest first."""
    return [(key[1:], row[0]) for key, row in view.range(b"t")]


def queue_domains(view: View) -> list[str]:
    """The destination domains that ever had a queue, sorted."""
    return [key[1:].decode() for key, _ in view.range(b"q")]
