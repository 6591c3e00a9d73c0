"""The queue: mail in it is visible, attempted by one node at a time, and never lost."""

import dataclasses

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import CommandRefused, NameTaken, NoSuchItem, NotAllowed, TooLarge
from actors.kind import decode, encode_for
from actors.mail_options import MailOptions, RecipientOptions
from actors.queue import (
    Claim,
    Claimed,
    Enqueue,
    MailQueued,
    RecordAttempt,
    Release,
    RemoveItem,
    domain,
    item,
    items,
    queue_stream,
)
from tests.actors.stage import START_MS, DictTables, Stage

ITEM, TENANT = b"i" * 16, b"t" * 16
BOB, EVE = "bob@far.test", "eve@far.test"


def enqueue(item_id: bytes = ITEM, recipients: tuple[str, ...] = (BOB, EVE)) -> Enqueue:
    return Enqueue(
        "far.test", item_id, TENANT, "alice@example.test", recipients, b"d" * 32, 900, b"Received: x\r\n",
        START_MS + 5 * 86_400_000, START_MS,
    )  # fmt: skip


@pytest.fixture
def queued(stage: Stage) -> Stage:
    stage.do(enqueue())
    return stage


def claim(stage: Stage, node: str = "n1", seconds: int = 60) -> None:
    stage.do(Claim(ITEM, node, stage.at_ms + seconds * 1000, stage.at_ms))


def test_queued_mail_is_visible_and_due_at_once(queued: Stage) -> None:
    (found,) = items(queued.view)
    assert domain(queued.view) == "far.test"
    assert (found.id, found.sender, found.digest, found.trace) == (
        ITEM, "alice@example.test", b"d" * 32, b"Received: x\r\n",
    )  # fmt: skip
    assert [(one.address, one.state) for one in found.recipients] == [(BOB, "waiting"), (EVE, "waiting")]
    assert (found.next_ms, found.attempts, found.claim) == (START_MS, 0, None)


def test_an_item_is_queued_once(queued: Stage) -> None:
    with pytest.raises(NameTaken):
        queued.decide(enqueue())


def test_mail_without_recipients_or_with_too_many_is_refused(stage: Stage) -> None:
    with pytest.raises(NotAllowed):
        stage.decide(enqueue(recipients=()))
    with pytest.raises(TooLarge):
        stage.decide(enqueue(recipients=(BOB,) * 1001))


def test_a_claim_is_a_lease_that_no_other_node_may_take_while_it_lives(queued: Stage) -> None:
    claim(queued, "n1")
    with pytest.raises(NotAllowed, match="n1"):
        queued.decide(Claim(ITEM, "n2", START_MS + 1, START_MS + 59_999))
    queued.do(Claim(ITEM, "n2", START_MS + 120_000, START_MS + 60_000))
    found = item(queued.view, ITEM)
    assert found is not None
    assert found.claim == Claimed("n2", START_MS + 120_000)


def test_two_claims_at_once_meet_in_a_guard(queued: Stage) -> None:
    queued.decide(Claim(ITEM, "n1", START_MS + 1, START_MS))
    assert [guard.key for guard in queued.guards] == [b"i" + ITEM]


def test_the_holder_may_extend_its_lease(queued: Stage) -> None:
    claim(queued, "n1")
    claim(queued, "n1", seconds=300)


def test_a_released_item_can_be_claimed_at_once(queued: Stage) -> None:
    claim(queued, "n1")
    queued.do(Release(ITEM, "n1"))
    claim(queued, "n2")


def test_only_the_holder_records_outcomes_and_releases(queued: Stage) -> None:
    for command in (RecordAttempt(ITEM, "n2"), Release(ITEM, "n2")):
        with pytest.raises(NotAllowed):
            queued.decide(command)
    claim(queued, "n1")
    with pytest.raises(NotAllowed):
        queued.decide(RecordAttempt(ITEM, "n2", delivered=(BOB,)))


def test_an_attempt_settles_recipients_one_by_one(queued: Stage) -> None:
    claim(queued)
    later = START_MS + 900_000
    queued.do(RecordAttempt(ITEM, "n1", delivered=(BOB,), deferred=((EVE, later, "421 busy"),)))
    found = item(queued.view, ITEM)
    assert found is not None
    assert [(one.state, one.reason) for one in found.recipients] == [("delivered", ""), ("waiting", "421 busy")]
    assert (found.next_ms, found.attempts, found.claim) == (later, 1, None)


def test_an_item_whose_recipients_are_all_delivered_leaves_the_queue(queued: Stage) -> None:
    claim(queued)
    queued.do(RecordAttempt(ITEM, "n1", delivered=(BOB, EVE)))
    assert items(queued.view) == []


def test_a_failed_recipient_keeps_the_item_until_somebody_takes_it_out(queued: Stage) -> None:
    claim(queued)
    queued.do(RecordAttempt(ITEM, "n1", delivered=(BOB,), failed=((EVE, "550 no such user"),)))
    found = item(queued.view, ITEM)
    assert found is not None
    assert found.next_ms is None
    queued.do(RemoveItem(ITEM))
    assert items(queued.view) == []


def test_waiting_mail_is_taken_out_only_by_force(queued: Stage) -> None:
    with pytest.raises(NotAllowed):
        queued.decide(RemoveItem(ITEM))
    queued.do(RemoveItem(ITEM, force=True))
    assert items(queued.view) == []


def test_an_item_that_is_not_there_is_refused(stage: Stage) -> None:
    for command in (Claim(ITEM, "n1", 2, 1), RecordAttempt(ITEM, "n1"), Release(ITEM, "n1"), RemoveItem(ITEM)):
        with pytest.raises(NoSuchItem):
            stage.decide(command)


def test_outcomes_of_an_item_that_has_gone_change_nothing(queued: Stage) -> None:
    claim(queued)
    late = [fact for one in (RecordAttempt(ITEM, "n1"), Release(ITEM, "n1")) for fact in queued.decide(one)]
    queued.do(RemoveItem(ITEM, force=True))
    before = queued.rows()
    queued.fold(*late)
    assert queued.rows() == before


def test_each_destination_has_its_queue() -> None:
    assert queue_stream("a.test") != queue_stream("b.test")


OUTCOME = st.lists(st.sampled_from([BOB, EVE]), unique=True).map(tuple)


@given(st.lists(st.tuples(st.sampled_from(["n1", "n2"]), OUTCOME, OUTCOME, st.integers(0, 90)), max_size=12))
def test_a_recipient_is_never_lost_before_it_is_delivered(
    attempts: list[tuple[str, tuple[str, ...], tuple[str, ...], int]],
) -> None:
    stage = Stage(DictTables(b"q" * 16))
    stage.do(enqueue())
    delivered: set[str] = set()
    for node, done, put_off, seconds in attempts:
        stage.at_ms += seconds * 1000
        deferred = tuple((one, stage.at_ms, "later") for one in put_off)
        try:
            stage.do(Claim(ITEM, node, stage.at_ms + 60_000, stage.at_ms))
            stage.do(RecordAttempt(ITEM, node, done, deferred))
        except CommandRefused:
            continue
        delivered.update(done)
    found = item(stage.view, ITEM)
    waiting = {one.address for one in found.recipients if one.state == "waiting"} if found else set()
    assert waiting == {BOB, EVE} - delivered
    assert stage.refolded_rows() == stage.rows()


def test_options_stand_in_the_event_and_a_cell_of_a_lower_level_gets_the_event_that_it_knows(stage: Stage) -> None:
    asked = dataclasses.replace(
        enqueue(),
        options=MailOptions(ret="HDRS", envid="QQ314159", hold_until_ms=START_MS + 5),
        recipient_options=(RecipientOptions(("NEVER",)), RecipientOptions(("DELAY", "FAILURE"), "rfc822;eve@x.test")),
    )
    (fact,) = stage.decide(asked)
    assert isinstance(fact, MailQueued)
    version, data = encode_for(fact, 3)
    read = decode("MailQueued", version, data)
    assert isinstance(read, MailQueued)
    assert (version, MailOptions(*read.options), read.recipient_options) == (2, asked.options, asked.recipient_options)
    version, data = encode_for(fact, 2)
    assert (version, len(msgpack.unpackb(data))) == (1, 10)
