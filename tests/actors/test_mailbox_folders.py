"""Folders, subscriptions and the mailbox itself."""

import pytest

from actors.errors import FolderExists, InvalidName, NoSuchAccount, NoSuchFolder, NotAllowed
from actors.mailbox import (
    DEFAULT_FOLDERS,
    Append,
    CloseMailbox,
    CreateFolder,
    DeleteFolder,
    Deliver,
    Expunge,
    FolderRenamed,
    MoveMessages,
    OpenMailbox,
    RenameFolder,
    SetQuota,
    Subscribe,
    Unsubscribe,
    counters,
    folder,
    folder_by_name,
    folders,
    is_open,
    messages,
    slices,
    subscriptions,
    tenant_of,
    usage,
)
from tests.actors.mail import a_message, an_id, append, create, deliver, folder_named, open_mailbox
from tests.actors.stage import START_MS, TENANT, Stage


@pytest.fixture
def opened(stage: Stage) -> Stage:
    open_mailbox(stage)
    return stage


def names(stage: Stage) -> list[str]:
    return [found.name for found in folders(stage.view)]


# The mailbox


def test_a_new_mailbox_has_the_standard_folders_with_their_special_uses_all_subscribed(opened: Stage) -> None:
    found = {one.name: one.special_use for one in folders(opened.view)}
    assert found == dict(DEFAULT_FOLDERS)
    assert all(one.subscribed for one in folders(opened.view))
    assert tenant_of(opened.view) == TENANT


def test_inbox_is_listed_first(opened: Stage) -> None:
    create(opened, "AAA")
    assert names(opened) == ["INBOX", "AAA", "Archive", "Drafts", "Junk", "Sent", "Trash"]


def test_a_mailbox_is_opened_once(opened: Stage) -> None:
    with pytest.raises(NotAllowed):
        open_mailbox(opened)


def test_a_mailbox_needs_an_id_for_each_folder(stage: Stage) -> None:
    with pytest.raises(NotAllowed):
        stage.decide(OpenMailbox(TENANT, "alice@example.test", (an_id(),), None))


def test_a_closed_mailbox_shows_nothing(opened: Stage) -> None:
    deliver(opened, 3)
    opened.do(CloseMailbox())
    assert not is_open(opened.view)
    assert (folders(opened.view), subscriptions(opened.view)) == ([], [])
    assert usage(opened.view) == (0, 0, None, None)


def test_a_closed_mailbox_is_not_opened_again(opened: Stage) -> None:
    opened.do(CloseMailbox())
    with pytest.raises(NotAllowed):
        open_mailbox(opened)


def test_closing_a_large_mailbox_empties_it_in_slices_first(opened: Stage) -> None:
    deliver(opened, 1200)
    parts = slices(opened.view, CloseMailbox())
    assert [type(part) for part in parts] == [Expunge, Expunge, CloseMailbox]
    for part in parts:
        opened.do(part)
    assert list(opened.rows()) == [b"Q"]


def test_a_closed_mailbox_refuses_every_command(opened: Stage) -> None:
    inbox = folder_named(opened, "INBOX")
    opened.do(CloseMailbox())
    commands = (CloseMailbox(), CreateFolder(an_id(), "x"), DeleteFolder(inbox.id), Subscribe("x"), SetQuota(1))
    for command in commands:
        with pytest.raises(NoSuchAccount):
            opened.decide(command)


def test_what_was_decided_before_the_mailbox_closed_changes_nothing_after(opened: Stage) -> None:
    inbox = folder_named(opened, "INBOX")
    commands = (CreateFolder(an_id(), "x"), Subscribe("x"), SetQuota(1), Append(inbox.id, a_message()))
    decided = [fact for command in commands for fact in opened.decide(command)]
    opened.do(CloseMailbox())
    before = opened.rows()
    opened.fold(*decided)
    assert opened.rows() == before


# Creating


def test_a_created_folder_is_empty_and_has_a_uidvalidity_of_log_time(opened: Stage) -> None:
    opened.at_ms = START_MS + 3_600_000
    lists = create(opened, "Lists")
    assert lists.uidvalidity == opened.at_ms // 1000
    assert counters(opened.view, lists.id)[2:] == (0, 0, 0)
    assert counters(opened.view, lists.id).uidnext == 1


def test_folders_made_in_one_second_have_different_uidvalidities(opened: Stage) -> None:
    values = [found.uidvalidity for found in folders(opened.view)]
    assert len(set(values)) == len(values)


def test_a_folder_made_again_has_a_higher_uidvalidity(opened: Stage) -> None:
    first = create(opened, "Lists")
    append(opened, first)
    opened.do(DeleteFolder(first.id))
    assert create(opened, "Lists").uidvalidity > first.uidvalidity


def test_missing_superior_names_are_created_with_the_ids_given(opened: Stage) -> None:
    above = ((an_id(), "a"), (an_id(), "a/b"))
    opened.do(CreateFolder(an_id(), "a/b/c", parents=above))
    assert folder_named(opened, "a").id == above[0][0]
    assert folder_named(opened, "a/b").id == above[1][0]
    opened.do(CreateFolder(an_id(), "a/b/d", parents=((an_id(), "a"), (an_id(), "a/b"))))
    assert folder_named(opened, "a/b").id == above[1][0]


def test_a_name_that_exists_is_refused(opened: Stage) -> None:
    with pytest.raises(FolderExists):
        opened.decide(CreateFolder(an_id(), "Sent"))


@pytest.mark.parametrize("name", ["inbox", "INBOX", "InBox"])
def test_inbox_is_one_folder_in_any_case(opened: Stage, name: str) -> None:
    assert folder_named(opened, name).name == "INBOX"
    with pytest.raises(FolderExists):
        opened.decide(CreateFolder(an_id(), name))


def test_other_names_differ_by_case(opened: Stage) -> None:
    create(opened, "sent")
    assert folder_named(opened, "sent").id != folder_named(opened, "Sent").id


def test_names_are_compared_in_nfc(opened: Stage) -> None:
    create(opened, "Cafe\u0301")
    assert folder_named(opened, "Caf\u00e9").name == "Caf\u00e9"


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", "a\r\nb", "a*", "50%", "\ud800", "x" * 1001, "a/" * 30 + "a"])
def test_names_that_clients_can_not_handle_are_refused(opened: Stage, name: str) -> None:
    with pytest.raises(InvalidName):
        opened.decide(CreateFolder(an_id(), name))
    assert folder_by_name(opened.view, name) is None


def test_of_two_creations_of_one_name_the_first_in_the_log_stands(opened: Stage) -> None:
    one, other = (opened.decide(CreateFolder(an_id(), "Lists")) for _ in range(2))
    opened.fold(*one)
    before = opened.rows()
    assert opened.fold(*other) == [[]]
    assert opened.rows() == before


def test_an_id_that_is_in_use_creates_nothing(opened: Stage) -> None:
    lists = create(opened, "Lists")
    append(opened, lists)
    assert opened.do(CreateFolder(lists.id, "Other")) == []
    assert folder(opened.view, lists.id) == lists
    assert counters(opened.view, lists.id).messages == 1


def test_creating_a_folder_guards_its_name(opened: Stage) -> None:
    opened.decide(CreateFolder(an_id(), "Lists"))
    assert any(guard.key.startswith(b"n") and guard.version == 0 for guard in opened.guards)


# Renaming


def test_a_renamed_folder_keeps_its_id_uidvalidity_and_messages(opened: Stage) -> None:
    lists = create(opened, "Lists")
    append(opened, lists)
    opened.do(RenameFolder(lists.id, "News"))
    assert folder(opened.view, lists.id) == lists._replace(name="News")
    assert folder_by_name(opened.view, "Lists") is None
    assert len(list(messages(opened.view, lists.id))) == 1


def test_inferior_names_move_along(opened: Stage) -> None:
    ids = [create(opened, name).id for name in ("a", "a/b", "a/b/c", "ab")]
    opened.do(RenameFolder(ids[0], "z"))
    found = {one.id: one.name for one in folders(opened.view)}
    assert [found[id_] for id_ in ids] == ["z", "z/b", "z/b/c", "ab"]


def test_a_name_that_is_taken_is_no_target(opened: Stage) -> None:
    lists = create(opened, "Lists")
    with pytest.raises(FolderExists):
        opened.decide(RenameFolder(lists.id, "Sent"))


def test_a_folder_can_not_move_below_itself(opened: Stage) -> None:
    lists = create(opened, "Lists")
    with pytest.raises(NotAllowed):
        opened.decide(RenameFolder(lists.id, "Lists/old"))


def test_a_folder_that_does_not_exist_can_not_be_renamed(opened: Stage) -> None:
    with pytest.raises(NoSuchFolder):
        opened.decide(RenameFolder(an_id(), "x"))


def test_a_rename_creates_the_superior_names_it_was_given(opened: Stage) -> None:
    lists = create(opened, "Lists")
    opened.do(RenameFolder(lists.id, "Old/Lists", parents=((an_id(), "Old"),)))
    assert folder_named(opened, "Old").name == "Old"


def test_a_rename_to_a_name_taken_before_the_fold_changes_nothing(opened: Stage) -> None:
    lists = create(opened, "Lists")
    decided = opened.decide(RenameFolder(lists.id, "News"))
    create(opened, "News")
    assert opened.fold(*decided) == [[]]
    assert folder_named(opened, "Lists").id == lists.id


def test_inbox_is_never_renamed_by_the_fold(opened: Stage) -> None:
    inbox = folder_named(opened, "INBOX")
    assert opened.fold(FolderRenamed(inbox.id, "INBOX", "Old")) == [[]]


def test_renaming_inbox_moves_its_messages_and_leaves_it_empty(opened: Stage) -> None:
    inbox, old = folder_named(opened, "INBOX"), an_id()
    create(opened, "INBOX/lists")
    deliver(opened, 2)
    opened.do(RenameFolder(inbox.id, "Old mail", inbox_id=old))
    assert folder_named(opened, "Old mail").id == old
    assert [one.uid for one in messages(opened.view, old)] == [1, 2]
    assert folder_named(opened, "INBOX").id == inbox.id
    assert counters(opened.view, inbox.id)[2:] == (0, 0, 0)
    assert folder_named(opened, "INBOX/lists").name == "INBOX/lists"
    assert deliver(opened, 1) == [3]


def test_renaming_inbox_without_an_id_for_the_new_folder_is_refused(opened: Stage) -> None:
    with pytest.raises(NotAllowed):
        opened.decide(RenameFolder(folder_named(opened, "INBOX").id, "Old"))


def test_a_large_inbox_is_renamed_in_slices(opened: Stage) -> None:
    inbox, old = folder_named(opened, "INBOX"), an_id()
    deliver(opened, 1001)
    parts = slices(opened.view, RenameFolder(inbox.id, "Old", inbox_id=old))
    assert [type(part) for part in parts] == [CreateFolder, MoveMessages, MoveMessages]
    for part in parts:
        opened.do(part)
    assert counters(opened.view, old).messages == 1001


# Deleting


def test_a_deleted_folder_is_gone_with_its_messages(opened: Stage) -> None:
    lists = create(opened, "Lists")
    append(opened, lists)
    (change,) = opened.do(DeleteFolder(lists.id))
    assert (change.kind, change.folder) == ("folder", lists.id)
    assert folder_by_name(opened.view, "Lists") is None
    assert list(messages(opened.view, lists.id)) == []
    assert usage(opened.view) == (0, 0, None, None)


def test_inferior_names_outlive_their_superior(opened: Stage) -> None:
    above = create(opened, "a")
    create(opened, "a/b")
    opened.do(DeleteFolder(above.id))
    assert folder_named(opened, "a/b").name == "a/b"


def test_inbox_can_not_be_deleted(opened: Stage) -> None:
    with pytest.raises(NotAllowed):
        opened.decide(DeleteFolder(folder_named(opened, "INBOX").id))


def test_a_large_inbox_is_not_emptied_for_a_deletion_that_will_be_refused(opened: Stage) -> None:
    inbox = folder_named(opened, "INBOX")
    deliver(opened, 2001)
    assert slices(opened.view, DeleteFolder(inbox.id)) == (DeleteFolder(inbox.id),)


def test_a_folder_is_deleted_once(opened: Stage) -> None:
    lists = create(opened, "Lists")
    decided = opened.decide(DeleteFolder(lists.id))
    opened.fold(*decided)
    assert opened.fold(*decided) == [[]]
    with pytest.raises(NoSuchFolder):
        opened.decide(DeleteFolder(lists.id))


def test_a_large_folder_is_emptied_in_slices_before_it_is_deleted(opened: Stage) -> None:
    lists = create(opened, "Lists")
    for _ in range(2100):
        opened.do(Deliver(a_message(), folder="Lists"))
    parts = slices(opened.view, DeleteFolder(lists.id))
    assert [type(part) for part in parts] == [Expunge, Expunge, DeleteFolder]


# Subscriptions


def test_a_subscription_is_to_a_name_and_outlives_the_folder(opened: Stage) -> None:
    lists = create(opened, "Lists")
    opened.do(Subscribe("Lists"))
    assert folder_named(opened, "Lists").subscribed
    opened.do(DeleteFolder(lists.id))
    assert "Lists" in subscriptions(opened.view)
    opened.do(Unsubscribe("Lists"))
    assert "Lists" not in subscriptions(opened.view)


def test_a_created_folder_is_not_subscribed(opened: Stage) -> None:
    assert not create(opened, "Lists").subscribed


def test_subscribing_twice_is_one_event(opened: Stage) -> None:
    assert opened.decide(Subscribe("inbox")) == ()
    assert opened.decide(Unsubscribe("nowhere")) == ()


def test_a_name_that_no_folder_can_have_is_not_subscribed_to(opened: Stage) -> None:
    with pytest.raises(InvalidName):
        opened.decide(Subscribe("a//b"))
