"""When the consensus thread has its ticks: as soon as something wants one, else when the state of its last one says so.

One tick is on its way at a time. What one turn of the loop brings goes into one tick, what comes meanwhile into the
next. Event loop only.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeVar

from eventlog.raft import Message
from eventlog.ticks import Item, State, Tick
from eventlog.writer import Writer

TIMER_S = 0.001  # a loop's timer may be early by its resolution, and a tick before its time does nothing
END_POLL_S = 0.001

T = TypeVar("T")


class Pump:
    """Hands over what the consensus thread of one node is to take, and takes what its ticks let go.

    state: what is known of the thread since its last tick.
    """

    def __init__(
        self,
        writer: Writer,
        send: Callable[[list[tuple[str, Message]]], None],
        let_go: Callable[[Tick, State], None],
    ) -> None:
        """send: what may leave while a tick is written; let_go: what a durable one lets go, and the state before it."""
        self.state = writer.state
        self._writer = writer
        self._send = send
        self._let_go = let_go
        self._loop = asyncio.get_running_loop()
        self._inbox: list[Item] = []
        self._pressing = False  # whether something in there wants a tick by itself
        self._acknowledged = 0  # up to where answers in there acknowledge the log
        self._ticking = False  # a tick is on its way: computed, not yet durable
        self._begun_s = 0.0  # of the monotonic clock: when the last one began
        self._due = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def under_way_s(self) -> float:
        """How long the present tick has been on its way; 0 between two."""
        return time.monotonic() - self._begun_s if self._ticking else 0.0

    def put(self, item: Item) -> None:
        """Hands something to the consensus thread: with all else that this turn of the loop brings, in one tick."""
        self._inbox.append(item)
        self._pressing = True
        self._begin_soon()

    def put_answer(self, peer: str, message: dict[str, Any]) -> None:
        """A peer's answer to entries. One that a majority does not wait for is taken with what comes next."""
        self._inbox.append(("message", peer, message))
        match = message.get("match")
        plain = message.get("success") is True and not message.get("lost")
        if plain and message.get("term") == self.state.term and type(match) is int:
            self._acknowledged = max(self._acknowledged, match)
        else:
            self._pressing = True
        if self._wants_tick():
            self._begin_soon()

    def begin(self) -> None:
        """Begins a tick, unless one is under way; its end begins the next if something waits."""
        self._due = False
        if self._ticking or not self._writer.is_alive():
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._ticking = True
        self._begun_s = time.monotonic()
        items, self._inbox = self._inbox, []
        self._pressing, self._acknowledged = False, 0
        self._send(self._writer.tick(items))

    def take(self, tick: Tick) -> None:
        """A tick is durable."""
        before, self.state = self.state, tick.state
        try:
            self._let_go(tick, before)
        finally:
            self._ticking = False
            if self._wants_tick() or tick.state.behind:
                self._begin_soon()
            elif self._writer.is_alive():
                delay_s = max(0.0, tick.state.deadline - time.monotonic()) + TIMER_S
                self._timer = self._loop.call_later(delay_s, self.begin)

    async def between_ticks(self, work: Callable[[], T]) -> T:
        """Runs `work` on the consensus thread before a tick, while the event loop waits. Raises what `work` raises."""
        done: asyncio.Future[T] = self._loop.create_future()

        def call() -> None:
            try:
                result = work()
            except Exception as error:
                self._loop.call_soon_threadsafe(_settle, done, None, error)
            else:
                self._loop.call_soon_threadsafe(_settle, done, result, None)

        self.put(("call", call))
        return await done

    async def end(self) -> None:
        """Waits for the tick under way, then for the last one."""
        while self._ticking and self._writer.is_alive():
            await asyncio.sleep(END_POLL_S)
        if self._timer is not None:
            self._timer.cancel()
        if self._writer.is_alive():
            self._ticking = True
            self._writer.tick([("stop",)])
            await asyncio.to_thread(self._writer.join)

    def _wants_tick(self) -> bool:
        state = self.state
        return self._pressing or self._acknowledged > state.commit or bool(self._inbox and state.waits_for_answers)

    def _begin_soon(self) -> None:
        if not self._due and not self._ticking:
            self._due = True
            self._loop.call_soon(self.begin)


def _settle(future: asyncio.Future[T], result: Any, error: Exception | None) -> None:
    if future.done():
        return  # whoever waited has gone
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
