"""A cluster that is gone comes back, whole and as it was at a moment: real mail programs can not tell the difference."""

import imaplib
import json
import re
import smtplib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from chaos.cluster import Cluster, free_base_port
from tests.acceptance.site import ALICE, BOB

FOLDERS = ("INBOX", "Archive", "Sent")


@dataclass
class Story:
    """A cluster that took mail, moved, flagged and expunged; and what its mailboxes were at two moments."""

    cluster: Cluster
    password: str
    early: str  # the first moment
    then: dict[str, object]
    now: dict[str, object]


def mail(number: int, size: int = 200) -> bytes:
    head = f"From: a@elsewhere.test\r\nTo: {ALICE}\r\nSubject: number {number}\r\nMessage-ID: <{number}@elsewhere.test>"
    return head.encode() + b"\r\n\r\n" + (b"This is message %d.\r\n" % number) * max(1, size // 22)


def deliver(cluster: Cluster, *messages: bytes, to: str = ALICE) -> None:
    host, _, port = cluster.status().nodes[0].endpoints["smtp"].rpartition(":")
    with smtplib.SMTP(host, int(port)) as client:
        for message in messages:
            client.sendmail("a@elsewhere.test", [to], message)


@contextmanager
def reader(cluster: Cluster, address: str, password: str) -> Iterator[imaplib.IMAP4]:
    host, _, port = cluster.status().nodes[0].endpoints["imap"].rpartition(":")
    with imaplib.IMAP4(host, int(port), timeout=20) as client:
        client.login(address, password)
        yield client


def work(cluster: Cluster, password: str) -> None:
    """Flags, a keyword, a move, an expunge."""
    with reader(cluster, ALICE, password) as client:
        client.select("INBOX")
        client.store("1:2", "+FLAGS", "(\\Seen $Important)")
        client.store("3", "+FLAGS", "\\Flagged")
        assert client.uid("MOVE", "4", "Archive")[0] == "OK"
        client.store("1", "+FLAGS", "\\Deleted")
        client.expunge()
        client.append("Sent", "\\Seen", imaplib.Time2Internaldate(1_700_000_000), mail(99))


def held(cluster: Cluster, password: str) -> dict[str, object]:
    """Everything that lasts and a client can see, of every folder of every account; \\Recent is a session's own."""
    found: dict[str, object] = {}
    for address in (ALICE, BOB):
        with reader(cluster, address, password) as client:
            for folder in FOLDERS:
                status = client.status(folder, "(UIDVALIDITY UIDNEXT MESSAGES UNSEEN)")[1]
                client.select(folder, readonly=True)
                messages = client.uid("FETCH", "1:*", "(UID FLAGS INTERNALDATE BODY.PEEK[])")[1]
                found[f"{address} {folder}"] = status, re.sub(r" ?\\\\Recent", "", repr(messages)).replace("( ", "(")
    return found


def init(folder: Path, nodes: int) -> Cluster:
    return Cluster(folder, nodes)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """The cluster is stopped again when this is given to a test."""
    folder = tmp_path_factory.mktemp("story")
    with Cluster(folder / "old") as cluster:
        password = cluster.add_accounts("example", (ALICE, BOB))
        deliver(cluster, *map(mail, range(4)))
        deliver(cluster, mail(5, size=700_000), to=BOB)  # comes in chunks
        cluster.wait_settled()
        then = held(cluster, password)
        time.sleep(1.1)
        early = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        time.sleep(1.1)
        work(cluster, password)
        deliver(cluster, mail(6))
        cluster.wait_settled()
        now = held(cluster, password)
    assert then != now
    yield Story(cluster, password, early, then, now)


def restored(story: Story, source: Path, target: Path, *arguments: str, nodes: int = 1) -> Cluster:
    ports = ("--nodes", str(nodes), "--base-port", str(free_base_port(nodes)))
    story.cluster.command("cluster", "restore", "--from", str(source), "--into", str(target), *ports, *arguments)
    return Cluster(target, nodes)


def test_a_stopped_cluster_is_restored_and_serves_the_same_mailboxes_and_takes_mail(
    story: Story, tmp_path: Path
) -> None:
    with restored(story, story.cluster.folder, tmp_path / "new", nodes=3) as cluster:
        cluster.wait_settled()
        assert held(cluster, story.password) == story.now
        deliver(cluster, mail(7))
        with reader(cluster, ALICE, story.password) as client:
            client.select("INBOX")
            assert client.uid("SEARCH", "SUBJECT", '"number 7"') == ("OK", [b"6"])
        assert json.loads(cluster.command("log", "verify", "--json"))["ok"] is True
        assert json.loads(cluster.command("log", "rebuild", "--json"))["equal"] is True


def test_a_cluster_is_restored_to_a_moment_in_the_past(story: Story, tmp_path: Path) -> None:
    with restored(story, story.cluster.folder, tmp_path / "new", "--as-of", story.early) as cluster:
        assert held(cluster, story.password) == story.then
