"""What a milter is told of a session, and what becomes of each of its answers."""

from __future__ import annotations

import smtplib
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.nodes.filters.filtered import ALICE, LETTER, counted, filtered, found, kept, send
from tests.nodes.smtp.cell import Cell
from tests.nodes.smtp.dialogue import Dialogue
from tests.peers.milter_peer import MilterPeer, Script, packet

BOB = "bob@example.test"
ALL_LISTENERS = ["smtp", "submission", "submissions", "lmtp"]


@pytest.fixture(scope="module")
def milter() -> Iterator[MilterPeer]:
    with MilterPeer() as peer:
        yield peer


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory, milter: MilterPeer) -> Iterator[Cell]:
    sections = {
        "filters": {"milters": [f"scripted={milter.address}"], "retry_s": 3600},
        "milter": {"listeners": ALL_LISTENERS, "message_bytes": 1024 * 1024, "connections": 1, "connect_s": 60},
    }
    with filtered(tmp_path_factory.mktemp("milter"), sections) as started:
        yield started


@pytest.fixture
def client(cell: Cell) -> Iterator[Dialogue]:
    dialogue = Dialogue(cell.port("smtp"))
    dialogue.read()
    dialogue.ask("EHLO client.test")
    yield dialogue
    dialogue.close()


def end(*changes: bytes) -> Script:
    return {"E": [*changes, packet("c")]}


def test_a_milter_is_told_the_client_the_envelope_and_the_exact_message(cell: Cell, milter: MilterPeer) -> None:
    milter.begin()
    data = b"From: a@remote.test\r\nSubject: one\r\n two\r\nX-None:\r\n\r\n.leading dot\r\n\r\nlast\r\n"
    assert send(cell, data.replace(b"\n.", b"\n.."), ALICE, BOB).startswith("250")
    assert milter.said() == "OCHMRRTLLLNBE"
    host, rest = milter.data("C")[0].split(b"\0", 1)
    assert host == b"client.remote.test"
    assert rest == b"4" + struct.pack(">H", 0) + b"127.0.0.1\0"
    assert milter.data("H") == [b"client.test\0"]
    assert milter.data("M") == [b"<a@remote.test>\0"]
    assert milter.data("R") == [b"<alice@example.test>\0", b"<bob@example.test>\0"]
    assert milter.data("L") == [b"From\0a@remote.test\0", b"Subject\0one\n two\0", b"X-None\0\0"]
    assert milter.data("B") == [b".leading dot\r\n\r\nlast\r\n"]
    assert milter.macros("C")["j"] == "mx.example.test"
    assert milter.macros("R") == {"{rcpt_addr}": BOB}
    assert milter.macros("E")["i"] in kept(cell)[-1].decode()


def test_only_the_macros_that_it_asked_for_are_told(cell: Cell, milter: MilterPeer) -> None:
    wanted = struct.pack(">I", 0) + b"j {client_addr}\0" + struct.pack(">I", 3) + b"\0"
    milter.begin(macros=wanted)
    assert send(cell).startswith("250")
    assert milter.macros("C") == {"j": "mx.example.test", "{client_addr}": "127.0.0.1"}
    assert milter.macros("R") == {}
    assert milter.macros("E").keys() == {"i"}


def test_steps_that_it_declined_are_left_out_and_silent_ones_are_not_waited_for(cell: Cell, milter: MilterPeer) -> None:
    declined = 0x01 | 0x02 | 0x08 | 0x10 | 0x200  # connect, helo, rcpt, body, data
    silent = 0x80 | 0x4000 | 0x40000  # header, mail, end of header
    milter.begin(end(packet("h", b"X-Seen\0yes\0")), steps=declined | silent)
    assert send(cell).startswith("250")
    assert milter.said() == "OMLLNE"
    assert b"X-Seen: yes\r\n" in kept(cell)[-1]


def test_leading_space_of_a_header_is_told_where_it_was_asked_for(cell: Cell, milter: MilterPeer) -> None:
    milter.begin(steps=0x100000)
    assert send(cell, b"Subject:  two\r\nFrom:a@b.test\r\n\r\n").startswith("250")
    assert milter.data("L") == [b"Subject\0  two\0", b"From\0a@b.test\0"]


def test_a_large_body_goes_in_pieces_until_the_filter_has_seen_enough(cell: Cell, milter: MilterPeer) -> None:
    body = b"x" * 70 + b"\r\n"
    milter.begin()
    assert send(cell, LETTER + body * 2000).startswith("250")
    pieces = milter.data("B")
    assert [len(one) for one in pieces[:2]] == [65_535, 65_535]
    assert b"".join(pieces) == b"Hello.\r\n" + body * 2000
    milter.begin({"B": [packet("s")]})
    assert send(cell, LETTER + body * 2000).startswith("250")
    assert milter.said() == "OCHMRTLLNBE"


def test_fields_that_it_adds_stand_in_front_and_the_message_stays_as_it_was(cell: Cell, milter: MilterPeer) -> None:
    milter.begin(
        end(
            packet("i", struct.pack(">I", 0) + b"X-First\0one\n two\0"),
            packet("p"),
            packet("h", b"X-Second\0three\0"),
            packet("m", struct.pack(">I", 1) + b"X-Third\0new\0"),
        )
    )
    assert send(cell).startswith("250")
    read = kept(cell)[-1]
    assert read.startswith(
        b"Return-Path: <a@remote.test>\r\nX-First: one\r\n two\r\nX-Second: three\r\nX-Third: new\r\nReceived: from"
    )
    assert read.endswith(b"\r\n" + LETTER)
    assert found(cell) == {"scripted": {"action": "continue"}}


def test_what_would_change_the_message_or_its_envelope_is_noted_and_not_done(cell: Cell, milter: MilterPeer) -> None:
    milter.begin(
        end(
            packet("b", b"another body"),
            packet("m", struct.pack(">I", 1) + b"subject\0changed\0"),
            packet("m", struct.pack(">I", 1) + b"From\0\0"),
            packet("+", b"<other@remote.test>\0"),
            packet("-", b"<alice@example.test>\0"),
            packet("e", b"<else@remote.test>\0"),
            packet("h", b"Bad name\0x\0"),
            packet("h", b"X-Long\0" + b"x" * 70_000 + b"\0"),
        )
    )
    assert send(cell).startswith("250")
    assert kept(cell)[-1].endswith(b"\r\n" + LETTER)
    assert found(cell)["scripted"]["not_applied"] == [
        "replace body",
        "change header subject",
        "change header From",
        "add recipient",
        "delete recipient",
        "change sender",
        "add header Bad name",
        "add header X-Long",
    ]
    assert cell.queued() == {}


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        (packet("r"), "550 5.7.1 Refused by a filter"),
        (packet("t"), "451 4.7.1 A filter asks to try again later"),
        (packet("4"), "451 4.7.1 A filter is closing, try again later"),
        (packet("y", b"554 5.6.0 100%% spam\0"), "554 5.6.0 100% spam"),
        (packet("y", b"450-4.3.2 one\r\n450 4.3.2 two\0"), "450-4.3.2 one\n450 4.3.2 two"),
        (packet("y", b"550 no status code \xe9\0"), "550 5.7.1 no status code"),
        (packet("y", b"421 4.7.0 go away\0"), "451 4.7.0 go away"),
    ],
)
@pytest.mark.parametrize("letter", "CHMRTLNBE")
def test_a_refusal_at_any_step_is_the_clients_reply(
    cell: Cell, milter: MilterPeer, answer: bytes, reply: str, letter: str
) -> None:
    milter.begin({letter: [answer]})
    before = len(kept(cell))
    assert send(cell) == reply
    assert len(kept(cell)) == before


@pytest.mark.parametrize("letter", "CHMRTLNBE")
def test_who_is_accepted_at_any_step_is_not_asked_about_any_more(cell: Cell, milter: MilterPeer, letter: str) -> None:
    milter.begin({letter: [packet("a")]})
    assert send(cell).startswith("250")
    assert found(cell)["scripted"] == {"action": "accept"}
    assert milter.said().rstrip("AQ").endswith(letter)


@pytest.mark.parametrize("letter", "CMRBE")
def test_what_it_would_discard_is_kept_in_junk(cell: Cell, milter: MilterPeer, letter: str) -> None:
    milter.begin({letter: [packet("d")]})
    before = len(kept(cell, "Junk"))
    assert send(cell).startswith("250")
    assert len(kept(cell, "Junk")) == before + 1
    assert found(cell)["scripted"] == {"action": "discard"}


def test_what_it_quarantines_is_kept_in_junk_with_its_reason(cell: Cell, milter: MilterPeer) -> None:
    milter.begin(end(packet("q", b"odd attachment\0")))
    before = len(kept(cell, "Junk"))
    assert send(cell).startswith("250")
    assert len(kept(cell, "Junk")) == before + 1
    assert found(cell)["scripted"] == {"action": "continue", "quarantine": "odd attachment"}
    assert counted(cell, "scripted", "junk") >= 1


def test_mail_to_elsewhere_that_it_quarantines_is_not_sent(cell: Cell, milter: MilterPeer) -> None:
    milter.begin(end(packet("q", b"spam\0")))
    with smtplib.SMTP("127.0.0.1", cell.port("submission")) as submitter:
        submitter.login(ALICE, "secret of alice")
        with pytest.raises(smtplib.SMTPDataError, match="holds this message back"):
            submitter.sendmail(ALICE, ["x@remote.test"], LETTER)
    assert cell.queued() == {}


def test_a_submitter_is_told_as_authenticated_and_tls_by_its_name(cell: Cell, milter: MilterPeer) -> None:
    milter.begin()
    with smtplib.SMTP_SSL("localhost", cell.port("submissions"), context=cell.client_context()) as submitter:
        submitter.login(ALICE, "secret of alice")
        submitter.sendmail(ALICE, [BOB], LETTER)
    assert milter.macros("M")["{auth_authen}"] == ALICE
    assert milter.macros("H")["{tls_version}"].startswith("TLSv1.")


def test_lmtp_tells_each_recipient_what_the_milter_said(cell: Cell, milter: MilterPeer) -> None:
    milter.begin({"E": [packet("r")]})
    client = Dialogue(cell.port("lmtp"))
    client.read()
    client.ask("LHLO client.test")
    client.begin(ALICE, BOB)
    assert client.transfer(LETTER).startswith("550 5.7.1")
    assert client.read().startswith("550 5.7.1")
    client.close()


def test_a_recipient_that_it_refuses_does_not_concern_the_others(
    cell: Cell, milter: MilterPeer, client: Dialogue
) -> None:
    milter.begin({"R": [packet("r")]})
    assert client.begin(BOB)[0].startswith("550 5.7.1")
    milter.script = {}
    assert client.ask(f"RCPT TO:<{ALICE}>").startswith("250")
    assert client.transfer(LETTER).startswith("250")
    assert milter.said() == "OCHMRRTLLNBE"


def test_one_connection_serves_the_messages_of_a_session(cell: Cell, milter: MilterPeer, client: Dialogue) -> None:
    milter.begin()
    for _ in range(2):
        client.begin(ALICE)
        assert client.transfer(LETTER).startswith("250")
    client.begin(ALICE)
    client.ask("RSET")
    client.begin(BOB)
    assert client.transfer(LETTER).startswith("250")
    assert len(milter.heard) == 1
    assert milter.said() == "OCH" + "MRTLLNBE" * 2 + "MR" + "A" + "MRTLLNBE"


def test_it_is_told_again_what_it_knew_after_a_restart(cell: Cell, milter: MilterPeer, client: Dialogue) -> None:
    milter.begin()
    client.begin(ALICE, BOB)
    milter.drop()
    assert client.transfer(LETTER).startswith("250")
    assert [milter.said(n) for n in range(2)] == ["OCHMRR", "OCHMRRTLLNBE"]


def test_who_idles_makes_room_for_another_session(cell: Cell, milter: MilterPeer, client: Dialogue) -> None:
    milter.begin()
    client.begin(ALICE)
    assert send(cell).startswith("250")  # there is one connection at a time in this cell
    assert client.transfer(LETTER).startswith("250")
    assert [milter.said(n).rstrip("Q") for n in range(3)] == ["OCHMR", "OCHMRTLLNBE", "OCHMRTLLNBE"]


def test_many_sessions_share_one_connection_and_all_are_served(cell: Cell, milter: MilterPeer) -> None:
    milter.begin()
    with ThreadPoolExecutor(6) as sessions:
        replies = list(sessions.map(lambda _: send(cell, LETTER, ALICE, BOB), range(12)))
    assert [reply[:3] for reply in replies] == ["250"] * 12


def test_a_session_that_ends_closes_its_connection(cell: Cell, milter: MilterPeer) -> None:
    milter.begin()
    assert send(cell).startswith("250")
    cell.until(lambda: milter.said().endswith("Q"))


def test_a_message_over_its_limit_is_taken_without_its_word(cell: Cell, milter: MilterPeer) -> None:
    milter.begin()
    assert send(cell, LETTER + b"x" * 70 * 16_000 + b"\r\n").startswith("250")
    assert found(cell) == {"scripted": {"skipped": "large"}}
    assert "T" not in milter.said()
