"""The consensus thread's tick: durable first, then told; and a tick that can not be written never happened.

Ticks are run here one by one on the test's own thread.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest
from pysyncobj.node import Node
from structlog.testing import capture_logs

import eventlog.admission
import eventlog.folding
from eventlog import members, uploads
from eventlog.errors import SyncFailed
from eventlog.fold import Outcome
from eventlog.journal import KIND_CONFIG
from eventlog.members import Members, change_record
from eventlog.raft import ConsensusViolation, Timing
from eventlog.record import Record, encode
from eventlog.store import Store
from eventlog.ticks import Item, Proposal, Tick
from eventlog.writer import Writer
from tests.eventlog import ledger
from tests.eventlog.conftest import MAP_BYTES

FOUNDED = 3  # positions that a new cell takes itself: a leader's no-op, its feature level, its members


class WatchedStore(Store):
    """A store that fails when it is told to, and says when it was committed."""

    failure: lmdb.Error | None = None
    commits = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lasts = [False]  # of each commit: whether it must outlive the power

    def commit(self, *, last: bool = True) -> None:
        if self.failure is not None and self.dirty:
            raise self.failure
        super().commit(last=last)
        self.commits += 1
        self.lasts.append(last)


class Driven:
    """A writer whose ticks a test runs, and what they told."""

    def __init__(self, folder: Path, names: tuple[str, ...] = ("n1",)) -> None:
        self.store = WatchedStore(folder / "data", MAP_BYTES, durable=False)
        self.wanted: set[bytes] = set()
        self.told: list[Tick] = []
        self.committed_when_told: list[int] = []
        self.writer = Writer(
            "n1",
            names,
            self.store,
            ledger.evolve,
            timing=Timing(),
            reserve_bytes=1024,
            wanted=self.wanted,
            on_tick=self._tell,
            on_fatal=lambda error: None,
        )

    def _tell(self, tick: Tick) -> None:
        self.committed_when_told.append(self.store.commits)
        self.told.append(tick)

    def tick(self, *items: Item) -> Tick:
        self.writer._early = []
        self.writer._run_tick(list(items))
        return self.told[-1]

    @property
    def early(self) -> list[tuple[str, dict[str, Any]]]:
        """What the last tick let go before it was durable."""
        return self.writer._early

    def lead(self) -> Tick:
        """Wins the election of its next term; gives the tick in which it did."""
        self.tick(("connected", "n2"), ("connected", "n3"))
        raft = self.writer._raft
        raft._SyncObj__raftElectionDeadline = 0.0
        self.tick()
        vote = {"type": "response_vote", "term": raft.term + 1, "pre": True, "granted": True}
        self.tick(("message", "n2", vote))
        return self.tick(("message", "n2", {**vote, "term": raft.term, "pre": False}))

    def acknowledge(self, peer: str, match: int) -> Item:
        """A follower's answer: it has everything up to `match`."""
        reply = {"type": "next_node_idx", "term": self.writer._raft.term, "success": True, "match": match,
                 "rejected": 0, "hint": 0, "hint_term": 0, "round": 0, "clock_ms": int(time.time() * 1000),
                 "low_on_space": False}  # fmt: skip
        return "message", peer, reply

    def proposal(self, record: Record, *bodies: bytes, origin: str | None = None, off_ms: int = 0) -> Item:
        self.wanted.add(record.id)
        return "proposal", Proposal(record.id, encode(record), bodies, int(time.time() * 1000) + off_ms, origin)


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Driven]:
    driven = Driven(tmp_path)
    driven.tick()
    with capture_logs():
        yield driven
    driven.store.close()


@pytest.fixture
def one_of_three(tmp_path: Path) -> Iterator[Driven]:
    driven = Driven(tmp_path, ("n1", "n2", "n3"))
    with capture_logs():
        yield driven
    driven.store.close()


def append_entries(term: int, *records: Record, commit: int = 0) -> dict[str, Any]:
    now_ms = int(time.time() * 1000)
    return {
        "type": "append_entries",
        "term": term,
        "prevLogIdx": 0,
        "prevLogTerm": 0,
        "entries": [(term, 0, now_ms, encode(record), ()) for record in records],
        "commit_index": commit,
        "round": 0,
    }


FULL = lmdb.MapFullError("mdb_txn_commit: MDB_MAP_FULL")


def test_a_tick_is_durable_before_anything_of_it_is_told(one_of_three: Driven) -> None:
    before = one_of_three.store.commits
    tick = one_of_three.tick(("message", "n2", append_entries(1, ledger.record())))
    assert [(peer, message["success"]) for peer, message in tick.messages] == [("n2", True)]
    assert one_of_three.committed_when_told[-1] == before + 1


def test_nothing_is_told_of_a_tick_that_could_not_be_written(one_of_three: Driven) -> None:
    one_of_three.store.failure = FULL
    tick = one_of_three.tick(("message", "n2", append_entries(1, ledger.record(), commit=1)))
    assert (tick.messages, tick.answers, tick.folded) == ([], [], [])
    assert (tick.state.term, tick.state.last_index, tick.state.commit, tick.state.applied) == (0, 0, 0, 0)


def test_the_next_tick_after_one_that_could_not_be_written_begins_where_the_disk_is(one_of_three: Driven) -> None:
    one_of_three.store.failure = FULL
    one_of_three.tick(("message", "n2", append_entries(1, ledger.record())))
    one_of_three.store.failure = None
    tick = one_of_three.tick(("message", "n2", append_entries(1, ledger.record(), commit=1)))
    assert (tick.state.term, tick.state.last_index, tick.state.applied) == (1, 1, 1)


def test_proposals_of_a_tick_that_could_not_be_written_are_refused_and_the_leader_resigns(alone: Driven) -> None:
    record = ledger.record()
    alone.store.failure = FULL
    tick = alone.tick(alone.proposal(record))
    assert tick.refusals == [(record.id, "disk_full")]
    assert (tick.state.role, tick.answers) == ("follower", [])
    forwarded = ledger.record()
    alone.store.failure = None
    tick = alone.tick(alone.proposal(forwarded, origin="n2"))
    assert [(peer, m["id"], m["reason"]) for peer, m in tick.messages] == [("n2", forwarded.id, "not_leader")]


def test_what_a_full_tick_had_not_taken_yet_is_not_forgotten(
    one_of_three: Driven, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise FULL

    monkeypatch.setattr(one_of_three.writer._journal, "add", full)
    late = one_of_three.proposal(ledger.record())
    tick = one_of_three.tick(
        ("message", "n2", append_entries(1, ledger.record())), ("connected", "n2"), late, ("read", b"token"), ("stop",)
    )
    assert one_of_three.writer._stopping
    assert one_of_three.writer._raft.isNodeConnected(Node("n2"))
    assert tick.refusals == [(late[1].id, "not_leader")]
    assert tick.reads == [(b"token", None)]


def test_a_leaders_entries_are_on_their_way_while_it_writes_them_and_count_once_it_has(one_of_three: Driven) -> None:
    one_of_three.lead()
    noop = one_of_three.writer.state.last_index
    one_of_three.tick(one_of_three.acknowledge("n2", noop), one_of_three.acknowledge("n3", noop))
    committed = one_of_three.writer.state.commit
    tick = one_of_three.tick(one_of_three.proposal(ledger.record()))
    sent = [(peer, len(message["entries"])) for peer, message in one_of_three.early if message["entries"]]
    assert sent == [("n2", 1), ("n3", 1)]
    assert tick.messages == []
    assert tick.state.commit == committed, "no follower has it yet"
    tick = one_of_three.tick(one_of_three.acknowledge("n2", tick.state.last_index))
    assert tick.state.commit == tick.state.last_index


def test_a_tick_that_makes_a_leader_of_a_new_term_says_nothing_before_it_is_durable(one_of_three: Driven) -> None:
    one_of_three.tick(("message", "n2", append_entries(1, ledger.record())))
    raft = one_of_three.writer._raft
    raft._SyncObj__raftElectionDeadline = 0.0
    one_of_three.tick()
    vote = {"type": "response_vote", "term": raft.term + 1, "pre": True, "granted": True}
    tick = one_of_three.tick(("message", "n3", vote))
    assert [message["type"] for _, message in tick.messages] == ["request_vote", "request_vote"]
    assert one_of_three.early == []


def test_a_follower_says_nothing_before_it_is_durable(one_of_three: Driven) -> None:
    tick = one_of_three.tick(("message", "n2", append_entries(1, ledger.record())))
    assert one_of_three.early == []
    assert len(tick.messages) == 1


def test_a_leader_that_could_not_write_what_it_had_sent_does_not_say_that_it_was_refused(one_of_three: Driven) -> None:
    one_of_three.lead()
    noop = one_of_three.writer.state.last_index
    one_of_three.tick(one_of_three.acknowledge("n2", noop), one_of_three.acknowledge("n3", noop))
    before = one_of_three.writer.state.last_index
    one_of_three.store.failure = FULL
    tick = one_of_three.tick(one_of_three.proposal(ledger.record()))
    assert any(message["entries"] for _, message in one_of_three.early)
    assert tick.refusals == [], "the others may commit it: its outcome is unknown"
    assert tick.state.role == "follower"
    assert tick.state.last_index == before


def test_what_only_folds_need_not_outlive_the_power_and_what_is_appended_must(one_of_three: Driven) -> None:
    one_of_three.lead()
    assert one_of_three.store.lasts.pop(), "a term, a vote and the no-op of the new leader"
    tick = one_of_three.tick(one_of_three.proposal(ledger.record()))
    assert one_of_three.store.lasts.pop()
    tick = one_of_three.tick(one_of_three.acknowledge("n2", tick.state.last_index))
    assert tick.answers
    assert not one_of_three.store.lasts.pop()
    one_of_three.tick(("message", "n2", append_entries(tick.state.term + 1)))
    assert one_of_three.store.lasts.pop(), "a term"


def test_what_a_caller_writes_between_ticks_outlives_the_power(alone: Driven) -> None:
    alone.tick(("call", lambda: alone.store.put_meta(b"note", 1)))
    assert alone.store.lasts[-1]


def test_a_commit_of_which_nobody_knows_whether_it_is_on_disk_ends_the_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driven = Driven(tmp_path)

    def sync() -> None:
        raise SyncFailed("mdb_env_sync: Input/output error")

    monkeypatch.setattr(driven.store, "_durable", True)
    monkeypatch.setattr(driven.store, "_sync", sync)
    with pytest.raises(SyncFailed):
        driven.tick()  # it elects itself
    driven.store.close()


def test_a_failed_disk_is_no_full_disk(alone: Driven) -> None:
    alone.store.failure = lmdb.Error("mdb_txn_commit: Input/output error")
    with pytest.raises(lmdb.Error):
        alone.tick(alone.proposal(ledger.record()))


def test_a_violation_of_consensus_ends_the_thread(one_of_three: Driven) -> None:
    one_of_three.tick(("message", "n2", append_entries(1, ledger.record(), commit=1)))
    with pytest.raises(ConsensusViolation):
        one_of_three.tick(("message", "n3", append_entries(2, ledger.record())))


def test_a_caller_is_answered_in_the_tick_that_folds_its_record(alone: Driven) -> None:
    record = ledger.record(ledger.event("x"))
    tick = alone.tick(alone.proposal(record))
    assert [(a.id, a.outcome, a.position, a.results) for a in tick.answers] == [
        (record.id, Outcome.COMMITTED, FOUNDED + 1, ((1, FOUNDED + 1),))
    ]


def test_a_duplicate_is_answered_with_the_first_outcome_and_position(alone: Driven) -> None:
    record = ledger.record(ledger.event("x"))
    alone.tick(alone.proposal(record))
    tick = alone.tick(alone.proposal(record))
    assert [(a.outcome, a.position) for a in tick.answers] == [(Outcome.COMMITTED, FOUNDED + 1)]


def test_only_what_this_node_waits_for_is_answered(alone: Driven) -> None:
    item = alone.proposal(ledger.record(), origin="n2")
    alone.wanted.clear()
    assert alone.tick(item).answers == []


@pytest.mark.parametrize("off_ms", [-6000, 6000])
def test_a_proposal_whose_clock_is_off_is_refused(alone: Driven, off_ms: int) -> None:
    record = ledger.record()
    assert alone.tick(alone.proposal(record, off_ms=off_ms)).refusals == [(record.id, "clock")]


def test_a_follower_refuses_proposals(one_of_three: Driven) -> None:
    record = ledger.record()
    assert one_of_three.tick(one_of_three.proposal(record)).refusals == [(record.id, "not_leader")]


def test_a_leader_with_too_much_uncommitted_is_busy(alone: Driven, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eventlog.admission, "MAX_UNCOMMITTED", 3)
    records = [ledger.record() for _ in range(6)]
    tick = alone.tick(*map(alone.proposal, records))
    assert [reason for _, reason in tick.refusals] == ["busy", "busy"]
    assert len(tick.answers) == 4


def test_a_long_fold_is_cut_so_that_heartbeats_go_out(alone: Driven, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eventlog.folding, "FOLD_BUDGET_S", -1)
    tick = alone.tick(*(alone.proposal(ledger.record()) for _ in range(100)))
    assert tick.state.behind
    assert tick.state.applied < tick.state.commit == FOUNDED + 100
    for _ in range(5):
        tick = alone.tick()
    assert (tick.state.behind, tick.state.applied) == (False, FOUNDED + 100)


def test_what_is_folded_later_than_it_is_committed_is_answered_then(
    alone: Driven, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eventlog.folding, "FOLD_BUDGET_S", -1)
    answered = len(alone.tick(*(alone.proposal(ledger.record()) for _ in range(100))).answers)
    for _ in range(5):
        answered += len(alone.tick().answers)
    assert answered == 100


def test_a_damaged_message_is_ignored_and_the_rest_of_the_tick_is_not(one_of_three: Driven) -> None:
    tick = one_of_three.tick(
        ("message", "n2", {"type": "append_entries"}),
        ("message", "n2", {"type": "request_vote", "term": None}),
        ("message", "n2", {"type": "propose", "proposals": [1]}),
        ("message", "n2", append_entries(1, ledger.record())),
    )
    assert tick.state.last_index == 1


@pytest.mark.parametrize(
    "damage",
    [{"entries": [(1, 0, -1, b"", ())]}, {"entries": [(1, 0, 1, None, ())]}, {"entries": [(1, 0, 1, b"x", 7)]}],
)
def test_a_damaged_entry_of_a_peer_does_not_end_the_thread(one_of_three: Driven, damage: dict[str, Any]) -> None:
    one_of_three.tick(("message", "n2", append_entries(1) | damage))
    tick = one_of_three.tick(("message", "n2", append_entries(1, ledger.record())))
    assert tick.state.term == 1


def test_a_leader_collects_chunks_that_nobody_claimed(alone: Driven, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "CLAIM_MS", 0)
    chunk = ledger.chunk_record(b"chunk")
    alone.tick(alone.proposal(chunk, b"chunk"))
    time.sleep(0.002)
    alone.tick(alone.proposal(ledger.record()))
    monkeypatch.setattr(alone.writer._duties, "collect_due", 0.0)
    alone.tick()  # proposes it
    tick = alone.tick()
    assert [folded.record.cause for folded in tick.folded if folded.record] == ["unclaimed chunks"]
    with alone.store.snapshot() as snapshot:
        assert snapshot.body(ledger.UPLOAD, chunk.bodies[0].digest) is None


def test_a_stalled_fold_is_told_and_consensus_goes_on(alone: Driven) -> None:
    tick = alone.tick(alone.proposal(ledger.record(ledger.event(type_="Fail"))))
    assert tick.state.stalled is not None
    assert (tick.state.role, tick.state.commit, tick.state.applied) == ("leader", FOUNDED + 1, FOUNDED)
    record = ledger.record()
    assert alone.tick(alone.proposal(record)).refusals == [(record.id, "busy")]


def change(driven: Driven, changed: Members) -> Record:
    now_ms = int(time.time() * 1000)
    return change_record(changed, ledger.CLIENT, "a test", max(now_ms, driven.writer.state.at_ms), os.urandom)


def configuration(driven: Driven, record: Record) -> Item:
    driven.wanted.add(record.id)
    return "proposal", Proposal(record.id, encode(record), (), int(time.time() * 1000), None, None, KIND_CONFIG)


def test_a_change_of_the_members_that_is_sent_again_does_not_undo_those_after_it(alone: Driven) -> None:
    """Found by the simulation: to a new leader it looked like a change of its own, and a newer member was removed."""
    now = alone.writer.state.config.members
    alone.tick(configuration(alone, change(alone, members.added(now, "n2", "n2.test:1"))))
    removal = change(alone, now)
    alone.tick(configuration(alone, removal))
    alone.tick(configuration(alone, change(alone, members.added(now, "n3", "n3.test:1"))))
    tick = alone.tick(configuration(alone, removal))
    assert [(id_, reason.partition(":")[0]) for id_, reason in tick.refusals] == [(removal.id, "members_changed")]
    assert [member.name for member in tick.state.config.members] == ["n1", "n3"]


def test_a_change_of_the_members_that_has_expired_is_not_made(alone: Driven) -> None:
    late = change(alone, members.added(alone.writer.state.config.members, "n2", "n2.test:1"))._replace(expires_ms=1)
    tick = alone.tick(configuration(alone, late))
    assert [id_ for id_, _ in tick.refusals] == [late.id]
