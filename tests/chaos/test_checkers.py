"""Each checker finds the violation that it is for, in a history made false on purpose, and passes a true one."""

import hashlib
from collections.abc import Callable

import pytest

from chaos.checkers.delivery import check_deliveries
from chaos.checkers.log import NodeHead, NodeLog, check_heads, check_logs
from chaos.history import Operation, Outcome
from chaos.messages import make_message
from chaos.observation import Copy, copy_of

ALICE, BOB = "alice@chaos.test", "bob@chaos.test"
Holding = dict[str, dict[str, list[Copy]]]


def attempt(identity: str, outcome: Outcome, *recipients: str) -> Operation:
    asked = {"identity": identity, "sha256": digest(identity), "size": 10}
    subject = " ".join(recipients or (ALICE,))
    return Operation(1, "smtp-n1", "n1", "smtp", "deliver", subject, asked, 0.0, 1.0, outcome, "250 or not")


def digest(identity: str) -> str:
    return hashlib.sha256(identity.encode()).hexdigest()


def copy(identity: str) -> Copy:
    return Copy(identity, digest(identity), True)


def on_every_node(**accounts: list[Copy]) -> Holding:
    names = {"alice": ALICE, "bob": BOB}
    return {node: {names[a]: list(found) for a, found in accounts.items()} for node in ("n1", "n2", "n3")}


HISTORY = [
    attempt("kept", Outcome.ACKNOWLEDGED, ALICE, BOB),
    attempt("maybe", Outcome.UNKNOWN),
    attempt("maybe-not", Outcome.UNKNOWN),
    attempt("refused", Outcome.REFUSED),
]


def truth() -> Holding:
    return on_every_node(alice=[copy("kept"), copy("maybe")], bob=[copy("kept")])


def test_a_true_history_has_no_violation() -> None:
    assert check_deliveries(HISTORY, truth()) == []


def lose_one(held: Holding) -> None:
    held["n2"][BOB].clear()


def double_one(held: Holding) -> None:
    held["n3"][ALICE].append(copy("kept"))


def double_an_unknown_one(held: Holding) -> None:
    held["n1"][ALICE].append(copy("maybe"))


def alter_one(held: Holding) -> None:
    held["n1"][ALICE][0] = Copy("kept", digest("something else"), True)


def put_something_in_front(held: Holding) -> None:
    held["n1"][ALICE][0] = Copy("kept", digest("kept"), False)


def keep_a_refused_one(held: Holding) -> None:
    held["n1"][ALICE].append(copy("refused"))


def misdeliver_one(held: Holding) -> None:
    held["n2"][BOB].append(copy("maybe"))


def invent_one(held: Holding) -> None:
    held["n2"][BOB].append(copy("never asked for"))


def diverge_on_an_unknown_one(held: Holding) -> None:
    held["n3"][ALICE].remove(copy("maybe"))


@pytest.mark.parametrize(
    ("falsify", "node", "text"),
    [
        (lose_one, "n2", "lost"),
        (double_one, "n3", "doubled"),
        (double_an_unknown_one, "n1", "doubled"),
        (alter_one, "n1", "altered"),
        (put_something_in_front, "n1", "in front"),
        (keep_a_refused_one, "n1", "though refused"),
        (misdeliver_one, "n2", "misdelivered"),
        (invent_one, "n2", "no attempt"),
        (diverge_on_an_unknown_one, "n3", "differs from n1"),
    ],
)
def test_a_planted_violation_is_found_on_its_node(falsify: Callable[[Holding], None], node: str, text: str) -> None:
    held = truth()
    falsify(held)
    found = check_deliveries(HISTORY, held)
    assert any(violation.node == node and text in violation.text for violation in found), found


def test_a_stored_message_is_told_from_its_trace() -> None:
    message = make_message(7, 1, (ALICE, BOB))
    trace = b"Return-Path: <a@b.test>\r\nReceived: from x\r\n\tby y; today\r\n"
    assert copy_of(trace + message.data) == Copy(message.identity, message.sha256, True)
    assert copy_of(message.data) == Copy(message.identity, message.sha256, True)
    assert not copy_of(b"X-Other: 1\r\n" + message.data).trace_is_clean


def test_a_truncated_message_is_not_taken_for_the_whole_one() -> None:
    message = make_message(7, 2, (ALICE,))
    assert copy_of(message.data[:-1]).sha256 != message.sha256


def test_a_node_whose_head_differs_at_the_same_position_is_found() -> None:
    same = [NodeHead("n1", 9, "aa"), NodeHead("n2", 9, "aa")]
    assert check_heads(same) == []
    assert [violation.node for violation in check_heads([*same, NodeHead("n3", 9, "bb")])] == ["n3"]
    assert [violation.node for violation in check_heads([*same, NodeHead("n3", 8, "aa")])] == ["n3"]


def test_no_heads_at_all_is_a_violation() -> None:
    assert check_heads([]) != []


GOOD = NodeLog("n1", True, None, "aa", True)


def test_a_log_that_does_not_verify_is_found() -> None:
    found = check_logs([GOOD._replace(ok=False, first_bad=17)])
    assert [(violation.checker, violation.node) for violation in found] == [("verify", "n1")]
    assert "17" in found[0].text


def test_tables_that_differ_from_a_refold_and_heads_that_differ_are_found() -> None:
    assert check_logs([GOOD, GOOD._replace(node="n2")]) == []
    unequal = check_logs([GOOD, GOOD._replace(node="n2", refold_equal=False)])
    assert [(violation.checker, violation.node) for violation in unequal] == [("refold", "n2")]
    assert [v.node for v in check_logs([GOOD, GOOD._replace(node="n2", head="bb")])] == ["n2"]
