"""APPEND of several messages, of messages put together here, and REPLACE, over real connections.

LITERAL-, BINARY's literal8, MULTIAPPEND, CATENATE, REPLACE; the examples of their RFCs, named by section.
"""

from collections.abc import Callable

import pytest

from tests.nodes.imap.client import RawClient
from tests.nodes.imap.node import PASSWORD, Node, User

Login = Callable[[], RawClient]

ATTACHED = (
    b"From: Fred <fred@example.org>\r\nSubject: old\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="b1"\r\n\r\n'
    b"--b1\r\nContent-Type: text/plain\r\n\r\nfirst\r\n"
    b"--b1\r\nContent-Type: text/html\r\n\r\n<p>second</p>\r\n--b1--\r\n"
)


def mail(number: int, padding: int = 0) -> bytes:
    return b"Subject: number %d\r\nMessage-ID: <%d@example.org>\r\n\r\ntext\r\n" % (number, number) + b"x" * padding


def literal(data: bytes) -> bytes:
    return b"{%d+}\r\n%b" % (len(data), data)


def bodies(client: RawClient, mailbox: str) -> list[bytes]:
    client.ok(f"EXAMINE {mailbox}")
    return [line.split(b"\r\n", 1)[1].removesuffix(b")") for line in client.ok("UID FETCH 1:* BODY.PEEK[]")]


# -- LITERAL- and LITERAL+


def test_a_stranger_is_told_literal_minus_and_a_user_literal_plus(connect: Login, user: User) -> None:
    client = connect()
    before = client.ok("CAPABILITY")[0].split()
    client.ok(f'LOGIN {user.login} "{PASSWORD}"')
    after = client.ok("CAPABILITY")[0].split()
    assert [name for name in before if name.startswith(b"LITERAL")] == [b"LITERAL-"]
    assert [name for name in after if name.startswith(b"LITERAL")] == [b"LITERAL+"]


def test_rfc_7888_5_a_literal_over_4096_bytes_that_does_not_wait_is_bad_before_log_in(connect: Login) -> None:
    client = connect()
    assert client.command(b"LOGIN x " + literal(b"p" * 4097)) == [
        b"BAD [TOOBIG] a literal over 4096 bytes waits for leave before log-in"
    ]
    assert client.command(b"LOGIN x " + literal(b"p" * 4096))[-1].startswith(b"NO [AUTHENTICATIONFAILED]")


# -- BINARY: literal8


def test_rfc_3516_7_a_message_with_nul_goes_in_as_literal8_and_comes_out_unchanged(login: Login) -> None:
    client = login()
    data = b"Subject: nul\r\nContent-Transfer-Encoding: binary\r\n\r\na\x00b\r\n"
    assert client.command(b"APPEND INBOX ~" + literal(data))[-1].startswith(b"OK [APPENDUID ")
    client.ok("SELECT INBOX")
    assert client.ok("FETCH 1 BINARY[]") == [
        b"* 1 FETCH (BINARY[] ~{%d}\r\n%b)" % (len(data), data),
        b"* 1 FETCH (FLAGS (\\Seen \\Recent))",
    ]


# -- MULTIAPPEND


def test_rfc_3502_6_3_11_two_messages_go_in_with_one_command(login: Login) -> None:
    client = login()
    client.ok("CREATE saved-messages")
    first, second = mail(1), mail(2)
    reply = client.command(
        b"APPEND saved-messages (\\Seen) "
        + literal(first)
        + b' (\\Seen) " 7-Feb-1994 22:43:04 -0800" '
        + literal(second)
    )
    assert reply[-1].startswith(b"OK [APPENDUID ")
    assert reply[-1].split(b"]")[0].endswith(b" 1:2")
    assert bodies(client, "saved-messages") == [first, second]
    assert client.ok("FETCH 2 (FLAGS INTERNALDATE)")[0].endswith(b'INTERNALDATE "08-Feb-1994 06:43:04 +0000")')


def test_several_messages_are_one_record_of_the_log(node: Node, login: Login) -> None:
    client = login()
    before = node.log.status().applied
    assert client.command(b"APPEND INBOX " + b" ".join(literal(mail(n)) for n in range(40)))[-1].startswith(b"OK ")
    assert node.log.status().applied == before + 1
    assert len(bodies(client, "INBOX")) == 40


def test_rfc_3502_6_3_11_an_empty_message_cancels_them_all(node: Node, user: User, login: Login) -> None:
    client = login()
    assert client.command(b"APPEND INBOX " + literal(mail(1)) + b" " + literal(b""))[-1].startswith(b"NO ")
    assert node.held(user) == []


def test_of_several_messages_that_do_not_all_fit_none_arrives(node: Node, connect: Login) -> None:
    user = node.add_user(quota_bytes=2 * len(mail(1)))
    client = connect()
    client.ok(f'LOGIN {user.login} "{PASSWORD}"')
    three = b" ".join(literal(mail(n)) for n in range(3))
    assert client.command(b"APPEND INBOX " + three)[-1].startswith(b"NO [OVERQUOTA]")
    assert node.held(user) == []
    two = b" ".join(literal(mail(n)) for n in range(2))
    assert client.command(b"APPEND INBOX " + two)[-1].startswith(b"OK ")


def test_the_same_message_twice_in_one_command_is_two_messages(login: Login) -> None:
    client = login()
    assert client.command(b"APPEND INBOX " + literal(mail(1)) + b" " + literal(mail(1)))[-1].startswith(b"OK ")
    assert bodies(client, "INBOX") == [mail(1), mail(1)]


def test_messages_that_are_too_large_together_for_a_record_go_in_all_the_same(login: Login) -> None:
    client = login()
    wanted = [mail(n, 200_000) for n in range(20)]  # 4 MB: above what stands in one record beside its events
    assert client.command(b"APPEND INBOX " + b" ".join(map(literal, wanted)))[-1].startswith(b"OK ")
    assert bodies(client, "INBOX") == wanted


# -- CATENATE


def _uidvalidity(client: RawClient, mailbox: str) -> int:
    (line,) = client.ok(f"STATUS {mailbox} (UIDVALIDITY)")
    return int(line.split()[-1].rstrip(b")"))


def test_rfc_4469_5_a_message_is_put_together_of_the_parts_of_another(login: Login) -> None:
    client = login()
    client.append("Drafts", ATTACHED)
    client.append("Drafts", mail(7))
    base = f"/Drafts;UIDVALIDITY={_uidvalidity(client, 'Drafts')}/;UID=1/;section="
    line, last = b"\r\n--b1\r\n", b"\r\n--b1--\r\n"
    reply = client.command(
        b'APPEND Drafts (\\Seen \\Draft $MDNSent) CATENATE (URL "%bHEADER" TEXT %b URL "%b1.MIME" URL "%b1" TEXT %b'
        b' URL "/Drafts/;UID=2" TEXT %b)'
        % (base.encode(), literal(line), base.encode(), base.encode(), literal(line), literal(last))
    )
    assert reply[-1].startswith(b"OK [APPENDUID ")
    head = ATTACHED.split(b"--b1", 1)[0]
    assert bodies(client, "Drafts")[2] == (
        head + line + b"Content-Type: text/plain\r\n\r\nfirst" + line + mail(7) + last
    )


def test_rfc_4469_5_a_url_of_nothing_is_told_and_nothing_is_appended(node: Node, user: User, login: Login) -> None:
    client = login()
    url = b"/INBOX;UIDVALIDITY=785799047/;UID=113330;section=1.5.9"
    reply = client.command(b'APPEND Drafts (\\Seen) CATENATE (TEXT %b URL "%b")' % (literal(b"a"), url))
    assert reply == [b'NO [BADURL "%b"] there is nothing of that URL' % url]
    assert node.held(user) == []


@pytest.mark.parametrize(
    "url",
    [
        "/INBOX/;UID=2",
        "/absent/;UID=1",
        "/INBOX;UIDVALIDITY=1/;UID=1",
        "/INBOX/;UID=1/;SECTION=9",
        "/INBOX/;UID=1/;SECTION=FROB",
        ";UID=1",
        "imap://elsewhere.example/INBOX/;UID=1",
        "http://localhost/",
        "/INBOX/;UID=1/;SECTION=%ff",
        "",
    ],
)
def test_a_url_that_names_nothing_here_is_bad(url: str, login: Login) -> None:
    client = login()
    client.append("INBOX", mail(1))
    assert client.command(f'APPEND INBOX CATENATE (URL "{url}")')[-1].startswith(b'NO [BADURL "')
    client.ok("NOOP")


def test_a_whole_url_of_this_server_and_user_and_a_part_of_a_message_are_found(
    node: Node, user: User, login: Login
) -> None:
    client = login()
    client.append("INBOX", mail(1))
    host = node.services.config.node.hostname
    whole = f"imap://{user.login.replace('@', '%40')};AUTH=*@{host}/INBOX/;UID=1/;PARTIAL=0.9"
    assert client.command(f'APPEND Sent CATENATE (URL "{whole}" URL "/INBOX/;UID=1/;PARTIAL=9")')[-1].startswith(b"OK ")
    assert bodies(client, "Sent") == [mail(1)]
    other = whole.replace("user", "other", 1)
    assert client.command(f'APPEND Sent CATENATE (URL "{other}")')[-1].startswith(b"NO [BADURL")


def test_rfc_4469_4_what_is_too_big_put_together_is_refused(node: Node, user: User, login: Login) -> None:
    client = login()
    client.append("INBOX", mail(1, 1_500_000))
    many = " ".join(['URL "/INBOX/;UID=1"'] * 900)
    assert client.command(f"APPEND INBOX CATENATE ({many})")[-1].startswith(b"NO [TOOBIG]")
    assert len(node.held(user)) == 1


# -- REPLACE


def test_rfc_8508_3_2_a_message_is_replaced(login: Login) -> None:
    client = login()
    for number in range(4):
        client.append("Drafts", mail(number))
    client.ok("SELECT Drafts")
    *untagged, last = client.command(b"REPLACE 4 Drafts (\\Seen \\Draft $MDNSent) " + literal(mail(9)))
    assert untagged[0].startswith(b"* OK [APPENDUID ")
    assert untagged[0].split(b"]")[0].endswith(b" 5")
    assert b"* 4 EXPUNGE" in untagged
    assert b"* 4 EXISTS" in untagged
    assert last.startswith(b"OK REPLACE completed")
    assert client.ok("UID FETCH 1:* FLAGS")[-1] == b"* 4 FETCH (UID 5 FLAGS (\\Seen \\Draft $MDNSent \\Recent))"


def test_uid_replace_goes_to_another_mailbox_and_leaves_what_else_is_marked_deleted(
    node: Node, user: User, login: Login
) -> None:
    client = login()
    for number in range(3):
        client.append("Drafts", mail(number), "(\\Deleted) ")
    client.ok("SELECT Drafts")
    assert client.command(b"UID REPLACE 2 Sent " + literal(mail(9)))[-1].startswith(b"OK ")
    assert node.held(user) == [("Drafts", 1, ("\\Deleted",)), ("Drafts", 3, ("\\Deleted",)), ("Sent", 1, ())]


def test_a_message_that_is_not_there_or_has_gone_is_not_replaced(node: Node, user: User, login: Login) -> None:
    client, other = login(), login()
    client.append("Drafts", mail(1), "(\\Deleted) ")
    client.ok("SELECT Drafts")
    assert client.command(b"REPLACE 2 Drafts " + literal(mail(9)))[-1].startswith(b"BAD ")
    assert client.command(b"UID REPLACE 2 Drafts " + literal(mail(9)))[-1].startswith(b"NO ")
    assert client.command(b"UID REPLACE 1 absent " + literal(mail(9)))[-1].startswith(b"NO [TRYCREATE]")
    other.ok("SELECT Drafts")
    other.ok("EXPUNGE")
    assert client.command(b"REPLACE 1 Drafts " + literal(mail(9)))[-1].startswith(b"NO [EXPUNGEISSUED]")
    assert node.held(user) == []


def test_a_full_mailbox_lets_a_message_be_replaced_by_a_smaller_one(node: Node, connect: Login) -> None:
    user = node.add_user(quota_bytes=len(mail(1, 100)))
    client = connect()
    client.ok(f'LOGIN {user.login} "{PASSWORD}"')
    client.append("Drafts", mail(1, 100))
    client.ok("SELECT Drafts")
    assert client.command(b"REPLACE 1 Drafts " + literal(mail(1, 101)))[-1].startswith(b"NO [OVERQUOTA]")
    assert client.command(b"REPLACE 1 Drafts " + literal(mail(1, 99)))[-1].startswith(b"OK ")


def test_what_is_read_only_is_not_replaced(login: Login) -> None:
    client = login()
    client.append("Drafts", mail(1))
    client.ok("EXAMINE Drafts")
    assert client.command(b"REPLACE 1 Drafts " + literal(mail(9)))[-1].startswith(b"NO ")
