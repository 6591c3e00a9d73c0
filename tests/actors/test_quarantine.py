"""Mail flows again after a record that could not be folded was quarantined, over a real cell of three."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from actors.custody import CUSTODY, Quarantine
from actors.errors import NotAllowed
from actors.mailbox import DEFAULT_FOLDERS, Deliver, OpenMailbox, folder_by_name, messages
from actors.registry import fold_event
from actors.runtime import Context, Runtime
from eventlog.errors import LogError
from eventlog.log import EventLog
from eventlog.rebuild import rebuild
from eventlog.record import By, Event, Stamp, new_id
from eventlog.verify import verify
from eventlog.views import View
from tests.actors.mail import a_message
from tests.eventlog import ledger
from tests.eventlog.loopback import loopback, until

ADMIN = Context(By("admin", b"", "test"), "a test", timeout_s=10)
ACCOUNT, TENANT = b"a" * 16, b"t" * 16


def with_a_fault(view: View, event: Event, stamp: Stamp) -> Any:
    """The program's own fold, but for a fault that nobody's dry run shows."""
    if b"poison" in event.data:
        raise ZeroDivisionError("planted")
    return fold_event(view, event, stamp)


def uids(log: EventLog) -> list[int]:
    with log.snapshot() as snapshot:
        view = snapshot.view(ACCOUNT)
        inbox = folder_by_name(view, "INBOX")
        assert inbox is not None
        return [message.uid for message in messages(view, inbox.id)]


def test_mail_flows_again_after_a_quarantine(
    tmp_path: Path, run: Callable[[Coroutine[Any, Any, Any]], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "evolve", with_a_fault)

    async def scenario() -> None:
        async with loopback(tmp_path) as cell:
            log = cell.logs[(await cell.leader())]
            follower = cell.logs[(await cell.followers())[0]]
            runtime, other = Runtime(log), Runtime(follower)
            ids = tuple(new_id() for _ in DEFAULT_FOLDERS)
            await runtime.ask(ACCOUNT, OpenMailbox(TENANT, "alice@example.test", ids), ADMIN)
            await runtime.ask(ACCOUNT, Deliver(a_message()), ADMIN)
            poison = Deliver(a_message(), envelope_from="poison@t")
            with pytest.raises(LogError):
                await runtime.ask(ACCOUNT, poison, ADMIN._replace(timeout_s=0.5))
            await until(lambda: follower.status().stalled)
            with pytest.raises(LogError):
                await other.ask(ACCOUNT, Deliver(a_message()), ADMIN._replace(timeout_s=0.5))
            with pytest.raises(NotAllowed):
                await other.ask(CUSTODY, Quarantine(follower.status().applied + 1, ""), ADMIN)
            await other.ask(CUSTODY, Quarantine(follower.status().applied + 1, "planted"), ADMIN)
            for one in (runtime, other):
                await one.ask(ACCOUNT, Deliver(a_message()), ADMIN)
            await cell.level()
            for one_log in cell.logs.values():
                assert uids(one_log) == [1, 2, 3]
                assert (await asyncio.to_thread(verify, one_log)).ok
                for evolve in (with_a_fault, fold_event):
                    assert (await asyncio.to_thread(rebuild, one_log, evolve)).equal
            await runtime.stop()
            await other.stop()

    with capture_logs():
        run(scenario())
