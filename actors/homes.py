"""Which tenants are replicas here, asked for every command: kept in memory and read again when the region changes.

A tenant is marked as a replica before anything of it is in this log, so no command can come between.
"""

from __future__ import annotations

from typing import Any

from actors import region
from eventlog.log import EventLog


class Homes:
    """The homes of this node's replicas."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._known: dict[bytes, str] = {}
        log.subscribe(region.REGION, self._read)
        self._read([])

    def of(self, tenant: bytes) -> str | None:
        """The cell that is the tenant's home; None where it is this one."""
        return self._known.get(tenant)

    def _read(self, _: list[Any]) -> None:
        with self._log.snapshot() as snapshot:
            self._known = region.homes(snapshot.view(region.REGION))
