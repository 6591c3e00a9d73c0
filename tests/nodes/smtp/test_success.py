"""Notices of success for deliveries here: RFC 3461 6.2, RFC 3464."""

from __future__ import annotations

import email
import email.policy
import smtplib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nodes.smtp.checks import Check, Incoming
from nodes.smtp.session import Envelope, Session
from tests.nodes.policy.elsewhere import TRUSTING, client_at
from tests.nodes.smtp.cell import ADMIN, Cell

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


def judged(**verdicts: Any) -> Check:
    """In place of the verdicts' check."""

    class Judged(Check):
        async def message(self, session: Session, envelope: Envelope, incoming: Incoming) -> None:
            incoming.verdicts.update(verdicts)

    return Judged()


@pytest.mark.parametrize(
    ("verdicts", "told"),
    [
        ({}, False),
        ({"spf": {"result": "pass", "domain": "remote.test"}}, True),
        ({"spf": {"result": "pass", "domain": "helo.test"}}, False),
        ({"spf": {"result": "softfail", "domain": "remote.test"}}, False),
        ({"dmarc": {"result": "pass", "domain": "remote.test", "sealer": ""}}, True),
        ({"dmarc": {"result": "pass", "domain": "another.test", "sealer": ""}}, False),
        ({"dmarc": {"result": "fail", "domain": "remote.test", "sealer": ""}}, False),
    ],
    ids=["not judged", "spf", "spf of another", "spf fails", "dmarc", "dmarc of another", "dmarc fails"],
)
def test_success_is_told_to_whom_spf_or_dmarc_proves_only(tmp_path: Path, verdicts: dict[str, Any], told: bool) -> None:
    with Cell(tmp_path, checks=(judged(**verdicts),), sections={"smtp": TRUSTING}) as cell:
        cell.call(cell.directory.add_alias("out@example.test", ["x@far.test"], ADMIN))
        client = client_at(cell.port("smtp"), "192.0.2.1")
        client.ask("MAIL FROM:<x@remote.test> RET=HDRS")
        for recipient in (f"<{BOB}> NOTIFY=SUCCESS,FAILURE", f"<{ALICE}> NOTIFY=SUCCESS", "<out@example.test>"):
            assert client.ask(f"RCPT TO:{recipient}").startswith("250")
        assert client.transfer(MESSAGE).startswith("250")
        client.close()
        assert len(cell.queued().get("remote.test", [])) == told
        (forwarded,) = cell.queued()["far.test"]
        assert forwarded.recipients[0].options.notify == (() if told else ("FAILURE",))
