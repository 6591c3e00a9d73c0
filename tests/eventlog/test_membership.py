"""Changing the members of a running cell: a test for each rule of chapter 4 of Ongaro's thesis, carried by hand."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eventlog.errors import Rejected
from eventlog.members import Members, added, is_one_step, promoted, removed
from eventlog.raft import Raft
from tests.eventlog.engines import TIMING, Cell, cell
from tests.eventlog.messages import append_message, vote_request


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Cell]:
    with cell(tmp_path) as made:
        yield made


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Cell]:
    with cell(tmp_path, "n1") as made:
        yield made


def add(name: str) -> Callable[[Members], Members]:
    return lambda members: added(members, name, f"{name}.test:1")


def remove(name: str) -> Callable[[Members], Members]:
    return lambda members: removed(members, name)


def promote(name: str) -> Callable[[Members], Members]:
    return lambda members: promoted(members, name)


def names(cell: Cell, name: str) -> list[str]:
    return [member.name for member in cell[name].config.members]


def lead(cell: Cell) -> Raft:
    """n1 leads, and the log names the members, as a leader sees to in a new cell."""
    leader = cell.elect("n1")
    cell.change("n1", lambda members: members)
    cell.settle()
    return leader


def with_learner(cell: Cell) -> Cell:
    """n1 leads, n4 is a learner and has everything."""
    lead(cell)
    cell.join("n4")
    cell.change("n1", add("n4"))
    cell.settle()
    cell.heartbeat()
    return cell


def with_four(cell: Cell) -> Cell:
    with_learner(cell).change("n1", promote("n4"))
    cell.settle()
    return cell


# -- a configuration is in force when it is appended (4.1) ----------------------------------------------------------


def test_a_configuration_is_in_force_on_each_node_when_it_is_appended(three: Cell) -> None:
    lead(three)
    three.change("n1", add("n4"))
    assert names(three, "n1") == ["n1", "n2", "n3", "n4"]
    three.tick("n1")
    three.carry(lambda letter: letter.target == "n2")
    assert three["n2"].commit_index < three["n2"].config.position
    assert names(three, "n2") == ["n1", "n2", "n3", "n4"]
    assert names(three, "n3") == ["n1", "n2", "n3"]


def test_the_commit_of_a_configuration_needs_a_majority_of_itself(three: Cell) -> None:
    with_learner(three)
    position = three.change("n1", promote("n4"))
    three.settle(["n1", "n2"])
    assert three["n1"].commit_index < position  # two of four
    three.heartbeat(["n1", "n2", "n4"])
    assert three["n1"].commit_index == position


def test_a_truncated_configuration_is_not_in_force_any_more(three: Cell) -> None:
    lead(three)
    three.change("n1", remove("n3"))
    assert names(three, "n1") == ["n1", "n2"]
    three.mail.clear()
    three.time_out("n2")
    three.settle(["n2", "n3"])
    assert three["n2"].is_leader
    three.heartbeat()
    assert names(three, "n1") == ["n1", "n2", "n3"]
    assert len(three.engines["n1"].journal.configurations()) == 1
    assert {node.id for node in three["n1"].otherNodes} == {"n2", "n3"}
    assert three.logs()[0] == three.logs()[1] == three.logs()[2]


def test_a_truncated_configuration_gives_way_to_the_one_before_it(three: Cell) -> None:
    lead(three)
    first = three.change("n1", add("n4"))
    three.settle()
    three.change("n1", remove("n3"))
    three.mail.clear()
    three.time_out("n2")
    three.settle(["n2", "n3"])
    three.heartbeat()
    assert three["n1"].config.position == first
    assert names(three, "n1") == ["n1", "n2", "n3", "n4"]


def test_a_restart_in_the_uncommitted_tail_restores_its_configuration(three: Cell) -> None:
    lead(three)
    position = three.change("n1", add("n4"))
    three.tick("n1")
    three.mail.clear()
    three.restart("n1")
    assert three["n1"].commit_index < position == three["n1"].config.position
    assert names(three, "n1") == ["n1", "n2", "n3", "n4"]


def test_a_tick_that_could_not_be_written_takes_its_configuration_along(three: Cell) -> None:
    leader = lead(three)
    three.change("n1", add("n4"))
    three.engines["n1"].store.abort()
    three.engines["n1"].journal.reload()
    leader.restart(three.now)
    assert names(three, "n1") == ["n1", "n2", "n3"]


# -- one change at a time (4.1, 4.3; raft-dev, July 2015) -----------------------------------------------------------


def test_a_second_change_is_refused_while_the_first_is_not_committed(three: Cell) -> None:
    leader = lead(three)
    three.change("n1", add("n4"))
    reason = leader.why_no_change(removed(leader.config.members, "n3"))
    assert reason is not None
    assert reason.startswith("change_under_way: ")
    three.settle()
    assert leader.why_no_change(removed(leader.config.members, "n3")) is None


def test_a_leader_changes_nothing_before_it_has_committed_an_entry_of_its_own_term(three: Cell) -> None:
    """Else two configurations without a common majority could both commit (Ongaro, raft-dev, July 2015)."""
    three.time_out("n1")
    three.carry()
    three.tick("n1", "n2", "n3")
    three.carry(lambda letter: letter.type == "response_vote")
    three.tick("n1")
    three.carry(lambda letter: letter.type != "append_entries")
    three.tick("n2", "n3")
    three.carry()
    leader = three["n1"]
    assert leader.is_leader
    assert not leader.can_serve_reads
    assert str(leader.why_no_change(removed(leader.config.members, "n3"))).startswith("change_under_way: ")


def test_three_changes_at_once_are_refused(three: Cell) -> None:
    leader = lead(three)
    members = leader.config.members
    assert not is_one_step(members, removed(removed(members, "n2"), "n3"))
    swapped = added(removed(members, "n3"), "n4", "h:1")
    assert str(leader.why_no_change(swapped)).startswith("members_changed: ")
    assert str(leader.why_no_change(promoted(added(members, "n4", "h:1"), "n4"))).startswith("members_changed: ")


def test_what_is_in_force_already_is_no_change(three: Cell) -> None:
    """A request that was sent twice must not be in the log twice."""
    leader = lead(three)
    assert str(leader.why_no_change(leader.config.members)).startswith("members_changed: ")


def test_nobody_comes_or_goes_before_the_log_names_the_members(three: Cell) -> None:
    leader = three.elect("n1")
    assert leader.can_serve_reads
    assert str(leader.why_no_change(removed(leader.config.members, "n3"))).startswith("change_under_way: ")
    assert leader.why_no_change(leader.config.members) is None


def test_a_member_does_not_lose_its_vote_or_change_its_address() -> None:
    members = added(added((), "n1", "h:1"), "n2", "h:2")
    members = promoted(promoted(members, "n1"), "n2")
    assert not is_one_step(members, (members[0], members[1]._replace(voter=False)))
    assert not is_one_step(members, (members[0], members[1]._replace(address="h:3")))


def test_a_change_that_too_few_could_commit_is_refused(three: Cell) -> None:
    leader = lead(three)
    for _ in range(int(TIMING.fallback_s / TIMING.heartbeat_s) + 2):
        three.heartbeat(["n1", "n2"])
    assert leader.is_leader
    assert str(leader.why_no_change(removed(leader.config.members, "n2"))).startswith("no_majority: ")
    assert leader.why_no_change(removed(leader.config.members, "n3")) is None


def test_what_makes_no_sense_is_refused_with_its_reason(three: Cell) -> None:
    members = three["n1"].config.members
    for change, reason in (
        (add("n2"), "is_a_member"),
        (add("N9"), "bad_name"),
        (lambda m: added(m, "n9", "no port"), "bad_address"),
        (lambda m: added(m, "n9", "host:70000"), "bad_address"),
        (remove("n9"), "not_a_member"),
        (lambda m: removed(removed(removed(m, "n1"), "n2"), "n3"), "last_voter"),
    ):
        with pytest.raises(Rejected) as caught:
            change(members)
        assert caught.value.reason == reason


def test_a_cell_has_at_most_nine_members(three: Cell) -> None:
    members = three["n1"].config.members
    for number in range(4, 10):
        members = added(members, f"n{number}", f"h:{number}")
    with pytest.raises(Rejected, match="too_many_members"):
        added(members, "n10", "h:10")


def test_a_name_is_not_used_again(three: Cell) -> None:
    leader = lead(three)
    three.change("n1", remove("n3"))
    three.settle()
    again = added(leader.config.members, "n3", "h:1")
    assert str(leader.why_no_change(again)).startswith("was_a_member: ")


# -- learners (4.2.1) -----------------------------------------------------------------------------------------------


def test_a_learner_gets_every_entry_and_commit(three: Cell) -> None:
    with_learner(three)
    three.propose("n1", 3)
    three.settle()
    assert three.engines["n4"].log() == three.engines["n1"].log()
    assert three["n4"].commit_index == three["n1"].commit_index


def test_a_learner_does_not_count_for_the_commit_index(three: Cell) -> None:
    with_learner(three)
    index = three.propose("n1")
    three.settle(["n1", "n4"])
    assert three["n1"].commit_index < index


def test_a_learner_does_not_count_for_a_read(three: Cell) -> None:
    leader = with_learner(three)["n1"]
    leader.read("", b"token")
    three.settle(["n1", "n4"])
    assert leader.reads_done == []
    three.heartbeat(["n1", "n2"])
    assert [read.token for read, _ in leader.reads_done] == [b"token"]


def test_a_leader_that_hears_only_learners_steps_down(three: Cell) -> None:
    leader = with_learner(three)["n1"]
    for _ in range(int(TIMING.fallback_s / TIMING.heartbeat_s) + 2):
        three.heartbeat(["n1", "n4"])
    assert not leader.is_leader


def test_the_vote_of_a_learner_is_not_counted(three: Cell) -> None:
    with_learner(three)
    three.time_out("n2")
    three.settle(["n2", "n4"])
    assert not three["n2"].is_leader
    three["n2"].receive("n4", {"type": "response_vote", "term": 2, "pre": True, "granted": True}, three.now)
    assert not three["n2"].is_leader
    assert three["n2"].term == 1


def test_a_learner_never_campaigns(three: Cell) -> None:
    with_learner(three)
    for _ in range(5):
        three.time_out("n4")
    assert [letter for letter in three.mail if letter.type == "request_vote"] == []
    assert three["n4"].term == 1


def test_leadership_is_not_passed_to_a_learner(three: Cell) -> None:
    leader = with_learner(three)["n1"]
    assert str(leader.hand_over("n4", 1.0)).startswith("not_a_voter: ")
    leader.hand_over_now()
    three.tick("n1")
    assert {letter.target for letter in three.mail if letter.type == "timeout_now"} <= {"n2", "n3"}


def test_a_learner_that_keeps_pace_has_caught_up(three: Cell) -> None:
    leader = with_learner(three)["n1"]
    three.propose("n1", 3)
    three.settle()
    three.heartbeat()
    assert leader.caught_up() == "n4"


def test_a_learner_that_is_behind_or_silent_has_not_caught_up(three: Cell) -> None:
    leader = lead(three)
    three.join("n4")
    three.change("n1", add("n4"))
    three.settle(["n1", "n2", "n3"])
    assert leader.caught_up() is None
    three.pass_time(TIMING.election_min_s + 0.1)  # a round that takes longer than an election timeout
    three.settle()
    assert three.engines["n4"].log() == three.engines["n1"].log()
    assert leader.caught_up() is None
    three.propose("n1")
    three.heartbeat()
    three.heartbeat()
    assert leader.caught_up() == "n4"
    for _ in range(6):
        three.heartbeat(["n1", "n2", "n3"])
    assert leader.caught_up() is None


def test_a_promoted_learner_votes_and_may_lead(three: Cell) -> None:
    with_four(three)
    three.elect("n4", ["n2", "n3", "n4"])
    three.propose("n4")
    three.heartbeat()
    assert three["n1"].leader == "n4"


# -- nodes that do not know each other yet (4.1, end) ---------------------------------------------------------------


def lagging(cell: Cell) -> Cell:
    """n3 has not heard of n4, which votes."""
    lead(cell)
    cell.join("n4")
    among = ["n1", "n2", "n4"]
    cell.change("n1", add("n4"))
    cell.settle(among)
    cell.change("n1", promote("n4"))
    cell.settle(among)
    assert names(cell, "n3") == ["n1", "n2", "n3"]
    return cell


def test_a_node_follows_a_leader_that_it_has_not_heard_of(three: Cell) -> None:
    lagging(three).restart("n1")
    three.elect("n4", ["n1", "n2", "n4"])
    three.pass_time(TIMING.election_min_s)
    three.heartbeat()
    assert three["n3"].leader == "n4"
    assert names(three, "n3") == ["n1", "n2", "n3", "n4"]
    assert three.engines["n3"].log() == three.engines["n4"].log()


def test_a_node_votes_for_a_candidate_that_it_has_not_heard_of(three: Cell) -> None:
    lagging(three).time_out("n4")
    three.settle(["n2", "n3", "n4"])
    assert three["n4"].is_leader


def test_one_that_is_no_member_is_not_heard_while_a_leader_is(three: Cell) -> None:
    lead(three)
    three["n2"].receive("n9", append_message(99, 0, 0, [99]), three.now)
    three["n2"].receive("n9", vote_request(99, 99, 99, transfer=True), three.now)
    assert (three["n2"].term, three["n2"].leader) == (1, "n1")


@pytest.mark.parametrize("type_", ["next_node_idx", "response_vote", "timeout_now", "removed"])
def test_answers_of_one_that_is_no_member_are_not_taken(three: Cell, type_: str) -> None:
    lead(three)
    three.pass_time(10)
    message = {"type": type_, "term": 9, "pre": False, "granted": True, "success": False, "position": 99}
    three["n1"].receive("n9", message, three.now)
    three["n2"].receive("n9", message, three.now)
    assert (three["n1"].term, three["n2"].term, three["n2"].removed_at) == (1, 1, 0)


# -- removal (4.2.2, 4.2.3) -----------------------------------------------------------------------------------------


def test_a_removed_node_is_told_and_then_left_alone(three: Cell) -> None:
    leader = lead(three)
    position = three.change("n1", remove("n3"))
    three.settle()
    three.heartbeat()
    assert three["n3"].removed_at == position
    assert three["n3"].commit_index >= position
    assert [link.name for link in leader.links] == ["n2"]
    three.propose("n1")
    three.tick("n1")
    assert {letter.target for letter in three.mail} == {"n2"}


def test_a_node_learns_of_its_removal_when_that_is_committed_though_a_later_change_is_not(three: Cell) -> None:
    lead(three)
    position = three.change("n1", remove("n3"))
    three.settle(["n1", "n2"])
    three.change("n1", add("n4"))
    three.pass_time(TIMING.heartbeat_s + 0.001)
    three.settle(["n1", "n3"])
    assert position <= three["n3"].commit_index < three["n3"].config.position
    assert three["n3"].removed_at == position


def test_a_removed_node_that_can_not_be_told_is_given_up(three: Cell) -> None:
    leader = lead(three)
    three.change("n1", remove("n3"))
    three.settle(["n1", "n2"])
    assert [link.name for link in leader.links] == ["n2", "n3"]
    for _ in range(61):
        three.pass_time(1.0)
        three.settle(["n1", "n2"])
    assert [link.name for link in leader.links] == ["n2"]


def test_a_node_that_was_removed_while_it_was_down_learns_of_it_when_it_asks(three: Cell) -> None:
    lead(three)
    position = three.change("n1", remove("n3"))
    three.settle(["n1", "n2"])
    three.pass_time(61)
    three.elect("n2", ["n1", "n2"])
    three.restart("n3")
    assert names(three, "n3") == ["n1", "n2", "n3"]
    three.time_out("n3")
    three.settle()
    assert three["n3"].removed_at == position


def test_a_node_that_has_only_appended_its_removal_learns_that_it_is_committed_when_it_asks_for_votes(
    three: Cell,
) -> None:
    lead(three)
    position = three.change("n1", remove("n3"))
    three.settle(["n1", "n3"])  # n3 has it, uncommitted, and its leader knows nothing of it when it comes back
    three.restart("n1")
    three.elect("n1", ["n1", "n2"])
    three.heartbeat(["n1", "n2"])
    three.time_out("n3")
    three.settle(["n1", "n2", "n3"])
    assert three["n3"].removed_at == position
    assert (three["n1"].term, three["n1"].is_leader) == (2, True)
    three.time_out("n3")
    assert [letter.type for letter in three.mail if letter.source == "n3"] == ["am_i_removed"] * 2


def test_a_node_whose_removal_is_not_committed_stands_where_only_it_has_what_is_needed(tmp_path: Path) -> None:
    """Figure 4.6: without it the cell could never decide again. It leads without counting itself, then goes."""
    with cell(tmp_path, "n1", "n2") as two:
        lead(two)
        position = two.change("n1", remove("n1"))
        two.tick("n1")
        two.mail.clear()  # n2 never gets it, and its log is the shorter one
        two.restart("n1")
        two.time_out("n2")
        two.settle()
        assert two["n2"].role == "follower"
        two.elect("n1")
        two.settle()
        two.heartbeat()
        assert two["n2"].is_leader
        assert names(two, "n2") == ["n2"]
        assert two["n1"].removed_at == position


def test_a_removed_server_does_not_disturb_the_cell(three: Cell) -> None:
    """4.2.3: it does not get the entry that removes it, times out again and again, and asks for votes."""
    leader = lead(three)
    three.change("n1", remove("n3"))
    three.settle(["n1", "n2"])
    three.restart("n3")
    for _ in range(5):
        three.pass_time(TIMING.heartbeat_s + 0.001)
        three["n3"]._SyncObj__raftElectionDeadline = three.now
        three.tick("n3")
        for term in (2, 9):
            three["n1"].receive("n3", vote_request(term, 99, 99), three.now)
            three["n2"].receive("n3", vote_request(term, 99, 99), three.now)
        three.settle(["n1", "n2"])
    assert (leader.is_leader, leader.term, three["n2"].term) == (True, 1, 1)


def test_a_removed_server_can_not_be_elected_even_when_nobody_leads(three: Cell) -> None:
    lead(three)
    three.change("n1", remove("n3"))
    three.settle(["n1", "n2"])
    three.pass_time(10)
    three.time_out("n3")
    three.settle(["n2", "n3"])
    assert not three["n3"].is_leader
    assert three["n2"].term == 1


def test_a_leader_that_removes_itself_does_not_count_itself(three: Cell) -> None:
    leader = lead(three)
    position = three.change("n1", remove("n1"))
    three.settle(["n1", "n2"])
    assert leader.is_leader
    assert leader.commit_index < position  # one of the two that are left
    three.heartbeat()
    assert leader.commit_index == position


def test_a_leader_that_was_removed_hands_over_once_that_is_committed(three: Cell) -> None:
    leader = lead(three)
    position = three.change("n1", remove("n1"))
    three.settle()
    three.heartbeat()
    three.heartbeat()
    assert not leader.is_leader
    assert leader.removed_at == position
    assert three["n2"].is_leader or three["n3"].is_leader
    assert three["n2"].leader == three["n3"].leader


def test_a_removed_leader_whose_successor_is_silent_steps_down(three: Cell) -> None:
    leader = lead(three)
    position = three.change("n1", remove("n1"))
    three.settle()
    three.mail.clear()
    if leader.is_leader:
        three.pass_time(TIMING.election_max_s + 0.1)
        three.tick("n1")
        three.tick("n1")
    assert not leader.is_leader
    assert leader.removed_at == position


def test_a_node_that_joins_is_not_told_that_it_was_removed(three: Cell) -> None:
    with_learner(three)
    three.restart("n4")
    three.time_out("n4")
    three.settle()
    assert three["n4"].removed_at == 0


def test_a_cell_of_one_grows_to_three_and_shrinks_to_another_one(alone: Cell) -> None:
    leader = lead(alone)
    for name in ("n2", "n3"):
        alone.join(name)
        alone.change("n1", add(name))
        alone.settle()
        alone.heartbeat()
        assert leader.caught_up() == name
        alone.change("n1", promote(name))
        alone.settle()
    alone.propose("n1", 5)
    alone.settle()
    alone.change("n1", remove("n2"))
    alone.settle()
    alone.heartbeat()
    alone.change("n1", remove("n1"))
    alone.settle()
    alone.heartbeat()
    alone.settle()
    assert alone["n3"].is_leader
    index = alone.propose("n3")
    alone.tick("n3")
    assert alone["n3"].commit_index == index
    assert names(alone, "n3") == ["n3"]


# -- handing over on request (3.10) ---------------------------------------------------------------------------------


def test_leadership_is_passed_to_the_member_that_was_named(three: Cell) -> None:
    leader = lead(three)
    assert leader.hand_over("n3", 1.0) is None
    assert leader.is_handing_over
    three.settle()
    assert three["n3"].is_leader


def test_leadership_waits_for_a_member_that_lacks_entries(three: Cell) -> None:
    leader = lead(three)
    three.propose("n1", 3)
    three.settle(["n1", "n2"])
    assert leader.hand_over("n3", 1.0) is None
    three.tick("n1")
    assert not [letter for letter in three.mail if letter.type == "timeout_now"]
    three.heartbeat()
    three.heartbeat()
    assert three["n3"].is_leader


def test_a_leader_goes_on_when_the_named_member_is_silent(three: Cell) -> None:
    leader = lead(three)
    three.propose("n1")
    assert leader.hand_over("n3", 0.3) is None
    for _ in range(5):
        three.heartbeat(["n1", "n2"])
    assert leader.is_leader
    assert not leader.is_handing_over
