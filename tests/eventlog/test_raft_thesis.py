"""One test for each claim of Ongaro's thesis ("Consensus: Bridging Theory and Practice") that goes beyond the paper.

Leadership transfer (3.10), leaders without a majority (6.2), pre-vote (9.6). Disregarded vote requests (4.2.3) and
reads (6.4) are in the paper too, and in test_raft_paper.py.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pysyncobj.node import Node

from tests.eventlog.engines import TIMING, Cell, cell
from tests.eventlog.messages import answers, vote_request


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Cell]:
    with cell(tmp_path) as made:
        yield made


@pytest.fixture
def five(tmp_path: Path) -> Iterator[Cell]:
    with cell(tmp_path, "n1", "n2", "n3", "n4", "n5") as made:
        yield made


# -- 3.10: leadership transfer ----------------------------------------------------------------------------------------


def test_leadership_passes_on_at_once_when_it_is_transferred(three: Cell) -> None:
    """Thesis 3.10; 4.2.3: who hears the old leader votes all the same."""
    leader = three.elect("n1")
    three.propose("n1", 2)
    three.settle()
    leader.transferLeadership(Node("n3"))
    three.settle()
    assert (three["n3"].is_leader, three["n3"].term) == (True, 2)
    three.heartbeat()
    assert [three[name].leader for name in ("n1", "n2")] == ["n3", "n3"]


def test_leadership_is_not_passed_to_a_node_that_lags(three: Cell) -> None:
    """Thesis 3.10, step 2: only to one whose log matches."""
    leader = three.elect("n1")
    three.propose("n1", 2)
    three.settle(among=("n1", "n2"))
    leader.transferLeadership(Node("n3"))
    three.settle(among=("n1", "n2", "n3"), rounds=1)
    assert not any(letter.type == "timeout_now" for letter in three.mail)


def test_only_the_leader_can_ask_for_an_election(three: Cell) -> None:
    """Thesis 3.10, step 3."""
    three.elect("n1")
    three["n2"].receive("n3", {"type": "timeout_now", "term": 99}, three.now)
    assert (three["n2"].role, three["n2"].term) == ("follower", 1)
    three["n2"].receive("n1", {"type": "timeout_now", "term": 0}, three.now)
    assert (three["n2"].role, three["n2"].term) == ("follower", 1)


# -- 6.2: a leader that nobody hears ----------------------------------------------------------------------------------


def test_a_leader_that_no_majority_answers_for_an_election_timeout_steps_down(three: Cell) -> None:
    """Thesis 6.2: so that clients do not wait for it (we wait for two)."""
    leader = three.elect("n1")
    three.pass_time(TIMING.fallback_s - 0.1)
    three.tick("n1")
    assert leader.is_leader
    three.pass_time(0.2)
    three.tick("n1")
    assert (leader.role, leader.leader) == ("follower", None)


def test_a_leader_that_a_majority_answers_goes_on(three: Cell) -> None:
    """Thesis 6.2."""
    leader = three.elect("n1")
    for _ in range(40):
        three.heartbeat(among=("n1", "n2"))
    assert leader.is_leader
    assert three["n2"].leader == "n1"


# -- 9.6: pre-vote ----------------------------------------------------------------------------------------------------


def test_an_election_asks_first_and_raises_the_term_only_when_it_would_win(three: Cell) -> None:
    """Thesis 9.6."""
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


def test_a_pre_vote_is_no_vote(three: Cell) -> None:
    """Thesis 9.6: it changes nothing in who gives it."""
    three["n1"].receive("n2", vote_request(1, 0, 0, pre=True), three.now)
    three["n1"].receive("n3", vote_request(1, 0, 0), three.now)
    said = answers(three, "n1")
    assert [(m["pre"], m["granted"]) for m in said] == [(True, True), (False, True)]


def test_a_duplicated_pre_vote_is_one_pre_vote(five: Cell) -> None:
    """Thesis 9.6: from a majority of the cluster."""
    five.time_out("n1")
    for _ in range(5):
        five["n1"].receive("n2", {"type": "response_vote", "term": 1, "pre": True, "granted": True}, five.now)
    assert (five["n1"].role, five["n1"].term) == ("follower", 0)


def test_a_node_cut_off_does_not_raise_its_term_however_often_it_times_out(three: Cell) -> None:
    """Thesis 9.6."""
    three.elect("n1")
    for _ in range(10):
        three.time_out("n3")
        three.mail.clear()
    assert three["n3"].term == 1


def test_a_node_back_from_a_partition_does_not_depose_a_healthy_leader(three: Cell) -> None:
    """Thesis 9.6."""
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


def test_a_pre_vote_refused_for_a_higher_term_brings_the_term_along(three: Cell) -> None:
    """Thesis 9.6; section 5.1."""
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


def test_a_pre_vote_goes_only_to_a_log_at_least_as_up_to_date(three: Cell) -> None:
    """Thesis 9.6: others would be willing to vote only if the candidate's log is sufficiently up-to-date."""
    three.engines["n1"].write(1, 2)
    three["n1"].restart(three.now)
    for index, term, granted in ((2, 2, True), (1, 3, True), (1, 2, False), (9, 1, False)):
        three["n1"].receive("n2", vote_request(5, index, term, pre=True), three.now)
        assert [answer["granted"] for answer in answers(three, "n1")] == [granted]
    assert three["n1"].term == 2
