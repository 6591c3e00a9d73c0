"""A tenant that is deleted leaves nothing in any database; what a tenant uses is exact whoever is killed."""

from __future__ import annotations

import contextlib
import imaplib
import json
import os
import signal
import smtplib
import threading
import time
from pathlib import Path
from typing import Any

from chaos.cluster import Cluster
from cli.options import open_client
from tests.acceptance.test_redaction import endpoint, marker

MARKS = ("body", "subject", "person", "alias", "group", "folder", "outside", "title")
KEPT = "kept@example.test"


def test_a_deleted_tenant_is_erased_from_every_database_and_the_chain_still_proves_it(tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.add_accounts("example", (KEPT,))
        marks = {name: marker() for name in MARKS}
        fill(cluster, marks)
        deliver(cluster, KEPT, b"Subject: kept\r\n\r\nkept\r\n")
        cluster.wait_settled()
        assert set(marks) == held(cluster, marks)
        cluster.command("tenant", "delete", "gone", "--grace", "0s", "--yes")
        leader = next(node for node in cluster.status().nodes if node.role == "leader")
        os.kill(leader.pid, signal.SIGKILL)  # whoever leads next goes on where it stopped
        cluster.wait_ready(60)
        erased = wait_for_event(cluster, "TenantErased")
        wait_erased(cluster)
        cluster.wait_settled()
        assert held(cluster, marks) == set()
        assert erased["position"] > 0
        for node in cluster.names():
            cluster.command("log", "verify", "--node", node)
            assert json.loads(cluster.command("log", "rebuild", "--node", node, "--json"))["equal"]
        cluster.command("tenant", "add", "gone", "--domain", "gone.test")  # names are free again
        assert usage_of(cluster, "example", cluster.names()[0])["kept"]["messages"] == 1


def fill(cluster: Cluster, marks: dict[str, str]) -> None:
    person = f"{marks['person']}@gone.test"
    password = "one two three four"
    cluster.command("tenant", "add", "gone", "--domain", "gone.test")
    cluster.command("tenant", "update", "gone", "--title", marks["title"])
    cluster.command("account", "add", person, "--password-stdin", stdin=password + "\n")
    cluster.command("alias", "add", f"{marks['alias']}@gone.test", person)
    cluster.command("group", "add", f"{marks['group']}@gone.test", person)
    cluster.command("queue", "suspend", "outside.test")
    text = f"Subject: {marks['subject']}\r\n\r\n" + f"{marks['body']}\r\n" * 9000  # stored in chunks
    deliver(cluster, person, text.encode())
    host, _, port = endpoint(cluster, "submission", 1).rpartition(":")
    with smtplib.SMTP(host, int(port), timeout=30) as client:
        client.starttls()
        client.login(person, password)
        client.sendmail(person, [f"{marks['outside']}@outside.test"], text.encode())
    host, _, port = endpoint(cluster, "imap", 0).rpartition(":")
    with imaplib.IMAP4(host, int(port), timeout=20) as session:
        session.starttls()
        session.login(person, password)
        session.create(marks["folder"])
        session.select("INBOX")
        session.copy("1", marks["folder"])
        session.rename(marks["folder"], f"{marks['folder']}2")


def deliver(cluster: Cluster, address: str, data: bytes, node: int = 0) -> None:
    host, _, port = endpoint(cluster, "smtp", node).rpartition(":")
    with smtplib.SMTP(host, int(port), timeout=30) as client:
        client.sendmail("sender@elsewhere.test", [address], data)


def held(cluster: Cluster, marks: dict[str, str]) -> set[str]:
    """The marks that any file of any node holds, but for the lines that it logs for people."""
    found: set[str] = set()
    for path in cluster.folder.rglob("*"):
        if path.is_file() and path.suffix != ".log":
            data = path.read_bytes()
            found |= {name for name, mark in marks.items() if mark.encode() in data}
    return found


def wait_for_event(cluster: Cluster, type_: str, timeout_s: float = 60.0) -> dict[str, Any]:
    deadline_s = time.monotonic() + timeout_s
    while True:
        lines = cluster.command("log", "tail", "--type", type_, "-n", "1", "--json").splitlines()
        if lines:
            found: dict[str, Any] = json.loads(lines[-1])
            return found
        assert time.monotonic() < deadline_s, f"no {type_}"
        time.sleep(0.5)


def wait_erased(cluster: Cluster) -> None:
    deadline_s = time.monotonic() + 60
    while True:
        found = json.loads(cluster.command("log", "erased", "--json"))
        if all(one and one["redacted"] and one["erased"] == one["redacted"] for one in found.values()):
            return
        assert time.monotonic() < deadline_s, found
        time.sleep(0.5)


def usage_of(cluster: Cluster, tenant: str, node: str) -> dict[str, Any]:
    found: dict[str, Any] = open_client(cluster.folder).get(f"/v1/tenants/{tenant}/usage", node)
    return found


def test_usage_is_equal_on_all_nodes_and_to_a_recount_after_leaders_were_killed(tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster") as cluster:
        names = tuple(f"u{number}@example.test" for number in range(4))
        password = cluster.add_accounts("example", names)
        cluster.command("quota", "set", "example", "storage_bytes=100MiB", "messages=100000")
        ends = threading.Event()
        load = threading.Thread(target=churn, args=(cluster, names, password, ends))
        load.start()
        try:
            for _ in range(3):
                time.sleep(2.0)
                leader = next(node for node in cluster.status().nodes if node.role == "leader")
                os.kill(leader.pid, signal.SIGKILL)
                cluster.wait_ready(60)
        finally:
            ends.set()
            load.join(60)
        cluster.wait_settled()
        found = [usage_of(cluster, "example", name) for name in cluster.names()]
        assert found[0]["kept"] == found[0]["recounted"]
        assert [one["kept"] for one in found[1:]] == [found[0]["kept"]] * 2
        assert found[0]["kept"]["messages"] > 20


def churn(cluster: Cluster, names: tuple[str, ...], password: str, ends: threading.Event) -> None:
    """Deliveries, copies and expunges, whatever becomes of each."""
    number = 0
    while not ends.is_set():
        number += 1
        with contextlib.suppress(OSError, smtplib.SMTPException, imaplib.IMAP4.error, KeyError, StopIteration):
            for address in names:
                deliver(cluster, address, b"Subject: load\r\n\r\n" + b"x" * (100 * number) + b"\r\n", number % 3)
            host, _, port = endpoint(cluster, "imap", (number + 1) % 3).rpartition(":")
            with imaplib.IMAP4(host, int(port), timeout=10) as session:
                session.starttls()
                session.login(names[0], password)
                session.select("INBOX")
                session.copy("1", "Trash")
                session.store("1", "+FLAGS", "\\Deleted")
                session.expunge()
