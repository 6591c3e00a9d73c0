"""A replica in another cell: two clusters of real processes, mail on the way, nodes of the follower killed."""

import imaplib
import json
import os
import poplib
import re
import signal
import smtplib
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from chaos.cluster import Cluster, ClusterError

ALICE, BOB, EVE = "alice@example.test", "bob@example.test", "eve@other.test"
FOREIGN = "a-word-that-only-the-other-tenant-writes"
LARGE_BYTES = 700_000  # above what one record holds: it goes in chunks
CAUGHT_UP_S = 60.0
KILLS = 3


class Region(NamedTuple):
    """A source of three nodes with two tenants, one of which a follower of three nodes keeps a replica of."""

    source: Cluster
    follower: Cluster
    password: str
    grant: Path


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Region]:
    folder = tmp_path_factory.mktemp("cells")
    with Cluster(folder / "source") as source, Cluster(folder / "follower") as follower:
        password = source.add_accounts("example", (ALICE, BOB))
        source.add_accounts("other", (EVE,))
        grant = folder / "tokyo.grant"
        source.command("region", "grant", "tokyo", "--tenant", "example", "--out", str(grant))
        yield Region(source, follower, password, grant)


def text(number: int, size: int = 200, word: str = "word") -> str:
    return f"From: x@remote.test\r\nSubject: {word} {number}\r\n\r\n{word} {number} {'x' * size}\r\n"


def send(cluster: Cluster, recipients: list[str], message: str, node: int = 0) -> None:
    host, _, port = cluster.status().nodes[node].endpoints["smtp"].rpartition(":")
    with smtplib.SMTP(host, int(port), timeout=30) as client:
        client.sendmail("x@remote.test", recipients, message)


def log_in(cluster: Cluster, login: str, password: str) -> imaplib.IMAP4_SSL:
    node = next(node for node in cluster.status().nodes if node.ready)
    context = ssl.create_default_context(cafile=str(cluster.folder / "ca" / "ca.pem"))
    client = imaplib.IMAP4_SSL("localhost", int(node.endpoints["imaps"].rpartition(":")[2]), ssl_context=context)
    client.login(login, password)
    return client


def subscription(cluster: Cluster) -> dict[str, Any]:
    (found,) = json.loads(cluster.command("region", "status", "--json"))["follows"]
    return dict(found)


def wait_until(cluster: Cluster, reached: Any, what: str) -> dict[str, Any]:
    deadline, last = time.monotonic() + CAUGHT_UP_S, {}
    while time.monotonic() < deadline:
        try:
            last = subscription(cluster)
            if reached(last):
                return last
        except ClusterError:  # a node that was killed is not back yet
            pass
        time.sleep(0.2)
    pytest.fail(f"waited for {what}; last: {last}")


def wait_caught_up(region: Region) -> dict[str, Any]:
    """The follower is where the source is now."""
    position = json.loads(region.source.command("log", "tail", "-n", "1", "--json"))["position"]
    return wait_until(
        region.follower, lambda one: one["lag_records"] == 0 and one["position"] >= position, f"position {position}"
    )


def shown(cluster: Cluster, address: str) -> Any:
    return json.loads(cluster.command("mailbox", "show", address, "--json"))


def held(cluster: Cluster, password: str) -> list[bytes]:
    """Everything that an IMAP client reads of Alice's INBOX."""
    client = log_in(cluster, ALICE, password)
    client.select("INBOX", readonly=True)
    answers = client.uid("FETCH", "1:*", "(FLAGS INTERNALDATE ENVELOPE BODY.PEEK[])")[1]
    client.logout()
    parts = [part for answer in answers for part in (answer if isinstance(answer, tuple) else (answer,))]
    return [re.sub(rb" ?\\Recent", b"", part) for part in parts]


def writes(region: Region, stop: threading.Event, failures: list[Exception]) -> None:
    """Mail, flags, moves and a password, at the source, for as long as the nodes of the follower are killed."""
    number = 0
    try:
        while not stop.is_set():
            number += 1
            send(region.source, [ALICE, BOB], text(number), number % 3)
            send(region.source, [ALICE, EVE], text(number, word="both"), number % 3)
            send(region.source, [EVE], text(number, word=FOREIGN), number % 3)
            client = log_in(region.source, ALICE, region.password)
            client.select("INBOX")
            client.uid("STORE", str(number), "+FLAGS", r"(\Flagged $Work)")
            client.uid("MOVE", str(number + 1), "Archive")
            client.logout()
    except Exception as error:
        failures.append(error)


def kill_leader(cluster: Cluster) -> None:
    """SIGKILL; the supervisor starts it again."""
    status = cluster.wait_for(lambda one: one.leader is not None and one.node(one.leader).pid > 0, 60, "a leader")
    assert status.leader is not None
    os.kill(status.node(status.leader).pid, signal.SIGKILL)


def test_a_replica_whose_nodes_are_killed_throughout_misses_nothing_and_doubles_nothing(cells: Region) -> None:
    send(cells.source, [ALICE], text(0, LARGE_BYTES))
    send(cells.source, [EVE], text(0, LARGE_BYTES, FOREIGN))
    cells.follower.command("region", "follow", "--grant", str(cells.grant))
    stop, failures = threading.Event(), list[Exception]()
    writer = threading.Thread(target=writes, args=(cells, stop, failures))
    writer.start()
    try:
        for _ in range(KILLS):
            before = wait_until(cells.follower, lambda one: one["state"] == "connected", "a connection")["records"]
            wait_until(cells.follower, lambda one, before=before: one["records"] > before, "records")
            kill_leader(cells.follower)
    finally:
        stop.set()
        writer.join(60)
    assert failures == []
    wait_caught_up(cells)
    cells.follower.wait_settled()
    for address in (ALICE, BOB):
        assert shown(cells.follower, address) == shown(cells.source, address)
    assert held(cells.follower, cells.password) == held(cells.source, cells.password)
    origins = [
        json.loads(line) for line in cells.follower.command("log", "export", "--type", "OriginApplied").splitlines()
    ]
    positions = [
        event["data"]["position"] for one in origins for event in one["events"] if event["type"] == "OriginApplied"
    ]
    assert len(positions) > KILLS
    assert positions == sorted(set(positions))
    for node in cells.follower.status().nodes:
        rebuilt = json.loads(cells.follower.command("log", "rebuild", "--node", node.name, "--json"))
        assert rebuilt["equal"] is True


def test_nothing_of_another_tenant_is_in_the_followers_files(cells: Region) -> None:
    foreign = [FOREIGN, EVE, "other.test"]
    assert all(found_in(cells.source, word) for word in (*foreign, ALICE))
    assert found_in(cells.follower, ALICE)
    assert [word for word in foreign if found_in(cells.follower, word)] == []


def found_in(cluster: Cluster, word: str) -> bool:
    """Whether any file of a node's database holds these bytes."""
    files = [path for node in cluster.status().nodes for path in cluster.data_dir(node.name).rglob("*")]
    return any(word.encode() in path.read_bytes() for path in files if path.is_file())


def test_the_replica_is_read_with_the_accounts_own_password_and_can_not_be_changed(cells: Region) -> None:
    client = log_in(cells.follower, ALICE, cells.password)
    client.select("INBOX", readonly=True)
    changes = [
        client.uid("STORE", "1", "+FLAGS", r"(\Deleted)"),
        client.append("INBOX", "", "", text(1).encode()),
        client.create("Elsewhere"),
    ]
    assert all(status == "NO" and b"[NOPERM] this is a replica" in lines[0] for status, lines in changes)
    client.logout()
    with pytest.raises(smtplib.SMTPRecipientsRefused, match="replica of that mailbox"):
        send(cells.follower, [ALICE], text(1))
    with pytest.raises(ClusterError, match="this is a replica: its home is the cell"):
        cells.follower.command("account", "add", "new@example.test", "--password-stdin", stdin="password of it\n")
    host, _, port = cells.follower.status().nodes[0].endpoints["pop3"].rpartition(":")
    pop3 = poplib.POP3(host, int(port), timeout=30)
    pop3.user(ALICE)
    pop3.pass_(cells.password)
    assert len(pop3.uidl()[1]) > 0
    with pytest.raises(poplib.error_proto, match="replica"):
        pop3.dele(1)
    pop3.quit()


def test_the_replica_is_shown_as_it_was(cells: Region) -> None:
    wait_caught_up(cells)
    position = json.loads(cells.follower.command("log", "tail", "-n", "1", "--json"))["position"]
    before = shown(cells.follower, ALICE)
    send(cells.source, [ALICE], text(9999))
    wait_caught_up(cells)
    assert shown(cells.follower, ALICE) != before
    assert json.loads(cells.follower.command("mailbox", "show", ALICE, "--as-of", f"#{position}", "--json")) == before
    client = log_in(cells.follower, f"{ALICE}@@#{position}", cells.password)
    inbox = next(folder for folder in before["folders"] if folder["name"] == "INBOX")
    assert client.select("INBOX", readonly=True)[1] == [str(len(inbox["messages"])).encode()]
    client.logout()


def test_when_a_node_of_the_source_dies_another_is_asked(cells: Region) -> None:
    before = wait_caught_up(cells)
    number = int(before["node"][1:]) - 1
    pid = cells.source.status().nodes[number].pid
    os.kill(pid, signal.SIGSTOP)  # it is there, and says nothing
    try:
        send(cells.source, [ALICE], text(5000), (number + 1) % 3)
        found = wait_until(cells.follower, lambda one: one["records"] > before["records"], "another node of the source")
        assert found["node"] != before["node"]
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_caught_up(cells)
    assert shown(cells.follower, ALICE) == shown(cells.source, ALICE)
