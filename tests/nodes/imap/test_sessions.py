"""Sessions on a real node: what each command answers, and how sessions see each other."""

import base64
import time
from collections.abc import Callable

import pytest

from tests.nodes.imap.client import RawClient
from tests.nodes.imap.node import PASSWORD, Node, User

MAIL = (
    b"From: Fred <fred@example.org>\r\nTo: me@example.test\r\nSubject: hello\r\n"
    b"Date: Mon, 7 Feb 1994 21:52:25 -0800\r\n\r\nFirst line\r\nSecond line\r\n"
)
TRACE = b"Return-Path: <fred@example.org>\r\nReceived: from a by b\r\n"

Login = Callable[[], RawClient]


def selected(login: Login, name: str = "INBOX") -> RawClient:
    client = login()
    client.ok(f"SELECT {name}")
    return client


# -- log-in


def test_the_greeting_tells_the_capabilities(connect: Login) -> None:
    assert connect().greeting.startswith(b"* OK [CAPABILITY IMAP4rev1 ")


def test_nothing_is_served_before_log_in(connect: Login) -> None:
    assert connect().command("SELECT INBOX")[-1].startswith(b"BAD ")


def test_authenticate_plain_with_and_without_an_initial_response(connect: Login, user: User) -> None:
    response = base64.b64encode(f"\0{user.login}\0{PASSWORD}".encode()).decode()
    connect().ok(f"AUTHENTICATE PLAIN {response}")
    client = connect()
    client.send(b"a AUTHENTICATE PLAIN\r\n")
    assert client.response() == b"+ "
    client.send(response.encode() + b"\r\n")
    assert client.until(b"a")[-1].startswith(b"OK [CAPABILITY ")


def test_authenticate_login_prompts_for_both(connect: Login, user: User) -> None:
    client = connect()
    client.send(b"a AUTHENTICATE LOGIN\r\n")
    assert base64.b64decode(client.response()[2:]) == b"Username:"
    client.send(base64.b64encode(user.login.encode()) + b"\r\n")
    assert base64.b64decode(client.response()[2:]) == b"Password:"
    client.send(base64.b64encode(PASSWORD.encode()) + b"\r\n")
    assert client.until(b"a")[-1].startswith(b"OK ")


def test_authenticate_may_be_cancelled_and_nonsense_is_bad(connect: Login) -> None:
    client = connect()
    for response in (b"*", b"!!!", b"AAAA"):
        client.send(b"a AUTHENTICATE PLAIN\r\n")
        client.response()
        client.send(response + b"\r\n")
        assert client.until(b"a")[-1].startswith(b"BAD ")
    assert client.command("AUTHENTICATE FROB")[-1].startswith(b"NO ")


def test_a_login_with_literals_waits_for_leave(connect: Login, user: User) -> None:
    client = connect()
    client.send(b"a LOGIN {%d}\r\n" % len(user.login))
    assert client.response().startswith(b"+ ")
    client.send(user.login.encode() + b' "' + PASSWORD.encode() + b'"\r\n')
    assert client.until(b"a")[-1].startswith(b"OK ")


def test_nobody_acts_for_somebody_else(connect: Login, user: User) -> None:
    response = base64.b64encode(f"other@example.test\0{user.login}\0{PASSWORD}".encode()).decode()
    assert connect().command(f"AUTHENTICATE PLAIN {response}")[-1].startswith(b"NO [AUTHENTICATIONFAILED]")


# -- mailboxes


def test_select_describes_the_mailbox(node: Node, user: User, login: Login) -> None:
    node.deliver(user, MAIL, MAIL, trace=TRACE)
    client = login()
    client.append("INBOX", MAIL, "(\\Seen $Later) ")
    lines = client.ok("SELECT inbox")
    assert lines[0] == b"* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $Later)"
    assert lines[1].startswith(b"* OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft \\*)]")
    assert lines[2:4] == [b"* 3 EXISTS", b"* 3 RECENT"]
    codes = [line.split(b"]")[0] for line in lines[4:]]
    assert codes[0] == b"* OK [UNSEEN 1"
    assert codes[1].startswith(b"* OK [UIDVALIDITY ")
    assert codes[2] == b"* OK [UIDNEXT 4"


def test_examine_is_read_only(node: Node, user: User, login: Login) -> None:
    node.deliver(user, MAIL)
    client = login()
    assert client.command("EXAMINE INBOX")[-1].startswith(b"OK [READ-ONLY]")
    assert client.command("STORE 1 +FLAGS (\\Seen)")[-1].startswith(b"NO ")
    assert client.command("EXPUNGE")[-1].startswith(b"NO ")
    client.ok("FETCH 1 BODY[]")
    client.ok("CLOSE")
    assert node.held(user) == [("INBOX", 1, ())]


def test_a_failed_select_leaves_nothing_selected(login: Login) -> None:
    client = selected(login)
    assert client.command("SELECT absent")[-1].startswith(b"NO [NONEXISTENT]")
    assert client.command("CHECK")[-1].startswith(b"BAD ")


def test_folders_are_created_renamed_listed_and_deleted(login: Login) -> None:
    client = login()
    client.ok("CREATE a/b/c")
    assert client.command("CREATE a/b")[-1].startswith(b"NO [ALREADYEXISTS]")
    assert client.command("CREATE INBOX")[-1].startswith(b"NO ")
    assert client.command("CREATE a//b")[-1].startswith(b"NO [CANNOT]")
    client.ok("RENAME a z")
    assert [line.split(b'"')[-2] for line in client.ok('LIST "" z*')] == [b"z", b"z/b", b"z/b/c"]
    client.ok("DELETE z/b")
    assert client.ok('LIST "" z/%') == [b'* LIST (\\Noselect \\HasChildren) "/" "z/b"']
    assert client.command("DELETE INBOX")[-1].startswith(b"NO [CANNOT]")
    assert client.command("DELETE absent")[-1].startswith(b"NO [NONEXISTENT]")


def test_special_folders_are_there_from_the_start(login: Login) -> None:
    lines = login().ok('LIST (SPECIAL-USE) "" *')
    assert [line.split(b"\\")[-1].split(b")")[0] for line in lines] == [
        b"Archive",
        b"Drafts",
        b"Junk",
        b"Sent",
        b"Trash",
    ]


def test_renaming_inbox_moves_its_messages_and_leaves_it_empty(node: Node, user: User, login: Login) -> None:
    node.deliver(user, MAIL, MAIL)
    client = selected(login)
    assert sorted(client.ok("RENAME INBOX old"), reverse=True) == [b"* 2 EXPUNGE", b"* 1 EXPUNGE"]
    assert client.ok("STATUS old (MESSAGES)") == [b'* STATUS "old" (MESSAGES 2)']
    assert client.ok("STATUS INBOX (MESSAGES)") == [b'* STATUS "INBOX" (MESSAGES 0)']


def test_subscriptions_are_kept_apart_from_mailboxes(login: Login) -> None:
    client = login()
    client.ok("SUBSCRIBE not/there")
    assert b'* LSUB () "/" "not/there"' in client.ok('LSUB "" *')
    client.ok("UNSUBSCRIBE not/there")
    assert b'* LSUB () "/" "not/there"' not in client.ok('LSUB "" *')


def test_a_name_outside_ascii_comes_back_as_it_was_written(login: Login) -> None:
    client = login()
    client.ok("CREATE Entw&APw-rfe")
    client.ok("SELECT Entw&APw-rfe")
    assert client.ok('LIST "" Entw*') == [b'* LIST (\\HasNoChildren) "/" "Entw&APw-rfe"']


def test_status_counts(node: Node, user: User, login: Login) -> None:
    node.deliver(user, MAIL, MAIL, trace=TRACE)
    client = login()
    (line,) = client.ok("STATUS INBOX (MESSAGES RECENT UIDNEXT UNSEEN SIZE)")
    size = 2 * (len(TRACE) + len(MAIL))
    assert line == b'* STATUS "INBOX" (MESSAGES 2 RECENT 2 UIDNEXT 3 UNSEEN 2 SIZE %d)' % size
    assert client.ok('LIST "" INBOX RETURN (STATUS (MESSAGES))')[1] == b'* STATUS "INBOX" (MESSAGES 2)'


# -- messages


def test_a_message_is_served_with_its_trace_in_front_and_its_bytes_unchanged(
    node: Node, user: User, login: Login
) -> None:
    node.deliver(user, MAIL, trace=TRACE)
    client = selected(login)
    whole = TRACE + MAIL
    assert client.ok("FETCH 1 BODY.PEEK[]") == [b"* 1 FETCH (BODY[] {%d}\r\n%b)" % (len(whole), whole)]
    assert client.ok("FETCH 1 RFC822.SIZE") == [b"* 1 FETCH (RFC822.SIZE %d)" % len(whole)]
    assert client.ok("FETCH 1 BODY.PEEK[TEXT]<6.4>") == [b"* 1 FETCH (BODY[TEXT]<6> {4}\r\nline)"]
    assert client.ok("UID FETCH 1 (INTERNALDATE)")[0].startswith(b'* 1 FETCH (UID 1 INTERNALDATE "14-Nov-2023')


def test_reading_a_body_sets_seen_and_peeking_does_not(node: Node, user: User, login: Login) -> None:
    node.deliver(user, MAIL)
    client = selected(login)
    client.ok("FETCH 1 (BODY.PEEK[] RFC822.HEADER)")
    assert node.held(user) == [("INBOX", 1, ())]
    assert client.ok("FETCH 1 BODY[TEXT]")[-1] == b"* 1 FETCH (FLAGS (\\Seen \\Recent))"
    assert node.held(user) == [("INBOX", 1, ("\\Seen",))]


def test_append_tells_the_uid_and_keeps_flags_and_date(login: Login) -> None:
    client = login()
    reply = client.append("Drafts", MAIL, '(\\Draft Foo) "17-Jul-1996 02:44:25 -0700" ')
    assert reply.startswith(b"OK [APPENDUID ")
    assert reply.split(b"]")[0].endswith(b" 1")
    client.ok("SELECT Drafts")
    assert client.ok("FETCH 1 (FLAGS INTERNALDATE)") == [
        b'* 1 FETCH (FLAGS (\\Draft Foo \\Recent) INTERNALDATE "17-Jul-1996 09:44:25 +0000")'
    ]


def test_append_to_what_is_not_there_asks_to_create_it(login: Login) -> None:
    assert login().append("absent", MAIL).startswith(b"NO [TRYCREATE]")


def test_append_to_the_selected_mailbox_is_told_at_once(login: Login) -> None:
    client = selected(login)
    untagged = client.command(b"APPEND INBOX {%d+}\r\n%b" % (len(MAIL), MAIL))[:-1]
    assert b"* 1 EXISTS" in untagged


def test_a_large_message_comes_back_as_it_went(login: Login) -> None:
    client = selected(login)
    data = b"Subject: large\r\n\r\n" + bytes(range(1, 256)) * 8000
    assert client.append("INBOX", data).startswith(b"OK ")
    (line,) = client.ok("FETCH 1 BODY.PEEK[]")
    assert line == b"* 1 FETCH (BODY[] {%d}\r\n%b)" % (len(data), data)
    pieces = [client.ok(f"FETCH 1 BODY.PEEK[]<{at}.300000>")[0] for at in range(0, len(data), 300_000)]
    assert b"".join(piece.split(b"}\r\n", 1)[1][:-1] for piece in pieces) == data


def test_store_answers_with_the_flags_unless_silent(node: Node, user: User, login: Login) -> None:
    node.deliver(user, MAIL, MAIL)
    client = selected(login)
    assert client.ok("STORE 1 FLAGS (\\Answered Foo)")[-1] == b"* 1 FETCH (FLAGS (\\Answered Foo \\Recent))"
    assert client.ok("UID STORE 2 +FLAGS (\\Flagged)") == [b"* 2 FETCH (UID 2 FLAGS (\\Flagged \\Recent))"]
    assert client.ok("STORE 1:2 -FLAGS.SILENT (\\Flagged \\Answered)") == []
    assert client.ok("STORE 1 +FLAGS (FOO)") == [b"* 1 FETCH (FLAGS (Foo \\Recent))"]
    assert node.held(user) == [("INBOX", 1, ("Foo",)), ("INBOX", 2, ())]


def test_search_finds_by_number_uid_and_text(node: Node, user: User, login: Login) -> None:
    node.deliver(user, MAIL, MAIL.replace(b"hello", b"other"), MAIL)
    client = selected(login)
    client.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
    client.ok("EXPUNGE")
    assert client.ok("SEARCH SUBJECT hello") == [b"* SEARCH 2"]
    assert client.ok("UID SEARCH SUBJECT hello") == [b"* SEARCH 3"]
    assert client.ok("SEARCH BODY second UNSEEN") == [b"* SEARCH 1 2"]
    assert client.ok("SEARCH DELETED") == [b"* SEARCH"]
    assert client.command("SEARCH CHARSET KOI8-R ALL")[-1].startswith(b"NO [BADCHARSET ")


def test_copy_and_move_tell_the_new_uids(node: Node, user: User, login: Login) -> None:
    node.deliver(user, MAIL, MAIL, MAIL)
    client = selected(login)
    assert b" 1:3 1:3] " in client.command("COPY 1:* Archive")[-1]
    *untagged, last = client.command("MOVE 1,3 Archive")
    assert untagged[0].startswith(b"* OK [COPYUID ")
    assert b" 1,3 4:5] " in untagged[0]
    assert untagged[1:] == [b"* 3 EXPUNGE", b"* 1 EXPUNGE"]
    assert last.startswith(b"OK ")
    assert client.command("COPY 1 absent")[-1].startswith(b"NO [TRYCREATE]")
    assert client.command("UID COPY 77 Archive")[-1].startswith(b"OK ")
    assert client.command("COPY 2 Archive")[-1].startswith(b"BAD ")


def test_expunge_removes_what_is_marked_and_uid_expunge_only_what_is_named(
    node: Node, user: User, login: Login
) -> None:
    node.deliver(user, MAIL, MAIL, MAIL, MAIL)
    client = selected(login)
    client.ok("STORE 1,2,4 +FLAGS.SILENT (\\Deleted)")
    assert client.ok("UID EXPUNGE 2:3") == [b"* 2 EXPUNGE"]
    assert client.ok("EXPUNGE") == [b"* 3 EXPUNGE", b"* 1 EXPUNGE"]
    assert node.held(user) == [("INBOX", 3, ())]


def test_close_expunges_without_a_word_and_unselect_does_not(node: Node, user: User, login: Login) -> None:
    node.deliver(user, MAIL, MAIL)
    client = selected(login)
    client.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
    client.ok("UNSELECT")
    assert len(node.held(user)) == 2
    client.ok("SELECT INBOX")
    assert client.ok("CLOSE") == []
    assert node.held(user) == [("INBOX", 2, ())]


def test_a_full_mailbox_refuses_append_and_copy(node: Node, connect: Login) -> None:
    user = node.add_user(quota_bytes=2 * len(MAIL))
    client = connect()
    client.ok(f'LOGIN {user.login} "{PASSWORD}"')
    assert client.append("INBOX", MAIL).startswith(b"OK ")
    assert client.append("INBOX", MAIL).startswith(b"OK ")
    assert client.append("INBOX", MAIL).startswith(b"NO [OVERQUOTA]")
    client.ok("SELECT INBOX")
    assert client.command("COPY 1 Archive")[-1].startswith(b"NO [OVERQUOTA]")


def test_commands_that_are_sent_together_are_answered_in_order(node: Node, user: User, login: Login) -> None:
    node.deliver(user, MAIL)
    client = login()
    client.send(b"a SELECT INBOX\r\nb FETCH 1 FLAGS\r\nc STORE 1 +FLAGS (\\Seen)\r\nd LOGOUT\r\n")
    assert client.until(b"a")[-1].startswith(b"OK ")
    assert client.until(b"b") == [b"* 1 FETCH (FLAGS (\\Recent))", b"OK FETCH completed"]
    assert client.until(b"c")[-1].startswith(b"OK ")
    assert client.until(b"d")[0].startswith(b"* BYE")
    assert client.response() == b""


# -- sessions see each other


def test_a_delivery_is_told_to_an_idling_session_at_once(node: Node, user: User, login: Login) -> None:
    client = selected(login)
    client.send(b"a IDLE\r\n")
    assert client.response().startswith(b"+ ")
    started = time.monotonic()
    node.deliver(user, MAIL)
    assert client.response() == b"* 1 EXISTS"
    assert client.response() == b"* 1 RECENT"
    assert time.monotonic() - started < 2
    client.send(b"DONE\r\n")
    assert client.until(b"a") == [b"OK IDLE completed"]


def test_idle_tells_flags_and_expunges_of_another_session(node: Node, user: User, login: Login) -> None:
    node.deliver(user, MAIL, MAIL)
    watcher, other = selected(login), selected(login)
    watcher.send(b"a IDLE\r\n")
    watcher.response()
    other.ok("STORE 2 +FLAGS (\\Deleted)")
    assert watcher.response() == b"* 2 FETCH (FLAGS (\\Deleted \\Recent))"
    other.ok("EXPUNGE")
    assert watcher.response() == b"* 2 EXPUNGE"
    watcher.send(b"DONE\r\n")
    assert watcher.until(b"a") == [b"OK IDLE completed"]


def test_an_expunge_waits_until_numbers_are_not_in_play(node: Node, user: User, login: Login) -> None:
    node.deliver(user, MAIL, MAIL.replace(b"hello", b"two"), MAIL)
    one, other = selected(login), selected(login)
    other.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
    other.ok("EXPUNGE")
    reply = one.command("FETCH 1:3 BODY.PEEK[HEADER.FIELDS (SUBJECT)]")
    assert [line.split(b" ")[1] for line in reply[:2]] == [b"2", b"3"]
    assert b"two" in reply[0]
    assert reply[-1].startswith(b"NO [EXPUNGEISSUED]")
    assert one.command("SEARCH SUBJECT two")[0] == b"* SEARCH 2"
    assert one.ok("NOOP")[0] == b"* 1 EXPUNGE"
    assert one.ok("SEARCH SUBJECT two") == [b"* SEARCH 1"]


def test_a_message_is_recent_to_one_session(node: Node, user: User, login: Login) -> None:
    node.deliver(user, MAIL)
    first, second = login(), login()
    assert b"* 1 RECENT" in first.ok("SELECT INBOX")
    assert b"* 0 RECENT" in second.ok("SELECT INBOX")
    assert first.ok("SEARCH RECENT") == [b"* SEARCH 1"]
    assert second.ok("SEARCH RECENT") == [b"* SEARCH"]


def test_a_mailbox_deleted_under_a_session_ends_it(login: Login) -> None:
    one, other = login(), login()
    one.ok("CREATE short")
    one.ok("SELECT short")
    other.ok("DELETE short")
    with pytest.raises(EOFError) as caught:
        one.command("NOOP")
    assert caught.value.args[0][-1].startswith(b"* BYE ")


def test_deleting_ones_own_selected_mailbox_only_deselects_it(login: Login) -> None:
    client = login()
    client.ok("CREATE short")
    client.ok("SELECT short")
    client.ok("DELETE short")
    assert client.command("CHECK")[-1].startswith(b"BAD ")
    client.ok("NOOP")


def test_two_sessions_that_change_the_same_mailbox_end_with_the_same_view(node: Node, user: User, login: Login) -> None:
    node.deliver(user, *[MAIL] * 40)
    clients = [selected(login), selected(login)]
    for step in range(10):
        for offset, client in enumerate(clients):
            client.command(f"UID STORE {4 * step + offset + 1} +FLAGS.SILENT (\\Deleted Mark{offset})")
            client.command(f"UID EXPUNGE {4 * step + offset + 1}")
            client.append("INBOX", MAIL)
    for client in clients:
        client.ok("NOOP")
    views = [client.ok("FETCH 1:* (UID)") for client in clients]
    assert views[0] == views[1]
    assert len(views[0]) == 40
    uids = [int(line.split(b"UID ")[1].rstrip(b")")) for line in views[0]]
    assert uids == [uid for _, uid, _ in node.held(user)]
