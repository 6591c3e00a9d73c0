"""What readers wait for: that this node has folded a position, or all that was acknowledged before they asked.

Up to where that is says the leader, once a majority has confirmed that it leads.
(Raft paper, section 8.) A node asks again when nothing comes: nothing is lost by asking twice. Event loop only.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Any

from eventlog.errors import OutcomeUnknown
from eventlog.ticks import Item, State

ASK_AGAIN_S = 1.0
PAUSE_S = 0.05  # where there is no leader, or it can not say


class Barrier:
    """The rounds that this node waits for."""

    def __init__(
        self,
        name: str,
        state: Callable[[], State],
        put: Callable[[Item], None],
        forward: Callable[[str, dict[str, Any]], bool],
    ) -> None:
        self._name = name
        self._state = state
        self._put = put
        self._forward = forward
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[bytes, asyncio.Future[int | None]] = {}
        self._progress = asyncio.Event()

    async def wait(self, timeout_s: float = 8.0) -> int:
        """Returns once all is folded here that was acknowledged anywhere before the call; gives up to where.

        Raises OutcomeUnknown without a majority in time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                index = await self._index()
                if self._state().applied < index:
                    self._put(("awaited", index))
                await self.applied(index)
                return index
        except TimeoutError:
            raise OutcomeUnknown("no majority answered in time, so this node can not tell what is new") from None

    async def applied(self, position: int) -> None:
        """Waits until this node has folded `position`."""
        while self._state().applied < position:
            self._progress.clear()
            await self._progress.wait()

    def progressed(self) -> None:
        """More is folded than before."""
        self._progress.set()

    async def _index(self) -> int:
        while True:
            token = os.urandom(8)
            answer = self._loop.create_future()
            self._waiting[token] = answer
            try:
                self._ask(token)
                async with asyncio.timeout(ASK_AGAIN_S):
                    index = await answer
                    if index is not None:
                        return int(index)
            except TimeoutError:
                continue
            finally:
                self._waiting.pop(token, None)
            await asyncio.sleep(PAUSE_S)

    def finish(self, token: bytes, index: int | None) -> None:
        """A round has ended; None: it must be asked for again."""
        future = self._waiting.get(token)
        if future is not None and not future.done():
            future.set_result(index)

    def stop(self) -> None:
        """Nobody is answered any more."""
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(OutcomeUnknown("this node is stopping"))

    def _ask(self, token: bytes) -> None:
        leader = self._state().leader
        if leader == self._name:
            self._put(("read", token))
        elif leader is None or not self._forward(leader, {"type": "read", "token": token}):
            self.finish(token, None)
