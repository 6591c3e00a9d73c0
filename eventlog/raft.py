"""Raft on PySyncObj 0.3.17, hardened: where the library departs from the paper, its private methods are overridden.

PySyncObj keeps the state (role, term, vote, next and match indices, who is connected) and the transitions that it gets
right; elections, append-entries and replies are replaced, under their mangled names, which a test asserts still exist.
Why each is replaced is told in docs/ADR/0001-consensus.md. The engine does no I/O and reads no clock: the caller passes
time in, makes the tick durable, and only then sends what `take_outbox` gives (see `eventlog.writer`).
"""

import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from pysyncobj import SyncObj, SyncObjConf
from pysyncobj.node import Node
from pysyncobj.syncobj import _RAFT_STATE

from eventlog.errors import LogError
from eventlog.journal import Command, Entry, LmdbJournal
from eventlog.peers import Message, Outbox, Progress, Read, Timing

__all__ = ["ConsensusViolation", "Message", "Progress", "Raft", "Read", "Timing"]

MAX_MESSAGE_BYTES = 1024 * 1024  # entries in one append-entries message: what a slow reader must take in one piece
MAX_IN_FLIGHT_BYTES = 16 * 1024 * 1024  # sent to one peer and not yet acknowledged
CLOCK_OFF_MS = 5000
MAX_TERMS_AHEAD = 1 << 32
MAX_TERM = 1 << 62

FOLLOWER, CANDIDATE, LEADER = _RAFT_STATE.FOLLOWER, _RAFT_STATE.CANDIDATE, _RAFT_STATE.LEADER
ROLE_NAMES = {FOLLOWER: "follower", CANDIDATE: "candidate", LEADER: "leader"}


class ConsensusViolation(LogError):
    """A peer asked this node to forget an entry that is committed. The node must stop: something lied or was lost."""


class Raft(SyncObj):  # type: ignore[misc]
    """One node's engine. All times are seconds of a monotonic clock that the caller passes in."""

    def __init__(
        self, name: str, peers: Sequence[str], journal: LmdbJournal, timing: Timing, rng: random.Random, now: float
    ) -> None:
        self._outbox = Outbox()
        self._now = now
        self._now_ms = 0
        self._rng = rng
        self._journal = journal
        self._peers = tuple(Node(p) for p in sorted(peers) if p != name)
        self._quorum = (len(self._peers) + 1) // 2 + 1
        self._progress: dict[Node, Progress] = {}
        self.low_on_space = False  # the caller says so: mail is refused here
        self._timing = timing
        conf = SyncObjConf(autoTick=False, pollerType="poll", dynamicMembershipChange=False)
        super().__init__(Node(name), [Node(p) for p in sorted(peers)], conf, transport=self._outbox)
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
        self._votes: set[str] = set()
        self._pre_votes: set[str] | None = None
        self._heard_leader = now
        self._progress = {node: Progress() for node in self._peers}
        self._round = 0
        self._reads_waiting: list[Read] = []
        self._reads_sent: deque[tuple[int, int, Read]] = deque()  # round, index, read
        self.reads_done: list[tuple[Read, int]] = []
        self.reads_failed: list[Read] = []
        self._heartbeat_due = 0.0
        self._transfer_due = 0.0
        self._put_off_election()
        if not self._peers:
            self._SyncObj__raftElectionDeadline = now  # nobody to wait for

    # -- what the caller sees -----------------------------------------------------------------------------------

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

    def connected(self, peer: str, now: float) -> None:
        """A connection to `peer` is up: whatever was on its way before may be lost."""
        self._now = now
        node = Node(peer)
        self._SyncObj__onNodeConnected(node)
        self._back_to_match(node)

    def disconnected(self, peer: str) -> None:
        self._SyncObj__onNodeDisconnected(Node(peer))

    def receive(self, peer: str, message: Message, now: float) -> None:
        """Takes one message of a peer whose name the transport has verified. What makes no sense is ignored.

        A term may be ahead, but not by more than elections can have made: one message must not use up all terms.
        """
        self._now = now
        node, term = Node(peer), message.get("term")
        handler = self._HANDLERS.get(message.get("type", ""))
        if handler is None or node not in self._progress:
            return
        if type(term) is not int or not 0 <= term <= min(self.term + MAX_TERMS_AHEAD, MAX_TERM):
            raise ValueError(f"term {term!r} can not be: this node is in term {self.term}")
        handler(self, node, message)

    def _SyncObj__onMessageReceived(self, node: Node, message: Message) -> None:
        self.receive(node.id, message, self._now)

    def propose(self, command: Command) -> int:
        """Appends to the log of this leader and gives the index. The caller has checked `is_leader`."""
        index = self._journal.last_index + 1
        self._journal.add(command, index, self.term)
        return int(index)

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

    def send_appends(self) -> None:
        """Puts into the outbox what each peer should get now: entries, commit news, heartbeats, rounds."""
        if not self.is_leader:
            return
        round_begun = self._begin_round()
        beat = round_begun or self._now >= self._heartbeat_due
        if beat:
            self._heartbeat_due = self._now + self._timing.heartbeat_s
        for node in self._peers:
            if node in self._SyncObj__connectedNodes:
                self._send_to(node, beat)
        self._finish_reads()

    def take_outbox(self) -> list[tuple[str, Message]]:
        """What may be sent once the tick is durable."""
        messages, self._outbox.messages = self._outbox.messages, []
        return messages

    def next_deadline(self) -> float:
        """When `tick` must be called again even if nothing arrives."""
        if self.is_leader:
            return self._heartbeat_due
        return float(self._SyncObj__raftElectionDeadline)

    def addNodeToCluster(self, node: Any, callback: Any = None) -> None:
        raise LogError("this version does not change the members of a running cell")

    removeNodeFromCluster = addNodeToCluster

    # -- elections (sections 5.2, 5.4; pre-vote and stickiness: Ongaro's thesis 9.6, 4.2.3) ------------------------

    def _put_off_election(self) -> None:
        low, high = self._timing.election_min_s, self._timing.election_max_s
        wait = low + (high - low) * self._rng.random()
        if self.low_on_space:
            wait += high  # a leader must write: those with room go first
        self._SyncObj__raftElectionDeadline = self._now + wait

    def _campaign(self) -> None:
        """Asks whether an election would be won before disturbing anyone with a higher term."""
        self._put_off_election()
        self._lose_leader()
        self._SyncObj__setState(FOLLOWER)
        self._pre_votes = {self.name}
        self._ask_votes(self.term + 1, pre=True)
        self._count_pre_votes()

    def _elect(self, *, transfer: bool = False) -> None:
        self._put_off_election()
        self._pre_votes = None
        self._lose_leader()
        self._SyncObj__setState(CANDIDATE)
        self._SyncObj__setCurrentTerm(self.term + 1, self.name)
        self._votes = {self.name}
        self._ask_votes(self.term, pre=False, transfer=transfer)
        self._count_votes()

    def _ask_votes(self, term: int, *, pre: bool, transfer: bool = False) -> None:
        log = self._journal
        message = {"type": "request_vote", "term": term, "last_log_index": log.last_index,
                   "last_log_term": log.last_term, "pre": pre, "transfer": transfer}  # fmt: skip
        for node in self._peers:
            self._outbox.send(node, message)

    def _on_request_vote(self, node: Node, message: Message) -> None:
        term, pre = message["term"], message["pre"]
        if self._hears_leader() and not message["transfer"]:
            return  # a leader is alive: neither answer nor adopt the term
        if term > self.term and not pre:
            self._step_down(term)
        granted = self._up_to_date(message) and (
            term > self.term if pre else term == self.term and self._SyncObj__votedForNodeId in (None, node.id)
        )
        if granted and not pre:
            self._SyncObj__setCurrentTerm(self.term, node.id)
            self._put_off_election()
        answer_term = term if pre and granted else self.term
        self._outbox.send(node, {"type": "response_vote", "term": answer_term, "pre": pre, "granted": granted})

    def _on_response_vote(self, node: Node, message: Message) -> None:
        term, pre = message["term"], message["pre"]
        if not message["granted"]:
            if term > self.term:
                self._step_down(term)
        elif pre:
            if self._pre_votes is not None and term == self.term + 1:
                self._pre_votes.add(node.id)
                self._count_pre_votes()
        elif self._SyncObj__raftState == CANDIDATE and term == self.term:
            self._votes.add(node.id)
            self._count_votes()

    def _count_pre_votes(self) -> None:
        if self._pre_votes is not None and len(self._pre_votes) >= self._quorum:
            self._elect()

    def _count_votes(self) -> None:
        if len(self._votes) >= self._quorum:
            self._SyncObj__onBecomeLeader()

    def _up_to_date(self, message: Message) -> bool:
        log = self._journal
        theirs: tuple[int, int] = (message["last_log_term"], message["last_log_index"])
        return theirs >= (log.last_term, log.last_index)

    def _hears_leader(self) -> bool:
        if self.is_leader:
            return True
        return self.leader is not None and self._now - self._heard_leader < self._timing.election_min_s

    def _SyncObj__onBecomeLeader(self) -> None:
        self._progress = {node: Progress() for node in self._peers}
        self._heartbeat_due = self._now
        super()._SyncObj__onBecomeLeader()  # next and match indices, and the no-op of the new term
        for node in self._peers:
            self._SyncObj__lastResponseTime[node] = self._now

    def _SyncObj__sendAppendEntries(self) -> None:
        """Called by the library when a leader is made; the tick sends once, at its end."""

    def _SyncObj__getCurrentLogIndex(self) -> int:
        return int(self._journal.last_index)

    def _SyncObj__getCurrentLogTerm(self) -> int:
        return int(self._journal.last_term)

    def _step_down(self, term: int) -> None:
        """Follows a higher term, or gives up leading in this one."""
        if term > self.term:
            self._SyncObj__setCurrentTerm(term, None)
        if self.is_leader:
            self._put_off_election()
        self._lose_leader()
        self._pre_votes = None
        self._SyncObj__setState(FOLLOWER)

    def _lose_leader(self) -> None:
        self._SyncObj__raftLeader = None
        self.reads_failed.extend(self._reads_waiting)
        self.reads_failed.extend(read for _, _, read in self._reads_sent)
        self._reads_waiting.clear()
        self._reads_sent.clear()

    def resign(self) -> None:
        """Stops leading: this node can not do what a leader must (write its disk, tell the time)."""
        self._step_down(self.term)
        self._SyncObj__raftElectionDeadline = self._now + 4 * self._timing.election_max_s

    def _check_quorum(self) -> None:
        since = self._now - self._timing.fallback_s
        answered = sum(self._SyncObj__lastResponseTime[node] > since for node in self._peers)
        if answered + 1 < self._quorum:
            self._step_down(self.term)

    @property
    def clock_is_off(self) -> bool:
        """Whether the clocks of a majority differ from this leader's: then it is this one that is wrong."""
        far = sum(abs(p.clock_off_ms or 0) > CLOCK_OFF_MS for p in self._progress.values())
        return far >= self._quorum

    def _hand_over_if_unfit(self) -> None:
        """Passes leadership on when the clock is wrong (a leader stamps the log's time), or mail has no room here.

        Either way this leader refuses proposals meanwhile, so that a peer soon has all that it has.
        """
        if self._now < self._transfer_due or not (self.clock_is_off or self.low_on_space):
            return
        self._transfer_due = self._now + self._timing.heartbeat_s
        last = self._journal.last_index
        for node, progress in self._progress.items():
            fit = self.clock_is_off or progress.has_room
            if fit and node in self._SyncObj__connectedNodes and self._SyncObj__raftMatchIndex[node] == last:
                self.transferLeadership(node)
                return

    def _on_timeout_now(self, node: Node, message: Message) -> None:
        if message["term"] >= self.term and node == self._SyncObj__raftLeader:
            self._elect(transfer=True)

    # -- replication, the leader's side (section 5.3) ----------------------------------------------------------------

    def _advance_commit(self) -> None:
        """The highest index that a majority holds, if its entry is of this term (section 5.4.2)."""
        match = self._SyncObj__raftMatchIndex
        held = sorted([*(match[node] for node in self._peers), self._journal.last_index], reverse=True)
        index = held[self._quorum - 1]
        if index > self.commit_index and self._journal.term_at(index) == self.term:
            self._set_commit(index)

    def _set_commit(self, index: int) -> None:
        self._SyncObj__raftCommitIndex = index
        self._journal.setRaftCommitIndex(index)

    def _send_to(self, node: Node, beat: bool) -> None:
        progress, log = self._progress[node], self._journal
        sent = False
        if progress.probing:
            if not progress.waiting or beat:
                progress.waiting = sent = True
                self._send_entries(node, log.entries(self._SyncObj__raftNextIndex[node], MAX_MESSAGE_BYTES))
        else:
            while self._SyncObj__raftNextIndex[node] <= log.last_index:
                if progress.in_flight_bytes >= MAX_IN_FLIGHT_BYTES:
                    break
                entries = log.entries(self._SyncObj__raftNextIndex[node], MAX_MESSAGE_BYTES)
                self._send_entries(node, entries)
                self._in_flight(node, entries)
                sent = True
        if not sent and (beat or progress.commit_sent < self.commit_index):
            self._send_entries(node, [])

    def _in_flight(self, node: Node, entries: list[Entry]) -> None:
        progress, last = self._progress[node], entries[-1][1]
        size = sum(entry[0].size_bytes for entry in entries)
        progress.in_flight.append((last, size))
        progress.in_flight_bytes += size
        self._SyncObj__raftNextIndex[node] = last + 1

    def _send_entries(self, node: Node, entries: list[Entry]) -> None:
        previous = self._SyncObj__raftNextIndex[node] - 1
        progress = self._progress[node]
        progress.commit_sent = self.commit_index
        self._outbox.send(
            node,
            {
                "type": "append_entries",
                "term": self.term,
                "prevLogIdx": previous,
                "prevLogTerm": self._journal.term_at(previous),
                "entries": [(term, c.kind, c.at_ms, c.data, c.bodies) for c, _, term in entries],
                "commit_index": self.commit_index,
                "round": self._round,
            },
        )

    def _on_next_node_idx(self, node: Node, message: Message) -> None:
        if message["term"] > self.term:
            self._step_down(message["term"])
        if not self.is_leader or message["term"] != self.term:
            return  # a reply to an earlier term says nothing about this one
        progress = self._progress[node]
        self._SyncObj__lastResponseTime[node] = self._now
        progress.round = max(progress.round, message["round"])
        progress.clock_off_ms = message["clock_ms"] - self._now_ms if self._now_ms else None
        progress.has_room = not message["low_on_space"]
        if message["success"]:
            self._accepted(node, progress, message["match"])
        else:
            self._refused(node, progress, message["rejected"], message["hint"], message["hint_term"])
        self._finish_reads()

    def _accepted(self, node: Node, progress: Progress, match: int) -> None:
        """Raises match and next index, never lowers them: entries on their way are not sent again."""
        indices, following = self._SyncObj__raftMatchIndex, self._SyncObj__raftNextIndex
        if match > self._journal.last_index:
            raise ConsensusViolation(f"{node.id} acknowledged {match}, beyond the end of this leader's log")
        indices[node] = max(indices[node], match)
        following[node] = max(following[node], indices[node] + 1)
        progress.acknowledged(match)
        progress.probing, progress.waiting = False, False

    def _refused(self, node: Node, progress: Progress, rejected: int, hint: int, hint_term: int) -> None:
        match, log = self._SyncObj__raftMatchIndex[node], self._journal
        if rejected <= match or rejected >= self._SyncObj__raftNextIndex[node]:
            return  # late: the peer has said since that it holds more, or it was asked again lower
        progress.probe()
        index = min(hint, rejected - 1)
        while index > match and (log.term_at(index) or 0) > hint_term:
            index -= 1  # nothing of a term that the peer does not have at all can match
        self._SyncObj__raftNextIndex[node] = index + 1

    def _back_to_match(self, node: Node) -> None:
        if self.is_leader and node in self._progress:
            self._progress[node].probe()
            known = self._SyncObj__raftMatchIndex[node] or self._journal.last_index
            self._SyncObj__raftNextIndex[node] = known + 1

    # -- replication, the follower's side --------------------------------------------------------------------------

    def _on_append_entries(self, node: Node, message: Message) -> None:
        if message["term"] < self.term:
            self._answer(node, message, success=False)  # carries the higher term: the sender steps down
            return
        if self.is_leader and message["term"] == self.term:
            raise ConsensusViolation(f"{node.id} leads in term {self.term}, and so does this node")
        if message["term"] > self.term or self._SyncObj__raftState != FOLLOWER:
            self._step_down(message["term"])
        self._SyncObj__raftLeader = node
        self._pre_votes = None
        self._heard_leader = self._now
        self._put_off_election()
        previous, log = message["prevLogIdx"], self._journal
        if log.term_at(previous) != message["prevLogTerm"]:
            self._answer(node, message, success=False, hint=self._conflict_hint(previous, message["prevLogTerm"]))
            return
        self._append(previous, message["entries"])
        verified = previous + len(message["entries"])
        commit = min(message["commit_index"], verified)
        if commit > self.commit_index:
            self._set_commit(commit)
        self._answer(node, message, success=True, match=verified)

    def _append(self, previous: int, entries: Sequence[Any]) -> None:
        """Skips what matches and truncates only at a conflict: late or repeated messages change nothing (5.3)."""
        log = self._journal
        for index, (term, kind, at_ms, data, bodies) in enumerate(entries, previous + 1):
            if index <= log.last_index:
                if log.term_at(index) == term:
                    continue
                if index <= self.commit_index:
                    raise ConsensusViolation(f"asked to truncate entry {index}; {self.commit_index} are committed")
                log.deleteEntriesFrom(index - 1)
            log.add(Command(kind, at_ms, data, bodies), index, term)

    def _conflict_hint(self, previous: int, term: int) -> int:
        """The last index that could match: where the log ends, or before the conflicting term (5.3, end)."""
        log = self._journal
        if previous > log.last_index:
            return int(log.last_index)
        index = previous
        while index > self.commit_index and (log.term_at(index) or 0) > term:
            index -= 1
        return int(min(index, previous - 1))

    def _answer(self, node: Node, message: Message, *, success: bool, match: int = 0, hint: int = 0) -> None:
        self._outbox.send(
            node,
            {
                "type": "next_node_idx",
                "term": self.term,
                "success": success,
                "match": match,
                "rejected": message["prevLogIdx"],
                "hint": hint,
                "hint_term": self._journal.term_at(hint) or 0,
                "round": message["round"] if message["term"] == self.term else 0,
                "clock_ms": self._now_ms,
                "low_on_space": self.low_on_space,
            },
        )

    # -- linearizable reads (section 8; thesis 6.4) ----------------------------------------------------------------

    def _begin_round(self) -> bool:
        if not self._reads_waiting or not self.can_serve_reads:
            return False
        self._round += 1
        for read in self._reads_waiting:
            self._reads_sent.append((self._round, self.commit_index, read))
        self._reads_waiting.clear()
        return True

    def _finish_reads(self) -> None:
        """A round is confirmed when a majority has answered it: no other leader can have committed anything before."""
        if not self._reads_sent:
            return
        rounds = sorted([*(self._progress[node].round for node in self._peers), self._round], reverse=True)
        confirmed = rounds[self._quorum - 1]
        while self._reads_sent and self._reads_sent[0][0] <= confirmed:
            _, index, read = self._reads_sent.popleft()
            self.reads_done.append((read, index))

    _HANDLERS: ClassVar[dict[str, Callable[[Any, Node, Message], None]]] = {
        "append_entries": _on_append_entries,
        "next_node_idx": _on_next_node_idx,
        "request_vote": _on_request_vote,
        "response_vote": _on_response_vote,
        "timeout_now": _on_timeout_now,
    }
