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
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import lmdb
import msgpack
import structlog

from eventlog import custody, levels
from eventlog.duties import Due, Duties
from eventlog.errors import FoldStalled
from eventlog.fold import Evolve, Fold, Folded, Outcome
from eventlog.journal import KIND_CONFIG, KIND_RECORD, Command, LmdbJournal
from eventlog.members import Configuration, Members, members_in
from eventlog.peers import Held, tokens_of
from eventlog.raft import ConsensusViolation, Message, Raft, Read, Timing
from eventlog.record import Encoded, RecordError, decode
from eventlog.store import Store

FOLD_BUDGET_S = 0.05  # a heartbeat must not wait for a long fold
MAX_UNCOMMITTED = 20_000
PROPOSER_CLOCK_MS = 5000
SMALL_RECORD_BYTES = 16 * 1024  # what may still be written from the reserve: votes, expunges, redactions
KIND_LEVEL = -1  # of a proposal: an ordinary record that raises the feature level
SETTLE_S = 0.02  # what is on disk ahead of the database is committed after so long, or twice that amid appends
FULL_BELOW_BYTES = 4 * 1024 * 1024  # LMDB calls a write cut short by a full disk an I/O error
SPACE_CHECK_S = 0.25

NOTHING_HELD: Mapping[bytes, Held] = {}

Item = tuple[Any, ...]  # what the event loop hands over: its kind, then what belongs to it

_packb = msgpack.Packer(use_bin_type=True, autoreset=True).pack
_COMMITTED = Outcome.COMMITTED  # an enum's class takes long to find a member
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_log = structlog.get_logger("mailraft.writer")


class Proposal(NamedTuple):
    """A record on its way into the log; `origin` is the peer that forwarded it, None for this node's own."""

    id: bytes
    data: bytes
    bodies: Sequence[bytes]
    clock_ms: int
    origin: str | None
    encoded: Encoded | None = None  # this node's own: checked and taken apart before
    kind: int = KIND_RECORD  # or KIND_CONFIG, or KIND_LEVEL: what the leader checks first
    token: bytes = b""  # under which its origin keeps it; b"" if it did not say

    @property
    def size_bytes(self) -> int:
        return len(self.data) + sum(map(len, self.bodies))


class Answer(NamedTuple):
    """What became of a proposal that this node waits for."""

    id: bytes
    outcome: Outcome
    position: int
    at_ms: int
    results: tuple[Any, ...]


class State(NamedTuple):
    """What the rest of the node may know of the writer after a tick."""

    role: str
    leader: str | None
    term: int
    commit: int
    applied: int
    last_index: int
    at_ms: int
    chain: bytes
    free_bytes: int
    stalled: str | None
    writable: bool
    behind: bool  # committed entries wait for the fold
    deadline: float  # of the monotonic clock: when the next tick is due even if nothing arrives
    config: Configuration = Configuration(0, ())
    links: Members = ()  # whom this node should be connected to
    removed_at: int = 0
    level: int = levels.OLDEST  # the feature level in force
    matches: Mapping[str, int] = {}
    waits_for_answers: bool = False  # of peers, beside those that raise the commit index


class Tick(NamedTuple):
    """Everything that a durable tick lets go."""

    state: State
    messages: list[tuple[str, Message]]
    answers: list[Answer]
    refusals: list[tuple[bytes, str]]  # id and reason, of this node's own proposals
    folded: list[Folded]  # what took effect
    reads: list[tuple[bytes, int | None]]  # token and index, None if the read must be asked again


class Writer(threading.Thread):
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
        self._awaited = 0  # up to here somebody at this node waits for the fold
        self._writable = True  # the last tick that had something to write could be written
        self._free_bytes = store.free_bytes()
        self._space_check_due = 0.0
        self._refused_for_space = False
        self._duties = Duties(store, self._journal, self._raft, self._fold, self._rng, time.monotonic())
        self._early: list[tuple[str, Message]] = []
        self._settle_due = 0.0  # when the open transaction, all of which is on disk, is committed; 0 if there is none
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

    def _commit_found(self) -> bool:
        """Has the database hold what was found ahead of it: the thread that began a transaction must end it.

        False where it can not be written: then the first tick finds it anew.
        """
        try:
            self._store.commit()
            self._journal.committed()
            return True
        except lmdb.Error as error:
            _log.error("what was found could not be written", code="not_writable", error=str(error))
            self._store.abort()
            return False

    # -- a tick -------------------------------------------------------------------------------------------------

    def _begin_tick(self) -> None:
        self._messages: list[tuple[str, Message]] = []
        self._answers: list[Answer] = []
        self._refusals: list[tuple[bytes, str]] = []
        self._folded: list[Folded] = []
        self._proposals: list[Proposal] = []
        self._untaken: list[Item] = []
        self._was_early = False
        self._applied_before = self._fold.applied
        self._fold_waits = False

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

    def _make_durable(self, now: float) -> None:
        """Puts on disk what the tick has done: ahead of the database where that is all that anybody waits for."""
        store, journal = self._store, self._journal
        if not store.dirty:
            return
        if self._can_wait(now):
            if not (journal.must_last or journal.term_changed) and self._settle_due:
                return  # this tick has done nothing that must last
            if self._write_ahead():
                self._settle_due = self._settle_due or now + SETTLE_S
                journal.committed()
                return
        self._commit()

    def _can_wait(self, now: float) -> bool:
        """Whether the database need not have this tick yet: nobody reads entries in it, but what is folded."""
        if self._stopping or not self._writable or self._fold.applied != self._applied_before:
            return False
        due = self._settle_due
        return not due or now < due or (now < due + SETTLE_S and bool(self._journal.small_addition()))

    def _write_ahead(self) -> bool:
        ahead, added = self._store.ahead, self._journal.small_addition()
        if ahead is None or not added:
            return False
        rows = [(index, term, each.kind, each.at_ms, each.data, each.bodies) for each, index, term in added]
        payload = bytes(_packb(rows))
        return ahead.takes(len(payload)) and ahead.write(payload)

    def _commit(self) -> None:
        self._writable = self._writable or self._store.dirty
        self._store.commit(last=self._journal.must_last or self._journal.term_changed)
        self._journal.committed()
        self._settle_due, self._fold_waits = 0.0, False

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

    def _propose(self, proposal: Proposal, now_ms: int) -> bool:
        reason = self._why_not(proposal, now_ms)
        if reason is not None:
            self._refuse(proposal, reason)
            return False
        self._proposals.append(proposal)
        self._free_bytes -= 2 * proposal.size_bytes  # until it is measured again; LMDB stores in whole pages
        at_ms = max(now_ms, self._journal.last_at_ms)
        if proposal.kind == KIND_CONFIG:
            self._raft.change_members(Command(KIND_CONFIG, at_ms, proposal.data))
            self._expect(proposal)
            return True
        kind = custody.KIND_QUARANTINE if self._stalled else KIND_RECORD
        command = Command(kind, at_ms, proposal.data, proposal.bodies)
        if proposal.encoded is not None:
            command.known_as(proposal.encoded.record, proposal.encoded.header)
        elif proposal.origin is not None and proposal.token:
            command.held = proposal.origin, proposal.token
        self._raft.propose(command)
        self._expect(proposal)
        return True

    def _expect(self, proposal: Proposal) -> None:
        """The peer that forwarded it wants to hear at once that it is committed."""
        if proposal.origin is not None:
            self._raft.asked_by(proposal.origin, self._journal.last_index)

    def _why_not(self, proposal: Proposal, now_ms: int) -> str | None:
        if not self._raft.is_leader or self._raft.is_handing_over:
            return "not_leader"
        if self._clock_is_off or abs(proposal.clock_ms - now_ms) > PROPOSER_CLOCK_MS:
            return "clock"
        if self._journal.last_index - self._raft.commit_index > MAX_UNCOMMITTED:
            return "busy"
        if self._stalled and not self._is_way_out(proposal, now_ms):
            return "busy"
        small = not proposal.bodies and len(proposal.data) <= SMALL_RECORD_BYTES
        if self._free_bytes < (self._reserve_bytes // 8 if small else self._reserve_bytes):
            self._refused_for_space = self._raft.low_on_space = True
            return "disk_full"
        return None if proposal.kind == KIND_RECORD else self._why_not_change(proposal)

    def _why_not_change(self, proposal: Proposal) -> str | None:
        """Of a change of the members, or of the feature level: a reason, a colon, what to tell people."""
        if proposal.kind == KIND_CONFIG:
            behind = levels.why_not_write(levels.MEMBERS_SINCE, self._fold.level)
            return behind or self._raft.why_no_change(members_in(proposal.data)) or self._why_not_again(proposal)
        if proposal.kind == KIND_LEVEL:
            return levels.why_not_raise(levels.raised_by(proposal.data), self._raft.levels_known())
        return "bad_record: a proposal of no kind that this version knows"

    def _why_not_again(self, proposal: Proposal) -> str | None:
        """A change that is sent again must not be made again: the cell may have changed since."""
        if self._fold.applied < self._raft.config.position:
            return "change_under_way: a change of the members is under way; ask again"
        record = decode(proposal.data)
        if self._journal.last_at_ms > record.expires_ms or self._fold.is_known(record):
            return "members_changed: this change was asked for before; look and ask again"
        return None

    def _hand_over(self, token: bytes, name: str, timeout_s: float, origin: str | None) -> None:
        reason = self._raft.hand_over(name, timeout_s)
        if reason is not None:
            self._refuse(Proposal(token, b"", (), 0, origin), reason)

    def _is_way_out(self, proposal: Proposal, now_ms: int) -> bool:
        """Whether it quarantines what this node is stalled at: nothing else is taken meanwhile."""
        try:
            record = proposal.encoded.record if proposal.encoded is not None else decode(proposal.data)
        except RecordError:
            return False
        at_ms = max(now_ms, self._journal.last_at_ms)
        return custody.quarantined_by(record, self._journal.last_index + 1, at_ms) == self._fold.applied + 1

    def _refuse(self, proposal: Proposal, reason: str) -> None:
        if proposal.origin is None:
            self._refusals.append((proposal.id, reason))
        else:
            self._messages.append((proposal.origin, {"type": "refused", "id": proposal.id, "reason": reason}))

    # -- the fold -----------------------------------------------------------------------------------------------

    def _may_fold_later(self, now: float) -> bool:
        """Whether what is committed is folded with what follows, because that is near and nobody here waits for it.

        A follower has few entries to put on disk first, which its leader waits for; a leader expects more of them.
        """
        if self._wanted or self._store.ahead is None or self._fold.applied < self._awaited:
            return False
        if self._raft.is_leader:
            return self._can_wait(now) and self._raft.expects_entries() and self._settle_due > 0
        return self._waits_for_entries(now)

    def _waits_for_entries(self, now: float) -> bool:
        """Whether all that anybody waits for is that few entries are on disk."""
        return self._store.ahead is not None and self._can_wait(now) and bool(self._journal.small_addition())

    def _behind(self) -> bool:
        return self._stalled is None and self._fold.applied < self._raft.commit_index

    def _fold_committed(self) -> None:
        """Folds what is committed, for as long as the budget lasts; the next tick goes on."""
        self._take_way_out()
        if not self._behind():
            return
        deadline = time.monotonic() + FOLD_BUDGET_S
        journal, fold = self._journal, self._fold
        some_quarantined = journal.quarantines_some
        for index in range(fold.applied + 1, self._raft.commit_index + 1):
            if some_quarantined and journal.quarantine_of(index) is not None and not journal.is_quarantined(index):
                self._stalled = f"record {index}: its quarantine is not committed yet"
                self._awaiting_quarantine = True
                return
            try:
                self._note(fold.apply(journal.entry(index)))
            except FoldStalled as error:
                self._stalled = str(error)
                told = {"code": error.code, "position": index, "error": str(error), "cause": error.cause}
                _log.error("the fold is stalled", **told, exc_info=True)
                return
            if index % 32 == 0 and time.monotonic() > deadline:
                return

    def _take_way_out(self) -> None:
        """Goes on where the fold was stalled once its quarantine is committed; or, never committed, is gone."""
        index = self._fold.applied + 1
        if self._stalled is not None and (
            self._journal.is_quarantined(index)
            or (self._awaiting_quarantine and self._journal.quarantine_of(index) is None)
        ):
            _log.warning("the fold goes on", position=index, quarantined=self._journal.is_quarantined(index))
            self._stalled, self._awaiting_quarantine = None, False

    def _note(self, folded: Folded) -> None:
        """Keeps what callers of this node wait for, and what took effect: the loop knows who subscribed to what."""
        stamp, record, outcome, _, results = folded
        if record is None:
            return
        if outcome is _COMMITTED:
            self._folded.append(folded)
        if record.id in self._wanted:
            position = stamp.position
            if outcome is Outcome.DUPLICATE:
                outcome, position = self._fold.first_outcome(record)
            self._answers.append(Answer(record.id, outcome, position, stamp.at_ms, results))

    def _leads(self) -> bool:
        return self._raft.is_leader and not self._stalled

    def _propose_due(self, due: Due | None, now_ms: int) -> bool:
        """Proposes what is this leader's own duty, if something is; true if it was appended."""
        return due is not None and self._propose(Proposal(due.id, due.data, (), now_ms, None, None, due.kind), now_ms)

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

    def _deadline(self) -> float:
        deadline = self._raft.next_deadline()
        return min(deadline, self._settle_due) if self._settle_due else deadline

    def _describe(self) -> State:
        raft, fold = self._raft, self._fold
        return State(
            raft.role, raft.leader, raft.term, raft.commit_index, fold.applied, self._journal.last_index,
            fold.at_ms, fold.chain, self._free_bytes, self._stalled, self._writable,
            self._behind() and not self._fold_waits, self._deadline(), raft.config, raft.links, raft.removed_at,
            fold.level, raft.matches() if raft.is_leader else {}, raft.waits_for_answers,
        )  # fmt: skip
