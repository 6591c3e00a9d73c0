"""Messages in a mailbox: arriving, flags, copies, moves, expunges, quota."""

import pytest

from actors.errors import InvalidName, NoSuchAccount, NoSuchFolder, NoSuchMessage, OverQuota, TooLarge
from actors.mailbox import (
    Append,
    Change,
    ChangeFlags,
    CloseMailbox,
    CopyMessages,
    DeleteFolder,
    Deliver,
    Expunge,
    MessageDelivered,
    MoveMessages,
    SetQuota,
    counters,
    decide,
    message,
    messages,
    slices,
    usage,
)
from tests.actors.mail import a_message, an_id, append, create, deliver, folder_named, open_mailbox
from tests.actors.stage import Stage


@pytest.fixture
def opened(stage: Stage) -> Stage:
    open_mailbox(stage)
    return stage


def uids(stage: Stage, name: str) -> list[int]:
    return [one.uid for one in messages(stage.view, folder_named(stage, name).id)]


def flags_of(stage: Stage, name: str, uid: int) -> tuple[str, ...]:
    found = message(stage.view, folder_named(stage, name).id, uid)
    assert found is not None
    return found.flags


# Arriving


def test_a_delivered_message_is_in_inbox_with_everything_it_came_with(opened: Stage) -> None:
    new = a_message(size=4096, trace=b"Return-Path: <bob@example.test>\r\n")
    opened.do(Deliver(new, flags=("\\flagged",), envelope_from="bob@example.test"))
    (found,) = messages(opened.view, folder_named(opened, "INBOX").id)
    assert (found.uid, found.id, found.digest, found.size) == (1, new.id, new.digest, 4096)
    assert (found.trace, found.internaldate_ms, found.flags) == (new.trace, new.internaldate_ms, ("\\Flagged",))


def test_what_the_checks_found_stands_in_the_delivery(opened: Stage) -> None:
    (fact,) = decide(opened.view, Deliver(a_message(), verdicts=b"\x81\xa3spf\xa4pass"))
    assert isinstance(fact, MessageDelivered)
    assert fact.verdicts == b"\x81\xa3spf\xa4pass"


def test_a_delivery_says_what_it_changed(opened: Stage) -> None:
    inbox = folder_named(opened, "INBOX")
    (change,) = opened.do(Deliver(a_message()))
    assert change == Change(inbox.id, 1, "added", (), counters(opened.view, inbox.id).highestmodseq)


def test_a_delivery_guards_the_account_and_the_folder_and_nothing_that_other_deliveries_change(opened: Stage) -> None:
    opened.decide(Deliver(a_message()))
    assert sorted(guard.key for guard in opened.guards) == [b"A", b"f" + folder_named(opened, "INBOX").id]


def test_a_delivery_to_a_folder_by_name_goes_there(opened: Stage) -> None:
    opened.do(Deliver(a_message(), folder="Junk"))
    assert uids(opened, "Junk") == [1]


def test_a_delivery_to_a_folder_that_does_not_exist_goes_to_inbox(opened: Stage) -> None:
    opened.do(Deliver(a_message(), folder="Lists/nowhere"))
    assert uids(opened, "INBOX") == [1]


def test_a_delivery_whose_folder_was_deleted_before_the_fold_goes_to_inbox(opened: Stage) -> None:
    lists = create(opened, "Lists")
    decided = opened.decide(Deliver(a_message(), folder="Lists"))
    opened.do(DeleteFolder(lists.id))
    opened.fold(*decided)
    assert uids(opened, "INBOX") == [1]


def test_a_delivery_whose_mailbox_was_closed_before_the_fold_changes_nothing(opened: Stage) -> None:
    decided = opened.decide(Deliver(a_message()))
    opened.do(CloseMailbox())
    before = opened.rows()
    assert opened.fold(*decided) == [[]]
    assert opened.rows() == before


def test_a_delivery_to_a_closed_mailbox_is_refused(opened: Stage) -> None:
    opened.do(CloseMailbox())
    with pytest.raises(NoSuchAccount):
        opened.decide(Deliver(a_message()))


def test_a_delivery_to_a_mailbox_that_never_was_is_refused(stage: Stage) -> None:
    with pytest.raises(NoSuchAccount):
        stage.decide(Deliver(a_message()))


def test_uids_increase_and_are_never_used_again(opened: Stage) -> None:
    assert deliver(opened, 3) == [1, 2, 3]
    opened.do(Expunge(folder_named(opened, "INBOX").id, (2, 3), force=True))
    assert deliver(opened, 1) == [4]


def test_an_appended_message_has_its_flags_and_counts_as_seen(opened: Stage) -> None:
    drafts = folder_named(opened, "Drafts")
    append(opened, drafts, "\\seen", "\\DRAFT", "$Forwarded", "$forwarded")
    assert flags_of(opened, "Drafts", 1) == ("\\Seen", "\\Draft", "$forwarded")
    assert counters(opened.view, drafts.id)[2:] == (1, 0, 100)


def test_recent_is_not_stored(opened: Stage) -> None:
    append(opened, folder_named(opened, "Drafts"), "\\Recent")
    assert flags_of(opened, "Drafts", 1) == ()


def test_an_append_to_a_folder_that_does_not_exist_is_refused(opened: Stage) -> None:
    with pytest.raises(NoSuchFolder):
        opened.decide(Append(an_id(), a_message()))


def test_a_message_with_too_many_flags_is_refused(opened: Stage) -> None:
    many = tuple(f"keyword{n}" for n in range(65))
    with pytest.raises(TooLarge):
        opened.decide(Append(folder_named(opened, "Drafts").id, a_message(), many))


@pytest.mark.parametrize("flag", ["", "\\", "two words", "a(b", "50%", "\u0130", "\u212a", "a\r\n", 'x"y', "a]", "{5}"])
def test_a_flag_that_is_no_atom_is_refused(opened: Stage, flag: str) -> None:
    with pytest.raises(InvalidName):
        opened.decide(Append(folder_named(opened, "Drafts").id, a_message(), (flag,)))


@pytest.mark.parametrize("flag", ["$Forwarded", "NonJunk", "a.b-c_d:e/f", "[x", "\\Custom", "~|}"])
def test_any_atom_is_a_keyword(opened: Stage, flag: str) -> None:
    append(opened, folder_named(opened, "Drafts"), flag)
    assert flags_of(opened, "Drafts", 1) == (flag,)


# Quota


def test_a_delivery_that_does_not_fit_is_refused(stage: Stage) -> None:
    open_mailbox(stage, quota_bytes=1000)
    deliver(stage, 1, size=901)
    with pytest.raises(OverQuota):
        stage.decide(Deliver(a_message(100)))


def test_a_delivery_that_fills_the_mailbox_exactly_is_kept(stage: Stage) -> None:
    open_mailbox(stage, quota_bytes=1000)
    deliver(stage, 10, size=100)
    assert usage(stage.view) == (1000, 10, 1000, None)


def test_an_append_and_a_copy_that_do_not_fit_are_refused(stage: Stage) -> None:
    open_mailbox(stage, quota_bytes=150)
    deliver(stage, 1)
    inbox = folder_named(stage, "INBOX")
    with pytest.raises(OverQuota):
        stage.decide(Append(inbox.id, a_message()))
    with pytest.raises(OverQuota):
        stage.decide(CopyMessages(inbox.id, (1,), inbox.id))


def test_a_full_mailbox_still_takes_moves_and_expunges(stage: Stage) -> None:
    open_mailbox(stage, quota_bytes=100)
    deliver(stage, 1)
    stage.do(MoveMessages(folder_named(stage, "INBOX").id, (1,), folder_named(stage, "Trash").id))
    stage.do(Expunge(folder_named(stage, "Trash").id, (1,), force=True))
    assert usage(stage.view) == (0, 0, 100, None)


def test_a_raised_quota_counts_at_once(stage: Stage) -> None:
    open_mailbox(stage, quota_bytes=50)
    stage.do(SetQuota(None))
    deliver(stage, 1)
    assert usage(stage.view) == (100, 1, None, None)


# Flags


def test_flags_are_added_removed_and_replaced(opened: Stage) -> None:
    inbox = folder_named(opened, "INBOX")
    deliver(opened, 1)
    opened.do(ChangeFlags(inbox.id, (1,), "add", ("\\Seen", "Work")))
    opened.do(ChangeFlags(inbox.id, (1,), "add", ("work", "\\Answered")))
    assert flags_of(opened, "INBOX", 1) == ("\\Seen", "Work", "\\Answered")
    opened.do(ChangeFlags(inbox.id, (1,), "remove", ("WORK", "\\seen")))
    assert flags_of(opened, "INBOX", 1) == ("\\Answered",)
    opened.do(ChangeFlags(inbox.id, (1,), "replace", ("\\Draft",)))
    assert flags_of(opened, "INBOX", 1) == ("\\Draft",)


def test_the_unseen_counter_follows_seen(opened: Stage) -> None:
    inbox = folder_named(opened, "INBOX")
    deliver(opened, 3)
    opened.do(ChangeFlags(inbox.id, (1, 2), "add", ("\\Seen",)))
    assert counters(opened.view, inbox.id).unseen == 1
    opened.do(ChangeFlags(inbox.id, (1, 2, 3), "remove", ("\\Seen",)))
    assert counters(opened.view, inbox.id).unseen == 3


def test_a_flag_change_says_what_each_message_has_now(opened: Stage) -> None:
    inbox = folder_named(opened, "INBOX")
    deliver(opened, 2)
    changes = opened.do(ChangeFlags(inbox.id, (2, 1), "add", ("\\Seen",)))
    modseq = counters(opened.view, inbox.id).highestmodseq
    assert changes == [Change(inbox.id, uid, "flags", ("\\Seen",), modseq) for uid in (1, 2)]


def test_a_flag_change_that_changes_nothing_leaves_modseq_alone(opened: Stage) -> None:
    inbox = folder_named(opened, "INBOX")
    deliver(opened, 1)
    before = opened.rows()
    (change,) = opened.do(ChangeFlags(inbox.id, (1,), "remove", ("\\Seen",)))
    assert change.modseq == counters(opened.view, inbox.id).highestmodseq
    assert opened.rows() == before


def test_a_message_changed_since_is_left_alone(opened: Stage) -> None:
    inbox = folder_named(opened, "INBOX")
    deliver(opened, 2)
    seen = counters(opened.view, inbox.id).highestmodseq
    opened.do(ChangeFlags(inbox.id, (1,), "add", ("\\Flagged",)))
    changes = opened.do(ChangeFlags(inbox.id, (1, 2), "add", ("\\Seen",), unchanged_since=seen))
    assert [change.uid for change in changes] == [2]
    assert flags_of(opened, "INBOX", 1) == ("\\Flagged",)


def test_flags_of_messages_that_are_gone_change_nothing(opened: Stage) -> None:
    assert opened.decide(ChangeFlags(folder_named(opened, "INBOX").id, (7,), "add", ("\\Seen",))) == ()


def test_flags_in_a_folder_that_does_not_exist_are_refused(opened: Stage) -> None:
    with pytest.raises(NoSuchFolder):
        opened.decide(ChangeFlags(an_id(), (1,), "add", ("\\Seen",)))


# Copy and move


def test_a_copy_keeps_flags_date_and_id_and_gets_a_new_uid(opened: Stage) -> None:
    inbox, archive = folder_named(opened, "INBOX"), folder_named(opened, "Archive")
    append(opened, archive)
    append(opened, inbox, "\\Seen", "Work")
    (change,) = opened.do(CopyMessages(inbox.id, (1,), archive.id))
    original, copy = message(opened.view, inbox.id, 1), message(opened.view, archive.id, 2)
    assert original is not None
    assert copy is not None
    assert (change.uid, change.source_uid) == (2, 1)
    assert copy == original._replace(uid=2, modseq=change.modseq)


def test_a_copy_counts_towards_usage(opened: Stage) -> None:
    inbox = folder_named(opened, "INBOX")
    deliver(opened, 2)
    opened.do(CopyMessages(inbox.id, (1, 2), inbox.id))
    assert uids(opened, "INBOX") == [1, 2, 3, 4]
    assert usage(opened.view) == (400, 4, None, None)


def test_a_move_leaves_nothing_behind(opened: Stage) -> None:
    inbox, trash = folder_named(opened, "INBOX"), folder_named(opened, "Trash")
    deliver(opened, 2)
    changes = opened.do(MoveMessages(inbox.id, (1, 2), trash.id))
    assert [(change.folder, change.kind, change.uid, change.source_uid) for change in changes] == [
        (trash.id, "added", 1, 1),
        (trash.id, "added", 2, 2),
        (inbox.id, "expunged", 1, 0),
        (inbox.id, "expunged", 2, 0),
    ]
    assert (uids(opened, "INBOX"), uids(opened, "Trash")) == ([], [1, 2])
    assert usage(opened.view) == (200, 2, None, None)


def test_a_move_into_its_own_folder_gives_new_uids(opened: Stage) -> None:
    inbox = folder_named(opened, "INBOX")
    deliver(opened, 2)
    opened.do(MoveMessages(inbox.id, (1,), inbox.id))
    assert uids(opened, "INBOX") == [2, 3]
    assert counters(opened.view, inbox.id).messages == 2


@pytest.mark.parametrize("command", [CopyMessages, MoveMessages])
def test_messages_that_are_gone_can_not_be_copied_or_moved(
    opened: Stage, command: type[CopyMessages] | type[MoveMessages]
) -> None:
    inbox = folder_named(opened, "INBOX")
    with pytest.raises(NoSuchMessage):
        opened.decide(command(inbox.id, (5,), inbox.id))


@pytest.mark.parametrize("command", [CopyMessages, MoveMessages])
def test_a_target_that_does_not_exist_is_refused(
    opened: Stage, command: type[CopyMessages] | type[MoveMessages]
) -> None:
    deliver(opened, 1)
    with pytest.raises(NoSuchFolder):
        opened.decide(command(folder_named(opened, "INBOX").id, (1,), an_id()))


@pytest.mark.parametrize("command", [CopyMessages, MoveMessages])
def test_a_copy_or_move_whose_target_was_deleted_before_the_fold_changes_nothing(
    opened: Stage, command: type[CopyMessages] | type[MoveMessages]
) -> None:
    lists = create(opened, "Lists")
    deliver(opened, 1)
    decided = opened.decide(command(folder_named(opened, "INBOX").id, (1,), lists.id))
    opened.do(DeleteFolder(lists.id))
    assert opened.fold(*decided) == [[]]
    assert uids(opened, "INBOX") == [1]


# Expunge


def test_only_messages_marked_deleted_are_expunged(opened: Stage) -> None:
    inbox = folder_named(opened, "INBOX")
    deliver(opened, 3)
    opened.do(ChangeFlags(inbox.id, (2,), "add", ("\\Deleted",)))
    changes = opened.do(Expunge(inbox.id, (1, 2, 3)))
    assert [(change.kind, change.uid) for change in changes] == [("expunged", 2)]
    assert uids(opened, "INBOX") == [1, 3]


def test_a_message_undeleted_before_the_fold_is_kept(opened: Stage) -> None:
    inbox = folder_named(opened, "INBOX")
    deliver(opened, 1)
    opened.do(ChangeFlags(inbox.id, (1,), "add", ("\\Deleted",)))
    decided = opened.decide(Expunge(inbox.id, (1,)))
    opened.do(ChangeFlags(inbox.id, (1,), "remove", ("\\Deleted",)))
    opened.fold(*decided)
    assert uids(opened, "INBOX") == [1]


def test_a_forced_expunge_asks_for_no_flag(opened: Stage) -> None:
    deliver(opened, 2)
    opened.do(Expunge(folder_named(opened, "INBOX").id, (1,), force=True))
    assert uids(opened, "INBOX") == [2]


def test_a_second_expunge_of_the_same_message_frees_nothing_twice(opened: Stage) -> None:
    inbox = folder_named(opened, "INBOX")
    deliver(opened, 2)
    decided = opened.decide(Expunge(inbox.id, (1,), force=True))
    opened.fold(*decided)
    assert opened.fold(*decided) == [[]]
    assert usage(opened.view) == (100, 1, None, None)


def test_nothing_to_expunge_is_no_event(opened: Stage) -> None:
    deliver(opened, 1)
    assert opened.decide(Expunge(folder_named(opened, "INBOX").id, (1,))) == ()


# Large work


def test_more_than_a_thousand_messages_do_not_fit_one_record(opened: Stage) -> None:
    inbox = folder_named(opened, "INBOX")
    with pytest.raises(TooLarge):
        opened.decide(ChangeFlags(inbox.id, tuple(range(1, 1002)), "add", ("\\Seen",)))


def test_large_work_is_cut_into_slices_that_cover_it_once(opened: Stage) -> None:
    inbox = folder_named(opened, "INBOX")
    wanted = tuple(range(1, 2502))
    parts = slices(opened.view, ChangeFlags(inbox.id, wanted, "add", ("\\Seen",)))
    cut = [part.uids for part in parts if isinstance(part, ChangeFlags)]
    assert [len(part) for part in cut] == [1000, 1000, 501]
    assert tuple(uid for part in cut for uid in part) == wanted


def test_a_large_copy_that_does_not_fit_is_refused_before_its_first_slice(stage: Stage) -> None:
    open_mailbox(stage, quota_bytes=1500)
    deliver(stage, 10)
    inbox = folder_named(stage, "INBOX")
    with pytest.raises(OverQuota):
        slices(stage.view, CopyMessages(inbox.id, tuple(range(1, 2000)), inbox.id))


def test_a_delivery_event_survives_the_codec(opened: Stage) -> None:
    (fact,) = opened.decide(Deliver(a_message(), flags=("x",), envelope_from="ü@example.test"))
    assert isinstance(fact, MessageDelivered)
    opened.fold(fact)
    assert opened.refolded_rows() == opened.rows()
