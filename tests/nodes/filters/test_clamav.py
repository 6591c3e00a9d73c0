"""What a clamd is asked, and what becomes of its answers."""

from __future__ import annotations

import asyncio
import smtplib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodes.filters.clamav import scan, virus_in
from nodes.filters.health import Garbage
from tests.nodes.filters.filtered import ALICE, LETTER, filtered, found, kept, send
from tests.nodes.smtp.cell import Cell
from tests.peers.scanner_peers import ClamdPeer


@pytest.fixture(scope="module")
def clamd() -> Iterator[ClamdPeer]:
    with ClamdPeer() as peer:
        yield peer


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory, clamd: ClamdPeer) -> Iterator[Cell]:
    sections = {"filters": {"clamav": clamd.address, "retry_s": 3600}}
    with filtered(tmp_path_factory.mktemp("clamav"), sections) as started:
        yield started


def test_a_clean_message_is_scanned_whole_and_taken(cell: Cell, clamd: ClamdPeer) -> None:
    clamd.begin()
    data = LETTER + b"x" * 70 * 3000 + b"\r\n"
    assert send(cell, data).startswith("250")
    assert clamd.scanned == data
    assert found(cell) == {"clamav": {"found": ""}}


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (b"stream: Win.Test.EICAR_HDB-1 FOUND\0", "Win.Test.EICAR_HDB-1"),
        (b"stream: Eicar-Test-Signature(44d88612:68) FOUND\0", "Eicar-Test-Signature"),
        (b"stream: bad\r\n250 name FOUND\0", "bad 250 name"),
    ],
)
def test_what_it_finds_is_refused_with_its_name(cell: Cell, clamd: ClamdPeer, answer: bytes, name: str) -> None:
    clamd.begin(answer)
    before = len(kept(cell))
    assert send(cell) == f"550 5.7.1 The message contains {name}"
    assert len(kept(cell)) == before


def test_what_our_users_submit_is_scanned_too(cell: Cell, clamd: ClamdPeer) -> None:
    clamd.begin(b"stream: Eicar FOUND\0")
    with smtplib.SMTP("127.0.0.1", cell.port("submission")) as submitter:
        submitter.login(ALICE, "secret of alice")
        with pytest.raises(smtplib.SMTPDataError, match="contains Eicar"):
            submitter.sendmail(ALICE, ["x@remote.test"], LETTER)


def test_what_it_finds_goes_to_junk_where_policy_says_so(tmp_path: Path, clamd: ClamdPeer) -> None:
    clamd.begin(b"stream: Eicar FOUND\0")
    with filtered(tmp_path, {"filters": {"clamav": clamd.address}, "clamav": {"found": "junk"}}) as lenient:
        assert send(lenient).startswith("250")
        assert len(kept(lenient, "Junk")) == 1
        assert found(lenient) == {"clamav": {"found": "Eicar"}}


def test_a_message_that_is_too_large_for_it_passes_and_says_so(cell: Cell, clamd: ClamdPeer) -> None:
    clamd.begin()

    def refuse_early(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(b"INSTREAM size limit exceeded. ERROR\0")

    clamd.serve = refuse_early
    assert send(cell, LETTER + b"x" * 70 * 50_000 + b"\r\n").startswith("250")
    assert found(cell) == {"clamav": {"skipped": "large"}}


def test_what_it_says_before_it_hangs_up_is_heard_though_we_still_send(clamd: ClamdPeer) -> None:
    answer = b"INSTREAM size limit exceeded. ERROR"

    def refuse(connection: socket.socket) -> None:
        connection.recv(50_000)
        connection.sendall(answer + b"\0")

    clamd.serve = refuse
    for _ in range(50):
        assert asyncio.run(scan(clamd.address, b"x" * 3_000_000)) == answer


def test_a_message_over_the_limit_is_refused_where_policy_says_so(tmp_path: Path, clamd: ClamdPeer) -> None:
    clamd.begin()
    section = {"message_bytes": 1000, "when_large": "refuse"}
    with filtered(tmp_path, {"filters": {"clamav": clamd.address}, "clamav": section}) as strict:
        assert send(strict, LETTER + b"x" * 1000 + b"\r\n").startswith("552 5.3.4")
        assert send(strict).startswith("250")


@pytest.mark.parametrize("answer", [b"", b"stream: ", b"UNKNOWN COMMAND", b"stream: Can't allocate memory ERROR"])
def test_what_is_no_answer_is_garbage(answer: bytes) -> None:
    with pytest.raises(Garbage):
        virus_in(answer)
