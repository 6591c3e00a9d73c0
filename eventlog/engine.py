"""What every part of the consensus engine stands on: PySyncObj's private state, and what we keep beside it.

`eventlog.elections`, `eventlog.replication` and `eventlog.raft` build on it, each using only those before it. What
PySyncObj departs from the paper in is told in docs/ADR/0001-consensus.md.
"""

import random
from collections import deque
from collections.abc import Mapping

from pysyncobj import SyncObj
from pysyncobj.node import Node
from pysyncobj.syncobj import _RAFT_STATE

from eventlog.errors import LogError
from eventlog.journal import LmdbJournal
from eventlog.levels import NEWEST
from eventlog.peers import Held, Outbox, Progress, Read, Timing

FOLLOWER, CANDIDATE, LEADER = _RAFT_STATE.FOLLOWER, _RAFT_STATE.CANDIDATE, _RAFT_STATE.LEADER
ROLE_NAMES = {FOLLOWER: "follower", CANDIDATE: "candidate", LEADER: "leader"}


class ConsensusViolation(LogError):
    """A peer asked this node to forget an entry that is committed. The node must stop: something lied or was lost."""


class Engine(SyncObj):  # type: ignore[misc]
    """The state of one node's engine, and what can be read from it. `Raft` sets it up."""

    name: str
    level: int = NEWEST  # the highest feature level that this node's program knows
    low_on_space: bool  # the caller says so: mail is refused here
    reads_done: list[tuple[Read, int]]
    reads_failed: list[Read]
    held: Mapping[bytes, Held] = {}  # what this node has forwarded, by the token under which it did
    _now: float  # seconds of a monotonic clock
    _now_ms: int
    _rng: random.Random
    _timing: Timing
    _journal: LmdbJournal
    _outbox: Outbox
    _progress: dict[Node, Progress]
    _votes: set[str]
    _pre_votes: set[str] | None
    _heard_leader: float
    _heartbeat_due: float
    _news_due: float  # when the last peer must hear what is committed; 0 if that is not put off
    _committed_at: float  # when the commit index rose last
    _last_seen: int  # the end of the log when `send_appends` was last called
    _pause: float  # from the last commit to the append after it; 0 where that did not wait for the commit
    _transfer_due: float
    _left: bool  # this leader was removed, and has begun to hand over
    _round: int
    _reads_waiting: list[Read]
    _reads_sent: deque[tuple[int, int, Read]]  # round, index, read

    @property
    def role(self) -> str:
        return ROLE_NAMES[self._SyncObj__raftState]

    @property
    def is_leader(self) -> bool:
        return bool(self._SyncObj__raftState == LEADER)

    @property
    def leader(self) -> str | None:
        node = self._SyncObj__raftLeader
        return None if node is None else str(node.id)

    @property
    def term(self) -> int:
        return int(self._SyncObj__raftCurrentTerm)

    @property
    def commit_index(self) -> int:
        return int(self._SyncObj__raftCommitIndex)

    @property
    def can_serve_reads(self) -> bool:
        """A leader knows what is committed only once an entry of its own term is (section 8)."""
        return self.is_leader and self.commit_index >= self._SyncObj__noopIDx

    def _set_commit(self, index: int) -> None:
        self._SyncObj__raftCommitIndex = index
        self._journal.setRaftCommitIndex(index)

    # -- what the library asks of its own log and transport -------------------------------------------------------

    def _SyncObj__sendAppendEntries(self) -> None:
        """Called by the library when a leader is made; the tick sends once, at its end."""

    def _SyncObj__getCurrentLogIndex(self) -> int:
        return int(self._journal.last_index)

    def _SyncObj__getCurrentLogTerm(self) -> int:
        return int(self._journal.last_term)
