"""What becomes of a message when the log can not take it, and when the node stops."""

import threading
import time
from pathlib import Path

import pytest

from nodes.smtp import server
from tests.nodes.smtp.cell import Cell
from tests.nodes.smtp.dialogue import Dialogue

MESSAGE = b"Subject: x\r\n\r\nx\r\n"


def connect(cell: Cell) -> Dialogue:
    client = Dialogue(cell.port("smtp"))
    client.read()
    client.ask("EHLO x")
    return client


def test_without_room_on_disk_mail_is_refused_for_now_and_nothing_is_lost(tmp_path: Path) -> None:
    with Cell(tmp_path) as cell:
        client = connect(cell)
        client.begin("bob@example.test")
        assert client.transfer(MESSAGE).startswith("250 2.0.0")
        client.close()
    with Cell(tmp_path, reserve_bytes=1 << 60) as full:
        client = connect(full)
        client.begin("bob@example.test")
        assert client.transfer(MESSAGE) == "452 4.3.1 Not enough storage, try again later"
        assert len(full.inbox("bob@example.test")) == 1
        assert client.ask("NOOP") == "250 2.0.0 Ok"
        client.close()
    with Cell(tmp_path) as again:
        client = connect(again)
        client.begin("bob@example.test")
        assert client.transfer(MESSAGE).startswith("250 2.0.0")
        client.close()


def test_a_stopping_node_finishes_the_transaction_and_takes_no_other(tmp_path: Path) -> None:
    with Cell(tmp_path) as cell:
        idle, busy = connect(cell), connect(cell)
        busy.begin("bob@example.test")
        assert busy.ask("DATA").startswith("354")
        stopping = threading.Thread(target=lambda: cell.call(cell.listeners["smtp"].stop(5.0)))
        stopping.start()
        assert idle.read() == "421 4.3.2 The server is stopping, try again or use another one"
        assert idle.line() == b""
        busy.send(MESSAGE + b".\r\n")
        assert busy.read().startswith("250 2.0.0")
        assert busy.read().startswith("421 4.3.2")
        stopping.join(5)
        assert not stopping.is_alive()
        assert len(cell.inbox("bob@example.test")) == 1


def test_the_grace_time_ends_for_a_client_that_does_not_finish(tmp_path: Path) -> None:
    with Cell(tmp_path) as cell:
        client = connect(cell)
        client.begin("bob@example.test")
        client.ask("DATA")
        started_s = time.monotonic()
        cell.call(cell.listeners["smtp"].stop(0.2))
        assert time.monotonic() - started_s < 2
        assert client.line() == b""


def test_a_log_that_has_stopped_is_a_temporary_refusal(tmp_path: Path) -> None:
    with Cell(tmp_path) as cell:
        client = connect(cell)
        client.begin("bob@example.test")
        cell.call(cell.runtime.stop())
        assert client.transfer(MESSAGE)[:9] == "451 4.3.2"
        client.close()


def test_without_a_majority_mail_is_refused_in_time_and_reads_go_on(tmp_path: Path) -> None:
    with Cell(tmp_path):
        pass
    with Cell(tmp_path, alone=True) as cell:
        client = connect(cell)
        assert client.begin("bob@example.test", "nobody@example.test") == [
            "250 2.1.5 Ok",
            "550 5.1.1 There is no such mailbox here",
        ]
        started_s = time.monotonic()
        reply = client.transfer(MESSAGE)
        assert reply == "451 4.3.2 The cell has no leader at the moment, try again later"
        assert time.monotonic() - started_s < 4
        assert client.ask("NOOP") == "250 2.0.0 Ok"
        client.close()


def test_content_that_would_take_too_much_memory_is_refused_for_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HELD_CONTENT_BYTES", 200_000)
    with Cell(tmp_path) as cell:
        client, other = connect(cell), connect(cell)
        client.begin("bob@example.test")
        other.begin("bob@example.test")
        client.ask("DATA")
        client.send(b"x" * 150_000)
        reply = other.transfer(b"x" * 150_000 + b"\r\n")
        assert reply == "452 4.3.1 Too much mail is arriving at once, try again later"
        client.send(b"\r\n.\r\n")
        assert client.read().startswith("250 2.0.0")
        other.begin("bob@example.test")
        assert other.transfer(b"x" * 150_000 + b"\r\n").startswith("250 2.0.0")
        client.close()
        other.close()
