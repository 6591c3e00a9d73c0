"""The hardened engine alone, its messages carried by hand: a test for each point of docs/ADR/0001-consensus.md."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pysyncobj
import pytest
from pysyncobj import SyncObj
from pysyncobj.node import Node

import eventlog.replication
from eventlog.errors import LogError
from eventlog.journal import KIND_NOOP, KIND_RECORD, Command
from eventlog.raft import ConsensusViolation, Raft
from tests.eventlog import ledger
from tests.eventlog.engines import NOW_MS, TIMING, Cell, Letter, cell

SOURCES = sorted((Path(__file__).resolve().parents[2] / "eventlog").glob("*.py"))


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Cell]:
    with cell(tmp_path) as made:
        yield made


@pytest.fixture
def five(tmp_path: Path) -> Iterator[Cell]:
    with cell(tmp_path, "n1", "n2", "n3", "n4", "n5") as made:
        yield made


def appends(cell: Cell, target: str) -> list[Letter]:
    return [letter for letter in cell.mail if letter.type == "append_entries" and letter.target == target]


def entries(letter: Letter) -> int:
    return len(letter.message["entries"])


def append_message(term: int, previous: int, previous_term: int, terms: list[int], commit: int = 0) -> dict[str, Any]:
    """What a leader would send, made by hand."""
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


def vote_request(term: int, index: int, log_term: int, *, pre: bool = False, transfer: bool = False) -> dict[str, Any]:
    return {"type": "request_vote", "term": term, "last_log_index": index, "last_log_term": log_term,
            "pre": pre, "transfer": transfer}  # fmt: skip


def answers(cell: Cell, name: str) -> list[dict[str, Any]]:
    """What a node has to say, ticked once."""
    cell.mail.clear()
    cell.tick(name)
    return [letter.message for letter in cell.mail if letter.source == name]


# -- the library underneath -------------------------------------------------------------------------------------------


def mangled_names() -> set[str]:
    """Every private name of the library that our sources use."""
    return {name for path in SOURCES for name in re.findall(r"_SyncObj__\w+", path.read_text())}


def test_the_private_names_that_we_use_still_exist_in_the_library(three: Cell) -> None:
    from importlib.metadata import version

    assert version("pysyncobj") == "0.3.17"
    library = Path(pysyncobj.__file__).with_name("syncobj.py").read_text()
    ours = {name.removeprefix("_SyncObj__") for name in mangled_names()}
    assert len(ours) > 15
    used = {name for name in ours if re.search(rf"\bself\.__{name}\b|def __{name}\b", library)}
    assert ours - used == set()


def test_the_private_methods_that_we_override_are_methods_of_the_library() -> None:
    ours = [cls for cls in Raft.__mro__ if cls.__module__.startswith("eventlog.")]
    overridden = {name for cls in ours for name in vars(cls) if name.startswith("_SyncObj__")}
    assert overridden
    assert all(callable(getattr(SyncObj, name)) for name in overridden)


def test_nothing_is_pickled() -> None:
    for path in SOURCES:
        tokens = tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
        names = {token.string for token in tokens if token.type == tokenize.NAME}
        assert not names & {"pickle", "cPickle", "marshal", "dill", "shelve", "eval", "exec"}, path


def test_messages_that_only_the_library_knows_are_ignored(three: Cell) -> None:
    three.elect("n1")
    before = three.logs()
    for type_ in ("apply_command", "apply_command_response", "status", "add", "remove", "unheard of", ""):
        message = {"type": type_, "command": b"\x00", "serialized": b"x", "transmission": "start", "data": b"x"}
        three[("n1")].receive("n2", message, three.now)
        three[("n2")].receive("n1", message, three.now)
    assert three.logs() == before


def test_messages_of_strangers_are_ignored(three: Cell) -> None:
    three.elect("n1")
    three["n2"].receive("n9", append_message(99, 0, 0, [99]), three.now)
    three["n2"].receive("n9", vote_request(99, 99, 99), three.now)
    assert three["n2"].term == 1


def test_no_utility_message_of_the_library_is_registered(three: Cell) -> None:
    assert three["n1"]._outbox._onUtilityMessageCallbacks == {}


def test_changes_of_membership_are_refused(three: Cell) -> None:
    leader = three.elect("n1")
    for change in (leader.addNodeToCluster, leader.removeNodeFromCluster):
        with pytest.raises(LogError, match="members"):
            change(Node("n4"))
    assert {node.id for node in leader.otherNodes} == {"n2", "n3"}


# -- 1: nothing is sent twice -----------------------------------------------------------------------------------------


def test_a_success_does_not_send_again_what_is_on_its_way(three: Cell) -> None:
    three.elect("n1")
    three.propose("n1")
    three.tick("n1")
    first = three.carry(lambda letter: letter.target == "n2")
    three.propose("n1", 2)
    three.tick("n1")
    on_its_way = [letter for letter in three.mail if letter.target == "n2"]
    three.mail.clear()
    three.tick("n2")
    three.carry(lambda letter: letter.source == "n2")  # acknowledges the first, while the others are on their way
    three.tick("n1")
    assert [entries(letter) for letter in first] == [1]
    assert sum(entries(letter) for letter in on_its_way) == 2
    assert sum(entries(letter) for letter in appends(three, "n2")) == 0
    assert three["n1"]._SyncObj__raftNextIndex[Node("n2")] == three.engines["n1"].journal.last_index + 1


def test_under_steady_load_every_entry_goes_to_each_follower_once(three: Cell) -> None:
    three.elect("n1")
    three.heartbeat()
    sent = 0
    for _ in range(30):
        three.propose("n1", 3)
        three.tick()
        sent += sum(entries(letter) for letter in appends(three, "n2"))
        three.carry()
    three.settle()
    assert sent <= 90
    assert len({tuple(log) for log in three.logs()}) == 1


# -- 2: a follower truncates only at a conflict -----------------------------------------------------------------------


def test_a_late_message_does_not_truncate_what_came_after_it(three: Cell) -> None:
    three.elect("n1")
    three.propose("n1")
    three.tick("n1")
    (late,) = appends(three, "n2")
    three.carry()
    three.propose("n1", 3)
    three.settle()
    before = three.engines["n2"].log()
    three.deliver(late)
    assert three.engines["n2"].log() == before
    three.deliver(late._replace(message={**late.message, "entries": []}))
    assert three.engines["n2"].log() == before


def test_a_conflicting_tail_is_replaced_from_the_conflict_on(three: Cell) -> None:
    three.engines["n2"].write(1, 1, 2, 2)
    three["n2"].restart(three.now)
    three["n2"].receive("n1", append_message(3, 1, 1, [1, 3]), three.now)
    assert three.engines["n2"].log() == [1, 1, 3]


def test_a_follower_acknowledges_only_what_the_message_verified(three: Cell) -> None:
    three.engines["n2"].write(1, 1, 2, 2)  # a tail that no leader knows
    three["n2"].restart(three.now)
    three["n2"].receive("n1", append_message(3, 1, 1, [1], commit=4), three.now)
    (answer,) = answers(three, "n2")
    assert (answer["success"], answer["match"]) == (True, 2)
    assert three["n2"].commit_index == 2


def test_an_empty_heartbeat_does_not_commit_an_unverified_tail(three: Cell) -> None:
    three.engines["n2"].write(1, 2, 2)
    three["n2"].restart(three.now)
    three["n2"].receive("n1", append_message(3, 1, 1, [], commit=3), three.now)
    assert three["n2"].commit_index == 1


def test_a_node_stops_rather_than_truncate_what_is_committed(three: Cell) -> None:
    three.elect("n1")
    three.propose("n1", 3)
    three.settle()
    three.heartbeat()
    assert three["n2"].commit_index == 4
    with pytest.raises(ConsensusViolation, match="committed"):
        three["n2"].receive("n3", append_message(9, 1, 1, [9]), three.now)
    assert three.engines["n2"].log() == [1, 1, 1, 1]


def test_the_commit_index_never_goes_back(three: Cell) -> None:
    three.elect("n1")
    three.propose("n1", 3)
    three.settle()
    three.heartbeat()
    three["n2"].receive("n1", append_message(1, 4, 1, [], commit=1), three.now)
    assert three["n2"].commit_index == 4


# -- 3: replies carry their term --------------------------------------------------------------------------------------


def reply(term: int, match: int, **fields: Any) -> dict[str, Any]:
    return {"type": "next_node_idx", "term": term, "success": True, "match": match, "rejected": 0, "hint": 0,
            "hint_term": 0, "round": 0, "clock_ms": NOW_MS, "low_on_space": False, **fields}  # fmt: skip


def test_a_reply_of_an_earlier_term_counts_for_nothing(three: Cell) -> None:
    three.engines["n1"].write(1, 1, 1)
    three["n1"].restart(three.now)
    leader = three.elect("n1", among=("n1", "n2"))
    leader._SyncObj__raftMatchIndex[Node("n3")] = 0
    leader.receive("n3", reply(1, 4), three.now)
    assert leader._SyncObj__raftMatchIndex[Node("n3")] == 0


def test_a_reply_of_a_higher_term_makes_the_leader_step_down(three: Cell) -> None:
    leader = three.elect("n1")
    leader.receive("n2", reply(7, 0, success=False), three.now)
    assert (leader.role, leader.term, leader.leader) == ("follower", 7, None)


def test_a_stale_append_is_answered_with_the_higher_term(three: Cell) -> None:
    three.elect("n2", among=("n2", "n3"))
    three["n3"].receive("n1", append_message(0, 0, 0, []), three.now)
    (answer,) = [m for m in answers(three, "n3") if m["type"] == "next_node_idx"]
    assert (answer["success"], answer["term"]) == (False, three["n3"].term)


def test_an_acknowledgement_beyond_the_leaders_log_stops_the_leader(three: Cell) -> None:
    leader = three.elect("n1")
    with pytest.raises(ConsensusViolation, match="beyond"):
        leader.receive("n2", reply(1, 50), three.now)


def test_a_late_acknowledgement_does_not_lower_anything(three: Cell) -> None:
    leader = three.elect("n1")
    three.propose("n1", 5)
    three.settle()
    leader.receive("n2", reply(1, 2), three.now)
    assert leader._SyncObj__raftMatchIndex[Node("n2")] == 6
    assert leader._SyncObj__raftNextIndex[Node("n2")] == 7


def test_a_stale_leader_steps_down_when_it_meets_the_new_one(three: Cell) -> None:
    three.elect("n1")
    three.pass_time(TIMING.election_max_s)
    three.elect("n2", among=("n2", "n3"))
    assert three["n1"].is_leader
    three["n1"].receive("n2", append_message(three["n2"].term, 0, 0, []), three.now)
    assert (three["n1"].role, three["n1"].term, three["n1"].leader) == ("follower", three["n2"].term, "n2")


def test_two_leaders_of_one_term_stop_the_one_that_learns_of_it(three: Cell) -> None:
    leader = three.elect("n1")
    with pytest.raises(ConsensusViolation, match="so does this node"):
        leader.receive("n2", append_message(leader.term, 0, 0, []), three.now)


def test_a_leader_without_a_majority_steps_down_in_time(three: Cell) -> None:
    leader = three.elect("n1")
    three.pass_time(TIMING.fallback_s - 0.1)
    three.tick("n1")
    assert leader.is_leader
    three.pass_time(0.2)
    three.tick("n1")
    assert (leader.role, leader.leader) == ("follower", None)


def test_a_leader_that_hears_one_of_two_peers_goes_on(three: Cell) -> None:
    leader = three.elect("n1")
    for _ in range(40):
        three.heartbeat(among=("n1", "n2"))
    assert leader.is_leader
    assert three["n2"].leader == "n1"


def test_a_node_that_was_paused_comes_back_as_a_follower(three: Cell) -> None:
    three.elect("n1")
    three.propose("n1", 2)
    three.pass_time(TIMING.election_max_s)
    three.elect("n2", among=("n2", "n3"))
    three.propose("n2")
    three.settle(among=("n2", "n3"))
    three.tick("n1")  # n1 goes on where it was paused, and still thinks that it leads
    three.heartbeat()
    three.heartbeat()
    assert three["n1"].leader == "n2"
    assert len({tuple(log) for log in three.logs()}) == 1


# -- 4: votes are collected -------------------------------------------------------------------------------------------


def candidate(cell: Cell, name: str, granted_by: list[str]) -> Raft:
    """A candidate whose vote requests are in the post; its pre-vote was granted by these."""
    cell.time_out(name)
    term = cell[name].term
    cell.mail.clear()
    for peer in granted_by:
        cell[name].receive(peer, {"type": "response_vote", "term": term + 1, "pre": True, "granted": True}, cell.now)
    assert cell[name].role == "candidate"
    return cell[name]


def vote(term: int, *, granted: bool = True) -> dict[str, Any]:
    return {"type": "response_vote", "term": term, "pre": False, "granted": granted}


def test_a_duplicated_vote_is_one_vote(five: Cell) -> None:
    raft = candidate(five, "n1", ["n2", "n3"])
    for _ in range(5):
        raft.receive("n2", vote(raft.term), five.now)
    assert raft.role == "candidate"
    raft.receive("n3", vote(raft.term), five.now)
    assert raft.is_leader


def test_a_duplicated_pre_vote_is_one_pre_vote(five: Cell) -> None:
    five.time_out("n1")
    for _ in range(5):
        five["n1"].receive("n2", {"type": "response_vote", "term": 1, "pre": True, "granted": True}, five.now)
    assert (five["n1"].role, five["n1"].term) == ("follower", 0)


def test_a_vote_of_an_earlier_term_or_a_refusal_counts_for_nothing(three: Cell) -> None:
    raft = candidate(three, "n1", ["n2"])
    raft.receive("n2", vote(raft.term - 1), three.now)
    raft.receive("n2", vote(raft.term, granted=False), three.now)
    raft.receive("n9", vote(raft.term), three.now)
    assert raft.role == "candidate"


def test_a_node_votes_once_in_a_term_even_across_a_restart(three: Cell) -> None:
    three["n1"].receive("n2", vote_request(5, 0, 0), three.now)
    assert answers(three, "n1") == [vote(5)]
    three.restart("n1")
    three["n1"].receive("n3", vote_request(5, 9, 4), three.now)
    assert answers(three, "n1") == [vote(5, granted=False)]
    three["n1"].receive("n2", vote_request(5, 0, 0), three.now)
    assert answers(three, "n1") == [vote(5)]


def test_a_candidate_votes_for_nobody_else_in_its_term(three: Cell) -> None:
    raft = candidate(three, "n1", ["n2"])
    raft.receive("n3", vote_request(raft.term, 99, 99), three.now)
    assert answers(three, "n1")[-1] == vote(raft.term, granted=False)


@pytest.mark.parametrize(
    ("index", "log_term", "granted"),
    [(3, 2, True), (4, 2, True), (1, 3, True), (2, 2, False), (9, 1, False), (0, 0, False)],
)
def test_a_vote_goes_only_to_a_log_at_least_as_good(three: Cell, index: int, log_term: int, granted: bool) -> None:
    three.engines["n1"].write(1, 2, 2)
    three["n1"].restart(three.now)
    three["n1"].receive("n2", vote_request(9, index, log_term), three.now)
    assert answers(three, "n1") == [vote(9, granted=granted)]


def test_the_term_never_goes_back_across_a_restart(three: Cell) -> None:
    three["n1"].receive("n2", vote_request(5, 0, 0), three.now)
    three.tick("n1")
    three.restart("n1")
    assert three["n1"].term == 5


# -- 5: nothing leaves before it is durable (the writer's part: test_writer.py) ---------------------------------------


def test_what_a_node_says_waits_until_it_is_taken(three: Cell) -> None:
    raft = three["n1"]
    raft.receive("n2", vote_request(5, 0, 0), three.now)
    assert three.engines["n1"].store.dirty
    assert raft._outbox.messages
    three.engines["n1"].store.abort()
    three.engines["n1"].journal.reload()
    raft.restart(three.now)  # the tick could not be written: it never happened
    assert raft.take_outbox() == []
    assert raft.term == 0


# -- 6: pre-vote, stickiness, transfer --------------------------------------------------------------------------------


def test_an_election_asks_first_and_raises_the_term_only_when_it_would_win(three: Cell) -> None:
    three.time_out("n1")
    assert {letter.message["pre"] for letter in three.mail} == {True}
    assert (three["n1"].term, three["n1"].role) == (0, "follower")
    three.carry()
    three.tick()
    assert (three["n2"].term, three["n3"].term) == (0, 0)
    three.carry()
    assert (three["n1"].term, three["n1"].role) == (1, "candidate")
    three.settle()
    assert three["n1"].is_leader


def test_a_node_cut_off_does_not_raise_its_term_however_often_it_times_out(three: Cell) -> None:
    three.elect("n1")
    for _ in range(10):
        three.time_out("n3")
        three.mail.clear()
    assert three["n3"].term == 1


def test_a_node_back_from_a_partition_does_not_depose_a_healthy_leader(three: Cell) -> None:
    leader = three.elect("n1")
    for _ in range(20):
        three.heartbeat(among=("n1", "n2"))
    for _ in range(3):
        three.time_out("n3")
        three.heartbeat(among=("n1", "n2"))
    three.time_out("n3")
    three.carry()
    three.settle()
    assert (leader.is_leader, leader.term) == (True, 1)
    three.heartbeat()
    assert three["n3"].leader == "n1"


def test_a_node_that_hears_a_leader_neither_votes_nor_adopts_a_term(three: Cell) -> None:
    three.elect("n1")
    for pre in (True, False):
        three["n2"].receive("n3", vote_request(50, 99, 99, pre=pre), three.now)
        three["n1"].receive("n3", vote_request(50, 99, 99, pre=pre), three.now)
    assert [three[name].term for name in ("n1", "n2")] == [1, 1]
    assert [m for m in answers(three, "n2") if m["type"] == "response_vote"] == []


def test_a_node_that_has_heard_nothing_for_a_while_votes_again(three: Cell) -> None:
    three.elect("n1")
    three.pass_time(TIMING.election_min_s)
    three["n2"].receive("n3", vote_request(2, 99, 1), three.now)
    assert vote(2) in answers(three, "n2")


def test_a_pre_vote_is_no_vote(three: Cell) -> None:
    three["n1"].receive("n2", vote_request(1, 0, 0, pre=True), three.now)
    three["n1"].receive("n3", vote_request(1, 0, 0), three.now)
    said = answers(three, "n1")
    assert [(m["pre"], m["granted"]) for m in said] == [(True, True), (False, True)]


def test_a_pre_vote_refused_for_a_higher_term_brings_the_term_along(three: Cell) -> None:
    three.engines["n2"].write(8)
    three["n2"].restart(three.now)
    three.time_out("n1")
    three.carry()
    three.tick("n2", "n3")
    three.carry()
    assert three["n1"].term == 8
    three.pass_time(3)
    three.time_out("n2")
    three.settle()
    assert three["n2"].is_leader


def test_leadership_passes_on_at_once_when_it_is_transferred(three: Cell) -> None:
    leader = three.elect("n1")
    three.propose("n1", 2)
    three.settle()
    leader.transferLeadership(Node("n3"))
    three.settle()
    assert (three["n3"].is_leader, three["n3"].term) == (True, 2)
    three.heartbeat()
    assert [three[name].leader for name in ("n1", "n2")] == ["n3", "n3"]


def test_leadership_is_not_passed_to_a_node_that_lags(three: Cell) -> None:
    leader = three.elect("n1")
    three.propose("n1", 2)
    three.settle(among=("n1", "n2"))
    leader.transferLeadership(Node("n3"))
    three.settle(among=("n1", "n2", "n3"), rounds=1)
    assert not any(letter.type == "timeout_now" for letter in three.mail)


def test_only_the_leader_can_ask_for_an_election(three: Cell) -> None:
    three.elect("n1")
    three["n2"].receive("n3", {"type": "timeout_now", "term": 99}, three.now)
    assert (three["n2"].role, three["n2"].term) == ("follower", 1)
    three["n2"].receive("n1", {"type": "timeout_now", "term": 0}, three.now)
    assert (three["n2"].role, three["n2"].term) == ("follower", 1)


def clocks(cell: Cell, **off_ms: int) -> None:
    for name, off in off_ms.items():
        cell.engines[name].clock_off_ms = off


def test_a_leader_whose_clock_is_wrong_hands_over(three: Cell) -> None:
    leader = three.elect("n1")
    clocks(three, n1=60_000)
    for _ in range(4):
        three.heartbeat()
    assert leader.role == "follower"
    assert sum(three[name].is_leader for name in ("n2", "n3")) == 1


def test_a_follower_whose_clock_is_wrong_does_not_unseat_the_leader(three: Cell) -> None:
    leader = three.elect("n1")
    clocks(three, n3=60_000)
    for _ in range(10):
        three.heartbeat()
    assert (leader.is_leader, leader.term, leader.clock_is_off) == (True, 1, False)


def test_a_leader_low_on_space_hands_over_to_a_node_with_room(three: Cell) -> None:
    three.elect("n1")
    three["n1"].low_on_space = three["n2"].low_on_space = True
    for _ in range(6):
        three.heartbeat()
    assert [name for name in ("n1", "n2", "n3") if three[name].is_leader] == ["n3"]


def test_leadership_does_not_go_round_when_no_node_has_room(three: Cell) -> None:
    three.elect("n1")
    for name in ("n2", "n3", "n1"):
        three[name].low_on_space = True
        three.heartbeat()  # in which it says so
    for _ in range(6):
        three.heartbeat()
    assert (three["n1"].is_leader, three["n1"].term) == (True, 1)


@pytest.mark.parametrize("term", [-1, (1 << 64) - 1, 1 << 40, "7", None, 1.5])
@pytest.mark.parametrize("kind", ["response_vote", "append_entries", "next_node_idx", "request_vote", "timeout_now"])
def test_a_term_that_can_not_be_is_not_adopted(three: Cell, kind: str, term: object) -> None:
    three.elect("n1")
    with pytest.raises(ValueError, match="can not be"):
        three["n1"].receive("n2", {"type": kind, "term": term, "pre": False, "granted": False}, three.now)
    assert (three["n1"].is_leader, three["n1"].term) == (True, 1)


def test_the_first_entry_of_a_leader_whose_clock_is_wrong_does_not_move_the_logs_time(three: Cell) -> None:
    three.elect("n1")
    before = three.engines["n2"].journal.last_at_ms
    clocks(three, n2=3_600_000)
    three.elect("n2", among=("n2", "n3"))
    assert three.engines["n2"].journal.last_at_ms == before


# -- 9: the journal is read lazily ------------------------------------------------------------------------------------


def test_a_restart_reads_no_entries(three: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    three.elect("n1")
    three.propose("n1", 50)
    three.settle()
    read: list[int] = []
    monkeypatch.setattr(type(three.engines["n1"].journal), "_value", lambda self, index: read.append(index))
    three.restart("n1")
    assert (read, three["n1"].commit_index, three.engines["n1"].journal.last_index) == ([], 51, 51)


def test_a_message_holds_no_more_than_its_byte_limit(three: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eventlog.replication, "MAX_MESSAGE_BYTES", 2000)
    three.elect("n1")
    three.propose("n1", 100)
    three.tick("n1")
    sizes = [sum(len(data) for _, _, _, data, _ in letter.message["entries"]) for letter in appends(three, "n2")]
    assert len(sizes) > 5
    assert max(sizes) <= 2000


# -- 10: flow control and conflict hints ------------------------------------------------------------------------------


def test_no_more_than_the_limit_is_on_its_way_to_a_peer(three: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eventlog.replication, "MAX_MESSAGE_BYTES", 2000)
    monkeypatch.setattr(eventlog.replication, "MAX_IN_FLIGHT_BYTES", 5000)
    three.elect("n1")
    three.propose("n1", 200)
    for _ in range(5):
        three.tick("n1")
    waiting = sum(len(row[3]) for letter in appends(three, "n2") for row in letter.message["entries"])
    assert waiting < 5000 + 2000
    three.settle(rounds=200)
    assert three.logs()[1] == three.logs()[0]
    assert len(three.logs()[0]) == 201


def test_a_long_conflict_is_found_in_a_round_trip_for_each_term(three: Cell) -> None:
    three.engines["n1"].write(*[1] * 3, *[4] * 50, 9)
    three.engines["n2"].write(*[1] * 3, *[2] * 60, *[3] * 60)
    for name in ("n1", "n2"):
        three[name].restart(three.now)
    three.engines["n3"].write(*[1] * 3, *[4] * 50, 9)
    three["n3"].restart(three.now)
    three.elect("n1", among=("n1", "n3"))
    trips = 0
    while three.engines["n2"].log() != three.engines["n1"].log():
        three.pass_time(TIMING.heartbeat_s + 0.001)
        three.tick("n1")
        three.carry()
        three.tick("n2")
        three.carry()
        trips += 1
        assert trips < 6


def test_a_follower_that_lacks_entries_says_where_its_log_ends(three: Cell) -> None:
    three.engines["n2"].write(1, 1)
    three["n2"].restart(three.now)
    three["n2"].receive("n1", append_message(3, 40, 2, []), three.now)
    (answer,) = answers(three, "n2")
    assert (answer["success"], answer["rejected"], answer["hint"], answer["hint_term"]) == (False, 40, 2, 1)


def test_lost_messages_are_sent_again_after_the_next_heartbeat(three: Cell) -> None:
    three.elect("n1")
    three.propose("n1")
    three.settle()
    three.propose("n1", 5)
    three.tick("n1")
    three.mail.clear()  # all of it is lost
    three.heartbeat()
    three.heartbeat()
    assert three.logs()[1] == three.logs()[0]
    assert three["n1"].commit_index == 7


def test_a_lost_acknowledgement_does_not_hold_the_commit_up(three: Cell) -> None:
    three.elect("n1")
    three.propose("n1", 3)
    three.tick("n1")
    three.carry()
    three.tick("n2", "n3")
    three.mail.clear()
    three.heartbeat()
    assert three["n1"].commit_index == 4


def test_a_late_refusal_does_not_send_everything_again(three: Cell) -> None:
    leader = three.elect("n1")
    three.propose("n1", 5)
    three.settle()
    three.heartbeat()
    leader.receive("n2", reply(1, 0, success=False, rejected=3, hint=0), three.now)
    assert leader._SyncObj__raftNextIndex[Node("n2")] == 7


def test_a_connection_made_again_starts_with_what_is_known_to_match(three: Cell) -> None:
    leader = three.elect("n1")
    three.propose("n1", 2)
    three.settle()
    three.propose("n1", 2)
    three.tick("n1")
    three.mail.clear()
    leader.disconnected("n2")
    three.tick("n1")
    assert appends(three, "n2") == []
    leader.connected("n2", three.now)
    three.tick("n1")
    assert [entries(letter) for letter in appends(three, "n2")] == [2]


def test_commit_news_goes_out_at_once_and_not_with_the_next_heartbeat(three: Cell) -> None:
    three.elect("n1")
    three.heartbeat()
    index = three.propose("n1")
    three.settle()  # no time passes
    assert [three[name].commit_index for name in ("n1", "n2", "n3")] == [index] * 3


def test_commit_news_waits_for_the_answer_to_a_probe(three: Cell) -> None:
    three.elect("n1")
    three.heartbeat()
    three.propose("n1")
    three.tick("n1")
    three.carry(lambda letter: letter.target == "n3")  # n2 lacks it
    index = three.propose("n1")
    three.tick("n1")
    three.carry(lambda letter: letter.target == "n2")
    three.tick("n2")
    three.carry()  # refused
    three.tick("n1")
    probe = list(three.mail)
    three["n1"].receive("n3", reply(1, index), three.now)
    three.tick("n1")  # committed, while the probe is on its way
    assert three["n1"].commit_index == index
    assert [letter for letter in appends(three, "n2") if letter not in probe] == []
    three.settle()  # no time passes
    assert three["n2"].commit_index == index


# -- 5.4.2: figure 8 --------------------------------------------------------------------------------------------------


def test_an_entry_of_an_earlier_term_is_not_committed_by_counting(five: Cell) -> None:
    """Figure 8 of the paper: n1 led in term 2, n5 in 3; n1 leads again and its old entry reaches a majority."""
    for name, log in {"n1": [1, 2], "n2": [1, 2], "n3": [1], "n4": [1], "n5": [1, 3]}.items():
        five.engines[name].write(*log)
        five.engines[name].journal.setCurrentTerm(3, None)
        five.engines[name].store.commit()
        five.engines[name].journal.reload()
        five[name].restart(five.now)
    five.pass_time(2)
    five.time_out("n1")
    five.carry(lambda letter: letter.target in ("n2", "n3"))
    five.tick("n2", "n3")
    five.carry()
    five.tick("n1")
    five.carry(lambda letter: letter.target in ("n2", "n3"))
    five.tick("n2", "n3")
    five.carry()
    leader = five["n1"]
    assert leader.is_leader
    assert leader.term == 4
    leader.receive("n2", reply(4, 2), five.now)
    leader.receive("n3", reply(4, 2), five.now)
    leader.tick(five.now, NOW_MS)
    assert leader.commit_index == 0  # the entry of term 2 is on three of five, and may still be overwritten
    leader.receive("n2", reply(4, 3), five.now)
    leader.receive("n3", reply(4, 3), five.now)
    leader.tick(five.now, NOW_MS)
    assert leader.commit_index == 3  # with the no-op of term 4 on them, it can not


def test_a_minority_does_not_commit(five: Cell) -> None:
    leader = five.elect("n1")
    five.heartbeat()
    before = leader.commit_index
    five.propose("n1", 3)
    five.settle(among=("n1", "n2"))
    assert leader.commit_index == before
    five.heartbeat(among=("n1", "n2", "n3"))
    assert leader.commit_index == before + 3


# -- 11: reads --------------------------------------------------------------------------------------------------------


def test_a_read_waits_for_a_majority_to_answer_a_round_begun_after_it(three: Cell) -> None:
    leader = three.elect("n1")
    index = three.propose("n1")
    three.settle()
    leader.read("", b"token")
    three.tick("n1")
    assert leader.reads_done == []
    three.carry(lambda letter: letter.target == "n2")
    three.tick("n2")
    three.carry()
    assert [(read.token, at) for read, at in leader.reads_done] == [(b"token", index)]


def test_a_round_that_was_begun_before_the_read_does_not_serve_it(three: Cell) -> None:
    leader = three.elect("n1")
    three.settle()
    leader.read("", b"first")
    three.tick("n1")
    early = list(three.mail)
    leader.read("", b"second")
    three.mail.clear()
    for letter in early:
        three.deliver(letter)
    three.tick("n2", "n3")
    three.carry()
    assert [read.token for read, _ in leader.reads_done] == [b"first"]


def test_a_new_leader_serves_no_read_before_its_own_entry_is_committed(three: Cell) -> None:
    three.elect("n1")
    three.propose("n1", 2)
    three.settle()
    three.time_out("n2")
    for name in ("n3", "n2", "n3"):
        three.carry(lambda letter: letter.target != "n1")
        three.tick(name)
    three.carry()
    leader = three["n2"]
    assert leader.is_leader
    assert not leader.can_serve_reads
    leader.read("", b"token")
    three.tick("n2")
    assert leader.reads_done == []
    three.settle(among=("n2", "n3"))
    assert [at for _, at in leader.reads_done] == [4]


def test_reads_fail_when_leadership_is_lost(three: Cell) -> None:
    leader = three.elect("n1")
    three.settle()
    leader.read("", b"sent")
    three.tick("n1")
    leader.read("n2", b"waiting")
    leader.receive("n2", reply(9, 0, success=False), three.now)
    assert {read.token for read in leader.reads_failed} == {b"sent", b"waiting"}
    assert leader.reads_done == []


def test_a_follower_refuses_reads(three: Cell) -> None:
    three.elect("n1")
    three["n2"].read("n3", b"token")
    assert [read.token for read in three["n2"].reads_failed] == [b"token"]


def test_a_deposed_leader_that_does_not_know_it_serves_no_read(three: Cell) -> None:
    old = three.elect("n1")
    three.settle()
    three.pass_time(TIMING.election_max_s)
    three.elect("n2", among=("n2", "n3"))
    old.read("", b"token")
    three.tick("n1")
    three.carry()
    three.tick("n2", "n3")
    three.carry()
    assert (old.is_leader, old.reads_done) == (False, [])
    assert [read.token for read in old.reads_failed] == [b"token"]


def test_a_single_node_leads_and_commits_at_once(tmp_path: Path) -> None:
    with cell(tmp_path, "n1") as one:
        one.tick("n1")
        assert one["n1"].is_leader
        index = one.propose("n1", 3)
        one["n1"].read("", b"token")
        one.tick("n1")
        assert one["n1"].commit_index == index == 4
        assert [at for _, at in one["n1"].reads_done] == [4]


# -- 12: one seed, one run --------------------------------------------------------------------------------------------


def test_peers_are_served_in_the_order_of_their_names(five: Cell) -> None:
    leader = five.elect("n3")
    five.propose("n3")
    five.tick("n3")
    targets = [letter.target for letter in five.mail]
    assert targets == sorted(targets) == ["n1", "n2", "n4", "n5"]
    assert leader.is_leader


def test_entries_that_change_the_librarys_version_are_not_made(three: Cell) -> None:
    three.elect("n1")
    three.propose("n1", 3)
    three.settle()
    kinds = {three.engines["n2"].journal.entry(i)[0].kind for i in range(1, 5)}
    assert kinds == {KIND_NOOP, KIND_RECORD}
    assert isinstance(three.engines["n2"].journal.entry(2)[0], Command)
