"""Fake time: one queue of what is to happen, and an asyncio loop a node over it.

A node's loop is the node's process: when it is killed nothing of it runs any more, when it is paused all of it waits.
Between two entries of the queue no time passes.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, cast

START_MS = 1_700_000_000_000
BEGIN_S = 100.0


class Handle:
    """Something that is to happen, unless it is cancelled; as asyncio's own handles are used."""

    __slots__ = ("args", "callback", "context", "gone", "loop", "when_s")

    def __init__(
        self,
        when_s: float,
        loop: NodeLoop | None,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context | None,
    ) -> None:
        self.when_s = when_s
        self.loop = loop
        self.callback = callback
        self.args = args
        self.context = context
        self.gone = False

    def cancel(self) -> None:
        self.gone = True

    def cancelled(self) -> bool:
        return self.gone

    def when(self) -> float:
        return self.when_s


class Clock:
    """Time in seconds, and the queue. `current` is the process that runs now: its wall clock is what is read."""

    def __init__(self) -> None:
        self.now = BEGIN_S
        self.current: NodeLoop | None = None
        self._heap: list[tuple[float, int, Handle]] = []
        self._sequence = itertools.count()

    def at(self, when_s: float, callback: Callable[..., object], *args: Any) -> Handle:
        """Something outside of all nodes: the network's, the disturber's."""
        return self.push(Handle(when_s, None, callback, args, None))

    def after(self, delay_s: float, callback: Callable[..., object], *args: Any) -> Handle:
        return self.at(self.now + delay_s, callback, *args)

    def push(self, handle: Handle) -> Handle:
        heapq.heappush(self._heap, (handle.when_s, next(self._sequence), handle))
        return handle

    def clear(self) -> None:
        """Nothing is to happen any more."""
        self._heap.clear()

    def wall_s(self) -> float:
        """Seconds since 1970 as the process that runs now is told."""
        skew_ms = self.current.skew_ms if self.current is not None else 0
        return START_MS / 1000 + self.now + skew_ms / 1000

    def run_as(self, loop: NodeLoop | None, callback: Callable[..., object], *args: Any) -> None:
        """Calls at once, as that process would."""
        before = self.current
        self._enter(loop)
        try:
            callback(*args)
        finally:
            self._enter(before)

    def run_until(self, when_s: float, enough: Callable[[], bool] = lambda: False) -> None:
        """Lets happen what is due until then, or until it is enough. What a callback raises comes out here."""
        heap = self._heap
        try:
            while heap and heap[0][0] <= when_s and not enough():
                handle = heapq.heappop(heap)[2]
                if self._is_due(handle):
                    self._run(handle)
        finally:
            self._enter(None)
        if not enough():
            self.now = max(self.now, when_s)

    def _is_due(self, handle: Handle) -> bool:
        """Whether it happens now: not if it was cancelled, its process is dead, or paused until later."""
        loop = handle.loop
        if handle.gone or (loop is not None and loop.dead):
            return False
        if loop is not None and loop.paused_until_s > handle.when_s:
            handle.when_s = loop.paused_until_s
            self.push(handle)
            return False
        return True

    def _run(self, handle: Handle) -> None:
        self.now = handle.when_s
        self._enter(handle.loop)
        if handle.context is None:
            handle.callback(*handle.args)
        else:
            handle.context.run(handle.callback, *handle.args)

    def _enter(self, loop: NodeLoop | None) -> None:
        if loop is not self.current:
            self.current = loop
            asyncio._set_running_loop(cast(Any, loop))


class NodeLoop:
    """The event loop of one life of one node: as much of asyncio's as the event log and the actors use."""

    def __init__(self, clock: Clock, skew_ms: int) -> None:
        self._clock = clock
        self.skew_ms = skew_ms
        self.dead = False
        self.paused_until_s = 0.0
        self._tasks: list[asyncio.Task[Any]] = []

    def end(self) -> None:
        """Takes apart what was under way when the process died; left to the garbage collector it would run later."""
        self.dead = True
        for task in self._tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                cast(Coroutine[Any, Any, Any], task.get_coro()).close()
        self._tasks.clear()

    def time(self) -> float:
        return self._clock.now

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> Any:
        return self._clock.push(Handle(self._clock.now, self, callback, args, context))

    call_soon_threadsafe = call_soon

    def call_later(self, delay: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        return self.call_at(self._clock.now + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        return self._clock.push(Handle(max(when, self._clock.now), self, callback, args, context))

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=cast(Any, self))

    def create_task(self, coro: Any, *, name: Any = None, context: Context | None = None) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=cast(Any, self), name=name, context=context)
        self._tasks.append(task)
        return task

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs work of which nobody awaits the end; what it raises ends the simulation."""
        self.create_task(work).add_done_callback(_raise)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self.dead

    def is_closed(self) -> bool:
        return self.dead

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Tasks of a life that has ended are thrown away unfinished, which asyncio reports here."""


def _raise(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error
