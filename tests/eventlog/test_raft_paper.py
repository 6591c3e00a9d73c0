"""One test for each claim of the extended Raft paper that applies to us, named by the claim.

Figures and sections are those of "In Search of an Understandable Consensus Algorithm (Extended Version)". The engine is
the one that runs, its messages carried by hand. Claims of the thesis are in test_raft_thesis.py, what our engine adds
in test_raft.py, golden traces in scripts/, figure 3 under many more faults in test_simulation.py. What the paper tells
of clients is above the engine: a command sent twice takes effect once (test_fold.py), and is answered when it is folded
(test_writer.py).
"""

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pysyncobj.node import Node

from eventlog.journal import KIND_NOOP
from eventlog.raft import Timing
from tests.eventlog.engines import NOW_MS, TIMING, Cell, cell
from tests.eventlog.messages import answers, append_message, appends, candidate, entries, reply, vote, vote_request

FIVE = ("n1", "n2", "n3", "n4", "n5")
FIGURE_7 = {  # the terms of the entries of a leader of term 8 and of the followers that it may meet
    "leader": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6],
    "a": [1, 1, 1, 4, 4, 5, 5, 6, 6],
    "b": [1, 1, 1, 4],
    "c": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
    "d": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
    "e": [1, 1, 1, 4, 4, 4, 4],
    "f": [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
}


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Cell]:
    with cell(tmp_path) as made:
        yield made


@pytest.fixture
def five(tmp_path: Path) -> Iterator[Cell]:
    with cell(tmp_path, *FIVE) as made:
        yield made


def earlier(cell: Cell, **logs: list[int]) -> None:
    """Gives nodes the logs of an earlier life."""
    for name, terms in logs.items():
        cell.engines[name].write(*terms, fact="")
        cell[name].restart(cell.now)


def leader_of_figure_7(cell: Cell, *voters: str) -> None:
    """Has n1 elected in term 8 by these, with the log of figure 7's leader."""
    earlier(cell, n1=FIGURE_7["leader"])
    cell.engines["n1"].journal.setCurrentTerm(7, None)
    cell["n1"].restart(cell.now)
    lead_with(cell, "n1", *voters)
    assert cell["n1"].term == 8


def in_role(cell: Cell, role: str) -> None:
    """Makes n1 this."""
    if role == "leader":
        cell.elect("n1")
    elif role == "candidate":
        candidate(cell, "n1", ["n2"])
    cell.mail.clear()
    assert cell["n1"].role == role


def lead_with(cell: Cell, name: str, *voters: str) -> None:
    """Has a node elected by these, and its first entry go nowhere yet."""
    raft = candidate(cell, name, list(voters))
    for peer in voters:
        raft.receive(peer, vote(raft.term), cell.now)
    assert raft.is_leader


# -- figure 2: state --------------------------------------------------------------------------------------------------


def test_term_commit_index_and_log_are_initialized_to_zero_on_first_boot(three: Cell) -> None:
    """Figure 2, persistent and volatile state."""
    raft = three["n1"]
    assert (raft.term, raft.commit_index, three.engines["n1"].log()) == (0, 0, [])
    assert three.engines["n1"].journal.getVotedForNodeId() is None


def test_the_current_term_is_persistent(three: Cell) -> None:
    """Figure 2, currentTerm."""
    three["n1"].receive("n2", vote_request(5, 0, 0), three.now)
    three.tick("n1")
    three.restart("n1")
    assert three["n1"].term == 5


def test_the_log_is_persistent(three: Cell) -> None:
    """Figure 2, log[]."""
    three["n1"].receive("n2", append_message(1, 0, 0, [1, 1]), three.now)
    three.tick("n1")
    three.restart("n1")
    assert three.engines["n1"].log() == [1, 1]


def test_the_commit_index_increases_monotonically(three: Cell) -> None:
    """Figure 2, commitIndex."""
    three.elect("n1")
    three.propose("n1", 3)
    three.settle()
    three.heartbeat()
    three["n2"].receive("n1", append_message(1, 4, 1, [], commit=1), three.now)
    assert three["n2"].commit_index == 4


def test_a_new_leader_takes_next_index_to_be_after_its_log_and_match_index_to_be_zero(three: Cell) -> None:
    """Figure 2, volatile state on leaders: reinitialized after election."""
    earlier(three, n1=[1, 1])
    lead_with(three, "n1", "n2")
    for peer in ("n2", "n3"):
        assert three["n1"]._SyncObj__raftNextIndex[Node(peer)] == 3
        assert three["n1"]._SyncObj__raftMatchIndex[Node(peer)] == 0


# -- figure 2: AppendEntries, the receiver ----------------------------------------------------------------------------


def test_a_stale_append_is_refused_with_the_higher_term(three: Cell) -> None:
    """Figure 2, AppendEntries 1: reply false if term < currentTerm."""
    three.elect("n2", among=("n2", "n3"))
    three["n3"].receive("n1", append_message(0, 0, 0, []), three.now)
    (answer,) = [m for m in answers(three, "n3") if m["type"] == "next_node_idx"]
    assert (answer["success"], answer["term"]) == (False, three["n3"].term)


@pytest.mark.parametrize(
    ("previous", "term", "accepted"),
    [(0, 0, True), (1, 1, True), (2, 2, True), (1, 2, False), (2, 1, False), (3, 2, False), (9, 9, False)],
)
def test_an_append_is_refused_unless_the_entry_before_it_matches(
    three: Cell, previous: int, term: int, accepted: bool
) -> None:
    """Figure 2, AppendEntries 2; section 5.3, the consistency check."""
    earlier(three, n2=[1, 2])
    three["n2"].receive("n1", append_message(3, previous, term, []), three.now)
    (answer,) = answers(three, "n2")
    assert answer["success"] is accepted
    assert three.engines["n2"].log() == [1, 2]


def test_a_conflicting_entry_and_all_that_follow_it_are_deleted(three: Cell) -> None:
    """Figure 2, AppendEntries 3."""
    three.engines["n2"].write(1, 1, 2, 2)
    three["n2"].restart(three.now)
    three["n2"].receive("n1", append_message(3, 1, 1, [1, 3]), three.now)
    assert three.engines["n2"].log() == [1, 1, 3]


def test_entries_that_follow_what_a_late_append_holds_are_kept(three: Cell) -> None:
    """Figure 2, AppendEntries 3 and 4: delete only if an existing entry conflicts."""
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


def test_entries_not_already_in_the_log_are_appended(three: Cell) -> None:
    """Figure 2, AppendEntries 4."""
    earlier(three, n2=[1, 2])
    three["n2"].receive("n1", append_message(3, 1, 1, [2, 3, 3]), three.now)
    assert three.engines["n2"].log() == [1, 2, 3, 3]


def test_the_commit_index_is_at_most_that_of_the_last_new_entry(three: Cell) -> None:
    """Figure 2, AppendEntries 5: min(leaderCommit, index of last new entry)."""
    three.engines["n2"].write(1, 1, 2, 2)  # a tail that no leader knows
    three["n2"].restart(three.now)
    three["n2"].receive("n1", append_message(3, 1, 1, [1], commit=4), three.now)
    (answer,) = answers(three, "n2")
    assert (answer["success"], answer["match"]) == (True, 2)
    assert three["n2"].commit_index == 2


def test_a_heartbeat_does_not_commit_a_tail_that_it_has_not_verified(three: Cell) -> None:
    """Figure 2, AppendEntries 5."""
    three.engines["n2"].write(1, 2, 2)
    three["n2"].restart(three.now)
    three["n2"].receive("n1", append_message(3, 1, 1, [], commit=3), three.now)
    assert three["n2"].commit_index == 1


# -- figure 2: RequestVote, the receiver ------------------------------------------------------------------------------


def test_a_vote_request_of_an_earlier_term_is_refused(three: Cell) -> None:
    """Figure 2, RequestVote 1: reply false if term < currentTerm."""
    earlier(three, n1=[5])
    three["n1"].receive("n2", vote_request(4, 9, 9), three.now)
    assert answers(three, "n1") == [vote(5, granted=False)]


def test_a_server_votes_for_at_most_one_candidate_in_a_term(three: Cell) -> None:
    """Figure 2, RequestVote 2 and votedFor; section 5.2: first come, first served, also across a restart."""
    three["n1"].receive("n2", vote_request(5, 0, 0), three.now)
    assert answers(three, "n1") == [vote(5)]
    three.restart("n1")
    three["n1"].receive("n3", vote_request(5, 9, 4), three.now)
    assert answers(three, "n1") == [vote(5, granted=False)]
    three["n1"].receive("n2", vote_request(5, 0, 0), three.now)
    assert answers(three, "n1") == [vote(5)]


@pytest.mark.parametrize(
    ("index", "log_term", "granted"),
    [(3, 2, True), (4, 2, True), (1, 3, True), (2, 2, False), (9, 1, False), (0, 0, False)],
)
def test_a_vote_goes_only_to_a_log_at_least_as_up_to_date(
    three: Cell, index: int, log_term: int, granted: bool
) -> None:
    """Figure 2, RequestVote 2; section 5.4.1: later last term, or the longer log of one term."""
    three.engines["n1"].write(1, 2, 2)
    three["n1"].restart(three.now)
    three["n1"].receive("n2", vote_request(9, index, log_term), three.now)
    assert answers(three, "n1") == [vote(9, granted=granted)]


# -- figure 2: rules for all servers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["follower", "candidate", "leader"])
@pytest.mark.parametrize(
    "message",
    [
        append_message(9, 0, 0, []),
        reply(9, 0, success=False),
        vote_request(9, 0, 0, transfer=True),  # without it, a server that hears a leader disregards it: section 6
        vote(9, granted=False),
    ],
    ids=lambda message: str(message["type"]),
)
def test_a_request_or_response_of_a_higher_term_makes_any_server_a_follower(
    three: Cell, role: str, message: dict[str, Any]
) -> None:
    """Figure 2, rules for all servers; section 5.1."""
    in_role(three, role)
    three["n1"].receive("n2", message, three.now)
    assert (three["n1"].role, three["n1"].term) == ("follower", 9)


def test_a_leader_that_meets_a_higher_term_knows_no_leader(three: Cell) -> None:
    """Section 5.1."""
    leader = three.elect("n1")
    leader.receive("n2", reply(7, 0, success=False), three.now)
    assert (leader.role, leader.term, leader.leader) == ("follower", 7, None)


def test_a_candidate_that_meets_a_higher_term_becomes_a_follower(three: Cell) -> None:
    """Section 5.1: a refusal carries the term of who refuses."""
    earlier(three, n2=[7])
    candidate(three, "n1", ["n3"])
    three["n2"].receive("n1", vote_request(three["n1"].term, 0, 0), three.now)
    three.tick("n2")
    three.carry()
    assert (three["n1"].role, three["n1"].term) == ("follower", 7)


def test_every_message_carries_the_senders_term(three: Cell) -> None:
    """Section 5.1: current terms are exchanged whenever servers communicate."""
    seen = set()
    three.time_out("n1")
    for _ in range(10):
        for letter in three.mail:
            seen.add(letter.type)
            assert letter.message["term"] in (three[letter.source].term, three[letter.source].term + 1)
        three.carry()
        three.tick()
    assert seen == {"request_vote", "response_vote", "append_entries", "next_node_idx"}


# -- figure 2: rules for followers ------------------------------------------------------------------------------------


def test_servers_start_up_as_followers(three: Cell) -> None:
    """Section 5.2."""
    assert [three[name].role for name in three.engines] == ["follower"] * 3
    three.elect("n1")
    three.restart("n1")
    assert three["n1"].role == "follower"


def test_a_follower_that_hears_nothing_for_an_election_timeout_begins_an_election(three: Cell) -> None:
    """Figure 2, followers; section 5.2."""
    three.pass_time(TIMING.election_min_s - 0.001)
    three.tick("n1")
    assert three.mail == []
    three.pass_time(TIMING.election_max_s - TIMING.election_min_s)
    three.tick("n1")
    assert {letter.type for letter in three.mail} == {"request_vote"}


def test_a_server_remains_a_follower_as_long_as_it_hears_the_leader(three: Cell) -> None:
    """Section 5.2."""
    for _ in range(50):
        three.pass_time(TIMING.election_min_s - 0.001)
        three["n1"].receive("n2", append_message(1, 0, 0, []), three.now)
        assert [m["type"] for m in answers(three, "n1")] == ["next_node_idx"]
    assert three["n1"].term == 1


@pytest.mark.parametrize("granted", [True, False])
def test_granting_a_vote_puts_an_election_off_and_refusing_one_does_not(three: Cell, granted: bool) -> None:
    """Figure 2, followers: without granting vote to candidate."""
    earlier(three, n1=[1, 1])
    before = three["n1"].next_deadline()
    three.pass_time(TIMING.election_min_s - 0.001)
    three["n1"].receive("n2", vote_request(2, 2 if granted else 1, 1), three.now)
    assert answers(three, "n1") == [vote(2, granted=granted)]
    assert (three["n1"].next_deadline() >= three.now + TIMING.election_min_s) is granted
    assert (three["n1"].next_deadline() == before) is not granted


# -- figure 2: rules for candidates; section 5.2 ----------------------------------------------------------------------


def test_a_candidate_increments_its_term_votes_for_itself_and_asks_all_others(three: Cell) -> None:
    """Figure 2, candidates: on conversion to candidate; its timer starts anew."""
    raft = candidate(three, "n1", ["n2"])
    assert (raft.term, three.engines["n1"].journal.getVotedForNodeId()) == (1, "n1")
    assert raft.next_deadline() >= three.now + TIMING.election_min_s
    three.tick("n1")
    assert [(letter.target, letter.message["term"], letter.message["pre"]) for letter in three.mail] == [
        ("n2", 1, False),
        ("n3", 1, False),
    ]


@pytest.mark.parametrize(
    ("size", "voters", "elected"),
    [
        (3, "n2 n3", True), (3, "n2", True), (3, "n3", True), (3, "", False),
        (5, "n2 n3 n4 n5", True), (5, "n2 n5", True), (5, "n2", False), (5, "", False),
    ],
)  # fmt: skip
def test_votes_of_a_majority_make_a_leader(tmp_path: Path, size: int, voters: str, elected: bool) -> None:
    """Figure 2, candidates; section 5.2."""
    with cell(tmp_path, *FIVE[:size]) as made:
        raft = candidate(made, "n1", list(FIVE[1:size]))
        for peer in FIVE[1:size]:
            raft.receive(peer, vote(raft.term, granted=peer in voters.split()), made.now)
        assert raft.is_leader is elected


def test_a_duplicated_vote_is_one_vote(five: Cell) -> None:
    """Section 5.2: votes from a majority of the servers."""
    raft = candidate(five, "n1", ["n2", "n3"])
    for _ in range(5):
        raft.receive("n2", vote(raft.term), five.now)
    assert raft.role == "candidate"
    raft.receive("n3", vote(raft.term), five.now)
    assert raft.is_leader


def test_a_vote_of_an_earlier_term_or_a_refusal_counts_for_nothing(three: Cell) -> None:
    """Section 5.2: a majority for the same term."""
    raft = candidate(three, "n1", ["n2"])
    raft.receive("n2", vote(raft.term - 1), three.now)
    raft.receive("n2", vote(raft.term, granted=False), three.now)
    raft.receive("n9", vote(raft.term), three.now)
    assert raft.role == "candidate"


def test_a_candidate_votes_for_nobody_else_in_its_term(three: Cell) -> None:
    """Section 5.2: each server votes for at most one."""
    raft = candidate(three, "n1", ["n2"])
    raft.receive("n3", vote_request(raft.term, 99, 99), three.now)
    assert answers(three, "n1")[-1] == vote(raft.term, granted=False)


@pytest.mark.parametrize("term", [1, 2])
def test_a_candidate_that_hears_a_leader_of_its_term_or_a_later_one_follows_it(three: Cell, term: int) -> None:
    """Figure 2, candidates; section 5.2: it recognizes the leader as legitimate."""
    raft = candidate(three, "n1", ["n2"])
    raft.receive("n3", append_message(term, 0, 0, [term]), three.now)
    assert (raft.role, raft.term, raft.leader) == ("follower", term, "n3")


def test_a_candidate_that_hears_a_leader_of_an_earlier_term_stays_one(three: Cell) -> None:
    """Section 5.2: the candidate rejects the RPC and continues in candidate state."""
    earlier(three, n1=[4])
    raft = candidate(three, "n1", ["n2"])
    raft.receive("n3", append_message(4, 1, 4, [4]), three.now)
    refusal = answers(three, "n1")[-1]
    assert (raft.role, raft.term, three.engines["n1"].log()) == ("candidate", 5, [4])
    assert (refusal["success"], refusal["term"]) == (False, 5)


def test_a_candidate_whose_election_ends_in_nothing_begins_another_in_a_new_term(three: Cell) -> None:
    """Figure 2, candidates: if election timeout elapses; section 5.2, split votes."""
    candidate(three, "n1", ["n2"])
    again = candidate(three, "n1", ["n2"])
    assert again.term == 2


def test_election_timeouts_are_drawn_anew_each_time_from_a_fixed_interval(three: Cell) -> None:
    """Section 5.2: randomized election timeouts."""
    drawn = set()
    for _ in range(200):
        three["n1"].receive("n2", append_message(1, 0, 0, []), three.now)
        drawn.add(three["n1"].next_deadline() - three.now)
    assert len(drawn) > 190
    assert TIMING.election_min_s <= min(drawn) < TIMING.election_min_s + 0.05
    assert TIMING.election_max_s - 0.05 < max(drawn) <= TIMING.election_max_s


def test_servers_of_a_cell_seldom_time_out_together(five: Cell) -> None:
    """Section 5.2: in most cases only a single server will time out."""
    deadlines = sorted(five[name].next_deadline() for name in FIVE)
    assert len(set(deadlines)) == 5


# -- figure 2: rules for leaders --------------------------------------------------------------------------------------


def test_a_leader_sends_to_all_as_soon_as_it_is_elected(three: Cell) -> None:
    """Figure 2, leaders: upon election."""
    lead_with(three, "n1", "n2")
    three.mail.clear()
    three.tick("n1")
    assert [letter.target for letter in three.mail if letter.type == "append_entries"] == ["n2", "n3"]


def test_a_leader_sends_heartbeats_during_idle_periods(three: Cell) -> None:
    """Figure 2, leaders: repeat during idle periods to prevent election timeouts."""
    three.elect("n1")
    three.pass_time(TIMING.heartbeat_s - 0.001)
    three.tick("n1")
    assert three.mail == []
    three.pass_time(0.002)
    three.tick("n1")
    assert [(letter.target, entries(letter)) for letter in three.mail] == [("n2", 0), ("n3", 0)]


def test_a_command_is_appended_to_the_leaders_log_and_sent_to_all_others(three: Cell) -> None:
    """Figure 2, leaders: if command received; section 5.3."""
    three.elect("n1")
    index = three.propose("n1")
    assert three.engines["n1"].log() == [1, 1]
    three.tick("n1")
    for peer in ("n2", "n3"):
        (letter,) = appends(three, peer)
        assert (letter.message["prevLogIdx"], letter.message["prevLogTerm"], entries(letter)) == (index - 1, 1, 1)


def test_a_success_moves_next_and_match_index_on(three: Cell) -> None:
    """Figure 2, leaders: if successful."""
    leader = three.elect("n1")
    index = three.propose("n1", 3)
    three.settle()
    for peer in ("n2", "n3"):
        assert leader._SyncObj__raftNextIndex[Node(peer)] == index + 1
        assert leader._SyncObj__raftMatchIndex[Node(peer)] == index


def test_a_refusal_lowers_next_index_and_the_leader_tries_again(three: Cell) -> None:
    """Figure 2, leaders: if AppendEntries fails because of log inconsistency; section 5.3."""
    earlier(three, n1=[1, 1, 3])
    lead_with(three, "n1", "n2")
    three.tick("n1")
    three.mail.clear()
    three["n1"].receive("n2", reply(4, 0, success=False, rejected=3, hint=2, hint_term=1), three.now)
    three.tick("n1")
    (letter,) = appends(three, "n2")
    assert (letter.message["prevLogIdx"], letter.message["prevLogTerm"], entries(letter)) == (2, 1, 2)


def test_a_late_acknowledgement_lowers_neither_next_nor_match_index(three: Cell) -> None:
    """Figure 2, matchIndex increases monotonically."""
    leader = three.elect("n1")
    three.propose("n1", 5)
    three.settle()
    leader.receive("n2", reply(1, 2), three.now)
    assert leader._SyncObj__raftMatchIndex[Node("n2")] == 6
    assert leader._SyncObj__raftNextIndex[Node("n2")] == 7


def test_a_reply_of_an_earlier_term_is_ignored(three: Cell) -> None:
    """Section 5.1: what an earlier term says is stale."""
    three.engines["n1"].write(1, 1, 1)
    three["n1"].restart(three.now)
    leader = three.elect("n1", among=("n1", "n2"))
    leader._SyncObj__raftMatchIndex[Node("n3")] = 0
    leader.receive("n3", reply(1, 4), three.now)
    assert leader._SyncObj__raftMatchIndex[Node("n3")] == 0


# -- figure 3: properties ---------------------------------------------------------------------------------------------


def test_at_most_one_leader_is_elected_in_a_term(tmp_path: Path) -> None:
    """Figure 3, Election Safety: whoever of two candidates each of the three voters hears first."""
    for number, first in enumerate(itertools.product(("n1", "n2"), repeat=3)):
        with cell(tmp_path / str(number), *FIVE) as made:
            for name in ("n1", "n2"):
                candidate(made, name, ["n3", "n4"])
            made["n2"]._SyncObj__raftElectionDeadline = made["n1"]._SyncObj__raftElectionDeadline = made.now + 5
            requests = {name: vote_request(1, 0, 0) for name in ("n1", "n2")}
            for voter, heard in zip(FIVE[2:], first):
                made[voter].receive(heard, requests[heard], made.now)
                made[voter].receive("n2" if heard == "n1" else "n1", requests[heard], made.now)
            made.tick(*FIVE[2:])
            made.carry(lambda letter: letter.source in FIVE[2:])
            leaders = [name for name in FIVE if made[name].is_leader]
            assert leaders == ["n1" if first.count("n1") >= 2 else "n2"]
            assert {made[name].term for name in FIVE} == {1}


def test_a_leader_never_overwrites_or_deletes_entries_of_its_log(five: Cell) -> None:
    """Figure 3, Leader Append-Only: whatever the logs that it meets."""
    earlier(five, n2=FIGURE_7["b"], n3=FIGURE_7["e"], n4=FIGURE_7["d"], n5=FIGURE_7["f"])
    leader_of_figure_7(five, "n2", "n3")
    before = five.engines["n1"].log()
    for _ in range(5):
        five.propose("n1")
        five.heartbeat()
        assert five.engines["n1"].log()[: len(before)] == before
    assert five["n1"].is_leader


def test_logs_that_agree_in_one_entry_agree_in_all_before_it(five: Cell) -> None:
    """Figure 3, Log Matching; section 5.3: with entries that came to some servers only, under three leaders."""
    five.elect("n1")
    five.propose("n1", 3)
    five.settle(among=("n1", "n2"))
    five.pass_time(TIMING.election_max_s)
    five.elect("n3", among=("n3", "n4", "n5"))
    five.propose("n3", 2)
    five.settle(among=("n3", "n4"))
    five.pass_time(TIMING.election_max_s)
    five.elect("n4", among=("n2", "n4", "n5"))
    logs = [
        [(term, command.data) for command, _, term in engine.journal.entries(1, 1 << 30)]
        for engine in five.engines.values()
    ]
    assert len({len(log) for log in logs}) > 1
    for one, other in itertools.combinations(logs, 2):
        same = [i for i, (left, right) in enumerate(zip(one, other)) if left[0] == right[0]]
        assert one[: same[-1] + 1] == other[: same[-1] + 1]


def test_a_committed_entry_is_in_the_logs_of_all_later_leaders(tmp_path: Path) -> None:
    """Figure 3, Leader Completeness; section 5.4.3: whichever majority holds it, whoever asks to be elected next."""
    for holders in itertools.combinations(FIVE[1:], 2):
        for name in FIVE[1:]:
            with cell(tmp_path / "".join(holders) / name, *FIVE) as made:
                for each in FIVE:
                    earlier(made, **{each: [1, 1] if each in ("n1", *holders) else [1]})
                made.time_out(name)
                made.settle(among=FIVE[1:])  # n1, which committed it, is gone
                assert made[name].is_leader is (name in holders)


STEPS = {"tick": 8.0, "deliver": 30.0, "lose": 1.5, "double": 1.5, "propose": 4.0, "crash": 0.3, "time out": 0.4}


def test_no_two_servers_commit_different_entries_at_one_index(tmp_path: Path) -> None:
    """Figure 3, State Machine Safety: with messages lost, doubled and out of order, crashes, and elections."""
    counts = []
    for seed in range(6):
        rng = random.Random(seed)
        committed: dict[int, tuple[int, bytes]] = {}
        with cell(tmp_path / str(seed)) as made:
            for _ in range(2000):
                step_at_random(made, rng)
                for engine in made.engines.values():
                    for index in range(1, engine.raft.commit_index + 1):
                        command, _, term = engine.journal.entry(index)
                        entry = term, command.data
                        assert committed.setdefault(index, entry) == entry, (seed, index)
        counts.append(len(committed))
    assert sum(counts) > 200, counts


def step_at_random(cell: Cell, rng: random.Random) -> None:
    name = rng.choice(tuple(cell.engines))
    match rng.choices(tuple(STEPS), tuple(STEPS.values()))[0]:
        case "tick":
            cell.pass_time(0.02)
            cell.tick(name)
        case "deliver" if cell.mail:
            cell.deliver(cell.mail.pop(rng.randrange(min(4, len(cell.mail)))))
        case "lose" if cell.mail:
            cell.mail.pop(rng.randrange(len(cell.mail)))
        case "double" if cell.mail:
            cell.mail.append(rng.choice(cell.mail))
        case "propose" if cell[name].is_leader:
            cell.propose(name)
        case "crash":
            cell.restart(name)
        case "time out" if not cell[name].is_leader:
            cell.time_out(name)


# -- 5.1 and 5.5: stale servers, crashes, retries ---------------------------------------------------------------------


def test_a_leader_whose_term_is_out_of_date_reverts_to_follower(three: Cell) -> None:
    """Section 5.1."""
    three.elect("n1")
    three.pass_time(TIMING.election_max_s)
    three.elect("n2", among=("n2", "n3"))
    assert three["n1"].is_leader
    three["n1"].receive("n2", append_message(three["n2"].term, 0, 0, []), three.now)
    assert (three["n1"].role, three["n1"].term, three["n1"].leader) == ("follower", three["n2"].term, "n2")


def test_a_node_that_was_paused_comes_back_as_a_follower(three: Cell) -> None:
    """Section 5.1."""
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


def test_servers_retry_what_is_not_answered_in_time(three: Cell) -> None:
    """Section 5.1; 5.5: if they fail, the leader retries."""
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
    """Section 5.5: the server crashed after completing an RPC but before responding."""
    three.elect("n1")
    three.propose("n1", 3)
    three.tick("n1")
    three.carry()
    three.tick("n2", "n3")
    three.mail.clear()
    three.heartbeat()
    assert three["n1"].commit_index == 4


def test_an_append_that_comes_twice_is_answered_twice_and_changes_nothing(three: Cell) -> None:
    """Section 5.5: Raft RPCs are idempotent."""
    message = append_message(1, 0, 0, [1, 1], commit=1)
    for _ in range(2):
        three["n2"].receive("n1", message, three.now)
        (answer,) = answers(three, "n2")
        assert (answer["success"], answer["match"], three.engines["n2"].log()) == (True, 2, [1, 1])


def test_a_follower_that_crashed_is_sent_what_it_missed_when_it_restarts(three: Cell) -> None:
    """Section 5.5: the leader retries indefinitely, until all followers store all entries (5.3)."""
    three.elect("n1")
    three.propose("n1", 3)
    for _ in range(20):
        three.heartbeat(among=("n1", "n2"))
    three.restart("n3")
    three.settle()
    assert three.engines["n3"].log() == three.engines["n1"].log() == [1] * 4
    assert three["n3"].commit_index == 4


# -- 5.3: log replication ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "holders", "committed"),
    [
        (3, "n2 n3", True), (3, "n3", True), (3, "", False),
        (5, "n2 n3 n4 n5", True), (5, "n3 n5", True), (5, "n4", False), (5, "", False),
    ],
)  # fmt: skip
def test_an_entry_is_committed_once_a_majority_holds_it(
    tmp_path: Path, size: int, holders: str, committed: bool
) -> None:
    """Section 5.3; figure 2, leaders, last rule."""
    with cell(tmp_path, *FIVE[:size]) as made:
        leader = made.elect("n1")
        index = made.propose("n1")
        made.settle(among=("n1", *holders.split()))
        assert leader.commit_index == (index if committed else index - 1)


def test_what_a_minority_holds_is_committed_when_a_majority_does(five: Cell) -> None:
    """Section 5.3."""
    leader = five.elect("n1")
    five.heartbeat()
    before = leader.commit_index
    five.propose("n1", 3)
    five.settle(among=("n1", "n2"))
    assert leader.commit_index == before
    five.heartbeat(among=("n1", "n2", "n3"))
    assert leader.commit_index == before + 3


@pytest.mark.parametrize("log", [[1], [2], [1, 2], [1, 1, 2, 2]])
def test_committing_an_entry_commits_all_before_it_also_those_of_earlier_leaders(three: Cell, log: list[int]) -> None:
    """Section 5.3."""
    earlier(three, n1=log)
    leader = three.elect("n1")
    assert leader.commit_index == len(log) + 1
    assert three.engines["n2"].log() == [*log, leader.term]


def test_a_follower_learns_from_the_leader_what_is_committed(three: Cell) -> None:
    """Section 5.3: the leader includes the highest index it knows to be committed, also in heartbeats."""
    three["n2"].receive("n1", append_message(1, 0, 0, [1, 1, 1], commit=1), three.now)
    assert three["n2"].commit_index == 1
    three["n2"].receive("n1", append_message(1, 3, 1, [], commit=3), three.now)
    assert three["n2"].commit_index == 3


@pytest.mark.parametrize("follower", ["a", "b", "c", "d", "e", "f"])
def test_a_leader_brings_each_follower_of_figure_7_to_its_own_log(three: Cell, follower: str) -> None:
    """Figure 7; section 5.3: extraneous entries are removed, missing ones appended."""
    earlier(three, n2=FIGURE_7[follower], n3=FIGURE_7["leader"])
    leader_of_figure_7(three, "n3")
    three.heartbeat()
    assert three.engines["n2"].log() == three.engines["n1"].log() == [*FIGURE_7["leader"], 8]
    assert three["n1"].is_leader


def test_a_conflict_takes_one_refusal_for_each_term_and_not_for_each_entry(three: Cell) -> None:
    """Section 5.3, end."""
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
    """Section 5.3, end."""
    three.engines["n2"].write(1, 1)
    three["n2"].restart(three.now)
    three["n2"].receive("n1", append_message(3, 40, 2, []), three.now)
    (answer,) = answers(three, "n2")
    assert (answer["success"], answer["rejected"], answer["hint"], answer["hint_term"]) == (False, 40, 2, 1)


# -- 5.4: safety ------------------------------------------------------------------------------------------------------


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


# -- 5.6: timing ------------------------------------------------------------------------------------------------------


def test_heartbeats_are_several_times_as_frequent_as_elections() -> None:
    """Section 5.6: broadcastTime << electionTimeout << MTBF, as far as it is ours to choose."""
    assert 4 * Timing().heartbeat_s < Timing().election_min_s < Timing().election_max_s <= 2 * Timing().election_min_s


# -- 6: membership changes; thesis 4 ----------------------------------------------------------------------------------
# Joint consensus is not used: members change one at a time, as in chapter 4 of the thesis.


def test_a_server_that_hears_a_leader_disregards_vote_requests(three: Cell) -> None:
    """Section 6, end; thesis 4.2.3: neither does it adopt the term."""
    three.elect("n1")
    for pre in (True, False):
        three["n2"].receive("n3", vote_request(50, 99, 99, pre=pre), three.now)
        three["n1"].receive("n3", vote_request(50, 99, 99, pre=pre), three.now)
    assert [three[name].term for name in ("n1", "n2")] == [1, 1]
    assert [m for m in answers(three, "n2") if m["type"] == "response_vote"] == []


def test_a_server_that_has_heard_no_leader_for_the_minimum_election_timeout_votes(three: Cell) -> None:
    """Section 6, end; thesis 4.2.3."""
    three.elect("n1")
    three.pass_time(TIMING.election_min_s)
    three["n2"].receive("n3", vote_request(2, 99, 1), three.now)
    assert vote(2) in answers(three, "n2")


# -- 7: log compaction ------------------------------------------------------------------------------------------------
# The log is never compacted (test_journal.py), so a leader has every entry that a follower may lack.


def test_no_snapshot_is_installed_and_an_empty_follower_is_sent_the_whole_log(three: Cell) -> None:
    """Section 7 does not apply: there is no InstallSnapshot message, only the log from its first entry."""
    three.elect("n1")
    three.propose("n1", 50)
    three.settle(among=("n1", "n2"))
    three.restart("n3")
    before = three.engines["n3"].log()
    three["n3"].receive("n1", {"type": "install_snapshot", "term": 1, "data": b"x"}, three.now)
    assert (three.engines["n3"].log(), three["n3"].term) == (before, 1)
    three.settle()
    assert len(three.engines["n3"].log()) == 51


# -- 8: client interaction; thesis 6 ----------------------------------------------------------------------------------


def test_a_follower_can_name_the_leader_to_clients(three: Cell) -> None:
    """Section 8: it supplies information about the most recent leader it has heard from."""
    three.elect("n1")
    assert [three[name].leader for name in ("n1", "n2", "n3")] == ["n1"] * 3


def test_a_leader_begins_its_term_with_an_entry_that_says_nothing(three: Cell) -> None:
    """Section 8: it commits a blank no-op, to know what is committed."""
    earlier(three, n1=[1], n2=[1], n3=[1])
    leader = three.elect("n1")
    command, index, term = three.engines["n1"].journal.entry(2)
    assert (command.kind, command.data, index, term) == (KIND_NOOP, b"", 2, leader.term)
    assert leader.commit_index == 2


def test_a_new_leader_serves_no_read_before_its_own_entry_is_committed(three: Cell) -> None:
    """Section 8; thesis 6.4, step 1."""
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


def test_a_read_waits_for_a_majority_to_answer_a_round_begun_after_it(three: Cell) -> None:
    """Section 8; thesis 6.4, steps 2 to 4."""
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
    """Thesis 6.4, step 3: a new round of heartbeats."""
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


def test_a_deposed_leader_that_does_not_know_it_serves_no_read(three: Cell) -> None:
    """Section 8: it must check whether it has been deposed."""
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


def test_reads_fail_when_leadership_is_lost(three: Cell) -> None:
    """Thesis 6.4."""
    leader = three.elect("n1")
    three.settle()
    leader.read("", b"sent")
    three.tick("n1")
    leader.read("n2", b"waiting")
    leader.receive("n2", reply(9, 0, success=False), three.now)
    assert {read.token for read in leader.reads_failed} == {b"sent", b"waiting"}
    assert leader.reads_done == []


def test_a_follower_refuses_reads(three: Cell) -> None:
    """Thesis 6.4: only the leader can do this alone."""
    three.elect("n1")
    three["n2"].read("n3", b"token")
    assert [read.token for read in three["n2"].reads_failed] == [b"token"]
