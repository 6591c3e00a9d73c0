"""Rights of others to a mailbox: what decide asks for, what its record stands on, what goes with a folder."""

from pathlib import Path

import pytest

from actors.errors import NoRight, NoSuchFolder, NoSuchMessage, TooLarge
from actors.mailbox import (
    EVERY,
    Acting,
    Append,
    ChangeFlags,
    CreateFolder,
    DeleteFolder,
    Expunge,
    OpenMailbox,
    SetQuota,
    SetRights,
    folder_by_name,
    messages,
)
from actors.mailbox_acl import ANYONE, MAX_ENTRIES, entries, held
from actors.runtime import NewBody
from actors.sharing import NoteShare, owners, public_stream
from eventlog.record import new_id
from tests.actors.cell import ADMIN, Run, a_mail, example_cell
from tests.actors.mail import a_message, deliver, folder_named, open_mailbox
from tests.actors.stage import Stage

BOB = b"b" * 16
EVE = b"e" * 16


@pytest.fixture
def opened(stage: Stage) -> Stage:
    open_mailbox(stage)
    deliver(stage, 3)
    return stage


def inbox(stage: Stage) -> bytes:
    return folder_named(stage, "INBOX").id


def rights(stage: Stage, whom: bytes, folder_id: bytes | None = None) -> str:
    return "".join(sorted(held(stage.view.peek, folder_id or inbox(stage), (whom,))))


def test_the_record_stands_on_each_line_that_could_grant_or_take(opened: Stage) -> None:
    folder_id = inbox(opened)
    opened.do(SetRights(folder_id, BOB, False, "li"))
    opened.decide(Acting(BOB, Append(folder_id, a_message(10))))
    guarded = {guard.key for guard in opened.guards if guard.key.startswith(b"R")}
    lines = {(scope, sign, whom) for scope in (folder_id, EVERY) for sign in (b"+", b"-") for whom in (BOB, ANYONE)}
    assert guarded == {b"R" + scope + sign + whom for scope, sign, whom in lines}


def test_without_l_the_folder_is_not_there_and_without_the_right_it_is_refused(opened: Stage) -> None:
    append = Acting(BOB, Append(inbox(opened), a_message(10)))
    with pytest.raises(NoSuchFolder):
        opened.decide(append)
    opened.do(SetRights(inbox(opened), BOB, False, "lr"))
    with pytest.raises(NoRight):
        opened.decide(append)
    with pytest.raises(NoSuchFolder):
        opened.decide(Acting(EVE, append.command))


def test_what_only_owners_do_is_refused_whatever_the_rights(opened: Stage) -> None:
    opened.do(SetRights(EVERY, BOB, False, "lrswipkxtea"))
    with pytest.raises(NoRight):
        opened.decide(Acting(BOB, SetQuota(1)))
    with pytest.raises(NoRight):
        opened.decide(Acting(BOB, Acting(EVE, Expunge(inbox(opened), (1,), True))))


def test_a_conditional_change_by_parts_of_the_rights_is_one_change(opened: Stage) -> None:
    folder_id = inbox(opened)
    opened.do(SetRights(folder_id, BOB, False, "lw"))
    opened.do(ChangeFlags(folder_id, (1, 2), "add", ("\\Seen", "Foo")))
    since = next(messages(opened.view, folder_id)).modseq
    opened.do(ChangeFlags(folder_id, (2,), "add", ("Late",)))
    opened.do(Acting(BOB, ChangeFlags(folder_id, (1, 2), "replace", ("Bar", "\\Deleted"), since)))
    assert [one.flags for one in messages(opened.view, folder_id)] == [("\\Seen", "Bar"), ("\\Seen", "Foo", "Late"), ()]


def test_modes_add_and_remove_and_an_empty_line_goes(opened: Stage) -> None:
    folder_id = inbox(opened)
    opened.do(SetRights(folder_id, BOB, False, "rl"))
    opened.do(SetRights(folder_id, BOB, False, "ilr", "add"))
    assert [entry.rights for entry in entries(opened.view, folder_id)] == ["lri"]
    opened.do(SetRights(folder_id, BOB, False, "lri", "remove"))
    assert entries(opened.view, folder_id) == []


def test_negative_lines_win_and_every_folder_counts(opened: Stage) -> None:
    opened.do(SetRights(EVERY, BOB, False, "lr"))
    opened.do(SetRights(inbox(opened), ANYONE, False, "s"))
    assert rights(opened, BOB) == "lrs"
    opened.do(SetRights(EVERY, ANYONE, True, "r"))
    assert rights(opened, BOB) == "ls"


def test_a_list_goes_with_its_folder_and_its_room_comes_back(opened: Stage) -> None:
    folder_id = folder_named(opened, "Trash").id
    for number in range(MAX_ENTRIES):
        opened.do(SetRights(folder_id, number.to_bytes(16, "big"), False, "l"))
    with pytest.raises(TooLarge):
        opened.decide(SetRights(inbox(opened), BOB, False, "l"))
    opened.do(DeleteFolder(folder_id))
    opened.do(SetRights(inbox(opened), BOB, False, "l"))
    assert rights(opened, b"\0" * 15 + b"\1", folder_id) == ""


def test_new_folders_have_the_list_of_the_one_above(opened: Stage) -> None:
    top, below = new_id(), new_id()
    opened.do(CreateFolder(top, "top"))
    opened.do(SetRights(top, BOB, False, "lr"))
    opened.do(SetRights(top, ANYONE, True, "r"))
    opened.do(CreateFolder(below, "top/middle/below", None, ((new_id(), "top/middle"),)))
    assert entries(opened.view, below) == entries(opened.view, top)
    middle = folder_by_name(opened.view, "top/middle")
    assert middle is not None
    assert entries(opened.view, middle.id) == entries(opened.view, top)


def test_a_large_folder_is_deleted_by_who_may_delete_it_alone(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            alice, bob = cell.account("alice@example.test"), cell.account("bob@example.test")
            tenant = cell.tenant("alice@example.test")
            trash = cell.folder(alice, "Trash").id
            context = ADMIN._replace(tenant=tenant)
            for number in range(3):
                mail = a_mail(b"%d" % number)
                body = NewBody(tenant, mail.data)
                await cell.runtime.ask(alice, Append(trash, mail.message), context, [body])
            with pytest.raises(NoSuchFolder):
                await cell.runtime.ask(alice, Acting(bob, DeleteFolder(trash)), context)
            assert len(cell.messages(alice, "Trash")) == 3
            steps = [(alice, SetRights(trash, bob, False, "lx")), (tenant, NoteShare(bob, alice))]
            await cell.runtime.transact(steps, context)
            await cell.runtime.ask(alice, Acting(bob, DeleteFolder(trash)), context)
            with cell.log.snapshot() as snapshot:
                assert folder_by_name(snapshot.view(alice), "Trash") is None
                assert owners(snapshot.view(tenant), bob) == [alice]

    run(scenario())


def test_where_mail_is_shared_is_forgotten_with_either_account(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            alice, bob = cell.account("alice@example.test"), cell.account("bob@example.test")
            tenant = cell.tenant("alice@example.test")
            context = ADMIN._replace(tenant=tenant)
            steps = [(tenant, NoteShare(bob, alice)), (tenant, NoteShare(ANYONE, bob)), (tenant, NoteShare(bob, alice))]
            done = await cell.runtime.transact(steps, context)
            assert len(done.facts) == 2
            await cell.directory.delete_account("alice@example.test", ADMIN)
            with cell.log.snapshot() as snapshot:
                assert owners(snapshot.view(tenant), bob) == []
                assert owners(snapshot.view(tenant), EVE) == [bob]

    run(scenario())


def test_what_was_shared_with_an_account_goes_with_it(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with example_cell(tmp_path) as cell:
            alice, bob = cell.account("alice@example.test"), cell.account("bob@example.test")
            tenant = cell.tenant("alice@example.test")
            context = ADMIN._replace(tenant=tenant)
            lines = [(cell.folder(alice).id, bob, False), (EVERY, bob, True), (EVERY, EVE, False)]
            for folder_id, whom, negative in lines:
                steps = [(alice, SetRights(folder_id, whom, negative, "lr")), (tenant, NoteShare(whom, alice))]
                await cell.runtime.transact(steps, context)
            await cell.directory.delete_account("bob@example.test", ADMIN)
            with cell.log.snapshot() as snapshot:
                view = snapshot.view(alice)
                left = [entry for folder_id in (cell.folder(alice).id, EVERY) for entry in entries(view, folder_id)]
                assert [entry.whom for entry in left] == [EVE]
                assert view.get(b"R") == 1  # and they count no more

    run(scenario())


def test_a_message_that_changed_since_is_not_expunged_with_what_is_copied_of_it(opened: Stage) -> None:
    folder_id = inbox(opened)
    seen = {one.uid: one.modseq for one in messages(opened.view, folder_id)}
    opened.do(ChangeFlags(folder_id, (2,), "add", ("\\Flagged",)))
    with pytest.raises(NoSuchMessage):
        opened.decide(Expunge(folder_id, (1, 2), True, (seen[1], seen[2])))
    opened.do(Expunge(folder_id, (1,), True, (seen[1],)))
    with pytest.raises(NoSuchMessage):
        opened.decide(Expunge(folder_id, (1,), True, (seen[1],)))
    assert [one.uid for one in messages(opened.view, folder_id)] == [2, 3]


def test_a_mailbox_of_public_folders_has_none_at_first(stage: Stage) -> None:
    tenant = b"t" * 16
    stage.do(OpenMailbox(tenant, "", ()))
    assert folder_by_name(stage.view, "INBOX") is None
    assert public_stream(tenant) != public_stream(b"u" * 16)
