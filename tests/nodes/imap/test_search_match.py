"""Whether a message matches: each key of RFC 3501 6.4.4 on a message that it takes and one that it does not."""

import base64
import quopri

import pytest

from actors.mailbox import Message
from nodes.imap.search import HeaderHas, TextHas
from nodes.imap.search_commands import Search
from nodes.imap.search_match import Candidate, Narrowed, Scope, compile_key
from tests.nodes.imap.test_grammar import parse

SCOPE = Scope([10, 20, 30], now_ms=760_665_600_000 + 3_600_000, saved=frozenset({20}))
MAIL = (
    b"From: =?utf-8?q?J=C3=BCrgen?= <j@example.org>\r\nTo: Anna <anna@example.org>\r\nCc: Carl\r\nBcc: Bea\r\n"
    b"Subject: =?iso-8859-1?b?" + base64.b64encode("Grüße".encode("latin-1")) + b"?= aus\r\n Bonn\r\n"
    b"Date: Mon, 7 Feb 1994 23:52:25 -0800\r\nX-Empty:\r\n\r\nHello World\r\n"
)


def matches(program: str | bytes, data: bytes = MAIL, *, flags: tuple[str, ...] = (), recent: bool = False) -> bool:
    """Message 2 of 3, UID 20, 1000 octets, INTERNALDATE 8 February 1994."""
    command = parse(b"a SEARCH " + (program.encode() if isinstance(program, str) else program))
    row = Message(20, b"i", b"d", 1000, 760_665_600_000, flags, 1, b"")
    assert isinstance(command, Search)
    return compile_key(command.program, SCOPE)(Candidate(2, row, recent, lambda _: data))


@pytest.mark.parametrize(
    "program",
    [
        "ALL",
        "2",
        "1:2",
        "2:*",
        "UID 20",
        "UID 15:25",
        "NOT 1",
        "NOT UID 30",
        "$",
        "UID $",
        "OLDER 3600",
        "YOUNGER 3600",
        "NOT OLDER 3601",
        "NOT YOUNGER 3599",
        "MODSEQ 1",
        'MODSEQ "/flags/\\\\seen" all 1',
        "NOT MODSEQ 2",
        "OR 1 2",
        "(2 UID 20)",
        "LARGER 999",
        "SMALLER 1001",
        "NOT LARGER 1000",
        "NOT SMALLER 1000",
        "ON 8-Feb-1994",
        "SINCE 8-Feb-1994",
        "BEFORE 9-Feb-1994",
        "NOT BEFORE 8-Feb-1994",
        "NOT SINCE 9-Feb-1994",
        "SENTON 7-Feb-1994",
        "SENTSINCE 7-Feb-1994",
        "SENTBEFORE 8-Feb-1994",
        "NOT SENTON 8-Feb-1994",
        "FROM jürgen",
        "FROM EXAMPLE.ORG",
        "TO anna",
        "CC carl",
        "BCC bea",
        "SUBJECT grüsse",
        'SUBJECT "aus Bonn"',
        "HEADER Subject BONN",
        'HEADER X-Empty ""',
        'NOT HEADER X-Absent ""',
        "BODY world",
        "TEXT world",
        "TEXT bonn",
        "NOT BODY bonn",
        "UNSEEN",
        "UNANSWERED",
        "UNDELETED",
        "UNDRAFT",
        "UNFLAGGED",
        "UNKEYWORD $x",
        "OLD",
        "NOT NEW",
    ],
)
def test_a_message_matches(program: str) -> None:
    quoted = " ".join(
        f"{{{len(word.encode())}+}}\r\n{word}" if not word.isascii() else word for word in program.split(" ")
    )
    assert matches(quoted if not program.isascii() else program)


@pytest.mark.parametrize("flag", ["Answered", "Deleted", "Draft", "Flagged", "Seen"])
def test_a_system_flag_is_found_and_its_absence_too(flag: str) -> None:
    assert matches(flag.upper(), flags=("\\" + flag,))
    assert not matches("UN" + flag.upper(), flags=("\\" + flag,))
    assert not matches(flag.upper())


def test_keywords_match_in_any_case() -> None:
    assert matches("KEYWORD $work", flags=("$Work",))
    assert not matches("KEYWORD work", flags=("$Work",))


def test_new_is_recent_and_unseen() -> None:
    assert matches("NEW", recent=True)
    assert matches("RECENT", recent=True)
    assert not matches("NEW", recent=True, flags=("\\Seen",))
    assert not matches("OLD", recent=True)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (b"base64", base64.encodebytes("Grüße aus Köln".encode())),
        (b"quoted-printable", quopri.encodestring("Grüße aus Köln".encode())),
        (b"8bit", "Grüße aus Köln".encode()),
    ],
)
def test_text_parts_are_searched_decoded(encoding: bytes, body: bytes) -> None:
    data = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: " + encoding + b"\r\n\r\n" + body + b"\r\n--b--\r\n"
    )
    assert matches("BODY {5+}\r\nköln".encode(), data)
    assert matches("BODY {8+}\r\ngrüsse".encode().replace(b"{8+}", b"{7+}"), data)
    assert not matches("BODY berlin", data)


@pytest.mark.parametrize("charset", [b"idna", b"zlib", b"rot13", b"no-such", b"\xff", b"unicode_escape", b""])
def test_a_hostile_charset_is_taken_as_plain_text(charset: bytes) -> None:
    assert matches("BODY hello", b'Content-Type: text/plain; charset="' + charset + b'"\r\n\r\nHello\r\n')


def test_a_message_that_is_kept_no_longer_matches_no_text() -> None:
    assert not matches("SUBJECT bonn", b"")
    assert not matches("SENTSINCE 1-Jan-1970", b"Date: rubbish\r\n\r\n")


def test_the_headers_of_parts_are_text_and_no_body() -> None:
    data = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: application/pdf; name=Offer.pdf\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\nAAAA\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n"
        b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\nAttached\r\n--b--\r\n"
    )
    assert matches("TEXT offer.pdf", data)
    assert matches("TEXT {7+}\r\ngrüsse".encode(), data)
    assert matches("BODY attached", data)
    assert not matches("BODY offer.pdf", data)
    assert not matches("SUBJECT {7+}\r\ngrüsse".encode(), data)


def test_html_is_found_by_its_source_and_by_what_a_reader_sees() -> None:
    data = b"Content-Type: text/html\r\n\r\n<p>Gr&uuml;&szlig;e <b>a</b>us<br>Bonn<style>p{color:red}</style></p>"
    assert matches("BODY {13+}\r\ngrüsse aus".encode().replace(b"{13+}", b"{11+}"), data)
    assert matches('BODY "us bonn"', data)
    assert matches("BODY uuml", data)
    assert matches("BODY color:red", data)
    assert not matches('BODY "bonnp"', data)


def test_an_index_rules_out_what_it_has_seen_and_nothing_else() -> None:
    def found(key: HeaderHas | TextHas, narrowed: Narrowed) -> bool:
        row = Message(20, b"i", b"d", 1000, 0, (), 1, b"")
        return compile_key(key, Scope([20], narrowed={key: narrowed}))(Candidate(1, row, False, lambda _: MAIL))

    for key in (TextHas("world", False), HeaderHas(b"to", "anna")):
        assert found(key, Narrowed(20, {20}))
        assert not found(key, Narrowed(20, set()))
        assert found(key, Narrowed(19, set())), "it came after the index"
    assert not found(TextHas("absent", True), Narrowed(20, {20})), "what the index lets through is read"
