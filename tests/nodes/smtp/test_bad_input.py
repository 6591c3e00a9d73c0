"""What a hostile or broken client sends: each gets its specific answer, and the node lives."""

import socket
import time
from collections.abc import Callable

import pytest

from tests.nodes.smtp.cell import Cell
from tests.nodes.smtp.dialogue import Dialogue

Talk = Callable[..., Dialogue]


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("", "500 5.5.1 Command not recognised"),
        ("FOO", "500 5.5.1 Command not recognised"),
        ("\udcff\udcfe", "500 5.5.1 Command not recognised"),
        ("EHLO", "501 5.5.4 Give a host name or address literal"),
        ("MAIL", "501 5.5.4 Bad syntax in the argument"),
        ("MAIL FROM:a@b", "501 5.5.4 Bad syntax in the argument"),
        ("MAIL FROM:<a@b@c>", "553 5.1.7 Malformed sender address"),
        ("MAIL FROM:<a@b> SIZE=99999999", "552 5.3.4 The message is over the size limit"),
        ("MAIL FROM:<a@b> HOLDFOR=9", "555 5.5.4 Parameter not recognised or not implemented"),
        ("RCPT TO:<bob@example.test>", "503 5.5.1 Send MAIL first"),
        ("DATA", "503 5.5.1 Send MAIL first"),
        ("RSET now", "501 5.5.4 This command takes no argument"),
        ("VRFY", "501 5.5.4 Bad syntax in the argument"),
        ("VRFY bob", "252 2.1.5 Not verified; send mail and its delivery will be attempted"),
        ("EXPN all", "502 5.5.1 Command not implemented"),
        ("AUTH PLAIN AGEAYg==", "502 5.5.1 Command not implemented"),
        ("LHLO client", "500 5.5.1 Command not recognised"),
        ("NOOP whatever", "250 2.0.0 Ok"),
    ],
)
def test_each_command_has_its_answer(talk: Talk, line: str, reply: str) -> None:
    client = talk()
    client.send(line.encode("utf-8", "surrogateescape") + b"\r\n")
    assert client.read() == reply
    assert client.ask("NOOP") == "250 2.0.0 Ok"


def test_every_reply_but_the_greetings_carries_an_enhanced_code(talk: Talk) -> None:
    client = talk()
    for line in ("HELP", "NOOP", "RSET", "VRFY a", "MAIL FROM:<>", "MAIL FROM:<>", "RCPT TO:<>", "DATA", "QUIT"):
        reply = client.ask(line)
        assert all(part[3:6] in (f"-{part[0]}.", f" {part[0]}.") for part in reply.splitlines()), reply


def test_commands_before_ehlo_are_out_of_order(talk: Talk) -> None:
    client = talk(greet=False)
    assert client.ask("MAIL FROM:<a@b>") == "503 5.5.1 Send EHLO first (LHLO in LMTP)"
    assert client.ask("RSET") == "250 2.0.0 Ok"


def test_a_second_sender_and_data_without_recipient_are_out_of_order(talk: Talk) -> None:
    client = talk()
    client.begin("nobody@example.test")
    assert client.ask("MAIL FROM:<b@c>") == "503 5.5.1 A sender was given already, send RSET first"
    assert client.ask("DATA") == "503 5.5.1 No valid recipient, send RCPT first"
    assert client.ask("STARTTLS") == "503 5.5.1 Not during a mail transaction"


def test_an_over_long_line_is_refused_and_the_connection_lives(talk: Talk) -> None:
    client = talk()
    for length in (12_300, 100_000, 1_000_000):
        client.send(b"NOOP " + b"x" * length + b"\r\nNOOP\r\n")
        assert client.read() == "500 5.5.2 Line too long"
        assert client.read() == "250 2.0.0 Ok"


def test_a_recipient_over_the_limit_may_come_in_another_transaction(talk: Talk) -> None:
    client = talk()
    replies = client.begin(*["bob@example.test"] * 101)
    assert replies == ["250 2.1.5 Ok"] * 100 + ["452 4.5.3 Too many recipients, send the rest in another transaction"]
    assert client.transfer(b"x\r\n").startswith("250")


@pytest.mark.parametrize("sequence", [b"\n.\n", b"\n.\r\n", b"\r.\r\n", b"\r\n.\n", b"\r\n.\r"])
def test_smuggling_is_one_refused_message_and_no_second_one(cell: Cell, talk: Talk, sequence: bytes) -> None:
    client = talk()
    client.begin("bob@example.test")
    before = len(cell.inbox("bob@example.test"))
    smuggled = b"MAIL FROM:<evil@remote.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\nevil\r\n"
    reply = client.transfer(b"Subject: x\r\n\r\nfirst" + sequence + smuggled)
    assert reply == "550 5.6.0 A lone dot stands beside a bare CR or LF: only <CR><LF>.<CR><LF> ends data"
    assert client.ask("NOOP") == "250 2.0.0 Ok"
    assert len(cell.inbox("bob@example.test")) == before


def test_a_mail_loop_is_refused(talk: Talk) -> None:
    client = talk()
    client.begin("bob@example.test")
    assert (
        client.transfer(b"Received: x\r\n" * 101 + b"\r\nx\r\n")
        == "554 5.4.6 Too many Received lines: this is a mail loop"
    )
    client.begin("bob@example.test")
    assert client.transfer(b"Received: x\r\n" * 100 + b"\r\nx\r\n").startswith("250")


def test_a_message_over_the_limit_is_read_to_its_end_and_refused(small_cell: Cell) -> None:
    client = Dialogue(small_cell.port("smtp"))
    client.read()
    client.ask("EHLO x")
    client.begin("bob@example.test")
    reply = client.transfer(b"MAIL FROM:<evil@remote.test>\r\n" * 100_000)
    assert reply == "552 5.3.4 The message is over the size limit"
    client.begin("bob@example.test")
    assert client.transfer(b"small\r\n").startswith("250 2.0.0")
    client.close()


def test_too_many_errors_end_the_connection(small_cell: Cell) -> None:
    client = Dialogue(small_cell.port("smtp"))
    client.read()
    assert [client.ask("FOO")[:9] for _ in range(3)] == ["500 5.5.1"] * 3
    assert client.read() == "421 4.7.0 Too many errors, closing the connection"
    assert client.line() == b""


def test_a_silent_client_is_told_and_closed(small_cell: Cell) -> None:
    client = Dialogue(small_cell.port("smtp"))
    client.read()
    client.ask("EHLO x")
    started_s = time.monotonic()
    assert client.read() == "421 4.4.2 No command came in time, closing the connection"
    assert 0.4 < time.monotonic() - started_s < 3
    assert client.line() == b""


def test_one_connection_too_many_from_an_address_is_refused(small_cell: Cell) -> None:
    clients = [Dialogue(small_cell.port("smtp")) for _ in range(5)]
    greetings = [client.read()[:9] for client in clients]
    assert greetings == ["220 mx.ex"] * 4 + ["421 4.7.0"]
    for client in clients:
        client.close()
    time.sleep(0.2)
    again = Dialogue(small_cell.port("smtp"))
    assert again.read().startswith("220 ")
    again.close()


def test_a_browser_is_shown_the_door(talk: Talk) -> None:
    client = talk(greet=False)
    client.send(b"POST / HTTP/1.1\r\nHost: mx\r\n\r\nMAIL FROM:<a@b>\r\n")
    assert client.read() == "421 4.7.0 This is not HTTP, closing the connection"
    assert client.line() == b""


def test_a_client_that_vanishes_in_the_middle_of_its_message_leaves_nothing(cell: Cell, talk: Talk) -> None:
    before = len(cell.inbox("bob@example.test"))
    client = talk()
    client.begin("bob@example.test")
    client.ask("DATA")
    client.send(b"half a mess")
    client.close()
    other = talk()
    assert other.ask("NOOP") == "250 2.0.0 Ok"
    assert len(cell.inbox("bob@example.test")) == before


def test_a_client_that_half_closes_after_its_last_command_is_still_answered(cell: Cell) -> None:
    with socket.create_connection(("127.0.0.1", cell.port("smtp")), 10) as client:
        client.sendall(
            b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\nSubject: last\r\n\r\nx\r\n.\r\n"
        )
        client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert b"250 2.0.0 Ok: queued as" in answer
    assert cell.inbox("bob@example.test")[-1][1].startswith(b"Subject: last")


def test_a_client_that_never_reads_its_replies_is_not_buffered_for(cell: Cell, talk: Talk) -> None:
    with socket.create_connection(("127.0.0.1", cell.port("smtp")), 10) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(1.0)
        with pytest.raises(TimeoutError):
            client.sendall(b"HELP\r\n" * 5_000_000)
    assert talk().ask("NOOP") == "250 2.0.0 Ok"
