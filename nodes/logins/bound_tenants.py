"""Whose a connection is before anybody logs in: by the listener, or by the host name that the client asked for (SNI).

A listener is bound by this machine's configuration. A name is bound where its tenant says so (policy own_names=on): it
is the tenant's if it is one of its domains, or stands below one, as imap.example.test does below example.test. What is
bound lets nobody else in, and says so in the words of a wrong password after the work of one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors import tenant
from actors.directory import tenant_named, tenant_with
from actors.errors import InvalidName, NoSuchTenant
from actors.tenant_policy import ON, settings
from nodes.tls.front import server_name

if TYPE_CHECKING:
    import ssl

    from eventlog.log import EventLog
    from eventlog.store import Snapshot
    from nodes.config.node import ListenerKind, NodeConfig
    from nodes.services import Services
    from nodes.trail import Trail

OWN_NAMES = "own_names"
NOBODY = b""  # bound to a tenant that there is not: nobody comes in
MOST_LABELS = 10


def tenant_at(log: EventLog, config: NodeConfig, kind: ListenerKind, host: str | None) -> bytes | None:
    """The tenant whose accounts alone may log in here; None: any, NOBODY: none of them."""
    named: str = getattr(config.tenants, kind, "")
    if not named and not host:
        return None
    with log.snapshot() as snapshot:
        if named:
            return _named(snapshot, named)
        found = tenant_of_host(snapshot, host or "")
        return found if found is not None and settings(snapshot.view(found)).get(OWN_NAMES) == ON else None


def tenant_of_host(snapshot: Snapshot, host: str) -> bytes | None:
    """The tenant that has the domain that a host name is, or stands below; of several the nearest."""
    labels = host.split(".")
    for first in range(max(0, len(labels) - MOST_LABELS), len(labels) - 1):
        found = tenant_with(snapshot, ".".join(labels[first:]))
        if found is not None:
            return found
    return None


def tenant_name(log: EventLog, tenant_id: bytes | None) -> str | None:
    """What log lines call a tenant."""
    if not tenant_id:
        return None
    with log.snapshot() as snapshot:
        row = snapshot.view(tenant_id).peek(tenant.TENANT_KEY)
    return str(row[0]) if row is not None else None


def bind(trail: Trail, services: Services, kind: ListenerKind, tls: ssl.SSLObject | None) -> None:
    """From now on the lines of a connection name the tenant that it is bound to, where it is bound to one."""
    bound = tenant_at(services.log, services.config, kind, server_name(tls))
    trail.tenant = tenant_name(services.log, bound) or ""


def _named(snapshot: Snapshot, name: str) -> bytes:
    try:
        return tenant_named(snapshot, name)
    except (NoSuchTenant, InvalidName):
        return NOBODY
