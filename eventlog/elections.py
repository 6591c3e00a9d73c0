"""Elections of the consensus engine: who leads, who may, and when a leader gives up.

Sections 5.2 and 5.4 of the Raft paper; pre-vote and stickiness of Ongaro's thesis (9.6 and 4.2.3), because a node that
comes back from a partition must not depose a healthy leader. Votes are a set of members, per term.
"""

from pysyncobj.node import Node

from eventlog.configuration import Configured
from eventlog.engine import CANDIDATE, FOLLOWER
from eventlog.peers import Message, Progress

CLOCK_OFF_MS = 5000


class Elections(Configured):
    """An engine that asks for votes, gives them, and steps down."""

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
        if not self._may_stand:
            self._ask_whether_removed()
            return
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
        for node in self._voters:
            self._outbox.send(node, message)

    def _ask_whether_removed(self) -> None:
        """A node that may not stand hears no leader: perhaps because it was removed."""
        for node in self._voters:
            self._outbox.send(node, {"type": "am_i_removed", "term": self.term})

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
        if self._pre_votes is not None and self._is_majority(self._pre_votes):
            self._elect()

    def _count_votes(self) -> None:
        if self._is_majority(self._votes):
            self._SyncObj__onBecomeLeader()

    def _is_majority(self, votes: set[str]) -> bool:
        return self._is_voter + sum(node.id in votes for node in self._voters) >= self._quorum

    def _up_to_date(self, message: Message) -> bool:
        log = self._journal
        theirs: tuple[int, int] = (message["last_log_term"], message["last_log_index"])
        return theirs >= (log.last_term, log.last_index)

    def _SyncObj__onBecomeLeader(self) -> None:
        self._progress = {node: Progress() for node in self._peers}
        self._heartbeat_due = self._now
        self._news_due = 0.0
        self._left = False
        super()._SyncObj__onBecomeLeader()  # next and match indices, and the no-op of the new term
        for node in self._peers:
            self._SyncObj__lastResponseTime[node] = self._now

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
        answered = sum(self._SyncObj__lastResponseTime[node] > since for node in self._voters)
        if answered + self._is_voter < self._quorum:
            self._step_down(self.term)

    @property
    def clock_is_off(self) -> bool:
        """Whether the clocks of a majority differ from this leader's: then it is this one that is wrong."""
        far = sum(abs(self._progress[node].clock_off_ms or 0) > CLOCK_OFF_MS for node in self._voters)
        return far >= self._quorum

    def _hand_over_if_unfit(self) -> None:
        """Passes leadership on when the clock is wrong (a leader stamps the log's time), or mail has no room here.

        Either way this leader refuses proposals meanwhile, so that a peer soon has all that it has.
        """
        if self._now < self._transfer_due or not (self.clock_is_off or self.low_on_space):
            return
        self._transfer_due = self._now + self._timing.heartbeat_s
        last = self._journal.last_index
        for node in self._voters:
            fit = self.clock_is_off or self._progress[node].has_room
            if fit and node in self._SyncObj__connectedNodes and self._SyncObj__raftMatchIndex[node] == last:
                self.transferLeadership(node)
                return

    def _on_timeout_now(self, node: Node, message: Message) -> None:
        if message["term"] >= self.term and node == self._SyncObj__raftLeader and self._is_voter:
            self._elect(transfer=True)
