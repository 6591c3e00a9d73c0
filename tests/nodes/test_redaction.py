"""What a redaction has to erase is found wherever the log has it: copies, refused records, chunks, attempts."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.dkim import (
    AddKeys,
    DeleteKey,
    DkimFact,
    DkimKeyDeleted,
    DkimKeysAdded,
    Key,
    NewKey,
    all_keys,
    dkim_stream,
    evolve,
)
from actors.kind import decode, encode_for
from actors.mail_options import MailOptions, RecipientOptions
from actors.mailbox import DEFAULT_FOLDERS, CreateFolder, DeleteFolder, Deliver, NewMessage, OpenMailbox, Subscribe
from actors.mailbox_terms import MessageDelivered
from actors.queue import (
    AttemptRecorded,
    AttemptsRecorded,
    Claim,
    ClaimItems,
    Enqueue,
    ItemOutcome,
    MailQueued,
    RecordAttempt,
    RecordOutcomes,
    Result,
    queue_stream,
)
from actors.registry import fold_event
from actors.runtime import Context, NewBody, Runtime
from eventlog.body_index import KEY_BYTES
from eventlog.custody import with_fields
from eventlog.errors import Rejected
from eventlog.log import EventLog
from eventlog.record import By, Event, Guard, Record, Stamp, digest_of, new_id, new_salt
from eventlog.tables import BODIES, FRESH
from eventlog.views import DictView
from nodes.redaction import Nothing, Plan, plan_event, plan_keys, plan_message
from tests.eventlog.opened import single

Run = Callable[[Coroutine[Any, Any, Any]], Any]
ADMIN = Context(By("admin", b"", "test"), "a test")
ALICE, BOB, TENANT = b"a" * 16, b"b" * 16, b"t" * 16
LARGE = b"Subject: secret\r\n\r\n" + b"secret " * 60_000


def with_log(folder: Path, run: Run, scenario: Callable[[EventLog, Runtime], Awaitable[None]]) -> None:
    async def opened() -> None:
        async with single(folder, evolve=fold_event) as log:
            runtime = Runtime(log)
            for account in (ALICE, BOB):
                ids = tuple(new_id() for _ in DEFAULT_FOLDERS)
                await runtime.ask(account, OpenMailbox(TENANT, "x@example.test", ids), ADMIN)
            await scenario(log, runtime)
            await runtime.stop()

    run(opened())


def delivery(content: bytes) -> Deliver:
    trace = b"Received: secret\r\n"
    new = NewMessage(new_id(), digest_of(content), len(trace) + len(content), 1, trace, "<secret@t>")
    return Deliver(new, envelope_from="secret@t", envelope_to="x@example.test")


def left(log: EventLog, plan: Plan) -> list[Any]:
    """The facts of the events that a plan names, as they are left."""
    facts = []
    with log.snapshot() as snapshot:
        for one in plan.events:
            stored = snapshot.record(one.position)
            assert stored is not None
            assert stored.record is not None
            event = stored.record.events[one.ordinal]
            facts.append(decode(event.type, event.version, with_fields(event.data, one.fields)))
    return facts


def nobody(done: int, total: int) -> None:
    """No progress bar."""


def test_a_message_is_found_in_every_mailbox_in_chunks_and_in_records_that_were_refused(
    tmp_path: Path, run: Run
) -> None:
    async def scenario(log: EventLog, runtime: Runtime) -> None:
        bodies = [NewBody(TENANT, LARGE)]
        await runtime.ask(ALICE, delivery(LARGE), ADMIN, bodies)
        await runtime.ask(BOB, delivery(LARGE), ADMIN, bodies)
        command = delivery(LARGE)
        fact = MessageDelivered(b"f" * 16, new_id(), command.message.digest, 9, 1, (), b"secret", None, (), None,
                                "secret@t", "", "smtp")  # fmt: skip
        event = Event(TENANT, ALICE, fact.TYPE, *encode_for(fact, 2), new_salt())  # as an earlier release wrote it
        guards = (Guard(ALICE, b"A", 999),)
        refused = Record(new_id(), 2**60, ADMIN.by, "", guards, (event,))
        with pytest.raises(Rejected):
            await log.propose(refused)
        plan = await asyncio.to_thread(plan_message, log.store, digest_of(LARGE), True, nobody)
        assert {type(fact) for fact in left(log, plan)} == {MessageDelivered}
        assert len(plan.events) == 3
        assert all("secret" not in repr(fact) for fact in left(log, plan))
        assert {stream for stream, _ in plan.mailboxes} == {ALICE, BOB}
        keys = {body.key for body in plan.bodies}
        with log.snapshot() as snapshot:
            found = {key for key, _ in snapshot.raw(BODIES)} | {row[:KEY_BYTES] for _, row in snapshot.raw(FRESH)}
        chunks = found - {TENANT + digest_of(LARGE)}
        assert chunks
        assert chunks | {TENANT + digest_of(LARGE)} == keys

    with_log(tmp_path, run, scenario)


def test_addresses_of_a_queued_message_become_the_same_numbers_in_all_its_events(tmp_path: Path, run: Run) -> None:
    async def scenario(log: EventLog, runtime: Runtime) -> None:
        item, stream = new_id(), queue_stream("outside.test")
        recipients = ("secret1@outside.test", "secret2@outside.test")
        queued = Enqueue("outside.test", item, TENANT, "secret@t", recipients, digest_of(b"x"), 1, b"secret", 9, 1)
        await runtime.ask(stream, queued, ADMIN, [NewBody(TENANT, b"x")])
        await runtime.ask(stream, Claim(item, "n1", 100, 1), ADMIN)
        attempt = RecordAttempt(item, "n1", (recipients[1],), ((recipients[0], 50, "secret1 is full"),))
        await runtime.ask(stream, attempt, ADMIN)
        plan = await asyncio.to_thread(plan_message, log.store, digest_of(b"x"), True, nobody)
        mail, outcome = left(log, plan)
        assert isinstance(mail, MailQueued)
        assert (mail.sender, mail.recipients, mail.trace) == ("", ("redacted-0", "redacted-1"), b"")
        assert isinstance(outcome, AttemptRecorded)
        assert (outcome.delivered, outcome.deferred) == (("redacted-1",), (("redacted-0", 50, ""),))
        assert plan.items == ((stream, item),)

    with_log(tmp_path, run, scenario)


def test_what_servers_said_of_a_message_goes_and_what_they_said_of_others_in_the_event_stays(
    tmp_path: Path, run: Run
) -> None:
    async def scenario(log: EventLog, runtime: Runtime) -> None:
        stream, asked = queue_stream("outside.test"), RecipientOptions((), "rfc822;secret@t")
        ids = [new_id(), new_id()]
        for item, body in zip(ids, (b"x", b"y")):
            queued = Enqueue("outside.test", item, TENANT, "s@t", ("r@outside.test",), digest_of(body), 1, b"", 9, 1)
            queued = replace(queued, recipient_options=(asked,), options=MailOptions(envid="secret"))
            await runtime.ask(stream, queued, ADMIN, [NewBody(TENANT, body)])
        await runtime.ask(stream, ClaimItems(tuple(ids), "n1", 100, 1), ADMIN)
        outcomes = tuple(ItemOutcome(item, (Result(0, "deferred", 50, 450, "4.2.0", "mx"),)) for item in ids)
        await runtime.ask(stream, RecordOutcomes("n1", outcomes, ("secret is full", "other is full")), ADMIN)
        plan = await asyncio.to_thread(plan_message, log.store, digest_of(b"x"), True, nobody)
        mail, attempts = left(log, plan)
        assert isinstance(mail, MailQueued)
        assert (mail.recipient_options, mail.options[4]) == ((((), ""),), "")
        assert isinstance(attempts, AttemptsRecorded)
        assert attempts.texts == ("", "other is full")

    with_log(tmp_path, run, scenario)


def test_a_position_of_a_delivery_means_what_that_mailbox_knows_of_it_and_no_other(tmp_path: Path, run: Run) -> None:
    async def scenario(log: EventLog, runtime: Runtime) -> None:
        command = delivery(b"x")
        done = await runtime.transact([(ALICE, command), (BOB, command)], ADMIN, [NewBody(TENANT, b"x")])
        plan = await asyncio.to_thread(plan_event, log.store, done.position, 0, nobody)
        assert [(one.position, one.ordinal) for one in plan.events] == [(done.position, 0)]
        assert plan.bodies == ()
        assert plan.message_ids == (command.message.id,)
        assert len((await asyncio.to_thread(plan_event, log.store, done.position, None, nobody)).events) == 2

    with_log(tmp_path, run, scenario)


def test_a_folders_name_is_found_in_all_events_and_in_names_below_it(tmp_path: Path, run: Run) -> None:
    async def scenario(log: EventLog, runtime: Runtime) -> None:
        folder = new_id()
        done = await runtime.ask(ALICE, CreateFolder(folder, "secret"), ADMIN)
        await runtime.ask(ALICE, CreateFolder(new_id(), "secret/below"), ADMIN)
        await runtime.ask(ALICE, CreateFolder(new_id(), "other"), ADMIN)
        await runtime.ask(ALICE, Subscribe("secret"), ADMIN)
        await runtime.ask(ALICE, DeleteFolder(folder), ADMIN)
        plan = await asyncio.to_thread(plan_event, log.store, done.position, None, nobody)
        assert len(plan.events) == 4
        assert all("secret" not in repr(fact) for fact in left(log, plan))
        assert len(plan.names) == 2

    with_log(tmp_path, run, scenario)


def test_what_is_not_there_or_can_not_be_redacted_is_said(tmp_path: Path, run: Run) -> None:
    async def scenario(log: EventLog, runtime: Runtime) -> None:
        with pytest.raises(Nothing, match="no record has a body"):
            plan_message(log.store, digest_of(b"never"), True, nobody)
        with pytest.raises(Nothing, match="the log has no position 999"):
            plan_event(log.store, 999, None, nobody)
        with pytest.raises(Nothing, match="position 1 is the leader's own entry, without a record"):
            plan_event(log.store, 1, None, nobody)
        opened = await runtime.ask(ALICE, Subscribe("x"), ADMIN)
        with pytest.raises(Nothing, match="has 1 events"):
            plan_event(log.store, opened.position, 1, nobody)
        with pytest.raises(Nothing, match="MailboxOpened"):
            plan_event(log.store, opened.position - 2, None, nobody)

    with_log(tmp_path, run, scenario)


def test_private_keys_of_a_domain_go_once_all_of_one_making_are_deleted(tmp_path: Path, run: Run) -> None:
    async def scenario(log: EventLog, runtime: Runtime) -> None:
        stream = dkim_stream("example.test")
        old = tuple(NewKey(one, "rsa-sha256", "p", b"sealed " + one.encode()) for one in ("old-r", "old-e"))
        new = (NewKey("new", "rsa-sha256", "p", b"sealed new"),)
        await runtime.ask(stream, AddKeys(TENANT, "example.test", old), ADMIN)
        await runtime.ask(stream, AddKeys(TENANT, "example.test", new), ADMIN)
        await runtime.ask(stream, DeleteKey("old-r"), ADMIN)
        with pytest.raises(Nothing, match="dkim delete"):
            await asyncio.to_thread(plan_keys, log.store, "example.test", nobody)
        await runtime.ask(stream, DeleteKey("old-e"), ADMIN)
        plan = await asyncio.to_thread(plan_keys, log.store, "example.test", nobody)
        (made,) = left(log, plan)
        assert isinstance(made, DkimKeysAdded)
        assert ([key[0] for key in made.keys], made.sealed) == (["old-r", "old-e"], (b"", b""))
        assert fold(made, DkimKeyDeleted("old-r"), DkimKeyDeleted("old-e")) == []

    with_log(tmp_path, run, scenario)


def fold(*facts: DkimFact) -> list[Key]:
    """The keys that a refold leaves."""
    view = DictView(dkim_stream("example.test")).at(1)
    for fact in facts:
        evolve(view, fact, Stamp(1, 1, 1, bytes(16), ADMIN.by, "", 3))
    return all_keys(view)
