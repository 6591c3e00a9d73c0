"""What a leader does for the members of its cell: one change at a time, learners watched, leadership passed on.

Chapter 4 of Ongaro's thesis, and his correction of July 2015 (raft-dev): no change before the leader has committed an
entry of its own term, or two configurations without a common majority can both commit.
"""

from pysyncobj.node import Node

from eventlog.journal import Command
from eventlog.members import Members, is_one_step
from eventlog.replication import Replication


class Membership(Replication):
    """An engine that can change the members of its cell and hand leadership to one of them."""

    _transfer: tuple[Node, float] | None = None  # to whom, and when it is given up

    # -- changes ------------------------------------------------------------------------------------------------------

    def why_no_change(self, members: Members) -> str | None:
        """Why this leader must not put these members in force now: a reason, a colon, what to tell people."""
        position, now = self.config
        founding = position == 0 and members != now  # the log must name the members before it says who came and went
        if not self.can_serve_reads or position > self.commit_index or founding:
            return "change_under_way: a change of the members is under way; ask again"
        if not is_one_step(now, members) or (position and members == now):
            return "members_changed: the members have changed meanwhile; look and ask again"
        known = {member.name for member in members}
        if known & self._former:
            name = min(known & self._former)
            return f"was_a_member: {name} was a member once: a node that comes back does so under a new name"
        if not self._would_have_majority(members):
            return "no_majority: too few of the members that would be left can be heard to commit the change"
        return None

    def _would_have_majority(self, members: Members) -> bool:
        voters = [Node(member.name) for member in members if member.voter]
        since = self._now - self._timing.fallback_s
        heard = sum(node.id == self.name or self._SyncObj__lastResponseTime.get(node, 0.0) > since for node in voters)
        return bool(heard > len(voters) // 2)

    def change_members(self, command: Command) -> int:
        """Appends a configuration, which is in force from now on. The caller has asked `why_no_change`."""
        index = self.propose(command)
        self._follow_configuration()
        return index

    def propose(self, command: Command) -> int:
        """Appends to the log of this leader and gives the index. The caller has checked `is_leader`."""
        index = self._journal.last_index + 1
        self._journal.add(command, index, self.term)
        return int(index)

    def caught_up(self) -> str | None:
        """The first learner that can vote without holding the cell up: it keeps pace and answers (4.2.1)."""
        since = self._now - self._timing.election_min_s
        for node in self._learners:
            if self._progress[node].caught_up and self._SyncObj__lastResponseTime[node] > since:
                return str(node.id)
        return None

    def _watch_learners(self) -> None:
        """Rounds: what the leader had when a round began must be there within an election timeout (4.2.1)."""
        for node in self._learners:
            progress = self._progress[node]
            if progress.goal and self._SyncObj__raftMatchIndex[node] >= progress.goal:
                progress.caught_up = self._now - progress.goal_set <= self._timing.election_min_s
                progress.goal = 0
            if not progress.goal:
                progress.goal, progress.goal_set = self._journal.last_index, self._now

    def _part(self) -> None:
        """Lets removed members go that know it: they have answered a round begun after their removal committed."""
        if not self.is_leader:
            self._leaving.clear()
        for name, left in list(self._leaving.items()):
            node = Node(name)
            if not left.round and self.commit_index >= left.position:
                self._round += 1
                self._leaving[name] = left._replace(round=self._round)
                self._heartbeat_due = self._now
            told = left.round and self._progress[node].round >= left.round
            if self._now > left.until or (told and self._SyncObj__raftMatchIndex[node] >= left.position):
                del self._leaving[name]
        if self._leaving.keys() != {link.name for link in self.links} - self.names:
            self._set_peers()

    def levels_known(self) -> dict[str, int]:
        """The highest feature level that each member's program knows, 0 where it has not said."""
        known = {str(node.id): self._progress[node].level for node in (*self._voters, *self._learners)}
        return {self.name: self.level, **known}

    def matches(self) -> dict[str, int]:
        """How far this leader knows each other member's log to be its own."""
        match = self._SyncObj__raftMatchIndex
        return {str(node.id): match[node] for node in self._peers}

    @property
    def waits_for_answers(self) -> bool:
        """Whether what a peer answers may change something at once that is not the commit index."""
        return self.is_leader and bool(
            self._reads_sent or self._learners or self._leaving or self._transfer is not None or self._is_held_up()
        )

    # -- leadership (3.10) --------------------------------------------------------------------------------------------

    @property
    def is_handing_over(self) -> bool:
        """Proposals wait meanwhile, so that the next leader soon has all that this one has."""
        return self._transfer is not None

    def hand_over(self, name: str, timeout_s: float) -> str | None:
        """Passes leadership to a member once it has everything; a reason if it can not be asked to."""
        node = Node(name)
        if not self.is_leader:
            return "not_leader: this node does not lead"
        if name == self.name:
            return None
        if node not in self._voters:
            return f"not_a_voter: {name} is no member that votes"
        self._transfer = (node, self._now + timeout_s)
        return None

    def hand_over_now(self) -> None:
        """Asks the member that has everything, if there is one, to lead: this node is stopping."""
        for node in self._voters:
            if self._has_everything(node):
                self.transferLeadership(node)
                return

    def _has_everything(self, node: Node) -> bool:
        connected = node in self._SyncObj__connectedNodes
        return connected and bool(self._SyncObj__raftMatchIndex[node] == self._journal.last_index)

    def _carry_transfer(self) -> None:
        if self._transfer is None:
            return
        node, until = self._transfer
        if not self.is_leader or node not in self._voters or self._now > until:
            self._transfer = None
        elif self._now >= self._transfer_due and self._has_everything(node):
            self._transfer_due = self._now + self._timing.heartbeat_s
            self.transferLeadership(node)

    def _leave_if_removed(self) -> None:
        """A leader that is no member leads until that is committed, then passes leadership on (4.2.2)."""
        if self._is_voter or self.config.position > self.commit_index:
            return
        if self._transfer is None and not self._left:
            self._left = True
            best = max(self._voters, key=lambda node: (self._SyncObj__raftMatchIndex[node], node.id))
            self.hand_over(best.id, self._timing.election_max_s)
        elif self._transfer is None:
            self._step_down(self.term)
