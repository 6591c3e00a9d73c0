"""What goes into a tick of the consensus thread and what comes out, and what the parts of the writer share meanwhile.

`eventlog.durability`, `eventlog.folding`, `eventlog.admission` and `eventlog.writer` build on it, each using only those
before it.
"""

import random
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from eventlog import levels
from eventlog.fold import Fold, Folded, Outcome
from eventlog.journal import KIND_RECORD, LmdbJournal
from eventlog.members import Configuration, Members
from eventlog.raft import Message, Raft
from eventlog.record import Encoded
from eventlog.store import Store

KIND_LEVEL = -1  # of a proposal: an ordinary record that raises the feature level

Item = tuple[Any, ...]  # what the event loop hands over: its kind, then what belongs to it


class Proposal(NamedTuple):
    """A record on its way into the log; `origin` is the peer that forwarded it, None for this node's own."""

    id: bytes
    data: bytes
    bodies: Sequence[bytes]
    clock_ms: int
    origin: str | None
    encoded: Encoded | None = None  # this node's own: checked and taken apart before
    kind: int = KIND_RECORD  # or KIND_CONFIG, or KIND_LEVEL: what the leader checks first
    token: bytes = b""  # under which its origin keeps it; b"" if it did not say

    @property
    def size_bytes(self) -> int:
        return len(self.data) + sum(map(len, self.bodies))


class Answer(NamedTuple):
    """What became of a proposal that this node waits for."""

    id: bytes
    outcome: Outcome
    position: int
    at_ms: int
    results: tuple[Any, ...]


class State(NamedTuple):
    """What the rest of the node may know of the writer after a tick."""

    role: str
    leader: str | None
    term: int
    commit: int
    applied: int
    last_index: int
    at_ms: int
    chain: bytes
    free_bytes: int
    stalled: str | None
    writable: bool
    behind: bool  # committed entries wait for the fold
    deadline: float  # of the monotonic clock: when the next tick is due even if nothing arrives
    config: Configuration = Configuration(0, ())
    links: Members = ()  # whom this node should be connected to
    removed_at: int = 0
    level: int = levels.OLDEST  # the feature level in force
    matches: Mapping[str, int] = {}
    waits_for_answers: bool = False  # of peers, beside those that raise the commit index


class Tick(NamedTuple):
    """Everything that a durable tick lets go."""

    state: State
    messages: list[tuple[str, Message]]
    answers: list[Answer]
    refusals: list[tuple[bytes, str]]  # id and reason, of this node's own proposals
    folded: list[Folded]  # what took effect
    reads: list[tuple[bytes, int | None]]  # token and index, None if the read must be asked again


class Ticking:
    """The state of the consensus thread, and of the tick that it computes. `Writer` sets it up."""

    _store: Store
    _journal: LmdbJournal
    _fold: Fold
    _raft: Raft
    _rng: random.Random
    _wanted: Collection[bytes]  # ids of the proposals that this node waits for
    _reserve_bytes: int
    _stopping: bool
    _stalled: str | None
    _awaiting_quarantine: bool
    _clock_is_off: bool
    _awaited: int  # up to here somebody at this node waits for the fold
    _writable: bool  # the last tick that had something to write could be written
    _free_bytes: int
    _refused_for_space: bool
    _settle_due: float  # when the open transaction, all of which is on disk, is committed; 0 if there is none

    def _begin_tick(self) -> None:
        self._messages: list[tuple[str, Message]] = []
        self._answers: list[Answer] = []
        self._refusals: list[tuple[bytes, str]] = []
        self._folded: list[Folded] = []
        self._proposals: list[Proposal] = []
        self._untaken: list[Item] = []
        self._was_early = False
        self._applied_before = self._fold.applied
        self._fold_waits = False
