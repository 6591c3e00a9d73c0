"""What the workload believes to be in a witness's mailbox, so that it asks for things that are mostly there.

Beliefs only: another session may have moved a message a moment ago, and then asking for it is a good question too. To
keep one message one thing, each is moved at most once and copied at most once, each to a folder of its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

INBOX, COPIES, MOVED = "INBOX", "Sent", "Archive"
FOLDERS = (INBOX, COPIES, MOVED)
HOT = 12  # messages that most questions are about, so that questions meet
MOST_HELD = 90


class Held(NamedTuple):
    """A message in a folder."""

    identity: str
    folder: str
    uid: int


@dataclass
class Book:
    """One account's messages, oldest first."""

    _held: dict[tuple[str, str], Held] = field(default_factory=dict)
    _transferred: set[tuple[str, str]] = field(default_factory=set)
    _given_up: set[tuple[str, str]] = field(default_factory=set)

    def learn(self, identity: str, folder: str, uid: int) -> None:
        key = (identity, folder)
        if key not in self._given_up:
            self._held.setdefault(key, Held(identity, folder, uid))

    def forget(self, held: Held) -> None:
        """It is to go, or went: nothing more is asked about it, even if a read that is under way shows it."""
        key = (held.identity, held.folder)
        self._given_up.add(key)
        self._held.pop(key, None)

    def regain(self, held: Held) -> None:
        """It is still there after all, as the oldest."""
        self._given_up.discard((held.identity, held.folder))
        self._held = {(held.identity, held.folder): held} | self._held

    @property
    def is_full(self) -> bool:
        return len(self._held) >= MOST_HELD

    def choose(self, rng: Random) -> Held | None:
        """One of those that were learned of last."""
        held = list(self._held.values())[-HOT:]
        return rng.choice(held) if held else None

    def oldest(self) -> Held | None:
        return next(iter(self._held.values()), None)

    def choose_for(self, target: str, rng: Random) -> Held | None:
        """A message of INBOX that was never asked to go to `target`; from now on it was."""
        fit = list(self._untransferred(target))[-HOT:]
        if not fit:
            return None
        chosen = rng.choice(fit)
        self._transferred.add((chosen.identity, target))
        return chosen

    def _untransferred(self, target: str) -> Iterator[Held]:
        for held in self._held.values():
            if held.folder == INBOX and (held.identity, target) not in self._transferred:
                yield held
