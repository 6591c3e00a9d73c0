"""Replication of the consensus engine: a leader's entries to its peers, a follower's log, the commit index, reads.

Section 5.3 of the Raft paper, and section 8 for linearizable reads. Nothing that has been acknowledged is sent twice or
truncated; what differs from PySyncObj, and why, is told in docs/ADR/0001-consensus.md.
"""

from collections.abc import Sequence
from typing import Any

from pysyncobj.node import Node

from eventlog.elections import Elections
from eventlog.engine import FOLLOWER, ConsensusViolation
from eventlog.journal import Command, Entry
from eventlog.levels import OLDEST
from eventlog.peers import Message, Progress

MAX_MESSAGE_BYTES = 1024 * 1024  # entries in one append-entries message: what a slow reader must take in one piece
MAX_IN_FLIGHT_BYTES = 16 * 1024 * 1024  # sent to one peer and not yet acknowledged


class Replication(Elections):
    """An engine that also keeps logs alike."""

    # -- replication, the leader's side (section 5.3) ----------------------------------------------------------------

    def _advance_commit(self) -> None:
        """The highest index that a majority holds, if its entry is of this term (section 5.4.2)."""
        match = self._SyncObj__raftMatchIndex
        held = [match[node] for node in self._voters]
        if self._is_voter:
            held.append(self._journal.last_index)
        held.sort(reverse=True)
        index = held[self._quorum - 1]
        if index > self.commit_index and self._journal.term_at(index) == self.term:
            self._set_commit(index)
            self._put_off_news()

    def _send_to(self, node: Node, beat: bool) -> None:
        progress, log = self._progress[node], self._journal
        sent = False
        if progress.probing:
            if not progress.waiting or beat:
                progress.waiting = sent = True
                self._send_entries(node, self._entries_from(self._SyncObj__raftNextIndex[node]))
        else:
            while self._SyncObj__raftNextIndex[node] <= log.last_index:
                if progress.in_flight_bytes >= MAX_IN_FLIGHT_BYTES:
                    break
                entries = self._entries_from(self._SyncObj__raftNextIndex[node])
                if not entries:
                    break  # archived, and the archive is damaged
                self._send_entries(node, entries)
                self._in_flight(node, entries)
                sent = True
        if not sent and not progress.probing and (beat or self._must_hear(progress)):
            # not to one that is probed: it may only commit what a message verifies
            self._send_entries(node, [], answered=beat)

    def _in_flight(self, node: Node, entries: list[Entry]) -> None:
        progress, last = self._progress[node], entries[-1][1]
        size = sum(entry[0].size_bytes for entry in entries)
        progress.in_flight.append((last, size))
        progress.in_flight_bytes += size
        self._SyncObj__raftNextIndex[node] = last + 1

    def _send_entries(self, node: Node, entries: list[Entry], *, answered: bool = True) -> None:
        previous = self._SyncObj__raftNextIndex[node] - 1
        progress = self._progress[node]
        progress.commit_sent = self.commit_index
        name = node.id
        own = any(command.held is not None and command.held[0] == name for command, _, _ in entries)
        place = previous, len(entries), name if own else "", answered
        message = self._appends.get(place)
        if message is None:
            message = self._appends[place] = {
                "type": "append_entries",
                "term": self.term,
                "prevLogIdx": previous,
                "prevLogTerm": self._journal.term_at(previous),
                "entries": self._without_held(name, progress, entries) if own else list(map(_row, entries)),
                "commit_index": self.commit_index,
                "round": self._round,
                "answered": answered,
            }
        self._outbox.send(node, message)

    def _without_held(self, name: str, progress: Progress, entries: list[Entry]) -> list[tuple[Any, ...]]:
        """What a peer forwarded itself goes back to it as the token under which it has the bytes."""
        return [
            (entry[2], entry[0].kind, entry[0].at_ms, held[1], None)
            if (held := entry[0].held) is not None and held[0] == name and entry[1] > progress.whole_to
            else _row(entry)
            for entry in entries
        ]

    def _entries_from(self, first: int) -> list[Entry]:
        """What goes into one message. Peers that are equally far are sent the same one."""
        entries = self._read.get(first)
        if entries is None:
            entries = self._read[first] = self._journal.entries(first, MAX_MESSAGE_BYTES)
        return entries

    def _is_held_up(self) -> bool:
        """Whether a peer must answer before it can be sent more."""
        connected = self._SyncObj__connectedNodes
        return any(
            (progress.probing or progress.in_flight_bytes >= MAX_IN_FLIGHT_BYTES) and node in connected
            for node, progress in self._progress.items()
        )

    def _forget_messages(self) -> None:
        """They hold for one turn of sending: the log and the commit index stand still in it."""
        self._read: dict[int, list[Entry]] = {}
        self._appends: dict[tuple[int, int, str, bool], Message] = {}

    # -- news of the commit index, which may wait a little for entries to go with (docs/ADR/0045) --------------------

    def asked_by(self, peer: str, index: int) -> None:
        """`peer` proposed what was appended at `index`, and waits for it."""
        progress = self._progress.get(Node(peer))
        if progress is not None:
            progress.asked = index

    def _note_pace(self) -> None:
        last, before = self._journal.last_index, self._last_seen
        if last != before:
            self._pause = self._now - self._committed_at if before <= self.commit_index else 0.0
            self._last_seen = last

    def _put_off_news(self) -> None:
        """Where another record is soon to be sent, the news go with it: it spares each peer a tick and an fsync."""
        self._committed_at = self._now
        if not self._news_due and self._pause <= self._timing.news_s:
            self._news_due = self._now + self._timing.news_s

    def expects_entries(self) -> bool:
        """Whether this leader puts off news because it expects entries that they can go with."""
        return self._news_due > 0

    def _must_hear(self, progress: Progress) -> bool:
        told = progress.commit_sent
        return told < self.commit_index and (told < progress.asked or self._now >= self._news_due)

    def _look_for_untold(self) -> None:
        """Whether the commit index is yet to be told to anybody who can hear it."""
        if self._news_due and not any(
            progress.commit_sent < self.commit_index and not progress.probing and node in self._SyncObj__connectedNodes
            for node, progress in self._progress.items()
        ):
            self._news_due = 0.0

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
        progress.level = message.get("level", OLDEST)
        if message["success"]:
            self._accepted(node, progress, message["match"])
            if message.get("lost"):
                self._send_whole(node, progress)
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

    def _send_whole(self, node: Node, progress: Progress) -> None:
        """The peer has not got any more what it forwarded: it was started anew, or has given up waiting."""
        progress.whole_to = self._journal.last_index
        progress.probe()
        self._SyncObj__raftNextIndex[node] = self._SyncObj__raftMatchIndex[node] + 1

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
        verified = self._append(previous, message["entries"])
        self._follow_configuration()
        commit = min(message["commit_index"], verified)
        if commit > self.commit_index:
            self._set_commit(commit)
        lost = verified < previous + len(message["entries"])
        if message.get("answered", True):  # a leader of an earlier version always is
            self._answer(node, message, success=True, match=verified, lost=lost)

    def _append(self, previous: int, entries: Sequence[Any]) -> int:
        """Skips what matches and truncates only at a conflict: late or repeated messages change nothing (5.3).

        Gives up to where this log now is the leader's: it ends before an entry that this node forwarded and has lost.
        """
        log = self._journal
        for index, (term, kind, at_ms, data, bodies) in enumerate(entries, previous + 1):
            if index <= log.last_index:
                if log.term_at(index) == term:
                    continue
                if index <= self.commit_index:
                    raise ConsensusViolation(f"asked to truncate entry {index}; {self.commit_index} are committed")
            command = self._held(kind, at_ms, data) if bodies is None else Command(kind, at_ms, data, bodies)
            if command is None:
                return index - 1
            if index <= log.last_index:
                log.deleteEntriesFrom(index - 1)
            log.add(command, index, term)
        return previous + len(entries)

    def _held(self, kind: int, at_ms: int, token: bytes) -> Command | None:
        """The entry of a proposal that this node forwarded, from what it has kept: nothing need be taken apart."""
        held = self.held.get(token)
        if held is None:
            return None
        command = Command(kind, at_ms, held.data, held.bodies)
        if held.encoded is not None:
            command.known_as(held.encoded.record, held.encoded.header)
        return command

    def _conflict_hint(self, previous: int, term: int) -> int:
        """The last index that could match: where the log ends, or before the conflicting term (5.3, end)."""
        log = self._journal
        if previous > log.last_index:
            return int(log.last_index)
        index = previous
        while index > self.commit_index and (log.term_at(index) or 0) > term:
            index -= 1
        return int(min(index, previous - 1))

    def _answer(
        self, node: Node, message: Message, *, success: bool, match: int = 0, hint: int = 0, lost: bool = False
    ) -> None:
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
                "level": self.level,
                **({"lost": True} if lost else {}),
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
        rounds = [self._progress[node].round for node in self._voters]
        if self._is_voter:
            rounds.append(self._round)
        rounds.sort(reverse=True)
        confirmed = rounds[self._quorum - 1]
        while self._reads_sent and self._reads_sent[0][0] <= confirmed:
            _, index, read = self._reads_sent.popleft()
            self.reads_done.append((read, index))


def _row(entry: Entry) -> tuple[Any, ...]:
    command, _, term = entry
    return term, command.kind, command.at_ms, command.data, command.bodies
