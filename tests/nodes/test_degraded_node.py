"""A whole node without its index and its name servers: mail flows, searches are answered, and it says what is amiss."""

from __future__ import annotations

import asyncio
import contextlib
import imaplib
import shutil
import smtplib
import socket
import time
import urllib.request
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from cli.client import AdminClient
from nodes import fulltext
from nodes.config.node import split_address
from nodes.server import Node
from tests.nodes.conftest import MakeCell

Run = Callable[[Coroutine[Any, Any, Any]], Any]
ALICE, PASSWORD = "alice@example.test", "password 1"
OUT = f"From: {ALICE}\r\nSubject: out\r\n\r\nx\r\n"
LETTER = "From: a@remote{0}.test\r\nTo: alice@example.test\r\nSubject: {1}\r\n\r\nSome {1} text.\r\n"


def deliver(address: str, number: int, word: str) -> None:
    with smtplib.SMTP(*split_address(address), local_hostname=f"mx.remote{number}.test") as client:
        client.sendmail(f"a@remote{number}.test", [ALICE], LETTER.format(number, word).encode())


def found(address: str, word: str) -> bytes:
    with imaplib.IMAP4(*split_address(address)) as client:
        client.login(ALICE, PASSWORD)
        client.select("INBOX", readonly=True)
        return bytes(client.search(None, "BODY", f'"{word}"')[1][0])


def until_down(client: AdminClient, part: str) -> dict[str, Any]:
    """The cell's health once this part of the node is down."""
    deadline_s = time.monotonic() + 60
    while True:
        report: dict[str, Any] = client.get("/v1/health")
        if part in report["nodes"][0]["down"]:
            return report
        assert time.monotonic() < deadline_s, report
        time.sleep(0.1)


def is_ready(http: str) -> bool:
    with urllib.request.urlopen(f"http://{http}/readyz") as answer:
        return bool(answer.status == 200)


def metric(http: str, part: str) -> str:
    with urllib.request.urlopen(f"http://{http}/metrics") as answer:
        lines: list[str] = answer.read().decode().splitlines()
    return next(line for line in lines if line.startswith("mailraft_part_up") and f'"{part}"' in line)


def in_a_node(run: Run, make_cell: MakeCell, ask: Callable[[AdminClient, Any, Path], None], *settings: str) -> None:
    cell, config = make_cell(*settings)

    def prepared(endpoints: Any) -> None:
        client = AdminClient(cell)
        client.change("POST", "/v1/tenants", {"name": "example", "domains": ["example.test"]})
        client.change("POST", "/v1/accounts", {"address": ALICE, "password": PASSWORD})
        ask(client, endpoints, config.node.data_dir)

    async def session() -> None:
        async with Node(config).running() as state:
            while state.unready():
                await asyncio.sleep(0.05)
            await asyncio.to_thread(prepared, state.endpoints)

    run(session())


def test_without_its_full_text_index_mail_is_taken_and_searches_read_the_messages(
    run: Run, make_cell: MakeCell
) -> None:
    def ask(client: AdminClient, at: Any, data: Path) -> None:
        deliver(at["smtp"], 1, "needle")
        assert found(at["imap"], "needle") == b"1"
        folder = data / fulltext.FOLDER
        deadline_s = time.monotonic() + 60
        while not folder.exists():
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        while not folder.is_file():  # the indexer, which is at work, may make it again in between
            assert time.monotonic() < deadline_s
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(IsADirectoryError):
                folder.write_text("no folder")  # and none can be made there
        deliver(at["smtp"], 2, "thimble")
        report = until_down(client, "full-text index")
        assert report["status"] == "degraded"
        assert report["leader"] == "n1"
        assert is_ready(at["http"])
        assert metric(at["http"], "full-text index").endswith(" 0.0")
        deliver(at["smtp"], 3, "needle")
        assert found(at["imap"], "needle") == b"1 3"
        assert found(at["imap"], "thimble") == b"2"

    in_a_node(run, make_cell, ask, "fulltext.delay_s=0")


def test_without_name_servers_mail_for_mailboxes_here_is_taken_and_other_mail_waits(
    run: Run, make_cell: MakeCell
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:  # takes every question, and answers none
        silent.bind(("127.0.0.1", 0))

        def ask(client: AdminClient, at: Any, _: Path) -> None:
            with smtplib.SMTP(*split_address(at["submission"])) as mail:
                mail.login(ALICE, PASSWORD)
                for number in range(3):
                    mail.sendmail(ALICE, [f"bob@remote{number}.test"], OUT)
            report = until_down(client, "resolver")
            assert report["status"] == "degraded"
            assert is_ready(at["http"])
            deliver(at["smtp"], 9, "needle")
            assert found(at["imap"], "needle") == b"1"
            domains = client.get("/v1/queue/stats")["domains"]
            assert sorted(one["domain"] for one in domains) == [f"remote{number}.test" for number in range(3)]

        name_server = f"dns.nameservers=127.0.0.1:{silent.getsockname()[1]}"
        in_a_node(run, make_cell, ask, name_server, "dns.timeout_s=0.5")
