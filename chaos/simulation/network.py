"""The fake network: what one node hands to its transport arrives at another, late, twice, never, or in its order.

A link leads from one node to another. As a stream it behaves as a TCP connection: in order and once, stalled while
the network is cut, lost with the connection. Otherwise every message of the consensus travels alone and may be
dropped, doubled and overtaken; proposals and reads are not doubled, because no transport of ours ever doubles them.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict, deque
from typing import TYPE_CHECKING, Any

from chaos.simulation.clock import Clock
from eventlog.frames import FrameReader, encode_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chaos.simulation.clock import NodeLoop
    from chaos.simulation.faults import Faults
    from chaos.simulation.trace import Trace

ONCE = {"propose", "refused", "read", "read_done"}
RECONNECT_S = (0.01, 0.2)
NOTICE_S = 1.0  # how long a node may not know that a connection is dead
MAX_LATE_S = 2.0
REMEMBERED = 12  # replies of one node to another that may be heard again


class Transport:
    """What the event log takes for `eventlog.transport.PeerTransport`."""

    def __init__(
        self,
        network: Network,
        loop: NodeLoop,
        name: str,
        peers: Mapping[str, str],
        callbacks: dict[str, Callable[..., None]],
    ) -> None:
        self.name = name
        self.loop = loop
        self.wanted = frozenset(peers) - {name}
        self.connected: set[str] = set()
        self._lost_already: set[str] = set()
        self._network = network
        self._callbacks = callbacks

    async def start(self) -> None:
        self._network.join(self)

    async def stop(self) -> None:
        self._network.leave(self.name)

    def connect_to(self, peers: Mapping[str, str]) -> None:
        """Connects to these and to no others."""
        self.wanted = frozenset(peers) - {self.name}
        self._network.rewire(self)

    def is_connected(self, peer: str) -> bool:
        return peer in self.connected

    def send(self, peer: str, message: dict[str, Any]) -> bool:
        """To one whose address is not known it goes as an answer, on the connection that it made."""
        if peer not in self.connected and (peer in self.wanted or not self._network.has_reached(peer, self.name)):
            return False
        self._network.send(self.name, peer, message)
        return True

    def arrive(self, peer: str, frame: bytes) -> None:
        for message in FrameReader().feed(frame):
            self._callbacks["on_message"](peer, message)

    def connection_made(self, peer: str) -> None:
        """After the loss of the one before it, also where a clock that went back has turned the two round."""
        if peer in self.connected:
            self.connection_lost(peer)
            self._lost_already.add(peer)
        self.connected.add(peer)
        self._callbacks["on_connected"](peer)

    def connection_lost(self, peer: str) -> None:
        if peer in self._lost_already:
            self._lost_already.discard(peer)
        elif peer in self.connected:
            self.connected.discard(peer)
            self._callbacks["on_disconnected"](peer)


class Link:
    """From one node to another. A connection that is made anew has a new generation; what it lost is lost."""

    def __init__(self) -> None:
        self.up = False
        self.broken = False  # what is written to it is lost, and its source does not know yet
        self.generation = 0
        self.last_arrival_s = 0.0
        self.stalled: list[bytes] = []


class Network:
    """All links. `faults` may be changed while it runs."""

    def __init__(self, clock: Clock, rng: random.Random, faults: Faults, trace: Trace) -> None:
        self.faults = faults
        self._clock = clock
        self._rng = rng
        self._trace = trace
        self._transports: dict[str, Transport] = {}
        self._links: dict[tuple[str, str], Link] = {}
        self._cuts: Counter[tuple[str, str]] = Counter()
        self._replies: defaultdict[tuple[str, str], deque[bytes]] = defaultdict(lambda: deque(maxlen=REMEMBERED))
        self.watch: Callable[[str, str, dict[str, Any]], None] = lambda source, target, message: None

    # -- nodes come and go ----------------------------------------------------------------------------------------

    def join(self, transport: Transport) -> None:
        """A node listens; those that want to find it, and it them."""
        self._transports[transport.name] = transport
        for peer in sorted(self._transports):
            if transport.name in self._transports[peer].wanted:
                self._connect_later(peer, transport.name)
        self.rewire(transport)

    def rewire(self, transport: Transport) -> None:
        """A node wants other connections than it has."""
        for peer in sorted(transport.connected - transport.wanted):
            self.link(transport.name, peer).up = False
            transport.connection_lost(peer)
        for peer in sorted(transport.wanted - transport.connected):
            self._connect_later(transport.name, peer)

    def has_reached(self, source: str, target: str) -> bool:
        """Whether there is a connection that `source` has made."""
        link = self.link(source, target)
        return link.up and not link.broken

    def leave(self, name: str) -> None:
        """A node is gone; its peers notice, soon or late."""
        if self._transports.pop(name, None) is None:
            return  # its log had not started yet
        for source, target in list(self._links):
            if target == name:
                self._break(source, target)
            elif source == name:
                self._links[source, target] = Link()

    def link(self, source: str, target: str) -> Link:
        found = self._links.get((source, target))
        if found is None:
            found = self._links[source, target] = Link()
        return found

    def _can_answer(self, source: str, target: str) -> bool:
        """One that is not wanted as a peer is answered on the connection that it made."""
        transport = self._transports.get(source)
        return transport is not None and target not in transport.wanted and self.has_reached(target, source)

    def _connect_later(self, source: str, target: str) -> None:
        self._clock.after(self._rng.uniform(*RECONNECT_S), self._connect, source, target)

    def _connect(self, source: str, target: str) -> None:
        transport, link = self._transports.get(source), self.link(source, target)
        if transport is None or target not in self._transports or target not in transport.wanted:
            return
        if self._cuts[source, target]:
            self._connect_later(source, target)
        elif not link.up:
            link.up, link.broken = True, False
            link.generation += 1
            link.last_arrival_s = 0.0
            link.stalled.clear()
            transport.loop.call_soon(transport.connection_made, target)

    def _break(self, source: str, target: str) -> None:
        """The connection is dead: what is on it is lost, and its source will notice and make a new one."""
        link, transport = self.link(source, target), self._transports.get(source)
        if not link.up or link.broken or transport is None:
            return
        link.broken = True
        link.generation += 1
        link.stalled.clear()
        notice_s = self._rng.uniform(0.0, NOTICE_S if self._rng.random() < 0.3 else 0.02)
        self._clock.after(notice_s, self._noticed, transport, target, link)

    def _noticed(self, transport: Transport, target: str, link: Link) -> None:
        if self._transports.get(transport.name) is not transport or not link.broken:
            return
        link.up = False
        transport.loop.call_soon(transport.connection_lost, target)
        self._connect_later(transport.name, target)

    # -- partitions -------------------------------------------------------------------------------------------------

    def cut(self, pairs: list[tuple[str, str]], *, noticed: bool = False) -> None:
        """Nothing passes these links any more, until they are healed; `noticed`: their connections break."""
        for pair in pairs:
            self._cuts[pair] += 1
            if noticed:
                self._break(*pair)

    def heal(self, pairs: list[tuple[str, str]]) -> None:
        for pair in pairs:
            self._cuts[pair] -= 1
            if not self._cuts[pair]:
                self._flow_again(*pair)

    def heal_all(self) -> None:
        for pair in [pair for pair, cuts in self._cuts.items() if cuts]:
            self._cuts[pair] = 0
            self._flow_again(*pair)
        self._cuts.clear()

    def _flow_again(self, source: str, target: str) -> None:
        link = self.link(source, target)
        stalled, link.stalled = link.stalled, []
        if stalled and self._rng.random() < 0.5:
            self._break(source, target)
            return
        for frame in stalled:
            self._travel(source, target, link, frame)

    # -- messages -----------------------------------------------------------------------------------------------

    def send(self, source: str, target: str, message: dict[str, Any]) -> None:
        link = self.link(source, target)
        if (not link.up or link.broken) and not self._can_answer(source, target):
            return
        kind = message["type"]
        self.watch(source, target, message)
        frame = encode_frame(message)
        fate = self._fate(source, target, link, frame, kind)
        self._trace.add(source, f"to {target}: {summary(message)}{fate}")
        if kind == "next_node_idx" and self.faults.repeat:
            self._replies[source, target].append(frame)

    def say_again(self, source: str, target: str) -> None:
        """The last replies of one node to another come once more, in any order."""
        for frame in self._replies.pop((source, target), ()):
            self._trace.add(source, f"is heard again by {target}")
            self._travel(source, target, self.link(source, target), frame)

    def _fate(self, source: str, target: str, link: Link, frame: bytes, kind: str) -> str:
        faults = self.faults
        if self._cuts[source, target]:
            if faults.streams:
                link.stalled.append(frame)
            return " - stalled" if faults.streams else " - cut off"
        if faults.drop and self._rng.random() < faults.drop:
            return " - dropped"
        arrivals = [self._travel(source, target, link, frame)]
        if kind not in ONCE:
            if faults.duplicate and self._rng.random() < faults.duplicate:
                arrivals.append(self._travel(source, target, link, frame))
            if faults.echo and self._rng.random() < faults.echo:
                arrivals.append(self._travel(source, target, link, frame, self._rng.uniform(0.0, MAX_LATE_S)))
        return ", in " + " and ".join(f"{late_s:.3f}" for late_s in arrivals) + " s"

    def _travel(self, source: str, target: str, link: Link, frame: bytes, later_s: float = 0.0) -> float:
        when_s = self._clock.now + self._rng.uniform(0.0001, self.faults.delay_s) + later_s
        if self.faults.streams:
            when_s = max(when_s, link.last_arrival_s)
            link.last_arrival_s = when_s
        elif self.faults.late and self._rng.random() < self.faults.late:
            when_s += self._rng.uniform(0.0, MAX_LATE_S)
        generation = link.generation if self.faults.streams else None
        self._clock.at(when_s, self._arrive, source, target, link, frame, generation)
        return when_s - self._clock.now

    def _arrive(self, source: str, target: str, link: Link, frame: bytes, generation: int | None) -> None:
        transport = self._transports.get(target)
        if transport is None or (generation is not None and generation != link.generation):
            return
        transport.loop.call_soon(transport.arrive, source, frame)


def summary(message: dict[str, Any]) -> str:
    """A message in a few words."""
    kind, term = message["type"], message.get("term")
    match kind:
        case "append_entries":
            terms = ",".join(str(entry[0]) for entry in message["entries"][:8])
            after = f"{message['prevLogIdx']} of term {message['prevLogTerm']}"
            return f"append term {term}, after {after}: [{terms}], commit {message['commit_index']}"
        case "next_node_idx" if message["success"]:
            return f"accepted term {term}, up to {message['match']}"
        case "next_node_idx":
            return f"refused term {term}, after {message['rejected']}, try {message['hint']}"
        case "request_vote":
            what = "may I stand" if message["pre"] else "vote for me"
            return f"{what} in term {term}, log ends {message['last_log_index']} of term {message['last_log_term']}"
        case "response_vote":
            what = "yes" if message["granted"] else "no"
            return f"{what}{', stand' if message['pre'] else ''} in term {term}"
        case "propose":
            return "propose " + ", ".join(row[0].hex()[-6:] for row in message["proposals"])
        case "refused":
            return f"refused {message['id'].hex()[-6:]}: {message['reason']}"
        case _:
            return f"{kind} {term if term is not None else message.get('index', '')}"
