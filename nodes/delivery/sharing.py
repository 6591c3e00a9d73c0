"""Who sends what: the members of the cell, ranked for each item, but for those that let items lie.

Rendezvous hashing: each node comes to the same ranking by itself, and when a member goes only its items move.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import blake2b


class Sharing:
    """The ranking as node `name` sees it. `takeover_ms`: how long each node leaves a due item to the one before it."""

    def __init__(self, name: str, members: Callable[[], Iterable[str]], takeover_ms: int) -> None:
        self._name = name
        self._members = members
        self._takeover_ms = takeover_ms
        self._silent: set[str] = set()

    def before(self, item_id: bytes) -> list[str]:
        """The members that are to send it rather than this node."""
        mine = _weight(self._name, item_id)
        others = (name for name in self._members() if name != self._name and name not in self._silent)
        return [name for name in others if _weight(name, item_id) > mine]

    def patience_ms(self, item_id: bytes) -> int:
        """How long this node leaves a due item to those that come before it."""
        return len(self.before(item_id)) * self._takeover_ms

    def is_silent(self, *names: str) -> None:
        """They let an item lie, or their lease run out: they are not waited for until they are heard of."""
        self._silent.update(names)

    def is_heard(self, name: str) -> None:
        self._silent.discard(name)


def _weight(name: str, item_id: bytes) -> bytes:
    return blake2b(item_id, digest_size=8, key=name.encode()).digest()
