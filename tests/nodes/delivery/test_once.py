"""What stands beside an outcome is done once: notices of success, deliveries to mailboxes here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from actors.errors import CommandRefused, OverQuota
from actors.kind import Command
from actors.mailbox import Deliver
from actors.queue import RecordOutcomes
from actors.runtime import Context, Done, NewBody
from eventlog.errors import OutcomeUnknown
from tests.nodes.delivery.cell import ALICE, SendingCell, wait_until

HERE, FAR = "bob@example.test", "bob@far.test"


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[SendingCell]:
    with SendingCell(tmp_path) as started:
        yield started


def fail_once(cell: SendingCell, monkeypatch: pytest.MonkeyPatch, kind: type[Command], error: Exception) -> list[str]:
    """The next record with a command of this kind fails: before it, or, of an unknown outcome, behind it."""
    transact = cell.runtime.transact
    failed: list[str] = []

    async def failing(steps: Sequence[tuple[bytes, Command]], context: Context, bodies: Sequence[NewBody] = ()) -> Done:
        wanted = not failed and any(isinstance(command, kind) for _, command in steps)
        if wanted and isinstance(error, CommandRefused):
            failed.append("refused")
            raise error
        done = await transact(steps, context, bodies)
        if wanted:
            failed.append("unknown")
            raise error
        return done

    monkeypatch.setattr(cell.runtime, "transact", failing)
    return failed


def settle(cell: SendingCell) -> None:
    wait_until(lambda: not cell.waiting() and cell.manager._outcomes._idle.is_set())


def types_of_record_with(cell: SendingCell, type_: str) -> list[list[str]]:
    with cell.log.snapshot() as snapshot:
        stored = [one.record for one in snapshot.records(1, snapshot.position) if one.record is not None]
    records = [[event.type for event in record.events] for record in stored]
    return [types for types in records if type_ in types]


def test_success_is_told_once_though_it_was_not_known_whether_that_was_recorded(
    cell: SendingCell, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = fail_once(cell, monkeypatch, RecordOutcomes, OutcomeUnknown("no answer"))
    cell.submit(FAR, rcpt=("NOTIFY=SUCCESS",))
    settle(cell)
    assert failed == ["unknown"]
    assert len(cell.inbox(ALICE)) == 1
    assert b"Action: relayed" in cell.inbox(ALICE)[0][1]


def test_mail_that_was_held_is_delivered_in_the_record_that_says_so(cell: SendingCell) -> None:
    cell.submit(HERE, options=("HOLDFOR=1",), rcpt=("NOTIFY=SUCCESS",))
    settle(cell)
    (record,) = types_of_record_with(cell, "AttemptsRecorded")
    assert record.count("MessageDelivered") == 2  # the message, and the notice of it
    assert (len(cell.inbox(HERE)), len(cell.inbox(ALICE))) == (1, 1)


def test_mail_that_was_held_arrives_once_though_it_was_not_known_whether_it_did(
    cell: SendingCell, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = fail_once(cell, monkeypatch, RecordOutcomes, OutcomeUnknown("no answer"))
    cell.submit(HERE, options=("HOLDFOR=1",), rcpt=("NOTIFY=SUCCESS",))
    settle(cell)
    assert failed == ["unknown"]
    assert (len(cell.inbox(HERE)), len(cell.inbox(ALICE))) == (1, 1)


def test_a_mailbox_that_refuses_at_the_last_moment_is_tried_again(
    cell: SendingCell, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell.submit(HERE, "info@example.test", options=("HOLDFOR=1",))
    failed = fail_once(cell, monkeypatch, Deliver, OverQuota("full at this moment"))
    settle(cell)
    assert failed == ["refused"]
    deferred = types_of_record_with(cell, "AttemptsRecorded")
    assert [one.count("MessageDelivered") for one in deferred] == [0, 2]  # bob's, and alice's by the alias
    assert (len(cell.inbox(HERE)), len(cell.inbox(ALICE))) == (1, 1)
