"""Connections to other servers: opened within limits, kept for a moment for the next message, closed with a goodbye.

A session is lent to one message at a time and comes back only where it can carry another. Idle ones are found by what
they were opened for: the same host, the same demands on TLS, the same address of ours, the same login.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

from nodes.config.delivery import DeliverySection
from nodes.delivery.client import Session


class Connections:
    """Of one node."""

    def __init__(self, config: DeliverySection) -> None:
        self._config = config
        self._all = asyncio.Semaphore(config.connections)
        self._hosts: dict[Hashable, tuple[asyncio.Semaphore, list[None]]] = {}  # with one entry for each user
        self._idle: dict[Hashable, deque[tuple[Session, asyncio.TimerHandle]]] = {}
        self._idle_count = 0
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def idle_count(self) -> int:
        """Sessions that wait for a message."""
        return self._idle_count

    @asynccontextmanager
    async def slot(self, host: Hashable) -> AsyncIterator[None]:
        """Leave to have one connection more to `host`; waits for it."""
        limit, users = self._hosts.setdefault(host, (asyncio.Semaphore(self._config.connections_per_host), []))
        users.append(None)
        try:
            async with limit, self._all:
                yield
        finally:
            users.pop()
            if not users:
                self._hosts.pop(host, None)

    def take(self, key: Hashable) -> Session | None:
        """An idle session that was opened for `key` and is still good: the one that was used last."""
        while waiting := self._idle.get(key):
            session, timer = waiting.pop()
            timer.cancel()
            self._gone(key)
            if session.is_reusable:
                return session
            session.wire.close()
        return None

    def give_back(self, key: Hashable, session: Session) -> None:
        """For the next message, if it is good for one; otherwise it is closed."""
        if not session.is_reusable or self._idle_count >= self._config.connections:
            self.close(session)
            return
        timer = asyncio.get_running_loop().call_later(self._config.idle_s, self._expire, key, session)
        self._idle.setdefault(key, deque()).append((session, timer))
        self._idle_count += 1

    def close(self, session: Session) -> None:
        """Says goodbye in the background."""
        task = asyncio.get_running_loop().create_task(session.quit())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def stop(self) -> None:
        """Closes all that is idle, and waits for the goodbyes."""
        for key in list(self._idle):
            while (session := self.take(key)) is not None:
                self.close(session)
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _expire(self, key: Hashable, session: Session) -> None:
        waiting = self._idle[key]
        waiting.remove(next(one for one in waiting if one[0] is session))
        self._gone(key)
        self.close(session)

    def _gone(self, key: Hashable) -> None:
        self._idle_count -= 1
        if not self._idle[key]:
            del self._idle[key]
