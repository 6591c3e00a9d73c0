"""The shell around the actors: commands in, decided on a snapshot, proposed, answered after the fold.

Each stream that is asked something has a Pykka actor on this node, started on demand and stopped when idle; it keeps
the commands of its stream in turn, except those that commute. Another node may hold the same actor: guards settle it,
and a guard refusal is decided again. Nothing is written here; before a record is proposed its events are folded into
a scratch view, so that what reaches the log is known to fold.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import pykka

from actors.errors import CommandRefused, IsReplica, NoSuchMessage, TooLarge
from actors.homes import Homes
from actors.kind import Command, Fact, encode, encode_for
from actors.loop_actor import LoopActor, index_registry
from actors.registry import fold_event, kind_of
from actors.requests import REQUESTS, AlreadyCarriedOut, AsSeen, CarryOut, Once, RequestCarriedOut, carried_out
from actors.standings import Standings
from actors.upload import BodyChunkStored
from eventlog import levels
from eventlog.bodies import CHUNK_BYTES, split
from eventlog.errors import Rejected
from eventlog.fold import ROW_BUDGET
from eventlog.log import Committed, EventLog
from eventlog.record import (
    NO_TENANT,
    Body,
    By,
    Event,
    Guard,
    Record,
    Stamp,
    digest_of,
    new_id,
    new_salt,
    stream_id,
)
from eventlog.store import Snapshot, TableView
from eventlog.views import RecordingView, ScratchView

EXPIRES_MS = 60_000
POSITION = "mailraft.position"  # an attribute of spans
MAX_ATTEMPTS = 12
MAX_JITTER_S = 0.002  # times the attempt
UPLOADS_IN_FLIGHT = 4
MAX_INLINE_BYTES = 4 * 1024 * 1024  # of all bodies of a record; half of what a record may have
IDLE_S = 60.0
PASSIVATE_AT_MOST = 256  # before the loop has a pause
PAUSE_S = 0.01
MOST_READ, MOST_STREAMS = 200, 1000  # rows of a stream, and streams, that are kept for the next decision
MAX_ROWS = ROW_BUDGET // 2  # the fold stalls beyond its budget, and more may be there by then

_tuple = tuple.__new__  # of a NamedTuple: as its own constructor, at half the cost

Steps = Sequence[tuple[bytes, Command]]
Read = dict[bytes, tuple[int, Any]]  # version and value by key; 0 and None where there is no row


class Context(NamedTuple):
    """On whose behalf: who and from where, the session or trace, a tenant for events that name none themselves.

    once: of a request that is carried out by one record, and once. Who commits several leaves it to the last.
    seen: what the asker has seen, and wants to have changed as it was (If-Match).
    """

    by: By
    cause: str
    tenant: bytes = NO_TENANT
    timeout_s: float = 8.0
    once: Once | None = None
    seen: AsSeen | None = None


class Spans(Protocol):
    """Who is told of each record, from its decision to its fold here; gives what takes an attribute by name."""

    def record(self, context: Context) -> AbstractContextManager[Any]: ...


class NewBody(NamedTuple):
    """A body for the record; `digest` is its SHA-256 where the caller has computed it already."""

    tenant: bytes
    data: bytes
    digest: bytes | None = None


class Done(NamedTuple):
    """What was committed; `results` are what `evolve` gave, parallel to `facts`. No facts: nothing had to change."""

    position: int
    at_ms: int
    facts: tuple[Fact, ...]
    results: tuple[Any, ...]


class _Ask(NamedTuple):
    command: Command
    context: Context
    bodies: Sequence[NewBody]


class _Decision(NamedTuple):
    position: int
    at_ms: int
    facts: tuple[Fact, ...]
    events: tuple[Event, ...]
    guards: tuple[Guard, ...]


class _PendingView(ScratchView):
    """What a record's earlier events will have done, for its later commands; guards are of the rows as they stand.

    A row is read once, into `read`: `decide` and the dry run of `evolve` want the same few, and so does the next
    decision on the stream.
    """

    def __init__(self, inner: TableView, position: int, read: Read) -> None:
        super().__init__(inner, position)
        self._table = inner
        self._read = read

    def get(self, key: bytes) -> Any:
        if key in self._rows:
            return self._rows[key]
        row = self._read.get(key)
        if row is None:
            row = self._read[key] = self._table.row(key)
        return row[1]

    peek = get

    def version(self, key: bytes) -> int:
        if not key:
            return self._table.version(key)
        row = self._read.get(key)
        if row is None:
            row = self._read[key] = self._table.row(key)
        return row[0]

    @property
    def written(self) -> int:
        """How many rows were written."""
        return len(self._rows)


class StreamActor(LoopActor):
    """Keeps the commands of one stream in turn on this node."""

    def __init__(self, stream: bytes, runtime: Runtime) -> None:
        super().__init__(UUID(bytes=stream).urn)
        self._stream = stream
        self._runtime = runtime
        self._turn: asyncio.Lock | None = None

    def on_receive(self, message: _Ask) -> Coroutine[Any, Any, Done]:
        if message.command.PIPELINES:
            return self._runtime.execute(((self._stream, message.command),), message.context, message.bodies)
        return self._in_turn(message)

    async def _in_turn(self, message: _Ask) -> Done:
        if self._turn is None:
            self._turn = asyncio.Lock()
        async with self._turn:
            if message.command.SLICED:
                return await self._runtime.execute_slices(self._stream, message.command, message.context)
            return await self._runtime.execute(((self._stream, message.command),), message.context, message.bodies)


class Runtime:
    """All actors of this node. Made and used on the event loop; `stop` ends what is in work.

    now_ms: the wall clock, milliseconds; it sets a record's expiry and nothing that is folded.
    """

    def __init__(
        self, log: EventLog, *, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000, idle_s: float = IDLE_S
    ) -> None:
        index_registry()
        self._log = log
        self.homes = Homes(log)
        self.standings = Standings(log)
        self.spans: Spans | None = None  # None: nobody wants to know
        self._now_ms = now_ms
        self._idle_s = idle_s
        self._loop = asyncio.get_running_loop()
        self._actors: OrderedDict[bytes, pykka.ActorRef[StreamActor]] = OrderedDict()
        self._sweep: asyncio.TimerHandle | None = self._loop.call_later(idle_s / 4, self._passivate)
        self._stopping = False
        self._transacting = 0
        self._read: dict[bytes, Read] = {}  # by stream, as of the position below
        self._read_at = 0

    async def ask(self, stream: bytes, command: Command, context: Context, bodies: Sequence[NewBody] = ()) -> Done:
        """Carry out a command on a stream, through its actor; answered after the fold on this node.

        Raises CommandRefused (nothing was proposed), Rejected (nothing happened), OutcomeUnknown. A caller that is
        cancelled does not cancel the proposal.
        """
        if self.spans is None:
            answer: Done = await self._actor(stream).ask(_Ask(command, context, bodies), block=False)
            return answer
        with self.spans.record(context) as span:
            answer = await self._actor(stream).ask(_Ask(command, context, bodies), block=False)
            span.set_attribute(POSITION, answer.position)
            return answer

    async def transact(self, steps: Steps, context: Context, bodies: Sequence[NewBody] = ()) -> Done:
        """Carry out commands on several streams as one record: all of them or none. Raises as `ask`.

        A later command sees what the earlier ones will have done. Facts and results stand in the order of the steps.
        """
        if self._stopping:
            raise Rejected("stopping")
        self._transacting += 1
        try:
            if self.spans is None:
                return await self.execute(steps, context, bodies)
            with self.spans.record(context) as span:
                done = await self.execute(steps, context, bodies)
                span.set_attribute(POSITION, done.position)
                return done
        finally:
            self._transacting -= 1

    def check(self, stream: bytes, command: Command) -> CommandRefused | None:
        """Whether `command` would be refused now, and why; proposes nothing."""
        try:
            with self._log.snapshot() as snapshot:
                kind_of(command).decide(snapshot.view(stream), command)
        except CommandRefused as refusal:
            return refusal
        return None

    @property
    def active(self) -> int:
        """How many actors are held at present."""
        return len(self._actors)

    async def stop(self, grace_s: float = 10.0) -> None:
        """Refuse new commands, wait for those in work (at most `grace_s`), stop every actor."""
        self._stopping = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        deadline = self._loop.time() + grace_s
        while self._in_work() and self._loop.time() < deadline:
            await asyncio.sleep(0.01)
        stopped = [ref.stop(block=False) for ref in self._actors.values()]
        self._actors.clear()
        for future in stopped:
            await future

    def _in_work(self) -> bool:
        return self._transacting > 0 or any(not _inbox(ref).idle for ref in self._actors.values())

    # -- actors ----------------------------------------------------------------------------------------------------

    def _actor(self, stream: bytes) -> pykka.ActorRef[StreamActor]:
        if self._stopping:
            raise Rejected("stopping")
        ref = self._actors.get(stream)
        if ref is None or not ref.is_alive():
            ref = self._actors[stream] = StreamActor.start(stream, self)
        self._actors.move_to_end(stream)
        _inbox(ref).last_used_s = self._loop.time()
        return ref

    def _passivate(self) -> None:
        """Stop the actors that were idle for long, a few at a time; the next command to a stream starts it again."""
        before_s = self._loop.time() - self._idle_s
        long_idle: list[bytes] = []
        for stream, ref in self._actors.items():
            if _inbox(ref).last_used_s > before_s or len(long_idle) == PASSIVATE_AT_MOST:
                break
            if _inbox(ref).idle:
                long_idle.append(stream)
        for stream in long_idle:
            self._actors.pop(stream).stop(block=False)
        again_s = PAUSE_S if len(long_idle) == PASSIVATE_AT_MOST else self._idle_s / 4
        self._sweep = self._loop.call_later(again_s, self._passivate)

    # -- decide, propose -------------------------------------------------------------------------------------------

    async def execute_slices(self, stream: bytes, command: Command, context: Context) -> Done:
        """A command in as many records as its kind says; facts and results of all. For the stream's actor to call."""
        slices = kind_of(command).slices
        with self._log.snapshot() as snapshot:
            parts = slices(snapshot.view(stream), command) if slices else (command,)
        if len(parts) == 1:
            return await self.execute(((stream, parts[0]),), context)
        done = Done(0, 0, (), ())
        for part in parts:
            try:
                step = await self.execute(((stream, part),), context)
            except NoSuchMessage:
                continue  # these have gone meanwhile; the others have not
            done = Done(step.position, step.at_ms, done.facts + step.facts, done.results + step.results)
        return done

    def execute(self, steps: Steps, context: Context, bodies: Sequence[NewBody] = ()) -> Coroutine[Any, Any, Done]:
        """Decide, propose, and decide again when a guard failed. For the stream's actor to call.

        What was carried out before, under the context's key, is done without anything being proposed.
        """
        once = context.once
        if once is None or once.is_done:
            return self._execute(steps, context, bodies)
        return self._execute_once(steps, context, bodies, once)

    async def _execute_once(self, steps: Steps, context: Context, bodies: Sequence[NewBody], once: Once) -> Done:
        if once.is_repeated:
            return Done(once.position, 0, (), ())
        try:
            done = await self._execute(((REQUESTS, CarryOut(once.key, once.fingerprint)), *steps), context, bodies)
        except AlreadyCarriedOut:
            with self._log.snapshot() as snapshot:
                found = carried_out(snapshot.view(REQUESTS), once.key)
            once.is_repeated, once.position = True, found.position if found else 0
            return Done(once.position, 0, (), ())
        once.is_done = bool(done.facts)
        return done._replace(facts=done.facts[:-1], results=done.results[:-1])

    async def _execute(self, steps: Steps, context: Context, bodies: Sequence[NewBody]) -> Done:
        decision = self._decide(steps, context)  # what is refused is refused before anything is uploaded
        stored: tuple[Body, ...] | None = None
        deadline_s: float | None = None
        attempt = 0
        while decision.events:
            attempt += 1
            stored = stored or _inline(bodies) or await self._store_bodies(bodies, context)
            deadline_s = deadline_s or self._loop.time() + context.timeout_s
            try:
                committed = await self._propose(decision, stored, bodies, context, deadline_s)
            except Rejected as refusal:
                last = attempt == MAX_ATTEMPTS or self._loop.time() >= deadline_s or not self._is_as_seen(context)
                if last or refusal.reason not in ("guard", "chunk_gone"):
                    raise
                if refusal.reason == "chunk_gone":
                    stored = None
                await asyncio.sleep(random.uniform(0, MAX_JITTER_S * attempt))
                decision = self._decide(steps, context)
            else:
                if context.seen is not None:
                    context.seen.guards = ()
                position, at_ms, results = committed
                return _tuple(Done, (position, at_ms, decision.facts, results))
        return Done(decision.position, decision.at_ms, (), ())

    def _is_as_seen(self, context: Context) -> bool:
        if context.seen is None:
            return True
        with self._log.snapshot() as snapshot:
            return all(snapshot.view(one.stream).version(one.key) == one.version for one in context.seen.guards)

    def _propose(
        self,
        decision: _Decision,
        stored: tuple[Body, ...],
        bodies: Sequence[NewBody],
        context: Context,
        deadline_s: float,
    ) -> Awaitable[Committed]:
        record = self._record(decision.events, context, decision.guards, stored)
        data = [b"" if body.chunks else new.data for body, new in zip(stored, bodies)]
        return self._log.propose(record, data, deadline_s - self._loop.time())

    def _decide(self, steps: Steps, context: Context) -> _Decision:
        with self._log.snapshot() as snapshot:
            return self._decide_on(snapshot, steps, context)

    def _decide_on(self, snapshot: Snapshot, steps: Steps, context: Context) -> _Decision:
        position, at_ms, level = snapshot.position, snapshot.at_ms, self._log.feature_level
        by = context.by
        stamp = _tuple(Stamp, (position + 1, max(at_ms, self._now_ms()), 0, NO_TENANT, by, context.cause, level))
        pending: dict[bytes, _PendingView] = {}
        facts: list[Fact] = []
        events: list[Event] = []
        guards: dict[Guard, None] = dict.fromkeys(context.seen.guards if context.seen is not None else ())
        for stream, command in steps:
            kind = kind_of(command)
            view = pending.get(stream)
            if view is None:
                view = pending[stream] = _PendingView(
                    snapshot.view(stream), stamp.position, self._read_of(stream, position)
                )
            tenant = kind.tenant_of(view, command) or context.tenant
            home = self.homes.of(tenant)
            if home is not None and not command.ON_REPLICA:
                raise IsReplica(home)
            self.standings.require_active(tenant, command, by)
            recording = RecordingView(view)
            decided = kind.decide(recording, command)
            for guard in recording.guards:
                guards[guard] = None
            for fact in decided:
                if level < fact.SINCE:
                    raise Rejected(*_too_new(fact.SINCE, level))
                version, data = encode_for(fact, level)
                event = _tuple(Event, (tenant, stream, fact.TYPE, version, data, new_salt()))
                fold_event(view, event, stamp)
                facts.append(fact)
                events.append(event)
        if context.once is not None and facts and isinstance(facts[0], RequestCarriedOut):
            if len(facts) == 1:  # nothing has to change: nothing is kept of it
                return _Decision(position, at_ms, (), (), ())
            facts.append(facts.pop(0))  # decided first, told last
            events.append(events.pop(0))
        written = 0
        for view in pending.values():
            written += view.written
        if written > MAX_ROWS:
            raise TooLarge("too much for one record: ask for it in parts")
        if self.standings.has_quotas:
            said = ((event.tenant, event.stream, fact) for event, fact in zip(events, facts, strict=True))
            guards.update(dict.fromkeys(self.standings.require_room(snapshot, said, by, stamp.at_ms)))
        return _tuple(_Decision, (position, at_ms, tuple(facts), tuple(events), tuple(guards)))

    def _read_of(self, stream: bytes, position: int) -> Read:
        """What was read of a stream at this position of the fold, and holds as long as that stands still."""
        if position != self._read_at or len(self._read) > MOST_STREAMS:
            self._read_at = position
            self._read.clear()
        read = self._read.setdefault(stream, {})
        if len(read) > MOST_READ:
            read = self._read[stream] = {}
        return read

    def _record(
        self, events: tuple[Event, ...], context: Context, guards: tuple[Guard, ...], bodies: tuple[Body, ...]
    ) -> Record:
        now_ms = self._now_ms()
        # log time may be ahead of this clock, and it is log time that expiry is measured in
        expires_ms = max(now_ms, self._log.at_ms) + EXPIRES_MS
        return _tuple(Record, (new_id(now_ms), expires_ms, context.by, context.cause, guards, events, bodies))

    # -- bodies ----------------------------------------------------------------------------------------------------

    async def _store_bodies(self, bodies: Sequence[NewBody], context: Context) -> tuple[Body, ...]:
        """The bodies as a record names them, those over CHUNK_BYTES after their chunks were stored.

        So are those of any size that would make one record of many bodies too large.
        """
        stored = []
        inline_bytes = 0
        for body in bodies:
            inline_bytes += len(body.data)
            upload = len(body.data) > CHUNK_BYTES or inline_bytes > MAX_INLINE_BYTES
            chunks = await self._upload(body, context) if upload else ()
            inline_bytes -= len(body.data) if upload else 0
            digest = body.digest or digest_of(body.data)
            stored.append(Body(body.tenant, digest, new_salt(), len(body.data), chunks))
        return tuple(stored)

    async def _upload(self, body: NewBody, context: Context) -> tuple[bytes, ...]:
        """Propose the body's chunks, a few at a time; each must commit within the context's timeout."""
        upload = stream_id("upload", os.urandom(16).hex())
        pieces = split(body.data)
        chunks: list[bytes] = []
        for start in range(0, len(pieces), UPLOADS_IN_FLIGHT):
            batch = enumerate(pieces[start : start + UPLOADS_IN_FLIGHT], start)
            stored = (self._upload_chunk(upload, body.tenant, ordinal, piece, context) for ordinal, piece in batch)
            chunks += await asyncio.gather(*stored)
        return tuple(chunks)

    async def _upload_chunk(self, upload: bytes, tenant: bytes, ordinal: int, piece: bytes, context: Context) -> bytes:
        """Gives the chunk's key. It is kept under its upload, not the tenant, so that nothing else shares it."""
        digest = digest_of(piece)
        fact = BodyChunkStored(digest, len(piece), ordinal)
        event = Event(tenant, upload, fact.TYPE, fact.VERSION, encode(fact), new_salt())
        stored = Body(upload, digest, new_salt(), len(piece), ())
        await self._log.propose(self._record((event,), context, (), (stored,)), [piece], context.timeout_s)
        return upload + digest


def _inline(bodies: Sequence[NewBody]) -> tuple[Body, ...]:
    """As `Runtime._store_bodies` of the one small body that a message mostly is; () of all else."""
    if len(bodies) != 1:
        return ()
    tenant, data, digest = bodies[0]
    if len(data) > CHUNK_BYTES:
        return ()
    return (_tuple(Body, (tenant, digest or digest_of(data), new_salt(), len(data), ())),)


def _too_new(needed: int, level: int) -> tuple[str, str]:
    reason, _, detail = (levels.why_not_write(needed, level) or "").partition(": ")
    return reason, detail


def _inbox(ref: pykka.ActorRef[StreamActor]) -> Any:
    return ref.actor_inbox
