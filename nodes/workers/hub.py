"""What the workers of a node have in common, at the node: what the log tells, and what they tell each other through it.

A worker follows streams from a position that its own snapshot shows. What was folded between then and when the node
hears of it is told from memory; one that is further behind than that has lost sight of the log, and ends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from nodes.workers.messages import pack_applied

if TYPE_CHECKING:
    from eventlog.log import Applied, EventLog
    from nodes.policy.leases import Leases
    from nodes.workers.connections import Counts, SharedConnections
    from nodes.workers.desk import Desk

KEPT_EVENTS = 16_384  # of those folded last
STATE_S = 0.1


class Hub:
    """Event loop only; `stop` ends it. `connections` are those of all processes of the node, `leases` its tokens."""

    def __init__(self, log: EventLog, connections: SharedConnections, leases: Leases) -> None:
        self.log = log
        self.connections = connections
        self.leases = leases
        self._desks: dict[str, Desk] = {}
        self._followers: dict[bytes, set[Desk]] = {}
        self._recent: deque[Applied] = deque()
        self._unsubscribe = log.subscribe(None, self._applied)
        with log.snapshot() as snapshot:
            self._since = snapshot.position  # all that was folded after it is in there
        log.telling.overhear(self._overheard)
        self._told_state: dict[str, int] = {}
        self._task = asyncio.get_running_loop().create_task(self._tell_state())

    async def stop(self) -> None:
        self._unsubscribe()
        self.log.telling.overhear(None)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def state(self) -> dict[str, int]:
        """What a worker needs to know of the log beside what is in the database."""
        return {"at_ms": self.log.at_ms, "level": self.log.feature_level}

    def join(self, desk: Desk) -> None:
        """A worker is there."""
        for name in self._desks:
            desk.send({"type": "connections", "of": name, "counts": self.connections.of(name)})
        self._desks[desk.name] = desk

    def leave(self, desk: Desk) -> None:
        """It has ended."""
        if self._desks.pop(desk.name, None) is None:
            return
        for stream in list(self._followers):
            self.unfollow(desk, stream)
        self.connections.gone(desk.name)
        for other in self._desks.values():
            other.send({"type": "gone", "of": desk.name})

    # -- the log

    def follow(self, desk: Desk, stream: bytes, position: int) -> bool:
        """Tells it of a stream's events after `position`, from here on; False where not all of them are known here."""
        if position < self._since:
            return False
        self._followers.setdefault(stream, set()).add(desk)
        missed = [one for one in self._recent if one.event.stream == stream and one.stamp.position > position]
        if missed:
            desk.send({"type": "applied", "items": pack_applied(missed)})
        return True

    def unfollow(self, desk: Desk, stream: bytes) -> None:
        followers = self._followers.get(stream)
        if followers is not None:
            followers.discard(desk)
            if not followers:
                del self._followers[stream]

    def _applied(self, items: list[Applied]) -> None:
        told: dict[Desk, list[Applied]] = {}
        for one in items:
            for desk in self._followers.get(one.event.stream, ()):
                told.setdefault(desk, []).append(one)
        for desk, news in told.items():
            desk.send({"type": "applied", "items": pack_applied(news)})
        self._recent.extend(items)
        while len(self._recent) > KEPT_EVENTS:
            self._since = self._recent.popleft().stamp.position

    async def _tell_state(self) -> None:
        while True:
            state = self.state()
            if state != self._told_state:
                self._told_state = state
                for desk in self._desks.values():
                    desk.send({"type": "state", **state})
            await asyncio.sleep(STATE_S)

    # -- what processes tell each other

    def told(self, desk: Desk, topic: str, data: bytes) -> None:
        """A worker tells: the node, the other workers, and the other nodes hear it. Raises ValueError."""
        self.log.telling.pass_on(desk.name, topic, data)
        self._pass_on(desk.name, topic, data)

    def count(self, name: str, counts: Counts) -> None:
        """The connections of a worker."""
        self.connections.heard(name, counts)
        for other in self._others(name):
            other.send({"type": "connections", "of": name, "counts": counts})

    def _overheard(self, teller: str, topic: str, data: bytes) -> None:
        self._pass_on(teller or self.log.config.name, topic, data)

    def _pass_on(self, teller: str, topic: str, data: bytes) -> None:
        for desk in self._others(teller):
            desk.send({"type": "told", "of": teller, "topic": topic, "data": data})

    def _others(self, name: str) -> list[Desk]:
        return [desk for desk in self._desks.values() if desk.name != name]

    def desks(self) -> list[Desk]:
        """Those of all workers that are there."""
        return list(self._desks.values())
