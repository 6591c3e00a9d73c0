"""What goes over the wire, by what the sender asked for and what the server offers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.mail_options import MailOptions, RecipientOptions
from nodes.delivery.attempt import Attempt, RecipientOutcome
from nodes.delivery.content import DotStuffing, has_ascii_header
from nodes.delivery.replies import BadReply, Reply, ReplyParser, throttle_ms
from tests.nodes.delivery.outbound import DATA, attempt, config, only, sent
from tests.peers.dns_server import DnsServer
from tests.peers.smtp_peer import SmtpPeer

ZONE = "example.test. MX 10 mx.example.test.\nmx.example.test. A 127.0.0.1"
UTF8_DATA = "Subject: Grüße\r\n\r\nhi\r\n".encode()


def through(one: Attempt, *extensions: str) -> tuple[RecipientOutcome, SmtpPeer]:
    with DnsServer(ZONE) as dns, SmtpPeer(extensions=("PIPELINING", *extensions)) as peer:
        return only(sent(one, config(dns.address, port=peer.port))), peer


@pytest.mark.parametrize("slice_bytes", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    "data", [b".\r\n", b".\r\n.\r\n", b"a\r\n.\r\nb\r\n", b"a\r\n..\r\n", b"", b"no line end", b"a\r\n.b", b"x\r\n\r\n"]
)
def test_whatever_the_slices_a_message_arrives_as_it_is(data: bytes, slice_bytes: int) -> None:
    _, peer = through(attempt(data=data, slice_bytes=slice_bytes))
    assert peer.taken[0].data == (data if data.endswith(b"\r\n") else data + b"\r\n") or data == b""


@given(st.lists(st.binary(max_size=12).map(lambda one: one.replace(b"x", b"\r\n.").replace(b"y", b"\n.\n"))))
def test_no_line_of_a_stuffed_message_is_a_dot_whatever_counts_as_a_line_end(parts: list[bytes]) -> None:
    stuffing = DotStuffing()
    wire = b"".join(stuffing.part(one) for one in parts)
    lines = b"\r\n".join(wire.split(b"\n")).split(b"\r\n")[:-1]
    assert b"." not in lines
    if b"".join(parts).replace(b"\r\n", b"").count(b"\n") == 0:
        whole = b"".join(parts)
        assert wire == (b"\r\n" + whole).replace(b"\r\n.", b"\r\n..")[2:]


@given(st.integers(0, 40), st.integers(0, 40))
def test_replies_are_the_same_however_they_are_cut(first: int, second: int) -> None:
    data = b"250-one\r\n250-two\r\n250 three\r\n354\r\n421 bye\r\n"
    parser, cuts = ReplyParser(), sorted((first, second))
    found = [one for part in (data[: cuts[0]], data[cuts[0] : cuts[1]], data[cuts[1] :]) for one in parser.feed(part)]
    assert found == [Reply(250, ("one", "two", "three")), Reply(354, ("",)), Reply(421, ("bye",))]
    assert parser.is_between_replies


@pytest.mark.parametrize(
    "data", [b"hello\r\n", b"25\r\n", b"2500 x\r\n", b"150 x\r\n", b"600 x\r\n", b"250-a\r\n550 b\r\n", b"\r\n"]
)
def test_what_is_no_reply_is_refused(data: bytes) -> None:
    with pytest.raises(BadReply):
        ReplyParser().feed(data)


def test_all_that_a_sender_asked_for_goes_on_to_a_server_that_offers_it() -> None:
    options = MailOptions(body="8BITMIME", ret="HDRS", envid="a+b=c", priority=3)
    asked = RecipientOptions(("SUCCESS", "DELAY"), "rfc822;Bob+1@example.test")
    outcome, peer = through(attempt(options=options, asked=asked), "8BITMIME", "DSN", "SIZE", "MT-PRIORITY")
    assert (outcome.status, outcome.relayed) == ("delivered", False)
    assert peer.lines[1] == (
        f"MAIL FROM:<a@sender.test> BODY=8BITMIME SIZE={len(DATA)} RET=HDRS ENVID=a+2Bb+3Dc MT-PRIORITY=3"
    )
    assert peer.lines[2] == "RCPT TO:<bob@example.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Bob+2B1@example.test"


def test_a_server_that_does_no_dsn_is_asked_for_none_and_the_outcome_says_so() -> None:
    outcome, peer = through(attempt(options=MailOptions(ret="FULL"), asked=RecipientOptions(("SUCCESS",))))
    assert (outcome.status, outcome.relayed) == ("delivered", True)
    assert peer.lines[1:3] == ["MAIL FROM:<a@sender.test>", "RCPT TO:<bob@example.test>"]


def test_a_message_larger_than_the_server_takes_is_not_begun() -> None:
    outcome, peer = through(attempt(), "SIZE 10")
    assert (outcome.status, outcome.code, outcome.enhanced) == ("failed", 552, "5.3.4")
    assert not any(line.startswith("MAIL") for line in peer.lines)


@pytest.mark.parametrize(
    ("data", "offered", "status", "enhanced"),
    [
        ("Grüße\r\n".encode(), True, "delivered", "2.0.0"),
        ("Grüße\r\n".encode(), False, "failed", "5.6.3"),
        (b"ASCII after all\r\n", False, "delivered", "2.0.0"),
    ],
)
def test_8_bit_content_only_goes_to_a_server_that_takes_it(
    data: bytes, offered: bool, status: str, enhanced: str
) -> None:
    one = attempt(data=DATA + data, options=MailOptions(body="8BITMIME"))
    outcome, _ = through(one, *["8BITMIME"] * offered)
    assert (outcome.status, outcome.enhanced) == (status, enhanced)


def test_binary_content_goes_in_chunks_and_not_at_all_to_a_server_that_knows_none() -> None:
    data = DATA + bytes(range(256)) * 300 + b"\r\n.\r\nno line end"
    one = attempt(data=data, options=MailOptions(body="BINARYMIME"), slice_bytes=5000)
    outcome, peer = through(one, "BINARYMIME", "CHUNKING")
    assert (outcome.status, peer.taken[0].data) == ("delivered", data)
    outcome, peer = through(one, "CHUNKING", "8BITMIME")
    assert (outcome.status, outcome.enhanced, peer.taken) == ("failed", "5.6.3", [])


@pytest.mark.parametrize("reply", ["452 4.3.1 Full", "554 5.6.0 No"])
def test_a_chunk_that_is_refused_is_the_message_refused(reply: str) -> None:
    one = attempt(options=MailOptions(body="BINARYMIME"), slice_bytes=10)
    extensions = ("PIPELINING", "BINARYMIME", "CHUNKING")
    with DnsServer(ZONE) as dns, SmtpPeer({"BDAT": reply}, extensions=extensions) as peer:
        outcome = only(sent(one, config(dns.address, port=peer.port)))
    assert (outcome.status, outcome.code) == ("deferred" if reply[0] == "4" else "failed", int(reply[:3]))


def test_an_internationalised_message_goes_as_such_where_it_may() -> None:
    one = attempt("bücher@example.test", data=UTF8_DATA, options=MailOptions(utf8=True, body="8BITMIME"))
    outcome, peer = through(one, "SMTPUTF8", "8BITMIME", "DSN")
    assert outcome.status == "delivered"
    assert peer.lines[1:3] == [
        "MAIL FROM:<a@sender.test> BODY=8BITMIME SMTPUTF8",
        "RCPT TO:<bücher@example.test>",
    ]


@pytest.mark.parametrize(
    ("recipient", "data", "status", "enhanced"),
    [
        ("bücher@example.test", DATA, "failed", "5.6.7"),
        ("bob@example.test", UTF8_DATA, "failed", "5.6.7"),
        ("bob@example.test", DATA, "delivered", "2.0.0"),  # it was asked for, but nothing needs it
    ],
)
def test_without_smtputf8_only_what_does_not_need_it_goes(
    recipient: str, data: bytes, status: str, enhanced: str
) -> None:
    outcome, peer = through(attempt(recipient, data=data, options=MailOptions(utf8=True)))
    assert (outcome.status, outcome.enhanced) == (status, enhanced)
    assert not any("SMTPUTF8" in line for line in peer.lines)


def test_a_domain_beyond_ascii_is_sent_in_a_labels_where_the_server_knows_no_other() -> None:
    outcome, peer = through(attempt("bob@bücher.test"))
    assert (outcome.status, peer.taken[0].rcpts) == ("delivered", ("RCPT TO:<bob@xn--bcher-kva.test>",))


def test_one_recipient_beyond_ascii_does_not_keep_the_others() -> None:
    with DnsServer(ZONE) as dns, SmtpPeer(extensions=()) as peer:
        outcomes = sent(
            attempt("bücher@example.test", "bob@example.test"), config(dns.address, port=peer.port)
        ).outcomes
    assert [(one.status, one.enhanced) for one in outcomes] == [("failed", "5.6.7"), ("delivered", "2.0.0")]


@pytest.mark.parametrize(
    ("orcpt", "offered", "line"),
    [
        ("utf-8;bücher@example.test", ("DSN", "SMTPUTF8"), "ORCPT=utf-8;bücher@example.test"),
        ("utf-8;bücher@example.test", ("DSN",), "ORCPT=utf-8;b\\x{FC}cher@example.test"),
        ("rfc822;a+b@example.test", ("DSN",), "ORCPT=rfc822;a+2Bb@example.test"),
    ],
)
def test_an_original_recipient_beyond_ascii_is_escaped_where_it_must(
    orcpt: str, offered: tuple[str, ...], line: str
) -> None:
    _, peer = through(attempt(options=MailOptions(utf8=True), asked=RecipientOptions((), orcpt)), *offered)
    assert peer.lines[2].endswith(line)


@pytest.mark.parametrize("address", ["bob@example.test>\r\nRSET", "b<o>b@example.test", "bob\x00@example.test"])
def test_an_address_never_ends_its_command(address: str) -> None:
    outcome, peer = through(attempt(address))
    assert (outcome.status, outcome.enhanced) == ("failed", "5.1.3")
    assert not any(line.startswith(("RCPT", "RSET")) for line in peer.lines)


@pytest.mark.parametrize(
    ("mode", "seconds", "offered", "status", "parameter"),
    [
        ("R", 600, "DELIVERBY 60", "delivered", "BY=599;R"),
        ("N", 600, "DELIVERBY", "delivered", "BY=599;NT"),
        ("R", 30, "DELIVERBY 60", "failed", ""),
        ("R", 600, "DSN", "failed", ""),
        ("N", 600, "DSN", "delivered", ""),
    ],
)
def test_a_deadline_goes_with_the_message_or_the_message_does_not_go(
    mode: str, seconds: int, offered: str, status: str, parameter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodes.delivery.client.time.time_ns", lambda: 1_000_500 * 1_000_000)
    options = MailOptions(deliver_by_ms=1_000_000 + seconds * 1000, by_mode=mode, by_trace=mode == "N")  # type: ignore[arg-type]
    outcome, peer = through(attempt(options=options), offered)
    assert outcome.status == status
    assert any(line.endswith(parameter) for line in peer.lines if line.startswith("MAIL")) == (status == "delivered")


@pytest.mark.parametrize(
    ("data", "is_ascii"), [(UTF8_DATA, False), (DATA + b"\xff", True), (b"A: b\r\n", True), ("ü: b".encode(), False)]
)
@pytest.mark.parametrize("size", [1, 5, 1000])
def test_a_header_beyond_ascii_is_told_from_a_body(data: bytes, is_ascii: bool, size: int) -> None:
    async def read() -> AsyncIterator[bytes]:
        for start in range(0, len(data), size):
            yield data[start : start + size]

    async def scenario() -> bool:
        return await has_ascii_header(read)

    assert asyncio.run(scenario()) == is_ascii


@pytest.mark.parametrize(
    ("code", "text", "wanted_ms"),
    [
        (421, "421 4.7.0 Try again later", 60_000),
        (421, "421 4.3.2 Closing, try again in 5 minutes", 300_000),
        (450, "450 4.2.1 Rate limit exceeded, please wait 30 seconds", 30_000),
        (452, "452 4.7.28 Too many messages, retry after 99 hours", 3_600_000),
        (450, "450 4.7.1 Greylisted, try again in 300 seconds", 0),
        (451, "451 4.3.0 Internal error", 0),
        (550, "550 5.7.1 Rate limit, for ever", 0),
        (250, "250 Ok", 0),
    ],
)
def test_a_server_that_wants_less_of_us_is_told_from_one_that_wants_this_later(
    code: int, text: str, wanted_ms: int
) -> None:
    assert throttle_ms(code, text) == wanted_ms
