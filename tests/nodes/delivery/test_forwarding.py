"""Aliases that lead out of the cell: forwarded from an address of ours; what is returned there reaches the sender."""

from __future__ import annotations

import email
import smtplib
from collections.abc import Iterator

import dkim
import pytest

from actors.directory import resolve
from eventlog.record import digest_of
from nodes.dkim_admin import DkimAdmin
from nodes.dkim_keys import record_name, record_value
from nodes.smtp.checks import Incoming
from nodes.smtp.forwarding import check_author, forwarded
from nodes.smtp.replies import Refused
from nodes.smtp.session import Envelope
from tests.nodes.delivery.cell import ALICE, SendingCell, wait_until
from tests.nodes.smtp.cell import ADMIN

STRANGER, FRIEND = "stranger@elsewhere.test", "friend@far.test"
MAIL = b"From: stranger@elsewhere.test\r\nSubject: hello\r\n\r\nHello\r\n"


@pytest.fixture
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SendingCell]:
    with SendingCell(tmp_path_factory.mktemp("forwarding")) as started:
        started.call(started.directory.add_alias("team@example.test", [ALICE, FRIEND], ADMIN))
        yield started


def send(cell: SendingCell, sender: str, recipient: str, data: bytes = MAIL) -> None:
    with smtplib.SMTP("127.0.0.1", cell.port("smtp")) as client:
        client.sendmail(sender, [recipient], data)


def test_an_alias_leads_to_a_mailbox_here_and_to_an_address_elsewhere(cell: SendingCell) -> None:
    send(cell, STRANGER, "team@example.test")
    wait_until(lambda: cell.peer.received)
    (mail,) = cell.peer.received
    assert mail.recipients == (FRIEND,)
    assert mail.sender.startswith("SRS0=")
    assert mail.sender.endswith("=elsewhere.test=stranger@example.test")
    assert mail.data.startswith(b"Delivered-To: team@example.test\r\nReceived: ")
    assert mail.data.endswith(MAIL)
    assert [data for _, data in cell.inbox(ALICE)] == [MAIL]


def test_what_is_returned_to_the_address_that_we_made_goes_to_the_sender(cell: SendingCell) -> None:
    send(cell, STRANGER, "team@example.test")
    wait_until(lambda: cell.peer.received)
    send(cell, "", cell.peer.received[0].sender, b"Subject: it came back\r\n\r\n")
    wait_until(lambda: len(cell.peer.received) == 2)
    returned = cell.peer.received[1]
    assert (returned.sender, returned.recipients) == ("", (STRANGER,))


def test_a_catch_all_takes_nothing_of_what_comes_back(cell: SendingCell) -> None:
    cell.call(cell.directory.add_alias("*@example.test", ["bob@example.test"], ADMIN))
    send(cell, STRANGER, "team@example.test")
    wait_until(lambda: cell.peer.received)
    send(cell, "", cell.peer.received[0].sender, b"Subject: it came back\r\n\r\n")
    wait_until(lambda: len(cell.peer.received) == 2)
    assert cell.peer.received[1].recipients == (STRANGER,)
    cell.peer.reply = lambda address: "550 5.1.1 no such user" if address == FRIEND else "250 ok"
    send(cell, STRANGER, "team@example.test", b"Subject: can not be forwarded\r\n\r\n")
    wait_until(lambda: len(cell.peer.received) == 3)  # nor of our own report on it
    assert cell.peer.received[2].recipients == (STRANGER,)
    assert cell.inbox("bob@example.test") == []


def test_what_can_not_be_forwarded_is_reported_to_the_sender_elsewhere(cell: SendingCell) -> None:
    cell.peer.reply = lambda address: "550 5.1.1 no such user" if address == FRIEND else "250 ok"
    send(cell, STRANGER, "team@example.test")
    wait_until(lambda: cell.peer.received)
    (report,) = cell.peer.received
    assert (report.sender, report.recipients) == ("", (STRANGER,))
    assert email.message_from_bytes(report.data).get_content_type() == "multipart/report"
    wait_until(lambda: not cell.waiting())


def test_a_local_part_that_must_be_quoted_is_quoted_on_its_way_out_and_back(cell: SendingCell) -> None:
    cell.call(cell.directory.add_alias("club@example.test", ['"the club"@far.test'], ADMIN))
    send(cell, '"a stranger"@elsewhere.test', "club@example.test")
    wait_until(lambda: cell.peer.received)
    (mail,) = cell.peer.received
    assert mail.recipients == ('"the club"@far.test',)
    assert mail.sender.startswith('"SRS0=')
    send(cell, "", mail.sender, b"Subject: it came back\r\n\r\n")
    wait_until(lambda: len(cell.peer.received) == 2)
    assert cell.peer.received[1].recipients == ('"a stranger"@elsewhere.test',)


def test_an_address_that_we_did_not_make_is_nobodys(cell: SendingCell) -> None:
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        send(cell, "", "SRS0=aaaaaaaa=aa=elsewhere.test=stranger@example.test")


def test_mail_of_our_own_users_is_forwarded_as_theirs(cell: SendingCell) -> None:
    cell.submit("team@example.test")
    wait_until(lambda: cell.peer.received)
    assert cell.peer.received[0].sender == ALICE


def test_mail_that_comes_round_again_is_refused(cell: SendingCell) -> None:
    with pytest.raises(smtplib.SMTPDataError) as refused:
        send(cell, STRANGER, "team@example.test", b"Delivered-To: Team@example.test\r\n" + MAIL)
    assert refused.value.smtp_code == 554
    assert not cell.waiting()


def test_mail_that_was_judged_is_sealed_by_the_domain_that_forwards_it(cell: SendingCell) -> None:
    """A message as the checks leave it: dkimpy, which knows nothing of ours, verifies the chain."""
    cell.call(DkimAdmin(cell.services).generate("example.test", ADMIN, active=True))
    known = {
        record_name("example.test", key.selector).encode(): record_value(key.algorithm, key.public).encode()
        for key in DkimAdmin(cell.services).keys("example.test")
    }
    results = b"Authentication-Results: mx.example.test; spf=pass smtp.mailfrom=elsewhere.test\r\n"
    incoming = Incoming(MAIL, [results, b"Received: from x\r\n"], b"m" * 16, 1_790_000_000.0)
    incoming.verdicts["arc"] = {"result": "none", "sealers": []}
    envelope = Envelope()
    with cell.log.snapshot() as snapshot:
        targets = resolve(snapshot, "team@example.test") or []
    envelope.mail_from = STRANGER
    envelope.accept("team@example.test", targets)
    (item,) = cell.call(forwarded(cell.services, envelope, incoming, digest_of(MAIL)))
    assert item.trace.startswith(b"ARC-Seal: i=1; cv=none;")
    assert b"spf=pass smtp.mailfrom=elsewhere.test" in item.trace.partition(b"Delivered-To:")[0]
    chain, _, reason = dkim.arc_verify(item.trace + MAIL, dnsfunc=lambda name, timeout=5: known[name])
    assert (chain, reason) == (b"pass", "success")


@pytest.mark.parametrize(
    ("folder", "verdict", "forwards"),
    [
        ("INBOX", None, True),
        ("INBOX", {"result": "pass", "domain": "example.test", "sealer": ""}, True),
        ("INBOX", {"result": "fail", "domain": "elsewhere.test", "sealer": ""}, True),
        ("INBOX", {"result": "fail", "domain": "example.test", "sealer": "lists.test"}, True),
        ("INBOX", {"result": "fail", "domain": "example.test", "sealer": ""}, False),
        ("Junk", {"result": "fail", "domain": "elsewhere.test", "sealer": ""}, False),
    ],
    ids=["not judged", "proved", "another's", "vouched for", "a forgery of ours", "quarantined"],
)
def test_what_dmarc_refutes_does_not_become_ours_by_forwarding(
    cell: SendingCell, folder: str, verdict: dict[str, str] | None, forwards: bool
) -> None:
    incoming = Incoming(MAIL, [], bytes(16), 0.0)
    incoming.folder = folder
    if verdict is not None:
        incoming.verdicts["dmarc"] = verdict
    if forwards:
        check_author(cell.services, incoming, ())
    else:
        with pytest.raises(Refused, match=r"5\.7\.1"):
            check_author(cell.services, incoming, ())
