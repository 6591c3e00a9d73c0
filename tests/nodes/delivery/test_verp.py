"""VERP: each recipient's mail from an address of its own; what comes back there reaches the sender and is counted."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import directory
from actors.names import MAX_LOCAL_BYTES, normalise_address, written
from actors.queue import queue_stream, returned
from actors.tenant_policy import SetMailPolicy
from eventlog.record import new_id
from nodes.delivery.transport import MailTransport
from nodes.delivery.verp import ITEM_BYTES, Returned, Verp
from nodes.smtp.grammar import parse_mail, parse_rcpt
from nodes.smtp.parameters import Moment
from nodes.smtp.returned import is_failure
from tests.nodes.delivery.cell import ALICE, SendingCell, wait_until
from tests.nodes.delivery.outbound import attempt, config, on_loop
from tests.nodes.smtp.cell import ADMIN
from tests.peers.dns_server import DnsServer
from tests.peers.smtp_peer import SmtpPeer

VERP = Verp(b"k" * 32)
BOUNCE = b"Content-Type: multipart/report\r\n\r\nAction: failed\r\n"
LOCAL = st.text('abcXYZ.+-=_019 "\\@', min_size=1, max_size=12)


@settings(deadline=None)
@given(LOCAL, LOCAL)
def test_an_address_says_what_went_into_it_and_is_one(sender: str, user: str) -> None:
    item, one = new_id(), written(f"{user}@far.test")
    made = VERP.sender_for(written(f"{sender}@o.test"), one, item, "far.test")
    parse_mail(f"FROM:<{made}>".encode(), frozenset(), Moment())
    parse_rcpt(f"TO:<{made}>".encode(), frozenset())
    found = VERP.read(made)
    if found is not None:
        assert found == Returned(written(f"{sender}@o.test"), one, item[:ITEM_BYTES], "far.test")
        assert len(made.rpartition("@")[0].encode()) <= MAX_LOCAL_BYTES + 20  # quoting does not count
        assert VERP.read(made.upper()) is not None
    else:
        assert made == written(f"{sender}@o.test")


def test_nobody_else_makes_one_and_what_would_be_too_long_is_none() -> None:
    made = VERP.sender_for(ALICE, "bob@far.test", new_id(), "far.test")
    assert VERP.read(made) is not None
    assert Verp(b"o" * 32).read(made) is None
    assert VERP.read(made.replace("bob", "eve")) is None
    assert VERP.read(made.replace("example.test", "other.test")) is None
    assert VERP.read(ALICE) is None
    assert VERP.sender_for(ALICE, f"{'b' * 40}@far.test", new_id(), "far.test") == ALICE
    assert VERP.sender_for("", "bob@far.test", new_id(), "far.test") == ""


@pytest.mark.parametrize(
    ("report", "failure"),
    [
        (BOUNCE, True),
        (b"Subject: no such user\r\n\r\nI am no program\r\n", True),
        (b"\r\nAction: delayed\r\n", False),
        (b"\r\naction:  Delivered\r\n", False),
        (b"\r\nAction: delayed\r\n\r\nAction: failed\r\n", True),
    ],
)
def test_what_is_late_or_arrived_has_not_failed(report: bytes, failure: bool) -> None:
    assert is_failure(report) is failure


def test_each_recipient_has_a_transaction_of_its_own_over_one_connection() -> None:
    with DnsServer("example.test. MX 10 mx.example.test.\nmx.example.test. A 127.0.0.1") as dns, SmtpPeer() as peer:
        one = attempt("a@example.test", "b@example.test", sender_for=lambda recipient: f"for-{recipient}")

        async def send(transport: MailTransport) -> None:
            result = await transport.send(one)
            assert [outcome.status for outcome in result.outcomes] == ["delivered"] * 2

        on_loop(send, config(dns.address, port=peer.port))
        assert [line.partition(" SIZE")[0] for line in peer.lines if line.startswith("MAIL")] == [
            "MAIL FROM:<for-a@example.test>",
            "MAIL FROM:<for-b@example.test>",
        ]
        assert len(peer.taken) == 2


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[SendingCell]:
    with SendingCell(tmp_path) as started:
        yield started


def bring_back(cell: SendingCell, address: str, data: bytes, sender: str = "") -> None:
    with smtplib.SMTP("127.0.0.1", cell.port("smtp")) as client:
        client.sendmail(sender, [address], data)


def counted(cell: SendingCell) -> int:
    with cell.log.snapshot() as snapshot:
        return returned(snapshot.view(queue_stream("far.test")), 0)


def senders(cell: SendingCell) -> dict[str, str]:
    """The envelope sender of each recipient, as the transport was told."""
    found = {}
    for one in cell.transport.attempts:
        for address, _ in one.recipients:
            found[address] = one.sender_for(address) if one.sender_for else one.sender
    return found


def test_what_comes_back_reaches_the_sender_and_is_counted_for_the_domain(cell: SendingCell) -> None:
    cell.submit("bob@far.test", "carol@far.test", options=("XVERP",))
    wait_until(lambda: not cell.waiting())
    made = senders(cell)
    assert len(set(made.values())) == 2
    bring_back(cell, made["bob@far.test"], BOUNCE)
    assert [data for _, data in cell.inbox(ALICE)] == [BOUNCE]
    assert counted(cell) == 1
    with cell.log.snapshot() as snapshot:
        stored = snapshot.record(snapshot.position)
        assert stored is not None
        assert stored.record is not None
        assert [event.type for event in stored.record.events] == ["MessageDelivered", "MailReturned"]
    bring_back(cell, made["carol@far.test"], b"\r\nAction: delayed\r\n")
    bring_back(cell, made["carol@far.test"], b"Subject: I am away\r\n\r\n", "carol@far.test")
    assert (len(cell.inbox(ALICE)), counted(cell)) == (3, 1)
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        bring_back(cell, made["bob@far.test"].replace("bob", "eve"), BOUNCE)


def test_a_tenant_has_it_for_all_its_mail_and_nobody_else_does(cell: SendingCell) -> None:
    with cell.log.snapshot() as snapshot:
        tenant = directory.tenant_named(snapshot, "example")
    cell.submit("bob@far.test")
    cell.call(cell.runtime.ask(tenant, SetMailPolicy((("verp", "on"),)), ADMIN))
    cell.submit("carol@far.test")
    wait_until(lambda: not cell.waiting())
    made = senders(cell)
    assert made["bob@far.test"] == ALICE
    found = Verp(cell.directory.derived_key("verp")).read(made["carol@far.test"])
    assert found is not None
    assert (normalise_address(found.sender), found.recipient) == (ALICE, "carol@far.test")
