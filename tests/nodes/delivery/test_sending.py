"""The whole way out: submitted here, sent to a real server, and what became of it."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator

import pytest

from tests.nodes.delivery.cell import ALICE, BOB, MESSAGE, SendingCell, wait_until


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
