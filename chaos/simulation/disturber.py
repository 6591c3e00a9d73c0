"""Does to the cell what the seed says: crashes, partitions, bad disks, pauses, wrong clocks, needless elections.

It knows the protocol well enough to strike where it hurts (in the tick that made a leader or committed something),
and nothing of what must hold.
"""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

from chaos.simulation.faults import NEVER_S, NO_FAULTS, Faults
from chaos.simulation.node import address
from chaos.simulation.reorganiser import Reorganiser
from chaos.simulation.workload import BY, TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from chaos.simulation.node import SimulatedNode
    from chaos.simulation.run import Simulation
    from eventlog.peers import Message

    Pairs = list[tuple[str, str]]

DOWN_S = (0.02, 1.5)
FAR_OFF_MS = 20_000
MAX_NODES = 6
MAX_NAMES = 9


class Disturber:
    """All faults of one run, from `begin` to `end`."""

    def __init__(self, sim: Simulation, rng: random.Random, faults: Faults) -> None:
        self.sim = sim
        self.rng = rng
        self.faults = faults
        self._led: dict[str, int] = {}
        self._leaders: list[str] = []  # who has led, the last one last
        self._reorganiser = Reorganiser(sim, self, sim.stream("members"))
        self._repeats = sim.stream("repeats")

    def begin(self) -> None:
        faults = self.faults
        self._every(faults.crash_every_s, self._crash)
        self._every(faults.slow_disk_every_s, self._slow_disk)
        self._every(faults.full_disk_every_s, self._full_disk)
        self._every(faults.pause_every_s, self._pause)
        self._every(faults.skew_every_s, self._skew)
        self._every(faults.members_every_s, self._change_members)
        self._every(faults.partition_every_s, self._partition)
        self._every(faults.comeback_every_s, self._comeback)
        self._every(faults.disturb_every_s, self._disturb)
        self._every(faults.reorganise_every_s, self._reorganiser.begin_play)

    def end(self) -> None:
        """Everything is whole again: the disks, the clocks, the network; nodes that are down or paused come back."""
        self.faults = self.sim.network.faults = NO_FAULTS
        self.sim.network.heal_all()
        for node in self.sim.nodes.values():
            if node.retired:
                continue
            node.disk.slow_s = 0.0
            node.disk.full = False
            self._set_skew(node, 0)

    def _every(self, gap_s: float, action: Callable[[], None]) -> None:
        if gap_s < NEVER_S:
            self.sim.clock.after(self.rng.uniform(0.2, 1.8) * gap_s, self._again, gap_s, action)

    def _again(self, gap_s: float, action: Callable[[], None]) -> None:
        if self.faults is not NO_FAULTS:
            action()
            self._every(gap_s, action)

    def _one(self) -> SimulatedNode | None:
        """A node that is up; a leader as often as not."""
        up = [node for node in self.sim.nodes.values() if node.up]
        leaders = [node for node in up if node.raft.is_leader]
        pool = leaders if leaders and self.rng.random() < 0.5 else up
        return self.rng.choice(pool) if pool else None

    def _say(self, node: SimulatedNode, what: str) -> None:
        self.sim.trace.add(node.name, what)

    # -- power ------------------------------------------------------------------------------------------------------

    def at_commit(self, node: SimulatedNode) -> str | None:
        """Whether the power goes in this commit: more likely in one that matters."""
        faults = self.faults
        if not faults.sniper or self.rng.random() >= faults.sniper / 2 * self._weight(node):
            return None
        return "torn" if self.rng.random() < faults.torn else "lost"

    def heard(self, early: list[tuple[str, Message]]) -> list[tuple[str, Message]]:
        """What of a tick's early messages still goes out when the power goes in its commit."""
        peers = {peer for peer in sorted({peer for peer, _ in early}) if self.rng.random() < 0.5}
        return [message for message in early if message[0] in peers]

    def after_tick(self, node: SimulatedNode) -> str:
        """What becomes of a tick that is on disk: "", "unheard", or "half heard" before the power goes."""
        sniper = self.faults.sniper
        hit = sniper > 0.0 and self.rng.random() < sniper * self._weight(node)
        if node.raft.is_leader and self._led.get(node.name) != node.raft.term:
            self._led[node.name] = node.raft.term
            self._leaders = [name for name in self._leaders if name != node.name] + [node.name]
            self._repeat_replies(node)
        self._reorganiser.after_tick(node)
        if not hit:
            return ""
        return self.rng.choice(("unheard", "half heard", "half heard"))

    def _weight(self, node: SimulatedNode) -> float:
        """How much this tick matters: most if it made a leader, less if it committed something."""
        raft = node.raft
        if not raft.is_leader:
            return 0.02
        if self._led.get(node.name) != raft.term:
            return 4.0
        return 1.0 if raft.commit_index > self.sim.oracle.seen[node.name].commit else 0.1

    def _crash(self) -> None:
        node = self._one()
        if node is not None:
            node.crash("between two ticks")

    def crashed(self, node: SimulatedNode) -> None:
        """It comes back by itself, after a while."""
        self.sim.clock.after(self.rng.uniform(*DOWN_S), node.boot)

    # -- network -----------------------------------------------------------------------------------------------------

    def _partition(self) -> None:
        """Cuts some links, in one direction or both, noticed or not; heals them after a while."""
        names, rng = self.sim.names, self.rng
        if len(names) < 2:
            return
        side = set(rng.sample(names, rng.randint(1, len(names) - 1)))
        leaders = {node.name for node in self.sim.nodes.values() if node.up and node.raft.is_leader}
        if leaders and rng.random() < 0.5:
            side = leaders | ({rng.choice(names)} if rng.random() < 0.6 else set())
        kind = rng.choice(("split", "split", "one way", "some"))
        pairs = [pair for pair in itertools.permutations(names, 2) if self._is_cut(kind, side, *pair)]
        noticed = self.faults.streams and rng.random() < 0.5
        for_s = rng.uniform(0.3, 6.0) * self.sim.config.timing.election_max_s
        shown = " ".join(f"{a}->{b}" for a, b in pairs)
        self.sim.trace.add("network", f"cut for {for_s:.3f} s ({kind}{', noticed' if noticed else ''}): {shown}")
        self.sim.network.cut(pairs, noticed=noticed)
        self.sim.clock.after(for_s, self.heal, pairs)

    def _is_cut(self, kind: str, side: set[str], source: str, target: str) -> bool:
        match kind:
            case "split":
                return (source in side) != (target in side)
            case "one way":
                return source in side and target not in side
            case _:
                return self.rng.random() < 0.4

    def _cut(self, pairs: Pairs) -> None:
        if self.faults is not NO_FAULTS:
            self.sim.network.cut(pairs)

    def heal(self, pairs: Pairs) -> None:
        if self.faults is not NO_FAULTS:
            self.sim.network.heal(pairs)
            self.sim.trace.add("network", f"healed: {' '.join(f'{a}->{b}' for a, b in pairs)}")

    def _comeback(self) -> None:
        """A leader in a minority gathers a tail with one follower, loses it to another leader, and soon leads again.

        The follower stays away meanwhile: what it said of the tail is still on its way to the leader.
        """
        names, rng = self.sim.names, self.rng
        leaders = [node for node in self.sim.nodes.values() if node.up and node.raft.is_leader]
        if len(names) < 5 or len(leaders) != 1:
            return
        leader, election_s = leaders[0], self.sim.config.timing.election_max_s
        follower = rng.choice([name for name in names if name != leader.name])
        both = {leader.name, follower}
        apart = [(a, b) for a, b in itertools.permutations(names, 2) if (a in both) != (b in both)]
        alone = [(a, b) for a, b in itertools.permutations(names, 2) if follower in (a, b)]
        self._say(leader, f"is left with {follower}")
        self.sim.network.cut(apart, noticed=False)
        for _ in range(rng.randint(4, 16)):
            leader.loop.spawn(self.sim.workload.tried(self.sim.workload.write(leader)))
        back_s = rng.uniform(1.5, 2.5) * election_s
        again_s = back_s + rng.uniform(0.2, 1.0) * election_s
        self.sim.clock.after(back_s, self._cut, alone)
        self.sim.clock.after(back_s, self.heal, apart)
        self.sim.clock.after(again_s, self.stand, leader)
        self.sim.clock.after(again_s + rng.uniform(0.5, 2.0) * election_s, self.heal, alone)

    def _repeat_replies(self, leader: SimulatedNode) -> None:
        """What followers said to this leader when it led before is heard once more."""
        rng = self._repeats
        if rng.random() < self.faults.repeat:
            for name in self.sim.names:
                later_s = rng.uniform(0.0, 2.5) * self.sim.config.timing.election_max_s
                self.sim.clock.after(later_s, self.sim.network.say_again, name, leader.name)

    # -- members ------------------------------------------------------------------------------------------------------

    def _change_members(self) -> None:
        """An administrator, or two of them at once at different nodes, who may be wrong about who is a member."""
        for _ in range(self.rng.choice((1, 2))):
            node = self._one()
            if node is not None:
                node.loop.spawn(self.sim.workload.tried(self._change(node)))

    async def _change(self, node: SimulatedNode) -> None:
        rng, members = self.rng, [member.name for member in node.log.members()]
        kind = rng.choice(("add", "remove", "transfer") if len(members) > 3 else ("add", "add", "remove", "transfer"))
        name = rng.choice(members)
        if kind == "add" and len(self.sim.names) < MAX_NODES and len(self.sim.nodes) < MAX_NAMES:
            name = self.sim.add_node().name
            self._say(node, f"is asked to add {name}")
            await node.log.add_member(name, address(name), BY, "", TIMEOUT_S)
        elif kind == "remove":
            self._say(node, f"is asked to remove {name}")
            await node.log.remove_member(name, BY, "", TIMEOUT_S)
        elif kind == "transfer":
            self._say(node, f"is asked to make {name} the leader")
            await node.log.transfer_leadership(name, TIMEOUT_S)

    # -- disks, processes, clocks -----------------------------------------------------------------------------------

    def _slow_disk(self) -> None:
        node = self._one()
        if node is not None:
            node.disk.slow_s = self.rng.choice((0.05, 0.5)) * self.sim.config.timing.election_max_s
            self._say(node, f"disk is slow: up to {node.disk.slow_s:.3f} s")
            self.sim.clock.after(self.rng.uniform(0.5, 3.0), self._quick_disk, node)

    def _quick_disk(self, node: SimulatedNode) -> None:
        node.disk.slow_s = 0.0

    def _full_disk(self) -> None:
        node = self._one()
        if node is not None:
            node.disk.full = True
            self._say(node, "disk is full")
            self.sim.clock.after(self.rng.uniform(0.2, 2.0), self._empty_disk, node)

    def _empty_disk(self, node: SimulatedNode) -> None:
        node.disk.full = False
        self._say(node, "disk has room")

    def _pause(self) -> None:
        node = self._one()
        if node is not None:
            for_s = self.rng.uniform(0.3, 4.0) * self.sim.config.timing.election_max_s
            # never shorter than it was: what waits for a later end must not be overtaken by what comes after it
            node.loop.paused_until_s = max(node.loop.paused_until_s, self.sim.clock.now + for_s)
            self._say(node, f"is paused for {for_s:.3f} s")

    def _skew(self) -> None:
        node = self._one()
        if node is not None:
            far = self.rng.random() < 0.3
            self._set_skew(node, self.rng.randint(-1, 1) * FAR_OFF_MS if far else self.rng.randint(-2000, 2000))
            self._say(node, f"clock is off by {node.skew_ms} ms")

    @staticmethod
    def _set_skew(node: SimulatedNode, skew_ms: int) -> None:
        node.skew_ms = node.loop.skew_ms = skew_ms

    def _disturb(self) -> None:
        """A follower is told to stand for election, whatever its log is worth: safety must not depend on timing.

        As often as not it is the leader before this one, to whom the most is still on its way.
        """
        former = [self.sim.nodes[name] for name in self._leaders[-2:-1]]
        self.stand(former[0] if former and self.rng.random() < 0.5 else self._one())

    def stand(self, node: SimulatedNode | None) -> None:
        if self.faults is not NO_FAULTS and node is not None and node.up and node.raft.leader not in (None, node.name):
            message = {"type": "timeout_now", "term": node.raft.term}
            self._say(node, "is told to stand for election")
            node.loop.call_soon(node.log._message, node.raft.leader, message)
