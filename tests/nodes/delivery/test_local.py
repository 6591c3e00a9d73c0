"""Queued mail whose domain is ours: held by its submitter (RFC 4865), or for a domain that became ours meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nodes.delivery.cell import ALICE, MESSAGE, SendingCell, wait_until
from tests.nodes.smtp.cell import ADMIN

BOB = "bob@example.test"


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[SendingCell]:
    with SendingCell(tmp_path) as started:
        yield started


def test_mail_that_its_submitter_has_held_arrives_when_it_is_released(cell: SendingCell) -> None:
    cell.submit(BOB, options=("HOLDFOR=2",))
    assert cell.inbox(BOB) == []
    (item,) = cell.waiting()
    assert item.options.hold_until_ms - item.queued_ms > 1000
    wait_until(lambda: cell.inbox(BOB))
    ((message, body),) = cell.inbox(BOB)
    assert message.trace == f"Return-Path: <{ALICE}>\r\n".encode()
    assert body.startswith(b"Received: from ")
    assert body.endswith(MESSAGE)
    wait_until(lambda: not cell.waiting())
    assert cell.peer.received == []


def test_held_mail_for_a_mailbox_that_has_gone_comes_back(cell: SendingCell) -> None:
    cell.submit(BOB, options=("HOLDFOR=1",))
    cell.call(cell.directory.delete_account(BOB, ADMIN))
    wait_until(lambda: cell.inbox(ALICE))
    ((message, report),) = cell.inbox(ALICE)
    assert message.trace.startswith(b"Return-Path: <>\r\n")
    assert b"Status: 5.1.1" in report
    wait_until(lambda: not cell.waiting())


def test_success_of_held_mail_is_told_when_it_was_asked_for(cell: SendingCell) -> None:
    cell.submit(BOB, options=("HOLDFOR=1", "ENVID=held-1"), rcpt=("NOTIFY=SUCCESS",))
    wait_until(lambda: cell.inbox(ALICE))
    assert b"Action: delivered" in cell.inbox(ALICE)[0][1]
    assert len(cell.inbox(BOB)) == 1
