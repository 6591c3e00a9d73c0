"""BINARY (RFC 3516) and PREVIEW (RFC 8970) over real connections."""

import base64
from collections.abc import Callable

import pytest

from nodes.mime import structure
from nodes.mime.preview import preview
from tests.nodes.imap.client import RawClient
from tests.nodes.imap.node import Node, User

Login = Callable[[], RawClient]

PICTURE = bytes(range(256)) * 3
MAIL = (
    b'Subject: parts\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n'
    b"--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    b"Gr=C3=BC=\r\n=C3=9Fe\r\n"
    b"--b\r\nContent-Type: image/gif\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    + base64.encodebytes(PICTURE).replace(b"\n", b"\r\n")
    + b"--b\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: x-rot13\r\n\r\nuryyb\r\n"
    b"--b\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!!\r\n--b--\r\n"
)


@pytest.fixture
def client(node: Node, user: User, login: Login) -> RawClient:
    node.deliver(user, MAIL)
    made = login()
    made.ok("SELECT INBOX")
    return made


# -- BINARY


def test_rfc_3516_4_2_a_part_comes_behind_its_transfer_encoding(client: RawClient) -> None:
    text = "Grüße".encode()
    assert client.ok("FETCH 1 BINARY.PEEK[1]") == [b"* 1 FETCH (BINARY[1] {%d}\r\n%b)" % (len(text), text)]
    assert client.ok("FETCH 1 (BINARY.SIZE[1] BINARY.SIZE[2])") == [
        b"* 1 FETCH (BINARY.SIZE[1] %d BINARY.SIZE[2] %d)" % (len(text), len(PICTURE))
    ]


def test_rfc_3516_4_2_bytes_with_nul_come_as_literal8_and_in_pieces(client: RawClient) -> None:
    assert client.ok("FETCH 1 BINARY.PEEK[2]<0.300>") == [b"* 1 FETCH (BINARY[2]<0> ~{300}\r\n%b)" % PICTURE[:300]]
    assert client.ok("FETCH 1 BINARY.PEEK[2]<700.300>") == [b"* 1 FETCH (BINARY[2]<700> {68}\r\n%b)" % PICTURE[700:]]


def test_rfc_3516_4_2_binary_marks_as_seen_and_peek_and_size_do_not(client: RawClient) -> None:
    client.ok("FETCH 1 (BINARY.PEEK[1] BINARY.SIZE[1])")
    assert client.ok("FETCH 1 FLAGS") == [b"* 1 FETCH (FLAGS (\\Recent))"]
    assert client.ok("FETCH 1 BINARY[1]")[-1] == b"* 1 FETCH (FLAGS (\\Seen \\Recent))"


@pytest.mark.parametrize("item", ["BINARY[3]", "BINARY.PEEK[4]", "BINARY.SIZE[3]"])
def test_rfc_3516_4_3_an_encoding_that_can_not_be_undone_is_told(client: RawClient, item: str) -> None:
    assert client.command(f"FETCH 1 {item}")[-1].startswith(b"NO [UNKNOWN-CTE] ")
    assert client.ok("FETCH 1 BODY.PEEK[3]") == [b"* 1 FETCH (BODY[3] {5}\r\nuryyb)"]


def test_a_part_that_is_not_there_is_nil(client: RawClient) -> None:
    assert client.ok("FETCH 1 (BINARY.PEEK[9] BINARY.SIZE[9])") == [b"* 1 FETCH (BINARY[9] NIL BINARY.SIZE[9] 0)"]


# -- PREVIEW


def test_rfc_8970_3_1_the_first_words_of_a_message(client: RawClient) -> None:
    assert client.ok("FETCH 1 (UID PREVIEW)") == [b"* 1 FETCH (UID 1 PREVIEW {7}\r\n" + "Grüße".encode() + b")"]
    assert client.ok("FETCH 1 FLAGS") == [b"* 1 FETCH (FLAGS (\\Recent))"]


def test_rfc_8970_3_2_a_lazy_preview_is_nil_until_somebody_asked_in_earnest(
    node: Node, user: User, login: Login
) -> None:
    node.deliver(user, b"Subject: x\r\n\r\nPreview text!\r\n")
    client = login()
    client.ok("SELECT INBOX")
    assert client.ok("FETCH 1 (PREVIEW (LAZY))") == [b"* 1 FETCH (PREVIEW NIL)"]
    client.ok("FETCH 1 PREVIEW")
    assert client.ok("FETCH 1 (PREVIEW (LAZY))") == [b'* 1 FETCH (PREVIEW "Preview text!")']


def _preview(data: bytes) -> str:
    return preview(data, structure.parse(data))


def test_a_preview_is_text_without_markup_quotations_and_line_breaks() -> None:
    page = b"Content-Type: text/html\r\n\r\n<style>p{}</style><p>Dear&nbsp;Fred,<br>\r\n <b>hello</b></p><!-- x -->"
    assert _preview(page) == "Dear Fred, hello"
    assert _preview(b"Subject: x\r\n\r\n> quoted\r\nanswer\r\n  goes on") == "answer goes on"


def test_rfc_8970_3_1_a_preview_has_at_most_256_characters_and_of_no_text_is_empty() -> None:
    assert len(_preview(b"Subject: x\r\n\r\n" + "ü".encode() * 5000)) == 200
    assert _preview(b"Content-Type: image/gif\r\n\r\nGIF89a") == ""
    attached = b"Content-Type: text/plain\r\nContent-Disposition: attachment\r\n\r\nlog file"
    assert _preview(attached) == ""


@pytest.mark.parametrize("text", [b"<" * 100_000, b"<!--" * 30_000, b"<style>" * 20_000, b"&" * 100_000])
def test_hostile_markup_costs_no_more_than_other_text(text: bytes) -> None:
    assert len(_preview(b"Content-Type: text/html\r\n\r\n" + text)) <= 200
