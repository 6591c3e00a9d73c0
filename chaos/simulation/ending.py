"""After the faults: the cell must come together again, be quiet while nothing happens, and have kept its promises."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

from chaos.simulation import opaque
from chaos.simulation.oracle import PromiseBroken
from chaos.simulation.workload import TIMEOUT_S
from eventlog.errors import Rejected
from eventlog.fold import Outcome
from eventlog.rebuild import rebuild_store, table_digests

if TYPE_CHECKING:
    from chaos.simulation.node import SimulatedNode
    from chaos.simulation.run import Simulation
    from eventlog.store import Snapshot, StoredRecord

STEP_S = 0.1
OTHER_TIMERS_S = 8.0  # what does not grow with the election timeout: proposals sent again, space checked, clients
PROPOSAL_S = 8.0


class Ending:
    """The stages after the faults, in order; `run` raises PromiseBroken."""

    def __init__(self, sim: Simulation, rng: random.Random, evolve: Any) -> None:
        self.sim = sim
        self.rng = rng
        self._evolve = evolve
        self._sent: Counter[tuple[str, str, int]] = Counter()
        self._election_s = sim.config.timing.election_max_s

    def run(self) -> None:
        self.sim.trace.add("cell", "heals")
        self._wait(TIMEOUT_S)  # clients give up, nodes come back and wake up
        self._converge()
        self._progress()
        self._converge()
        self._nothing_is_sent_twice()
        if len(self._voters()) > 2:
            self._a_healthy_leader_stays()
            self._a_later_term_is_heard()
        self._converge()
        self._check_tables()
        self._check_outcomes()

    @property
    def _nodes(self) -> list[SimulatedNode]:
        """The members, as whoever has committed most knows them; at first, whom the configuration file names."""
        up = [node for node in self.sim.nodes.values() if node.up]
        best = max(up, key=lambda node: (node.raft.commit_index, node.raft.config.position), default=None)
        names = [member.name for member in best.raft.config.members] if best else self.sim.first_names
        return [self.sim.nodes[name] for name in names]

    def _wait(self, seconds: float) -> None:
        self.sim.advance(seconds)

    # -- liveness ---------------------------------------------------------------------------------------------------

    def _converge(self) -> None:
        """One leader that all follow, and all that it has committed folded everywhere, within a bound."""
        bound_s = 30 * self._election_s + OTHER_TIMERS_S
        until_s = self.sim.clock.now + bound_s
        while not self._is_whole():
            if self.sim.clock.now >= until_s:
                raise PromiseBroken("the cell comes together again", f"not in {bound_s:g} s: {self._states()}")
            self._wait(STEP_S)

    def _is_whole(self) -> bool:
        if not all(node.up for node in self._nodes):
            return False
        states = [node.writer.state for node in self._nodes]
        same = {(state.leader, state.term, state.commit, state.applied, state.last_index) for state in states}
        voting = all(member.voter for member in states[0].config.members)  # learners catch up and are given a vote
        return voting and len(same) == 1 and states[0].leader is not None and states[0].applied == states[0].last_index

    def _states(self) -> str:
        return "; ".join(
            f"{node.name} {state.role} of {state.leader} in term {state.term}, {state.commit}/{state.last_index}"
            for node in self._nodes
            if (state := node.writer.state)
        )

    def _progress(self) -> None:
        """Every node takes a record and shows it in a read."""
        waiting = {node.name for node in self._nodes}
        for node in self._nodes:
            node.loop.spawn(self._write_and_read(node, waiting))
        until_s = self.sim.clock.now + PROPOSAL_S
        while waiting and self.sim.clock.now < until_s:
            self._wait(STEP_S)
        if waiting:
            raise PromiseBroken("a whole cell makes progress", f"{', '.join(sorted(waiting))}: no answer")

    async def _write_and_read(self, node: SimulatedNode, waiting: set[str]) -> None:
        while node.name in waiting:
            try:
                await self.sim.workload.write(node)
                await self.sim.workload.read(node)
                waiting.discard(node.name)
            except Rejected:
                await asyncio.sleep(STEP_S)  # its disk was full a moment ago

    # -- quiet --------------------------------------------------------------------------------------------------------

    def _voters(self) -> list[SimulatedNode]:
        return [node for node in self._nodes if node.raft._is_voter]

    def _leader(self) -> SimulatedNode:
        return next(node for node in self._nodes if node.raft.is_leader)

    def _nothing_is_sent_twice(self) -> None:
        """While no connection breaks and nobody is elected, each entry goes to each peer once (nextIndex, 5.3)."""
        leader, term = self._leader(), self._leader().raft.term
        self._sent.clear()
        self.sim.network.watch = self._count
        for _ in range(4):
            for node in self._nodes:
                node.loop.spawn(self.sim.workload.tried(self.sim.workload.write(node)))
                self._wait(self.rng.uniform(0.0, 0.004))
        self._wait(2 * self._election_s)
        self.sim.network.watch = lambda source, target, message: None
        twice = [place for place, times in self._sent.items() if times > 1]
        if twice and leader.raft.is_leader and leader.raft.term == term:
            source, target, index = twice[0]
            raise PromiseBroken("nothing is sent twice", f"{source} sent entry {index} to {target} again")

    def _count(self, source: str, target: str, message: dict[str, Any]) -> None:
        if message["type"] == "append_entries":
            for offset in range(len(message["entries"])):
                self._sent[source, target, message["prevLogIdx"] + 1 + offset] += 1

    def _a_healthy_leader_stays(self) -> None:
        """A follower that is cut off and comes back, or hears nobody, must not depose a leader with a majority."""
        leader, rng = self._leader(), self.rng
        term = leader.raft.term
        lost = rng.choice([node.name for node in self._voters() if node is not leader])
        to_it = [(name, lost) for name in self.sim.names if name != lost]
        kind = rng.choice(("is cut off", "hears nobody", "hears nobody"))
        pairs = to_it if kind == "hears nobody" else to_it + [(b, a) for a, b in to_it]
        self.sim.trace.add(lost, kind)
        self.sim.network.cut(pairs, noticed=rng.random() < 0.5)
        if rng.random() < 0.5:
            leader.loop.spawn(self.sim.workload.tried(self.sim.workload.write(leader)))
        self._wait(5 * self._election_s)
        self.sim.network.heal_all()
        self.sim.trace.add(lost, "is back")
        self._wait(4 * self._election_s)
        if not leader.raft.is_leader or leader.raft.term != term:
            now = self._states()
            raise PromiseBroken("a healthy leader stays", f"{leader.name} led in term {term}, {lost} {kind}: {now}")

    def _a_later_term_is_heard(self) -> None:
        """A follower that stood for election unheard is in a later term than its leader: it is taken back (5.1)."""
        leader = self._leader()
        lost = self.rng.choice([node for node in self._voters() if node is not leader])
        pairs = [(lost.name, name) for name in self.sim.names if name != lost.name]
        self.sim.trace.add(lost.name, "stands for election and nobody hears it")
        self.sim.network.cut(pairs, noticed=True)
        lost.loop.call_soon(lost.log._message, leader.name, {"type": "timeout_now", "term": lost.raft.term})
        self._wait(self._election_s)
        self.sim.network.heal_all()
        self._converge()

    # -- what is left -----------------------------------------------------------------------------------------------

    def _check_tables(self) -> None:
        """Equal on all nodes, and what the log says when it is folded from zero."""
        digests = []
        for node in self._nodes:
            with node.log.snapshot() as snapshot:
                digests.append(table_digests(snapshot))
        for node, found in zip(self._nodes, digests, strict=True):
            differing = [name.decode() for name in found if found[name] != digests[0][name]]
            if differing:
                raise PromiseBroken("tables are equal", f"{node.name} differs in {', '.join(differing)}")
        report = rebuild_store(self._nodes[0].log.store, self._evolve)
        if not report.equal:
            raise PromiseBroken("tables are what the log says", ", ".join(report.differing))

    def _check_outcomes(self) -> None:
        for node in self._nodes:
            with node.log.snapshot() as snapshot:
                self._check_records(node, snapshot)

    def _check_records(self, node: SimulatedNode, snapshot: Snapshot) -> None:
        effective = [stored for stored in snapshot.records() if stored.outcome == Outcome.COMMITTED]
        positions: dict[bytes, int] = {}
        for stored in effective:
            record = stored.record
            if record is None:
                continue
            if record.id in positions:
                raise PromiseBroken("once", f"{node.name}: {record.id.hex()[-6:]} took effect twice")
            positions[record.id] = stored.position
            self._check_bodies(node, snapshot, stored)
        oracle = self.sim.oracle
        for id_, position in oracle.acknowledged.items():
            if positions.get(id_) != position:
                what = f"{node.name}: {id_.hex()[-6:]} was acknowledged at {position}, is at {positions.get(id_)}"
                raise PromiseBroken("acknowledged is durable", what)
        for id_, reason in oracle.refused.items():
            if id_ in positions:
                what = f"{node.name}: {id_.hex()[-6:]} was refused ({reason}) and is at {positions[id_]}"
                raise PromiseBroken("refused never takes effect", what)
        self._check_opaque(node, snapshot, effective)

    def _check_bodies(self, node: SimulatedNode, snapshot: Snapshot, stored: StoredRecord) -> None:
        assert stored.record is not None
        for body in stored.record.bodies:
            expected = self.sim.workload.bodies.get(body.digest)
            if expected is not None and snapshot.body(body.tenant, body.digest) != expected:
                raise PromiseBroken("bodies are durable", f"{node.name}: a body of record {stored.position}")

    @staticmethod
    def _check_opaque(node: SimulatedNode, snapshot: Snapshot, effective: list[StoredRecord]) -> None:
        records = (stored.record for stored in effective)
        expected = [
            (event.stream, record.id)
            for record in records
            if record is not None
            for event in record.events
            if event.type == opaque.NOTED
        ]
        for stream in opaque.STREAMS:
            found = opaque.noted_ids(snapshot.view(stream))
            if found != [id_ for of, id_ in expected if of == stream]:
                raise PromiseBroken("tables are what the log says", f"{node.name}: opaque records")
