"""The event log of one node as the rest of mailraft sees it: propose, read, follow.

It ties the consensus thread, the connections to the peers and the callers on the event loop together. Everything here
runs on the event loop; all that is shared with the thread is one dictionary, which the writer only looks into.
"""

import asyncio
import contextlib
import os
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import structlog

from eventlog import levels, telling
from eventlog.archive import Archivist
from eventlog.changes import Changes, Node
from eventlog.erasure import Eraser
from eventlog.errors import LogError, OutcomeUnknown, Rejected
from eventlog.fold import Evolve, Folded
from eventlog.members import Member, Members, added, removed
from eventlog.proposals import Committed, Proposals
from eventlog.raft import Message, Timing
from eventlog.record import By, Event, Record, RecordError, Stamp, check, encode_whole
from eventlog.store import Snapshot, Store, StoredRecord, joined_mark
from eventlog.telling import Telling
from eventlog.ticks import Item, State, Tick
from eventlog.transport import PeerName, PeerTransport
from eventlog.writer import Writer

__all__ = ["Applied", "Committed", "EventLog", "LogConfig", "LogStatus", "Member", "MemberStatus", "Snapshot",
           "StoredRecord"]  # fmt: skip

MAX_PROPOSAL_BYTES = 8 * 1024 * 1024
REVIEW_S = 0.1
FOLLOW_BATCH = 256
HAND_OVER_S = 0.5
TIMER_S = 0.001  # a loop's timer may be early by its resolution, and a tick before its time does nothing

T = TypeVar("T")
_tuple = tuple.__new__  # of a NamedTuple: as its own constructor, at half the cost
_log = structlog.get_logger("mailraft.log")


class LogConfig(NamedTuple):
    """What a node's log needs to know. Sizes in bytes, times in seconds; addresses are `host:port`."""

    name: str
    data_dir: Path
    peers: Mapping[str, str]  # the first members by name, for a log that names none yet; without this node: it joins
    listen: str
    election_timeout_s: tuple[float, float] = (0.5, 1.0)
    heartbeat_s: float = 0.1
    map_size_bytes: int = 1 << 40
    reserve_bytes: int = 64 * 1024 * 1024
    cell_id: str = ""  # what segments of the archive say that they are of


class Applied(NamedTuple):
    """One event that took effect: the decoded fact, and what `evolve` gave for it."""

    stamp: Stamp
    event: Event
    fact: Any
    result: Any


class MemberStatus(NamedTuple):
    """A member as this node knows the cell. `match`: on the leader, how far its log is known to be the leader's."""

    name: str
    address: str
    voter: bool
    match: int | None


class LogStatus(NamedTuple):
    """The log of this node now. `chain` is the chain hash at `applied`.

    `members` are those in force, committed or not; `removed_at` is where this node was removed from the cell, or 0.
    """

    name: str
    role: str
    leader: str | None
    term: int
    commit: int
    applied: int
    last_index: int
    at_ms: int
    chain: bytes
    disk_free_bytes: int
    accepting_mail: bool
    stalled: str | None
    members: tuple[MemberStatus, ...] = ()
    feature_level: int = levels.OLDEST
    removed_at: int = 0


class EventLog:
    """One node of a cell. Made by `open`; `start` joins the cell, `stop` leaves it cleanly."""

    def __init__(
        self,
        config: LogConfig,
        store: Store,
        evolve: Evolve,
        server_ssl: ssl.SSLContext | None,
        client_ssl: ssl.SSLContext | None,
        peer_name: PeerName,
        on_fatal: Callable[[BaseException], None] | None,
        on_removed: Callable[[int], None] | None = None,
    ) -> None:
        self.config = config
        self.store = store
        self._loop = asyncio.get_running_loop()
        self._on_fatal = on_fatal
        self._on_removed = on_removed
        self._told_removed = False
        self._proposals = Proposals(config.name, self._submit, self._forward, lambda: self._state)
        self._subscribers: dict[bytes | None, list[Callable[[list[Applied]], None]]] = {}
        self._reads: dict[bytes, asyncio.Future[int | None]] = {}
        self._progress = asyncio.Event()
        self._writer = Writer(
            config.name,
            config.peers,
            store,
            evolve,
            timing=Timing(*config.election_timeout_s, config.heartbeat_s),
            reserve_bytes=config.reserve_bytes,
            wanted=self._proposals.wanted,
            held=self._proposals.held,
            on_tick=self._tick_from_thread,
            on_fatal=self._fatal_from_thread,
        )
        self._state: State = self._writer.state
        self._transport: PeerTransport | None = None
        if server_ssl is None or client_ssl is None:
            if self._state.links:
                raise LogError("a cell of several nodes needs TLS contexts for its peers")
        else:
            self._transport = PeerTransport(
                config.name,
                config.listen,
                {member.name: member.address for member in self._state.links},
                server_ssl=server_ssl,
                client_ssl=client_ssl,
                peer_name=peer_name,
                on_message=self._message,
                on_connected=lambda peer: self._put(("connected", peer)),
                on_disconnected=self._disconnected,
                on_revoked=self._revoked,
            )
        self._changes = Changes(
            Node(config.name, self._proposals, lambda: self._state, self.barrier, self._put, self._forward,
                 lambda: int(time.time() * 1000), lambda count: os.urandom(count))
        )  # fmt: skip
        self._inbox: list[Item] = []
        self._pressing = False  # whether something in there wants a tick by itself
        self._acknowledged = 0  # up to where answers in there acknowledge the log
        self._ticking = False  # a tick is on its way: computed, not yet durable
        self._pump_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._review: asyncio.Task[None] | None = None
        self._stopping = False
        self.archivist = Archivist(self)
        self.eraser = Eraser(self)
        self.telling = Telling(self._forward, lambda: [m.name for m in self._state.links if m.name != config.name])

    @classmethod
    def open(
        cls,
        config: LogConfig,
        *,
        evolve: Evolve,
        server_ssl: ssl.SSLContext | None = None,
        client_ssl: ssl.SSLContext | None = None,
        peer_name: PeerName = lambda _: None,
        on_fatal: Callable[[BaseException], None] | None = None,
        on_removed: Callable[[int], None] | None = None,
    ) -> "EventLog":
        """Opens the node's database; call it on the running event loop. Raises DamagedDatabase or lmdb.Error.

        `on_fatal` is called when the log can not go on; `on_removed` with the position at which this node was removed
        from its cell, once it learns of that; 0 where all that it learns is that its certificate was revoked.
        """
        store = Store(config.data_dir, config.map_size_bytes)
        joined_mark(config.data_dir).touch()
        return cls(config, store, evolve, server_ssl, client_ssl, peer_name, on_fatal, on_removed)

    async def start(self) -> None:
        """Joins the cell. Raises OSError if the address for peers can not be bound."""
        if self._transport is not None:
            await self._transport.start()
        self._writer.start()
        self._warn_of_addresses()
        if self._state.removed_at:
            self._tell_removed(self._state.removed_at)
        self._review = self._loop.create_task(self._keep_reviewing())
        self.archivist.start()
        self.eraser.start()
        self._pump()

    async def stop(self) -> None:
        """Leaves the cell: proposals still waiting end as unknown, the last tick is on disk when this returns."""
        self._stopping = True
        await self.eraser.stop()
        await self.archivist.stop()
        if self._review is not None:
            self._review.cancel()
        await self._hand_over()
        self._proposals.stop()
        self._fail_reads()
        if self._transport is not None:
            await self._transport.stop()
        await self._end_writer()
        self.store.close()

    async def _hand_over(self) -> None:
        """A leader that stops passes leadership on first, so that the cell does not wait for an election."""
        deadline = time.monotonic() + HAND_OVER_S
        while self._others_vote() and self._state.leader == self.config.name and time.monotonic() < deadline:
            self._put(("transfer",))
            await asyncio.sleep(0.02)

    async def _end_writer(self) -> None:
        """Waits for the tick under way, then for the last one."""
        while self._ticking and self._writer.is_alive():
            await asyncio.sleep(0.001)
        if self._timer is not None:
            self._timer.cancel()
        if self._writer.is_alive():
            self._ticking = True
            self._writer.tick([("stop",)])
            await asyncio.to_thread(self._writer.join)

    # -- writing ------------------------------------------------------------------------------------------------

    async def propose(self, record: Record, bodies: Sequence[bytes] = (), timeout_s: float = 8.0) -> Committed:
        """Has `record` committed by a majority and folded here; `bodies` are parallel to `record.bodies`.

        Raises Rejected when it certainly did not and will not take effect, OutcomeUnknown otherwise.
        """
        return await self.submit(record, bodies, timeout_s)

    def submit(self, record: Record, bodies: Sequence[bytes] = (), timeout_s: float = 8.0) -> asyncio.Future[Committed]:
        """The same for a server that keeps no task for each request: the future ends as `propose` does.

        What is refused before it is sent anywhere is raised at once.
        """
        try:
            check(record)
            check_bodies(record, bodies)
        except (RecordError, TypeError) as error:
            raise Rejected("bad_record", str(error)) from error
        encoded = encode_whole(record)
        require_size(encoded.data, bodies)
        self._require_writable()
        return self._proposals.submit_packed(record.id, encoded.data, bodies, timeout_s, encoded=encoded)

    def submit_packed(
        self, id_: bytes, data: bytes, bodies: Sequence[bytes], timeout_s: float
    ) -> asyncio.Future[Committed]:
        """The same of a record that another process of this node has checked and packed (nodes/workers)."""
        require_size(data, bodies)
        self._require_writable()
        return self._proposals.submit_packed(id_, data, bodies, timeout_s)

    def _require_writable(self) -> None:
        if self._stopping:
            raise Rejected("stopping")
        if not self._state.writable:
            raise Rejected("disk_full", "this node can not write, so it would never see the outcome")

    # -- reading ------------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """A consistent read of what is folded here. Never hold it across an await."""
        return self.store.snapshot()

    async def barrier(self, timeout_s: float = 8.0) -> int:
        """Waits until snapshots show all that was acknowledged anywhere in the cell before the call.

        Gives the position that was waited for. Raises OutcomeUnknown without a majority in time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                index = await self._read_index()
                if self._state.applied < index:
                    self._put(("awaited", index))
                await self.applied(index)
                return index
        except TimeoutError:
            raise OutcomeUnknown("no majority answered in time, so this node can not tell what is new") from None

    async def applied(self, position: int) -> None:
        """Waits until this node has folded `position`."""
        while self._state.applied < position:
            self._progress.clear()
            await self._progress.wait()

    def subscribe(self, stream: bytes | None, callback: Callable[[list[Applied]], None]) -> Callable[[], None]:
        """Calls `callback` with the events of a stream (None: all) as they are folded here, in the log's order.

        Whatever a snapshot taken after this does not show will be told; what it shows may be told again.
        """
        self._subscribers.setdefault(stream, []).append(callback)

        def unsubscribe() -> None:
            callbacks = self._subscribers.get(stream, [])
            with contextlib.suppress(ValueError):
                callbacks.remove(callback)
            if not callbacks:
                self._subscribers.pop(stream, None)

        return unsubscribe

    async def follow(self, first: int = 1) -> AsyncIterator[StoredRecord]:
        """The folded entries from a position on, for ever: what a replica or an auditor reads."""
        while True:
            await self.applied(first)
            with self.snapshot() as snapshot:
                batch = list(snapshot.records(first, first + FOLLOW_BATCH - 1))
            for stored in batch:
                yield stored
            first += len(batch)

    def status(self) -> LogStatus:
        state = self._state
        return LogStatus(
            self.config.name, state.role, state.leader, state.term, state.commit, state.applied, state.last_index,
            state.at_ms, state.chain, state.free_bytes,
            state.free_bytes >= self.config.reserve_bytes and state.stalled is None, state.stalled,
            tuple(MemberStatus(*member, state.matches.get(member.name)) for member in state.config.members),
            state.level, state.removed_at,
        )  # fmt: skip

    @property
    def at_ms(self) -> int:
        """The log's time at what is folded here, in milliseconds."""
        return self._state.at_ms

    @property
    def feature_level(self) -> int:
        """The feature level in force, as folded here: which event types may be written."""
        return self._state.level

    # -- members --------------------------------------------------------------------------------------------------

    def members(self) -> Members:
        """The configuration in force as this node knows it."""
        return self._state.config.members

    async def add_member(self, name: str, address: str, by: By, cause: str, timeout_s: float = 8.0) -> int:
        """Adds a node as a learner; the leader gives it a vote by itself once it has caught up. Gives the position.

        The name must be one that no member ever had. Raises Rejected or OutcomeUnknown.
        """
        if self._transport is None:
            raise Rejected("no_tls", "this node was opened without certificates, so it can have no peers")
        return await self._changes.members(lambda members: added(members, name, address), by, cause, timeout_s)

    async def remove_member(self, name: str, by: By, cause: str, timeout_s: float = 8.0) -> int:
        """Removes a node, which is told and must not come back under that name. Raises Rejected or OutcomeUnknown."""
        return await self._changes.members(lambda members: removed(members, name), by, cause, timeout_s)

    async def transfer_leadership(self, name: str, timeout_s: float = 8.0) -> None:
        """Has the leader pass leadership to a member that votes, once that has everything; returns when it leads.

        Raises Rejected, or OutcomeUnknown when it does not lead in time: the old leader goes on, or another.
        """
        await self._changes.leader(name, timeout_s)

    async def raise_feature_level(self, level: int, by: By, cause: str, timeout_s: float = 8.0) -> int:
        """Lets what `level` has introduced be written, for ever. Gives the position.

        Raises Rejected, naming the members that do not know the level, or OutcomeUnknown.
        """
        return await self._changes.level(level, by, cause, timeout_s)

    def _others_vote(self) -> bool:
        return any(member.voter and member.name != self.config.name for member in self.members())

    def _warn_of_addresses(self) -> None:
        """The log says who the members are; a file that says otherwise is wrong, or of another day."""
        if self._state.config.position:
            for member in self.members():
                said = self.config.peers.get(member.name, member.address)
                if said != member.address:
                    _log.warning("raft.peers is not used", member=member.name, address=member.address, configured=said)

    def _tell_removed(self, position: int) -> None:
        if self._told_removed:
            return
        self._told_removed = True
        _log.error("removed from the cell", code="removed", position=position or None)
        if self._on_removed is not None:
            self._on_removed(position)

    def _revoked(self) -> None:
        """A member says so in the handshake: names are not used again, so that of one of them is enough."""
        if not self._stopping:
            self._tell_removed(0)

    def recheck_peers(self) -> None:
        """Certificates that were good may be so no more: whoever is connected with one is not any longer."""
        if self._transport is not None:
            self._transport.recheck()

    async def between_ticks(self, work: Callable[[], T]) -> T:
        """Runs `work` on the consensus thread before a tick, with no transaction open and the event loop waiting.

        For what needs the database to itself for a moment. Raises what `work` raises.
        """
        done: asyncio.Future[T] = self._loop.create_future()

        def call() -> None:
            try:
                result = work()
            except Exception as error:
                self._loop.call_soon_threadsafe(_settle, done, None, error)
            else:
                self._loop.call_soon_threadsafe(_settle, done, result, None)

        self._put(("call", call))
        return await done

    # -- between the threads --------------------------------------------------------------------------------------

    def _put(self, item: Item) -> None:
        """Hands something to the consensus thread: with all else that this turn of the loop brings, in one tick."""
        self._inbox.append(item)
        self._pressing = True
        self._pump_soon()

    def _put_answer(self, peer: str, message: dict[str, Any]) -> None:
        """A peer's answer to entries. One that a majority does not wait for is taken with what comes next."""
        self._inbox.append(("message", peer, message))
        match = message.get("match")
        plain = message.get("success") is True and not message.get("lost")
        if plain and message.get("term") == self._state.term and type(match) is int:
            self._acknowledged = max(self._acknowledged, match)
        else:
            self._pressing = True
        if self._wants_tick():
            self._pump_soon()

    def _wants_tick(self) -> bool:
        state = self._state
        return self._pressing or self._acknowledged > state.commit or bool(self._inbox and state.waits_for_answers)

    def _pump_soon(self) -> None:
        if not self._pump_due and not self._ticking:
            self._pump_due = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Begins a tick, unless one is under way; its end begins the next if something waits."""
        self._pump_due = False
        if self._ticking or not self._writer.is_alive():
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._ticking = True
        items, self._inbox = self._inbox, []
        self._pressing, self._acknowledged = False, 0
        self._send(self._writer.tick(items))

    def _submit(self, proposal: Any) -> None:
        self._put(("proposal", proposal))

    def _forward(self, peer: str, message: dict[str, Any]) -> bool:
        return self._transport is not None and self._transport.send(peer, message)

    def _tick_from_thread(self, tick: Tick) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process is ending
            self._loop.call_soon_threadsafe(self._take_tick, tick)

    def _fatal_from_thread(self, error: BaseException) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._fatal, error)

    def _fatal(self, error: BaseException) -> None:
        self._proposals.stop()
        self._fail_reads()
        if self._on_fatal is not None:
            self._on_fatal(error)

    def _take_tick(self, tick: Tick) -> None:
        before, self._state = self._state, tick.state
        try:
            self._let_go(tick, before)
        finally:
            self._ticking = False
            if self._wants_tick() or tick.state.behind:
                self._pump_soon()
            elif not self._stopping or self._writer.is_alive():
                delay_s = max(0.0, tick.state.deadline - time.monotonic()) + TIMER_S
                self._timer = self._loop.call_later(delay_s, self._pump)

    def _let_go(self, tick: Tick, before: State) -> None:
        """What the tick has made durable goes where it belongs: to peers, callers and subscribers."""
        self._send(tick.messages)
        leader_changed = (before.leader, before.term) != (tick.state.leader, tick.state.term)
        if leader_changed and tick.state.leader != before.leader:
            _log.info("leader", leader=tick.state.leader, term=tick.state.term, role=tick.state.role)
        if tick.state.config is not before.config:
            _log.info("members", position=tick.state.config.position, members=[m.name for m in self.members()])
        if tick.state.links != before.links and self._transport is not None:
            self._transport.connect_to({member.name: member.address for member in tick.state.links})
        if tick.state.removed_at and not before.removed_at:
            self._tell_removed(tick.state.removed_at)
        self._proposals.take(tick, leader_changed)
        for id_, reason in tick.refusals:
            self._changes.refused(id_, reason)
        for token, index in tick.reads:
            self._finish_read(token, index)
        if self._subscribers:
            self._tell_subscribers(tick.folded)
        if tick.state.applied != before.applied:
            self._progress.set()

    def _send(self, messages: list[tuple[str, Message]]) -> None:
        for peer, message in messages:
            try:
                self._forward(peer, message)
            except Exception as error:  # what belongs to others of this tick must go on
                _log.error("a message could not be sent", code="log_error", peer=peer, error=repr(error))

    def _tell_subscribers(self, folded: list[Folded]) -> None:
        everything: list[Applied] = []
        by_stream: dict[bytes, list[Applied]] = {}
        subscribers = self._subscribers
        to_all = None in subscribers
        for stamp, record, _, facts, results in folded:
            for event, fact, result in zip(record.events if record else (), facts, results, strict=True):
                if to_all or event.stream in subscribers:
                    applied = _tuple(Applied, (stamp, event, fact, result))
                    everything.append(applied)
                    if event.stream in subscribers:
                        by_stream.setdefault(event.stream, []).append(applied)
        for stream, items in by_stream.items():
            self._tell(stream, items)
        if to_all and everything:
            self._tell(None, everything)

    def _tell(self, stream: bytes | None, items: list[Applied]) -> None:
        for callback in tuple(self._subscribers.get(stream, ())):
            try:
                callback(items)
            except Exception as error:  # one that fails must not keep the others, or the log, from going on
                _log.error("a subscriber failed", code="subscriber_failed", error=repr(error), exc_info=True)

    def _message(self, peer: str, message: dict[str, Any]) -> None:
        match message["type"]:
            case "refused":
                self._proposals.refused(message["id"], message["reason"])
                self._changes.refused(message["id"], message["reason"])
            case "read_done":
                self._finish_read(message["token"], message["index"])
            case "next_node_idx":
                self._put_answer(peer, message)
            case telling.TOLD:
                self.telling.told(peer, message)
            case _:
                self._put(("message", peer, message))

    def _disconnected(self, peer: str) -> None:
        self._put(("disconnected", peer))
        self._proposals.lost_connection(peer)

    async def _keep_reviewing(self) -> None:
        while True:
            await asyncio.sleep(REVIEW_S)
            self._proposals.review(time.monotonic())

    # -- read barrier ---------------------------------------------------------------------------------------------

    async def _read_index(self) -> int:
        while True:
            token = os.urandom(8)
            answer = self._loop.create_future()
            self._reads[token] = answer
            try:
                self._ask_read(token)
                async with asyncio.timeout(1.0):
                    index = await answer
                    if index is not None:
                        return int(index)
            except TimeoutError:
                continue
            finally:
                self._reads.pop(token, None)
            await asyncio.sleep(0.05)

    def _ask_read(self, token: bytes) -> None:
        leader = self._state.leader
        if leader == self.config.name:
            self._put(("read", token))
        elif leader is None or not self._forward(leader, {"type": "read", "token": token}):
            self._finish_read(token, None)

    def _finish_read(self, token: bytes, index: int | None) -> None:
        future = self._reads.get(token)
        if future is not None and not future.done():
            future.set_result(index)

    def _fail_reads(self) -> None:
        for future in self._reads.values():
            if not future.done():
                future.set_exception(OutcomeUnknown("this node is stopping"))


def _settle(future: asyncio.Future[T], result: Any, error: Exception | None) -> None:
    if future.done():
        return  # whoever waited has gone
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


def require_size(data: bytes, bodies: Sequence[bytes]) -> None:
    """Raises Rejected for a packed record that is too large with its bodies."""
    if len(data) + sum(map(len, bodies)) > MAX_PROPOSAL_BYTES:
        raise Rejected("too_large", f"a record with its bodies may have {MAX_PROPOSAL_BYTES} bytes")


def check_bodies(record: Record, bodies: Sequence[bytes]) -> None:
    """Each body comes with its bytes, but for one made of chunks. That the digest is theirs is on the caller."""
    if len(bodies) != len(record.bodies):
        raise RecordError(f"{len(record.bodies)} bodies are named and {len(bodies)} given")
    for body, data in zip(record.bodies, bodies, strict=True):
        if not body.chunks and len(data) != body.size:
            raise RecordError(f"a body of {len(data)} bytes is named with {body.size}")
