"""What a submitted message lacks stands in front of it, signed with it, and its own bytes stay as they came."""

from __future__ import annotations

import email
import email.policy
import email.utils
import smtplib

import pytest

from nodes.smtp.checks import Incoming
from nodes.smtp.completing import missing_fields
from tests.nodes.smtp.cell import Cell

ALICE, BOB = "alice@example.test", "bob@example.test"


@pytest.fixture
def inbox(cell: Cell) -> int:
    return len(cell.inbox(BOB))


def submit(cell: Cell, data: bytes, *recipients: str) -> None:
    with smtplib.SMTP("127.0.0.1", cell.port("submission")) as client:
        client.login(ALICE, "secret of alice")
        client.sendmail(ALICE, recipients, data)


def test_date_message_id_and_author_are_added_in_front_and_the_bytes_are_kept(cell: Cell, inbox: int) -> None:
    data = b"Subject: bare\r\n\r\ntext\r\n"
    submit(cell, data, BOB, "x@remote.test")
    message, body = cell.inbox(BOB)[inbox]
    assert body == data
    whole = email.message_from_bytes(message.trace + body, policy=email.policy.default)
    assert whole["From"] == ALICE
    assert whole["Message-ID"].endswith("@example.test>")
    assert email.utils.parsedate_to_datetime(whole["Date"]).tzinfo is not None
    (item,) = cell.queued()["remote.test"]
    assert item.trace.endswith(message.trace[message.trace.index(b"From: ") :])


def test_what_is_there_is_left_as_it_is(cell: Cell, inbox: int) -> None:
    data = b"DATE : Sat, 21 Nov 2026 10:00:00 +0000\r\nfrom: alice@example.test\r\nMessage-Id: <own@x>\r\n\r\ntext\r\n"
    submit(cell, data, BOB)
    message, body = cell.inbox(BOB)[inbox]
    assert body == data
    assert b"Message-ID" not in message.trace
    assert message.trace.count(b"Date:") == 0


def test_mail_of_other_servers_is_not_completed(cell: Cell, inbox: int) -> None:
    with smtplib.SMTP("127.0.0.1", cell.port("smtp")) as client:
        client.sendmail("x@remote.test", [BOB], b"Subject: bare\r\n\r\ntext\r\n")
    message, _ = cell.inbox(BOB)[inbox]
    assert b"\nFrom: " not in message.trace
    assert b"Message-ID" not in message.trace


def test_fields_of_the_body_do_not_count() -> None:
    incoming = Incoming(b"Subject: x\r\n\r\nDate: no\r\nFrom: no\r\n", [], bytes(16), 0.0)
    added = missing_fields(incoming, ALICE)
    assert [line.partition(b":")[0] for line in added.splitlines()] == [b"From", b"Date", b"Message-ID"]


def test_what_was_added_is_what_the_fold_hears_of() -> None:
    incoming = Incoming(b"Subject: x\r\n\r\n", [], bytes(16), 86_400.0)
    incoming.added = missing_fields(incoming, ALICE)
    assert incoming.facts.message_id == f"<{bytes(16).hex()}@example.test>"
    assert incoming.facts.sent_ms == 86_400_000
