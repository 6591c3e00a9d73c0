"""Whether a message matches: each key of RFC 3501 6.4.4 on a message that it takes and one that it does not."""

import base64
import quopri

import pytest

from actors.mailbox import Message
from nodes.imap.search_match import Candidate, compile_key
from tests.nodes.imap.test_grammar import parse

UIDS = [10, 20, 30]
MAIL = (
    b"From: =?utf-8?q?J=C3=BCrgen?= <j@example.org>\r\nTo: Anna <anna@example.org>\r\nCc: Carl\r\nBcc: Bea\r\n"
    b"Subject: =?iso-8859-1?b?" + base64.b64encode("Grüße".encode("latin-1")) + b"?= aus\r\n Bonn\r\n"
    b"Date: Mon, 7 Feb 1994 23:52:25 -0800\r\nX-Empty:\r\n\r\nHello World\r\n"
)


def matches(program: str | bytes, data: bytes = MAIL, *, flags: tuple[str, ...] = (), recent: bool = False) -> bool:
    """Message 2 of 3, UID 20, 1000 octets, INTERNALDATE 8 February 1994."""
    command = parse(b"a SEARCH " + (program.encode() if isinstance(program, str) else program))
    row = Message(20, b"i", b"d", 1000, 760_665_600_000, flags, 1, b"")
    return compile_key(command.program, UIDS)(Candidate(2, row, recent, lambda _: data))  # type: ignore[union-attr]


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
