"""The runtime on a real log: commands in, committed events and tables out."""

import asyncio
import time
from pathlib import Path

import pykka
import pytest

from actors import runtime as runtime_module
from actors.errors import FolderExists, NoSuchAccount, NoSuchFolder, OverQuota, TooLarge
from actors.mailbox import (
    ChangeFlags,
    CloseMailbox,
    CopyMessages,
    CreateFolder,
    DeleteFolder,
    Deliver,
    Expunge,
    FlagsChanged,
    MoveMessages,
    RenameFolder,
    SetQuota,
    counters,
    folder_by_name,
    messages,
    usage,
)
from actors.names import ClaimName, ReleaseName, holder, name_stream
from actors.registry import KINDS, fold_event
from actors.runtime import NewBody, Runtime
from actors.upload import BodyChunkStored
from eventlog import levels
from eventlog.bodies import CHUNK_BYTES
from eventlog.errors import Rejected
from eventlog.log import Applied, Committed
from eventlog.record import decode, new_id
from eventlog.replay import view_as_of
from eventlog.uploads import collection
from tests.actors.cell import ADMIN, Cell, Run, a_mail, example_cell

ALICE, BOB = "alice@example.test", "bob@example.test"


def test_a_delivery_is_there_once_it_is_answered(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            done = await cell.deliver(ALICE, b"Subject: hello\r\n\r\nhello\r\n")
            (found,) = cell.messages(cell.account(ALICE))
            assert done.results[0][0].uid == found.uid == 1
            with cell.log.snapshot() as snapshot:
                assert snapshot.position >= done.position
                assert snapshot.body(cell.tenant(ALICE), found.digest) == b"Subject: hello\r\n\r\nhello\r\n"

    run(scenario())


def test_the_record_says_who_did_it_and_whose_it_is(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            done = await cell.deliver(ALICE, b"x")
            with cell.log.snapshot() as snapshot:
                stored = snapshot.record(done.position)
            assert stored is not None
            assert stored.record is not None
            assert (stored.record.by, stored.record.cause) == (ADMIN.by, "test")
            assert [event.tenant for event in stored.record.events] == [cell.tenant(ALICE)]

    run(scenario())


def test_a_fact_of_a_later_feature_level_is_not_proposed(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FlagsChanged, "SINCE", levels.NEWEST + 1)

    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            await cell.deliver(ALICE, b"x")
            account, before = cell.account(ALICE), cell.position
            change = ChangeFlags(cell.folder(account).id, (1,), "add", ("\\Seen",))
            too_new = f"this needs feature level {levels.NEWEST + 1} and the cell is at {levels.NEWEST}"
            with pytest.raises(Rejected, match=too_new):
                await cell.runtime.ask(account, change, ADMIN)
            assert cell.position == before

    run(scenario())


def test_no_fact_needs_a_level_that_this_program_does_not_know() -> None:
    facts = [fact for kind in KINDS.values() for fact in kind.facts]
    assert max(fact.SINCE for fact in facts) <= levels.NEWEST
    assert min(fact.SINCE for fact in facts) >= levels.OLDEST


def test_what_is_refused_is_not_proposed(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            before = cell.position
            with pytest.raises(NoSuchAccount):
                await cell.runtime.ask(new_id(), Deliver(a_mail(b"x").message), ADMIN)
            assert cell.position == before

    run(scenario())


def test_what_changes_nothing_is_not_proposed(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            account, before = cell.account(ALICE), cell.position
            done = await cell.runtime.ask(account, Expunge(cell.folder(account).id, (1, 2)), ADMIN)
            assert (done.facts, done.results, cell.position) == ((), (), before)

    run(scenario())


def test_deliveries_at_once_get_different_uids(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            done = await asyncio.gather(*(cell.deliver(ALICE, b"%d" % n) for n in range(100)))
            assert sorted(one.results[0][0].uid for one in done) == list(range(1, 101))

    run(scenario())


def test_deliveries_at_once_do_not_run_over_the_quota(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            await cell.directory.set_quota(BOB, 10_000, ADMIN)
            for _ in range(9):  # nearly full: from here on, decisions stand on the usage that they saw
                await cell.deliver(BOB, b"x" * 1000)
            answers = await asyncio.gather(
                *(cell.deliver(BOB, b"y" * 400 + b"%d" % n) for n in range(20)), return_exceptions=True
            )
            assert all(isinstance(one, OverQuota | Rejected) for one in answers if isinstance(one, BaseException))
            with cell.log.snapshot() as snapshot:
                assert 9_000 < usage(snapshot.view(cell.account(BOB))).bytes <= 10_000

    run(scenario())


def test_of_two_nodes_that_create_one_folder_at_once_one_is_told_that_it_exists(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            other = Runtime(cell.log)
            account = cell.account(ALICE)
            answers = await asyncio.gather(
                *(one.ask(account, CreateFolder(new_id(), "Lists"), ADMIN) for one in (cell.runtime, other)),
                return_exceptions=True,
            )
            await other.stop()
            assert sorted(type(answer).__name__ for answer in answers) == ["Done", "FolderExists"]

    run(scenario())


def test_a_storm_of_conflicting_commands_from_several_nodes_ends_with_all_done(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            others = [Runtime(cell.log) for _ in range(3)]
            account = cell.account(ALICE)
            lists = new_id()
            await cell.runtime.ask(account, CreateFolder(lists, "Lists"), ADMIN)
            renames = [
                one.ask(account, RenameFolder(lists, f"Lists {n}{which}"), ADMIN)
                for which, one in enumerate([cell.runtime, *others])
                for n in range(3)
            ]
            done = await asyncio.gather(*renames)
            for one in others:
                await one.stop()
            last = max(done, key=lambda answer: answer.position)
            with cell.log.snapshot() as snapshot:
                found = folder_by_name(snapshot.view(account), last.facts[0].new_name)  # type: ignore[attr-defined]
            assert found is not None
            assert len({one.position for one in done}) == len(done)

    run(scenario())


def test_a_message_to_two_recipients_is_one_record(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            mail = a_mail(b"to both")
            steps = [(cell.account(one), Deliver(mail.message)) for one in (ALICE, BOB)]
            before = cell.position
            done = await cell.runtime.transact(steps, ADMIN, [NewBody(cell.tenant(ALICE), mail.data)])
            assert (len(done.facts), len(done.results), cell.position) == (2, 2, before + 1)
            assert [len(cell.messages(stream)) for stream, _ in steps] == [1, 1]

    run(scenario())


def test_when_one_recipient_is_refused_nothing_is_done_and_a_check_says_which(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            await cell.directory.set_quota(BOB, 3, ADMIN)
            mail = a_mail(b"too large")
            steps = [(cell.account(one), Deliver(mail.message)) for one in (ALICE, BOB)]
            with pytest.raises(OverQuota):
                await cell.runtime.transact(steps, ADMIN, [NewBody(cell.tenant(ALICE), mail.data)])
            assert cell.messages(cell.account(ALICE)) == []
            refusals = [cell.runtime.check(*step) for step in steps]
            assert [type(refusal) for refusal in refusals] == [type(None), OverQuota]

    run(scenario())


def test_a_later_command_of_a_record_sees_the_earlier_ones(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            account, lists = cell.account(ALICE), new_id()
            steps = [
                (account, CreateFolder(lists, "Lists")),
                (account, RenameFolder(lists, "News")),
                (account, CreateFolder(new_id(), "Lists")),
            ]
            await cell.runtime.transact(steps, ADMIN)
            assert cell.folder(account, "News").id == lists
            with pytest.raises(FolderExists):
                await cell.runtime.transact([steps[0]], ADMIN)

    run(scenario())


def test_a_name_changes_hands_in_one_record(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            name, one, other, tenant = "tenant:x", new_id(), new_id(), new_id()
            stream = name_stream(name)
            await cell.runtime.ask(stream, ClaimName(name, tenant, one, "tenant"), ADMIN)
            steps = [(stream, ReleaseName(name, one)), (stream, ClaimName(name, tenant, other, "tenant"))]
            await cell.runtime.transact(steps, ADMIN)
            with cell.log.snapshot() as snapshot:
                assert holder(snapshot.view(stream)) == (tenant, other, "tenant")

    run(scenario())


def test_a_large_body_goes_in_chunks_and_comes_back_whole(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            data = bytes(range(256)) * 4 * 1100  # a little over four chunks, some of them alike
            before = cell.position
            done = await cell.deliver(ALICE, data)
            assert done.position == before + 6
            with cell.log.snapshot() as snapshot:
                (found,) = cell.messages(cell.account(ALICE))
                assert snapshot.body(cell.tenant(ALICE), found.digest) == data

    run(scenario())


def test_a_large_body_that_nobody_may_have_is_not_uploaded(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            await cell.runtime.ask(cell.account(ALICE), SetQuota(1000), ADMIN)
            before = cell.position
            with pytest.raises(OverQuota):
                await cell.deliver(ALICE, b"x" * 600_000)
            assert cell.position == before

    run(scenario())


def test_chunks_that_were_collected_before_they_were_claimed_are_sent_again(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            collected: list[asyncio.Task[Committed]] = []

            def collect_the_first(applied: list[Applied]) -> None:
                stored = [one for one in applied if isinstance(one.fact, BodyChunkStored)]
                if stored and not collected:
                    chunk = stored[0].event.stream + stored[0].fact.digest
                    _, record = collection([chunk], 2**60, time.time_ns() // 1_000_000, "n1")
                    collected.append(asyncio.create_task(cell.log.propose(decode(record))))

            unsubscribe = cell.log.subscribe(None, collect_the_first)
            before = cell.position
            data = b"".join(bytes([n]) * CHUNK_BYTES for n in range(6))
            done = await cell.deliver(ALICE, data)
            unsubscribe()
            assert done.position == before + 6 + 1 + 1 + 6 + 1  # chunks, their collection, a refusal, and all again
            with cell.log.snapshot() as snapshot:
                (found,) = cell.messages(cell.account(ALICE))
                assert snapshot.body(cell.tenant(ALICE), found.digest) == data

    run(scenario())


async def _fill(cell: Cell, account: bytes, size: int) -> tuple[int, ...]:
    """Copies of one message; gives the UIDs in INBOX."""
    await cell.deliver(ALICE, b"x")
    inbox = cell.folder(account).id
    while (count := len(uids := tuple(one.uid for one in cell.messages(account)))) < size:
        await cell.runtime.ask(account, CopyMessages(inbox, uids[: size - count], inbox), ADMIN)
    return uids


def test_large_work_goes_in_several_records(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            account = cell.account(ALICE)
            uids = await _fill(cell, account, 2500)
            before = cell.position
            done = await cell.runtime.ask(account, ChangeFlags(cell.folder(account).id, uids, "add", ("x",)), ADMIN)
            assert (cell.position - before, len(done.facts)) == (3, 3)
            assert [change.uid for changes in done.results for change in changes] == list(uids)
            assert all(isinstance(fact, FlagsChanged) for fact in done.facts)
            assert {one.flags for one in cell.messages(account)} == {("x",)}
            await cell.runtime.ask(
                account, MoveMessages(cell.folder(account).id, uids, cell.folder(account, "Trash").id), ADMIN
            )
            await cell.runtime.ask(account, DeleteFolder(cell.folder(account, "Trash").id), ADMIN)
            with cell.log.snapshot() as snapshot:
                assert usage(snapshot.view(account)) == (0, 0, None, None)

    run(scenario())


def test_work_that_would_overrun_the_row_budget_is_refused_before_the_log(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_module, "MAX_ROWS", 50)

    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            account = cell.account(ALICE)
            await _fill(cell, account, 40)
            before = cell.position
            with pytest.raises(TooLarge):
                await cell.runtime.transact([(account, CloseMailbox())], ADMIN)
            assert cell.position == before

    run(scenario())


def test_commands_that_depend_on_each_other_keep_their_turn(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            account, lists = cell.account(ALICE), new_id()
            commands = (
                CreateFolder(lists, "Lists"),
                RenameFolder(lists, "News"),
                CreateFolder(new_id(), "Lists"),
                DeleteFolder(lists),
            )
            await asyncio.gather(*(cell.runtime.ask(account, command, ADMIN) for command in commands))
            with cell.log.snapshot() as snapshot:
                assert folder_by_name(snapshot.view(account), "News") is None
                assert folder_by_name(snapshot.view(account), "Lists") is not None

    run(scenario())


def test_a_refused_command_does_not_hold_up_the_next(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            account = cell.account(ALICE)
            answers = await asyncio.gather(
                cell.runtime.ask(account, DeleteFolder(new_id()), ADMIN),
                cell.runtime.ask(account, CreateFolder(new_id(), "Lists"), ADMIN),
                return_exceptions=True,
            )
            assert isinstance(answers[0], NoSuchFolder)
            assert cell.folder(account, "Lists").name == "Lists"

    run(scenario())


def test_a_caller_that_goes_away_does_not_take_its_message_along(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            caller = asyncio.create_task(cell.deliver(ALICE, b"x"))
            await asyncio.sleep(0)
            caller.cancel()
            async with asyncio.timeout(10):
                while not cell.messages(cell.account(ALICE)):
                    await asyncio.sleep(0.01)
            assert caller.cancelled()

    run(scenario())


def test_idle_actors_are_stopped_and_come_back_when_asked(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path, idle_s=0.05) as cell:
            await cell.deliver(ALICE, b"one")
            assert cell.runtime.active == 1
            running = len(pykka.ActorRegistry.get_all())
            async with asyncio.timeout(10):
                while cell.runtime.active:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0)
            assert len(pykka.ActorRegistry.get_all()) == running - 1
            await cell.deliver(ALICE, b"two")
            assert len(cell.messages(cell.account(ALICE))) == 2

    run(scenario())


def test_a_stopping_runtime_finishes_what_is_in_work_and_takes_no_more(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            runtime = Runtime(cell.log)
            account = cell.account(ALICE)
            asked = asyncio.create_task(runtime.ask(account, CreateFolder(new_id(), "Lists"), ADMIN))
            other = asyncio.create_task(runtime.transact([(cell.account(BOB), CreateFolder(new_id(), "Old"))], ADMIN))
            await asyncio.sleep(0)
            await runtime.stop()
            assert asked.done()
            assert other.done()
            assert (await asked).facts
            assert (await other).facts
            assert runtime.active == 0
            for refused in (
                runtime.ask(account, CreateFolder(new_id(), "More"), ADMIN),
                runtime.transact([(account, CreateFolder(new_id(), "More"))], ADMIN),
            ):
                with pytest.raises(Rejected, match="stopping"):
                    await refused

    run(scenario())


def test_a_mailbox_can_be_seen_as_it_was(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            account = cell.account(ALICE)
            inbox = cell.folder(account).id
            done = await cell.deliver(ALICE, b"one")
            await cell.deliver(ALICE, b"two")
            await cell.runtime.ask(account, Expunge(inbox, (1,), force=True), ADMIN)
            with cell.log.snapshot() as snapshot:
                then = view_as_of(snapshot, account, fold_event, position=done.position)
                now = view_as_of(snapshot, account, fold_event)
                live = {key: value for key, value in snapshot.view(account).range(b"") if key}
            assert [one.uid for one in messages(then, inbox)] == [1]
            assert counters(now, inbox).messages == 1
            assert {key: value for key, (_, value) in now.rows().items()} == live

    run(scenario())
