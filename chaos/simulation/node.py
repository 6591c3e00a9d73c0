"""One simulated node: its disk outlives its crashes, everything else belongs to one life.

A life is the production event log with its writer, engine and fold, and the actors' runtime over it, on a loop of its
own. The consensus thread has no thread here: its tick is computed where the loop begins it, and let go when the disk
has taken its time.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast

import lmdb

import actors.registry
import eventlog.wiring
import eventlog.writer
from actors.directory import Directory
from actors.runtime import Runtime
from chaos.simulation.clock import NodeLoop
from chaos.simulation.disk import Disk, PowerLost, SimulatedStore
from chaos.simulation.machine import replaced
from chaos.simulation.network import Transport
from chaos.simulation.opaque import NOTED, note
from eventlog.errors import DamagedDatabase
from eventlog.fold import Outcome
from eventlog.journal import Command, LmdbJournal
from eventlog.log import Committed, EventLog, LogConfig
from eventlog.peers import Message
from eventlog.record import Event, Record, Stamp
from eventlog.ticks import Answer, Proposal, Tick
from eventlog.views import View
from eventlog.wiring import Owner
from eventlog.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaos.simulation.run import Simulation

IDLE_S = 2.0  # actors are passivated early, so that it happens within a run
KEY = bytes(32)
RESERVE_BYTES = 1024
NOTHING_CHANGED = 1 << 62


def address(name: str) -> str:
    """Where a node is reached; unique, as a cell asks."""
    return f"{name}.test:1"


def evolve(view: View, event: Event, stamp: Stamp) -> tuple[Any, Any]:
    """The actors' fold, and beside it that of the opaque records."""
    return note(view, event, stamp) if event.type == NOTED else actors.registry.fold_event(view, event, stamp)


class WatchedJournal(LmdbJournal):
    """Knows from which index on the log is not what it was: the oracle looks at no more than that."""

    changed_from = NOTHING_CHANGED

    def reload(self, commit: int = 0) -> None:
        super().reload(commit)
        self.changed_from = NOTHING_CHANGED

    def add(self, command: Command | bytes, idx: int, term: int) -> None:
        super().add(command, idx, term)
        self.changed_from = min(self.changed_from, idx)

    def deleteEntriesFrom(self, entryFrom: int) -> None:
        super().deleteEntriesFrom(entryFrom)
        self.changed_from = min(self.changed_from, entryFrom + 1)


class SimulatedWriter(Writer):
    """The consensus thread without its thread."""

    def __init__(self, node: SimulatedNode, *args: Any, on_tick: Any, **kwargs: Any) -> None:
        super().__init__(*args, on_tick=self._durable, **kwargs)
        self._node = node
        self._give = on_tick
        self._alive = False

    def start(self) -> None:
        self._alive = True

    def is_alive(self) -> bool:
        return self._alive

    def _why_not_again(self, proposal: Proposal) -> str | None:
        return None if self._node.sim.changes_again else super()._why_not_again(proposal)

    def _propose(self, proposal: Proposal, now_ms: int) -> bool:
        taken = super()._propose(proposal, now_ms)
        if taken and self._node.sim.answers_early and proposal.id in self._wanted:
            self._answers.append(Answer(proposal.id, Outcome.COMMITTED, self._journal.last_index, now_ms, ()))
        return taken

    def _undo(self, error: lmdb.Error, now: float) -> None:
        """What is taken from disk again finds the room that it had before."""
        store = cast(SimulatedStore, self._store)
        store.armed = False
        super()._undo(error, now)
        store.armed = True

    def tick(self, items: list[Any]) -> list[tuple[str, Message]]:
        store = cast(SimulatedStore, self._store)
        store.armed = True
        try:
            self._run_tick(items)
        except PowerLost:
            for peer, message in self._node.sim.disturber.heard(self._early):
                self._node.log._forward(peer, message)  # it was on its way before the disk had it
            self._node.crash("in the middle of a commit")
            self._early = []
        finally:
            store.armed = False
        early, self._early = self._early, []
        return early

    def _durable(self, tick: Tick) -> None:
        """The tick is on disk; what it lets go waits until the disk has said so."""
        node = self._node
        plan = node.sim.disturber.after_tick(node)
        node.sim.oracle.after_tick(node)
        delay_s = node.disk.latency_s()
        if plan == "unheard":
            self._early = []
            node.loop.call_later(delay_s, node.crash, "before anybody heard of its last tick")
        elif plan == "half heard" and (peers := {peer for peer, _ in (*self._early, *tick.messages)}):
            peer = node.sim.disturber.rng.choice(sorted(peers))
            self._early = [message for message in self._early if message[0] == peer]
            heard = tick._replace(messages=[message for message in tick.messages if message[0] == peer])
            node.loop.call_later(delay_s, self._give, heard)
            node.loop.call_later(delay_s, node.loop.call_soon, node.crash, f"after {peer} alone heard of its last tick")
        else:
            node.loop.call_later(delay_s, self._give, tick)


class ObservedLog(EventLog):
    """Tells the oracle what callers were told."""

    node: SimulatedNode

    async def propose(self, record: Record, bodies: Sequence[bytes] = (), timeout_s: float = 8.0) -> Committed:
        return await self.node.observe(record, super().propose(record, bodies, timeout_s))


class SimulatedNode:
    """One node over all of its lives."""

    def __init__(self, sim: Simulation, name: str) -> None:
        """Of a name that is none of the first members, it waits until it is told that it is one."""
        self.sim = sim
        self.name = name
        self.skew_ms = 0
        self.up = False
        self.lives = 0
        self.retired = False  # removed from the cell, and knows it
        self.disk = Disk(sim.folder / name, sim.stream(f"disk of {name}"), **sim.disk_mistakes)
        self.disk.fail_at_commit = lambda: sim.disturber.at_commit(self)

    def boot(self) -> None:
        """A process starts on what is on disk."""
        sim = self.sim
        self.up = True
        self.lives += 1
        self.loop = NodeLoop(sim.clock, self.skew_ms)
        store = self.disk.open()
        config = LogConfig(
            self.name,
            self.disk.path,
            {name: address(name) for name in sim.first_names},
            address(self.name),
            sim.config.timing[:2],
            sim.config.timing.heartbeat_s,
            reserve_bytes=RESERVE_BYTES,
        )
        with replaced(
            (eventlog.wiring, "Writer", partial(SimulatedWriter, self)),
            (eventlog.wiring, "PeerTransport", self._transport),
            (eventlog.writer, "LmdbJournal", WatchedJournal),
            (eventlog.writer, "Raft", sim.raft_class),
        ):
            try:
                sim.clock.run_as(self.loop, self._make, config, store)
            except DamagedDatabase as error:
                sim.oracle.damaged(name=self.name, what=str(error))
        self.raft, self.fold, self.store = self.writer._raft, self.writer._fold, store
        self.journal = cast(WatchedJournal, self.writer._journal)
        sim.oracle.after_boot(self)
        sim.trace.add(self.name, f"starts: term {self.raft.term}, {self.journal.last_index} entries")

    def _make(self, config: LogConfig, store: SimulatedStore) -> None:
        unused = cast(Any, object())  # TLS contexts, for connections that are not made
        owner = Owner(evolve, unused, unused, lambda _: None, None, self._removed)
        self.log = ObservedLog(config, store, owner)
        self.log.node = self
        self.writer = self.log._writer
        self.runtime = Runtime(self.log, now_ms=lambda: int(self.sim.clock.wall_s() * 1000), idle_s=IDLE_S)
        self.directory = Directory(self.log, self.runtime, KEY)
        self.loop.spawn(self.log.start())

    def _transport(self, name: str, _listen: str, peers: Any, **callbacks: Any) -> Transport:
        return Transport(self.sim.network, self.loop, name, peers, callbacks)

    def _removed(self, position: int) -> None:
        """The program stops for good when it learns that its node was removed."""
        self.retired = True
        self.loop.call_soon(self.crash, f"for good: it was removed at {position}")

    async def observe(self, record: Record, proposal: Any) -> Committed:
        """Passes an outcome on, once the oracle has heard of it."""
        return await self.sim.oracle.outcome_of(record, proposal, self.name)

    def crash(self, when: str) -> None:
        """The power goes: what is not on disk is lost, and what was on its way out."""
        if not self.up:
            return
        self.up = False
        self.loop.dead = True
        self.sim.trace.add(self.name, f"crashes {when}")
        self.sim.graveyard.append(self.loop)
        self.disk.power_off()
        self.sim.network.leave(self.name)
        if not self.retired:
            self.sim.disturber.crashed(self)
