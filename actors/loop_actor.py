"""Pykka actors on the asyncio loop: inbox, future and actor loop without a thread each.

Everything here runs on one event loop; messages may be sent from other threads, answers are awaited, never waited
for, on the loop. An idle actor is a few small objects: no thread, no task, no lock. A handler may return a coroutine,
which is run as a task while the actor goes on with its next message.
"""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
from collections import deque
from collections.abc import Coroutine, Generator, Iterable, Iterator
from inspect import iscoroutine
from types import TracebackType
from typing import Any, TypeVar, cast
from uuid import uuid4

import pykka

T = TypeVar("T")
_ExcInfo = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]

MESSAGES_PER_TURN = 256  # then other callbacks of the loop have their turn


class NotReady(RuntimeError):
    """`get` on the event loop for an answer that has not come: it must be awaited instead."""


class LoopFuture(pykka.Future[T]):
    """A Pykka future that is awaited on the event loop without a thread; other threads may block on `get`."""

    # Defaults on the class: a future is made for every ask, and most of these are never set on it.
    _get_hook: Any = None
    _done = False
    _value: Any = None
    _error: BaseException | None = None
    _waiters: list[asyncio.Future[None]] | None = None
    _event: threading.Event | None = None

    def __init__(self) -> None:
        # pykka.Future only sets what the class above holds already, and one more object for hooks.
        pass

    def set_get_hook(self, func: Any) -> None:
        if self._done:
            raise queue.Full
        super().__init__()
        super().set_get_hook(func)

    def set(self, value: T | None = None) -> None:
        self._refuse_second()
        self._value = value
        self._settle()

    def set_exception(self, exc_info: _ExcInfo | None = None) -> None:
        self._refuse_second()
        kind, error, traceback = exc_info or sys.exc_info()
        if error is None:
            assert kind is not None, "set_exception without an exception"
            error = kind()
        self._error = error.with_traceback(traceback)
        self._settle()

    def get(self, *, timeout: float | None = None) -> T:
        """The answer. On the event loop only when it is there (else NotReady); elsewhere it blocks."""
        if self._get_hook is not None:
            return super().get(timeout=timeout)
        if not self._done:
            self._block(timeout)
        if self._error is not None:
            raise self._error
        return cast(T, self._value)

    def __await__(self) -> Generator[Any, None, T]:
        if self._get_hook is not None:
            return (yield from self._poll())
        if not self._done:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            if self._waiters is None:
                self._waiters = [waiter]
            else:
                self._waiters.append(waiter)
            yield from waiter
        if self._error is not None:
            raise self._error
        return cast(T, self._value)

    __iter__ = __await__

    def _poll(self) -> Generator[Any, None, T]:
        while True:
            try:
                return self.get()
            except NotReady:
                yield

    def _refuse_second(self) -> None:
        if self._done or self._get_hook is not None:
            raise queue.Full  # as Pykka's own futures do

    def _settle(self) -> None:
        self._done = True
        for waiter in self._waiters or ():
            if not waiter.done():
                waiter.set_result(None)
        if self._event is not None:
            self._event.set()

    def _block(self, timeout: float | None) -> None:
        if asyncio._get_running_loop() is not None:
            raise NotReady("await the future instead")
        self._event = threading.Event()
        if not self._done and not self._event.wait(timeout):
            raise pykka.Timeout(f"{timeout} seconds")


class ThreadSafeFuture(LoopFuture[T]):
    """The future of an actor in a thread of its own whose askers await on `loop`."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        super().__init__()
        self._loop = loop

    def _settle(self) -> None:
        if self._loop is None or self._loop.is_closed():
            super()._settle()
            return
        self._loop.call_soon_threadsafe(super()._settle)
        if self._event is not None:
            self._event.set()


class LoopInbox:
    """The inbox of an actor on the loop; it also holds the actor's stopped flag, so that one object serves both."""

    __slots__ = ("_actor", "_items", "_loop", "_scheduled", "_stopped", "_thread", "last_used_s", "unanswered")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._items: deque[Any] | None = None
        self._loop = loop
        self._thread = threading.get_ident()
        self._actor: LoopActor | None = None
        self._scheduled = False
        self._stopped = False
        self.unanswered = 0  # messages in work: taken from the inbox, their coroutine not yet done
        self.last_used_s = 0.0

    def attach(self, actor: LoopActor) -> None:
        self._actor = actor

    def put(self, envelope: Any, /) -> None:
        if self._items is None:
            self._items = deque()
        self._items.append(envelope)
        if threading.get_ident() != self._thread:
            self._loop.call_soon_threadsafe(self._wake)
        elif not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._run)

    def get(self) -> Any:
        if not self._items:
            raise queue.Empty
        envelope = self._items.popleft()
        if not self._items:
            self._items = None  # an empty deque takes 600 bytes; thousands of actors are idle
        return envelope

    def empty(self) -> bool:
        return not self._items

    @property
    def idle(self) -> bool:
        return not self._items and not self.unanswered

    def is_set(self) -> bool:
        """The stopped flag, as `threading.Event` has it."""
        return self._stopped

    def set(self) -> None:
        self._stopped = True

    def _wake(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        self._scheduled = False
        actor = self._actor
        if actor is None:
            return
        actor.take_messages(MESSAGES_PER_TURN)
        if self._stopped:
            self._actor = None  # actor and inbox hold each other: let both go without the garbage collector
        elif self._items:
            self._wake()


class LoopActor(pykka.Actor):
    """Base of actors on the event loop. Start them on the loop; state may only be touched on it."""

    actor_inbox: LoopInbox

    def __init__(self, urn: str | None = None) -> None:
        # In place of pykka.Actor.__init__, whose threading.Event alone is larger than the rest of an idle actor.
        self.actor_urn = urn or uuid4().urn
        self.actor_inbox = inbox = self._create_actor_inbox()
        self.actor_stopped = cast(threading.Event, inbox)
        self._actor_ref = pykka.ActorRef(self)

    @staticmethod
    def _create_actor_inbox() -> LoopInbox:
        return LoopInbox(asyncio.get_running_loop())

    @staticmethod
    def _create_future() -> LoopFuture[Any]:
        return LoopFuture()

    def _start_actor_loop(self) -> None:
        self.actor_inbox.attach(self)
        self._actor_loop_setup()

    def take_messages(self, at_most: int) -> None:
        """Handle up to so many of the messages that wait; for the inbox to call."""
        inbox = self.actor_inbox
        while at_most and not inbox.empty() and not inbox.is_set():
            at_most -= 1
            envelope = inbox.get()
            try:
                response = self._handle_receive(envelope.message)
            except Exception:
                self._failed(envelope.reply_to)
            else:
                if iscoroutine(response):
                    self._run_beside(response, envelope.reply_to)
                elif envelope.reply_to is not None:
                    envelope.reply_to.set(response)
        if inbox.is_set():
            self._actor_loop_teardown()

    def _run_beside(self, work: Coroutine[Any, Any, Any], reply_to: pykka.Future[Any] | None) -> None:
        inbox = self.actor_inbox
        inbox.unanswered += 1
        task = asyncio.get_running_loop().create_task(self._answer(work, reply_to))
        _running.add(task)  # the loop itself keeps only weak references to tasks
        task.add_done_callback(_running.discard)

    async def _answer(self, work: Coroutine[Any, Any, Any], reply_to: pykka.Future[Any] | None) -> None:
        try:
            response = await work
            if reply_to is not None:
                reply_to.set(response)
        except asyncio.CancelledError:
            if reply_to is not None:
                reply_to.set_exception()
            raise
        except Exception:
            self._failed(reply_to)
        finally:
            self.actor_inbox.unanswered -= 1

    def _failed(self, reply_to: pykka.Future[Any] | None) -> None:
        """The asker gets the exception; where nobody asked, the actor fails, as Pykka has it."""
        if reply_to is not None:
            reply_to.set_exception()
            return
        self._handle_failure(*sys.exc_info())
        self.on_failure(*sys.exc_info())


_running: set[asyncio.Task[None]] = set()


class RefIndex:
    """What Pykka's registry keeps its refs in, with the list operations that it uses, in constant time.

    Pykka scans a list to unregister an actor; with 10,000 actors that costs more than all the rest of stopping one.
    """

    def __init__(self, refs: Iterable[pykka.ActorRef[Any]]) -> None:
        self._refs: dict[pykka.ActorRef[Any], None] = dict.fromkeys(refs)

    def append(self, ref: pykka.ActorRef[Any]) -> None:
        self._refs[ref] = None

    def remove(self, ref: pykka.ActorRef[Any]) -> None:
        del self._refs[ref]

    def __contains__(self, ref: object) -> bool:
        return ref in self._refs

    def __iter__(self) -> Iterator[pykka.ActorRef[Any]]:
        return iter(self._refs)

    def __getitem__(self, part: slice) -> list[pykka.ActorRef[Any]]:
        return list(self._refs)[part]


def index_registry() -> None:
    """Give Pykka's registry an index instead of its list, once. A test asserts that it still has one to replace."""
    with pykka.ActorRegistry._actor_refs_lock:
        refs: Any = pykka.ActorRegistry._actor_refs
        if not isinstance(refs, RefIndex):
            pykka.ActorRegistry._actor_refs = cast(Any, RefIndex(refs))
