"""A cell of one node whose queue is sent to a peer on this machine."""

from __future__ import annotations

import smtplib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from actors.queue import Day, Throttle, days, queue_stream, throttle
from nodes.config.queue import QueueSection
from nodes.delivery.local import LocalFirst
from nodes.delivery.manager import Manager
from tests.nodes.delivery.peer import Peer, PeerTransport
from tests.nodes.smtp.cell import Cell

MESSAGE = b"From: alice@example.test\r\nSubject: out\r\nMessage-ID: <m1@example.test>\r\n\r\nHello\r\n.dot\r\n"
ALICE, BOB = "alice@example.test", "bob@far.test"


class SendingCell(Cell):
    """`queue`: keys of the configuration's table, short times unless said otherwise."""

    def __init__(self, folder: Path, **queue: Any) -> None:
        super().__init__(folder)
        section = QueueSection(**{"retry_first_s": 0.2, "retry_max_s": 0.5, "lease_s": 4, "takeover_s": 0.2, **queue})
        self.config = self.config.model_copy(update={"queue": section})
        self.peer = Peer()

    def __enter__(self) -> SendingCell:
        super().__enter__()
        return self

    async def _start(self) -> None:
        await super()._start()
        await self.peer.start()
        self.transport = PeerTransport(self.peer.port)
        self.manager = Manager(self.services, LocalFirst(self.services, self.transport))
        await self.manager.start()

    async def _stop(self) -> None:
        await self.manager.stop(1.0)
        await self.peer.stop()
        await super()._stop()

    def submit(self, *recipients: str, options: tuple[str, ...] = (), rcpt: tuple[str, ...] = ()) -> None:
        """Alice sends MESSAGE."""
        with smtplib.SMTP("127.0.0.1", self.port("submission")) as client:
            client.login(ALICE, "secret of alice")
            client.sendmail(ALICE, list(recipients), MESSAGE, options, rcpt)

    def days(self, domain: str) -> list[Day]:
        with self.log.snapshot() as snapshot:
            return days(snapshot.view(queue_stream(domain)))

    def throttle(self, domain: str) -> Throttle | None:
        with self.log.snapshot() as snapshot:
            return throttle(snapshot.view(queue_stream(domain)))

    def waiting(self) -> list[Any]:
        return [item for items in self.queued().values() for item in items]


def wait_until(holds: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + 15
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
