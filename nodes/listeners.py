"""The front ends of one node that listen: started together, moved to other addresses while it runs, stopped together.

One that moves is opened at its new address before the old one is given up; who is connected there stays connected.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from nodes.config.node import LISTENERS, ListenerKind, NodeConfig
from nodes.services import Listener, Services, StartListener


class Listeners:
    """`endpoints` shows where each listens; it is the caller's. An `Opening` of nodes/config/reloading.py."""

    def __init__(
        self, services: Services, front_ends: Mapping[ListenerKind, StartListener], endpoints: dict[str, str]
    ) -> None:
        self._services = services
        self._front_ends = front_ends
        self._endpoints = endpoints
        self._listening: dict[ListenerKind, Listener] = {}
        self._opened: dict[ListenerKind, Listener | None] = {}
        self._retired: list[Listener] = []

    async def start(self, kind: ListenerKind, address: str) -> None:
        """Nothing for an address of "". Raises OSError."""
        if address:
            self._listening[kind] = listener = await self._front_ends[kind](self._services, kind, address)
            self._endpoints[kind] = listener.address

    def reload(self) -> None:
        """What `services` has is of another configuration: from now on by that."""
        for listener in self._all():
            listener.reload()

    async def open(self, before: NodeConfig, after: NodeConfig) -> None:
        """Opens those whose address differs, beside those that are there. Raises OSError that names the key."""
        for kind in LISTENERS:
            address = getattr(after.listen, kind)
            if address == getattr(before.listen, kind):
                continue
            try:
                self._opened[kind] = await self._front_ends[kind](self._services, kind, address) if address else None
            except OSError as error:
                raise OSError(f"listen.{kind} = {address}: can not listen there: {error.strerror or error}") from None

    def keep(self) -> None:
        """Those that were opened listen in the place of the old ones, whose sessions go on."""
        for kind, opened in self._opened.items():
            if kind in self._listening:
                old = self._listening.pop(kind)
                old.retire()
                self._retired.append(old)
                del self._endpoints[kind]
            if opened is not None:
                self._listening[kind] = opened
                self._endpoints[kind] = opened.address
        self._opened.clear()

    async def give_up(self) -> None:
        """Closes what was opened."""
        for opened in self._opened.values():
            if opened is not None:
                await opened.stop(0.0)
        self._opened.clear()

    def retire(self) -> None:
        """Accepts no more anywhere; sessions go on."""
        for listener in self._all():
            listener.retire()

    async def stop(self, grace_s: float) -> list[BaseException]:
        """All at once: the grace is for the whole node. Gives what went wrong."""
        ended = await asyncio.gather(*(one.stop(grace_s) for one in self._all()), return_exceptions=True)
        return [error for error in ended if error is not None]

    def _all(self) -> list[Listener]:
        return [*self._retired, *self._listening.values(), *(one for one in self._opened.values() if one is not None)]
