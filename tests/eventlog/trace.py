"""What a golden script prints of engines: letters, entries and what changed in a node, one line each.

Entries are `index/term`, then their text in quotes, `noop`, or nothing for those that an earlier life left.
"""

import itertools
from typing import Any, NamedTuple

import msgpack

from eventlog.journal import KIND_CONFIG, KIND_NOOP, KIND_RECORD, Command
from eventlog.members import Members, members_in
from tests.eventlog.engines import Engine, Letter


def entry_text(command: Command, index: int, term: int) -> str:
    place = f"{index}/{term}"
    if command.kind == KIND_NOOP:
        return f"{place} noop"
    if command.kind == KIND_CONFIG:
        return f"{place} members {members_text(members_in(command.data))}"
    if command.kind != KIND_RECORD:
        return f"{place} kind {command.kind}"
    fact = msgpack.unpackb(command.parsed()[0].events[0].data)
    return f'{place} "{fact}"' if fact else place


def members_text(members: Members) -> str:
    """Who votes; learners in brackets."""
    return " ".join(member.name if member.voter else f"({member.name})" for member in members)


def describe(letter: Letter) -> str:
    """One message with the terms and indexes that matter for it."""
    message = letter.message
    kind, fields = _DESCRIBED[letter.type](message)
    return " ".join([f"{letter.source}->{letter.target} {kind} term={message['term']}", *fields])


def _vote(message: dict[str, Any]) -> tuple[str, list[str]]:
    fields = [f"last={message['last_log_index']}/{message['last_log_term']}"]
    return ("pre-vote" if message["pre"] else "vote"), fields + ["transfer"] * message["transfer"]


def _vote_reply(message: dict[str, Any]) -> tuple[str, list[str]]:
    kind = "pre-vote-reply" if message["pre"] else "vote-reply"
    return kind, ["granted" if message["granted"] else "refused"]


def _append(message: dict[str, Any]) -> tuple[str, list[str]]:
    fields = [f"prev={message['prevLogIdx']}/{message['prevLogTerm']}", f"commit={message['commit_index']}"]
    entries = [
        entry_text(Command(kind, at_ms, data, bodies), index, term)
        for index, (term, kind, at_ms, data, bodies) in enumerate(message["entries"], message["prevLogIdx"] + 1)
    ]
    return "append", fields + [f"[{', '.join(entries)}]"] * bool(entries) + _round(message)


def _append_reply(message: dict[str, Any]) -> tuple[str, list[str]]:
    if message["success"]:
        fields = [f"match={message['match']}"]
    else:
        fields = [f"refused={message['rejected']} hint={message['hint']}/{message['hint_term']}"]
    return "append-reply", fields + _round(message)


def _timeout_now(_: dict[str, Any]) -> tuple[str, list[str]]:
    return "timeout-now", []


def _removed(message: dict[str, Any]) -> tuple[str, list[str]]:
    return "removed", [f"at={message['position']}"]


def _am_i_removed(_: dict[str, Any]) -> tuple[str, list[str]]:
    return "am-i-removed", []


def _round(message: dict[str, Any]) -> list[str]:
    return [f"round={message['round']}"] if message["round"] else []


_DESCRIBED = {
    "request_vote": _vote,
    "response_vote": _vote_reply,
    "append_entries": _append,
    "next_node_idx": _append_reply,
    "timeout_now": _timeout_now,
    "removed": _removed,
    "am_i_removed": _am_i_removed,
}


class Seen(NamedTuple):
    """A node at one moment."""

    role: str
    term: int
    vote: str | None
    leader: str | None
    commit: int
    members: str  # of the configuration in force
    log: tuple[str, ...]

    @classmethod
    def of(cls, engine: Engine) -> "Seen":
        raft, journal = engine.raft, engine.journal
        log = tuple(entry_text(*journal.entry(i)) for i in range(1, journal.last_index + 1))
        vote, members = journal.getVotedForNodeId(), members_text(raft.config.members)
        return cls(raft.role, raft.term, vote, raft.leader, raft.commit_index, members, log)

    def __str__(self) -> str:
        last = self.log[-1].split()[0] if self.log else "0/0"
        vote, leader = _shown(self.vote), _shown(self.leader)
        return f"{self.role} term={self.term} vote={vote} leader={leader} commit={self.commit} last={last}"

    def changes(self, before: "Seen") -> list[str]:
        """Lines that say what is different from before; none if nothing is."""
        fields = [
            f"{name} {_shown(was)} -> {_shown(now)}"
            for name, was, now in zip(self._fields[:-1], before[:-1], self[:-1])
            if was != now
        ]
        same = _common(before.log, self.log)
        lines = [", ".join(fields)] if fields else []
        lines += [f"log - {', '.join(before.log[same:])}"] * (same < len(before.log))
        return lines + [f"log + {', '.join(self.log[same:])}"] * (same < len(self.log))


def _shown(value: object) -> object:
    return "nobody" if value is None else value


def _common(left: tuple[str, ...], right: tuple[str, ...]) -> int:
    """How many entries two logs begin with alike."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(left, right)))
