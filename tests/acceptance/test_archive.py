"""A cluster whose old log was archived: all that reads the log goes on, and what dies or rots on the way is made good.

One cluster goes through all of it; each test finds what the one before it left.
"""

import imaplib
import json
import os
import signal
import smtplib
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

from chaos.cluster import Cluster, ClusterError, free_base_port
from cli.supervisor import environment, program
from eventlog.segments import read_segment
from tests.acceptance.site import ALICE, BOB
from tests.acceptance.test_redaction import marker

MESSAGES = 12


@dataclass
class Story:
    """`then` is a moment before the second half of the mail came and the first message was expunged."""

    cluster: Cluster
    password: str
    marks: list[str]
    then: str
    last: int  # position before the end of which all is archived
    history: str  # the log as JSON lines, before it was archived


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with Cluster(tmp_path_factory.mktemp("archive") / "cluster") as cluster:
        yield arrange(cluster)


def arrange(cluster: Cluster) -> Story:
    password = cluster.add_accounts("example", (ALICE, BOB))
    marks = [marker() for _ in range(MESSAGES)]
    deliver(cluster, marks[: MESSAGES // 2])
    time.sleep(1.1)
    then = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    time.sleep(1.1)
    deliver(cluster, marks[MESSAGES // 2 :])
    with imap(cluster, ALICE, password) as client:
        client.select("INBOX")
        client.store("1", "+FLAGS", r"(\Deleted)")
        client.expunge()
    last = cluster.wait_settled().nodes[0].applied
    return Story(cluster, password, marks, then, last, cluster.command("log", "export"))


def mail(mark: str) -> bytes:
    return f"From: x@elsewhere.test\r\nSubject: {mark}\r\n\r\n{mark}\r\n".encode()


def deliver(cluster: Cluster, marks: list[str]) -> None:
    host, _, port = cluster.status().nodes[0].endpoints["smtp"].rpartition(":")
    with smtplib.SMTP(host, int(port), timeout=30) as client:
        for mark in marks:
            client.sendmail("x@elsewhere.test", [ALICE], mail(mark))


def imap(cluster: Cluster, login: str, password: str, node: int = 0) -> imaplib.IMAP4:
    host, _, port = cluster.status().nodes[node].endpoints["imap"].rpartition(":")
    client = imaplib.IMAP4(host, int(port), timeout=20)
    client.starttls()
    client.login(login, password)
    return client


def subjects(cluster: Cluster, login: str, password: str, node: int = 0) -> list[str]:
    with imap(cluster, login, password, node) as client:
        client.select("INBOX", readonly=True)
        found = client.fetch("1:*", "(BODY.PEEK[])")[1]
        return [part[1].decode().split()[-1] for part in found if isinstance(part, tuple)]


def archived(cluster: Cluster) -> dict[str, int]:
    found = json.loads(cluster.command("log", "archive", "list", "--json"))
    return {name: one.get("swept", 0) for name, one in found.items()}


def test_a_node_that_dies_while_it_archives_goes_on_when_it_comes_back(story: Story) -> None:
    cluster, last = story.cluster, story.last
    victim = next(node for node in cluster.status().nodes if node.role != "leader")
    folder = cluster.data_dir(victim.name) / "archive"
    words = program("log", "archive", "create", "--before", f"#{last + 1}", "--segment-size", "3 KiB", "--cluster")
    creating = subprocess.Popen(
        [*words, str(cluster.folder), "--json"], stdout=subprocess.PIPE, text=True, env=environment()
    )
    deadline = time.monotonic() + 60
    while not any(folder.glob("segment-*")):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(victim.pid, signal.SIGKILL)
    said, _ = creating.communicate(timeout=60)
    assert len(json.loads(said)["segments"]) > 2
    cluster.wait_ready(60)
    copy = cluster.folder.with_name("copy")
    cluster.command("log", "archive", "create", "--before", f"#{last + 1}", "--into", str(copy))
    names = sorted(path.name for path in folder.iterdir())
    assert sorted(path.name for path in copy.glob("segment-*")) == names
    assert archived(cluster) == dict.fromkeys(("n1", "n2", "n3"), last)


def test_the_log_reads_and_proves_itself_as_before_also_when_the_room_was_given_back(story: Story) -> None:
    cluster = story.cluster
    sizes = json.loads(cluster.command("log", "archive", "compact", "--json"))
    assert all(one["after_bytes"] < one["before_bytes"] for one in sizes.values())
    assert cluster.command("log", "export", "--until", f"#{story.last}") == story.history
    assert json.loads(cluster.command("log", "verify", "--all", "--json"))["ok"]
    assert "segments" in cluster.command("log", "archive", "verify", "--json")
    assert json.loads(cluster.command("log", "rebuild", "--json"))["equal"]
    one = json.loads(story.history.splitlines()[5])
    assert json.loads(cluster.command("log", "show", str(one["position"]), "--json")) == one


def test_a_mailbox_is_shown_as_it_was_out_of_the_archive(story: Story) -> None:
    cluster, half = story.cluster, MESSAGES // 2
    for node in range(3):
        assert subjects(cluster, f"{ALICE}@@{story.then}", story.password, node) == story.marks[:half]
        assert subjects(cluster, ALICE, story.password, node) == story.marks[1:]


def test_a_segment_that_rots_is_named_and_fetched_from_another_node(story: Story) -> None:
    cluster = story.cluster
    path = sorted((cluster.data_dir("n2") / "archive").glob("segment-*"))[1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ClusterError, match=path.name):
        cluster.command("log", "archive", "verify", "--node", "n2")
    with pytest.raises(ClusterError, match=path.name):
        cluster.command("log", "verify", "--node", "n2")
    assert blamed(cluster, "every node's log verifies") == {"n2"}
    repaired = json.loads(cluster.command("log", "archive", "repair", "--json"))["repaired"]
    assert [one["node"] for one in repaired] == ["n2"]
    assert json.loads(cluster.command("log", "verify", "--all", "--json"))["ok"]


def blamed(cluster: Cluster, promise: str) -> set[str]:
    """The nodes that the read-only checks find to break a promise."""
    words = program("chaos", "run", "--cluster", str(cluster.folder), "--read-only-checks", "--json")
    done = subprocess.run(words, capture_output=True, text=True, timeout=110, env=environment())
    assert done.returncode == 1, done.stderr
    (check,) = [one for one in json.loads(done.stdout) if one["promise"] == promise]
    return {violation["node"] for violation in check["violations"]}


def test_what_is_redacted_is_gone_from_every_archive(story: Story) -> None:
    cluster, mark = story.cluster, story.marks[0]  # expunged: its body is in the archive alone
    copy = cluster.folder.with_name("copied")
    copying = ("log", "archive", "create", "--before", f"#{story.last + 1}", "--into", str(copy))
    cluster.command(*copying)
    assert len(holders(cluster.folder, mark)) >= 3
    assert len(holders(copy, mark)) == 1
    digest = sha256(mail(mark)).hexdigest()
    cluster.command("log", "redact", "--message", digest, "--reason", "a test", "--yes")
    assert holders(cluster.folder, mark) == []
    assert holders(cluster.folder, story.marks[1]) != []
    cluster.command(*copying)
    assert holders(copy, mark) == []
    assert json.loads(cluster.command("log", "verify", "--all", "--json"))["ok"]
    for node in ("n1", "n2", "n3"):
        assert json.loads(cluster.command("log", "rebuild", "--node", node, "--json"))["equal"]


def holders(folder: Path, mark: str) -> list[str]:
    """The files in which a mark stands, as bytes or in what a segment unpacks to."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            if path.name.startswith("segment-"):
                rows = list(read_segment(path))
                data = b"".join(row.value + b"".join(body for _, body in row.bodies) for row in rows)
            if mark.encode() in data:
                found.append(str(path.relative_to(folder)))
    return found


def test_a_new_node_has_all_of_the_log(story: Story) -> None:
    cluster = story.cluster
    words = program("cluster", "add-node", str(cluster.folder))
    subprocess.run(words, check=True, capture_output=True, env=environment(), timeout=90)
    cluster.wait_ready(60)
    cluster.wait_settled()
    deadline = time.monotonic() + 30
    while archived(cluster)["n4"] < story.last:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert json.loads(cluster.command("log", "verify", "--node", "n4", "--json"))["ok"]
    assert subjects(cluster, f"{ALICE}@@{story.then}", story.password, 3)[1:] == story.marks[1 : MESSAGES // 2]


def test_a_backup_holds_what_was_archived_and_a_cell_restored_from_it_shows_the_past(
    story: Story, tmp_path: Path
) -> None:
    cluster, backup, folder = story.cluster, tmp_path / "backup", tmp_path / "restored"
    cluster.command("backup", "create", str(backup), "--unencrypted", "--tables-every", "1")
    assert holders(backup, story.marks[0]) == []
    assert holders(backup, story.marks[1]) != []
    words = program("cluster", "restore", "--from", str(backup), "--into", str(folder), "--json")
    words += ["--cluster-key", str(cluster.data_dir("n1").parent / "cluster.key"), "--nodes", "1"]
    port = str(free_base_port(1))
    done = subprocess.run([*words, "--base-port", port], capture_output=True, text=True, env=environment(), timeout=90)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tables_loaded"] > story.last
    rehearsed = subprocess.run(
        program("log", "rehearse", "--data", str(folder / "n1"), "--json"), capture_output=True, env=environment()
    )
    assert json.loads(rehearsed.stdout)["equal"]
    with Cluster(folder) as restored:
        assert json.loads(restored.command("log", "verify", "--json"))["ok"]
        assert subjects(restored, f"{ALICE}@@{story.then}", story.password)[1:] == story.marks[1 : MESSAGES // 2]
