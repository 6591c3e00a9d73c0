"""The examples of RFC 9051 (and of RFC 3501, where they are the same), by section.

Names, numbers and UIDs are those of the test; the words behind OK, and the order of EXPUNGE responses and of untagged
responses to SELECT, are the server's.
"""

import re
from collections.abc import Callable

import pytest

from tests.nodes.imap.client import RawClient
from tests.nodes.imap.node import PASSWORD, Node, User
from tests.nodes.imap.test_rfc_examples import bare as bare
from tests.nodes.imap.test_rfc_examples import entry, fill, left, listed, number_in

Login = Callable[[], RawClient]

SUMMARY_HEAD = (
    b"Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\r\n"
    b"From: Terry Gray <gray@cac.washington.edu>\r\n"
    b"Subject: IMAP4rev1 WG mtg summary and minutes\r\n"
    b"To: imap@cac.washington.edu\r\n"
    b"cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>\r\n"
    b"Message-Id: <B27397-0100000@cac.washington.edu>\r\n"
    b"MIME-Version: 1.0\r\n"
    b"Content-Type: TEXT/PLAIN; CHARSET=US-ASCII\r\n"
    b"\r\n"
)
SUMMARY = SUMMARY_HEAD + b"x" * 29 + b"\r\n" + (b"x" * 31 + b"\r\n") * 90 + b"x" * 25 + b"\r\n"  # 3028 octets, 92 lines

DIFF = (
    b"From: a@example.org\r\nMIME-Version: 1.0\r\nContent-Type: MULTIPART/MIXED; BOUNDARY=b\r\n\r\n"
    b"--b\r\nContent-Type: TEXT/PLAIN; CHARSET=US-ASCII\r\n\r\n"
    + (b"x" * 48 + b"\r\n") * 22
    + b"x" * 50
    + b"\r\n\r\n--b\r\nContent-Type: TEXT/PLAIN; CHARSET=US-ASCII; NAME=cc.diff\r\n"
    b"Content-Transfer-Encoding: BASE64\r\nContent-ID: <960723163407.20117h@cac.washington.edu>\r\n"
    b"Content-Description: Compiler diff\r\n\r\n" + (b"QUFB" * 15 + b"\r\n") * 72 + b"QUFB" * 22 + b"\r\n\r\n--b--\r\n"
)


@pytest.fixture
def rev2(login: Login) -> RawClient:
    client = login()
    client.ok("ENABLE IMAP4rev2")
    return client


def test_rfc_9051_6_1_2_noop_tells_what_happened(node: Node, user: User, rev2: RawClient, login: Login) -> None:
    fill(node, user, 4)
    other = login()
    rev2.ok("SELECT INBOX")
    other.ok("SELECT INBOX")
    assert rev2.ok("NOOP") == []
    other.ok("STORE 2 +FLAGS.SILENT (\\Deleted)")
    other.ok("EXPUNGE")
    other.ok("UID STORE 4 +FLAGS.SILENT (\\Seen \\Deleted)")
    fill(node, user, 1)
    gone, fetch, exists = sorted(rev2.ok("NOOP"))
    assert (gone, exists) == (b"* 2 EXPUNGE", b"* 4 EXISTS")
    assert fetch.startswith(b"* 3 FETCH (")
    assert set(re.findall(rb"\\\w+", fetch)) == {b"\\Seen", b"\\Deleted"}


def test_rfc_9051_6_1_3_logout_says_bye_before_ok(login: Login) -> None:
    bye, last = login().command("LOGOUT")
    assert bye.startswith(b"* BYE ")
    assert last.startswith(b"OK ")


def test_rfc_9051_6_2_3_login_with_a_name_and_a_password(connect: Login, user: User) -> None:
    client = connect()
    assert client.command(f'LOGIN {user.login} "wrong"')[-1].startswith(b"NO ")
    assert client.command(f'LOGIN {user.login} "{PASSWORD}"')[-1].startswith(b"OK ")


def test_rfc_9051_6_3_2_select_describes_the_mailbox(node: Node, user: User, rev2: RawClient) -> None:
    fill(node, user, 3)
    *told, last = rev2.command("SELECT INBOX")
    assert b"* 3 EXISTS" in told
    assert b'* LIST () "/" "INBOX"' in told
    assert number_in(told, b"UIDNEXT") == 4
    assert number_in(told, b"UIDVALIDITY") > 0
    flags = next(line for line in told if line.startswith(b"* FLAGS ("))
    kept = next(line for line in told if line.startswith(b"* OK [PERMANENTFLAGS ("))
    for flag in (b"\\Answered", b"\\Flagged", b"\\Deleted", b"\\Seen", b"\\Draft"):
        assert flag in flags
        assert flag in kept
    assert b"\\*" in kept
    assert last.startswith(b"OK [READ-WRITE] ")
    assert rev2.command("SELECT blurdybloop")[0].startswith(b"* OK [CLOSED] ")
    assert rev2.command("FETCH 1 FLAGS")[-1].startswith(b"BAD ")  # nothing is selected after a SELECT that failed


def test_rfc_9051_6_3_3_examine_is_read_only(node: Node, user: User, rev2: RawClient) -> None:
    fill(node, user, 1)
    *told, last = rev2.command("EXAMINE INBOX")
    assert any(line.startswith(b"* OK [PERMANENTFLAGS ()] ") for line in told)
    assert last.startswith(b"OK [READ-ONLY] ")
    rev2.ok("FETCH 1 BODY[]")
    assert rev2.ok("FETCH 1 FLAGS") == [b"* 1 FETCH (FLAGS ())"]


def test_rfc_9051_6_3_4_a_trailing_delimiter_announces_what_will_be_below(bare: RawClient) -> None:
    bare.ok("CREATE owatagusiam/")
    bare.ok("CREATE owatagusiam/blurdybloop")
    assert "owatagusiam/blurdybloop" in listed(bare, 'LIST "" "*"')
    assert bare.command("CREATE owatagusiam/blurdybloop")[-1].startswith(b"NO [ALREADYEXISTS] ")


def test_rfc_9051_6_3_5_what_is_below_a_deleted_mailbox_stays(bare: RawClient) -> None:
    for name in ("blurdybloop", "foo", "foo/bar"):
        bare.ok(f"CREATE {name}")
    bare.ok("DELETE blurdybloop")
    bare.ok("DELETE foo")
    assert listed(bare, 'LIST "" *') == {"INBOX": entry(), "foo": entry("\\Noselect"), "foo/bar": entry()}
    assert bare.command("DELETE foo")[-1].startswith(b"NO ")
    bare.ok("DELETE foo/bar")
    assert listed(bare, 'LIST "" *') == {"INBOX": entry()}
    assert bare.command("DELETE INBOX")[-1].startswith(b"NO ")


def test_rfc_9051_6_3_6_what_is_below_a_renamed_mailbox_goes_with_it(bare: RawClient) -> None:
    for name in ("blurdybloop", "foo", "foo/bar"):
        bare.ok(f"CREATE {name}")
    bare.ok("RENAME blurdybloop sarasoon")
    bare.ok("RENAME foo zowie")
    assert set(listed(bare, 'LIST "" *')) == {"INBOX", "sarasoon", "zowie", "zowie/bar"}


def test_rfc_9051_6_3_6_renaming_inbox_moves_its_messages_and_leaves_what_is_below(
    node: Node, user: User, bare: RawClient
) -> None:
    bare.ok("CREATE INBOX/bar")
    fill(node, user, 2)
    bare.ok("RENAME INBOX old-mail")
    assert set(listed(bare, 'LIST "" *')) == {"INBOX", "INBOX/bar", "old-mail"}
    assert bare.ok("STATUS INBOX (MESSAGES)") == [b'* STATUS "INBOX" (MESSAGES 0)']
    assert bare.ok("STATUS old-mail (MESSAGES)") == [b'* STATUS "old-mail" (MESSAGES 2)']


def test_rfc_9051_6_3_7_and_6_3_8_subscriptions(bare: RawClient) -> None:
    bare.ok("SUBSCRIBE #news.comp.mail.mime")
    assert "#news.comp.mail.mime" in listed(bare, 'LIST (SUBSCRIBED) "" *')
    bare.ok("UNSUBSCRIBE #news.comp.mail.mime")
    assert listed(bare, 'LIST (SUBSCRIBED) "" *') == {}


def test_rfc_9051_6_3_11_status_of_a_mailbox(node: Node, user: User, bare: RawClient) -> None:
    bare.ok("CREATE blurdybloop")
    fill(node, user, 3, "blurdybloop")
    assert bare.ok("STATUS blurdybloop (UIDNEXT MESSAGES)") == [b'* STATUS "blurdybloop" (UIDNEXT 4 MESSAGES 3)']


def test_rfc_9051_6_3_12_append_waits_for_leave_and_tells_the_uid(bare: RawClient) -> None:
    bare.ok("CREATE saved-messages")
    bare.send(b"A003 APPEND saved-messages (\\Seen) {%d}\r\n" % len(SUMMARY))
    assert bare.response().startswith(b"+ ")
    bare.send(SUMMARY + b"\r\n")
    assert re.match(rb"OK \[APPENDUID \d+ 1\] ", bare.until(b"A003")[-1])
    missing = bare.append("absent", SUMMARY)
    assert missing.startswith(b"NO [TRYCREATE] ")


def test_rfc_9051_6_4_1_close_expunges_without_a_word(node: Node, user: User, rev2: RawClient) -> None:
    fill(node, user, 2)
    rev2.ok("SELECT INBOX")
    rev2.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
    assert [line[:3] for line in rev2.command("CLOSE")] == [b"OK "]
    assert [uid for _, uid, _ in node.held(user)] == [2]


def test_rfc_9051_6_4_3_expunge_tells_of_each(node: Node, user: User, rev2: RawClient) -> None:
    fill(node, user, 11)
    rev2.ok("SELECT INBOX")
    rev2.ok("STORE 3,4,7,11 +FLAGS.SILENT (\\Deleted)")
    assert left(rev2.ok("EXPUNGE"), 11) == [1, 2, 5, 6, 8, 9, 10]


def test_rfc_9051_6_4_4_search_is_answered_by_esearch_and_by_search_before_rev2(rev2: RawClient, login: Login) -> None:
    for number, sender in enumerate(("Smith", "Jones", "Smith", "Jones")):
        message = f"From: {sender} <a@example.org>\r\nSubject: {number}\r\n\r\nx\r\n".encode()
        rev2.append("INBOX", message, '(\\Flagged) " 1-Feb-1994 12:00:00 +0000" ')
    old = login()
    for client in (rev2, old):
        client.ok("SELECT INBOX")
    wanted = 'FLAGGED SINCE 1-Feb-1994 NOT FROM "Smith"'
    assert rev2.ok(f"SEARCH {wanted}") == [b'* ESEARCH (TAG "t%d") ALL 2,4' % rev2.tags]
    assert rev2.ok(f"SEARCH RETURN (MIN COUNT) {wanted}") == [b'* ESEARCH (TAG "t%d") MIN 2 COUNT 2' % rev2.tags]
    assert rev2.ok('SEARCH TEXT "string not in mailbox"') == [b'* ESEARCH (TAG "t%d")' % rev2.tags]
    assert old.ok(f"SEARCH {wanted}") == [b"* SEARCH 2 4"]
    assert old.ok('SEARCH TEXT "string not in mailbox"') == [b"* SEARCH"]


def test_rfc_9051_6_4_5_flags_and_two_fields_of_three_messages(rev2: RawClient) -> None:
    for _ in range(4):
        rev2.append("INBOX", SUMMARY)
    rev2.ok("SELECT INBOX")
    fields = SUMMARY_HEAD.split(b"Subject")[0] + b"\r\n"
    told = [line for line in rev2.ok("FETCH 2:4 (FLAGS BODY.PEEK[HEADER.FIELDS (DATE FROM)])") if b"BODY" in line]
    assert told == [
        b"* %d FETCH (FLAGS () BODY[HEADER.FIELDS (DATE FROM)] {%d}\r\n%b)" % (number, len(fields), fields)
        for number in (2, 3, 4)
    ]


def test_rfc_9051_6_4_6_store_tells_the_flags_that_are_there_now(node: Node, user: User, rev2: RawClient) -> None:
    fill(node, user, 4)
    rev2.ok("SELECT INBOX")
    rev2.ok("STORE 2,4 FLAGS.SILENT (\\Seen)")
    rev2.ok("STORE 4 +FLAGS.SILENT (\\Flagged)")
    told = rev2.ok("STORE 2:4 +FLAGS (\\Deleted)")
    flags = [set(re.findall(rb"\\\w+", line)) for line in told]
    assert [line.split()[1] for line in told] == [b"2", b"3", b"4"]
    assert flags == [{b"\\Deleted", b"\\Seen"}, {b"\\Deleted"}, {b"\\Deleted", b"\\Flagged", b"\\Seen"}]


def test_rfc_9051_6_4_7_copy_tells_the_uids_and_a_missing_mailbox_is_told(
    node: Node, user: User, bare: RawClient
) -> None:
    fill(node, user, 4)
    bare.ok("CREATE MEETING")
    bare.ok("SELECT INBOX")
    assert re.match(rb"OK \[COPYUID \d+ 2:4 1:3\] ", bare.command("COPY 2:4 MEETING")[-1])
    assert bare.command("COPY 2:4 ELSEWHERE")[-1].startswith(b"NO [TRYCREATE] ")


def test_rfc_9051_6_4_9_uids_that_nobody_has_are_passed_over(node: Node, user: User, rev2: RawClient) -> None:
    fill(node, user, 25)
    rev2.ok("SELECT INBOX")
    rev2.ok("UID STORE 1:22 +FLAGS.SILENT (\\Deleted)")
    rev2.ok("EXPUNGE")
    told = rev2.ok("UID FETCH 23:4828442 FLAGS")
    assert [(int(line.split()[1]), number_in([line], b"UID")) for line in told] == [(1, 23), (2, 24), (3, 25)]
    assert rev2.ok("UID FETCH 443 FLAGS") == []
    assert len(rev2.ok("UID FETCH 559:* FLAGS")) == 1  # the last there is


def test_rfc_9051_7_5_2_the_structure_of_two_parts(rev2: RawClient) -> None:
    rev2.append("INBOX", DIFF)
    rev2.ok("SELECT INBOX")
    structure = (
        b'* 1 FETCH (BODY (("TEXT" "PLAIN" ("CHARSET" "US-ASCII") NIL NIL "7BIT" 1152 23)("TEXT" "PLAIN" ("CHARSET" '
        b'"US-ASCII" "NAME" "cc.diff") "<960723163407.20117h@cac.washington.edu>" "Compiler diff" "BASE64" 4554 73) '
        b'"MIXED"))'
    )
    (told,) = rev2.ok("FETCH 1 BODY")
    assert told.upper() == structure.upper()  # types, parameters and encodings are told in any case


def test_rfc_9051_8_the_sample_connection(rev2: RawClient) -> None:
    assert (len(SUMMARY_HEAD), len(SUMMARY) - len(SUMMARY_HEAD)) == (342, 3028)
    for number in range(11):
        rev2.append("INBOX", b"Subject: %d\r\n\r\nx\r\n" % number)
    rev2.append("INBOX", SUMMARY, '(\\Seen) "17-Jul-1996 02:44:25 -0700" ')
    assert b"* 12 EXISTS" in rev2.ok("SELECT INBOX")
    (full,) = rev2.ok("FETCH 12 FULL")
    gray = b'(("Terry Gray" NIL "gray" "cac.washington.edu"))'
    envelope = (
        b'ENVELOPE ("Wed, 17 Jul 1996 02:23:25 -0700 (PDT)" "IMAP4rev1 WG mtg summary and minutes" '
        + b" ".join([gray] * 3)
        + b' ((NIL NIL "imap" "cac.washington.edu")) ((NIL NIL "minutes" "CNRI.Reston.VA.US")'
        b'("John Klensin" NIL "KLENSIN" "MIT.EDU")) NIL NIL "<B27397-0100000@cac.washington.edu>")'
    )
    assert envelope in full
    assert b"FLAGS (\\Seen)" in full
    assert b'INTERNALDATE "17-Jul-1996 09:44:25 +0000"' in full  # the same moment
    assert b"RFC822.SIZE %d" % len(SUMMARY) in full
    assert b'BODY ("TEXT" "PLAIN" ("CHARSET" "US-ASCII") NIL NIL "7BIT" 3028 92)' in full.upper()
    assert rev2.ok("FETCH 12 BODY[HEADER]") == [b"* 12 FETCH (BODY[HEADER] {342}\r\n%b)" % SUMMARY_HEAD]
    (stored,) = rev2.ok("STORE 12 +FLAGS \\Deleted")
    assert set(re.findall(rb"\\\w+", stored)) == {b"\\Seen", b"\\Deleted"}
    assert rev2.command("LOGOUT")[0].startswith(b"* BYE ")
