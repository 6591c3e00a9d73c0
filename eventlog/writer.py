"""The consensus thread: the only writer of a node, and its tick.

A tick takes what is waiting, appends, folds what has committed, makes all of it durable in one LMDB commit, and only
then lets messages and answers go: no vote, no acknowledgement and no answer leaves a node before what it rests on is on
disk. The one exception is a leader's entries, which its followers may write while it does (docs/ADR/0002). If the
commit fails, the tick never happened: state is taken from disk again, a leader resigns, proposals are refused.

The event loop begins each tick and waits while the thread computes; it goes on while the thread waits for the disk.
Only one of the two wants the interpreter at a time, because LMDB's binding gives it up at every call and two busy
threads would spend their time handing it to and fro (docs/ADR/0002).
"""

import errno
import random
import threading
import time
from collections.abc import Callable, Collection, Mapping

import lmdb
import structlog

from eventlog import levels
from eventlog.admission import Admission
from eventlog.duties import Duties
from eventlog.fold import Evolve, Fold
from eventlog.journal import KIND_RECORD, LmdbJournal
from eventlog.peers import Held, tokens_of
from eventlog.raft import ConsensusViolation, Message, Raft, Read, Timing
from eventlog.store import Store
from eventlog.ticks import Item, Proposal, State, Tick

FULL_BELOW_BYTES = 4 * 1024 * 1024  # LMDB calls a write cut short by a full disk an I/O error
SPACE_CHECK_S = 0.25

NOTHING_HELD: Mapping[bytes, Held] = {}

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_log = structlog.get_logger("mailraft.writer")


class Writer(Admission, threading.Thread):
    """Owns the store's write transactions, the journal, the engine and the fold."""

    def __init__(
        self,
        name: str,
        peers: Collection[str],
        store: Store,
        evolve: Evolve,
        *,
        timing: Timing,
        reserve_bytes: int,
        wanted: Collection[bytes],
        on_tick: Callable[[Tick], None],
        on_fatal: Callable[[BaseException], None],
        held: Mapping[bytes, Held] = NOTHING_HELD,
    ) -> None:
        super().__init__(name=f"consensus-{name}", daemon=True)
        self._begun, self._computed = threading.Lock(), threading.Lock()  # each free while its turn is due
        self._begun.acquire()
        self._computed.acquire()
        self._items: list[Item] = []
        self._store = store
        self._reserve_bytes = reserve_bytes
        self._wanted = wanted
        self._on_tick = on_tick
        self._on_fatal = on_fatal
        self._journal = LmdbJournal(store)
        self._reload_due = not self._commit_found()
        self._fold = Fold(store, self._journal, evolve)
        self._rng = random.Random()
        self._raft = Raft(name, peers, self._journal, timing, self._rng, time.monotonic())
        self._raft.held = held
        self._connected: set[str] = set()
        self._stopping = False
        self._stalled: str | None = None
        self._awaiting_quarantine = False
        self._clock_is_off = False
        self._awaited = 0
        self._writable = True
        self._free_bytes = store.free_bytes()
        self._space_check_due = 0.0
        self._refused_for_space = False
        self._duties = Duties(store, self._journal, self._raft, self._fold, self._rng, time.monotonic())
        self._early: list[tuple[str, Message]] = []
        self._settle_due = 0.0
        self._begin_tick()
        self._state = self._describe()

    @property
    def state(self) -> State:
        return self._state

    def tick(self, items: list[Item]) -> list[tuple[str, Message]]:
        """Begins a tick and returns when it is computed; `on_tick` tells when it is durable. One at a time.

        Gives what may be sent meanwhile: see `_send_early`.
        """
        self._items = items
        self._begun.release()
        self._computed.acquire()
        early, self._early = self._early, []
        return early

    def run(self) -> None:
        try:
            while not self._stopping:
                self._begun.acquire()
                self._run_tick(self._items)
        except BaseException as error:
            _log.critical("the consensus thread has ended", code="consensus_ended", error=repr(error), exc_info=True)
            self._on_fatal(error)
        finally:
            self._store.abort()
            self._hand_back()

    def _hand_back(self) -> None:
        """The event loop may go on."""
        if self._computed.locked():
            self._computed.release()

    # -- a tick -------------------------------------------------------------------------------------------------

    def _run_tick(self, items: list[Item]) -> None:
        self._begin_tick()
        now, now_ms = time.monotonic(), int(time.time() * 1000)
        handed_back = False
        try:
            if self._reload_due:
                self._journal.reload()
                self._reload_due = False
            self._compute(self._call_first(items, now), now, now_ms)
            self._send_early()
            self._hand_back()
            handed_back = True
            self._make_durable(now)
        except lmdb.Error as error:
            self._undo(error, now)
        if not handed_back:
            self._hand_back()
        self._publish()

    def _send_early(self) -> None:
        """A leader's entries go to its followers while it writes them itself (Raft thesis 10.2.1).

        It takes their answers only when this tick is durable, so what it counts as its own always is. Where the tick
        has changed its term or vote, or it alone is a majority, nothing is said before it is on disk.
        """
        if self._raft.is_leader and not self._journal.term_changed and not self._raft.is_majority:
            self._early = self._raft.take_outbox()
            self._was_early = bool(self._early)

    def _call_first(self, items: list[Item], now: float) -> list[Item]:
        """Runs what wants to be alone with the database: before anything is written, and while the loop waits."""
        calls = [item[1] for item in items if item[0] == "call"]
        if not calls:
            return items
        if self._store.dirty:
            try:
                self._commit()
            except lmdb.Error as error:
                self._undo(error, now)  # whoever calls looks whether a transaction is open
        for call in calls:
            call()
            self._journal.must_commit()
        return [item for item in items if item[0] != "call"]

    def _compute(self, items: list[Item], now: float, now_ms: int) -> None:
        self._check_space(now)
        self._clock_is_off = self._raft.clock_is_off
        self._untaken = items[::-1]
        while self._untaken:
            self._take(self._untaken.pop(), now, now_ms)
        self._raft.tick(now, now_ms)
        if self._leads():
            self._propose_due(self._duties.of_chunks(now, now_ms), now_ms)
        self._fold_waits = self._may_fold_later(now)
        if not self._fold_waits:
            self._fold_committed()
        while self._leads() and self._propose_due(self._duties.of_members(now, now_ms), now_ms):
            self._raft.tick(now, now_ms)  # alone in its cell, a leader commits at once
            self._fold_committed()
        self._raft.send_appends()
        self._fold.flush()
        if self._fold.level >= levels.TAILS_SINCE and self._store.use_newest_format():
            self._journal.must_commit()
        self._store.tidy()
        if self._raft.is_leader or not self._waits_for_entries(now):
            self._store.settle()  # else they are put with others

    def _take(self, item: Item, now: float, now_ms: int) -> None:
        match item[0]:
            case "message":
                self._take_message(item[1], item[2], now, now_ms)
            case "proposal":
                self._propose(item[1], now_ms)
            case "read":
                self._raft.read("", item[1])
            case "awaited":
                self._awaited = max(self._awaited, item[1])
            case "connected":
                self._connected.add(item[1])
                self._raft.connected(item[1], now)
            case "disconnected":
                self._connected.discard(item[1])
                self._raft.disconnected(item[1])
            case "transfer":
                if self._raft.is_leader:
                    self._raft.hand_over_now()
            case "hand_over":
                self._hand_over(item[1], item[2], item[3], None)
            case "stop":
                self._stopping = True

    def _take_message(self, peer: str, message: Message, now: float, now_ms: int) -> None:
        try:
            match message["type"]:
                case "propose" | "read" | "hand_over" if peer not in self._raft.names:
                    _log.warning("message ignored", peer=peer, type=message["type"], error="it is no member")
                case "propose":
                    tokens = tokens_of(message)
                    for id_, data, bodies, clock_ms, *kind in message["proposals"]:
                        of_kind = kind[0] if kind else KIND_RECORD
                        proposal = Proposal(id_, data, bodies, clock_ms, peer, None, of_kind, next(tokens))
                        self._propose(proposal, now_ms)
                case "read":
                    self._raft.read(peer, message["token"])
                case "hand_over":
                    self._hand_over(message["token"], message["name"], message["timeout_s"], peer)
                case _:
                    self._raft.receive(peer, message, now)
        except (ConsensusViolation, lmdb.Error):
            raise
        except Exception as error:  # whatever an authenticated peer sends must not end this node
            _log.warning("message ignored", peer=peer, type=message.get("type"), error=repr(error))

    # -- the end of a tick ----------------------------------------------------------------------------------------

    def _publish(self) -> None:
        reads = self._finish_reads()
        self._state = self._describe()
        messages = self._raft.take_outbox() + self._messages
        self._on_tick(Tick(self._state, messages, self._answers, self._refusals, self._folded, reads))

    def _finish_reads(self) -> list[tuple[bytes, int | None]]:
        done: list[tuple[Read, int | None]] = list(self._raft.reads_done)
        done += [(read, None) for read in self._raft.reads_failed]
        self._raft.reads_done, self._raft.reads_failed = [], []
        own: list[tuple[bytes, int | None]] = []
        for read, index in done:
            if read.peer:
                self._messages.append((read.peer, {"type": "read_done", "token": read.token, "index": index}))
            else:
                own.append((read.token, index))
        return own

    def _undo(self, error: lmdb.Error, now: float) -> None:
        """The tick could not be written. Out of space: as if it had never begun. Anything else ends the process."""
        self._store.abort()
        code = getattr(error, "code", 0)
        full = isinstance(error, lmdb.MapFullError) or code in _NO_SPACE
        if not full and not (code == errno.EIO and self._store.free_bytes() < FULL_BELOW_BYTES):
            raise error
        _log.error("the tick could not be written", code="not_writable", error=str(error), leader=self._raft.is_leader)
        self._free_bytes = 0
        self._writable = False
        self._raft.low_on_space = True
        self._space_check_due = now + 1.0
        # what was sent early may be committed by the others: its outcome is unknown, and asked of the next leader
        proposals, untaken = [] if self._was_early else self._proposals, self._untaken
        self._settle_due = 0.0
        self._journal.reload(self._state.commit)
        self._fold.reload()
        self._begin_tick()
        self._raft.restart(now)
        self._raft.resign()
        for peer in self._connected:
            self._raft.connected(peer, now)
        for proposal in proposals:
            self._refuse(proposal, "disk_full")
        for item in reversed(untaken):
            if item[0] != "message":  # one from a peer may be lost; it is sent again
                self._take(item, now, 0)

    def _check_space(self, now: float) -> None:
        if now >= self._space_check_due:
            self._space_check_due = now + SPACE_CHECK_S
            self._free_bytes = self._store.free_bytes()
            self._raft.low_on_space = self._refused_for_space or self._free_bytes < self._reserve_bytes
            self._refused_for_space = False

    def _describe(self) -> State:
        raft, fold = self._raft, self._fold
        return State(
            raft.role, raft.leader, raft.term, raft.commit_index, fold.applied, self._journal.last_index,
            fold.at_ms, fold.chain, self._free_bytes, self._stalled, self._writable,
            self._behind() and not self._fold_waits, self._deadline(), raft.config, raft.links, raft.removed_at,
            fold.level, raft.matches() if raft.is_leader else {}, raft.waits_for_answers,
        )  # fmt: skip
