"""A steady trickle of mail to whatever nodes a cluster has, and what became of each message."""

import itertools
import smtplib
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from chaos.messages import make_message
from cli import layout

SENDERS = 2
PAUSE_S = 0.1
TIMEOUT_S = 30.0


class Load:
    """`with Load(...)`: sends until `stop`. `acknowledged` are the identities that were answered 250."""

    def __init__(self, cluster: Path, recipient: str) -> None:
        self._cluster = cluster
        self._recipient = recipient
        self._seed = time.time_ns()
        self._numbers = itertools.count()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._keep_sending) for _ in range(SENDERS)]
        self.acknowledged: set[str] = set()
        self.refusals: list[str] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Returns when no message is under way."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, count: int, timeout_s: float = 30.0) -> None:
        """Returns when so many more messages were acknowledged."""
        enough = len(self.acknowledged) + count
        deadline = time.monotonic() + timeout_s
        while len(self.acknowledged) < enough:
            assert time.monotonic() < deadline, self.refusals[-5:]
            time.sleep(0.05)

    def _keep_sending(self) -> None:
        while not self._stopping.wait(PAUSE_S):
            number = next(self._numbers)
            endpoints = [node.addresses["smtp"] for node in layout.load(self._cluster).nodes]
            self._send(number, endpoints[number % len(endpoints)])

    def _send(self, number: int, endpoint: str) -> None:
        message = make_message(self._seed, number, (self._recipient,))
        host, _, port = endpoint.rpartition(":")
        try:
            with smtplib.SMTP(host, int(port), timeout=TIMEOUT_S) as client:
                client.sendmail(message.sender, message.recipients, message.data)
        except (OSError, smtplib.SMTPException) as error:
            self.refusals.append(f"{endpoint}: {error!r}")
        else:
            self.acknowledged.add(message.identity)
