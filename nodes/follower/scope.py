"""What may be followed under a grant: one tenant, or one account of it. Decided event by event, on both sides.

The source sends nothing else; the follower takes nothing else, so that a cell that it follows can never write on a
stream of somebody else's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, get_args

from actors import mailbox, names, tenant
from actors.kind import Fact, decode
from actors.region import REGION, WHOLE_TENANT, TenantRegistered
from eventlog.record import Event, Record
from eventlog.store import Snapshot

_MAILBOX = frozenset(fact.TYPE for fact in get_args(mailbox.MailboxFact))
_NAMES = frozenset(fact.TYPE for fact in get_args(names.NameFact))
_TENANT = frozenset(fact.TYPE for fact in get_args(tenant.TenantFact))
_OF_ALL_ACCOUNTS = (tenant.TenantCreated, tenant.TimeTravelAllowed)
_OWN_TENANT = "tenant:"  # the name that a tenant itself holds begins so


class Scope(NamedTuple):
    """A tenant; `account` is empty for all of it."""

    tenant: bytes
    account: bytes

    def takes(self, event: Event) -> bool:
        """Whether an event may be followed. Raises UnknownEventType for a later version of a type that is."""
        if event.type == TenantRegistered.TYPE:
            return event.stream == REGION and self._fact(event).tenant == self.tenant
        if event.tenant != self.tenant:
            return False
        if event.type in _MAILBOX:
            return self.account in (WHOLE_TENANT, event.stream)
        if event.type in _NAMES:
            return self._takes_name(event, self._fact(event))
        return event.type in _TENANT and event.stream == self.tenant and self._takes_of_tenant(self._fact(event))

    def _takes_name(self, event: Event, fact: Any) -> bool:
        if event.stream != names.name_stream(fact.name):
            return False
        return self.account in (WHOLE_TENANT, fact.owner) or fact.name.startswith(_OWN_TENANT)

    def _takes_of_tenant(self, fact: Fact) -> bool:
        if self.account == WHOLE_TENANT or isinstance(fact, _OF_ALL_ACCOUNTS):
            return True
        return getattr(fact, "account", None) == self.account

    def _fact(self, event: Event) -> Any:
        return decode(event.type, event.version, event.data)


def may_see_header(scope: Scope, record: Record, snapshot: Snapshot) -> bool:
    """Whether id, author, cause and guards of a record are for the follower: they are of its streams alone."""
    streams = {event.stream for event in record.events}
    if not all(scope.takes(event) for event in record.events):
        return False
    if not all(guard.stream in streams for guard in record.guards):
        return False
    return record.by.kind != "account" or mailbox.tenant_of(snapshot.view(record.by.id)) == scope.tenant


def bodies_of(events: Iterable[Event]) -> set[bytes]:
    """The digests of the bodies that events refer to."""
    facts = (decode(event.type, event.version, event.data) for event in events if event.type in _MAILBOX)
    return {digest for fact in facts if (digest := getattr(fact, "digest", None)) is not None}


def may_write(scope: Scope, event: Event, snapshot: Snapshot) -> bool:
    """Whether an event that a source sent may stand in this log: it is in scope, and its stream nobody else's."""
    if not scope.takes(event):
        return False
    view = snapshot.view(event.stream)
    if event.type in _MAILBOX:
        return mailbox.tenant_of(view) in (b"", scope.tenant)
    if event.type == names.NameReleased.TYPE:
        held = names.holder(view)
        return held is None or held.tenant == scope.tenant
    return True
