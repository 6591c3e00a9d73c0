"""Scans that are kept: they say what the rows say, for as long as the mailbox is as it was, and no longer."""

import re
from collections.abc import Callable
from functools import partial
from typing import cast

import pytest

from actors.mailbox import Change
from actors.mailbox_overview import Rows
from eventlog.log import Applied
from eventlog.record import Event, Stamp
from nodes.imap import scan as scan_module
from nodes.imap import scans
from nodes.imap.constants import TEXT_LIMIT_BYTES, Texts
from nodes.imap.scan import Scan
from nodes.imap.scans import Scans
from tests.nodes.imap.client import RawClient
from tests.nodes.imap.node import Node, User

Login = Callable[[], RawClient]


@pytest.fixture(autouse=True)
def _small_mailboxes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scans, "LEAST_MESSAGES", 1)


def fill(node: Node, user: User, login: Login) -> RawClient:
    """Five messages, of which nobody else was told; the third is to be the first unseen one."""
    node.deliver(user, *(b"Subject: %d\r\n\r\nbody\r\n" % number for number in range(5)))
    client = login()
    client.ok("SELECT INBOX")
    client.ok(r"STORE 1:2 FLAGS.SILENT (\Seen Work)")
    client.ok(r"STORE 4 FLAGS.SILENT (\Flagged \Answered)")
    return client


def from_rows(client: RawClient, wanted: str = "FETCH 1:*") -> list[bytes]:
    """What the same FETCH tells with something that no scan knows; without that."""
    lines = client.ok(f"{wanted} (UID FLAGS RFC822.SIZE)")
    return [re.sub(rb" RFC822.SIZE \d+", b"", line) for line in lines]


def from_scan(client: RawClient, wanted: str = "FETCH 1:*") -> list[bytes]:
    return client.ok(f"{wanted} (UID FLAGS)")


def reads_rows(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Notes each reading of rows, whoever does it."""
    read: list[str] = []
    for where in ("nodes.imap.folders.overview", "nodes.imap.messages.rows_of", "nodes.imap.constants.rows_of"):
        monkeypatch.setattr(where, partial(_noted, read, where, _at(where)))
    return read


def _noted(read: list[str], where: str, original: Callable[..., object], *arguments: object) -> object:
    read.append(where)
    return original(*arguments)


def _at(where: str) -> Callable[..., object]:
    module, _, name = where.rpartition(".")
    found: Callable[..., object] = getattr(__import__(module, fromlist=[name]), name)
    return found


def test_a_mailbox_as_it_was_is_selected_and_its_flags_are_told_without_reading_rows(
    node: Node, user: User, login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fill(node, user, login)
    described = [line for line in first.ok("SELECT INBOX") if b"RECENT" not in line]
    rows = from_rows(first)
    read = reads_rows(monkeypatch)
    second = login()
    assert [line for line in second.ok("SELECT INBOX") if b"RECENT" not in line] == described
    assert any(b"UNSEEN 3" in line for line in described)
    assert any(b"Work" in line for line in described)
    assert from_scan(second) == rows
    assert second.ok("FETCH 1:* FLAGS") == [re.sub(rb"UID \d+ ", b"", line) for line in rows]
    assert from_scan(second, "UID FETCH 2,4:5") == [rows[1], *rows[3:]]
    assert read == []


@pytest.mark.parametrize(
    "change", [r"STORE 3 +FLAGS (\Seen)", r"STORE 1 -FLAGS (\Seen Work)", "EXPUNGE", "APPEND", "MOVE"]
)
def test_whatever_changes_a_message_is_put_into_the_scan_that_is_kept(
    node: Node, user: User, login: Login, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = fill(node, user, login)
    client.ok(r"STORE 2 +FLAGS.SILENT (\Deleted)")
    other = login()
    other.ok("SELECT INBOX")
    if change == "APPEND":
        client.append("INBOX", b"Subject: new\r\n\r\n")
    else:
        client.ok(change if change != "MOVE" else "MOVE 2,4 INBOX")
    other.ok("NOOP")
    read = reads_rows(monkeypatch)
    third = login()
    described, told = third.ok("SELECT INBOX"), from_scan(third)
    assert (from_scan(other), read) == (told, [])
    monkeypatch.undo()
    rows = from_rows(third)
    assert told == rows
    assert any(line == b"* %d EXISTS" % len(rows) for line in described)
    unseen = next(number for number, line in enumerate(rows, 1) if b"\\Seen" not in line)
    assert any(b"[UNSEEN %d]" % unseen in line for line in described)


@pytest.mark.parametrize("end", ["EXPUNGE", "CLOSE"])
def test_what_is_marked_as_deleted_is_expunged_without_looking_at_the_rest(
    node: Node, user: User, login: Login, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = fill(node, user, login)
    client.ok("SELECT INBOX")
    client.ok(r"STORE 2,4:5 +FLAGS.SILENT (\Deleted)")
    read = reads_rows(monkeypatch)
    told = client.ok(end)
    assert read == []
    assert [line for line in told if b"EXPUNGE" in line] == (
        [b"* 5 EXPUNGE", b"* 4 EXPUNGE", b"* 2 EXPUNGE"] if end == "EXPUNGE" else []
    )
    assert [uid for _, uid, _ in node.held(user)] == [1, 3]
    client.ok("SELECT INBOX")
    assert read == []
    assert len(from_scan(client)) == 2


CONSTANT = "UID FLAGS INTERNALDATE ENVELOPE RFC822.SIZE BODYSTRUCTURE BODY.PEEK[HEADER.FIELDS (Subject)]"


def test_what_never_changes_is_told_again_without_reading_rows_and_with_the_flags_of_now(
    node: Node, user: User, login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = fill(node, user, login)
    client.ok("ENABLE CONDSTORE")
    client.ok("SELECT INBOX")
    first = client.ok(f"FETCH 1:* ({CONSTANT})")
    assert first == [re.sub(rb" MODSEQ \(\d+\)", b"", line) for line in client.ok(f"FETCH 1:* ({CONSTANT} MODSEQ)")]
    client.ok(r"STORE 5 +FLAGS.SILENT (\Answered)")
    client.ok(r"STORE 2 +FLAGS.SILENT (\Deleted)")
    client.ok("EXPUNGE")
    read = reads_rows(monkeypatch)
    again = client.ok(f"FETCH 1:* ({CONSTANT})")
    assert read == []
    monkeypatch.undo()
    assert again == [re.sub(rb" MODSEQ \(\d+\)", b"", line) for line in client.ok(f"FETCH 1:* ({CONSTANT} MODSEQ)")]
    assert [b"\\Answered" in line for line in again] == [False, False, True, True]
    assert b"".join(again) != b"".join(first)


def test_one_structure_of_messages_whose_other_was_asked_for_is_told_without_reading_rows(
    node: Node, user: User, login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = fill(node, user, login)
    client.ok("SELECT INBOX")
    client.ok("FETCH 1:* (UID ENVELOPE INTERNALDATE)")
    read = reads_rows(monkeypatch)
    told = [client.ok(f"FETCH 1:* {items}") for items in ("(UID BODYSTRUCTURE)", "BODYSTRUCTURE")]
    assert read == []
    monkeypatch.undo()
    client.ok("ENABLE CONDSTORE")
    rows = [re.sub(rb" MODSEQ \(\d+\)", b"", line) for line in client.ok("FETCH 1:* (UID BODYSTRUCTURE MODSEQ)")]
    assert told == [rows, [re.sub(rb"UID \d+ ", b"", line) for line in rows]]


def test_what_is_kept_of_messages_is_bounded_and_the_oldest_goes_first() -> None:
    text = (b"x" * 750, b"")
    kept = Texts(limit_bytes=4000)
    kept.put(("a",), dict.fromkeys(range(1, 9), text))
    assert sorted(kept.get(("a",))) == [1, 2]
    kept.put(("b",), {1: text})
    kept.get(("a",))
    kept.put(("c",), {1: text, 2: text})
    assert [key for key in "abc" if kept.get((key,))] == ["a", "c"]
    kept.put(("c",), {3: (b"x" * TEXT_LIMIT_BYTES, b"")})
    assert sorted(kept.get(("c",))) == [1, 2]


def test_recent_messages_are_told_as_such_by_a_scan_too(node: Node, user: User, login: Login) -> None:
    fill(node, user, login)
    node.deliver(user, b"Subject: new\r\n\r\n")
    for _ in range(2):  # EXAMINE takes \Recent from nobody
        client = login()
        client.ok("EXAMINE INBOX")
        told = from_scan(client)
        assert told == from_rows(client)
        assert [b"\\Recent" in line for line in told] == [False] * 5 + [True]


def test_a_session_that_was_not_told_of_an_expunge_counts_as_before(node: Node, user: User, login: Login) -> None:
    client, other = fill(node, user, login), login()
    other.ok("SELECT INBOX")
    client.ok(r"STORE 1 +FLAGS.SILENT (\Deleted)")
    client.ok("EXPUNGE")
    client.ok("SELECT INBOX")  # a scan of four
    told = from_scan(other, "UID FETCH 1:*")
    assert len([line for line in told if b"UID" in line]) == 4
    assert from_scan(other, "UID FETCH 1:*") == from_rows(client, "UID FETCH 1:*")


def scan(*flag_sets: tuple[str, ...]) -> Scan:
    found = Scan()
    found.take((Rows(list(range(1, len(flag_sets) + 1)), list(flag_sets)),))
    return found


def keep(kept: Scans, folder: bytes, found: Scan) -> None:
    kept.keep(b"a", folder, kept.begin(b"a", folder, 7), found)


def unheard(stream: bytes, callback: object) -> Callable[[], None]:
    """A log in which nothing happens."""
    return lambda: None


def test_the_oldest_scans_go_when_there_are_too_many() -> None:
    kept = Scans(unheard, limit_bytes=3 * scan(()).size_bytes)
    for folder in (b"1", b"2", b"3"):
        keep(kept, folder, scan(()))
    assert kept.get(b"a", b"1", 7) is not None
    keep(kept, b"4", scan(()))
    assert [folder for folder in (b"1", b"2", b"3", b"4") if kept.get(b"a", folder, 7)] == [b"1", b"3", b"4"]
    assert kept.get(b"a", b"1", 8) is None
    assert kept.get(b"b", b"1", 7) is None


def test_a_mailbox_with_more_sets_of_flags_than_it_counts_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_module, "MOST_FLAG_SETS", 2)
    kept, many = Scans(unheard), scan((), ("a",), ("b",), ("\\Seen",))
    keep(kept, b"f", many)
    assert kept.get(b"a", b"f", 7) is None
    assert (list(many.uids), len(many.flag_sets)) == ([1, 2, 3, 4], 2)
    keep(kept, b"f", scan((), ("a",)))
    assert kept.get(b"a", b"f", 7) is not None


def test_what_happens_while_a_mailbox_is_scanned_is_in_the_scan_that_is_kept() -> None:
    kept = Scans(unheard)
    begun = kept.begin(b"a", b"f", 7)
    changes = [
        Change(b"f", 2, "flags", ("\\Seen",), 8),
        Change(b"f", 4, "added", (), 8),
        Change(b"f", 1, "expunged", (), 8),
        Change(b"other", 9, "added", (), 8),
        Change(b"f", 0, "folder", (), 99),  # a new name: no message is another for it
    ]
    stamp, event = cast(Stamp, None), Event(b"", b"a", "", 1, b"", b"")
    kept.applied([Applied(stamp, event, None, changes)])
    kept.keep(b"a", b"f", begun, scan((), (), ("Work",)))
    assert kept.get(b"a", b"f", 7) is None
    found = kept.get(b"a", b"f", 8)
    assert found is not None
    assert list(found.uids) == [2, 3, 4]
    assert found.rendered([1, 2, 3], lambda flags: ",".join(flags).encode()) == [b"\\Seen", b"Work", b""]
    assert found.first_unseen == 2


@pytest.mark.parametrize("together", [1, 2, 3, 6])
def test_what_a_tick_brings_together_leaves_the_scan_that_it_leaves_one_by_one(together: int) -> None:
    kept = Scans(unheard)
    keep(kept, b"f", scan((), (), ("Work",)))
    events = [
        [Change(b"f", 4, "added", (), 8)],
        [Change(b"f", 4, "flags", ("\\Seen",), 9), Change(b"f", 2, "flags", (), 7)],
        [Change(b"f", 3, "expunged", (), 10)],
        [Change(b"f", 5, "added", ("Work",), 11)],
        [Change(b"f", 5, "expunged", (), 12), Change(b"f", 1, "expunged", (), 12)],
        [Change(b"f", 6, "added", (), 13)],
    ]
    stamp, event = cast(Stamp, None), Event(b"", b"a", "", 1, b"", b"")
    for at in range(0, len(events), together):
        kept.applied([Applied(stamp, event, None, changes) for changes in events[at : at + together]])
    found = kept.get(b"a", b"f", 13)
    assert found is not None
    assert list(found.uids) == [2, 4, 6]
    assert found.rendered([1, 2, 3], lambda flags: ",".join(flags).encode()) == [b"", b"\\Seen", b""]


MANY = 70  # so many are changed as spans


def many(node: Node, user: User, login: Login) -> RawClient:
    node.deliver(user, *(b"Subject: %d\r\n\r\n" % number for number in range(MANY)))
    client = login()
    client.ok("SELECT INBOX")
    return client


def test_a_store_on_many_messages_is_one_event_and_is_told_to_everybody(node: Node, user: User, login: Login) -> None:
    client, other = many(node, user, login), login()
    other.ok("SELECT INBOX")
    client.ok(r"STORE 5 +FLAGS.SILENT (Work)")
    other.ok("NOOP")
    with node.log.snapshot() as snapshot:
        before = len(list(snapshot.stream_positions(user.account)))
    told = [line for line in client.ok(r"STORE 1:* +FLAGS (\Flagged)") if b"FETCH" in line]
    with node.log.snapshot() as snapshot:
        assert len(list(snapshot.stream_positions(user.account))) == before + 1
    assert len(told) == MANY
    assert b"* 5 FETCH (FLAGS (Work \\Flagged" in told[4]
    news = other.ok("NOOP")
    assert [line for line in news if b"FETCH" in line] == [line.replace(b" \\Recent", b"") for line in told]
    assert from_scan(client) == from_rows(client)
    assert [flags for _, _, flags in node.held(user)][4:6] == [("Work", "\\Flagged"), ("\\Flagged",)]


def test_a_silent_store_on_many_messages_is_silent_and_the_scan_knows_of_it(
    node: Node, user: User, login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = many(node, user, login)
    assert client.ok(r"STORE 1:* +FLAGS.SILENT (\Flagged)") == []
    assert client.ok(r"UID STORE 1:* -FLAGS.SILENT (\Answered)") == []
    read = reads_rows(monkeypatch)
    told = from_scan(client)
    assert read == []
    assert all(b"\\Flagged" in line for line in told)
    monkeypatch.undo()
    assert told == from_rows(client)


def test_a_store_on_many_messages_with_unchangedsince_leaves_what_others_changed(
    node: Node, user: User, login: Login
) -> None:
    client = many(node, user, login)
    client.ok("ENABLE CONDSTORE")
    since = int(client.ok("STATUS INBOX (HIGHESTMODSEQ)")[-1].rstrip(b")").rpartition(b" ")[2])
    client.ok(r"STORE 7 +FLAGS.SILENT (\Seen)")
    done = client.command(rf"STORE 1:* (UNCHANGEDSINCE {since}) +FLAGS.SILENT (\Flagged)")
    assert b"[MODIFIED 7]" in done[-1]
    assert sum(b"MODSEQ" in line for line in done) == MANY - 1
    assert [b"\\Flagged" in line for line in from_rows(client)].index(False) == 6
