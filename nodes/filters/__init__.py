"""Content filters that are asked about a message before it is taken: Rspamd, ClamAV, milters. See docs/filters.md."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from nodes.config.filters import split_milter
from nodes.filters.clamav import ClamavFilter
from nodes.filters.health import Health
from nodes.filters.milter import MilterFilter
from nodes.filters.rspamd import RspamdFilter
from nodes.filters.slots import Room
from nodes.filters.watch import Watch

if TYPE_CHECKING:
    from nodes.config.node import NodeConfig
    from nodes.filters.check import Filter
    from nodes.metrics import Metrics


class Filters:
    """The checks that [filters] asks for, in order; they are looked at from time to time, until `stop`.

    `host_name_of` gives the confirmed name of a client's address, if it is known.
    """

    def __init__(self, config: NodeConfig, metrics: Metrics, host_name_of: Callable[[str], str | None]) -> None:
        self.checks = tuple(_filters(config, metrics, host_name_of))
        self._watch = Watch(self.checks, config.filters.retry_s)

    def status(self) -> dict[str, str]:
        """By name: "up", "unknown", or why it is down."""
        return {one.name: _standing(one.health) for one in self.checks}

    async def retire(self, after_s: float) -> None:
        """Others are asked from now on; what these are asked already they may answer for so long."""
        await self._watch.stop()
        await asyncio.sleep(after_s)
        await self.stop()

    async def stop(self) -> None:
        await self._watch.stop()
        for one in self.checks:
            await one.close()


def _filters(config: NodeConfig, metrics: Metrics, host_name_of: Callable[[str], str | None]) -> Iterator[Filter]:
    named, hostname, room = config.filters, config.node.hostname, Room(config.filters.held_bytes)
    for kind in named.order:
        if kind == "rspamd" and named.rspamd:
            health = Health("rspamd", named, metrics)
            yield RspamdFilter(named.rspamd, config.rspamd, health, room, hostname, host_name_of)
        elif kind == "clamav" and named.clamav:
            yield ClamavFilter(named.clamav, config.clamav, Health("clamav", named, metrics), room)
        elif kind == "milters":
            for name, address in map(split_milter, named.milters):
                yield MilterFilter(address, config.milter, Health(name, named, metrics), room, hostname, host_name_of)


def _standing(health: Health) -> str:
    if health.is_up is None:
        return "unknown"
    return "up" if health.is_up else f"down: {health.reason}"
