"""What peers would send, made by hand, and what a node says: for tests of one engine at a time."""

from typing import Any

from eventlog.journal import KIND_RECORD
from eventlog.raft import Raft
from tests.eventlog import ledger
from tests.eventlog.engines import NOW_MS, Cell, Letter


def append_message(term: int, previous: int, previous_term: int, terms: list[int], commit: int = 0) -> dict[str, Any]:
    """What a leader would send."""
    data = ledger.encoded()
    return {
        "type": "append_entries",
        "term": term,
        "prevLogIdx": previous,
        "prevLogTerm": previous_term,
        "entries": [(t, KIND_RECORD, NOW_MS, data, ()) for t in terms],
        "commit_index": commit,
        "round": 0,
    }


def reply(term: int, match: int, **fields: Any) -> dict[str, Any]:
    """What a follower would answer."""
    return {"type": "next_node_idx", "term": term, "success": True, "match": match, "rejected": 0, "hint": 0,
            "hint_term": 0, "round": 0, "clock_ms": NOW_MS, "low_on_space": False, **fields}  # fmt: skip


def vote_request(term: int, index: int, log_term: int, *, pre: bool = False, transfer: bool = False) -> dict[str, Any]:
    return {"type": "request_vote", "term": term, "last_log_index": index, "last_log_term": log_term,
            "pre": pre, "transfer": transfer}  # fmt: skip


def vote(term: int, *, granted: bool = True, pre: bool = False) -> dict[str, Any]:
    return {"type": "response_vote", "term": term, "pre": pre, "granted": granted}


def answers(cell: Cell, name: str) -> list[dict[str, Any]]:
    """What a node has to say, ticked once."""
    cell.mail.clear()
    cell.tick(name)
    return [letter.message for letter in cell.mail if letter.source == name]


def appends(cell: Cell, target: str) -> list[Letter]:
    """The append-entries messages on their way to a node."""
    return [letter for letter in cell.mail if letter.type == "append_entries" and letter.target == target]


def entries(letter: Letter) -> int:
    return len(letter.message["entries"])


def candidate(cell: Cell, name: str, granted_by: list[str]) -> Raft:
    """A candidate whose vote requests are in the post; its pre-vote was granted by these."""
    cell.time_out(name)
    term = cell[name].term
    cell.mail.clear()
    for peer in granted_by:
        cell[name].receive(peer, vote(term + 1, pre=True), cell.now)
    assert cell[name].role == "candidate"
    return cell[name]
