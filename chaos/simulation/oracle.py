"""What must hold, whatever happens: the properties of figure 3 of the Raft paper, and what callers were promised.

It knows nothing of faults. It looks at each node after each of its ticks, at no more than that tick has changed, and
at what is on the disks of all, so that it sees at once what a later crash would only bring to light.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from eventlog.errors import OutcomeUnknown, Rejected
from eventlog.journal import KIND_CONFIG
from eventlog.members import members_in
from eventlog.record import Record, decode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Iterator

    from chaos.simulation.node import SimulatedNode
    from chaos.simulation.trace import Trace
    from eventlog.log import Committed
    from eventlog.members import Configuration


class PromiseBroken(AssertionError):
    """Something happened that must never happen. `rule` names it in a few words."""

    def __init__(self, rule: str, what: str) -> None:
        super().__init__(f"{rule}: {what}")
        self.rule = rule


class EntryOf(NamedTuple):
    """An entry as it is compared: its term and a digest of its contents."""

    term: int
    digest: bytes


class Written(NamedTuple):
    """A configuration in a node's log, as the oracle reads it; position 0 is what the configuration file says."""

    position: int
    id: bytes
    voters: frozenset[str]


class Seen:
    """What the oracle has seen of one node's disk, over all of its lives."""

    def __init__(self, first_voters: frozenset[str]) -> None:
        self.configurations = [Written(0, b"", first_voters)]
        self.log: list[EntryOf] = [EntryOf(0, b"")]
        self.term = 0
        self.vote: str | None = None
        self.commit = 0
        self.applied = 0
        self.kept = self.kept_before = (0, 0)  # commit and applied as of the newest commit of the database, and before
        self.led_term = 0
        self.in_force: Any = None  # the engine's own configuration, when it was last compared

    @property
    def voters(self) -> frozenset[str]:
        """Of the newest configuration in the log, committed or not, which is the one in force (thesis, 4.1)."""
        return self.configurations[-1].voters

    def voters_since(self, index: int) -> list[frozenset[str]]:
        """Of the configuration in force when an entry was the last, and of each that was written behind it.

        One step of a lonely leader may append a change, commit it alone, and append the next.
        """
        begins = max(one.position for one in self.configurations if one.position <= index)
        return [one.voters for one in self.configurations if one.position >= begins]

    @property
    def last(self) -> tuple[int, int]:
        """Term and index of the last entry: what decides whether one may be voted for (section 5.4.1)."""
        return self.log[-1].term, len(self.log) - 1


class Oracle:
    """Raises PromiseBroken as soon as something does not hold."""

    def __init__(self, trace: Trace, first_names: Iterable[str]) -> None:
        self._trace = trace
        first_voters = frozenset(first_names)
        self.seen: defaultdict[str, Seen] = defaultdict(lambda: Seen(first_voters))
        self.leaders: dict[int, str] = {}
        self.leading: dict[int, Any] = {}  # term -> the engine that led in it, whose configuration outlives its crash
        self.votes: dict[int, dict[str, str]] = {}  # term -> voter -> candidate
        self.entries: dict[tuple[int, int], tuple[bytes, int]] = {}  # index, term -> digest, term of the one before
        self.committed: list[EntryOf] = [EntryOf(0, b"")]
        self.committed_in: list[int] = [0]  # the term of the node that was first to know it
        self.chains: dict[int, bytes] = {}
        self.acknowledged: dict[bytes, int] = {}  # record id -> position
        self.refused: dict[bytes, str] = {}  # record id -> reason: never takes effect
        self.open_attempts: dict[bytes, int] = {}  # record id -> proposals whose outcome is unknown
        self.highest_acknowledged = 0
        self.broken: PromiseBroken | None = None

    # -- after each tick ------------------------------------------------------------------------------------------

    def after_tick(self, node: SimulatedNode) -> None:
        """What the tick has made durable, before anybody hears of it."""
        seen, raft = self.seen[node.name], node.raft
        before = seen.voters
        self._log_matching(node, seen)
        self._in_force(node, seen)
        self._terms_and_votes(node, seen)
        if raft.is_leader and seen.led_term != raft.term:
            seen.led_term = raft.term
            self._new_leader(node, before)
        if raft.commit_index != seen.commit:
            self._committed(node, seen, before)
        if node.fold.applied != seen.applied:
            self._applied(node, seen)
        if not node.store.dirty and seen.kept != (seen.commit, seen.applied):
            seen.kept, seen.kept_before = (seen.commit, seen.applied), seen.kept

    def after_boot(self, node: SimulatedNode) -> None:
        """A node comes back with exactly what it had made durable.

        Its last commit need not last if it only folded, nor what it has learnt since of what is committed.
        """
        seen, journal = self.seen[node.name], node.journal
        self._in_force(node, seen)
        reached = (journal.getRaftCommitIndex(), node.fold.applied)
        if node.disk.undid and reached == seen.kept_before:
            seen.kept = reached
        seen.commit, seen.applied = seen.kept
        found = (journal.getCurrentTerm(), journal.getVotedForNodeId(), journal.last_index, *reached)
        wanted = (seen.term, seen.vote, len(seen.log) - 1, seen.commit, seen.applied)
        self._require(
            found == wanted,
            "what was synced is durable",
            f"{node.name} came back with term, vote, last index, commit, applied {found}, and had {wanted}",
        )
        for index in range(max(1, len(seen.log) - 20), len(seen.log)):
            self._require(
                _entry(node, index) == seen.log[index],
                "what was synced is durable",
                f"{node.name} came back with another entry {index}",
            )

    def damaged(self, name: str, what: str) -> None:
        """A node can not start on what it finds."""
        self._require(False, "what was synced is durable", f"{name}: {what}")

    def _log_matching(self, node: SimulatedNode, seen: Seen) -> None:
        """Entries of the same index and term are the same, and so are all before them (5.3): one step at a time."""
        journal = node.journal
        first = journal.changed_from
        journal.changed_from = 1 << 62
        del seen.log[first:]
        while seen.configurations[-1].position >= max(first, 1):
            seen.configurations.pop()
        for index in range(len(seen.log), journal.last_index + 1):
            entry, before = _entry(node, index), seen.log[index - 1].term
            known = self.entries.setdefault((index, entry.term), (entry.digest, before))
            self._require(
                known == (entry.digest, before),
                "log matching",
                f"{node.name} has an entry {index} of term {entry.term} that is not the one of others",
            )
            self._require(entry.term >= before, "log matching", f"{node.name}: terms go back at {index}")
            seen.log.append(entry)
            if node.journal.entry(index)[0].kind == KIND_CONFIG:
                self._configuration(node, seen, index)
        self._require(
            journal.last_index == len(seen.log) - 1, "log matching", f"{node.name}: the log is not as long as it says"
        )
        self._require(
            len(seen.log) > seen.commit, "committed entries stay", f"{node.name} truncated below {seen.commit}"
        )

    def _configuration(self, node: SimulatedNode, seen: Seen, index: int) -> None:
        """A change of the members is one entry of a log, however often it was sent."""
        data = node.journal.entry(index)[0].data
        id_ = decode(data).id
        earlier = [one.position for one in seen.configurations if one.id == id_]
        self._require(
            not earlier,
            "a change of the members is made once",
            f"{node.name} has {id_.hex()[-6:]} at {index}, and at {earlier}",
        )
        voters = frozenset(member.name for member in members_in(data) if member.voter)
        seen.configurations.append(Written(index, id_, voters))

    def _in_force(self, node: SimulatedNode, seen: Seen) -> None:
        """A node uses the newest configuration of its log (thesis, 4.1)."""
        config, newest = node.raft.config, seen.configurations[-1]
        if config is seen.in_force and config.position == newest.position:
            return
        seen.in_force = config
        self._require(
            (config.position, _voters_of(config)) == (newest.position, newest.voters),
            "the newest configuration is in force",
            f"{node.name} uses that of {config.position}, and has one at {newest.position}",
        )

    def _terms_and_votes(self, node: SimulatedNode, seen: Seen) -> None:
        term, vote = node.journal.getCurrentTerm(), node.journal.getVotedForNodeId()
        if (term, vote) == (seen.term, seen.vote):
            return
        self._require(term >= seen.term, "terms never go back", f"{node.name}: {seen.term} to {term}")
        if term == seen.term and seen.vote is not None:
            self._require(
                vote == seen.vote,
                "one vote a term",
                f"{node.name} voted for {seen.vote} and {vote} in term {term}",
            )
        seen.term, seen.vote = term, vote
        if vote is not None:
            self.votes.setdefault(term, {})[node.name] = vote

    def _new_leader(self, node: SimulatedNode, before: frozenset[str]) -> None:
        """Election safety, by votes on disks; leader completeness."""
        term, name = node.raft.term, node.name
        first = self.leaders.setdefault(term, name)
        self.leading.setdefault(term, node.raft)
        self._require(first == name, "election safety", f"{first} and {name} lead in term {term}")
        voters = sorted(voter for voter, choice in self.votes.get(term, {}).items() if choice == name)
        self._require(
            _is_majority(voters, self.seen[name].voters) or _is_majority(voters, before),
            "a leader has the votes of a majority",
            f"{name} leads in term {term} with the votes of {', '.join(voters)}",
        )
        log = self.seen[name].log
        for index in range(len(self.committed) - 1, 0, -1):
            if self.committed_in[index] < term:  # log matching says the same of all before it
                have = index < len(log) and log[index] == self.committed[index]
                self._require(have, "leader completeness", f"{name} leads in term {term} without entry {index}")
                break
        self._trace.add(name, f"leads in term {term}, voted for by {', '.join(voters)}")

    def _committed(self, node: SimulatedNode, seen: Seen, before: frozenset[str]) -> None:
        """State-machine safety; what is committed is on a majority of disks and no node without it can be elected."""
        commit = node.raft.commit_index
        self._require(commit >= seen.commit, "commit never goes back", f"{node.name}: {seen.commit} to {commit}")
        self._require(commit < len(seen.log), "commit is within the log", f"{node.name}: {commit}")
        for index in range(seen.commit + 1, commit + 1):
            if index == len(self.committed):
                self._first_committed(node, index, seen.log[index], before)
            self._require(
                self.committed[index] == seen.log[index],
                "state-machine safety",
                f"{node.name} committed another entry at {index}",
            )
        seen.commit = commit

    def _first_committed(self, node: SimulatedNode, index: int, entry: EntryOf, before: frozenset[str]) -> None:
        holders: list[str] = []
        others: list[str] = []
        for name, seen in self.seen.items():
            (holders if index < len(seen.log) and seen.log[index] == entry else others).append(name)
        what = f"{node.name} calls entry {index} of term {entry.term} committed in term {node.raft.term}"
        self._require(
            any(_is_majority(holders, one) for one in (before, *self._electorates(node, entry, index))),
            "committed is on a majority of disks",
            f"{what}; {', '.join(holders)} have it",
        )
        for name in others:
            last, electorate = self.seen[name].last, self.seen[name].voters
            voters = [voter for voter in electorate if last >= self.seen[voter].last]
            self._require(
                not _is_majority(voters, electorate),
                "committed is for ever",
                f"{what}; {name}, without it, can still be elected",
            )
        self.committed.append(entry)
        self.committed_in.append(node.raft.term)

    def _electorates(self, node: SimulatedNode, entry: EntryOf, index: int) -> Iterator[frozenset[str]]:
        """By whom an entry may have been committed, as far as the disks and the memory of its leader tell.

        A leader counts by the newest configuration of its log, which it sends while it writes it (thesis, 4.1 and
        10.2.1): if it crashes in that write, what it told the others was counted by members that no disk has. Any
        majority of those meets any majority of the ones before, so it stands.
        """
        yield from self.seen[node.name].voters_since(index)
        for term in {entry.term, node.raft.term} & self.leading.keys():
            yield _voters_of(self.leading[term].config)

    def _applied(self, node: SimulatedNode, seen: Seen) -> None:
        applied, chain = node.fold.applied, node.fold.chain
        self._require(seen.applied <= applied <= seen.commit, "applied is committed", f"{node.name}: {applied}")
        known = self.chains.setdefault(applied, chain)
        self._require(known == chain, "state-machine safety", f"{node.name} folded something else up to {applied}")
        seen.applied = applied

    # -- what callers are told --------------------------------------------------------------------------------------

    async def outcome_of(self, record: Record, proposal: Awaitable[Committed], name: str) -> Committed:
        """Awaits a proposal and remembers what its caller is told."""
        id_ = record.id
        self.open_attempts[id_] = self.open_attempts.get(id_, 0) + 1
        self.refused.pop(id_, None)
        try:
            committed = await proposal
        except Rejected as refusal:
            self.open_attempts[id_] -= 1
            if not self.open_attempts[id_] and id_ not in self.acknowledged:  # no other caller's may take effect
                self.refused[id_] = refusal.reason
            self._trace.add(name, f"refuses {id_.hex()[-6:]}: {refusal.reason}")
            raise
        except OutcomeUnknown:
            self._trace.add(name, f"does not know what became of {id_.hex()[-6:]}")
            raise
        self.open_attempts[id_] -= 1
        self._acknowledge(id_, committed.position, name)
        return committed

    def _acknowledge(self, id_: bytes, position: int, name: str) -> None:
        before = self.acknowledged.setdefault(id_, position)
        what = f"{id_.hex()[-6:]} at {position}"
        self._require(before == position, "once", f"{what}, and before at {before}")
        self._require(position < len(self.committed), "acknowledged is committed", what)
        self.highest_acknowledged = max(self.highest_acknowledged, position)
        self._trace.add(name, f"acknowledges {what}")

    def read_done(self, name: str, acknowledged_before: int, index: int, shown: int) -> None:
        """A barrier at a node has ended: it was told to wait for `index`, and a snapshot now shows `shown`."""
        self._require(
            min(index, shown) >= acknowledged_before,
            "a read misses no acknowledged write",
            f"{name} read at {index}, shows {shown}, and {acknowledged_before} was acknowledged before it asked",
        )

    def _require(self, holds: bool, rule: str, what: str) -> None:
        if not holds:
            self.broken = PromiseBroken(rule, what)
            raise self.broken


def _voters_of(config: Configuration) -> frozenset[str]:
    return frozenset(member.name for member in config.members if member.voter)


def _is_majority(names: Iterable[str], voters: frozenset[str]) -> bool:
    return len(voters.intersection(names)) > len(voters) // 2


def _entry(node: SimulatedNode, index: int) -> EntryOf:
    command, _, term = node.journal.entry(index)
    content = b"%d %d " % (command.kind, command.at_ms) + command.data
    return EntryOf(term, hashlib.blake2b(content, digest_size=8).digest())


def describe(error: BaseException) -> tuple[str, str]:
    """Rule and text of what ended a run."""
    rule: Any = getattr(error, "rule", type(error).__name__)
    return str(rule), str(error)
