"""Peers that stall, trickle, flood or speak out of turn: each is ended or refused, and mail of others goes on."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nodes.smtp.cell import Cell
from tests.nodes.smtp.dialogue import Dialogue

TORTURE = Path(__file__).parents[4] / "shared" / "data" / "mime-torture"
TIMED_OUT = "421 4.4.2 No command came in time, closing the connection"


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    """Small limits."""
    limits = {"connections": 12, "connections_per_address": 10, "message_bytes": "1 MiB"}
    with Cell(tmp_path_factory.mktemp("strict"), limits, sections={"smtp": {"idle_commands": 50}}) as started:
        yield started
        assert started.smtp_listener("smtp").held_bytes == 0


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    """Little patience, so that tests are short."""
    smtp = {"tls_handshake_s": 1.0, "content_bytes_per_s": 50_000}
    limits = {"smtp_idle_s": 0.8}
    with Cell(tmp_path_factory.mktemp("impatient"), limits, sections={"smtp": smtp}) as started:
        yield started
        assert started.smtp_listener("smtp").held_bytes == 0


def open_to(cell: Cell, kind: str = "smtp") -> Dialogue:
    client = Dialogue(cell.port(kind))
    assert client.read().startswith("220 ")
    client.ask("LHLO x.test" if kind == "lmtp" else "EHLO x.test")
    return client


def first_reply(cell: Cell) -> str:
    client = Dialogue(cell.port("smtp"))
    reply = client.read()
    client.close()
    return reply


def lives(cell: Cell) -> None:
    """Somebody else's mail is taken."""
    client = open_to(cell)
    client.begin("bob@example.test")
    assert client.transfer(b"Subject: others\r\n\r\nx\r\n").startswith("250")
    client.close()


def trickle(client: Dialogue, octets: bytes, pause_s: float = 0.05) -> None:
    """Sends one octet after another until the server has enough."""
    try:
        for octet in octets:
            client.send(bytes([octet]))
            time.sleep(pause_s)
    except OSError:
        return


@pytest.mark.parametrize(
    "stage",
    [
        (),
        ("EHLO x.test",),
        ("EHLO x.test", "MAIL FROM:<a@remote.test>"),
        ("EHLO x.test", "MAIL FROM:<a@remote.test>", "RCPT TO:<bob@example.test>"),
        ("EHLO x.test", "MAIL FROM:<a@remote.test>", "RCPT TO:<bob@example.test>", "DATA"),
    ],
)
def test_a_peer_that_stalls_is_told_and_closed_at_every_stage(impatient: Cell, stage: tuple[str, ...]) -> None:
    client = Dialogue(impatient.port("smtp"))
    client.read()
    for command in stage:
        client.ask(command)
    assert client.read() == TIMED_OUT
    assert client.line() == b""
    client.close()


def test_a_peer_that_stalls_inside_a_chunk_is_closed(impatient: Cell) -> None:
    client = open_to(impatient)
    client.begin("bob@example.test")
    client.send(b"BDAT 1000 LAST\r\nhalf")
    assert client.read() == TIMED_OUT
    client.close()


def test_a_command_that_comes_octet_by_octet_must_end_in_time(impatient: Cell) -> None:
    client = open_to(impatient)
    trickle(client, b"NOOP " + b"x" * 100)
    assert client.read() == TIMED_OUT
    lives(impatient)
    client.close()


def test_content_that_only_trickles_is_ended(impatient: Cell) -> None:
    before = len(impatient.inbox("bob@example.test"))
    client = open_to(impatient)
    client.begin("bob@example.test")
    client.ask("DATA")
    trickle(client, b"Subject: x\r\n\r\n" + b"x" * 100)
    assert client.read() == TIMED_OUT
    assert len(impatient.inbox("bob@example.test")) == before
    client.close()


def test_content_that_comes_slowly_but_fast_enough_is_taken(impatient: Cell) -> None:
    client = open_to(impatient)
    client.begin("bob@example.test")
    client.ask("DATA")
    for _ in range(8):
        client.send(b"x" * 19_998 + b"\r\n")
        time.sleep(0.1)
    client.send(b".\r\n")
    assert client.read().startswith("250 ")
    client.close()


@pytest.mark.parametrize("garbage", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01" + bytes(600)])
@pytest.mark.parametrize("kind", ["smtp", "submissions"])
def test_a_handshake_of_garbage_or_nothing_ends_the_connection(impatient: Cell, kind: str, garbage: bytes) -> None:
    client = Dialogue(impatient.port(kind))
    if kind == "smtp":
        client.read()
        client.ask("EHLO x.test")
        assert client.ask("STARTTLS").startswith("220 ")
    client.send(garbage)
    while client.line():  # perhaps an alert
        pass
    client.close()
    lives(impatient)


def test_commands_in_clear_behind_starttls_are_not_executed(strict: Cell) -> None:  # RFC 3207 4.2
    client = open_to(strict)
    client.send(b"STARTTLS\r\nMAIL FROM:<evil@remote.test>\r\n")
    assert client.read().startswith("220 ")
    client.upgrade(strict.client_context())
    client.ask("EHLO x.test")
    assert client.ask("RCPT TO:<bob@example.test>").startswith("503 5.5.1 Send MAIL first")
    client.close()


def test_a_flood_of_connections_is_refused_and_what_is_open_goes_on(strict: Cell) -> None:
    first = open_to(strict)
    flood = [Dialogue(strict.port("smtp")) for _ in range(60)]
    greetings = [client.read()[:3] for client in flood]
    assert greetings.count("421") >= 50
    assert first.ask("NOOP") == "250 2.0.0 Ok"
    for client in [first, *flood]:
        client.close()
    strict.until(lambda: not strict.smtp_listener("smtp").open_connections)
    lives(strict)


def test_stalled_handshakes_count_as_connections(strict: Cell) -> None:
    stalled = []
    while not first_reply(strict).startswith("421 4.7.0"):
        stalled.append(socket.create_connection(("127.0.0.1", strict.port("submissions")), 10))
    assert len(stalled) >= 9
    for connection in stalled:
        connection.close()
    while not first_reply(strict).startswith("220 "):
        time.sleep(0.01)
    lives(strict)


def test_a_flood_of_recipients_is_refused_one_by_one(strict: Cell) -> None:
    client = open_to(strict)
    client.send(b"MAIL FROM:<a@remote.test>\r\n" + b"RCPT TO:<bob@example.test>\r\n" * 3000)
    assert client.read().startswith("250")
    codes = [client.read()[:9] for _ in range(3000)]
    assert codes == ["250 2.1.5"] * 100 + ["452 4.5.3"] * 2900
    client.close()


def test_guessing_recipients_ends_the_session(strict: Cell) -> None:
    client = open_to(strict)
    client.begin()
    client.send(b"".join(b"RCPT TO:<guess%d@example.test>\r\n" % number for number in range(100)))
    codes = []
    while reply := client.read():
        codes.append(reply[:9])
    assert codes == ["550 5.1.1"] * 20 + ["421 4.7.0"]
    client.close()


def test_commands_that_bring_no_mail_end_the_session(strict: Cell) -> None:
    client = open_to(strict)
    client.send(b"NOOP\r\n" * 1000)
    replies = []
    while reply := client.read():
        replies.append(reply[:9])
    assert replies == ["250 2.0.0"] * 49 + ["421 4.7.0"]
    client.close()


def test_unknown_commands_and_binary_noise_end_the_session(strict: Cell) -> None:
    client = open_to(strict)
    client.send(os.urandom(4096).replace(b"\n", b"\r").replace(b"\r", b"\r\n") + b"\r\nXYZZY\r\n" * 50)
    replies = []
    while reply := client.read():
        replies.append(reply[:3])
    assert set(replies[:-1]) == {"500"}
    assert replies[-1] == "421"
    client.close()
    lives(strict)


def test_a_message_far_over_a_too_small_size_is_refused_and_nothing_of_it_is_held(strict: Cell) -> None:
    """SIZE is a promise only (RFC 1870 6.1)."""
    client = open_to(strict)
    assert client.ask("MAIL FROM:<a@remote.test> SIZE=1000").startswith("250")
    client.ask("RCPT TO:<bob@example.test>")
    client.ask("DATA")
    line = b"x" * 65_534 + b"\r\n"
    for _ in range(800):  # 50 MiB
        client.send(line)
        assert strict.smtp_listener("smtp").held_bytes <= (1 << 20) + 4 * len(line)
    client.send(b".\r\n")
    assert client.read().startswith("552 5.3.4")
    client.begin("bob@example.test")
    assert client.transfer(b"Subject: x\r\n\r\nx\r\n").startswith("250")
    client.close()


def test_a_message_without_an_end_is_not_read_for_ever(strict: Cell) -> None:
    client = open_to(strict)
    client.begin("bob@example.test")
    client.ask("DATA")
    line = b"x" * 1_048_574 + b"\r\n"
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        client.send(line * 200)
    client.close()
    lives(strict)


def test_a_bare_line_end_does_not_end_a_command(strict: Cell) -> None:  # RFC 5321 2.3.8
    client = open_to(strict)
    client.send(b"NOOP\nMAIL FROM:<a@remote.test>\r\n")
    assert client.read().startswith("500 5.5.2")
    assert client.read().startswith("250 2.1.0")
    client.send(b"RCPT TO:<bob@example.test>\rRCPT TO:<alice@example.test>\r\n")
    assert client.read().startswith("500 5.5.2")
    client.close()


@pytest.mark.parametrize(
    ("head", "answer"),
    [
        (b"".join(b"X-Field-%d: x\r\n" % number for number in range(10_000)), "554 5.6.0"),
        (b"X: " + b" folded\r\n" * 40_000, "552 5.3.4"),
        (b"Subject: " + "ä".encode() * 100 + b"\r\n", "250 2.0.0"),
        (b"Subject: a\0b\r\n", "550 5.6.0"),
        (b"Subject: a\x07\x1b[31m\r\n", "250 2.0.0"),
        (b"X: " + b"y" * 100_000 + b"\r\n", "250 2.0.0"),
        (b"no field at all\r\n", "250 2.0.0"),
        (b"", "250 2.0.0"),
    ],
)
def test_a_strange_header_has_its_reply(strict: Cell, head: bytes, answer: str) -> None:
    client = open_to(strict)
    client.begin("bob@example.test")
    assert client.transfer(head + b"\r\nbody\r\n").startswith(answer)
    assert client.ask("NOOP") == "250 2.0.0 Ok"
    client.close()


def test_a_message_of_a_thousand_levels_is_kept_as_it_is(strict: Cell) -> None:
    parts = b"".join(
        b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (level, level) for level in range(1000)
    )
    message = b"Subject: deep\r\n" + parts + b"\r\nthe bottom\r\n"
    client = open_to(strict)
    client.begin("bob@example.test")
    assert client.transfer(message).startswith("250")
    assert strict.inbox("bob@example.test")[-1][1] == message
    client.close()


@pytest.mark.skipif(not TORTURE.is_dir(), reason="shared/data/mime-torture is not there")
def test_every_torture_message_is_kept_exactly_or_refused_for_what_it_holds(strict: Cell) -> None:
    client = open_to(strict)
    outcomes = []
    for path in sorted(one for one in TORTURE.rglob("*") if one.is_file()):
        message = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        if not message.endswith(b"\r\n"):
            message += b"\r\n"
        client.begin("bob@example.test")
        reply = client.transfer(message.replace(b"\r\n.", b"\r\n..") if message[:1] != b"." else b"." + message)
        outcomes.append(reply[:3])
        if reply.startswith("250"):
            assert strict.inbox("bob@example.test")[-1][1] == message, path
        else:
            assert reply.startswith("550 5.6.0"), path
            assert b"\0" in message or message.count(b"\r") != message.count(b"\r\n"), path
    assert outcomes.count("250") > 90
    client.close()


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Cell]:
    with Cell(tmp_path, sections={"smtp": {"greeting_delay_s": 0.3}}) as started:
        yield started


def test_who_speaks_before_the_greeting_is_refused_where_that_is_watched_for(waiting: Cell) -> None:
    early = Dialogue(waiting.port("smtp"))
    early.send(b"EHLO early.test\r\nMAIL FROM:<a@remote.test>\r\n")
    assert early.read().startswith("554 5.5.1 You spoke before the greeting")
    assert early.line() == b""
    early.close()
    patient = Dialogue(waiting.port("smtp"))
    assert patient.read().startswith("220 ")
    patient.close()
    submitter = Dialogue(waiting.port("submission"))
    submitter.send(b"EHLO early.test\r\n")
    assert submitter.read().startswith("220 ")
    submitter.close()
