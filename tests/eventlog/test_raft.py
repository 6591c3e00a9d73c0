"""What the hardened engine adds to the paper, its messages carried by hand: the points of docs/ADR/0001-consensus.md.

Claims of the paper and of the thesis are in test_raft_paper.py and test_raft_thesis.py.
"""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pysyncobj
import pytest
from pysyncobj import SyncObj
from pysyncobj.node import Node

import eventlog.replication
from eventlog.errors import LogError
from eventlog.journal import KIND_NOOP, KIND_RECORD, Command
from eventlog.raft import ConsensusViolation, Raft
from tests.eventlog.engines import Cell, cell
from tests.eventlog.messages import append_message, appends, entries, reply, vote_request

SOURCES = sorted((Path(__file__).resolve().parents[2] / "eventlog").glob("*.py"))


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Cell]:
    with cell(tmp_path) as made:
        yield made


@pytest.fixture
def five(tmp_path: Path) -> Iterator[Cell]:
    with cell(tmp_path, "n1", "n2", "n3", "n4", "n5") as made:
        yield made


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


def test_peers_that_are_equally_far_are_sent_one_and_the_same_message(three: Cell) -> None:
    three.elect("n1")
    three.heartbeat()
    three.propose("n1")
    three.tick("n1")
    (to_n2,), (to_n3,) = appends(three, "n2"), appends(three, "n3")
    assert entries(to_n2) == 1
    assert to_n2.message is to_n3.message  # so that the transport packs it once


# -- 2: a follower truncates only at a conflict -----------------------------------------------------------------------


def test_a_node_stops_rather_than_truncate_what_is_committed(three: Cell) -> None:
    three.elect("n1")
    three.propose("n1", 3)
    three.settle()
    three.heartbeat()
    assert three["n2"].commit_index == 4
    with pytest.raises(ConsensusViolation, match="committed"):
        three["n2"].receive("n3", append_message(9, 1, 1, [9]), three.now)
    assert three.engines["n2"].log() == [1, 1, 1, 1]


# -- 3: replies carry their term --------------------------------------------------------------------------------------


def test_an_acknowledgement_beyond_the_leaders_log_stops_the_leader(three: Cell) -> None:
    leader = three.elect("n1")
    with pytest.raises(ConsensusViolation, match="beyond"):
        leader.receive("n2", reply(1, 50), three.now)


def test_two_leaders_of_one_term_stop_the_one_that_learns_of_it(three: Cell) -> None:
    leader = three.elect("n1")
    with pytest.raises(ConsensusViolation, match="so does this node"):
        leader.receive("n2", append_message(leader.term, 0, 0, []), three.now)


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


# -- 6: leaders that are not fit to lead ------------------------------------------------------------------------------


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


# -- a cell of one ----------------------------------------------------------------------------------------------------


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
