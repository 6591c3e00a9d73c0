"""Checks that are asked before mail is taken: at the connection, for each recipient, at the message."""

from __future__ import annotations

import asyncio
import smtplib
from collections.abc import Iterator

import pytest

from actors.directory import account_of
from actors.mailbox import folder_by_name, messages
from nodes.smtp.checks import Check, Checks, Incoming, by_step
from nodes.smtp.replies import Refused, reply
from nodes.smtp.session import Envelope, Session
from tests.nodes.smtp.cell import Cell
from tests.nodes.smtp.dialogue import Dialogue


class Judge(Check):
    """Judges by what stands in the names: it keeps clients waiting before it says so."""

    def __init__(self) -> None:
        self.closed = False
        self.seen: list[tuple[str, bool]] = []
        self.gone: list[str] = []

    async def connected(self, session: Session) -> None:
        session.notes["judge"] = session.client
        await asyncio.sleep(0.01)
        if self.closed:
            raise Refused(reply(554, "5.7.1", "Closed today"))

    async def recipient(self, session: Session, envelope: Envelope, address: str, local: bool) -> None:
        self.seen.append((address, local))
        await asyncio.sleep(0.02 if address.startswith("alice") else 0.0)
        if address.startswith("bob"):
            raise Refused(reply(450, "4.7.1", "Greylisted"))

    async def message(self, session: Session, envelope: Envelope, incoming: Incoming) -> None:
        if b"virus" in incoming.data:
            raise Refused(reply(554, "5.7.1", "Infected"))
        if b"broken" in incoming.data:
            raise RuntimeError("the check itself fails")
        if b"spam" in incoming.data:
            incoming.folder = "Junk"
        incoming.lines.insert(0, b"X-Judged: " + (incoming.facts.message_id or "none").encode() + b"\r\n")

    def disconnected(self, session: Session) -> None:
        self.gone.append(session.notes["judge"])


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge()


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, judge: Judge) -> Iterator[Cell]:
    with Cell(tmp_path_factory.mktemp("judged"), checks=(judge, Check())) as started:
        yield started


@pytest.fixture
def client(judged: Cell) -> Iterator[Dialogue]:
    dialogue = Dialogue(judged.port("smtp"))
    assert dialogue.read().startswith("220 ")
    dialogue.ask("EHLO client.test")
    yield dialogue
    dialogue.close()


def test_only_checks_that_look_at_a_step_are_asked_there(judge: Judge) -> None:
    steps = by_step((Check(), judge))
    assert steps.recipient == steps.message == steps.connected == steps.disconnected == (judge,)
    assert by_step((Check(),)) == Checks((), (), (), (), (), (), (), ())


def test_a_check_that_heeds_no_strangers_is_asked_of_the_commands_of_those_alone_who_have_logged_in() -> None:
    class OfAccounts(Check):
        heeds_strangers = False

        def command(self, session: Session) -> None:
            raise NotImplementedError

    check = OfAccounts()
    steps = by_step((check,))
    assert (steps.command, steps.strangers_command) == ((check,), ())


def test_a_client_that_a_check_refuses_gets_its_reply_instead_of_the_greeting(judged: Cell, judge: Judge) -> None:
    judge.closed = True
    try:
        client = Dialogue(judged.port("smtp"))
        assert client.read() == "554 5.7.1 Closed today"
        assert client.line() == b""
    finally:
        judge.closed = False


def test_commands_that_come_before_the_greeting_wait_for_it(judged: Cell) -> None:
    client = Dialogue(judged.port("smtp"))
    client.send(b"EHLO early.test\r\nNOOP\r\n")
    assert client.read().startswith("220 ")
    assert client.read().startswith("250-mx.example.test")
    assert client.read() == "250 2.0.0 Ok"
    client.close()


def test_replies_to_pipelined_recipients_come_in_their_order_however_long_each_waits(client: Dialogue) -> None:
    client.send(
        b"MAIL FROM:<a@remote.test>\r\nRCPT TO:<alice@example.test>\r\nRCPT TO:<bob@example.test>\r\n"
        b"RCPT TO:<nobody@example.test>\r\nRCPT TO:<info@example.test>\r\nDATA\r\n"
    )
    codes = [client.read()[:9] for _ in range(6)]
    assert codes == ["250 2.1.0", "250 2.1.5", "450 4.7.1", "550 5.1.1", "250 2.1.5", "354 End d"]
    client.send(b"Subject: x\r\n\r\nx\r\n.\r\n")
    assert client.read().startswith("250 2.0.0")


def test_a_recipient_check_is_told_whether_the_address_is_ours(judged: Cell, judge: Judge) -> None:
    judge.seen.clear()
    with smtplib.SMTP("127.0.0.1", judged.port("submission")) as submitter:
        submitter.login("alice@example.test", "secret of alice")
        submitter.sendmail("alice@example.test", ["alice@example.test", "x@remote.test"], b"Subject: x\r\n\r\nx\r\n")
    assert judge.seen == [("alice@example.test", True), ("x@remote.test", False)]


def test_a_message_check_chooses_the_folder_and_puts_lines_in_front(judged: Cell, client: Dialogue) -> None:
    client.begin("alice@example.test")
    assert client.transfer(b"Message-ID: <1@x>\r\nSubject: spam\r\n\r\nx\r\n").startswith("250")
    with judged.log.snapshot() as snapshot:
        view = snapshot.view(account_of(snapshot, "alice@example.test").account)
        junk = folder_by_name(view, "Junk")
        assert junk is not None
        trace = list(messages(view, junk.id))[-1].trace
    assert trace.startswith(b"Return-Path: <sender@remote.test>\r\nX-Judged: <1@x>\r\nReceived: from client.test")


@pytest.mark.parametrize(("word", "answer"), [("virus", "554 5.7.1 Infected"), ("broken", "451 4.3.0 Internal error")])
def test_a_message_that_a_check_refuses_or_can_not_judge_is_not_delivered(
    judged: Cell, client: Dialogue, word: str, answer: str
) -> None:
    before = len(judged.inbox("alice@example.test"))
    client.begin("alice@example.test")
    assert client.transfer(f"Subject: {word}\r\n\r\nx\r\n".encode()).startswith(answer)
    assert len(judged.inbox("alice@example.test")) == before
    assert client.ask("NOOP") == "250 2.0.0 Ok"


def test_lmtp_answers_for_each_recipient_when_a_check_fails(judged: Cell) -> None:
    client = Dialogue(judged.port("lmtp"))
    client.read()
    client.ask("LHLO client.test")
    client.begin("alice@example.test", "info@example.test")
    assert client.transfer(b"Subject: broken\r\n\r\nx\r\n").startswith("451 4.3.0")
    assert client.read().startswith("451 4.3.0")
    assert client.ask("NOOP") == "250 2.0.0 Ok"
    client.close()


def test_notes_of_a_client_outlive_starttls_and_end_with_the_connection(judged: Cell, judge: Judge) -> None:
    judge.gone.clear()
    with smtplib.SMTP("127.0.0.1", judged.port("smtp")) as client:
        client.starttls()
        client.ehlo("x.test")
    for _ in range(500):
        if judge.gone:
            break
        judged.call(asyncio.sleep(0.01))
    assert judge.gone == ["127.0.0.1"]
