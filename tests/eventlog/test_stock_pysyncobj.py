"""Stock PySyncObj where it departs from the paper: each test asserts the defect for which we override a method.

So an upgrade of the dependency that mends one fails here, and the message says which of our patches can go: the row
of the table in docs/ADR/0001-consensus.md, and the method. Each docstring names the test that shows our engine doing it
right.
"""

import mmap
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pysyncobj.journal
import pytest
from pysyncobj.node import Node

from eventlog.raft import Raft
from eventlog.store import Store
from tests.eventlog.stock import Letter, StockCell

FIVE = ("n1", "n2", "n3", "n4", "n5")
HERE = Path(__file__)
ADR = HERE.parents[2] / "docs" / "ADR" / "0001-consensus.md"

# rows of its table
IN_FLIGHT = "a success reply sets `nextIndex` back below what is in flight"
TRUNCATION = "a follower truncates on any overlap"
TERMS = "replies carry no term"
VOTES = "votes are counted"
DISK = "the journal is not synced"
DISTURBING = "no pre-vote, no stickiness"
MEMBERS = "a second membership change is not refused"
FLOW = "no flow control, one step a round trip after a conflict"
NEWS = "commit news waits for the next heartbeat"


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> StockCell:
    return StockCell(monkeypatch)


@pytest.fixture
def five(monkeypatch: pytest.MonkeyPatch) -> StockCell:
    return StockCell(monkeypatch, FIVE)


def mended(row: str, *patches: Callable[..., Any]) -> str:
    """What to say when the defect is gone."""
    assert f"| {row} |" in ADR.read_text()
    names = ", ".join(f"{patch.__module__}.{patch.__qualname__}" for patch in patches)
    return f'PySyncObj does this right now: "{row}" ({ADR.name}) is mended, {names} can go'


def is_append(letter: Letter) -> bool:
    return bool(letter.message["type"] == "append_entries")


def replies(cell: StockCell, source: str, target: str) -> list[Letter]:
    return [letter for letter in cell.waiting(source, target) if letter.message["type"] == "next_node_idx"]


# -- what is in flight ------------------------------------------------------------------------------------------------


def test_stock_a_success_reply_sets_next_index_back_and_everything_in_flight_is_sent_again(three: StockCell) -> None:
    """Ours: test_raft.py::test_a_success_does_not_send_again_what_is_on_its_way"""
    three.elect("n1", "n1", "n2", "n3")
    three.propose("n1", "a")
    three.beat("n1")
    three.carry(lambda letter: letter.target == "n2")
    (early,) = replies(three, "n2", "n1")
    three.mail.clear()
    three.propose("n1", "b", "c")
    three.beat("n1")  # b and c are on their way, in order, over a connection that is up
    before = three.next_index("n1", "n2")
    three.deliver(early)
    three.beat("n1")
    again = [len(letter.message["entries"]) for letter in three.waiting("n1", "n2")]
    assert before == 6
    assert again == [2, 2], mended(IN_FLIGHT, Raft._accepted)


# -- truncation -------------------------------------------------------------------------------------------------------


def test_stock_a_late_append_truncates_acknowledged_entries_and_a_committed_entry_is_lost(three: StockCell) -> None:
    """Ours: test_raft_paper.py::test_entries_that_follow_what_a_late_append_holds_are_kept"""
    three.elect("n1", "n1", "n2", "n3")
    three.propose("n1", "a")
    three.beat("n1")
    (late,) = three.waiting("n1", "n2")
    three.settle("n1", "n2")
    three.propose("n1", "acknowledged")
    three.settle("n1", "n2")
    assert three.commit("n1") == three.commit("n2") == 4
    three.deliver(late)  # the same message once more, which knows nothing of what came after a
    assert three.log("n2") == ["1/0", "2/1", "3/1 a"], mended(TRUNCATION, Raft._append)
    three.elect("n2", "n2", "n3")  # n1 is gone
    assert not any("acknowledged" in entry for entry in three.log("n2") + three.log("n3")), mended(
        TRUNCATION, Raft._append
    )


def test_stock_a_heartbeat_that_comes_late_truncates_too(three: StockCell) -> None:
    """Ours: test_raft_paper.py::test_entries_that_follow_what_a_late_append_holds_are_kept"""
    three.elect("n1", "n1", "n2", "n3")
    three.beat("n1")
    (late,) = three.waiting("n1", "n2")
    assert late.message["entries"] == []
    three.propose("n1", "a", "b")
    three.settle("n1", "n2", "n3")
    three.deliver(late)
    assert three.log("n2") == ["1/0", "2/1"], mended(TRUNCATION, Raft._append)


def test_stock_the_commit_index_goes_back(three: StockCell) -> None:
    """Ours: test_raft_paper.py::test_the_commit_index_increases_monotonically"""
    three.elect("n1", "n1", "n2", "n3")
    three.beat("n1")
    (late,) = three.waiting("n1", "n2")
    three.propose("n1", "a", "b")
    three.settle("n1", "n2", "n3")
    before = three.commit("n2")
    three.deliver(late)
    assert (before, three.commit("n2")) == (4, 2), mended(TRUNCATION, Raft._append, Raft._on_append_entries)


def test_stock_a_heartbeat_commits_no_unverified_tail_only_because_it_truncates_the_tail(three: StockCell) -> None:
    """Ours: test_raft_paper.py::test_a_heartbeat_does_not_commit_a_tail_that_it_has_not_verified"""
    three.elect("n1", "n1", "n2", "n3")
    three.propose("n1", "a", "b")
    three.settle("n1", "n2")
    three.beat("n1")
    (heartbeat,) = three.waiting("n1", "n2")
    message = {**heartbeat.message, "prevLogIdx": 2, "prevLogTerm": 1, "entries": []}  # says that 4 are committed
    assert message["commit_index"] == 4
    three.deliver(heartbeat._replace(message=message))
    assert (three.commit("n2"), three.log("n2")) == (2, ["1/0", "2/1"]), mended(
        TRUNCATION, Raft._append, Raft._on_append_entries
    )


# -- terms ------------------------------------------------------------------------------------------------------------


def test_stock_a_reply_carries_no_term(three: StockCell) -> None:
    """Ours: test_raft_paper.py::test_every_message_carries_the_senders_term"""
    three.elect("n1", "n1", "n2", "n3")
    three.beat("n1")
    three.carry()
    assert all("term" not in letter.message for letter in replies(three, "n2", "n1")), mended(TERMS, Raft._answer)


def test_stock_a_reply_of_an_earlier_term_raises_match_index_and_commits_what_no_majority_holds(
    five: StockCell,
) -> None:
    """Ours: test_raft_paper.py::test_a_reply_of_an_earlier_term_is_ignored"""
    five.elect("n1", *FIVE)
    five.propose("n1", "a", "b", "c")
    five.beat("n1")
    five.carry(lambda letter: letter.target == "n2")
    (stale,) = replies(five, "n2", "n1")  # in term 1, n2 holds five entries
    five.mail.clear()
    five.elect("n3", "n3", "n4", "n5")
    five.settle("n1", "n2", "n3", "n4", "n5")
    assert five.log("n2") == ["1/0", "2/1", "3/2"]
    five.elect("n1", "n1", "n3", "n4", "n5")
    five.propose("n1", "d")
    five.settle("n1", "n4")
    assert five.log("n1")[4:] == ["5/3 d"]
    assert five.commit("n1") == 4
    five.deliver(stale)
    five.beat("n1")
    holders = [name for name in FIVE if "5/3 d" in five.log(name)]
    assert (five.match_index("n1", "n2"), five.commit("n1")) == (5, 5), mended(TERMS, Raft._on_next_node_idx)
    assert holders == ["n1", "n4"]


def test_stock_a_stale_append_is_not_answered_and_a_paused_leader_goes_on_leading(three: StockCell) -> None:
    """Ours: test_raft_paper.py::test_a_stale_append_is_refused_with_the_higher_term"""
    three.elect("n1", "n1", "n2", "n3")
    three.elect("n2", "n2", "n3")
    three.mail.clear()
    for _ in range(5):  # n1 was paused meanwhile; what the others sent it is lost
        three.beat("n1")
        three.carry(lambda letter: letter.source == "n1")
    assert three.mail == [], mended(TERMS, Raft._on_append_entries, Raft._answer)
    assert (three.role("n1"), three.term("n1"), three.term("n2")) == ("leader", 1, 2)


def test_stock_a_node_that_was_cut_off_never_comes_back_while_only_appends_get_through(three: StockCell) -> None:
    """Ours: test_raft_paper.py::test_a_node_that_was_paused_comes_back_as_a_follower"""
    three.elect("n1", "n1", "n2", "n3")
    for _ in range(3):  # n3 hears nothing, and its term runs ahead
        three.time_out("n3")
        three.mail.clear()
    three.propose("n1", "a")
    for _ in range(20):  # the network is back: heartbeats reach it and are neither answered nor taken
        three.beat("n1", "n2", "n3")
        three.carry()
    assert (three.role("n3"), three.log("n3")) == ("candidate", ["1/0", "2/1"]), mended(TERMS, Raft._on_append_entries)
    assert three.commit("n1") == 3


# -- votes ------------------------------------------------------------------------------------------------------------


def test_stock_a_duplicated_vote_elects(five: StockCell) -> None:
    """Ours: test_raft_paper.py::test_a_duplicated_vote_is_one_vote"""
    five.time_out("n1")
    five.carry(lambda letter: letter.target == "n2")
    (vote,) = five.waiting("n2", "n1")
    five.deliver(vote)
    five.deliver(vote)
    assert five.role("n1") == "leader", mended(VOTES, Raft._on_response_vote, Raft._count_votes)


def test_stock_two_nodes_lead_in_one_term_by_duplicated_votes(five: StockCell) -> None:
    """Ours: test_raft_paper.py::test_at_most_one_leader_is_elected_in_a_term"""
    for name, voter in (("n1", "n2"), ("n3", "n4")):
        five.time_out(name)
        five.carry(lambda letter, voter=voter: letter.target == voter)  # type: ignore[misc]
        (vote,) = five.waiting(voter, name)
        five.deliver(vote)
        five.deliver(vote)
        five.mail.clear()
    leaders = [name for name in FIVE if five.role(name) == "leader" and five.term(name) == 1]
    assert leaders == ["n1", "n3"], mended(VOTES, Raft._on_response_vote, Raft._count_votes)


def test_stock_a_vote_request_that_is_sent_again_is_not_answered(three: StockCell) -> None:
    """Ours: test_raft_paper.py::test_a_server_votes_for_at_most_one_candidate_in_a_term"""
    three.time_out("n1")
    (request,) = three.waiting("n1", "n2")
    three.deliver(request)
    three.mail.clear()  # the vote is lost
    three.deliver(request)
    assert three.mail == [], mended(VOTES, Raft._on_request_vote)


def test_stock_a_refused_vote_is_not_answered_so_that_a_candidate_never_learns_of_the_term(three: StockCell) -> None:
    """Ours: test_raft_paper.py::test_a_candidate_that_meets_a_higher_term_becomes_a_follower"""
    three.elect("n2", "n2", "n3")
    three.elect("n3", "n2", "n3")
    three.time_out("n1")
    three.carry(lambda letter: letter.source == "n1")
    assert [letter for letter in three.mail if letter.message["type"] == "response_vote"] == [], mended(
        VOTES, Raft._on_request_vote
    )
    assert (three.role("n1"), three.term("n1"), three.term("n2")) == ("candidate", 1, 2)


# -- the disk ---------------------------------------------------------------------------------------------------------


def test_stock_a_vote_and_an_acknowledgement_leave_before_anything_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours: test_writer.py::test_a_tick_is_durable_before_anything_of_it_is_told"""
    synced: list[str] = []

    class Counted(mmap.mmap):
        def flush(self, *args: Any) -> None:
            synced.append("msync")
            super().flush(*args)

    monkeypatch.setattr(pysyncobj.journal.mmap, "mmap", Counted)
    for name in ("fsync", "fdatasync", "sync"):
        monkeypatch.setattr(os, name, lambda *_, name=name: synced.append(name))
    cell = StockCell(monkeypatch, ("n2", "n1", "n3"))
    cell.add("n2", ("n1", "n2", "n3"), journalFile=str(tmp_path / "journal"))
    cell.elect("n1", "n1", "n2", "n3")
    cell.propose("n1", "a")
    cell.settle("n1", "n2")
    assert cell.match_index("n1", "n2") == 3
    assert synced == [], mended(DISK, Store.commit)
    cell["n2"]._SyncObj__raftLog.flush()
    assert synced == ["msync"]  # it would have been seen


# -- elections that disturb -------------------------------------------------------------------------------------------


def test_stock_a_node_that_comes_back_deposes_a_healthy_leader(three: StockCell) -> None:
    """Ours: test_raft_thesis.py::test_a_node_back_from_a_partition_does_not_depose_a_healthy_leader"""
    three.elect("n1", "n1", "n2", "n3")
    three.time_out("n3")
    three.mail.clear()  # cut off
    three.settle("n1", "n2")
    three.time_out("n3")
    three.carry(lambda letter: letter.source == "n3")
    assert three.role("n1") == "follower", mended(DISTURBING, Raft._hears_leader, Raft._campaign)
    assert three.term("n1") == three.term("n2") == 3


# -- membership -------------------------------------------------------------------------------------------------------


def add_three(cell: StockCell, leader: str) -> None:
    for name in ("n4", "n5", "n6"):
        cell[leader].addNodeToCluster(Node(name))
    cell[leader]._checkCommandsToApply()


def test_stock_three_membership_changes_are_under_way_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours: test_raft.py::test_changes_of_membership_are_refused"""
    three = StockCell(monkeypatch, dynamicMembershipChange=True)
    three.elect("n1", "n1", "n2", "n3")
    committed = three.commit("n1")
    add_three(three, "n1")
    assert three.commit("n1") == committed
    members = sorted(node.id for node in three["n1"].otherNodes)
    assert members == ["n2", "n3", "n4", "n5", "n6"], mended(MEMBERS, Raft.addNodeToCluster)


def test_stock_three_membership_changes_at_once_make_two_majorities_that_do_not_meet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ours: test_raft.py::test_changes_of_membership_are_refused"""
    six = StockCell(monkeypatch, dynamicMembershipChange=True)
    six.elect("n1", "n1", "n2", "n3")
    add_three(six, "n1")
    for name in ("n4", "n5", "n6"):
        six.add(name, ("n1", "n2", "n3", "n4", "n5", "n6"), dynamicMembershipChange=True)
        six.connect(six["n1"], name)
    six.propose("n1", "ours")
    six.settle("n1", "n4", "n5", "n6")  # four of six, cut off from n2 and n3
    six.elect("n2", "n2", "n3")  # two of three
    six.propose("n2", "theirs", "and more")
    six.settle("n2", "n3")
    both = min(six.commit("n1"), six.commit("n2"))
    assert six.role("n1") == six.role("n2") == "leader"
    assert six.log("n1")[:both] != six.log("n2")[:both], mended(MEMBERS, Raft.addNodeToCluster)
    assert both > 2


# -- how long things take ---------------------------------------------------------------------------------------------


def test_stock_a_conflict_of_twenty_entries_takes_twenty_round_trips(three: StockCell) -> None:
    """Ours: test_raft_paper.py::test_a_conflict_takes_one_refusal_for_each_term_and_not_for_each_entry"""
    three.elect("n1", "n1", "n2", "n3")
    three.propose("n1", *(f"lost {i}" for i in range(20)))
    three.elect("n2", "n2", "n3")
    three.propose("n2", *(f"kept {i}" for i in range(20)))
    three.settle("n2", "n3")
    trips = 0
    while three.log("n1") != three.log("n2"):
        three.beat("n2")
        three.carry(lambda letter: letter.target == "n1")
        three.carry(lambda letter: letter.source == "n1")
        trips += 1
        assert trips < 100
    assert trips >= 20, mended(FLOW, Raft._refused, Raft._conflict_hint)


def test_stock_what_is_on_its_way_to_a_silent_peer_has_no_limit(three: StockCell) -> None:
    """Ours: test_raft.py::test_no_more_than_the_limit_is_on_its_way_to_a_peer"""
    three.elect("n1", "n1", "n2", "n3")
    three.propose("n1", *("x" * 60_000 for _ in range(400)))
    three.beat("n1")
    sent = sum(len(entry[0]) for letter in three.waiting("n1", "n2") for entry in letter.message["entries"])
    assert sent > 20 * 1024 * 1024, mended(FLOW, Raft._send_to, Raft._in_flight)


def test_stock_commit_news_waits_for_the_next_heartbeat(three: StockCell) -> None:
    """Ours: test_raft.py::test_commit_news_goes_out_at_once_and_not_with_the_next_heartbeat"""
    three.elect("n1", "n1", "n2", "n3")
    three.propose("n1", "a")
    three.beat("n1")
    three.carry(is_append)
    three.carry()
    for _ in range(5):
        three["n1"].doTick()  # no time passes
        three.carry()
    assert (three.commit("n1"), three.commit("n2")) == (3, 2), mended(NEWS, Raft._send_to)


# -- these tests themselves -------------------------------------------------------------------------------------------


def test_each_defect_names_a_test_of_ours_that_exists() -> None:
    named = re.findall(r'"""Ours: (\w+\.py)::(\w+)"""', HERE.read_text())
    stock = [name for name in globals() if name.startswith("test_stock_")]
    assert len(named) == len(stock)
    for file, test in named:
        assert f"def {test}(" in HERE.with_name(file).read_text(), (file, test)
