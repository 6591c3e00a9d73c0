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
    def _append(self, previous: int, entries: Sequence[Any]) -> None:
        log = self._journal
        if entries and previous < log.last_index:
            log.deleteEntriesFrom(previous)
        for index, (term, kind, at_ms, data, bodies) in enumerate(entries, previous + 1):
            log.add(Command(kind, at_ms, data, bodies), index, term)


class CommitsUnverified(Raft):
    def _on_append_entries(self, node: Node, message: Message) -> None:
        super()._on_append_entries(node, message)
        if message["term"] == self.term:
            commit = min(message["commit_index"], self._journal.last_index)
            if commit > self.commit_index:
                self._set_commit(commit)

    _HANDLERS = handling(append_entries=_on_append_entries)


class AcknowledgesUnverified(Raft):
    def _answer(self, node: Node, message: Message, *, success: bool, match: int = 0, hint: int = 0) -> None:
        super()._answer(node, message, success=success, match=self._journal.last_index if success else 0, hint=hint)

    def _accepted(self, node: Node, progress: Progress, match: int) -> None:
        super()._accepted(node, progress, min(match, self._journal.last_index))


class BelievesStaleReplies(Raft):
    def _on_next_node_idx(self, node: Node, message: Message) -> None:
        super()._on_next_node_idx(node, {**message, "term": max(message["term"], self.term)})

    def _accepted(self, node: Node, progress: Progress, match: int) -> None:
        super()._accepted(node, progress, min(match, self._journal.last_index))

    _HANDLERS = handling(next_node_idx=_on_next_node_idx)


class LeavesStaleAppendsUnanswered(Raft):
    def _on_append_entries(self, node: Node, message: Message) -> None:
        if message["term"] >= self.term:
            super()._on_append_entries(node, message)

    _HANDLERS = handling(append_entries=_on_append_entries)


class CountsVotes(Raft):
    def _on_response_vote(self, node: Node, message: Message) -> None:
        if message["granted"] and not message["pre"] and self._SyncObj__raftState == CANDIDATE:
            if message["term"] == self.term:
                self._votes.add(f"{node.id}, vote {len(self._votes)}")
                self._count_votes()
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


class Departure(NamedTuple):
    """A mistake: `point` is where the design names it. `unsynced`: what is written reaches the disk only later."""

    point: str
    summary: str
    raft: type[Raft] = Raft
    unsynced: bool = False


DEPARTURES = {
    "next-index-lowered": Departure("1", "a success reply sets nextIndex below what is in flight", LowersNextIndex),
    "truncate-on-overlap": Departure("2", "a follower truncates whatever a message overlaps", TruncatesOnOverlap),
    "commit-unverified": Departure("2", "a follower commits entries that no message verified", CommitsUnverified),
    "acknowledge-unverified": Departure("2", "a follower acknowledges all that it holds", AcknowledgesUnverified),
    "stale-replies": Departure("3", "a leader believes replies to an earlier term", BelievesStaleReplies),
    "stale-append-unanswered": Departure(
        "3", "a leader of an earlier term is not told of the later one", LeavesStaleAppendsUnanswered
    ),
    "counted-votes": Departure("4", "votes are counted, whoever sent them", CountsVotes),
    "unsynced": Departure("5", "messages leave before what they promise is on disk", unsynced=True),
    "no-pre-vote": Departure("6", "a node stands for election without asking first", CampaignsWithoutPreVote),
    "no-stickiness": Departure("6", "a node that hears its leader votes for another", ForgetsItsLeader),
    "commit-old-term": Departure("5.4.2", "entries of earlier terms are committed by counting", CommitsOldTerms),
    "vote-for-anybody": Departure("5.4.1", "votes go to logs that lack committed entries", VotesForAnybody),
    "read-without-round": Departure("11", "a leader answers reads without asking a majority", ReadsWithoutRound),
    "read-before-noop": Departure("11", "a new leader answers reads before its own no-op", ReadsBeforeItsNoop),
}
