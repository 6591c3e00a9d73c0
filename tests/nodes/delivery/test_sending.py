"""The whole way out: submitted here, sent to a real server, and what became of it."""

from __future__ import annotations

import asyncio
import email
import email.policy
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.directory import tenant_with
from actors.queue import EVERY_QUEUE, HoldItems, Item, RemoveItem, RerouteItems, ResumeQueue, SuspendQueue, queue_stream
from nodes.delivery import outcomes
from nodes.delivery.attempt import Attempt, AttemptResult
from nodes.delivery.generated import Prepared, context, submit
from nodes.delivery.plan import Notice
from nodes.services import Services
from tests.nodes.delivery.cell import ALICE, BOB, MESSAGE, SendingCell, wait_until
from tests.nodes.smtp.cell import ADMIN


@pytest.fixture
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SendingCell]:
    with SendingCell(tmp_path_factory.mktemp("sending")) as started:
        yield started


def test_submitted_mail_reaches_the_server_of_its_domain_and_leaves_the_queue(cell: SendingCell) -> None:
    cell.submit(BOB)
    wait_until(lambda: cell.peer.received)
    (mail,) = cell.peer.received
    assert (mail.sender, mail.recipients) == (ALICE, (BOB,))
    assert mail.data.startswith(b"Received: from ")
    assert mail.data.endswith(MESSAGE.replace(b"\r\n.dot", b"\r\n..dot"))
    wait_until(lambda: not cell.waiting())


def test_a_recipient_who_is_refused_comes_back_as_a_report_in_the_senders_mailbox(cell: SendingCell) -> None:
    cell.peer.reply = lambda address: "550 5.1.1 no such user" if address == BOB else "250 ok"
    cell.submit(BOB, "eve@far.test")
    wait_until(lambda: cell.inbox(ALICE))
    ((message, data),) = cell.inbox(ALICE)
    assert message.trace.startswith(b"Return-Path: <>\r\n")
    report = email.message_from_bytes(data, policy=email.policy.default)
    assert report.get_content_type() == "multipart/report"
    text, status, original = report.iter_parts()
    assert "no such user" in text.get_content()
    _, recipient = status.iter_parts()
    assert (recipient["Final-Recipient"], recipient["Action"], recipient["Status"]) == (
        "rfc822; bob@far.test", "failed", "5.1.1",
    )  # fmt: skip
    assert original.get_content()["Message-ID"] == "<m1@example.test>"
    assert [mail.recipients for mail in cell.peer.received] == [("eve@far.test",)]
    assert not cell.waiting()


def report_parts(data: bytes) -> tuple[str, dict[str, str]]:
    """The text for people, and the fields of the first recipient."""
    report = email.message_from_bytes(data, policy=email.policy.default)
    text, status, _ = report.iter_parts()
    fields = list(status.iter_parts())[1]
    return text.get_content(), {name: str(value) for name, value in fields.items()}


def test_a_lost_final_reply_is_tried_again_and_counted_as_a_possible_duplicate(cell: SendingCell) -> None:
    cell.peer.data_reply = ""
    cell.submit(BOB)
    wait_until(lambda: [item.duplicates for item in cell.waiting() if item.duplicates])
    cell.peer.data_reply = "250 2.0.0 taken"
    wait_until(lambda: cell.peer.received)
    wait_until(lambda: not cell.waiting())
    (day,) = cell.days("far.test")
    assert day.unknown >= 1
    assert day.delivered == 1


def test_what_can_not_be_delivered_in_its_time_comes_back_after_a_warning(tmp_path: Path) -> None:
    with SendingCell(tmp_path, lifetime_s=3, warn_after_s=1) as cell:
        cell.peer.reply = lambda address: "450 4.2.1 mailbox busy"
        cell.submit(BOB)
        wait_until(lambda: len(cell.inbox(ALICE)) == 2)
        assert not cell.waiting()
        (warning, late), (failure, given_up) = (report_parts(data) for _, data in cell.inbox(ALICE))
    assert "could not be delivered" in warning
    assert (late["Action"], late["Status"]) == ("delayed", "4.2.1")
    assert "Will-Retry-Until" in late
    assert "mailbox busy" in failure
    assert (given_up["Action"], given_up["Status"]) == ("failed", "5.4.7")
    assert given_up["Diagnostic-Code"].startswith("smtp; 450 4.2.1 mailbox busy")  # RFC 3464 2.3.6


def test_the_sender_hears_in_time_of_mail_for_a_domain_that_can_not_be_reached(tmp_path: Path) -> None:
    with SendingCell(tmp_path, lifetime_s=3, warn_after_s=1) as cell:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            cell.transport.port = unused.getsockname()[1]
            cell.submit(BOB)
            wait_until(lambda: len(cell.inbox(ALICE)) == 2)  # the domain is left alone for a minute
        assert [report_parts(data)[1]["Action"] for _, data in cell.inbox(ALICE)] == ["delayed", "failed"]


def test_what_nobody_sent_is_never_answered_and_the_postmaster_keeps_it(cell: SendingCell) -> None:
    cell.peer.reply = lambda address: "550 5.1.1 no such user"
    data = b"Subject: a bounce\r\n\r\n"
    with cell.log.snapshot() as snapshot:
        tenant = tenant_with(snapshot, "example.test")
    assert tenant is not None
    cell.call(submit(cell.services, "", ["stranger@far.test"], data, context(cell.services, tenant, "a test")))
    wait_until(lambda: cell.inbox("postmaster@example.test"))
    ((message, report),) = cell.inbox("postmaster@example.test")
    assert message.trace.startswith(b"Return-Path: <>\r\n")
    assert report_parts(report)[1]["Final-Recipient"] == "rfc822; stranger@far.test"
    assert not cell.waiting()
    assert cell.peer.received == []


def test_who_asked_to_be_told_of_nothing_is_told_of_nothing(cell: SendingCell) -> None:
    cell.peer.reply = lambda address: "550 5.1.1 no such user"
    cell.submit(BOB, rcpt=("NOTIFY=NEVER",))
    wait_until(lambda: cell.transport.attempts and not cell.waiting())
    assert cell.inbox(ALICE) == []
    assert cell.inbox("postmaster@example.test") == []


def test_success_is_told_where_it_was_asked_for_with_what_the_sender_said_of_it(cell: SendingCell) -> None:
    cell.submit(BOB, options=("RET=HDRS", "ENVID=QQ314159"), rcpt=("NOTIFY=SUCCESS", "ORCPT=rfc822;Bob@Far.test"))
    wait_until(lambda: cell.inbox(ALICE))
    ((_, data),) = cell.inbox(ALICE)
    _, fields = report_parts(data)
    assert (fields["Action"], fields["Original-Recipient"]) == ("relayed", "rfc822; Bob@Far.test")
    assert b"Original-Envelope-Id: QQ314159" in data
    assert b"Hello" not in data


def test_a_peer_that_has_enough_is_left_alone_and_the_rest_waits_untried(cell: SendingCell) -> None:
    cell.peer.reply = lambda address: "421 4.7.0 too many from you"
    cell.submit(BOB)
    wait_until(lambda: cell.throttle("far.test"))
    tried = len(cell.transport.attempts)
    cell.submit("eve@far.test")
    throttle = cell.throttle("far.test")
    assert throttle is not None
    assert throttle.reason == "421 4.7.0 from peer.test"
    assert sorted(item.attempts for item in cell.waiting()) == [0, 1]
    assert len(cell.transport.attempts) == tried


def test_what_is_held_removed_or_rerouted_while_it_waits_its_turn_is_not_sent_as_it_was(tmp_path: Path) -> None:
    with SendingCell(tmp_path, domain_concurrency=1) as cell:
        turn, send = threading.Event(), cell.transport.send

        async def in_turn(attempt: Attempt) -> AttemptResult:
            result = await send(attempt)
            await asyncio.to_thread(turn.wait, 20)
            return result

        cell.transport.send = in_turn  # type: ignore[method-assign]
        cell.call(cell.runtime.ask(EVERY_QUEUE, SuspendQueue(""), ADMIN))  # so that all are claimed at once
        for name in ("first", "held", "removed", "rerouted"):
            cell.submit(f"{name}@far.test")
        cell.call(cell.runtime.ask(EVERY_QUEUE, ResumeQueue(), ADMIN))
        wait_until(lambda: cell.peer.received)
        wait_until(lambda: all(one.claim is not None for one in cell.waiting()))
        ids = {one.recipients[0].address.partition("@")[0]: one.id for one in cell.waiting()}
        for command in (
            HoldItems((ids["held"],)),
            RemoveItem(ids["removed"], force=True),
            RerouteItems((ids["rerouted"],), "relay.test:26", 0),
        ):
            cell.call(cell.runtime.ask(queue_stream("far.test"), command, ADMIN))
        turn.set()
        wait_until(lambda: [one.id for one in cell.waiting() if one.claim is None] == [ids["held"]])
        assert [mail.recipients[0] for mail in cell.peer.received] == ["first@far.test", "rerouted@far.test"]
        assert cell.transport.attempts[-1].route == "relay.test:26"


def test_an_outcome_that_can_not_be_recorded_keeps_no_other_waiting(
    cell: SendingCell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fragile(services: Services, item: Item, notice: Notice) -> Prepared:
        raise IndexError("list index out of range")

    monkeypatch.setattr(outcomes, "prepare_notice", fragile)
    cell.peer.reply = lambda address: "550 5.1.1 no such user" if address == BOB else "250 ok"
    cell.submit(BOB)
    wait_until(lambda: cell.transport.attempts)
    cell.submit("eve@far.test")
    wait_until(lambda: [one.recipients[0].address for one in cell.waiting()] == [BOB])
    monkeypatch.undo()
    wait_until(lambda: cell.inbox(ALICE) and not cell.waiting())
    assert len(cell.transport.attempts) == 2


def test_greylisting_of_one_recipient_does_not_keep_the_mail_of_others(cell: SendingCell) -> None:
    cell.peer.reply = lambda address: "451 4.7.1 Greylisted, wait 300 seconds" if address == BOB else "250 ok"
    cell.submit(BOB)
    wait_until(lambda: any(one.attempts for one in cell.waiting()))
    cell.submit("eve@far.test")
    wait_until(lambda: [mail.recipients for mail in cell.peer.received] == [("eve@far.test",)])
