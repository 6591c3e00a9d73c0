"""LMTP (RFC 2033): one reply after DATA for each recipient that was accepted."""

import smtplib
from collections.abc import Callable

from tests.nodes.smtp.cell import ADMIN, Cell
from tests.nodes.smtp.dialogue import Dialogue

Talk = Callable[..., Dialogue]


def test_the_greeting_is_lhlo_and_nothing_else(talk: Talk) -> None:
    client = talk("lmtp", greet=False)
    assert client.ask("EHLO x") == "500 5.5.1 Command not recognised"
    assert client.ask("HELO x") == "500 5.5.1 Command not recognised"
    assert "PIPELINING" in client.ask("LHLO x")


def test_each_accepted_recipient_has_its_reply(cell: Cell, talk: Talk) -> None:
    client = talk("lmtp")
    replies = client.begin("alice@example.test", "nobody@example.test", "info@example.test")
    assert [reply[:9] for reply in replies] == ["250 2.1.5", "550 5.1.1", "250 2.1.5"]
    first = client.transfer(b"Subject: x\r\n\r\nx\r\n")
    assert first.startswith("250 2.0.0")
    assert client.read() == first
    assert client.ask("NOOP") == "250 2.0.0 Ok"
    trace = cell.inbox("alice@example.test")[-1][0].trace
    assert b" with LMTP id " in trace
    assert trace.startswith(b"Return-Path: <sender@remote.test>\r\n")


def test_a_full_mailbox_among_several_recipients_refuses_only_its_own_copy(cell: Cell, talk: Talk) -> None:
    cell.call(cell.directory.add_account("tiny@example.test", None, 1000, ADMIN))
    client = talk("lmtp")
    client.begin("alice@example.test", "tiny@example.test", "bob@example.test")
    before = len(cell.inbox("alice@example.test"))
    replies = [client.transfer(b"x" * 2000 + b"\r\n"), client.read(), client.read()]
    assert [reply[:9] for reply in replies] == ["250 2.0.0", "452 4.2.2", "250 2.0.0"]
    assert len(cell.inbox("alice@example.test")) == before + 1
    assert cell.inbox("tiny@example.test") == []


def test_a_refused_message_is_refused_once_for_each_recipient(talk: Talk) -> None:
    client = talk("lmtp")
    client.begin("alice@example.test", "bob@example.test")
    assert client.transfer(b"x\n.\n\r\n").startswith("550 5.6.0")
    assert client.read().startswith("550 5.6.0")
    assert client.ask("NOOP") == "250 2.0.0 Ok"


def test_mail_for_elsewhere_is_refused(talk: Talk) -> None:
    assert talk("lmtp").begin("a@remote.test") == ["550 5.7.1 Relaying denied"]


def test_smtplib_delivers(cell: Cell) -> None:
    with smtplib.LMTP("127.0.0.1", cell.port("lmtp")) as client:
        assert client.sendmail("a@remote.test", ["bob@example.test"], b"Subject: lmtp\r\n\r\nx\r\n") == {}
    assert cell.inbox("bob@example.test")[-1][1] == b"Subject: lmtp\r\n\r\nx\r\n"
