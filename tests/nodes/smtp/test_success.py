"""Notices of success for deliveries here: RFC 3461 6.2, RFC 3464."""

from __future__ import annotations

import email
import email.policy
import smtplib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.nodes.smtp.cell import Cell

MESSAGE = b"From: <alice@example.test>\r\nSubject: asked\r\n\r\nthe text\r\n"
ALICE, BOB = "alice@example.test", "bob@example.test"


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[Cell]:
    with Cell(tmp_path) as started:
        yield started


def send(
    cell: Cell, sender: str, *, mail: tuple[str, ...] = (), rcpt: tuple[str, ...] = (), kind: str = "smtp"
) -> None:
    with smtplib.SMTP("127.0.0.1", cell.port("smtp")) as client:
        assert client.sendmail(sender, [BOB, "info@example.test"], MESSAGE, mail, rcpt) == {}


def status_of(report: bytes) -> tuple[Any, list[Any], Any]:
    """Fields of the message, of each recipient, and the part that gives the original back."""
    parsed = email.message_from_bytes(report, policy=email.policy.default)
    assert parsed.get_content_type() == "multipart/report"
    _, status, original = parsed.iter_parts()
    about, *recipients = status.iter_parts()
    return about, recipients, original


def test_the_sender_is_told_of_each_recipient_that_it_asked_about(cell: Cell) -> None:
    send(
        cell, ALICE, mail=("RET=HDRS", "ENVID=Q+2B1"), rcpt=("NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;Bob@Example.test")
    )
    _, report = next(one for one in cell.inbox(ALICE) if one[0].trace.startswith(b"Return-Path: <>"))
    about, recipients, original = status_of(report)
    assert about["Original-Envelope-Id"] == "Q+1"  # RFC 3464 2.2.1: decoded
    assert [one["Action"] for one in recipients] == ["delivered", "delivered"]
    assert recipients[0]["Original-Recipient"] == "rfc822; Bob@Example.test"
    assert original.get_content_type() == "text/rfc822-headers"
    assert b"Subject: asked" in report
    assert b"the text" not in report
    assert len(cell.inbox(BOB)) == 1


@pytest.mark.parametrize("rcpt", [(), ("NOTIFY=NEVER",), ("NOTIFY=FAILURE,DELAY",)])
def test_who_did_not_ask_is_not_told(cell: Cell, rcpt: tuple[str, ...]) -> None:
    send(cell, ALICE, rcpt=rcpt)
    assert len(cell.inbox(ALICE)) == 1  # info@ leads there
    assert cell.queued() == {}


def test_nobody_is_told_of_mail_from_nobody(cell: Cell) -> None:
    send(cell, "", rcpt=("NOTIFY=SUCCESS",))
    assert cell.queued() == {}
    assert len(cell.inbox(ALICE)) == 1


def test_a_sender_elsewhere_is_told_by_queued_mail_from_nobody(cell: Cell) -> None:
    send(cell, "x@remote.test", rcpt=("NOTIFY=SUCCESS",))
    (item,) = cell.queued()["remote.test"]
    assert item.sender == ""
    assert [one.address for one in item.recipients] == ["x@remote.test"]
