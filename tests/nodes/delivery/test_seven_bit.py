"""8-bit mail for a server that takes 7 bits: it says the same, in another encoding, or it is not sent (RFC 6152 3)."""

from __future__ import annotations

import email
import email.policy
import smtplib
from email.message import EmailMessage
from pathlib import Path

import dkim
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import directory
from actors.routes import ROUTES, SetRoute
from actors.tenant_policy import SetMailPolicy
from nodes.delivery.manager import Manager
from nodes.delivery.seven_bit import Unconvertible, is_seven_bits, to_seven_bits
from nodes.delivery.transport import MailTransport
from nodes.dkim_admin import DkimAdmin
from nodes.dkim_keys import record_name, record_value
from tests.nodes.delivery.cell import wait_until
from tests.nodes.smtp.cell import ADMIN, Cell
from tests.peers.smtp_peer import SmtpPeer

ALICE = "alice@example.test"
TEXT = "Grüße aus Köln \r\nFrom here\r\n.\r\n" + "lang " * 40 + "\r\n"


def letter(*parts: tuple[str, str, bytes], kind: str = "multipart/mixed") -> bytes:
    """A multipart of these: content type, encoding, body."""
    pieces = [
        f"--b\r\nContent-Type: {type_}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode() + body + b"\r\n"
        for type_, encoding, body in parts
    ]
    head = f"From: {ALICE}\r\nSubject: x\r\nMIME-Version: 1.0\r\nContent-Type: {kind}; boundary=b\r\n"
    return (
        head.encode() + b"Content-Transfer-Encoding: 8bit\r\n\r\nbefore\r\n" + b"".join(pieces) + b"--b--\r\nafter\r\n"
    )


def read(data: bytes) -> EmailMessage:
    """As another program reads it."""
    return email.message_from_bytes(data, policy=email.policy.default)


def leaves(data: bytes) -> list[tuple[str, bytes]]:
    """Type and decoded content of each part that has none."""
    found = [part for part in read(data).walk() if not part.is_multipart()]
    return [(part.get_content_type(), bytes(part.get_payload(decode=True))) for part in found]


def test_text_becomes_quoted_printable_anything_else_base64_and_both_say_what_they_said() -> None:
    blob = bytes(range(256)) * 3
    parts = [
        ("text/plain; charset=utf-8", "8bit", TEXT.encode()),
        ("image/png", "binary", blob),
        ("text/plain", "7bit", b"plain =20 text"),
        ("application/x", "base64", b"AAEC"),
    ]
    converted = to_seven_bits(letter(*parts), "mx.test")
    assert is_seven_bits(converted)
    assert converted.startswith(b"X-MIME-Autoconverted: to 7bit by mx.test\r\nFrom: ")
    assert leaves(converted) == [
        ("text/plain", TEXT.encode()),
        ("image/png", blob),
        ("text/plain", b"plain =20 text"),
        ("application/x", b"\0\1\2"),
    ]
    encodings = [part["Content-Transfer-Encoding"] for part in read(converted).walk()]
    assert encodings == ["7bit", "quoted-printable", "base64", "7bit", "base64"]
    assert b"\r\nbefore\r\n--b\r\n" in converted
    assert converted.endswith(b"--b--\r\nafter\r\n")


def test_a_message_that_knows_no_mime_is_said_to_be_text_of_an_unknown_charset() -> None:
    converted = read(to_seven_bits(b"Subject: x\r\n\r\nGr\xfc\xdfe\r\n", "mx.test"))
    assert (converted["MIME-Version"], converted["Content-Type"]) == ("1.0", 'text/plain; charset="unknown-8bit"')
    assert converted.get_payload(decode=True) == b"Gr\xfc\xdfe\r\n"


def test_a_message_inside_a_message_is_converted_where_it_has_8_bits() -> None:
    inner = b"Subject: inner\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + TEXT.encode()
    converted = to_seven_bits(letter(("message/rfc822", "8bit", inner)), "mx.test")
    assert is_seven_bits(converted)
    assert leaves(converted) == [("text/plain", TEXT.encode())]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("Subject: Grüße\r\n\r\nx\r\n".encode(), "header"),
        (letter(("text/plain", "8bit", b"\xff"), ("application/x", "7bit", b"x"), kind="multipart/signed"), "signed"),
        (letter(("message/global", "8bit", b"Subject: \xc3\xbc\r\n\r\n")), "message/global"),
        (letter(("text/plain", "base64", b"\xff")), "base64"),
        (letter(("text/plain", "7bit", b"x")).replace(b"before", b"bef\xf6re"), "outside the parts"),
        (b"Content-Type: multipart/mixed; boundary=none\r\n\r\nGr\xfc\xdfe\r\n", "no parts"),
    ],
)  # fmt: skip
def test_what_would_say_something_else_is_not_converted(data: bytes, why: str) -> None:
    with pytest.raises(Unconvertible, match=why):
        to_seven_bits(data, "mx.test")


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["text/plain", "application/x"]))
def test_whatever_the_octets_are_they_come_out_again(body: bytes, kind: str) -> None:
    body = b"\xff" + body
    data = f"Content-Type: {kind}\r\nContent-Transfer-Encoding: binary\r\n\r\n".encode() + body
    converted = to_seven_bits(data, "mx.test")
    assert is_seven_bits(converted)
    assert read(converted).get_payload(decode=True) == body


def test_mail_for_a_server_of_7_bits_is_converted_and_signed_anew_or_returned_as_the_tenant_has_it(
    tmp_path: Path,
) -> None:
    data = f"From: {ALICE}\r\nSubject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{TEXT}"
    with SmtpPeer(extensions=("SIZE 1000000", "PIPELINING")) as peer, Cell(tmp_path) as cell:
        route = SetRoute("default", "127.0.0.1", peer.port, "clear", "", "", b"")
        cell.call(cell.runtime.ask(ROUTES, route, ADMIN))
        cell.call(DkimAdmin(cell.services).generate("example.test", ADMIN, active=True))
        transport = MailTransport.of(cell.services)
        manager = Manager(cell.services, transport)
        cell.call(manager.start())

        def submit(recipient: str) -> None:
            with smtplib.SMTP("127.0.0.1", cell.port("submission")) as client:
                client.login(ALICE, "secret of alice")
                client.sendmail(ALICE, [recipient], data.encode(), ["BODY=8BITMIME"])

        submit("bob@far.test")
        wait_until(lambda: peer.taken)
        known = {
            record_name("example.test", key.selector).encode(): record_value(key.algorithm, key.public).encode()
            for key in DkimAdmin(cell.services).keys("example.test")
        }
        sent = peer.taken[0].data
        assert is_seven_bits(sent)
        assert read(sent).get_payload(decode=True) == TEXT.encode()
        assert sent.count(b"DKIM-Signature:") == 2
        assert dkim.DKIM(sent).verify(0, dnsfunc=lambda name, timeout=5: known[name])
        assert not any("BODY=" in line for line in peer.lines)

        with cell.log.snapshot() as snapshot:
            tenant = directory.tenant_named(snapshot, "example")
        cell.call(cell.runtime.ask(tenant, SetMailPolicy((("eight_bit", "return"),)), ADMIN))
        submit("carol@far.test")
        wait_until(lambda: cell.inbox(ALICE))
        assert b"Status: 5.6.3" in cell.inbox(ALICE)[0][1]
        cell.call(manager.stop(1.0))
        cell.call(transport.stop())


def test_mail_that_an_alias_leads_on_is_converted_and_never_signed_as_ours_whoever_stands_in_from(
    tmp_path: Path,
) -> None:
    forged = f"DKIM-Signature: v=1; d=example.test\r\nFrom: {ALICE}\r\nSubject: pay\r\n\r\n{TEXT}"
    with SmtpPeer(extensions=("SIZE 1000000", "PIPELINING")) as peer, Cell(tmp_path) as cell:
        route = SetRoute("default", "127.0.0.1", peer.port, "clear", "", "", b"")
        cell.call(cell.runtime.ask(ROUTES, route, ADMIN))
        cell.call(DkimAdmin(cell.services).generate("example.test", ADMIN, active=True))
        cell.call(cell.directory.add_alias("team@example.test", ["friend@far.test"], ADMIN))
        transport = MailTransport.of(cell.services)
        manager = Manager(cell.services, transport)
        cell.call(manager.start())
        with smtplib.SMTP("127.0.0.1", cell.port("smtp")) as client:
            client.sendmail("mallory@evil.test", ["team@example.test"], forged.encode(), ["BODY=8BITMIME"])
        wait_until(lambda: peer.taken)
        sent = peer.taken[0].data
        assert is_seven_bits(sent)
        assert sent.count(b"DKIM-Signature:") == 1  # the one that came
        cell.call(manager.stop(1.0))
        cell.call(transport.stop())
