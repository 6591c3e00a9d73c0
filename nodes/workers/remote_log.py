"""The event log as a worker sees it: reads are LMDB snapshots in this process, writes go through the node's log.

It offers what front ends use of eventlog.log.EventLog, with the same promises: three outcomes, proposals that take
effect once under their id, and a subscriber that is told of whatever a later snapshot would not show. What is answered
is folded and committed in the file before the answer is sent, so the next snapshot of any process has it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import structlog

from eventlog.errors import OutcomeUnknown, Rejected
from eventlog.log import Applied, Committed, EventLog, LogConfig
from eventlog.proposable import check_bodies, require_size
from eventlog.record import Record, RecordError, check, encode_whole
from eventlog.store import Snapshot, Store, in_use
from eventlog.telling import Telling
from nodes.workers.limits import IN_FLIGHT_BYTES
from nodes.workers.messages import Row, read_applied, read_error, settle

if TYPE_CHECKING:
    from nodes.metrics import Metrics
    from nodes.workers.channel import Message

GATE = "gate"  # in the workers' folder: held by the node while the file of the database is replaced
NODE = "node"
AGAIN_S = 0.005

Told = Callable[[list[Applied]], None]

_log = structlog.get_logger("mailraft.workers")


class FrontEndLog(Protocol):
    """What front ends, and the parts that they stand on, may use of the log: of the node's own, or of a worker's."""

    config: LogConfig
    telling: Telling

    async def propose(self, record: Record, bodies: Sequence[bytes] = (), timeout_s: float = 8.0) -> Committed: ...
    def submit(
        self, record: Record, bodies: Sequence[bytes] = (), timeout_s: float = 8.0
    ) -> asyncio.Future[Committed]: ...
    def snapshot(self) -> Snapshot: ...
    async def barrier(self, timeout_s: float = 8.0) -> int: ...
    def subscribe(self, stream: bytes | None, callback: Told) -> Callable[[], None]: ...
    @property
    def at_ms(self) -> int: ...
    @property
    def feature_level(self) -> int: ...


_NODES_OWN: type[FrontEndLog] = EventLog  # for the type checker: both offer it


class _Waiting(NamedTuple):
    """A proposal that there is no credit for yet."""

    id: bytes
    data: bytes
    bodies: Sequence[bytes]
    deadline_s: float

    @property
    def size_bytes(self) -> int:
        return len(self.data) + sum(map(len, self.bodies))


class RemoteLog:
    """Event loop only. `send` hands a message to the node; `take` is given those that are for the log."""

    def __init__(
        self, config: LogConfig, gate: Path, state: Message, send: Callable[[Message], None], metrics: Metrics
    ) -> None:
        self.config = config
        self.telling = Telling(self._tell, lambda: (NODE,))
        self._gate = gate
        self._send = send
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._at_ms, self._level = int(state["at_ms"]), int(state["level"])
        self._store: Store | None = None
        self._in_use = contextlib.ExitStack()
        self._callers: dict[bytes, list[asyncio.Future[Committed]]] = {}
        self._sizes: dict[bytes, int] = {}
        self._in_flight_bytes = 0
        self._queue: deque[_Waiting] = deque()
        self._subscribers: dict[bytes, list[Told]] = {}
        self._tokens = itertools.count(1)
        self._barriers: dict[int, asyncio.Future[int]] = {}
        self._over: asyncio.TimerHandle | None = None
        self._is_lost = False

    # -- writing

    async def propose(self, record: Record, bodies: Sequence[bytes] = (), timeout_s: float = 8.0) -> Committed:
        """As EventLog.propose, with the time that it took in the metrics."""
        started_s, outcome = time.perf_counter(), "unknown"
        try:
            committed = await self.submit(record, bodies, timeout_s)
            outcome = "committed"
            return committed
        except Rejected:
            outcome = "rejected"
            raise
        finally:
            self._metrics.proposed(outcome, time.perf_counter() - started_s)

    def submit(self, record: Record, bodies: Sequence[bytes] = (), timeout_s: float = 8.0) -> asyncio.Future[Committed]:
        """As EventLog.submit. One that the node was never given in time is rejected: it has taken no effect."""
        try:
            check(record)
            check_bodies(record, bodies)
        except (RecordError, TypeError) as error:
            raise Rejected("bad_record", str(error)) from error
        data = encode_whole(record).data
        require_size(data, bodies)
        if self._is_lost:
            raise Rejected("stopping")
        caller: asyncio.Future[Committed] = self._loop.create_future()
        callers = self._callers.setdefault(record.id, [])
        callers.append(caller)
        if len(callers) == 1:
            self._queue.append(_Waiting(record.id, data, bodies, self._loop.time() + timeout_s))
            self._send_waiting()
        return caller

    def _send_waiting(self) -> None:
        now_s = self._loop.time()
        while self._queue:
            first = self._queue[0]
            if first.deadline_s <= now_s:
                self._queue.popleft()
                self._end(first.id, (1, "busy", "it waited for its turn for too long, and was never sent"))
            elif self._in_flight_bytes and self._in_flight_bytes + first.size_bytes > IN_FLIGHT_BYTES:
                self._look_again_at(first.deadline_s)
                return
            else:
                self._queue.popleft()
                self._send_one(first, first.deadline_s - now_s)

    def _send_one(self, one: _Waiting, timeout_s: float) -> None:
        self._sizes[one.id] = one.size_bytes
        self._in_flight_bytes += one.size_bytes
        self._send({"type": "propose", "id": one.id, "data": one.data, "bodies": one.bodies, "timeout_s": timeout_s})

    def _look_again_at(self, when_s: float) -> None:
        """So that what waits for credit is answered when its time is up, also if nothing else is."""
        if self._over is None:
            self._over = self._loop.call_at(when_s, self._look_again)

    def _look_again(self) -> None:
        self._over = None
        self._send_waiting()

    def _end(self, id_: bytes, outcome: Row) -> None:
        self._in_flight_bytes -= self._sizes.pop(id_, 0)
        for caller in self._callers.pop(id_, ()):
            settle(caller, outcome)

    # -- reading

    def snapshot(self) -> Snapshot:
        """A consistent read of what is folded at the node. Never hold it across an await."""
        return (self._store or self._opened()).snapshot()

    def _opened(self) -> Store:
        """Waits, and everything else with it, while the node replaces the file: for as long as its own loop does."""
        with self._gate.open("rb") as gate:
            fcntl.flock(gate, fcntl.LOCK_SH)
            self._in_use.enter_context(in_use(self.config.data_dir))
            self._store = Store(self.config.data_dir, self.config.map_size_bytes, readonly=True)
        return self._store

    def _stand_aside(self, token: int) -> None:
        """Lets go of the file; the next read opens it again. Says so once nobody reads."""
        if self._store is not None and self._store.readers:
            self._loop.call_later(AGAIN_S, self._stand_aside, token)
            return
        self._close_store()
        self._send({"type": "answer", "token": token})

    def _close_store(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None
        self._in_use.close()

    async def barrier(self, timeout_s: float = 8.0) -> int:
        """As EventLog.barrier."""
        token, passed = next(self._tokens), self._loop.create_future()
        self._barriers[token] = passed
        try:
            self._send({"type": "barrier", "token": token, "timeout_s": timeout_s})
            async with asyncio.timeout(timeout_s + 1.0):
                return int(await passed)
        except TimeoutError:
            raise OutcomeUnknown("the node did not answer in time") from None
        finally:
            del self._barriers[token]

    def subscribe(self, stream: bytes | None, callback: Told) -> Callable[[], None]:
        """As EventLog.subscribe, of one stream: a worker is not told of everything. Raises TypeError."""
        if stream is None:
            raise TypeError("a worker follows streams by their names")
        followed = stream
        callbacks = self._subscribers.get(followed)
        if callbacks is None:
            callbacks = self._subscribers[followed] = []
            with self.snapshot() as snapshot:
                position = snapshot.position
            self._send({"type": "follow", "stream": followed, "position": position})
        callbacks.append(callback)

        def unsubscribe() -> None:
            with contextlib.suppress(ValueError):
                callbacks.remove(callback)
            if not callbacks and self._subscribers.get(followed) is callbacks:
                del self._subscribers[followed]
                self._send({"type": "unfollow", "stream": followed})

        return unsubscribe

    @property
    def at_ms(self) -> int:
        """The log's time, as the node said last: a tenth of a second ago at most."""
        return self._at_ms

    @property
    def feature_level(self) -> int:
        """The feature level in force, as the node said last; what is written at an earlier one can be read."""
        return self._level

    # -- the node speaks

    def take(self, message: Message) -> None:
        match message["type"]:
            case "answers":
                for id_, outcome in message["answers"]:
                    self._end(id_, outcome)
                self._send_waiting()
            case "applied":
                self._tell_subscribers(read_applied(message["items"]))
            case "state":
                self._at_ms, self._level = message["at_ms"], message["level"]
            case "told":
                self.telling.told(message["of"], message)
            case "passed":
                self._pass(message)
            case "aside":
                self._stand_aside(message["token"])
            case other:
                raise ValueError(f"the node sent {other}")

    def lose(self) -> None:
        """The node has gone: what it had been given may have taken effect, or may yet."""
        self._is_lost = True
        self._queue.clear()
        for id_ in list(self._callers):
            sent = id_ in self._sizes
            self._end(id_, (2, "the node has ended", "") if sent else (1, "stopping", "it was never sent"))

    def close(self) -> None:
        self._close_store()

    def _tell_subscribers(self, items: list[Applied]) -> None:
        by_stream: dict[bytes, list[Applied]] = {}
        for one in items:
            by_stream.setdefault(one.event.stream, []).append(one)
        for stream, news in by_stream.items():
            for callback in tuple(self._subscribers.get(stream, ())):
                try:
                    callback(news)
                except Exception as error:  # one that fails must not keep the others from being told
                    _log.error("a subscriber failed", error=repr(error), exc_info=True)

    def _pass(self, message: Message) -> None:
        barrier = self._barriers.get(message["token"])
        if barrier is None or barrier.done():
            return
        if "error" in message:
            barrier.set_exception(read_error(message["error"]))
        else:
            barrier.set_result(message["position"])

    def _tell(self, _: str, message: Message) -> bool:
        self._send(message)
        return True
