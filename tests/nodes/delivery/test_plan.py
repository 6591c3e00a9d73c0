"""What follows from an attempt: recorded, tried again, told; nobody is lost on the way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.mail_options import NO_OPTIONS, RecipientOptions
from actors.queue import ClaimItems, Enqueue, Item, RecordOutcomes, item
from nodes.delivery.attempt import AttemptResult, OutcomeStatus, RecipientOutcome
from nodes.delivery.plan import NoticeKind, Plan, Policy, backoff_ms, gave_up, plan, throttle_span_ms
from tests.actors.stage import START_MS, DictTables, Stage

ITEM, TENANT = b"i" * 16, b"t" * 16
ALICE, BOB, EVE = "alice@example.test", "bob@far.test", "eve@far.test"
HOUR_MS = 3_600_000
LIFETIME_MS = 5 * 24 * HOUR_MS
POLICY = Policy(retry_first_ms=300_000, retry_max_ms=2 * HOUR_MS, warn_after_ms=4 * HOUR_MS)


def an_item(*notify: tuple[str, ...], sender: str = ALICE, **options: object) -> Item:
    """Queued just now for Bob and Eve."""
    stage = Stage(DictTables(b"q" * 16))
    stage.do(an_order(*notify, sender=sender, **options))
    found = item(stage.view, ITEM)
    assert found is not None
    return found


def an_order(*notify: tuple[str, ...], sender: str = ALICE, **options: object) -> Enqueue:
    return Enqueue(
        "far.test", ITEM, TENANT, sender, (BOB, EVE), b"d" * 32, 900, b"", START_MS + LIFETIME_MS, START_MS,
        NO_OPTIONS._replace(**options), tuple(RecipientOptions(one) for one in notify),  # type: ignore[arg-type]
    )  # fmt: skip


def outcome(address: str, status: OutcomeStatus, code: int = 0, enhanced: str = "", **more: bool) -> RecipientOutcome:
    return RecipientOutcome(address, status, code, enhanced, f"{code} said", "mx.far.test", "", **more)


def planned(one: Item, *outcomes: RecipientOutcome, now_ms: int = START_MS) -> Plan:
    return plan(one, AttemptResult(outcomes), POLICY, now_ms, 0.5)


def told(one: Plan) -> list[tuple[NoticeKind, list[str]]]:
    return [(notice.kind, [each.recipient.address for each in notice.recipients]) for notice in one.notices]


def test_who_was_delivered_or_refused_is_settled_and_who_was_put_off_is_tried_again() -> None:
    done = planned(an_item(), outcome(BOB, "failed", 550, "5.1.1"), outcome(EVE, "deferred", 451, "4.3.0"))
    assert [(one.place, one.status, one.next_ms) for one in done.outcome.results] == [
        (0, "failed", 0), (1, "deferred", START_MS + 300_000),
    ]  # fmt: skip
    assert told(done) == [("failed", [BOB])]


def test_the_wait_doubles_up_to_a_limit_give_or_take_a_fifth() -> None:
    assert [backoff_ms(attempts, POLICY, 0.5) // 60_000 for attempts in (1, 2, 3, 4, 5, 6, 60)] == [
        5, 10, 20, 40, 80, 120, 120,
    ]  # fmt: skip
    assert (backoff_ms(1, POLICY, 0.0), backoff_ms(1, POLICY, 1.0)) == (240_000, 360_000)


def test_what_could_not_be_delivered_in_its_time_has_failed_and_the_report_says_so() -> None:
    late = START_MS + LIFETIME_MS
    done = planned(an_item(), outcome(BOB, "deferred", 451), outcome(EVE, "unknown"), now_ms=late)
    assert [(one.status, one.enhanced) for one in done.outcome.results] == [("failed", "5.4.7")] * 2
    assert told(done) == [("failed", [BOB, EVE])]
    assert done.texts[0].startswith("Not delivered in the time that there was")


def test_the_last_attempt_is_made_when_the_time_is_over_not_after() -> None:
    now_ms = START_MS + LIFETIME_MS - 60_000
    done = planned(an_item(), outcome(BOB, "deferred", 451), now_ms=now_ms)
    assert done.outcome.results[0].next_ms == START_MS + LIFETIME_MS


def test_the_sender_is_warned_once_when_mail_is_late() -> None:
    now_ms = START_MS + 4 * HOUR_MS
    early = planned(an_item(), outcome(BOB, "deferred", 451), now_ms=now_ms - 60_000)
    assert (early.outcome.warned, told(early), early.outcome.results[0].next_ms) == (False, [], now_ms)
    late = planned(an_item(), outcome(BOB, "deferred", 451), outcome(EVE, "delivered", 250), now_ms=now_ms)
    assert (late.outcome.warned, told(late)) == (True, [("delayed", [BOB])])
    again = planned(an_item()._replace(warned=True), outcome(BOB, "deferred", 451), now_ms=now_ms + HOUR_MS)
    assert (again.outcome.warned, told(again)) == (False, [])


def test_who_asked_for_no_report_gets_none() -> None:
    never = an_item(("NEVER",), ("DELAY",))
    assert told(planned(never, outcome(BOB, "failed", 550), outcome(EVE, "failed", 550))) == []
    late = planned(never, outcome(BOB, "deferred"), outcome(EVE, "deferred"), now_ms=START_MS + 5 * HOUR_MS)
    assert told(late) == [("delayed", [EVE])]


def test_success_is_reported_where_it_was_asked_for_and_the_next_server_will_not() -> None:
    asked = an_item(("SUCCESS",), ("SUCCESS", "FAILURE"))
    done = planned(asked, outcome(BOB, "delivered", 250, relayed=True), outcome(EVE, "delivered", 250))
    assert told(done) == [("relayed", [BOB])]
    assert told(planned(an_item(), outcome(BOB, "delivered", 250, relayed=True))) == []


def test_of_mail_from_nobody_only_failure_is_told_whatever_was_asked() -> None:
    bounce = an_item(("NEVER",), ("SUCCESS", "DELAY"), sender="")
    late = START_MS + 5 * HOUR_MS
    assert told(planned(bounce, outcome(BOB, "deferred"), outcome(EVE, "delivered", 250), now_ms=late)) == []
    assert told(planned(bounce, outcome(BOB, "failed", 550))) == [("failed", [BOB])]


@pytest.mark.parametrize(
    ("mode", "expected"), [("R", ("failed", "failed")), ("N", ("deferred", "delayed"))], ids=["return", "notify"]
)
def test_a_time_to_deliver_by_is_kept(mode: str, expected: tuple[str, str]) -> None:
    by_ms = START_MS + 60_000
    asked = an_item(deliver_by_ms=by_ms, by_mode=mode)
    assert planned(asked, outcome(BOB, "deferred")).outcome.results[0].next_ms == by_ms
    done = planned(asked, outcome(BOB, "deferred"), now_ms=by_ms)
    assert (done.outcome.results[0].status, told(done)[0][0]) == expected


@pytest.mark.parametrize(
    ("code", "enhanced", "throttled"),
    [(421, "", True), (421, "4.3.2", True), (450, "4.7.0", True), (451, "4.7.500", True),
     (450, "4.7.1", False), (451, "4.7.1", False), (450, "4.2.1", False), (451, "", False), (550, "5.7.1", False)],
)  # fmt: skip
def test_a_peer_that_has_enough_of_us_is_left_alone(code: int, enhanced: str, throttled: bool) -> None:
    status: OutcomeStatus = "failed" if code >= 500 else "deferred"
    assert (planned(an_item(), outcome(BOB, status, code, enhanced)).throttle_ms > 0) is throttled


def test_a_throttle_lasts_longer_each_time_and_at_least_as_long_as_the_peer_wants() -> None:
    assert [throttle_span_ms(level, 0, 0.5) // 1000 for level in (1, 2, 3, 10, 100)] == [60, 120, 240, 3600, 3600]
    assert throttle_span_ms(1, 900_000, 0.5) == 900_000


STATUS = st.sampled_from(["delivered", "deferred", "failed", "unknown"])
ATTEMPT = st.tuples(
    st.sampled_from(["n1", "n2"]),
    st.dictionaries(st.sampled_from([BOB, EVE]), STATUS),
    st.integers(0, 30),
    st.booleans(),
)


@given(st.lists(ATTEMPT, max_size=15), st.lists(st.sampled_from(["", "FAILURE", "DELAY"]), min_size=2, max_size=2))
def test_each_recipient_is_delivered_or_has_failed_with_a_report_or_waits(
    attempts: list[tuple[str, dict[str, OutcomeStatus], int, bool]], notify: list[str]
) -> None:
    """Whoever claims it, whatever is answered, whoever dies with an outcome in hand."""
    stage = Stage(DictTables(b"q" * 16))
    stage.do(an_order(*[(one,) if one else () for one in notify]))
    wants_report = {BOB: notify[0] != "DELAY", EVE: notify[1] != "DELAY"}
    delivered: set[str] = set()
    reported: set[str] = set()
    failed: set[str] = set()
    for node, said, hours, recorded in attempts:
        stage.at_ms += hours * HOUR_MS + 60_000
        now_ms = stage.at_ms
        stage.do(ClaimItems((ITEM,), node, now_ms + 30_000, now_ms))
        found = item(stage.view, ITEM)
        if found is None:
            break
        assert found.claim is not None
        done = plan(found, AttemptResult(tuple(outcome(*one) for one in said.items())), POLICY, now_ms, 0.5)
        delivered.update(address for address, status in said.items() if status == "delivered")
        if recorded and said:
            stage.do(RecordOutcomes(node, (done.outcome,), done.texts))
            failed.update(found.recipients[one.place].address for one in done.outcome.results if one.status == "failed")
            reported.update(address for kind, those in told(done) if kind == "failed" for address in those)
    left = item(stage.view, ITEM)
    waiting = {one.address for one in left.recipients if one.state == "waiting"} if left else set()
    assert waiting | delivered | failed == {BOB, EVE}
    assert reported == {one for one in failed if wants_report[one]}
    assert stage.refolded_rows() == stage.rows()


def test_a_server_that_spoke_of_the_message_was_reached_though_it_hung_up() -> None:
    silent, other = outcome(BOB, "deferred"), outcome(EVE, "deferred")
    assert planned(an_item(), silent, other).unreached
    assert not planned(an_item(), outcome(BOB, "deferred", reached=True), other).unreached
    assert not planned(an_item(), outcome(BOB, "deferred", 451, "4.3.0"), other).unreached


def test_what_goes_another_way_than_the_others_keeps_none_of_them_waiting() -> None:
    for said in (outcome(BOB, "deferred"), outcome(BOB, "deferred", 421, "4.7.0")):
        alone = plan(an_item(), AttemptResult((said,), throttle_ms=60_000, shared=False), POLICY, START_MS, 0.5)
        assert (alone.unreached, alone.throttle_ms) == (False, 0)
        assert alone.outcome.results[0].status == "deferred"


@pytest.mark.parametrize(
    ("notify", "asked", "untimed", "hears"),
    [
        ((), {"deliver_by_ms": START_MS + HOUR_MS, "by_mode": "N"}, True, True),
        ((), {"deliver_by_ms": START_MS + HOUR_MS, "by_mode": "N"}, False, False),
        ((), {"deliver_by_ms": START_MS + HOUR_MS, "by_mode": "R", "by_trace": True}, False, True),
        (("NEVER",), {"deliver_by_ms": START_MS + HOUR_MS, "by_mode": "N", "by_trace": True}, True, False),
        (("FAILURE",), {"deliver_by_ms": START_MS + HOUR_MS, "by_mode": "N", "by_trace": True}, True, False),
        ((), {}, True, False),
    ],
)
def test_who_asked_for_a_time_hears_of_a_server_without_one_and_who_asked_for_a_trace_of_each(
    notify: tuple[str, ...], asked: dict[str, object], untimed: bool, hears: bool
) -> None:
    done = planned(an_item(notify, sender=ALICE, **asked), outcome(BOB, "delivered", 250, untimed=untimed))
    assert told(done) == ([("relayed", [BOB])] if hears else [])


def test_what_an_administrator_says_is_not_said_to_be_the_servers_word() -> None:
    bob, eve = an_item().recipients
    tried = an_item()._replace(recipients=(bob._replace(code=450, host="mx.far.test"), eve))
    notice = gave_up(tried, "450 reasons")
    assert notice is not None
    assert [(one.text, one.is_reply) for one in notice.recipients] == [("450 reasons", False)] * 2
