"""Changes of the members at the worst moments: small plays of two administrators, a leader that is lost, a new one.

Each begins with changes that are right when they are asked for, and strikes in the tick that appends the first of
them, before anybody hears of it: the leader is cut off, alone or with others, or crashes. Then another may lead, with
half of the cell, while the other change still waits to be sent again; then all heals, and the old leader comes back.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from chaos.simulation.faults import NO_FAULTS
from chaos.simulation.node import address
from chaos.simulation.workload import BY, TIMEOUT_S
from eventlog.members import added, removed

if TYPE_CHECKING:
    from collections.abc import Callable

    from chaos.simulation.disturber import Disturber, Pairs
    from chaos.simulation.node import SimulatedNode
    from chaos.simulation.run import Simulation
    from eventlog.members import Members

    Change = Callable[[Members], Members]

MAX_NAMES = 16
KINDS = (("contradicted", "contradicted", "forgotten", "handed over"), ("halved", "halved", "forgotten", "handed over"))


@dataclass
class Play:
    """One of them, under way."""

    kind: str
    leader: SimulatedNode
    other: SimulatedNode  # who asks for the other change
    voters: list[str]
    term: int
    struck: bool = False  # the leader's change is on its disk
    succeeded: bool = False  # another leads
    cuts: list[Pairs] = field(default_factory=list)


class Reorganiser:
    """One play at a time; between two of them the cell grows back to its size."""

    def __init__(self, sim: Simulation, disturber: Disturber, rng: random.Random) -> None:
        self.sim = sim
        self.disturber = disturber
        self.rng = rng
        self._play: Play | None = None
        self._election_s = sim.config.timing.election_max_s

    def begin_play(self) -> None:
        """A new one, if none is under way and the cell is large enough."""
        leaders = [node for node in self.sim.nodes.values() if node.up and node.raft.is_leader]
        if self._play is not None or len(leaders) != 1 or not leaders[0].raft.can_serve_reads:
            return
        leader = leaders[0]
        voters = [member.name for member in leader.raft.config.members if member.voter]
        up = [name for name in voters if name != leader.name and self.sim.nodes[name].up]
        if len(voters) < self.sim.config.nodes and len(self.sim.nodes) < MAX_NAMES:
            self._ask(leader, self._addition())
        elif leader.name in voters and len(up) > 1:
            play = Play(
                self.rng.choice(KINDS[len(voters) % 2]),
                leader,
                self.sim.nodes[self.rng.choice(up)],
                voters,
                leader.raft.term,
            )
            self._play = play
            self.sim.trace.add(leader.name, f"leads a play: a change {play.kind}, with {play.other.name}")
            self._open(play)
            self.sim.clock.after(self.rng.uniform(3.0, 5.0) * self._election_s, self._end, play)

    def after_tick(self, node: SimulatedNode) -> None:
        """What the tick has made durable, before anybody hears of it."""
        play = self._play
        if play is None or not node.raft.is_leader:
            return
        if not play.struck and node is play.leader and node.raft.config.position > node.raft.commit_index:
            play.struck = True
            self._strike(play)
        elif play.struck and not play.succeeded and node is not play.leader and node.raft.term > play.term:
            play.succeeded = True
            self._follow_up(play, node)

    # -- the acts -----------------------------------------------------------------------------------------------------

    def _open(self, play: Play) -> None:
        gone, other = self.rng.sample([name for name in play.voters if name != play.leader.name], 2)
        match play.kind:
            case "contradicted":  # two changes, each right as the cell is: one may be made by the next leader
                if self.rng.random() < 0.5:
                    gone, other = play.other.name, gone
                unwanted = _removal(self.rng.choice((other, play.leader.name)))
                self._ask(play.other, unwanted, then=partial(self._ask, play.leader, _removal(gone)))
            case "halved":  # two changes at once: a majority of what is left is none of what was
                self._ask(play.leader, _removal(gone))
                self._ask(play.leader, _removal(other))
            case "forgotten":  # one that was made, and whose maker does not hear of it
                self._ask(play.other, _removal(gone if gone != play.other.name else other))
            case _:
                self._ask(play.leader, _removal(gone))
                play.leader.loop.spawn(self.sim.workload.tried(play.leader.log.transfer_leadership(other, TIMEOUT_S)))

    def _strike(self, play: Play) -> None:
        """The leader has written a change, and its messages are on their way out."""
        rng, leader = self.rng, play.leader
        if play.kind == "forgotten":
            self._part(play, {play.other.name})
            self._later(0.3, 1.0, self._meanwhile, play)
            return
        with_it = {"halved": len(play.voters) // 2 - 1}.get(play.kind, rng.choice((0, 0, 1)))
        others = [name for name in play.voters if name not in (leader.name, play.other.name)]
        if play.kind != "halved" and rng.random() < 0.2:
            leader.loop.call_soon(leader.crash, "with a change of the members that nobody has")
        else:
            self._part(play, {leader.name, *rng.sample(others, min(with_it, len(others)))})
        if rng.random() < 0.8:
            self._later(0.3, 0.8, self._stand, play.other)

    def _follow_up(self, play: Play, leader: SimulatedNode) -> None:
        """Another leads: with half of the cell, as often as not."""
        if play.kind in ("contradicted", "handed over") and self.rng.random() < 0.8:
            others = [name for name in play.voters if name not in (leader.name, play.leader.name)]
            self.rng.shuffle(others)
            others.sort(key=lambda name: name != play.other.name)
            self._part(play, {leader.name, *others[: len(play.voters) // 2 - 1]})
        self._later(0.5, 2.5, self._come_back, play)

    def _meanwhile(self, play: Play) -> None:
        """While the one that asked hears nothing the cell changes again, and another leads when it is back."""
        leader = play.leader
        if not leader.up or self._play is not play:
            return
        self._ask(leader, self._addition())
        heirs = [name for name in play.voters if name not in (leader.name, play.other.name)]
        if self.rng.random() < 0.8:
            self._later(0.5, 1.0, self._stand, self.sim.nodes[self.rng.choice(heirs)])
        self._later(1.0, 2.0, self._heal, play)

    def _come_back(self, play: Play) -> None:
        self._heal(play)
        if self.rng.random() < 0.7:
            self._stand(play.leader)

    def _end(self, play: Play) -> None:
        self._heal(play)
        self._play = None

    # -- means --------------------------------------------------------------------------------------------------------

    def _later(self, low: float, high: float, act: Callable[..., None], *args: object) -> None:
        """After so many election timeouts."""
        self.sim.clock.after(self.rng.uniform(low, high) * self._election_s, act, *args)

    def _ask(self, node: SimulatedNode, change: Change, then: Callable[[], None] | None = None) -> None:
        if node.up:
            node.loop.spawn(self.sim.workload.tried(self._asked(node, change, then)))

    async def _asked(self, node: SimulatedNode, change: Change, then: Callable[[], None] | None) -> None:
        """As `add_member` and `remove_member` do. With a `then`, it happens once the node has seen who is a member,
        and the node is paused before it says what it wants."""

        def decided(members: Members) -> Members:
            if then is not None:
                self.sim.clock.after(0.0, then)
                for_s = self.rng.uniform(0.1, 0.3) * self._election_s
                node.loop.paused_until_s = max(node.loop.paused_until_s, self.sim.clock.now + for_s)
            return change(members)

        await node.log._changes.members(decided, BY, "", TIMEOUT_S)

    def _addition(self) -> Change:
        if len(self.sim.nodes) >= MAX_NAMES:
            return lambda members: members
        name = self.sim.add_node().name
        return lambda members: added(members, name, address(name))

    def _part(self, play: Play, side: set[str]) -> None:
        """These from all others."""
        if self.disturber.faults is not NO_FAULTS:
            pairs = [
                pair for pair in itertools.permutations(self.sim.names, 2) if (pair[0] in side) != (pair[1] in side)
            ]
            play.cuts.append(pairs)
            self.sim.trace.add("network", f"parts {', '.join(sorted(side))} from the others")
            self.sim.network.cut(pairs)

    def _heal(self, play: Play) -> None:
        for pairs in play.cuts:
            self.disturber.heal(pairs)
        play.cuts.clear()

    def _stand(self, node: SimulatedNode) -> None:
        self.disturber.stand(node)


def _removal(name: str) -> Change:
    return lambda members: removed(members, name)
