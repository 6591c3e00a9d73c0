"""STORE on spans of UIDs: what clients see is what a change of each of the messages would have left."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors import mailbox_flags, mailbox_spread
from actors.errors import NoSuchMessage, TooLarge
from actors.kind import Command, Fact, decode
from actors.mailbox import (
    Acting,
    Change,
    ChangeFlags,
    CloseMailbox,
    CopyMessages,
    DeleteFolder,
    Deliver,
    Expunge,
    FlagsChanged,
    FlagsOfMany,
    ManyFlagsChanged,
    Mode,
    MoveMessages,
    SpreadFlags,
    counters,
    folders,
    message,
    messages,
    slices,
    spans_of_sorted,
    usage,
)
from actors.mailbox_spread import BLOCKS_PER_RECORD
from tests.actors.mail import a_message, an_id, append, create, deliver, folder_named, open_mailbox
from tests.actors.stage import DictTables, Stage

MODES: list[Mode] = ["add", "remove", "replace"]
FLAGS = st.lists(st.sampled_from(["\\Seen", "\\Deleted", "\\Flagged", "work", "WORK"]), max_size=2).map(tuple)
UIDS = st.lists(st.integers(1, 14), min_size=1, max_size=8, unique=True).map(lambda uids: tuple(sorted(uids)))
BLOCK_UIDS = 4


@pytest.fixture(autouse=True)
def _small_blocks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        for module in (mailbox_flags, mailbox_spread):
            patched.setattr(module, "BLOCK_UIDS", BLOCK_UIDS)
        yield


@pytest.fixture
def opened(stage: Stage) -> Stage:
    open_mailbox(stage)
    return stage


def spread(
    stage: Stage, *spans: tuple[int, int], mode: Mode = "add", flags: tuple[str, ...] = ("\\Seen",)
) -> list[Any]:
    return stage.do(SpreadFlags(folder_named(stage, "INBOX").id, spans, mode, flags))


def seen(stage: Stage, name: str = "INBOX") -> list[int]:
    return [one.uid for one in messages(stage.view, folder_named(stage, name).id) if "\\Seen" in one.flags]


def blocks(stage: Stage) -> list[bytes]:
    return [key for key, _ in stage.view.range(mailbox_flags.PREFIX)]


@st.composite
def commands(draw: st.DrawFn, inbox: bytes, other: bytes) -> Command:
    folder, target = draw(st.permutations([inbox, other]))
    uids = draw(UIDS)
    match draw(st.integers(0, 7)):
        case 0:
            return CopyMessages(folder, uids, target)
        case 1:
            return MoveMessages(folder, uids, target)
        case 2:
            return Expunge(folder, uids, force=draw(st.booleans()))
        case 3:
            return ChangeFlags(
                folder, uids, draw(st.sampled_from(MODES)), draw(FLAGS), draw(st.none() | st.integers(1, 40))
            )
        case 4:
            return Deliver(a_message(), flags=draw(FLAGS))
        case _:
            since = draw(st.none() | st.integers(1, 40))
            spans = tuple(spans_of_sorted(list(uids)))
            return SpreadFlags(folder, spans, draw(st.sampled_from(MODES)), draw(FLAGS), since)


def one_by_one(fact: Fact) -> Fact:
    if not isinstance(fact, ManyFlagsChanged):
        return fact
    uids = tuple(uid for first, last in fact.spans for uid in range(first, last + 1))
    return FlagsChanged(fact.folder_id, uids, fact.mode, fact.flags, fact.unchanged_since)


def told(results: list[Any]) -> list[tuple[Any, ...]]:
    """Folder, UID, flags and MODSEQ of what was told, and what happened."""
    found: list[tuple[Any, ...]] = []
    for one in (one for result in results for one in result):
        if isinstance(one, FlagsOfMany):
            found += [(one.folder, uid, "flags", flags, modseq) for uid, flags, modseq in one.states()]
        else:
            assert isinstance(one, Change)
            found.append(one[:5])
    return found


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_clients_see_the_same_whether_a_change_is_spread_or_made_one_by_one(data: st.DataObject) -> None:
    fast, slow = Stage(DictTables(b"a" * 16)), Stage(DictTables(b"a" * 16))
    open_mailbox(fast)
    other = create(fast, "other")
    deliver(fast, 6)
    slow.fold(*[decode(event.type, event.version, event.data) for _, event in fast.history])
    inbox = folder_named(fast, "INBOX")
    for command in data.draw(st.lists(commands(inbox.id, other.id), min_size=1, max_size=14)):
        try:
            facts = fast.decide(command)
        except Exception as refused:  # the same command is refused by the same mailbox
            with pytest.raises(type(refused)):
                slow.decide(command)
            continue
        results = fast.fold(*facts)
        assert told(results) == told(slow.fold(*map(one_by_one, facts)))
        for folder in (inbox, other):
            assert list(messages(fast.view, folder.id)) == list(messages(slow.view, folder.id))
            assert counters(fast.view, folder.id) == counters(slow.view, folder.id)
            assert [message(fast.view, folder.id, uid) for uid in range(1, 16)] == [
                message(slow.view, folder.id, uid) for uid in range(1, 16)
            ]
        assert usage(fast.view) == usage(slow.view)
    assert fast.rows() == fast.refolded_rows()


def test_a_change_of_many_is_one_event_and_a_row_for_each_block(opened: Stage) -> None:
    deliver(opened, 10)
    before = opened.rows()
    facts = opened.decide(SpreadFlags(folder_named(opened, "INBOX").id, ((1, 10),), "add", ("\\Seen",)))
    opened.fold(*facts)
    assert len(facts) == 1
    written = [key for key, row in opened.rows().items() if before.get(key) != row]
    assert len([key for key in written if key[:1] == mailbox_flags.PREFIX]) == 3  # 1-3, 4-7, 8-10
    assert not [key for key in written if key[:1] == b"m"]
    assert seen(opened) == list(range(1, 11))
    assert counters(opened.view, folder_named(opened, "INBOX").id).unseen == 0


def test_it_guards_the_account_and_the_folder_and_no_message(opened: Stage) -> None:
    deliver(opened, 3)
    inbox = folder_named(opened, "INBOX").id
    opened.decide(SpreadFlags(inbox, ((1, 3),), "add", ("\\Seen",)))
    assert sorted(guard.key for guard in opened.guards) == [b"A", b"f" + inbox]


def test_what_stands_on_the_flags_of_a_message_is_decided_again_after_a_change_of_many(opened: Stage) -> None:
    deliver(opened, 3)
    inbox = folder_named(opened, "INBOX").id
    (row, *_) = messages(opened.view, inbox)
    opened.decide(Expunge(inbox, (1,), force=True, modseqs=(row.modseq,)))
    guards = {guard.key: guard.version for guard in opened.guards}
    spread(opened, (1, 3))
    assert any(opened.view.version(key) != version for key, version in guards.items())
    with pytest.raises(NoSuchMessage):
        opened.decide(Expunge(inbox, (1,), force=True, modseqs=(row.modseq,)))


def test_nothing_happens_where_there_are_no_messages(opened: Stage) -> None:
    deliver(opened, 3)
    inbox = folder_named(opened, "INBOX").id
    opened.do(Expunge(inbox, (2,), force=True))
    for spans in (((2, 2),), ((4, 2**32 - 1),), ((0, 0),), ()):
        assert opened.decide(SpreadFlags(inbox, spans, "add", ("\\Seen",))) == ()


def test_a_message_that_stays_as_it_was_keeps_its_modseq(opened: Stage) -> None:
    deliver(opened, 5)
    inbox = folder_named(opened, "INBOX").id
    opened.do(ChangeFlags(inbox, (2, 4), "add", ("\\Seen",)))
    before = {one.uid: one.modseq for one in messages(opened.view, inbox)}
    spread(opened, (1, 5))
    after = {one.uid: one.modseq for one in messages(opened.view, inbox)}
    highest = counters(opened.view, inbox).highestmodseq
    assert after == {1: highest, 2: before[2], 3: highest, 4: before[4], 5: highest}
    spread(opened, (1, 5))
    assert counters(opened.view, inbox).highestmodseq == highest


def test_later_changes_of_single_messages_and_new_messages_are_seen(opened: Stage) -> None:
    deliver(opened, 5)
    inbox = folder_named(opened, "INBOX").id
    spread(opened, (1, 5))
    opened.do(ChangeFlags(inbox, (3,), "remove", ("\\Seen",)))
    deliver(opened, 2)
    assert seen(opened) == [1, 2, 4, 5]
    spread(opened, (1, 7))
    assert seen(opened) == [1, 2, 3, 4, 5, 6, 7]


def test_what_is_copied_and_moved_takes_the_flags_that_it_has(opened: Stage) -> None:
    deliver(opened, 5)
    inbox, other = folder_named(opened, "INBOX").id, create(opened, "other")
    spread(opened, (1, 5))
    opened.do(CopyMessages(inbox, (1, 2), other.id))
    opened.do(MoveMessages(inbox, (3,), other.id))
    assert seen(opened, "other") == [1, 2, 3]
    assert seen(opened) == [1, 2, 4, 5]


def test_nothing_is_left_of_a_block_whose_messages_have_gone(opened: Stage) -> None:
    other = create(opened, "other")
    for _ in range(6):
        append(opened, other)
    opened.do(SpreadFlags(other.id, ((1, 6),), "add", ("\\Deleted",)))
    assert len(blocks(opened)) == 2
    opened.do(Expunge(other.id, (1, 2, 3)))
    assert len(blocks(opened)) == 1
    opened.do(DeleteFolder(other.id))
    assert blocks(opened) == []


def test_closing_a_mailbox_leaves_no_block(opened: Stage) -> None:
    deliver(opened, 5)
    spread(opened, (1, 5))
    opened.do(CloseMailbox())
    assert blocks(opened) == []
    assert not folders(opened.view)


def test_large_changes_are_cut_at_blocks_and_spans(opened: Stage) -> None:
    inbox = folder_named(opened, "INBOX").id
    count = BLOCKS_PER_RECORD * BLOCK_UIDS * 2
    deliver(opened, count)
    parts = slices(opened.view, SpreadFlags(inbox, ((1, count),), "add", ("\\Seen",)))
    assert [part.spans for part in parts if isinstance(part, SpreadFlags)] == [((1, 63),), ((64, 127),), ((128, 128),)]
    for part in parts:
        opened.do(part)
    assert seen(opened) == list(range(1, count + 1))


def test_more_spans_than_one_record_takes_are_refused(opened: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox_spread, "MOST_SPANS", 2)
    deliver(opened, 5)
    command = SpreadFlags(folder_named(opened, "INBOX").id, ((1, 1), (3, 3), (5, 5)), "add", ("\\Seen",))
    with pytest.raises(TooLarge):
        opened.decide(command)
    for part in slices(opened.view, command):
        opened.do(part)
    assert seen(opened) == [1, 3, 5]


def test_another_account_changes_messages_one_by_one(opened: Stage) -> None:
    deliver(opened, 2)
    inbox = folder_named(opened, "INBOX").id
    with pytest.raises(Exception, match="owner"):
        opened.decide(Acting(an_id(), SpreadFlags(inbox, ((1, 2),), "add", ("\\Seen",))))


@given(st.lists(st.integers(1, 40), unique=True).map(sorted))
def test_spans_of_ascending_uids_are_those_uids(uids: list[int]) -> None:
    spans = spans_of_sorted(uids)
    assert [uid for first, last in spans for uid in range(first, last + 1)] == uids
    assert all(last + 1 < first for (_, last), (first, _) in pairwise(spans))
