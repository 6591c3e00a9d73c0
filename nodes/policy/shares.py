"""Which part of every limit a node may give away without asking anybody, and time as its buckets count it.

The members of a cell share each limit in equal parts. A node that hears most of them shares with those that it hears,
so that what members that are down do not use is not lost; one that does not keeps the part that it has when all are up.
So the parts add up to the whole, and to less than twice of it however the network is cut. See docs/ADR/0041.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

SILENT_S = 5.0  # a member that says nothing for so long is taken for down


class Share:
    """`advance` before `now_s`, `filled_s` are read. Clocks that are set back stand still; nobody waits for them."""

    def __init__(self, peers: Callable[[], Iterable[str]], clock: Callable[[], float]) -> None:
        self._peers = peers
        self._clock = clock
        self._at_s = clock()
        self._heard: dict[str, float] = {}
        self.now_s = 0.0
        self.filled_s = 0.0  # how much a bucket has been filled up here since the node began, in seconds of its rate
        self.part = 1.0
        self.present: tuple[str, ...] = ()  # the other members that are heard
        self.review()

    def advance(self) -> None:
        """Time passes."""
        at_s = self._clock()
        passed_s, self._at_s = at_s - self._at_s, at_s
        if passed_s > 0:
            self.now_s += passed_s
            self.filled_s += passed_s * self.part

    def hear(self, peer: str) -> bool:
        """A member speaks; True for one that was not heard of late."""
        self.advance()
        self._heard[peer] = self.now_s
        if peer in self.present:
            return False
        self.review()
        return peer in self.present

    def review(self) -> None:
        """Who is there, and so which part is ours; call it every second."""
        self.advance()
        peers = sorted(set(self._peers()))
        since_s = self.now_s - SILENT_S
        self._heard = {peer: at_s for peer, at_s in self._heard.items() if peer in peers}
        self.present = tuple(peer for peer in peers if self._heard.get(peer, since_s) > since_s)
        here, all_of_them = 1 + len(self.present), 1 + len(peers)
        self.part = 1 / (here if 2 * here > all_of_them else all_of_them)
