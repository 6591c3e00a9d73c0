"""Mail from other servers, on a real node: what is taken, what it becomes, what is refused."""

import re
import smtplib
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.nodes.smtp.cell import ADMIN, Cell
from tests.nodes.smtp.dialogue import Dialogue

Talk = Callable[..., Dialogue]
MESSAGE = b"From: sender@remote.test\r\nMessage-ID: <1@remote.test>\r\nSubject: x\r\n\r\nHello\r\n"


def test_ehlo_lists_exactly_what_is_supported(talk: Talk) -> None:
    lines = talk(greet=False).ask("EHLO client.test").splitlines()
    names = [line[4:] for line in lines]
    assert names == [
        "mx.example.test",
        "PIPELINING",
        "SIZE 52428800",
        "8BITMIME",
        "SMTPUTF8",
        "ENHANCEDSTATUSCODES",
        "CHUNKING",
        "BINARYMIME",
        "DSN",
        "LIMITS RCPTMAX=100 MAILMAX=10000",
        "DELIVERBY",
        "STARTTLS",
        "HELP",
    ]


def test_the_body_is_kept_byte_for_byte_and_the_trace_stands_beside_it(cell: Cell, talk: Talk) -> None:
    body = b"Subject: exact\r\n\r\n..two dots\r\n.\xff eight bits\r\n\r\n\t\x01 kept\r\n"
    client = talk()
    assert client.begin("bob@example.test") == ["250 2.1.5 Ok"]
    reply = client.transfer(body.replace(b"\r\n.", b"\r\n.."))
    queued = re.fullmatch(r"250 2\.0\.0 Ok: queued as ([0-9a-f]{32})", reply)
    assert queued
    message, stored = cell.inbox("bob@example.test")[-1]
    assert stored == body
    assert message.id.hex() == queued[1]
    assert message.size == len(message.trace) + len(body)
    trace = message.trace.decode()
    assert trace.startswith("Return-Path: <sender@remote.test>\r\nReceived: from client.test ([127.0.0.1])\r\n\tby ")
    assert re.search(
        rf"by mx\.example\.test with ESMTP id {queued[1]}\r\n\tfor <bob@example\.test>; .* \+0000\r\n$", trace
    )


def test_helo_gives_plain_smtp_in_the_trace(cell: Cell, talk: Talk) -> None:
    client = talk(greet=False)
    assert client.ask("HELO old.test") == "250 mx.example.test"
    client.begin("bob@example.test", sender="")
    assert client.transfer(MESSAGE).startswith("250 2.0.0")
    trace = cell.inbox("bob@example.test")[-1][0].trace
    assert trace.startswith(b"Return-Path: <>\r\nReceived: from old.test")
    assert b" with SMTP id " in trace


def test_one_transaction_to_several_recipients_is_one_record_with_one_copy_each(cell: Cell, talk: Talk) -> None:
    client = talk()
    replies = client.begin("alice@example.test", "Bob@EXAMPLE.test", "info@example.test")
    assert replies == ["250 2.1.5 Ok"] * 3
    before = cell.log.status().applied
    assert client.transfer(MESSAGE).startswith("250 2.0.0")
    assert cell.log.status().applied == before + 1
    alice, bob = cell.inbox("alice@example.test")[-1], cell.inbox("bob@example.test")[-1]
    assert alice[1] == bob[1] == MESSAGE
    assert alice[0].id == bob[0].id
    assert b"\tfor <" not in alice[0].trace


@pytest.mark.parametrize(
    ("recipient", "reply"),
    [
        ("nobody@example.test", "550 5.1.1 There is no such mailbox here"),
        ('"two words"@example.test', "550 5.1.1 There is no such mailbox here"),
        ("someone@remote.test", "550 5.7.1 Relaying denied"),
        ("someone@[192.0.2.1]", "550 5.7.1 Relaying denied"),
        ("someone@example.test@remote.test", "553 5.1.3 Malformed recipient address"),
        ("someone%remote.test@example.test", "550 5.1.1 There is no such mailbox here"),
    ],
)
def test_a_recipient_that_is_not_ours_is_refused(talk: Talk, recipient: str, reply: str) -> None:
    assert talk().begin(recipient) == [reply]


def test_postmaster_is_always_there(talk: Talk) -> None:
    assert talk().begin("postmaster", "Postmaster@example.test") == ["250 2.1.5 Ok"] * 2


def test_a_refused_recipient_does_not_spoil_the_others(cell: Cell, talk: Talk) -> None:
    client = talk()
    client.begin("nobody@example.test", "bob@example.test")
    before = len(cell.inbox("bob@example.test"))
    assert client.transfer(MESSAGE).startswith("250 2.0.0")
    assert len(cell.inbox("bob@example.test")) == before + 1


def test_a_pipelined_transaction_is_answered_in_order(cell: Cell, talk: Talk) -> None:
    client = talk()
    client.send(
        b"MAIL FROM:<a@remote.test>\r\nRCPT TO:<nobody@example.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n"
        + MESSAGE
        + b".\r\nMAIL FROM:<b@remote.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n"
        + MESSAGE
        + b".\r\nQUIT\r\n"
    )
    codes = [client.read()[:9] for _ in range(10)]
    transaction = ["250 2.1.0", "250 2.1.5", "354 End d", "250 2.0.0"]
    assert codes == [transaction[0], "550 5.1.1", *transaction[1:], *transaction, "221 2.0.0"]
    assert client.line() == b""


def test_a_client_that_sends_octet_by_octet_is_understood(talk: Talk) -> None:
    client = talk()
    for octet in b"MAIL FROM:<a@remote.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n" + MESSAGE + b".\r\n":
        client.send(bytes([octet]))
    assert [client.read()[:3] for _ in range(4)] == ["250", "250", "354", "250"]


def test_many_clients_at_once_lose_nothing(cell: Cell) -> None:
    def send(number: int) -> None:
        with smtplib.SMTP("127.0.0.1", cell.port("smtp")) as client:
            for count in range(5):
                subject = f"Subject: {number}.{count}\r\n\r\nx\r\n"
                client.sendmail("load@remote.test", ["alice@example.test"], subject)

    before = len(cell.inbox("alice@example.test"))
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(send, range(16)))
    arrived = [body.splitlines()[0] for _, body in cell.inbox("alice@example.test")[before:]]
    assert sorted(arrived) == sorted(f"Subject: {n}.{c}".encode() for n in range(16) for c in range(5))


def test_a_message_larger_than_a_record_arrives_whole(cell: Cell, talk: Talk) -> None:
    body = b"Subject: large\r\n\r\n" + b"".join(b".%07d line of a large message\r\n" % n for n in range(300_000))
    client = talk()
    client.begin("bob@example.test")
    assert client.transfer(body.replace(b"\r\n.", b"\r\n..")).startswith("250 2.0.0")
    assert cell.inbox("bob@example.test")[-1][1] == body


def test_a_full_mailbox_is_refused_at_rcpt_or_after_data(cell: Cell, talk: Talk) -> None:
    cell.call(cell.directory.add_account("full@example.test", None, 3000, ADMIN))
    client = talk()
    assert client.ask("MAIL FROM:<a@remote.test> SIZE=5000").startswith("250")
    assert client.ask("RCPT TO:<full@example.test>") == "452 4.2.2 The mailbox is full"
    client.ask("RSET")
    assert client.begin("full@example.test") == ["250 2.1.5 Ok"]
    assert client.transfer(b"x" * 4000 + b"\r\n") == "452 4.2.2 The mailbox is full"
    assert cell.inbox("full@example.test") == []
    assert client.begin("full@example.test") == ["250 2.1.5 Ok"]
    assert client.transfer(b"small\r\n").startswith("250 2.0.0")


def test_an_address_that_was_deleted_is_refused_at_once(cell: Cell, talk: Talk) -> None:
    client = talk()
    for _ in range(2):
        cell.call(cell.directory.add_account("brief@example.test", None, None, ADMIN))
        for _ in range(3):
            assert client.begin("brief@example.test") == ["250 2.1.5 Ok"]
            assert client.transfer(MESSAGE).startswith("250")
        assert client.begin("brief@example.test") == ["250 2.1.5 Ok"]
        cell.call(cell.directory.delete_account("brief@example.test", ADMIN))
        assert client.transfer(MESSAGE) == "550 5.1.1 There is no such mailbox here"
        assert client.begin("brief@example.test") == ["550 5.1.1 There is no such mailbox here"]
        client.ask("RSET")


def test_a_mailbox_that_is_deleted_during_a_transaction_to_several_makes_the_client_send_again(
    cell: Cell, talk: Talk
) -> None:
    cell.call(cell.directory.add_account("gone@example.test", None, None, ADMIN))
    smtp, lmtp = talk(), talk("lmtp")
    for client in (smtp, lmtp):
        assert client.begin("gone@example.test", "bob@example.test") == ["250 2.1.5 Ok"] * 2
    cell.call(cell.directory.delete_account("gone@example.test", ADMIN))
    assert smtp.transfer(MESSAGE) == "451 4.2.1 A mailbox has just been closed, send the message again"
    assert lmtp.transfer(MESSAGE) == "550 5.1.1 There is no such mailbox here"
    assert lmtp.read().startswith("250 2.0.0")


def test_a_quota_that_is_set_later_counts_at_once(cell: Cell, talk: Talk) -> None:
    cell.call(cell.directory.add_account("later@example.test", None, None, ADMIN))
    client = talk()
    for _ in range(3):
        client.begin("later@example.test")
        assert client.transfer(MESSAGE).startswith("250")
    cell.call(cell.directory.set_quota("later@example.test", 10, ADMIN))
    assert client.begin("later@example.test") == ["452 4.2.2 The mailbox is full"]


def test_swaks_delivers_over_starttls(cell: Cell) -> None:
    server = f"127.0.0.1:{cell.port('smtp')}"
    done = subprocess.run(
        [
            "swaks",
            "--server",
            server,
            "--tls",
            "-f",
            "a@remote.test",
            "-t",
            "bob@example.test",
            "-h-Subject",
            "from swaks",
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    message, body = cell.inbox("bob@example.test")[-1]
    assert b"Subject: from swaks" in body
    assert b" with ESMTPS id " in message.trace
