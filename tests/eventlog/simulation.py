"""A cell in one thread: real writers, engines, journals, folds; fake time, network, disk. One seed, one run.

The consensus thread's tick is called directly, so what is simulated is the code that runs in a node. Faults stand in
`Faults`, what must hold in `Oracle`; neither knows of the other. The Raft paper's properties (figure 3) are checked
after every tick.
"""

import hashlib
import heapq
import itertools
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import lmdb
import pytest

import eventlog.writer
from eventlog.fold import Outcome
from eventlog.frames import FrameReader, encode_frame
from eventlog.journal import LmdbJournal
from eventlog.raft import Timing
from eventlog.record import Guard, Record, digest_of, encode, stream_id
from eventlog.store import CHAIN, POSITION, Store
from eventlog.uploads import CHUNK_STORED
from eventlog.writer import Proposal, Tick, Writer
from tests.eventlog import ledger

MAP_BYTES = 256 * 1024 * 1024
START_MS = 1_700_000_000_000
TIMING = Timing(0.15, 0.3, 0.03)  # a third of a node's own: more elections in the time that a test has
STREAMS = tuple(stream_id("test", str(i)) for i in range(4))


class Crash(Exception):
    """The power goes, in the middle of a tick."""


class Faults(NamedTuple):
    """Probabilities, of a message or of a tick; seconds. `fifo`: a link is a TCP connection, else datagrams."""

    fifo: bool
    drop: float
    duplicate: float
    delay_s: float
    crash: float
    full: float
    pause: float
    partition_every_s: float
    election_every_s: float
    skew_ms: int

    @classmethod
    def drawn(cls, rng: random.Random) -> "Faults":
        fifo = rng.random() < 0.5
        return cls(
            fifo=fifo,
            drop=0.0 if fifo else rng.choice((0.0, 0.02, 0.2)),
            duplicate=0.0 if fifo else rng.choice((0.0, 0.1)),
            delay_s=rng.choice((0.002, 0.01, 0.05, 0.2)),
            crash=rng.choice((0.0, 0.001, 0.005)),
            full=rng.choice((0.0, 0.0, 0.003)),
            pause=rng.choice((0.0, 0.001)),
            partition_every_s=rng.choice((0.2, 0.5, 1000.0)),
            election_every_s=rng.choice((0.05, 0.3, 1000.0)),
            skew_ms=rng.choice((0, 2000)),
        )


NO_FAULTS = Faults(True, 0.0, 0.0, 0.002, 0.0, 0.0, 0.0, 1e9, 1e9, 0)


class Oracle:
    """What must hold, whatever happens. Raises AssertionError as soon as it does not."""

    def __init__(self) -> None:
        self.leaders: dict[int, str] = {}
        self.committed: list[tuple[int, bytes]] = [(0, b"")]  # by index: term and digest of the entry
        self.chains: dict[int, bytes] = {}
        self.acknowledged: dict[bytes, int] = {}
        self.highest_acknowledged = 0

    def check(self, node: "SimNode") -> None:
        raft, journal = node.raft, node.journal
        if raft.is_leader:
            first = self.leaders.setdefault(raft.term, node.name)
            assert first == node.name, f"election safety: {first} and {node.name} lead in term {raft.term}"
            if node.led_term != raft.term:
                node.led_term = raft.term
                self._leader_completeness(node)
        assert raft.term >= node.seen_term, f"{node.name}: term went back from {node.seen_term} to {raft.term}"
        node.seen_term = raft.term
        assert raft.commit_index <= journal.last_index, f"{node.name} committed what it does not hold"
        assert raft.commit_index >= node.seen_commit, f"{node.name}: the commit index went back"
        self._state_machine_safety(node)

    def _state_machine_safety(self, node: "SimNode") -> None:
        for index in range(node.seen_commit + 1, node.raft.commit_index + 1):
            entry = node.digest(index)
            if index == len(self.committed):
                self.committed.append(entry)
            assert self.committed[index] == entry, f"{node.name} committed something else at {index}"
        node.seen_commit = node.raft.commit_index
        for index in range(node.seen_applied + 1, node.fold.applied + 1):
            chain = node.chain(index)
            assert self.chains.setdefault(index, chain) == chain, f"{node.name} folded something else at {index}"
        node.seen_applied = node.fold.applied
        assert node.seen_applied <= node.seen_commit

    def _leader_completeness(self, node: "SimNode") -> None:
        for index in range(max(1, len(self.committed) - 200), len(self.committed)):
            assert node.digest(index) == self.committed[index], f"leader {node.name} lacks committed entry {index}"

    def acknowledge(self, id_: bytes, position: int) -> None:
        before = self.acknowledged.setdefault(id_, position)
        assert before == position, f"{id_.hex()} was acknowledged at {before} and at {position}"
        assert position < len(self.committed), "acknowledged before it was committed"
        self.highest_acknowledged = max(self.highest_acknowledged, position)

    @staticmethod
    def log_matching(nodes: "list[SimNode]") -> None:
        logs = [[n.digest(i) for i in range(1, n.journal.last_index + 1)] for n in nodes]
        for one, other in itertools.combinations(logs, 2):
            same = [i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a[0] == b[0]]
            if same:
                assert one[: same[-1] + 1] == other[: same[-1] + 1], "log matching"


class SimNode:
    """One node: its disk outlives its crashes, everything else does not."""

    def __init__(self, sim: "Simulation", name: str, path: Path) -> None:
        self.sim = sim
        self.name = name
        self.store = FaultyStore(path, sim, name)
        self.skew_ms = 0
        self.seen_term = self.seen_commit = self.seen_applied = self.led_term = 0
        self.boot()

    def boot(self) -> None:
        """A process starts on what is on disk."""
        self.inbox: list[tuple[Any, ...]] = []
        self.wanted: set[bytes] = set()
        self.reads: dict[bytes, int] = {}
        self.out: Tick | None = None
        self.busy_until = self.sim.now
        self.up = True
        self.sim.current = self
        self.writer = Writer(
            self.name,
            self.sim.names,
            self.store,
            ledger.evolve,
            timing=TIMING,
            reserve_bytes=1024,
            wanted=self.wanted,
            on_tick=self._hold,
            on_fatal=lambda error: None,
        )
        self.raft, self.fold = self.writer._raft, self.writer._fold
        self.journal: LmdbJournal = self.writer._journal
        assert self.raft.commit_index >= self.seen_commit, f"{self.name}: a published commit index was not durable"
        assert self.raft.term >= self.seen_term, f"{self.name}: a published term was not durable"
        assert self.fold.applied >= self.seen_applied
        self.digests: dict[int, tuple[int, bytes]] = {}

    def _hold(self, tick: Tick) -> None:
        self.out = tick

    def crash(self) -> None:
        """Loses what was not committed, and what was on its way out."""
        self.store.abort()
        self.up = False

    def digest(self, index: int) -> tuple[int, bytes]:
        """Term and contents of an entry, as the oracle compares them."""
        term = self.journal.term_at(index)
        assert term is not None, f"{self.name} has no entry {index}"
        known = self.digests.get(index)
        if known is None or known[0] != term:
            command, _, _ = self.journal.entry(index)
            content = b"%d %d " % (command.kind, command.at_ms) + command.data
            known = self.digests[index] = (term, hashlib.blake2b(content, digest_size=8).digest())
        return known

    def chain(self, index: int) -> bytes:
        with self.store.env.begin() as txn:
            return bytes(txn.get(POSITION.pack(index), db=self.store.db[CHAIN]) or b"")


class FaultyStore(Store):
    """A disk that may be full, and a machine whose power may go, when a tick is written."""

    def __init__(self, path: Path, sim: "Simulation", name: str) -> None:
        super().__init__(path, MAP_BYTES, durable=False)
        self._sim = sim
        self.armed = False

    @property
    def txn(self) -> Any:
        """What is written in the middle of a tick may find the disk full, too."""
        if self.armed and self._sim.rng.random() < self._sim.faults.full / 10:
            raise lmdb.MapFullError("mdb_put: the simulation's disk is full")
        return super().txn

    def commit(self) -> None:
        faults, rng = self._sim.faults, self._sim.rng
        if rng.random() < faults.crash:
            raise Crash
        if self.dirty and rng.random() < faults.full:
            raise lmdb.MapFullError("mdb_txn_commit: the simulation's disk is full")
        super().commit()

    def free_bytes(self) -> int:
        return 1 << 30


class Simulation:
    """`run` breaks things for a while, then heals everything and asks that the cell works again."""

    def __init__(self, seed: int, members: int, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.rng = random.Random(seed)
        self.faults = Faults.drawn(self.rng)
        self._exact = self.faults.fifo  # nothing arrives twice, so every attempt can be accounted for
        self.now = 100.0
        self.current: SimNode | None = None
        patch.setattr(eventlog.writer, "time", SimpleNamespace(monotonic=lambda: self.now, time=self._wall_clock))
        patch.setattr(eventlog.writer, "random", SimpleNamespace(Random=lambda: random.Random(self.rng.random())))
        self.names = tuple(f"n{i + 1}" for i in range(members))
        self._sequence = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._last_arrival: dict[tuple[str, str], float] = {}
        self._cut: set[tuple[str, str]] = set()
        self.oracle = Oracle()
        self.attempts: dict[bytes, list[int]] = {}  # id -> attempts, refusals
        self.bodies: dict[bytes, bytes] = {}  # digest -> bytes
        self._records: list[tuple[bytes, bytes, tuple[bytes, ...]]] = []
        self.ticks = 0
        self.nodes = {name: SimNode(self, name, folder / name) for name in self.names}
        for node in self.nodes.values():
            node.skew_ms = self.rng.randint(-self.faults.skew_ms, self.faults.skew_ms)
            self._wake(node, self.now)
        self._connect_all()

    def close(self) -> None:
        for node in self.nodes.values():
            node.store.close()

    def _wall_clock(self) -> float:
        skew = self.current.skew_ms if self.current else 0
        return START_MS / 1000 + self.now + skew / 1000

    # -- time -----------------------------------------------------------------------------------------------------

    def at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._sequence), action))

    def run_until(self, when: float) -> None:
        while self._events and self._events[0][0] <= when:
            self.now, _, action = heapq.heappop(self._events)
            action()
        self.now = when

    # -- one node's tick --------------------------------------------------------------------------------------------

    def _wake(self, node: SimNode, when: float) -> None:
        self.at(max(when, node.busy_until), lambda: self._tick(node))

    def _tick(self, node: SimNode) -> None:
        if not node.up or self.now < node.busy_until:
            return
        if not node.inbox and node.raft.next_deadline() > self.now and node.fold.applied >= node.raft.commit_index:
            return
        self.ticks += 1
        self.current = node
        items, node.inbox = node.inbox, []
        try:
            node.store.armed = True
            node.writer._run_tick(items)
        except Crash:
            self._crash(node)
            return
        finally:
            node.store.armed = False
        self.oracle.check(node)
        took = self.rng.uniform(0.0002, 0.004)
        if self.rng.random() < self.faults.pause:
            took += self.rng.uniform(0.1, 2.0)
        node.busy_until = self.now + took
        tick, node.out = node.out, None
        assert tick is not None
        self.at(node.busy_until, lambda: self._publish(node, tick))
        self._wake(node, max(node.busy_until, node.raft.next_deadline()))

    def _publish(self, node: SimNode, tick: Tick) -> None:
        if not node.up:
            return
        if self.rng.random() < self.faults.crash:  # durable, and nobody hears of it
            self._crash(node)
            return
        for peer, message in tick.messages:
            self._send(node.name, peer, encode_frame(message))
        for answer in tick.answers:
            self._answer(node, answer.id, answer.outcome, answer.position)
        for id_, _ in tick.refusals:
            self._refused(id_)
        for token, index in tick.reads:
            self._read_done(node, token, index)
        if node.inbox:
            self._wake(node, self.now)

    def _answer(self, node: SimNode, id_: bytes, outcome: Outcome, position: int) -> None:
        node.wanted.discard(id_)
        if outcome is Outcome.COMMITTED:
            self.oracle.acknowledge(id_, position)

    def _refused(self, id_: bytes) -> None:
        self.attempts[id_][1] += 1

    def _crash(self, node: SimNode) -> None:
        node.crash()
        for peer in self.names:
            if peer != node.name:
                self._link(peer, node.name, up=False)
        self.at(self.now + self.rng.uniform(0.02, 1.0), lambda: self._boot(node))

    def _boot(self, node: SimNode) -> None:
        node.boot()
        for peer in self.names:
            if peer != node.name and self.nodes[peer].up:
                self._link(peer, node.name, up=True)
                self._link(node.name, peer, up=True)
        self._wake(node, self.now)

    # -- the network ------------------------------------------------------------------------------------------------

    def _connect_all(self) -> None:
        for one, other in itertools.permutations(self.names, 2):
            self._link(one, other, up=True)

    def _link(self, source: str, target: str, *, up: bool) -> None:
        """The connection from source to target: made again (it was broken), or broken. Nodes learn of it."""
        node = self.nodes[source]
        if not node.up or (up and (source, target) in self._cut):
            return
        self._last_arrival.pop((source, target), None)
        node.inbox.append(("disconnected", target))
        if up:
            node.inbox.append(("connected", target))
        self._wake(node, self.now)

    def _send(self, source: str, target: str, frame: bytes) -> None:
        if (source, target) in self._cut or self.rng.random() < self.faults.drop:
            return
        when = self.now + self.rng.uniform(0.0001, self.faults.delay_s)
        link = (source, target)
        if self.faults.fifo:
            when = max(when, self._last_arrival.get(link, 0.0))
            self._last_arrival[link] = when
        incarnation = self.nodes[target].writer
        self.at(when, lambda: self._arrive(source, target, frame, incarnation))
        if self.rng.random() < self.faults.duplicate:
            again = when + self.rng.uniform(0, 0.5)
            self.at(again, lambda: self._arrive(source, target, frame, incarnation))

    def _arrive(self, source: str, target: str, frame: bytes, incarnation: Writer) -> None:
        node = self.nodes[target]
        if not node.up or (source, target) in self._cut or (self.faults.fifo and node.writer is not incarnation):
            return
        for message in FrameReader().feed(frame):
            match message["type"]:
                case "refused":
                    self._refused(message["id"])
                case "read_done":
                    self._read_done(node, message["token"], message["index"])
                case _:
                    node.inbox.append(("message", source, message))
        self._wake(node, self.now)

    def _partition(self) -> None:
        """Cuts some links, in one direction or both, silently or noticed; heals them after a while."""
        pairs = list(itertools.permutations(self.names, 2))
        side = set(self.rng.sample(self.names, self.rng.randint(1, len(self.names) - 1)))
        leaders = {node.name for node in self.nodes.values() if node.raft.is_leader}
        if leaders and self.rng.random() < 0.5:
            side = leaders
        kind = self.rng.choice(("split", "split", "one way", "some"))
        cut = {
            (a, b)
            for a, b in pairs
            if (kind == "some" and self.rng.random() < 0.4)
            or (kind == "split" and (a in side) != (b in side))
            or (kind == "one way" and a in side and b not in side)
        }
        self._cut |= cut
        if self.faults.fifo:
            for a, b in sorted(cut):
                self._link(a, b, up=False)
        self.at(self.now + self.rng.uniform(0.1, 1.0), lambda: self._heal(cut))

    def _heal(self, cut: set[tuple[str, str]]) -> None:
        self._cut -= cut
        for a, b in sorted(cut):
            if self.nodes[b].up:
                self._link(a, b, up=True)

    def _disturb(self) -> None:
        """A follower is told to stand for election, whatever its log is worth: safety must not depend on timing."""
        node = self.nodes[self.rng.choice(self.names)]
        if node.up and node.raft.leader not in (None, node.name):
            node.inbox.append(("message", node.raft.leader, {"type": "timeout_now", "term": node.raft.term}))
            self._wake(node, self.now)

    # -- the workload -----------------------------------------------------------------------------------------------

    def _propose_some(self) -> None:
        for _ in range(self.rng.choice((1, 1, 2, 10))):
            self._propose()

    def _propose(self) -> None:
        """A client at some node: a new record, or an old one again under its id."""
        node = self.nodes[self.rng.choice(self.names)]
        leader = node.raft.leader
        if not node.up or leader is None:
            return
        if self._records and self.rng.random() < 0.15:
            id_, data, bodies = self.rng.choice(self._records[-30:])
        else:
            id_, data, bodies = self._new_record(node)
            self._records.append((id_, data, bodies))
            self.attempts[id_] = [0, 0]
        self.attempts[id_][0] += 1
        node.wanted.add(id_)
        self.current = node
        clock_ms = int(self._wall_clock() * 1000)
        if leader == node.name:
            node.inbox.append(("proposal", Proposal(id_, data, bodies, clock_ms, None)))
            self._wake(node, self.now)
        else:
            rows = [(id_, data, bodies, clock_ms)]
            self._send(node.name, leader, encode_frame({"type": "propose", "proposals": rows}))

    def _new_record(self, node: SimNode) -> tuple[bytes, bytes, tuple[bytes, ...]]:
        rng = self.rng
        stream, kind = rng.choice(STREAMS), rng.choice(("plain", "bodies", "chunks", "large"))
        guards: tuple[Guard, ...] = ()
        if rng.random() < 0.3:
            with node.store.snapshot() as snapshot:
                guards = (Guard(stream, b"n", snapshot.view(stream).version(b"n")),)
        types = ["Noted"] * rng.randint(1, 2)
        pieces: tuple[bytes, ...] = ()
        data: tuple[bytes, ...] = ()
        if kind == "bodies":
            data = tuple(b"body %d" % rng.randint(0, 40) for _ in range(2))
        elif kind == "chunks":
            types, guards, stream = [CHUNK_STORED], (), ledger.UPLOAD
            data = (b"chunk %d" % rng.randint(0, 1),)
        elif kind == "large":
            pieces, data = tuple(b"chunk %d" % rng.randint(0, 1) for _ in range(2)), (b"",)
        tenant = ledger.UPLOAD if kind == "chunks" else ledger.TENANT
        bodies = [ledger.body(piece, tenant=tenant) for piece in data]
        if pieces:
            bodies = [ledger.body(b"".join(pieces), *pieces)]
        for piece in (*data, b"".join(pieces)):
            self.bodies[digest_of(piece)] = piece
        record = ledger.record(
            *(ledger.event(rng.randint(0, 1 << 40), stream=stream, type_=type_) for type_ in types),
            id_=rng.randbytes(16),
            expires_ms=int(self._wall_clock() * 1000) + rng.choice((2_000, 60_000)),
            guards=guards,
            bodies=tuple(bodies),
        )
        return record.id, encode(self._unsalted(record)), data

    @staticmethod
    def _unsalted(record: Record) -> Record:
        """Salts come from the operating system: a seed would not be the whole story."""
        events = tuple(event._replace(salt=bytes(16)) for event in record.events)
        return record._replace(events=events, bodies=tuple(body._replace(salt=bytes(16)) for body in record.bodies))

    def _read(self) -> None:
        """A reader at some node: what is acknowledged now must be in what it is told to wait for."""
        node = self.nodes[self.rng.choice(self.names)]
        leader = node.raft.leader
        if not node.up or leader is None:
            return
        token = self.rng.randbytes(8)
        node.reads[token] = self.oracle.highest_acknowledged
        if leader == node.name:
            node.inbox.append(("read", token))
            self._wake(node, self.now)
        else:
            self._send(node.name, leader, encode_frame({"type": "read", "token": token}))

    def _read_done(self, node: SimNode, token: bytes, index: int | None) -> None:
        wanted = node.reads.pop(token, None)
        if wanted is not None and index is not None:
            assert index >= wanted, f"a read at {node.name} was told {index}, and {wanted} was acknowledged before"

    # -- a run ------------------------------------------------------------------------------------------------------

    def run(self, seconds: float = 10.0, heal_s: float = 6.0) -> None:
        begun = self.now
        self._every(begun, begun + seconds + heal_s - 2, 0.06, self._propose_some)
        self._every(begun, begun + seconds + heal_s - 2, 0.06, self._read)
        self._every(begun, begun + seconds, 1.0, lambda: Oracle.log_matching(list(self.nodes.values())))
        if len(self.names) > 1:
            self._every(begun, begun + seconds, self.faults.partition_every_s, self._partition)
            self._every(begun, begun + seconds, self.faults.election_every_s, self._disturb)
        self.run_until(begun + seconds)
        self.faults = NO_FAULTS
        self._cut.clear()
        self._connect_all()
        acknowledged = len(self.oracle.acknowledged)
        self.run_until(self.now + heal_s)
        self._check_alive(acknowledged)

    def _every(self, first: float, last: float, gap_s: float, action: Callable[[], None]) -> None:
        when = first + self.rng.uniform(0, gap_s)
        while when < last:
            self.at(when, action)
            when += self.rng.uniform(0.5, 1.5) * gap_s

    def _check_alive(self, acknowledged_before: int) -> None:
        nodes = list(self.nodes.values())
        states = [node.writer.state for node in nodes]
        assert len(self.oracle.acknowledged) > acknowledged_before + 50, f"no progress after all was healed: {states}"
        assert len({s.leader for s in states}) == 1, f"no single leader after all was healed: {states}"
        assert len({(s.commit, s.applied, s.last_index) for s in states}) == 1, f"a node lags: {states}"
        assert states[0].commit == states[0].last_index
        Oracle.log_matching(nodes)
        for node in nodes:
            self._check_outcomes(node)

    def _check_outcomes(self, node: SimNode) -> None:
        with node.store.snapshot() as snapshot:
            stored = {s.position: s for s in snapshot.records()}
            for id_, position in self.oracle.acknowledged.items():
                record = stored[position].record
                assert record is not None, f"{node.name} lost what was acknowledged at {position}"
                assert record.id == id_
                assert stored[position].outcome == Outcome.COMMITTED
            effective = [s for s in stored.values() if s.outcome == Outcome.COMMITTED]
            records = [s.record for s in effective if s.record is not None]
            ids = [record.id for record in records]
            assert len(ids) == len(set(ids)), "a record took effect twice"
            self._check_bodies(snapshot, effective)
            noted = {record.id for record in records if record.events[0].type == "Noted"}
            told = {i for s in STREAMS for i in ledger.record_ids(snapshot.view(s))}
            assert told == noted, "the tables are not what the log says"
        if self._exact:
            never = {id_ for id_, (sent, refused) in self.attempts.items() if refused >= sent}
            assert not never & set(ids), "a record took effect though every attempt was refused"

    def _check_bodies(self, snapshot: Any, effective: list[Any]) -> None:
        for stored in effective:
            for body in stored.record.bodies:
                found = snapshot.body(body.tenant, body.digest)
                assert found == self.bodies[body.digest], f"a body of record {stored.position} is lost"
