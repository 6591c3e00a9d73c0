"""A cluster of one node whose front ends run in two workers, and clients that choose which of them they are at."""

from __future__ import annotations

import imaplib
import re
import smtplib
import socket
import ssl
import time
import urllib.request
from collections.abc import Callable
from typing import Any, NamedTuple

from chaos.cluster import Cluster
from tests.nodes.workers.processes import holder, workers_of

ALICE = "alice@example.test"
TLS = ssl._create_unverified_context()


class Site(NamedTuple):
    cluster: Cluster
    password: str

    @property
    def pid(self) -> int:
        return self.cluster.status().nodes[0].pid

    @property
    def workers(self) -> list[int]:
        return workers_of(self.pid)

    def address(self, kind: str) -> tuple[str, int]:
        host, _, port = self.cluster.status().nodes[0].endpoints[kind].rpartition(":")
        return host, int(port)

    def configure(self, section: str, **values: Any) -> None:
        """And has the node read it."""
        self.cluster.configure("n1", section, values)
        self.cluster.command("node", "reload")

    def in_each_worker(self, open_one: Callable[[], Any]) -> list[Any]:
        """Connections that `open_one` makes, one to each worker."""
        found: dict[int, Any] = {}
        deadline_s = time.monotonic() + 20
        while len(found) < 2:
            assert time.monotonic() < deadline_s
            one = open_one()
            pid = holder(one.sock, self.workers)
            if pid in found:
                one.sock.close()
            found.setdefault(pid, one)
        return [found[pid] for pid in sorted(found)]

    def smtp(self) -> smtplib.SMTP:
        return smtplib.SMTP(*self.address("smtp"), timeout=20)

    def imap(self, login: str = ALICE, password: str = "") -> imaplib.IMAP4:
        """Logged in, with INBOX selected."""
        client = imaplib.IMAP4(*self.address("imap"), timeout=20)
        client.starttls(TLS)
        client.login(login, password or self.password)
        client.select()
        return client

    def idle(self, login: str = ALICE) -> imaplib.IMAP4:
        client = self.imap(login)
        client.send(b"i IDLE\r\n")
        assert client.readline().startswith(b"+")
        return client

    def submission(self) -> smtplib.SMTP_SSL:
        """Not logged in yet."""
        return smtplib.SMTP_SSL(*self.address("submissions"), timeout=20, context=TLS)

    def subjects(self) -> list[str]:
        client = self.imap()
        _, found = client.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
        client.logout()
        return re.findall(r"Subject: (\S+)", b"".join(one[1] for one in found if isinstance(one, tuple)).decode())

    def metric(self, name: str) -> float:
        host, port = self.address("http")
        with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=10) as text:
            [line] = [line for line in text.read().decode().splitlines() if line.startswith(name + " ")]
        return float(line.rpartition(" ")[2])


def message(subject: str) -> str:
    return f"From: x@example.org\r\nTo: {ALICE}\r\nSubject: {subject}\r\n\r\ntext\r\n"


def send(client: smtplib.SMTP, subject: str) -> None:
    client.sendmail("x@example.org", [ALICE], message(subject))


def refuses(address: tuple[str, int]) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(address) != 0
