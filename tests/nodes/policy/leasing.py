"""Nodes that lease tokens to each other, on one simulated clock, with a network that loses, delays and cuts."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable

import msgpack

from nodes.failures import key_of
from nodes.policy.holdings import HOUR_S
from nodes.policy.leases import HERE, Leases
from nodes.policy.shares import SILENT_S

KEY = key_of("account messages", "a")
TICK_S = 1.0


class Network:
    """`taken` are times at which somebody got a token. Everything that happens comes from the seed."""

    def __init__(self, count: int, seed: int = 0) -> None:
        self.now_s = 1000.0
        self.names = [f"n{number}" for number in range(count)]
        self.loss = 0.0  # of what is said of tokens; who is there is heard
        self.deaf = 0.0  # of everything
        self.cut: set[frozenset[str]] = set()
        self.sent = 0
        self.taken: list[float] = []
        self._jumps = dict.fromkeys(self.names, 0.0)
        self._random = random.Random(seed)
        self._order = itertools.count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self.nodes: dict[str, Leases] = {}
        for name in self.names:
            self.start(name)
        self._tick_s = TICK_S
        self._every_second()
        self.run(3 * TICK_S)

    def start(self, name: str) -> None:
        """A node begins, or begins again and knows nothing."""
        others = [other for other in self.names if other != name]
        self.nodes[name] = Leases(
            name,
            lambda: others,
            lambda peer, data: self._send(name, peer, data),
            self._later,
            lambda: self.now_s + self._jumps[name],
        )

    def jump(self, name: str, by_s: float) -> None:
        """A node's clock is set."""
        self._jumps[name] += by_s

    def run(self, for_s: float) -> None:
        self._tick_s = TICK_S if for_s <= 60 else SILENT_S - 1.5  # seldom enough, and nobody is missed
        until_s = self.now_s + for_s
        while self._due and self._due[0][0] <= until_s:
            self.now_s, _, action = heapq.heappop(self._due)
            action()
        self.now_s = until_s

    def ask(self, name: str, per_hour: int, key: bytes = KEY) -> None:
        """A client wants a token of a node."""
        node = self.nodes[name]

        def answer() -> None:
            if node.wait_s(key, per_hour) == 0:
                node.take(key, per_hour)
                self.taken.append(self.now_s)

        if node.wait_s(key, per_hour) == 0:
            answer()
        else:
            node.fetch(key, HOUR_S / per_hour, answer)

    def worst_s(self, per_hour: int) -> float:
        """How many seconds of the rate were given beyond what any time brings, in the worst time that there was."""
        cost_s, begun = HOUR_S / per_hour, sorted(self.taken)
        worst_s = lowest_s = 0.0
        for number, at_s in enumerate(begun):  # of all windows that end here, the one with the most beyond
            before_s = number * cost_s - at_s
            lowest_s = before_s if number == 0 else min(lowest_s, before_s)
            worst_s = max(worst_s, (number + 1) * cost_s - at_s - lowest_s)
        return worst_s - HOUR_S

    def _every_second(self) -> None:
        for name, node in self.nodes.items():
            data = node.changes()
            for peer in self.names:
                if peer != name:
                    self._send(name, peer, data, presence=True)
        self._later(self._tick_s, self._every_second)

    def _later(self, delay_s: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self.now_s + delay_s, next(self._order), action))

    def _send(self, name: str, peer: str, data: bytes, presence: bool = False) -> bool:
        if frozenset((name, peer)) in self.cut:
            return False
        self.sent += msgpack.unpackb(data)[0] != HERE
        if self._random.random() >= (self.deaf if presence else max(self.deaf, self.loss)):
            self._later(self._random.uniform(0.0001, 0.4), lambda: self.nodes[peer].merge(name, data))
        return True
