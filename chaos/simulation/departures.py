"""The mistakes that mailraft's consensus does not make, put back one at a time to see that the simulation finds them.

Most are what PySyncObj ships with (points 1 to 7 and 11 of docs/ADR/0001), some are classics of the paper. For tests
alone: nothing of the program can reach these classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pysyncobj.node import Node

from eventlog.engine import CANDIDATE
from eventlog.journal import Command
from eventlog.members import Members, is_one_step
from eventlog.peers import Message, Progress
from eventlog.raft import Raft


def handling(**handlers: Callable[[Any, Node, Message], None]) -> Any:
    """The engine's table of handlers, with these in place of its own."""
    return {**Raft._HANDLERS, **handlers}


class LowersNextIndex(Raft):
    def _accepted(self, node: Node, progress: Progress, match: int) -> None:
        super()._accepted(node, progress, match)
        self._SyncObj__raftNextIndex[node] = match + 1


class TruncatesOnOverlap(Raft):
    def _append(self, previous: int, entries: Sequence[Any]) -> int:
        log = self._journal
        if entries and previous < log.last_index:
            log.deleteEntriesFrom(previous)
        for index, (term, kind, at_ms, data, bodies) in enumerate(entries, previous + 1):
            command = self._held(kind, at_ms, data) if bodies is None else Command(kind, at_ms, data, bodies)
            if command is None:
                return index - 1
            log.add(command, index, term)
        return previous + len(entries)


class CommitsUnverified(Raft):
    def _on_append_entries(self, node: Node, message: Message) -> None:
        super()._on_append_entries(node, message)
        if message["term"] == self.term:
            commit = min(message["commit_index"], self._journal.last_index)
            if commit > self.commit_index:
                self._set_commit(commit)

    _HANDLERS = handling(append_entries=_on_append_entries)


class BelievesStaleReplies(Raft):
    def _on_next_node_idx(self, node: Node, message: Message) -> None:
        super()._on_next_node_idx(node, {**message, "term": max(message["term"], self.term)})

    _HANDLERS = handling(next_node_idx=_on_next_node_idx)


class LeavesStaleAppendsUnanswered(Raft):
    def _on_append_entries(self, node: Node, message: Message) -> None:
        if message["term"] >= self.term:
            super()._on_append_entries(node, message)

    _HANDLERS = handling(append_entries=_on_append_entries)


class CountsVotes(Raft):
    _tally = 0

    def _elect(self, *, transfer: bool = False) -> None:
        self._tally = 1
        super()._elect(transfer=transfer)

    def _on_response_vote(self, node: Node, message: Message) -> None:
        if message["granted"] and not message["pre"] and self._SyncObj__raftState == CANDIDATE:
            self._tally += message["term"] == self.term
            if self._tally >= self._quorum:
                self._SyncObj__onBecomeLeader()
        else:
            super()._on_response_vote(node, message)

    _HANDLERS = handling(response_vote=_on_response_vote)


class CampaignsWithoutPreVote(Raft):
    def _campaign(self) -> None:
        self._elect()


class ForgetsItsLeader(Raft):
    def _hears_leader(self) -> bool:
        return False


class CommitsOldTerms(Raft):
    def _advance_commit(self) -> None:
        match = self._SyncObj__raftMatchIndex
        held = sorted([*(match[node] for node in self._voters), self._journal.last_index], reverse=True)
        if held[self._quorum - 1] > self.commit_index:
            self._set_commit(held[self._quorum - 1])


class ReadsWithoutRound(Raft):
    def send_appends(self) -> None:
        if self.can_serve_reads:
            self.reads_done += [(read, self.commit_index) for read in self._reads_waiting]
            self._reads_waiting.clear()
        super().send_appends()


class ReadsBeforeItsNoop(Raft):
    @property
    def can_serve_reads(self) -> bool:
        return self.is_leader


class VotesForAnybody(Raft):
    def _up_to_date(self, message: Message) -> bool:
        return True


class VotesTwice(Raft):
    def _on_request_vote(self, node: Node, message: Message) -> None:
        if not message["pre"] and message["term"] == self.term:
            self._SyncObj__votedForNodeId = None
        super()._on_request_vote(node, message)

    _HANDLERS = handling(request_vote=_on_request_vote)


class AppendsUnchecked(Raft):
    def _on_append_entries(self, node: Node, message: Message) -> None:
        own_term = self._journal.term_at(message["prevLogIdx"])
        super()._on_append_entries(node, {**message, "prevLogTerm": own_term or message["prevLogTerm"]})

    _HANDLERS = handling(append_entries=_on_append_entries)


class FollowsCommittedMembers(Raft):
    def _follow_configuration(self) -> None:
        committed = [config for config in self._journal.configurations() if config.position <= self.commit_index]
        config = committed[-1] if committed else self._initial
        if config.position != self.config.position:
            self._use(config)

    def _set_commit(self, index: int) -> None:
        super()._set_commit(index)
        self._follow_configuration()

    def why_no_change(self, members: Members) -> str | None:
        newest = self._journal.config
        under_way = newest is not None and newest.position > self.commit_index
        return "change_under_way" if under_way else super().why_no_change(members)


class ChangesMembersAtOnce(Raft):
    def why_no_change(self, members: Members) -> str | None:
        reason = super().why_no_change(members)
        return None if reason and self.config.position > self.commit_index and self.can_serve_reads else reason


class ChangesMembersBeforeItsNoop(Raft):
    def why_no_change(self, members: Members) -> str | None:
        position, now = self.config
        if self.is_leader and 0 < position <= self.commit_index and is_one_step(now, members):
            return None
        return super().why_no_change(members)


class KeepsTruncatedMembers(Raft):
    def _follow_configuration(self) -> None:
        if self._journal.config is not None and self._journal.config.position >= self.config.position:
            super()._follow_configuration()


class Departure(NamedTuple):
    """A mistake: `point` is where the design names it.

    disk: mistakes of the disk (chaos/simulation/disk.py).
    early: a caller is answered when its record is appended.
    again: a change of the members that is sent again is made again, and one is made while another is under way, as far
    as the engine lets it.
    """

    point: str
    summary: str
    raft: type[Raft] = Raft
    disk: tuple[str, ...] = ()
    early: bool = False
    again: bool = False


DEPARTURES = {
    "next-index-lowered": Departure("1", "a success reply sets nextIndex below what is in flight", LowersNextIndex),
    "truncate-on-overlap": Departure("2", "a follower truncates whatever a message overlaps", TruncatesOnOverlap),
    "commit-unverified": Departure("2", "a follower commits entries that no message verified", CommitsUnverified),
    "stale-replies": Departure("3", "a leader believes replies to an earlier term", BelievesStaleReplies),
    "stale-append-unanswered": Departure(
        "3", "a leader of an earlier term is not told of the later one", LeavesStaleAppendsUnanswered
    ),
    "counted-votes": Departure("4", "votes are counted, whoever sent them", CountsVotes),
    "unsynced": Departure("5", "messages leave before what they promise is on disk", disk=("unsynced",)),
    "undone": Departure("5", "messages rest on a commit that the end of the power may undo", disk=("undone",)),
    "ahead-unsynced": Departure(
        "5", "messages rest on what was written ahead of the database and not synced", disk=("ahead_unsynced",)
    ),
    "ahead-reused": Departure(
        "5", "what is ahead of the database is overwritten before a commit holds it for good", disk=("ahead_reused",)
    ),
    "no-pre-vote": Departure("6", "a node stands for election without asking first", CampaignsWithoutPreVote),
    "no-stickiness": Departure("6", "a node that hears its leader votes for another", ForgetsItsLeader),
    "votes-twice": Departure("5.2", "a node votes for whoever asks, several in one term", VotesTwice),
    "append-unchecked": Departure("5.3", "entries are appended after whatever stands in front", AppendsUnchecked),
    "answered-early": Departure("tick, 5", "a caller is answered before its record has committed", early=True),
    "commit-old-term": Departure("5.4.2", "entries of earlier terms are committed by counting", CommitsOldTerms),
    "vote-for-anybody": Departure("5.4.1", "votes go to logs that lack committed entries", VotesForAnybody),
    "members-at-once": Departure(
        "7", "a second change of the members does not wait for the first", ChangesMembersAtOnce, again=True
    ),
    "members-on-commit": Departure(
        "7", "a configuration is in force only once it is committed", FollowsCommittedMembers
    ),
    "members-before-noop": Departure(
        "7", "a new leader changes the members before its own no-op has committed", ChangesMembersBeforeItsNoop
    ),
    "members-kept": Departure("7", "a configuration stays in force when its entry is truncated", KeepsTruncatedMembers),
    "members-again": Departure("7", "a change of the members that is sent again is made again", again=True),
    "read-without-round": Departure("11", "a leader answers reads without asking a majority", ReadsWithoutRound),
    "read-before-noop": Departure("11", "a new leader answers reads before its own no-op", ReadsBeforeItsNoop),
}
