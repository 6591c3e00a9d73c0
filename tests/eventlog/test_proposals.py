"""Committed, rejected or unknown: what a proposal may say of itself when attempts are lost, refused and repeated."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import eventlog.proposals
from eventlog.errors import OutcomeUnknown, Rejected
from eventlog.fold import Outcome
from eventlog.proposals import Committed, Proposals
from eventlog.record import Encoded
from eventlog.ticks import Answer, Proposal, State, Tick
from tests.eventlog import ledger

Run = Callable[[Coroutine[Any, Any, Any]], Any]
ID = bytes(16)


def encoded(id_: bytes, data: bytes) -> Encoded:
    """A record of this id; what its bytes are does not matter here, only how many."""
    return Encoded(ledger.record()._replace(id=id_), b"", data)


class Edge:
    """The consensus thread and the connections, as the proposals see them."""

    def __init__(self, leader: str | None = "n1") -> None:
        self.submitted: list[Proposal] = []
        self.forwarded: list[tuple[str, dict[str, Any]]] = []
        self.connected = True
        self.leader(leader, 1)
        self.proposals = Proposals("n1", self.submitted.append, self.forward, lambda: self.state)

    def leader(self, leader: str | None, term: int) -> None:
        role = "leader" if leader == "n1" else "follower"
        self.state = State(role, leader, term, 0, 0, 0, 0, bytes(32), 1 << 30, None, True, False, 0.0)

    def forward(self, peer: str, message: dict[str, Any]) -> bool:
        if self.connected:
            self.forwarded.append((peer, message))
        return self.connected

    def change_leader(self, leader: str | None, term: int) -> None:
        self.leader(leader, term)
        self.proposals.take(Tick(self.state, [], [], [], [], []), leader_changed=True)

    def answer(self, outcome: Outcome = Outcome.COMMITTED, position: int = 7) -> None:
        answer = Answer(ID, outcome, position, 1000, ("result",))
        self.proposals.take(Tick(self.state, [], [answer], [], [], []), leader_changed=False)

    def propose(self, timeout_s: float = 8.0, size: int = 10) -> asyncio.Future[Committed]:
        return asyncio.ensure_future(self.proposals.propose(encoded(ID, bytes(size)), (), timeout_s))

    def later(self, seconds: float) -> None:
        self.proposals.review(time.monotonic() + seconds)


async def turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def test_a_leader_submits_to_itself_and_is_answered_from_the_fold(run: Run) -> None:
    async def scenario() -> None:
        edge = Edge()
        waiting = edge.propose()
        await turn()
        assert [proposal.id for proposal in edge.submitted] == [ID]
        edge.answer()
        assert await waiting == Committed(7, 1000, ("result",))
        assert edge.proposals.wanted == {}

    run(scenario())


def test_a_follower_forwards_what_one_turn_brings_in_one_message(run: Run) -> None:
    async def scenario() -> None:
        edge = Edge("n2")
        waiting = [
            asyncio.ensure_future(edge.proposals.propose(encoded(bytes((i,)) * 16, b"data"), (), 8.0)) for i in range(5)
        ]
        await turn()
        ((peer, message),) = edge.forwarded
        assert (peer, len(message["proposals"])) == ("n2", 5)
        for task in waiting:
            task.cancel()

    run(scenario())


def test_forwarded_messages_stay_below_what_a_peer_takes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eventlog.proposals, "FORWARD_BYTES", 1000)

    async def scenario() -> None:
        edge = Edge("n2")
        waiting = [
            asyncio.ensure_future(edge.proposals.propose(encoded(bytes((i,)) * 16, bytes(400)), (), 8.0))
            for i in range(9)
        ]
        await turn()
        assert [len(message["proposals"]) for _, message in edge.forwarded] == [3, 3, 3]
        for task in waiting:
            task.cancel()

    run(scenario())


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (Outcome.EXPIRED, "expired"),
        (Outcome.GUARD, "guard"),
        (Outcome.CHUNK_GONE, "chunk_gone"),
        (Outcome.BAD_RECORD, "bad_record"),
        (Outcome.TOO_LARGE, "too_large"),
    ],
)
def test_a_committed_refusal_is_a_rejection(run: Run, outcome: Outcome, reason: str) -> None:
    async def scenario() -> None:
        edge = Edge()
        waiting = edge.propose()
        await turn()
        edge.answer(outcome)
        with pytest.raises(Rejected) as caught:
            await waiting
        assert caught.value.reason == reason

    run(scenario())


def test_a_refusal_of_the_only_attempt_is_a_rejection(run: Run) -> None:
    async def scenario() -> None:
        edge = Edge("n2")
        waiting = edge.propose()
        await turn()
        edge.proposals.refused(ID, "disk_full")
        with pytest.raises(Rejected, match="disk_full"):
            await waiting

    run(scenario())


def test_a_refusal_never_overrides_an_earlier_attempt_that_is_unknown(run: Run) -> None:
    async def scenario() -> None:
        edge = Edge("n2")
        waiting = edge.propose(timeout_s=5)
        await turn()
        edge.change_leader("n3", 2)  # what became of the attempt at n2 is unknown
        await turn()
        assert [peer for peer, _ in edge.forwarded] == ["n2", "n3"]
        edge.proposals.refused(ID, "disk_full")
        await turn()
        assert not waiting.done()
        edge.later(6)
        with pytest.raises(OutcomeUnknown):
            await waiting

    run(scenario())


def test_an_earlier_attempt_may_still_answer_after_a_later_one_was_refused(run: Run) -> None:
    async def scenario() -> None:
        edge = Edge("n2")
        waiting = edge.propose()
        await turn()
        edge.change_leader("n3", 2)
        await turn()
        edge.proposals.refused(ID, "busy")
        edge.answer()
        assert (await waiting).position == 7

    run(scenario())


def test_losing_the_leader_is_unknown_and_never_a_rejection(run: Run) -> None:
    async def scenario() -> None:
        edge = Edge("n2")
        waiting = edge.propose(timeout_s=2)
        await turn()
        edge.change_leader(None, 2)
        edge.proposals.lost_connection("n2")
        edge.later(3)
        with pytest.raises(OutcomeUnknown):
            await waiting

    run(scenario())


def test_what_no_leader_ever_got_is_rejected(run: Run) -> None:
    async def scenario() -> None:
        edge = Edge(None)
        waiting = edge.propose(timeout_s=1)
        await turn()
        edge.later(2)
        with pytest.raises(Rejected, match="no_leader"):
            await waiting

    run(scenario())


def test_what_could_not_be_handed_over_is_tried_again_and_counts_as_never_sent(run: Run) -> None:
    async def scenario() -> None:
        edge = Edge("n2")
        edge.connected = False
        waiting = edge.propose(timeout_s=5)
        await turn()
        edge.later(0.2)
        await turn()
        assert edge.forwarded == []
        edge.later(6)
        with pytest.raises(Rejected, match="no_leader"):
            await waiting

    run(scenario())


def test_a_node_that_does_not_lead_any_more_is_left_for_the_one_that_does(run: Run) -> None:
    async def scenario() -> None:
        edge = Edge("n2")
        waiting = edge.propose()
        await turn()
        edge.proposals.refused(ID, "not_leader")
        await turn()
        assert not waiting.done()
        edge.change_leader("n1", 2)
        assert [proposal.id for proposal in edge.submitted] == [ID]
        edge.answer()
        await waiting

    run(scenario())


def test_an_attempt_that_says_nothing_is_sent_again_under_the_same_id(run: Run) -> None:
    async def scenario() -> None:
        edge = Edge("n2")
        waiting = edge.propose()
        await turn()
        edge.later(2 * 0.5)
        await turn()
        assert len(edge.forwarded) == 1
        edge.later(2 * 1.5)
        await turn()
        assert [message["proposals"][0][0] for _, message in edge.forwarded] == [ID, ID]
        edge.answer()
        await waiting

    run(scenario())


def test_a_new_call_under_an_id_that_ended_unknown_is_not_rejected_for_a_refusal_of_its_own(run: Run) -> None:
    async def scenario() -> None:
        edge = Edge("n2")
        first = edge.propose(timeout_s=1)
        await turn()
        edge.later(2)
        with pytest.raises(OutcomeUnknown):
            await first
        second = edge.propose(timeout_s=3)
        await turn()
        edge.proposals.refused(ID, "disk_full")
        await turn()
        assert not second.done()
        edge.later(4)
        with pytest.raises(OutcomeUnknown):
            await second

    run(scenario())


def test_a_new_call_under_an_id_that_ended_unknown_is_not_rejected_because_it_has_expired_since(run: Run) -> None:
    async def scenario() -> None:
        edge = Edge("n2")
        first = edge.propose(timeout_s=1)
        await turn()
        edge.later(2)
        with pytest.raises(OutcomeUnknown):
            await first  # it may have taken effect, and its id have been forgotten
        second = edge.propose()
        await turn()
        edge.answer(Outcome.EXPIRED)
        with pytest.raises(OutcomeUnknown):
            await second

    run(scenario())


def test_a_proposal_goes_on_when_its_caller_gives_up_and_the_next_caller_gets_its_outcome(run: Run) -> None:
    async def scenario() -> None:
        edge = Edge("n2")
        first = edge.propose()
        await turn()
        first.cancel()
        await turn()
        assert ID in edge.proposals.wanted
        second = edge.propose()
        await turn()
        edge.answer()
        assert (await asyncio.wait_for(second, 2)).position == 7
        await turn()
        assert edge.proposals.wanted == {}

    run(scenario())


def test_a_caller_that_gives_up_does_not_take_another_callers_answer_away(run: Run) -> None:
    async def scenario() -> None:
        edge = Edge()
        first, second = edge.propose(), edge.propose()
        await turn()
        first.cancel()
        await turn()
        edge.answer()
        assert (await asyncio.wait_for(second, 2)).position == 7

    run(scenario())


def test_at_the_end_what_was_sent_is_unknown_and_what_was_not_is_rejected(run: Run) -> None:
    async def scenario() -> None:
        for leader, expected in (("n2", OutcomeUnknown), (None, Rejected)):
            edge = Edge(leader)
            waiting = edge.propose()
            await turn()
            edge.proposals.stop()
            with pytest.raises(expected):
                await waiting

    run(scenario())


def test_answers_and_refusals_for_nobody_are_ignored(run: Run) -> None:
    async def scenario() -> None:
        edge = Edge()
        edge.answer()
        edge.proposals.refused(ID, "busy")
        edge.proposals.lost_connection("n2")

    run(scenario())
