"""Raft on PySyncObj 0.3.17, hardened: where the library departs from the paper, its private methods are overridden.

PySyncObj keeps the state (role, term, vote, next and match indices, who is connected) and the transitions that it gets
right; elections, append-entries and replies are replaced, under their mangled names, which a test asserts still exist.
Why each is replaced is told in docs/ADR/0001-consensus.md. The engine does no I/O and reads no clock: the caller passes
time in, makes the tick durable, and only then sends what `take_outbox` gives (see `eventlog.writer`). Here is what the
caller uses; `eventlog.elections` and `eventlog.replication` do the work.
"""

import random
from collections import deque
from collections.abc import Callable, Collection
from typing import Any, ClassVar

from pysyncobj import SyncObjConf
from pysyncobj.node import Node

from eventlog.engine import FOLLOWER, ConsensusViolation
from eventlog.errors import LogError
from eventlog.journal import LmdbJournal
from eventlog.members import Configuration, configured
from eventlog.membership import Membership
from eventlog.peers import Message, Outbox, Progress, Read, Timing

__all__ = ["ConsensusViolation", "Message", "Progress", "Raft", "Read", "Timing"]

MAX_TERMS_AHEAD = 1 << 32
MAX_TERM = 1 << 62


class Raft(Membership):
    """One node's engine. All times are seconds of a monotonic clock that the caller passes in.

    `peers` are the members of a cell whose log names none yet: their addresses by name, or names alone. A node that is
    not among them joins: it waits for a leader to send it entries.
    """

    def __init__(
        self, name: str, peers: Collection[str], journal: LmdbJournal, timing: Timing, rng: random.Random, now: float
    ) -> None:
        self._outbox = Outbox()
        self._now = now
        self._now_ms = 0
        self._rng = rng
        self._journal = journal
        self._initial = Configuration(0, configured(peers))
        self.low_on_space = False
        self._timing = timing
        conf = SyncObjConf(autoTick=False, pollerType="poll", dynamicMembershipChange=False)
        super().__init__(Node(name), [], conf, transport=self._outbox)
        self.name = name
        self._SyncObj__raftLog = journal  # in place of the one in memory that the library makes
        self.restart(now)

    def restart(self, now: float) -> None:
        """Takes term, vote and log from the journal: at start, and after a tick that could not be written."""
        journal = self._journal
        self._now = now
        self._SyncObj__raftState = FOLLOWER
        self._SyncObj__raftLeader = None
        self._SyncObj__raftCurrentTerm = max(journal.getCurrentTerm(), journal.last_term)
        self._SyncObj__votedForNodeId = journal.getVotedForNodeId()
        self._SyncObj__raftCommitIndex = journal.getRaftCommitIndex()
        self._outbox.messages.clear()
        self._votes = set()
        self._pre_votes = None
        self._heard_leader = now
        self._transfer = None
        self._start_configuration()
        self._round = 0
        self._reads_waiting, self._reads_sent = [], deque()
        self.reads_done, self.reads_failed = [], []
        self._heartbeat_due = 0.0
        self._news_due = 0.0
        self._committed_at, self._last_seen, self._pause = now, 0, 0.0
        self._transfer_due = 0.0
        self._put_off_election()
        if self._is_voter and not self._voters:
            self._SyncObj__raftElectionDeadline = now  # nobody to wait for

    # -- what the caller sees -----------------------------------------------------------------------------------

    def connected(self, peer: str, now: float) -> None:
        """A connection to `peer` is up: whatever was on its way before may be lost."""
        self._now = now
        node = Node(peer)
        self._SyncObj__onNodeConnected(node)
        self._back_to_match(node)

    def disconnected(self, peer: str) -> None:
        self._SyncObj__onNodeDisconnected(Node(peer))

    @property
    def is_majority(self) -> bool:
        """Whether this node alone decides what is committed."""
        return self._quorum == 1

    def receive(self, peer: str, message: Message, now: float) -> None:
        """Takes one message of a peer whose name the transport has verified. What makes no sense is ignored.

        A term may be ahead, but not by more than elections can have made: one message must not use up all terms.
        """
        self._now = now
        node, term = Node(peer), message.get("term")
        handler = self._HANDLERS.get(message.get("type", ""))
        if handler is None or (node not in self._progress and not self._may_speak(node, message)):
            return
        if type(term) is not int or not 0 <= term <= min(self.term + MAX_TERMS_AHEAD, MAX_TERM):
            raise ValueError(f"term {term!r} can not be: this node is in term {self.term}")
        handler(self, node, message)

    def _SyncObj__onMessageReceived(self, node: Node, message: Message) -> None:
        self.receive(node.id, message, self._now)

    def read(self, peer: str, token: bytes) -> None:
        """Asks for a round begun after now; ends in `reads_done` with the index to wait for, or in `reads_failed`."""
        read = Read(peer, token)
        if self.is_leader:
            self._reads_waiting.append(read)
        else:
            self.reads_failed.append(read)

    def tick(self, now: float, now_ms: int) -> None:
        """Elections, stepping down, commit index: everything that time and what was received make due."""
        self._now, self._now_ms = now, now_ms
        self._journal.now_ms = now_ms
        if self.is_leader:
            self._check_quorum()
        elif self._SyncObj__raftElectionDeadline <= now:
            self._campaign()
        if self.is_leader:
            self._advance_commit()
            self._hand_over_if_unfit()
            if self._learners:
                self._watch_learners()
            if not self._is_voter:
                self._leave_if_removed()
        if self._transfer is not None:
            self._carry_transfer()
        if self._leaving:
            self._part()

    def send_appends(self) -> None:
        """Puts into the outbox what each peer should get now: entries, commit news, heartbeats, rounds."""
        if not self.is_leader:
            return
        round_begun = self._begin_round()
        beat = round_begun or self._now >= self._heartbeat_due
        if beat:
            self._heartbeat_due = self._now + self._timing.heartbeat_s
        self._note_pace()
        self._forget_messages()
        for node in self._peers:
            if node in self._SyncObj__connectedNodes:
                self._send_to(node, beat)
        self._forget_messages()
        self._look_for_untold()
        self._finish_reads()

    def take_outbox(self) -> list[tuple[str, Message]]:
        """What may be sent once the tick is durable."""
        messages, self._outbox.messages = self._outbox.messages, []
        return messages

    def next_deadline(self) -> float:
        """When `tick` must be called again even if nothing arrives."""
        if self.is_leader:
            return min(self._heartbeat_due, self._news_due or self._heartbeat_due)
        return float(self._SyncObj__raftElectionDeadline)

    def addNodeToCluster(self, node: Any, callback: Any = None) -> None:
        raise LogError("the members of a cell are changed by its log, not by the library")

    removeNodeFromCluster = addNodeToCluster

    _HANDLERS: ClassVar[dict[str, Callable[[Any, Node, Message], None]]] = {
        "am_i_removed": Membership._on_am_i_removed,
        "append_entries": Membership._on_append_entries,
        "next_node_idx": Membership._on_next_node_idx,
        "removed": Membership._on_removed,
        "request_vote": Membership._on_request_vote,
        "response_vote": Membership._on_response_vote,
        "timeout_now": Membership._on_timeout_now,
    }
