"""The configuration in force in one engine: who votes, who is sent to, whose messages are taken.

In force is the newest configuration that the log holds, committed or not, from the append on (Ongaro's thesis, 4.1),
and back again when its entry is truncated; before the log holds any, what the configuration file says. Learners and
members that are leaving are sent entries and never counted. PySyncObj's own dictionaries are kept in step.

A node's certificate says who it is, the configuration what it may say. One that is no member, as far as this node
knows, may be a member of a configuration that has not arrived yet, so a leader's entries and a candidate's question are
taken from it (4.1, end), but only while no leader is heard. One that was a member once is told that it was removed.
"""

from typing import NamedTuple

from pysyncobj.node import Node

from eventlog.engine import Engine
from eventlog.members import Configuration, Member
from eventlog.peers import Message, Progress

NEVER = 1 << 63
LEAVING_S = 60.0  # a removed node that can not be told for so long is given up


class Leaving(NamedTuple):
    """One that was removed at a position and is told so until a time; `round` begins when its removal is committed."""

    member: Member
    position: int
    until: float
    round: int = 0


class Configured(Engine):
    """An engine that knows its peers."""

    _initial: Configuration
    config: Configuration = Configuration(0, ())
    names: frozenset[str] = frozenset()  # of the members
    removed_at: int = 0  # the position of the configuration, committed, that this node is no member of any more
    links: tuple[Member, ...] = ()  # whom this node should be connected to
    _peers: tuple[Node, ...] = ()  # whom a leader sends to, in the order of their names
    _voters: tuple[Node, ...] = ()  # without this node
    _learners: tuple[Node, ...] = ()
    _is_voter: bool = False
    _quorum: int = 1
    _may_stand: bool = False  # for election
    _next_config: int = NEVER  # the position of the oldest configuration that is not committed
    _former: frozenset[str] = frozenset()  # who was a member once and is none: a name is not used again
    _former_at: int = 0  # as of this position
    _leaving: dict[str, Leaving]  # members that were removed and are sent entries until they know it

    def _start_configuration(self) -> None:
        self._leaving, self._progress, self.removed_at = {}, {}, 0
        self._SyncObj__otherNodes.clear()
        self._use(self._journal.config or self._initial)

    def _follow_configuration(self) -> None:
        """After entries were appended or truncated."""
        config = self._journal.config or self._initial
        if config is not self.config:
            self._use(config)

    def _use(self, config: Configuration) -> None:
        before, self.config = self.config, config
        self.names = frozenset(member.name for member in config.members)
        others = [member for member in config.members if member.name != self.name]
        own = config.member(self.name)
        self._is_voter = own is not None and own.voter
        self._voters = tuple(Node(member.name) for member in others if member.voter)
        self._learners = tuple(Node(member.name) for member in others if not member.voter)
        self._quorum = (len(self._voters) + self._is_voter) // 2 + 1
        if self.is_leader:
            for member in before.members:
                if member.name not in self.names and member.name != self.name:
                    self._leaving[member.name] = Leaving(member, config.position, self._now + LEAVING_S)
        self._set_peers()
        self._look_back()

    def _set_peers(self) -> None:
        """Begins with new peers and forgets those that are gone, here and in the library."""
        self._leaving = {name: left for name, left in self._leaving.items() if name not in self.names}
        members = {member.name: member for member in self.config.members if member.name != self.name}
        members |= {name: left.member for name, left in self._leaving.items()}
        self.links = tuple(members[name] for name in sorted(members))
        self._peers = tuple(Node(member.name) for member in self.links)
        for node in set(self._progress) - set(self._peers):
            self._SyncObj__otherNodes.discard(node)
            for known in (self._progress, self._SyncObj__raftNextIndex, self._SyncObj__raftMatchIndex,
                          self._SyncObj__lastResponseTime):  # fmt: skip
                known.pop(node, None)
        for node in self._peers:
            if node not in self._progress:
                self._progress[node] = Progress()
                self._SyncObj__otherNodes.add(node)
                self._SyncObj__raftNextIndex[node] = self._journal.last_index + 1
                self._SyncObj__raftMatchIndex[node] = 0
                self._SyncObj__lastResponseTime[node] = self._now

    def _look_back(self) -> None:
        """Who was a member once, as far as it is committed; whether this node was."""
        found = self._journal.configurations()
        history = [config for config in found if config.position <= self.commit_index]
        self._next_config = found[len(history)].position if len(history) < len(found) else NEVER
        self._former_at = history[-1].position if history else 0
        ever = {member.name for config in history for member in config.members}
        now = {member.name for member in history[-1].members} if history else ever
        self._former = frozenset(ever - now - self.names)
        before = history[-1].member(self.name) if history else None
        # one whose removal is not committed may hold what the others need; it does not count its own vote (4.2.2)
        self._may_stand = self._is_voter or (before is not None and before.voter and self.name not in self.names)
        if self.name in self._former:
            last = max(at for at, config in enumerate(history) if config.member(self.name))
            self.removed_at = history[last + 1].position

    def _set_commit(self, index: int) -> None:
        super()._set_commit(index)
        if index >= self._next_config:
            self._look_back()

    # -- who may speak ----------------------------------------------------------------------------------------------

    def _may_speak(self, node: Node, message: Message) -> bool:
        """Whether a message of one that is no member here is taken."""
        if node == self._SyncObj__raftLeader:
            return True  # it removed itself, or it was followed while no leader was heard
        if node.id in self._former:
            self._outbox.send(node, {"type": "removed", "term": self.term, "position": self._former_at})
            return False
        return message["type"] in ("append_entries", "request_vote") and not self._hears_leader()

    def _hears_leader(self) -> bool:
        if self.is_leader:
            return True
        return self.leader is not None and self._now - self._heard_leader < self._timing.election_min_s

    def _on_removed(self, node: Node, message: Message) -> None:
        """A member says that this node is none since a position. Of what this node has itself, it knows better."""
        position = message["position"]
        newer = type(position) is int and position > self.commit_index
        if newer and (position > self.config.position or self.name not in self.names):
            self.removed_at, self._may_stand = self.removed_at or position, False

    def _on_am_i_removed(self, node: Node, message: Message) -> None:
        """A member asks: it is not. One that was a member is answered before this."""
