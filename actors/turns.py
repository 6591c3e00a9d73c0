"""Who is next for something slow that is done one at a time: askers in turn, however much each of them wants.

A flood from one asker fills that asker's queue and no other, and what is known to be good goes before what is not.
Everything lives on one event loop.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from actors.errors import CommandRefused

MAX_WAITING = 256
MAX_WAITING_OF_ONE = 16


class Overloaded(CommandRefused):
    """Too many passwords are waiting to be checked; try again later."""


class _Queue:
    """Waiting turns by asker; one of each in rotation."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self.length = 0

    def join(self, asker: str, turn: asyncio.Future[None]) -> None:
        """Raises Overloaded when too many wait, of this asker or together."""
        of_one = len(self._waiting.get(asker, ()))
        if self.length >= MAX_WAITING or (asker and of_one >= MAX_WAITING_OF_ONE):
            raise Overloaded("too many logins at once")
        self._waiting.setdefault(asker, deque()).append(turn)
        self.length += 1

    def next(self) -> asyncio.Future[None] | None:
        while self._waiting:
            asker, turns = self._waiting.popitem(last=False)
            turn = turns.popleft()
            self.length -= 1
            if turns:
                self._waiting[asker] = turns
            if not turn.done():  # who went away while waiting has no turn
                return turn
        return None


class Turns:
    """`async with turns.turn(asker)`: the block is entered by one at a time. An asker of "" has no limit of its own."""

    def __init__(self) -> None:
        self._first, self._others = _Queue(), _Queue()
        self._busy = False

    @asynccontextmanager
    async def turn(self, asker: str, *, first: bool = False) -> AsyncIterator[None]:
        """`first`: before all who are not. Raises Overloaded when too many wait, of this asker or together."""
        queue = self._first if first else self._others
        if self._busy:
            await self._wait(queue, asker)
        self._busy = True
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, queue: _Queue, asker: str) -> None:
        turn = asyncio.get_running_loop().create_future()
        queue.join(asker, turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on()  # it was given to us, and we are gone
            raise

    def _pass_on(self) -> None:
        following = self._first.next() or self._others.next()
        if following is None:
            self._busy = False
        else:
            following.set_result(None)  # still busy: nobody may slip in before it wakes
