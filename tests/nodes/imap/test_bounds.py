"""What one client asks, or a stranger has sent, costs the node no more than a bounded piece of work and memory."""

import base64
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import pytest

from actors.mailbox import Message
from nodes.imap import constants, messages, scans, search_updates, searching
from nodes.imap.binary import Kept, decoded
from nodes.imap.errors import Refusal
from nodes.imap.framing import Framer, Limits
from nodes.imap.search_match import Candidate
from nodes.imap.sort_keys import sort_keys
from nodes.imap.threads import Threaded, references, response
from nodes.mime import searched, structure
from nodes.mime.addresses import Address, addresses
from tests.nodes.imap.client import RawClient
from tests.nodes.imap.node import Node, User

Login = Callable[[], RawClient]

ENCODED = b"Content-Type: image/gif\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(b"x" * 300)


@pytest.fixture
def client(node: Node, user: User, login: Login) -> RawClient:
    node.deliver(user, b"Subject: large\r\nX-Kind: b\r\n\r\n" + b"line\r\n" * 200_000)
    made = login()
    made.ok("SELECT INBOX")
    return made


# -- FETCH


def test_a_part_is_decoded_once_for_all_its_pieces() -> None:
    kept: Kept = {}
    root = structure.parse(ENCODED)
    first, again = (decoded(ENCODED, root, (1,), kept) for _ in range(2))
    assert first is not None
    assert again is not None
    assert first.obj is again.obj
    assert first == b"x" * 300


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"", b""),
        (b" QU\r\nJD\t", b"ABC"),
        (b"QQ==", b"A"),
        (b"QUI=", b"AB"),
        *((one, None) for one in (b"Q", b"QQ", b"QQ=", b"Q===", b"====", b"QUJD=", b"QUJD====", b"QQ==QUJD", b"QU*D")),
    ],
)
def test_base64_is_whole_groups_of_digits_and_nothing_else(text: bytes, found: bytes | None) -> None:
    data = b"Content-Type: image/gif\r\nContent-Transfer-Encoding: base64\r\n\r\n" + text
    with nullcontext() if found is not None else pytest.raises(Refusal, match="can not be undone"):
        assert decoded(data, structure.parse(data), (1,), {}) == found


def test_a_message_is_not_told_a_hundred_times_in_one_response(client: RawClient) -> None:
    pieces = " ".join(f"BODY.PEEK[]<{origin}.4000000>" for origin in range(100))
    assert client.command(f"FETCH 1 ({pieces})")[-1].startswith(b"NO [LIMIT] ")
    assert len(client.ok("FETCH 1 (BODY.PEEK[] BODY.PEEK[TEXT] BODY.PEEK[HEADER])")) == 1


PART = b"--x\r\nContent-Type: text/plain\r\n\r\n" + b"line\r\n" * 20
MANY = b"Subject: many\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n" + PART * 600 + b"--x--\r\n"


@pytest.mark.parametrize("items", ["BODYSTRUCTURE", "BODYSTRUCTURE MODSEQ", "ENVELOPE BODY.PEEK[599]", "PREVIEW BODY"])
@pytest.mark.parametrize("kept_from", [1, 500])
def test_a_message_of_many_parts_is_taken_apart_beside_the_sessions(
    node: Node, user: User, login: Login, monkeypatch: pytest.MonkeyPatch, items: str, kept_from: int
) -> None:
    monkeypatch.setattr(scans, "LEAST_MESSAGES", kept_from)
    large = b"To: %b\r\n%b" % (user.login.encode(), MANY)  # nobody has looked at it yet
    node.deliver(user, *(b"Subject: few\r\n\r\nx", large, b"Subject: few\r\n\r\ny") * 2)
    client, parse, where = login(), structure.parse, []

    def noted(data: bytes) -> structure.Part:
        if len(data) > len(MANY) // 2:
            where.append(threading.get_ident())
        return parse(data)

    monkeypatch.setattr(structure, "parse", noted)
    client.ok("SELECT INBOX")
    lines = [line for line in client.ok(f"FETCH 1:* ({items})") if b" FETCH " in line]
    assert [int(line.split()[1]) for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line.count(b'"text" "plain"') for line in lines] == [lines[0].count(b'"text"') * n for n in (1, 600, 1) * 2]
    assert where
    assert node.call(_thread()) not in where


ADDRESSES = b"To: " + b"a:b;" * 2_000 + b"\r\n"
NESTED = b"".join(b"Content-Type: message/rfc822\r\n%b\r\n" % ADDRESSES for _ in range(4)) + b"Subject: x\r\n\r\nx\r\n"


@pytest.mark.parametrize("items", ["BODYSTRUCTURE", "ENVELOPE", "BODY MODSEQ", "UID BODY.PEEK[1.HEADER] BODY"])
@pytest.mark.parametrize("kept_from", [1, 500])
def test_messages_inside_a_message_name_their_thousand_addresses_beside_the_sessions(
    node: Node, user: User, login: Login, monkeypatch: pytest.MonkeyPatch, items: str, kept_from: int
) -> None:
    monkeypatch.setattr(scans, "LEAST_MESSAGES", kept_from)
    own = b"To: %b\r\nContent-Type: message/rfc822\r\n\r\n" % user.login.encode()  # nobody has looked at it yet
    node.deliver(user, *(b"Subject: few\r\n\r\nx", own + NESTED, b"Subject: few\r\n\r\ny") * 2)
    client, where = login(), []

    def noted(value: bytes) -> list[Address]:
        if len(value) > len(ADDRESSES) // 2:
            where.append(threading.get_ident())
        return addresses(value)

    monkeypatch.setattr("nodes.imap.structure_text.addresses", noted)
    client.ok("SELECT INBOX")
    lines = [line for line in client.ok(f"FETCH 1:* ({items})") if b" FETCH " in line]
    assert [int(line.split()[1]) for line in lines] == [1, 2, 3, 4, 5, 6]
    told = 0 if items == "ENVELOPE" else 4 * 2_000
    assert [line.count(b'NIL NIL "a" NIL') for line in lines] == [0, told, 0] * 2
    assert bool(where) == (items != "ENVELOPE")
    assert node.call(_thread()) not in where


@pytest.mark.parametrize("items", ["ENVELOPE", "ENVELOPE FLAGS", "ENVELOPE MODSEQ"])
@pytest.mark.parametrize("limit", ["BATCH_S", "READ_S", "HELD_BYTES"])
def test_however_little_is_told_at_a_time_all_is_told(
    node: Node, user: User, login: Login, monkeypatch: pytest.MonkeyPatch, items: str, limit: str
) -> None:
    monkeypatch.setattr(scans, "LEAST_MESSAGES", 1)
    for module in (messages, constants):
        if hasattr(module, limit):
            monkeypatch.setattr(module, limit, -1 if limit != "HELD_BYTES" else 1)
    node.deliver(user, *(b"To: %b\r\nSubject: n%d\r\n\r\nx" % (user.login.encode(), n) for n in range(6)))
    client = login()
    client.ok("SELECT INBOX")
    client.ok(f"FETCH 2,4 ({items})")  # these are known then
    for _ in range(2):
        lines = [line for line in client.ok(f"FETCH 1:* ({items})") if b" FETCH " in line]
        assert [line.split()[1] for line in lines] == [b"%d" % number for number in range(1, 7)]
        assert [f'"n{number}"'.encode() in line for number, line in enumerate(lines)] == [True] * 6


async def _thread() -> int:
    return threading.get_ident()


# -- SEARCH, SORT, THREAD


def test_a_date_that_no_calendar_has_is_no_date(login: Login) -> None:
    client = login()
    client.append("INBOX", b"Date: Mon, 1 Jan 99999999999999999999 00:00:00 +0000\r\n\r\nx")
    client.ok("SELECT INBOX")
    assert client.ok("SEARCH SENTSINCE 1-Jan-2020") == [b"* SEARCH"]
    assert client.ok("SORT (DATE) UTF-8 ALL") == [b"* SORT 1"]


def test_a_search_with_many_texts_finds_what_one_with_few_finds(
    client: RawClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "ASIDE_BYTES", 1000)
    absent = " ".join(f"NOT BODY absent{number} NOT HEADER X-{number} y" for number in range(200))
    assert client.ok(f"SEARCH BODY line HEADER X-Kind b {absent}") == [b"* SEARCH 1"]
    assert client.ok(f"SEARCH BODY other {absent}") == [b"* SEARCH"]


def test_a_large_message_is_searched_beside_the_sessions(
    client: RawClient, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    body_texts, where = searched.body_texts, []

    def noted(data: bytes, root: structure.Part) -> Iterator[str]:
        where.append(threading.get_ident())
        return body_texts(data, root)

    monkeypatch.setattr(searched, "body_texts", noted)
    assert client.ok("SEARCH BODY line") == [b"* SEARCH 1"]
    assert where
    assert node.call(_thread()) not in where


def test_a_header_is_taken_apart_once_for_all_keys() -> None:
    loads: list[int] = []

    def load(row: Message) -> bytes:
        loads.append(row.uid)
        return b"Subject: One\r\nSubject: Two\r\n\r\n"

    candidate = Candidate(1, Message(1, b"", b"", 0, 0, (), 1, b""), False, load)
    assert candidate.field_texts(b"subject") is candidate.field_texts(b"subject")
    assert candidate.field_texts(b"subject") == ["one", "two"]
    assert candidate.field_texts(b"to") == []
    assert candidate.header_texts() is candidate.header_texts()
    assert loads == [1]


def test_ten_thousand_keys_or_levels_are_refused_and_the_session_goes_on(client: RawClient) -> None:
    for program in (" ".join(["ALL"] * 10_000), "(" * 10_000 + "ALL" + ")" * 10_000, "NOT " * 10_000 + "ALL"):
        assert client.command("SEARCH " + program)[-1].startswith(b"NO [LIMIT] ")
    client.ok("NOOP")


def test_results_that_depend_on_texts_are_kept_up_to_date_as_long_as_that_is_little_to_read(
    client: RawClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.ok("SEARCH RETURN (COUNT UPDATE) UNSEEN BODY line")
    tag = client.tags
    assert any(b"REMOVEFROM" in line for line in client.ok("STORE 1 +FLAGS (\\Seen)"))
    monkeypatch.setattr(search_updates, "READ_BYTES", 1000)
    assert any(line.startswith(b'* NO [NOUPDATE "t%d"]' % tag) for line in client.ok("STORE 1 -FLAGS (\\Seen)"))
    assert not any(b"ESEARCH" in line for line in client.ok("STORE 1 +FLAGS (\\Seen)"))


def test_threads_of_crafted_references_are_joined_in_bounded_time() -> None:
    """Each message has one below it before it goes below the one in front: a walk to the top for each of them."""
    depth = 20_000

    def threaded(number: int, own: str, above: str) -> Threaded:
        keys = sort_keys(b"Message-ID: <%b@x>\r\nReferences: <%b@x>\r\n\r\n" % (own.encode(), above.encode()))
        return Threaded(number, number, keys)

    leaves = [threaded(number, f"leaf{number}", f"m{number}") for number in range(1, depth)]
    chain = [threaded(depth + number, f"m{number}", f"m{number - 1}") for number in range(1, depth)]
    text = response(references([*leaves, *chain]))
    assert text.count(b"(") == text.count(b")")
    assert all(b"%d" % number in text for number in (1, depth - 1, 2 * depth - 1))


# -- what is held of a command that is not whole


def test_literals_of_a_command_that_goes_on_are_counted_as_held() -> None:
    framer = Framer(Limits(append=10_000))
    framer.appends = True
    framer.feed(b"a APPEND INBOX {5000+}\r\n" + b"x" * 5000 + b" {5000+}\r\n" + b"x" * 10)
    framer.next_frame()
    assert framer.buffered == 5010
    framer.feed(b"x" * 4990 + b"\r\n")
    framer.next_frame()
    assert framer.buffered == 0


def test_log_out_in_the_middle_of_a_literal_is_part_of_it(login: Login) -> None:
    client = login()
    client.send(b"a APPEND INBOX {32+}\r\nSubject: x\r\n\r\nb LOGOUT\r\n")
    client.send(b"12345678\r\n")
    assert client.response().startswith(b"a OK ")
    client.ok("NOOP")


def test_a_tag_of_10_kb_is_bad_and_the_session_goes_on(login: Login) -> None:
    client = login()
    client.send(b"t" * 10_000 + b" NOOP\r\n")
    assert client.response().startswith(b"* BAD ")
    client.ok("NOOP")


def test_a_pipelined_flood_is_answered_in_order_and_others_have_their_turn(login: Login) -> None:
    flood, other = login(), login()
    flood.send(b"".join(b"f%d NOOP\r\n" % number for number in range(20_000)))
    other.ok("NOOP")
    answers = [flood.response() for _ in range(20_000)]
    assert answers == [b"f%d OK NOOP completed" % number for number in range(20_000)]
