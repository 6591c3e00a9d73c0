"""BDAT (RFC 3030): messages in chunks, over real connections."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest

from nodes.smtp.chunks import Chunk, ChunkedMessage
from tests.nodes.smtp.cell import Cell
from tests.nodes.smtp.dialogue import Dialogue

Talk = Callable[..., Dialogue]


def start(client: Dialogue, *recipients: str, body: str = "8BITMIME") -> None:
    assert client.ask(f"MAIL FROM:<a@remote.test> BODY={body}").startswith("250")
    for recipient in recipients or ("bob@example.test",):
        assert client.ask(f"RCPT TO:<{recipient}>").startswith("250")


def chunk(client: Dialogue, data: bytes, last: str = "") -> str:
    client.send(b"BDAT %d%s\r\n" % (len(data), last.encode()) + data)
    return client.read()


def newest(cell: Cell, address: str = "bob@example.test") -> bytes:
    return cell.inbox(address)[-1][1]


def test_a_message_may_come_in_one_chunk(cell: Cell, talk: Talk) -> None:  # RFC 3030 4.1
    client = talk()
    start(client)
    data = b"To: Susan@random.com\r\nSubject: This is a bodyless message\r\n\r\n.dots are\r\n.\r\nnot stuffed\r\n"
    assert chunk(client, data, " LAST").startswith("250 2.0.0 Ok: queued as")
    assert newest(cell) == data


def test_a_message_may_come_in_pieces_with_an_empty_last_one(cell: Cell, talk: Talk) -> None:
    client = talk()
    start(client)
    assert chunk(client, b"Subject: pieces\r\n\r\n") == "250 2.0.0 19 octets received"
    assert chunk(client, b"one\r") == "250 2.0.0 4 octets received"
    assert chunk(client, b"\ntwo\r\n") == "250 2.0.0 6 octets received"
    assert client.ask("BDAT 0 LAST").startswith("250 2.0.0 Ok: queued as")
    assert newest(cell) == b"Subject: pieces\r\n\r\none\r\ntwo\r\n"


def test_pipelined_chunks_are_answered_in_order(cell: Cell, talk: Talk) -> None:  # RFC 3030 4.2
    client = talk()
    client.send(
        b"MAIL FROM:<a@remote.test> BODY=BINARYMIME\r\nRCPT TO:<bob@example.test>\r\nBDAT 16\r\nSubject: piped\r\n"
        b"BDAT 6\r\n\r\nRSETBDAT 8 LAST\r\n\nQUIT\r\n\nNOOP\r\n"
    )
    replies = [client.read() for _ in range(6)]
    assert [reply[:9] for reply in replies[:4]] == ["250 2.1.0", "250 2.1.5", "250 2.0.0", "250 2.0.0"]
    assert replies[4].startswith("250 2.0.0 Ok: queued as")
    assert replies[5] == "250 2.0.0 Ok"
    assert newest(cell) == b"Subject: piped\r\n\r\nRSET\nQUIT\r\n\n"


def test_every_octet_of_binarymime_is_kept(cell: Cell, talk: Talk) -> None:  # RFC 3030 3
    data = b"Subject: octets\r\n\r\n" + bytes(range(256)) * 40 + b"\n.\n\r.\r\r\n.\n"
    client = talk()
    start(client, body="BINARYMIME")
    assert chunk(client, data, " LAST").startswith("250")
    assert newest(cell) == data


@pytest.mark.parametrize("octets", [b"\nx", b"\rx", b"\n.\n", b"\0"])
def test_without_binarymime_a_chunk_holds_text_like_any_other(cell: Cell, talk: Talk, octets: bytes) -> None:
    client = talk()
    before = len(cell.inbox("bob@example.test"))
    start(client)
    assert chunk(client, b"Subject: x\r\n\r\n" + octets + b"\r\n", " LAST").startswith("550 5.6.0")
    assert len(cell.inbox("bob@example.test")) == before


def test_binarymime_can_not_go_by_data(talk: Talk) -> None:  # RFC 3030 3
    client = talk()
    start(client, body="BINARYMIME")
    assert client.ask("DATA").startswith("503 5.5.1 BODY=BINARYMIME goes by BDAT only")
    assert chunk(client, b"a: b\r\n\r\n\0", " LAST").startswith("250")


def test_after_a_chunk_only_chunks_or_rset_go_on(cell: Cell, talk: Talk) -> None:
    client = talk()
    start(client)
    before = len(cell.inbox("bob@example.test"))
    assert chunk(client, b"Subject: lost\r\n").startswith("250")
    assert client.ask("DATA").startswith("503 5.5.1")
    assert client.ask("RCPT TO:<alice@example.test>").startswith("503 5.5.1")
    assert client.ask("MAIL FROM:<>").startswith("503 5.5.1")
    assert client.ask("NOOP").startswith("250")
    assert client.ask("RSET").startswith("250")
    assert chunk(client, b"x", " LAST").startswith("503 5.5.1 Send MAIL first")
    start(client)
    assert chunk(client, b"Subject: kept\r\n\r\n", " LAST").startswith("250")
    assert newest(cell) == b"Subject: kept\r\n\r\n"
    assert len(cell.inbox("bob@example.test")) == before + 1


def test_the_octets_of_a_chunk_that_may_not_come_are_no_commands(talk: Talk) -> None:
    client = talk(greet=False)
    assert chunk(client, b"QUIT\r\n", " LAST").startswith("503 5.5.1 Send EHLO first")
    client.ask("EHLO x")
    assert chunk(client, b"QUIT\r\n").startswith("503 5.5.1 Send MAIL first")
    client.begin("nobody@example.test")
    assert chunk(client, b"QUIT\r\n", " LAST").startswith("503 5.5.1 No valid recipient")
    assert client.ask("NOOP") == "250 2.0.0 Ok"


def test_a_message_over_the_limit_is_lost_and_its_other_chunks_are_read(small_cell: Cell) -> None:
    client = Dialogue(small_cell.port("smtp"))
    client.read()
    client.ask("EHLO x")
    start(client)
    assert chunk(client, b"x" * 60_000).startswith("250")
    assert chunk(client, b"x" * 6_000).startswith("552 5.3.4")
    assert chunk(client, b"QUIT\r\n").startswith("503 5.5.1 A chunk of this message was refused")
    assert client.ask("RSET").startswith("250")
    start(client)
    assert chunk(client, b"Subject: small\r\n\r\n", " LAST").startswith("250")
    client.close()


def test_a_chunk_of_a_size_that_nobody_can_read_ends_the_connection(talk: Talk) -> None:
    for argument in ("", "x", "-1", "12 FIRST", "9" * 30):
        client = talk()
        start(client)
        assert client.ask(f"BDAT {argument}").startswith("501 5.5.4 Syntax: BDAT")
        assert client.read().startswith("421 ")
        assert client.line() == b""


def test_lmtp_answers_the_last_chunk_for_each_recipient(cell: Cell, talk: Talk) -> None:  # RFC 2033 4.2
    client = talk("lmtp")
    start(client, "alice@example.test", "bob@example.test")
    assert chunk(client, b"Subject: lmtp\r\n\r\n").startswith("250 2.0.0 17 octets")
    assert chunk(client, b"x\r\n", " LAST").startswith("250 2.0.0 Ok")
    assert client.read().startswith("250 2.0.0 Ok")
    start(client, "alice@example.test", "bob@example.test")
    assert chunk(client, b"bare\n", " LAST").startswith("550 5.6.0")
    assert client.read().startswith("550 5.6.0")
    assert client.ask("NOOP") == "250 2.0.0 Ok"


def test_what_chunks_hold_is_counted_and_let_go(cell: Cell, talk: Talk) -> None:
    listener = cell.smtp_listener("smtp")
    assert listener.held_bytes == 0
    client = talk()
    start(client)
    chunk(client, b"x" * 100_000)
    assert listener.held_bytes == 100_000
    client.ask("RSET")
    assert listener.held_bytes == 0
    start(client)
    chunk(client, b"x" * 50_000)
    client.close()
    cell.until(lambda: listener.held_bytes == 0)


def test_chunks_of_few_octets_take_no_more_memory_than_the_message() -> None:
    message = ChunkedMessage(1 << 20)
    tracemalloc.start()
    try:
        for _ in range(100_000):
            message.begin(Chunk(2, False))
            message.feed(b"ab")
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert message.held_bytes == 200_000
    assert held < 2 * message.held_bytes
    assert message.data() == b"ab" * 100_000
