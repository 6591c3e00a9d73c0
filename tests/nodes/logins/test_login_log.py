"""A wrong password leaves one line of one shape in the node's log, whatever protocol it came over."""

import asyncio
import base64
import contextlib
import imaplib
import poplib
import smtplib
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from cli.layout import Node as Member
from nodes.server import Node
from tests.nodes.conftest import MakeCell

Run = Callable[[Coroutine[Any, Any, Any]], Any]
LOGIN, PASSWORD = "nobody@example.test", "hunter2-secret"


def fail_everywhere(member: Member) -> None:
    def port(use: str) -> int:
        return int(member.addresses[use].rpartition(":")[2])

    with smtplib.SMTP("127.0.0.1", port("submission"), timeout=10) as smtp:
        smtp.ehlo()
        smtp.docmd("AUTH", "PLAIN " + base64.b64encode(f"\0{LOGIN}\0{PASSWORD}".encode()).decode())
    with imaplib.IMAP4("127.0.0.1", port("imap"), timeout=10) as imap:
        with contextlib.suppress(imaplib.IMAP4.error):
            imap.login(LOGIN, PASSWORD)
        with contextlib.suppress(imaplib.IMAP4.error):
            imap.authenticate("PLAIN", lambda _: f"\0evil\r\x1b[2J{'x' * 400}\0{PASSWORD}".encode())
    pop3 = poplib.POP3("127.0.0.1", port("pop3"), timeout=10)
    pop3.user(LOGIN)
    with contextlib.suppress(poplib.error_proto):
        pop3.pass_(PASSWORD)
    pop3.close()


def test_a_failed_login_is_logged_in_one_shape_with_the_name_tried(run: Run, make_cell: MakeCell) -> None:
    cluster, config = make_cell("limits.auth_delay_s=0")

    async def live() -> None:
        async with Node(config).running() as state:
            async with asyncio.timeout(15):
                while state.unready():
                    await asyncio.sleep(0.05)
            await asyncio.to_thread(fail_everywhere, cluster.nodes[0])

    with structlog.testing.capture_logs() as said:
        run(live())
    failed = [line for line in said if line["event"] == "login failed"]
    shape = {
        "event": "login failed",
        "log_level": "warning",
        "code": "wrong_credentials",
        "node": "n1",
        "client": "127.0.0.1",
    }
    strange = "evil\ufffd\ufffd[2J" + "x" * 311
    assert failed == [
        {**shape, "listener": "submission", "login": LOGIN},
        {**shape, "listener": "imap", "login": LOGIN},
        {**shape, "listener": "imap", "login": strange[:320]},
        {**shape, "listener": "pop3", "login": LOGIN},
    ]
    assert PASSWORD not in str(said)
