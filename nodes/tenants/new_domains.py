"""Which domains nobody should have by mistake: those that are everybody's, and those that stand below another's.

A tenant gets the mail of a domain that it is given, and its names; so what is given by a slip is somebody else's mail.
A cluster administrator who means it says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from actors.directory import domain_tenant
from actors.errors import NotAllowed
from actors.names import normalise_domain
from nodes.verdicts.organisation import is_public_suffix

if TYPE_CHECKING:
    from eventlog.log import EventLog
    from eventlog.store import Snapshot

LOCAL = frozenset(("localhost", "localdomain"))  # RFC 6761 6.3
_ADDRESS = re.compile(r"\[.*\]|[0-9.]+|0x[0-9a-f.x]+")


async def require_sound(log: EventLog, domains: Iterable[str], tenant: bytes | None) -> None:
    """Whether these may be `tenant`'s (None: a new one's). Raises NotAllowed, saying why not, and InvalidName."""
    for domain in domains:
        name = normalise_domain(domain)
        if await is_public_suffix(name):
            why: str | None = "is a public suffix, below which everybody registers domains"
        else:
            with log.snapshot() as snapshot:
                why = _why_not(snapshot, name, tenant)
        if why is not None:
            raise NotAllowed(f"{domain} {why}; a cluster administrator who means it says so (--force)")


def _why_not(snapshot: Snapshot, domain: str, tenant: bytes | None) -> str | None:
    if _ADDRESS.fullmatch(domain):
        return "is a network address, not a domain"
    labels = domain.split(".")
    if labels[-1] in LOCAL:
        return "is a name that every machine has for itself"
    for first in range(1, len(labels)):
        above = ".".join(labels[first:])
        if domain_tenant(snapshot, above) not in (None, tenant):
            return f"stands below {above}, which another tenant has"
    return None
