"""Filters that are down, silent, garbled, killed: `when_down` says what then, and nobody else is kept waiting."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.nodes.filters.filtered import ALICE, LETTER, counted, filtered, found, kept, send
from tests.nodes.smtp.cell import Cell
from tests.nodes.smtp.dialogue import Dialogue
from tests.peers.filter_peer import read, reset
from tests.peers.milter_peer import CLOSE, SILENT_AT, STALL, MilterPeer, packet
from tests.peers.scanner_peers import ClamdPeer, RspamdPeer, http

UNAVAILABLE = "451 4.7.1 A filter is not available at the moment, try again later"
LARGE = LETTER + b"x" * 70 * 60_000 + b"\r\n"


class Peers(NamedTuple):
    milter: MilterPeer
    clamd: ClamdPeer
    rspamd: RspamdPeer


@pytest.fixture(scope="module")
def peers() -> Iterator[Peers]:
    with MilterPeer() as milter, ClamdPeer() as clamd, RspamdPeer() as rspamd:
        yield Peers(milter, clamd, rspamd)


class Cells(NamedTuple):
    """The same but for what becomes of mail that can not be judged."""

    strict: Cell
    lenient: Cell


@contextmanager
def cells_behind(folder: Path, peers: Peers, patience_s: float) -> Iterator[Cells]:
    def sections(when_down: str) -> dict[str, Any]:
        patience = {"connect_s": patience_s, "command_s": patience_s, "message_s": 10 * patience_s}
        return {
            "filters": {
                "milters": [f"scripted={peers.milter.address}"],
                "clamav": peers.clamd.address,
                "rspamd": peers.rspamd.address,
                "retry_s": 3600,
                "down_after": 1_000_000,
            },
            "milter": {"when_down": when_down, **patience},
            "clamav": {"when_down": when_down, "timeout_s": patience_s},
            "rspamd": {"when_down": when_down, "timeout_s": patience_s},
        }

    with (
        filtered(folder / "strict", sections("tempfail")) as strict,
        filtered(folder / "lenient", sections("accept")) as lenient,
    ):
        yield Cells(strict, lenient)


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory, peers: Peers) -> Iterator[Cells]:
    with cells_behind(tmp_path_factory.mktemp("patient"), peers, 60.0) as cells:
        yield cells


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory, peers: Peers) -> Iterator[Cells]:
    """For what stalls: on a busy machine they may find that of the others, too."""
    with cells_behind(tmp_path_factory.mktemp("hasty"), peers, 0.3) as cells:
        yield cells


@pytest.fixture(autouse=True)
def _all_well(peers: Peers) -> None:
    for peer in peers:
        peer.begin()


def check_both(cells: Cells, name: str, reason: str, data: bytes = LETTER) -> None:
    """Put off by the one cell, and not delivered; taken by the other, which says why it was not judged."""
    strict, lenient = cells
    before = len(kept(strict))
    assert send(strict, data) == UNAVAILABLE
    assert len(kept(strict)) == before
    assert counted(strict, name, "down") >= 1
    assert send(lenient, data).startswith("250")
    assert kept(lenient)[-1].endswith(data)
    assert reason in found(lenient)[name]["down"]


def test_a_filter_that_nobody_serves(patient: Cells, peers: Peers) -> None:
    for name, peer in (("scripted", peers.milter), ("clamav", peers.clamd), ("rspamd", peers.rspamd)):
        peer.hang_up()
        check_both(patient, name, "can not be reached")
        peer.listen()
        peer.begin()
        assert send(patient.strict).startswith("250")


@pytest.mark.parametrize("letter", "OCHMRTLNBE")
def test_a_milter_that_stalls_at_any_step(hasty: Cells, peers: Peers, letter: str) -> None:
    peers.milter.begin({letter: STALL})
    check_both(hasty, "scripted", "no answer within")


@pytest.mark.parametrize("letter", "OCHMRTLNBE")
def test_a_milter_that_closes_at_any_step(patient: Cells, peers: Peers, letter: str) -> None:
    peers.milter.begin({letter: CLOSE})
    check_both(patient, "scripted", "it closed the connection")


@pytest.mark.parametrize(
    "octets",
    [
        b"\0\0\0\0",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        packet("?"),
        packet("y", b"250 2.0.0 Ok\0"),
        packet("y", b""),
        packet("m", b"\0"),
        packet("O", b"\0" * 12),
    ],
)
@pytest.mark.parametrize("letter", "OE")
def test_a_milter_that_says_what_is_no_answer(patient: Cells, peers: Peers, letter: str, octets: bytes) -> None:
    peers.milter.begin({letter: octets})
    check_both(patient, "scripted", "not understood")


def test_a_milter_that_speaks_without_being_asked(patient: Cells, peers: Peers) -> None:
    peers.milter.begin({"T": packet("c") + packet("a")})
    check_both(patient, "scripted", "not understood: it speaks without being asked")


def test_a_milter_that_answers_where_it_promised_silence(patient: Cells, peers: Peers) -> None:
    peers.milter.begin({"R": [packet("c")]}, steps=SILENT_AT["R"])
    check_both(patient, "scripted", "not understood: it speaks without being asked")


def test_a_milter_that_changes_without_end(patient: Cells, peers: Peers) -> None:
    peers.milter.begin({"E": [packet("h", b"X-Again\0and again\0")] * 2000})
    check_both(patient, "scripted", "too many changes")


def drip(octets: bytes, peer: RspamdPeer) -> Callable[[socket.socket], None]:
    """Takes a request, says so much and then nothing more."""

    def serve(connection: socket.socket) -> None:
        peer.take(connection)
        connection.sendall(octets)
        peer.stall(connection)

    return serve


@pytest.mark.parametrize("octets", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"])
def test_an_rspamd_that_stalls(hasty: Cells, peers: Peers, octets: bytes) -> None:
    peers.rspamd.serve = drip(octets, peers.rspamd)
    peers.rspamd.drop()
    check_both(hasty, "rspamd", "no answer within")


def test_an_rspamd_that_does_not_read(hasty: Cells, peers: Peers) -> None:
    peers.rspamd.serve = peers.rspamd.stall
    peers.rspamd.drop()
    check_both(hasty, "rspamd", "no answer within", LARGE)


@pytest.mark.parametrize(
    "octets",
    [
        b"220 mx.example.test ESMTP\r\n",
        http(b"{}", "500 Internal Server Error"),
        http(b'{"action": "no'),
        http(b"x" * 5_000_000),
        http(b'{"action": "explode"}'),
    ],
)
def test_an_rspamd_that_says_what_is_no_answer(patient: Cells, peers: Peers, octets: bytes) -> None:
    peers.rspamd.answer = octets
    check_both(patient, "rspamd", "not understood")


@pytest.mark.parametrize("octets", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"])
def test_an_rspamd_that_closes_in_the_middle(patient: Cells, peers: Peers, octets: bytes) -> None:
    def serve(connection: socket.socket) -> None:
        peers.rspamd.take(connection)
        connection.sendall(octets)

    peers.rspamd.serve = serve
    peers.rspamd.drop()
    check_both(patient, "rspamd", "it closed the connection")


def test_a_clamd_that_stalls_or_does_not_read(hasty: Cells, peers: Peers) -> None:
    peers.clamd.serve = peers.clamd.stall
    check_both(hasty, "clamav", "no answer within")
    check_both(hasty, "clamav", "no answer within", LARGE)


@pytest.mark.parametrize("octets", [b"what\0", b"\0", b"x" * 100_000])
def test_a_clamd_that_says_what_is_no_answer(patient: Cells, peers: Peers, octets: bytes) -> None:
    peers.clamd.answer = octets
    check_both(patient, "clamav", "not understood")


def test_a_clamd_that_closes_in_the_middle(patient: Cells, peers: Peers) -> None:
    def serve(connection: socket.socket) -> None:
        read(connection, 20)
        reset(connection)

    peers.clamd.serve = serve
    check_both(patient, "clamav", "it closed the connection", LARGE)


def test_a_filter_that_rests_is_not_asked(tmp_path: Path, peers: Peers) -> None:
    sections = {"filters": {"clamav": peers.clamd.address, "down_after": 1, "retry_s": 3600}}
    peers.clamd.serve = reset
    with filtered(tmp_path, sections) as cell:
        assert send(cell) == UNAVAILABLE
        asked = peers.clamd.connections
        peers.clamd.begin()
        assert send(cell) == UNAVAILABLE
        assert peers.clamd.connections == asked


def test_a_filter_that_is_well_again_is_noticed_without_mail(tmp_path: Path, peers: Peers) -> None:
    sections = {"filters": {"rspamd": peers.rspamd.address, "down_after": 1, "retry_s": 0.2}}
    peers.rspamd.hang_up()
    with filtered(tmp_path, sections) as cell:
        assert send(cell) == UNAVAILABLE
        peers.rspamd.listen()
        cell.until(lambda: peers.rspamd.path == "/ping")
        assert send(cell).startswith("250")


def test_a_slow_filter_keeps_only_its_own_mail_waiting(tmp_path: Path, peers: Peers) -> None:
    sections = {"filters": {"clamav": peers.clamd.address, "retry_s": 3600}, "clamav": {"timeout_s": 60, "at_once": 2}}
    released = threading.Event()

    def slow(connection: socket.socket) -> None:
        released.wait(60)
        peers.clamd.converse(connection)

    with filtered(tmp_path, sections) as cell:
        peers.clamd.serve = slow
        waiting = [Dialogue(cell.port("smtp"), timeout_s=60) for _ in range(2)]
        for client in waiting:
            client.read()
            client.ask("EHLO slow.test")
            client.begin(ALICE)
            client.ask("DATA")
            client.send(LETTER + b".\r\n")
        cell.until(lambda: peers.clamd.connections >= 2)
        lmtp = send(cell, kind="lmtp")  # not asked there, so nothing to wait for
        assert lmtp.startswith("250")
        other = Dialogue(cell.port("smtp"), timeout_s=60)
        other.read()
        assert other.ask("EHLO other.test").startswith("250")
        other.begin(ALICE)
        assert other.ask("RSET").startswith("250")
        released.set()
        assert [client.read()[:3] for client in waiting] == ["250", "250"]
        for client in (*waiting, other):
            client.close()


def test_mail_that_finds_no_place_in_time_follows_the_policy_too(tmp_path: Path, peers: Peers) -> None:
    section = {"timeout_s": 0.3, "at_once": 1}
    sections = {"filters": {"clamav": peers.clamd.address, "retry_s": 3600}, "clamav": section}
    peers.clamd.serve = peers.clamd.stall
    with filtered(tmp_path, sections) as cell:
        clients = [Dialogue(cell.port("smtp"), timeout_s=30) for _ in range(4)]
        for client in clients:
            client.read()
            client.ask("EHLO many.test")
            client.begin(ALICE)
            client.ask("DATA")
            client.send(LETTER + b".\r\n")
        assert [client.read() for client in clients] == [UNAVAILABLE] * 4
        assert counted(cell, "clamav", "busy") >= 1
        for client in clients:
            client.close()


def test_large_messages_that_wait_for_a_filter_do_not_fill_the_memory(tmp_path: Path, peers: Peers) -> None:
    sections = {
        "filters": {"clamav": peers.clamd.address, "retry_s": 3600, "held_bytes": len(LARGE) + 100},
        "clamav": {"timeout_s": 60},
    }
    released = threading.Event()

    def slow(connection: socket.socket) -> None:
        released.wait(60)
        peers.clamd.converse(connection)

    peers.clamd.serve = slow
    before = peers.clamd.connections
    with filtered(tmp_path, sections) as cell:
        client = Dialogue(cell.port("smtp"), timeout_s=60)
        client.read()
        client.ask("EHLO large.test")
        client.begin(ALICE)
        client.ask("DATA")
        client.send(LARGE + b".\r\n")
        cell.until(lambda: peers.clamd.connections > before)
        assert send(cell, LARGE) == UNAVAILABLE
        released.set()
        assert client.read().startswith("250")
        client.close()


def test_a_milter_that_is_killed_in_mid_message_loses_nothing(tmp_path: Path) -> None:
    program = subprocess.Popen(
        [sys.executable, "-m", "tests.peers.milter_peer", "B"], stdout=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    address = program.stdout.readline().strip()
    try:
        with filtered(tmp_path, {"filters": {"milters": [f"mortal={address}"], "retry_s": 3600}}) as cell:
            client = Dialogue(cell.port("smtp"), timeout_s=30)
            client.read()
            client.ask("EHLO client.test")
            client.begin(ALICE)
            client.ask("DATA")
            client.send(LETTER + b".\r\n")
            assert program.stdout.readline().strip() == "stalls"
            os.kill(program.pid, signal.SIGKILL)
            assert client.read() == UNAVAILABLE
            assert kept(cell) == []
            assert client.ask("NOOP") == "250 2.0.0 Ok"
            client.close()
    finally:
        program.kill()
        program.wait()
        program.stdout.close()


def test_a_client_that_leaves_in_the_middle_leaves_no_connection_behind(patient: Cells, peers: Peers) -> None:
    client = Dialogue(patient.strict.port("smtp"))
    client.read()
    client.ask("EHLO client.test")
    client.begin(ALICE)
    client.close()
    patient.strict.until(lambda: peers.milter.said().endswith("Q"))
