"""Whom a logged-in client may speak for, by smtplib: itself, who lets it send as them, and on whose behalf."""

import smtplib
from collections.abc import Iterator

import pytest

from actors.errors import NoSuchAccount
from actors.tenant_policy import SetMailPolicy
from eventlog.record import Record
from tests.nodes.smtp.cell import ADMIN, Cell

ALICE, BOB, EVE, INFO = "alice@example.test", "bob@example.test", "eve@other.test", "info@example.test"
BOSS, SALES = "boss@example.test", "sales@example.test"


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    """Beside alice and bob their boss, who is sales@, too, and another tenant."""
    with Cell(tmp_path_factory.mktemp("office")) as cell:
        cell.call(cell.directory.add_account(BOSS, "secret of boss", None, ADMIN))
        cell.call(cell.directory.add_alias(SALES, [BOSS], ADMIN))
        cell.call(cell.directory.add_tenant("other", ["other.test"], ADMIN))
        cell.call(cell.directory.add_account(EVE, "secret of eve", None, ADMIN))
        yield cell


@pytest.fixture
def cell(office: Cell) -> Iterator[Cell]:
    yield office
    for whom in (ALICE, BOB):
        let(office, whom, "")


def let(cell: Cell, whom: str, how: str) -> None:
    cell.call(cell.directory.sharing.let_send(BOSS, whom, how, ADMIN))


def send(cell: Cell, header: str, *, mail_from: str = ALICE, login: str = ALICE) -> bytes:
    """Submits a message to bob; gives what was put in front of it, without Received and Return-Path."""
    with smtplib.SMTP("127.0.0.1", cell.port("submission")) as client:
        client.login(login, f"secret of {login.partition('@')[0]}")
        client.sendmail(mail_from, [BOB], f"{header}\r\nDate: x\r\nMessage-ID: <x>\r\n\r\ntext\r\n".encode())
    message, body = cell.inbox(BOB)[-1]
    assert body.startswith(header.encode())
    return b"".join(line for line in message.trace.splitlines(True) if line.startswith((b"Sender", b"From")))


def why_not(cell: Cell, header: str, *, mail_from: str = ALICE) -> str:
    """The refusal, of MAIL FROM or of the message."""
    before = len(cell.inbox(BOB))
    with pytest.raises((smtplib.SMTPSenderRefused, smtplib.SMTPDataError)) as refused:
        send(cell, header, mail_from=mail_from)
    assert len(cell.inbox(BOB)) == before
    why = refused.value.smtp_error
    return f"{refused.value.smtp_code} {why if isinstance(why, str) else why.decode()}"


def test_nobody_sends_as_a_colleague_who_did_not_allow_it(cell: Cell) -> None:
    assert why_not(cell, f"From: {ALICE}", mail_from=BOSS) == (
        "553 5.7.1 This sender address does not belong to your account"
    )
    told = f"has {BOSS}: it is not yours, and nobody let you send as it"
    assert why_not(cell, f"From: The Boss <{BOSS}>") == f"550 5.7.1 From {told}"
    assert why_not(cell, f"From: {ALICE}\r\nSender: {BOSS}") == f"550 5.7.1 Sender {told}"
    assert why_not(cell, f"From: {ALICE}\r\nResent-From: {BOSS}") == f"550 5.7.1 Resent-From {told}"


@pytest.mark.parametrize(
    "author",
    [
        "BOSS@Example.Test",
        '"boss"@example.test',
        "boss+x@example.test",
        f"{ALICE}, {BOSS}",
        f"all of us: {BOSS};",
        f"a (comment) <{BOSS}>",
        f"\r\n <{BOSS}>",
        f"{ALICE}\r\nFrom: {BOSS}",
        f"{ALICE}\r\nFROM : {BOSS}",
        SALES,
    ],
)
def test_however_the_author_is_written(cell: Cell, author: str) -> None:
    assert why_not(cell, f"From: {author}").startswith("550 5.7.1 From has ")


def test_who_may_send_as_another_is_not_told_from_them(cell: Cell) -> None:
    let(cell, ALICE, "send-as")
    assert send(cell, f"From: {BOSS}", mail_from=BOSS) == b""
    assert send(cell, f"From: {SALES}") == b""  # whatever leads to the boss
    assert send(cell, "Subject: none", mail_from=BOSS) == f"From: <{BOSS}>\r\n".encode()
    assert send(cell, f"From: {ALICE}\r\nSender: {BOSS}") == b""


def test_who_sends_on_behalf_of_another_stands_in_sender(cell: Cell) -> None:
    let(cell, ALICE, "on-behalf")
    line = f"Sender: <{ALICE}>\r\n".encode()
    assert send(cell, f"From: {BOSS}", mail_from=BOSS) == line
    assert send(cell, "Subject: none", mail_from=BOSS) == line + f"From: <{BOSS}>\r\n".encode()
    assert send(cell, f"From: {BOSS}\r\nSender: {ALICE}") == b""
    assert why_not(cell, f"From: {BOSS}\r\nSender: {BOSS}").startswith("550 5.7.1 Sender has")
    assert why_not(cell, f"From: {BOSS}\r\nSender: x@far.test").startswith("550 5.7.1 Sender has")


def test_the_log_says_who_sent_and_who_let_them(cell: Cell) -> None:
    let(cell, ALICE, "send-as")
    with cell.log.snapshot() as snapshot:
        position = snapshot.last_stream_position(cell.directory.account(ALICE).tenant, snapshot.position)
    granted = record(cell, position or 0)
    assert (granted.by.kind, [event.type for event in granted.events]) == ("admin", ["SendingGranted"])
    send(cell, f"From: {BOSS}", mail_from=BOSS)
    with cell.log.snapshot() as snapshot:
        position = snapshot.last_stream_position(cell.directory.account(BOB).account, snapshot.position)
    sent = record(cell, position or 0)
    assert (sent.by.kind, sent.by.id) == ("account", cell.directory.account(ALICE).account)


def record(cell: Cell, position: int) -> Record:
    with cell.log.snapshot() as snapshot:
        stored = snapshot.record(position)
    assert stored is not None
    assert stored.record is not None
    return stored.record


def test_a_right_that_is_taken_away_is_gone_for_the_message_that_is_under_way(cell: Cell) -> None:
    let(cell, ALICE, "send-as")
    with smtplib.SMTP("127.0.0.1", cell.port("submission")) as client:
        client.login(ALICE, "secret of alice")
        client.ehlo()
        client.mail(BOSS)
        client.rcpt(BOB)
        let(cell, ALICE, "")
        assert client.data(f"From: {BOSS}\r\n\r\n".encode())[0] == 550
        assert client.mail(BOSS)[0] == 553


def test_a_member_of_a_group_that_may_send(cell: Cell) -> None:
    cell.call(cell.directory.tenants.add_group("staff@example.test", [ALICE], ADMIN))
    let(cell, "group:staff", "on-behalf")
    assert send(cell, f"From: {BOSS}") == f"Sender: <{ALICE}>\r\n".encode()
    cell.call(cell.directory.tenants.remove_group("staff@example.test", ADMIN))
    assert why_not(cell, f"From: {BOSS}").startswith("550")


def test_nothing_is_granted_across_tenants(cell: Cell) -> None:
    answers = []
    for whom in (EVE, "nobody@other.test"):
        with pytest.raises(NoSuchAccount) as refused:
            let(cell, whom, "send-as")
        answers.append(str(refused.value).replace(whom, "NAME"))
    assert answers[0] == answers[1]
    told = [why_not(cell, f"From: {who}").replace(who, "NAME") for who in (EVE, "nobody@other.test", BOSS)]
    assert told[0] == told[1] == told[2]


def test_an_author_elsewhere_stands_beside_who_sent_unless_the_tenant_refuses_that(cell: Cell) -> None:
    line = f"Sender: <{ALICE}>\r\n".encode()
    assert send(cell, "From: friend@far.test") == line
    assert send(cell, f"From: {ALICE}, friend@far.test") == line  # RFC 5322 3.6.2: several authors have a Sender
    assert send(cell, "From: root") == line
    again = f"From: list@far.test\r\nSender: owner@far.test\r\nResent-From: {ALICE}"
    assert send(cell, again) == b""
    tenant = cell.directory.account(ALICE).tenant
    set_policy(cell, tenant, "refuse")
    try:
        assert why_not(cell, "From: friend@far.test") == (
            "550 5.7.1 From names an address elsewhere, which your organisation does not allow"
        )
    finally:
        set_policy(cell, tenant, "send")


def set_policy(cell: Cell, tenant: bytes, value: str) -> None:
    command = SetMailPolicy((("authors_elsewhere", value),))
    cell.call(cell.runtime.ask(tenant, command, ADMIN._replace(tenant=tenant)))


def test_more_addresses_than_anybody_has_are_refused(cell: Cell) -> None:
    many = ", ".join(f"a{number}@far.test" for number in range(51))
    assert why_not(cell, f"From: {many}").startswith("550 5.6.0")
    assert why_not(cell, f"From: {'x' * 900} <{ALICE}>\r\n" + f"Sender: {many}").startswith("550 5.6.0")


def test_mail_of_other_servers_may_have_any_author(cell: Cell) -> None:
    with smtplib.SMTP("127.0.0.1", cell.port("smtp")) as client:
        client.sendmail("x@far.test", [BOB], f"From: {BOSS}\r\n\r\n")
    assert cell.inbox(BOB)[-1][1] == f"From: {BOSS}\r\n\r\n".encode()  # what is forged is for DMARC to say
