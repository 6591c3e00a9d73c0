"""Greetings for APOP (RFC 1939 7): a timestamp that no other connection gets, while any tenant allows APOP at all.

Who connects is not known yet, so the greeting can not go by the tenant. Policies are looked through in pieces and not
more often than every few seconds: for as long a change may not be seen.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

from actors import apop, tenant

if TYPE_CHECKING:
    from nodes.services import Services

LOOK_EVERY_S = 2.0
TENANTS_AT_ONCE = 500


class Greetings:
    """Of one listener."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._possible = False
        self._looked_s = -LOOK_EVERY_S
        self._looking = asyncio.Lock()

    async def timestamp(self) -> bytes:
        """What the greeting ends with; b"" where nobody could use it."""
        async with self._looking:
            now_s = asyncio.get_running_loop().time()
            if now_s - self._looked_s >= LOOK_EVERY_S:
                self._possible = await self._is_possible()
                self._looked_s = now_s
        if not self._possible:
            return b""
        return f"<{os.urandom(16).hex()}.{time.time_ns()}@{self._services.config.node.hostname}>".encode()

    async def _is_possible(self) -> bool:
        with self._services.log.snapshot() as snapshot:
            ids = [entry.id for entry in tenant.tenants(snapshot)]
        for at in range(0, len(ids), TENANTS_AT_ONCE):
            with self._services.log.snapshot() as snapshot:
                if any(apop.is_allowed(snapshot.view(one)) for one in ids[at : at + TENANTS_AT_ONCE]):
                    return True
            await asyncio.sleep(0)
        return False
