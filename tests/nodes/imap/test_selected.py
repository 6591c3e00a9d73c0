"""What a session is told, and when numbers move: checked against a client that believes what it is told."""

from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from actors.mailbox import Change, Folder
from actors.mailbox_overview import Rows
from eventlog.log import Applied
from eventlog.record import By, Event, Stamp
from nodes.imap.features import Features
from nodes.imap.scan import Scan
from nodes.imap.selected import RecentMarks, Selected

FOLDER = Folder(b"f", "INBOX", 1, None, True)


def scan(*uids: int) -> Scan:
    found = Scan()
    found.take((Rows(list(uids), [()] * len(uids)),))
    return found


def selected(
    *uids: int, marks: RecentMarks | None = None, read_only: bool = False, features: Features | None = None
) -> Selected:
    session = Selected(FOLDER, read_only, "me", marks or RecentMarks(), features or Features())
    session.take(scan(*uids))
    session.settle()
    return session


def change(kind: str, uid: int, *flags: str, folder: bytes = b"f") -> Change:
    return Change(folder, uid, kind, flags, 1)  # type: ignore[arg-type]


def apply(session: Selected, *changes: Change, cause: str = "other") -> bool:
    stamp = Stamp(1, 1, 1, b"", By("account", b"", ""), cause, 3)
    return session.applied([Applied(stamp, cast(Event, None), None, list(changes))])


def told(session: Selected, expunges: bool = True, with_uid: bool = False) -> list[str]:
    return "".join(line.decode() for line in session.announce(expunges, with_uid)).splitlines()


def test_a_new_message_is_told_of_with_the_new_count() -> None:
    session = selected(1, 2)
    apply(session, change("added", 3), change("added", 4))
    assert told(session) == ["* 4 EXISTS", "* 4 RECENT"]
    assert told(session) == []


def test_expunges_wait_where_numbers_are_in_play_and_are_told_from_the_top_down() -> None:
    session = selected(1, 2, 3, 4)
    apply(session, change("expunged", 2), change("expunged", 4))
    assert told(session, expunges=False) == []
    assert list(session.uids) == [1, 2, 3, 4]
    assert told(session) == ["* 4 EXPUNGE", "* 2 EXPUNGE"]
    assert list(session.uids) == [1, 3]


def test_a_message_that_came_and_went_is_never_told_of() -> None:
    session = selected(1)
    apply(session, change("added", 2), change("expunged", 2))
    assert told(session, expunges=False) == []
    assert told(session) == []
    assert list(session.uids) == [1]


def test_a_message_told_of_before_it_went_is_expunged() -> None:
    session = selected(1)
    apply(session, change("added", 2))
    assert told(session, expunges=False) == ["* 2 EXISTS", "* 2 RECENT"]
    apply(session, change("expunged", 2))
    assert told(session) == ["* 2 EXPUNGE"]


def test_new_messages_are_counted_with_those_whose_expunge_waits() -> None:
    session = selected(1, 2)
    apply(session, change("expunged", 1), change("added", 3))
    assert told(session, expunges=False) == ["* 3 EXISTS", "* 3 RECENT"]
    assert told(session) == ["* 1 EXPUNGE"]
    assert list(session.uids) == [2, 3]


def test_flags_are_told_once_in_their_last_state() -> None:
    session = selected(7)
    apply(session, change("flags", 7, "\\Seen"), change("flags", 7, "\\Seen", "\\Flagged"))
    assert told(session) == ["* 1 FETCH (FLAGS (\\Seen \\Flagged \\Recent))"]
    assert told(session) == []


def test_a_uid_command_is_told_the_uid_too() -> None:
    session = selected(7)
    apply(session, change("flags", 7, "\\Seen"))
    assert told(session, with_uid=True) == ["* 1 FETCH (UID 7 FLAGS (\\Seen \\Recent))"]


def test_a_new_keyword_is_announced_before_it_is_used() -> None:
    session = selected(7)
    apply(session, change("flags", 7, "$New"))
    lines = told(session)
    assert lines[0].startswith("* FLAGS (")
    assert "$New" in lines[0]
    assert lines[1] == "* 1 FETCH (FLAGS ($New \\Recent))"


def test_a_silent_store_is_silent_about_itself_only() -> None:
    session = selected(1, 2)
    session.silence_own_flags(True)
    apply(session, change("flags", 1, "\\Seen"), cause="me")
    assert told(session) == []
    apply(session, change("flags", 2, "\\Flagged"))
    apply(session, change("flags", 2, "\\Flagged", "\\Seen"), cause="me")
    assert told(session) == ["* 2 FETCH (FLAGS (\\Flagged \\Seen \\Recent))"]
    session.silence_own_flags(False)
    apply(session, change("flags", 1), cause="me")
    assert told(session) == ["* 1 FETCH (FLAGS (\\Recent))"]


def test_other_folders_do_not_concern_it() -> None:
    session = selected(1)
    assert not apply(session, change("added", 2, folder=b"g"))
    assert told(session) == []


def test_what_changes_during_the_first_scan_is_part_of_it() -> None:
    session = Selected(FOLDER, False, "me", RecentMarks(), Features())
    apply(session, change("expunged", 1), change("added", 3), change("added", 4), change("expunged", 4))
    session.take(scan(1, 2, 3))
    session.settle()
    assert list(session.uids) == [2, 3]
    assert told(session) == []


def test_recent_goes_to_the_first_session_only() -> None:
    marks = RecentMarks()
    first, second = selected(1, 2, marks=marks), selected(1, 2, marks=marks)
    assert (first.recent_count, second.recent_count) == (2, 0)
    apply(first, change("added", 3))
    apply(second, change("added", 3))
    assert told(second) == ["* 3 EXISTS", "* 1 RECENT"]
    assert told(first) == ["* 3 EXISTS", "* 2 RECENT"]


def test_examine_shows_recent_without_taking_it() -> None:
    marks = RecentMarks()
    assert selected(1, marks=marks, read_only=True).recent_count == 1
    assert selected(1, marks=marks).recent_count == 1


class Client:
    """Keeps its list of messages by what it is told alone."""

    def __init__(self, session: Selected) -> None:
        self.session = session
        self.uids = list(session.uids)

    def hear(self, expunges: bool) -> None:
        for line in told(self.session, expunges):
            number, word = line.split()[1:3]
            if word == "EXPUNGE":
                assert expunges
                del self.uids[int(number) - 1]
            elif word == "EXISTS":
                assert int(number) >= len(self.uids)
                self.uids = [*self.uids, *list(self.session.uids)[len(self.uids) : int(number)]]
                assert len(self.uids) == int(number)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.just(0)),
        st.tuples(st.just("expunge"), st.integers(0, 30)),
        st.tuples(st.just("tell"), st.integers(0, 1)),
    ),
    max_size=60,
)


@given(STEPS)
def test_sequence_numbers_never_lie(steps: list[tuple[str, int]]) -> None:
    present = [1, 2, 3]
    session = selected(*present)
    client = Client(session)
    uidnext = 4
    for step, choice in steps:
        if step == "add":
            apply(session, change("added", uidnext))
            present.append(uidnext)
            uidnext += 1
        elif step == "expunge" and present:
            apply(session, change("expunged", present.pop(choice % len(present))))
        elif step == "tell":
            client.hear(expunges=bool(choice))
            assert client.uids == list(session.uids)
    client.hear(expunges=True)
    assert client.uids == list(session.uids) == present


@given(st.lists(st.sampled_from(["first", "second", "third", "new"]), max_size=30))
def test_each_message_is_recent_to_at_most_one_session_and_the_count_is_right(steps: list[str]) -> None:
    marks = RecentMarks()
    sessions = {name: selected(1, 2, 3, marks=marks) for name in ("first", "second", "third")}
    uid = 4
    for step in steps:
        if step == "new":
            for session in sessions.values():
                apply(session, change("added", uid))
            uid += 1
        else:
            told(sessions[step])
    for session in sessions.values():
        assert session.recent_count == sum(map(session.is_recent, session.uids))
    for number in range(1, uid):
        assert sum(session.is_recent(number) for session in sessions.values() if number in session.uids) <= 1
