"""IMAP4rev2, names in UTF-8, sessions without numbers, ids and saved dates, compression: over real connections."""

import calendar
import contextlib
import re
import socket
import time
import zlib
from collections.abc import Callable

import pytest

from nodes.imap.compression import Compression
from nodes.imap.object_ids import thread_id
from tests.nodes.imap.client import RawClient
from tests.nodes.imap.node import PASSWORD, Node, User

Login = Callable[[], RawClient]


def _fill(node: Node, user: User, count: int) -> None:
    node.deliver(user, *(b"Subject: %d\r\n\r\nx\r\n" % number for number in range(count)))


def _enabled(login: Login, names: str) -> RawClient:
    client = login()
    assert client.ok(f"ENABLE {names}") == [f"* ENABLED {names}".encode()]
    return client


# -- IMAP4rev2


def test_rfc_9051_6_3_2_select_lists_the_mailbox_and_tells_of_nothing_recent(
    node: Node, user: User, login: Login
) -> None:
    _fill(node, user, 2)
    client = _enabled(login, "IMAP4rev2")
    told = client.ok("SELECT inbox")
    assert b'* LIST () "/" "INBOX"' in told
    assert b"* 2 EXISTS" in told
    assert b"$MDNSent" in told[0]
    assert not [line for line in told if b"RECENT" in line.upper() or b"[UNSEEN" in line]
    assert client.ok("FETCH 1 FLAGS") == [b"* 1 FETCH (FLAGS ())"]
    _fill(node, user, 1)
    assert client.ok("NOOP") == [b"* 3 EXISTS"]
    assert client.ok("SELECT Drafts")[0].startswith(b"* OK [CLOSED]")


def test_what_rev2_has_seen_stays_recent_for_rev1(node: Node, user: User, login: Login) -> None:
    _fill(node, user, 1)
    _enabled(login, "IMAP4rev2").ok("SELECT INBOX")
    assert b"* 1 RECENT" in login().ok("SELECT INBOX")


def test_rfc_9051_6_3_11_status_counts_what_is_deleted(node: Node, user: User, login: Login) -> None:
    _fill(node, user, 3)
    client = _enabled(login, "IMAP4rev2")
    client.ok("SELECT INBOX")
    client.ok("STORE 1,3 +FLAGS.SILENT (\\Deleted)")
    assert client.ok("STATUS INBOX (DELETED MESSAGES)") == [b'* STATUS "INBOX" (DELETED 2 MESSAGES 3)']


def test_rfc_9051_6_4_4_search_is_answered_by_esearch(node: Node, user: User, login: Login) -> None:
    _fill(node, user, 3)
    client = _enabled(login, "IMAP4rev2")
    client.ok("SELECT INBOX")
    assert client.ok("SEARCH SUBJECT 1") == [b'* ESEARCH (TAG "t4") ALL 2']
    assert client.ok("UID SEARCH ALL") == [b'* ESEARCH (TAG "t5") UID ALL 1:3']
    assert client.ok("SEARCH SUBJECT nothing") == [b'* ESEARCH (TAG "t6")']


def test_rfc_9755_3_a_search_names_no_charset_once_utf_8_is_accepted(login: Login) -> None:
    client = _enabled(login, "UTF8=ACCEPT")
    client.ok("SELECT INBOX")
    assert client.command("SEARCH CHARSET UTF-8 ALL")[-1].startswith(b"BAD")
    assert client.ok('SEARCH SUBJECT "Grüße"'.encode()) == [b"* SEARCH"]


@pytest.mark.parametrize("names", ["IMAP4rev2", "UTF8=ACCEPT"])
def test_names_are_utf_8_for_those_who_enabled_it(login: Login, names: str) -> None:
    client, plain = _enabled(login, names), login()
    client.ok('CREATE "Entwürfe & mehr"'.encode())
    assert client.ok(b'LIST "" "Entw*"') == ['* LIST (\\HasNoChildren) "/" "Entwürfe & mehr"'.encode()]
    assert plain.ok('LIST "" "Entw*"') == [b'* LIST (\\HasNoChildren) "/" "Entw&APw-rfe &- mehr"']
    assert client.ok('STATUS "Entwürfe & mehr" (MESSAGES)'.encode())[0].startswith('* STATUS "Entwürfe'.encode())
    assert client.command(b'SELECT "\xff"')[-1].startswith(b"NO [CANNOT]")


# -- UIDONLY


def test_rfc_9586_3_without_numbers_everything_is_told_by_uid(node: Node, user: User, login: Login) -> None:
    _fill(node, user, 4)
    client, other = _enabled(login, "UIDONLY"), login()
    client.ok("SELECT INBOX")
    other.ok("SELECT INBOX")
    other.ok("UID STORE 1,2 +FLAGS.SILENT (\\Deleted)")
    other.ok("EXPUNGE")
    other.ok("UID STORE 4 +FLAGS.SILENT (\\Seen)")
    assert client.ok("NOOP") == [b"* VANISHED 1:2", b"* 4 UIDFETCH (FLAGS (\\Seen \\Recent))"]
    assert client.ok("UID FETCH 3:4 (UID RFC822.SIZE)") == [
        b"* 3 UIDFETCH (RFC822.SIZE 17)",
        b"* 4 UIDFETCH (RFC822.SIZE 17)",
    ]
    assert client.ok("UID STORE 3 +FLAGS (\\Flagged)") == [b"* 3 UIDFETCH (FLAGS (\\Flagged \\Recent))"]


@pytest.mark.parametrize(
    "command",
    ["FETCH 1 FLAGS", "STORE 1 FLAGS ()", "COPY 1 Trash", "MOVE 1 Trash", "SEARCH ALL", "REPLACE 1 x {1+}\r\nx"],
)
def test_rfc_9586_3_commands_by_number_are_refused(login: Login, command: str) -> None:
    client = _enabled(login, "UIDONLY")
    client.ok("SELECT INBOX")
    assert client.command(command)[-1].startswith(b"BAD [UIDREQUIRED]")


# -- OBJECTID, SAVEDATE


def test_rfc_8474_4_a_mailbox_keeps_its_id_through_a_rename(login: Login) -> None:
    client = login()
    created = client.command("CREATE one")[-1]
    found = re.match(rb"OK \[MAILBOXID (\(F[0-9a-f]{32}\))\]", created)
    assert found, created
    client.ok("RENAME one two")
    assert client.ok("STATUS two (MAILBOXID)") == [b'* STATUS "two" (MAILBOXID %b)' % found[1]]
    assert any(b"[MAILBOXID %b]" % found[1] in line for line in client.ok("EXAMINE two"))


def test_rfc_8474_5_a_copy_has_the_id_of_its_message_and_a_reply_that_of_its_thread(
    node: Node, user: User, login: Login
) -> None:
    node.deliver(
        user,
        b"Message-ID: <a@x>\r\n\r\n1\r\n",
        b"Message-ID: <b@x>\r\nReferences: <a@x>\r\n\r\n2\r\n",
        b"Message-ID: <c@x>\r\nIn-Reply-To: <a@x>\r\n\r\n3\r\n",
        b"Subject: alone\r\n\r\n4\r\n",
    )
    client = login()
    client.ok("SELECT INBOX")
    client.ok("COPY 1 Archive")
    first, second, third, alone = client.ok("FETCH 1:4 (EMAILID THREADID)")
    thread = first.partition(b"THREADID ")[2]
    assert second.endswith(thread)
    assert third.endswith(thread)
    assert alone.endswith(b"THREADID NIL)")
    assert len({line.split()[4] for line in (first, second, third, alone)}) == 4
    client.ok("SELECT Archive")
    assert client.ok("FETCH 1 (EMAILID THREADID)") == [first]


@pytest.mark.parametrize("text", [b"", b"\r\n", b"References: nothing\r\n\r\n", b"Message-ID: <>\r\n\r\n"])
def test_a_message_that_names_none_is_in_no_thread(text: bytes) -> None:
    assert thread_id(text) is None


def test_rfc_8514_4_a_saved_date_is_that_of_coming_into_the_folder(login: Login) -> None:
    before_s = int(time.time())
    client = login()
    client.append("INBOX", b"Subject: old\r\n\r\nx\r\n", '"01-Jan-2001 00:00:00 +0000" ')
    client.ok("SELECT INBOX")
    (line,) = client.ok("FETCH 1 (INTERNALDATE SAVEDATE)")
    found = re.fullmatch(rb'\* 1 FETCH \(INTERNALDATE "01-Jan-2001 00:00:00 \+0000" SAVEDATE "(.*) \+0000"\)', line)
    assert found, line
    saved_s = calendar.timegm(time.strptime(found[1].decode(), "%d-%b-%Y %H:%M:%S"))
    assert before_s - 2 <= saved_s <= time.time() + 2


# -- COMPRESS


class _Deflated:
    """A socket whose bytes are compressed."""

    def __init__(self, plain: socket.socket) -> None:
        self._plain = plain
        self._deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        self._inflate = zlib.decompressobj(-15)
        self._lines = b""

    def command(self, tag: bytes, text: bytes) -> bytes:
        """All that comes back, up to the tagged line."""
        self._plain.sendall(
            self._deflate.compress(tag + b" " + text + b"\r\n") + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        )
        answer = b""
        while not re.search(rb"(?:\A|\n)%b [^\n]*\n" % tag, answer):
            data = self._plain.recv(65536)
            assert data, answer
            answer += self._inflate.decompress(data)
        return answer


def _compressed(client: RawClient) -> _Deflated:
    client.ok("COMPRESS DEFLATE")
    return _Deflated(client.socket)


def test_rfc_4978_3_after_compress_both_directions_are_deflated(node: Node, user: User, login: Login) -> None:
    _fill(node, user, 300)
    deflated = _compressed(login())
    assert b"* 300 EXISTS" in deflated.command(b"a", b"SELECT INBOX")
    assert deflated.command(b"b", b"FETCH 1:* (FLAGS INTERNALDATE)").count(b" FETCH (") == 300
    message = b"Subject: x\r\n\r\n" + b"0123456789" * 100_000
    assert b"b2 OK" in deflated.command(b"b2", b"APPEND INBOX {%d+}\r\n%b" % (len(message), message))
    assert deflated.command(b"c", b"COMPRESS DEFLATE").startswith(b"c NO [COMPRESSIONACTIVE]")


def test_a_little_that_stands_for_a_lot_is_refused_and_costs_no_memory() -> None:
    compression = Compression()
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    small = b"".join(bomb.compress(bytes(1 << 20)) for _ in range(64)) + bomb.flush()
    assert len(small) < 100_000
    compression.feed(small)
    total = 0
    while compression.waits:
        piece = compression.inflated(1000 if total < 100_000 else 1 << 18)
        assert len(piece) <= 1 << 18
        total += len(piece)
    assert total == 64 << 20


def test_an_over_long_line_is_refused_compressed_too(login: Login) -> None:
    deflated = _compressed(login())
    with contextlib.suppress(ConnectionError):  # the server may have hung up before it was all sent
        assert b"[TOOBIG]" in deflated.command(b"a", b"NOOP" + b" " * (32 << 20))
    with pytest.raises((AssertionError, ConnectionError)):
        deflated.command(b"b", b"NOOP")


IN_UTF_8 = (
    'From: Jøran <jøran@blåbær.example>\r\nTo: 用户 <用户@例え.example>\r\nSubject: grønn "te"\r\n'
    "Content-Type: text/plain; charset=utf-8; name=blåbær\r\nContent-Transfer-Encoding: 8bit\r\n\r\nsmørbrød\r\n"
).encode()


@pytest.mark.parametrize("enabled", ["", "UTF8=ACCEPT", "IMAP4rev2"])
def test_rfc_6855_6_without_utf8_a_message_in_utf_8_comes_as_it_is_and_in_literals(
    node: Node, user: User, login: Login, enabled: str
) -> None:
    node.deliver(user, IN_UTF_8)
    client = login()
    if enabled:
        client.ok(f"ENABLE {enabled}")
    client.ok("SELECT INBOX")
    told = b"".join(client.ok("FETCH 1 (ENVELOPE BODYSTRUCTURE BODY.PEEK[HEADER.FIELDS (Subject)] BODY.PEEK[])"))
    assert IN_UTF_8 in told
    assert told.count("grønn".encode()) == 3
    quoted = b"".join(re.findall(rb'"[^"\r\n]*"', re.sub(rb"\{\d+\}\r\n[^\r]*", b"", told.replace(IN_UTF_8, b""))))
    assert quoted.isascii()
    assert {len(text.encode()) for text in ("Jøran", "jøran", "blåbær.example", "用户")} <= {
        int(size) for size in re.findall(rb"\{(\d+)\}", told)
    }


def test_what_is_no_deflate_stream_ends_the_connection(login: Login) -> None:
    client = login()
    client.ok("COMPRESS DEFLATE")
    client.send(b"\xff" * 100)
    with pytest.raises((ConnectionError, EOFError)):
        client.until(b"x")


def test_another_mechanism_and_strangers_are_refused(connect: Login, login: Login) -> None:
    assert login().command("COMPRESS LZ4")[-1].startswith(b"NO [CANNOT]")
    assert connect().command("COMPRESS DEFLATE")[-1].startswith(b"BAD")


def test_a_session_of_the_past_may_be_compressed(node: Node, user: User, connect: Login) -> None:
    _fill(node, user, 1)
    client = connect()
    client.ok(f'LOGIN "{user.login}@@#{node.log.status().applied}" "{PASSWORD}"')
    assert b"* 1 EXISTS" in _compressed(client).command(b"a", b"SELECT INBOX")
