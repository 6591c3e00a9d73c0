"""A message is redacted on a running cluster: every copy shows a placeholder, no file of any node holds its bytes."""

import base64
import imaplib
import json
import os
import poplib
import re
import signal
import smtplib
import time
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from actors.redaction import PLACEHOLDER
from chaos.cluster import Cluster, ClusterError
from cli.main import main
from tests.acceptance.maildirs import Near
from tests.acceptance.site import ALICE, BOB

KEPT = b"Subject: kept\r\n\r\nkept\r\n"


def marker() -> str:
    return "mark" + base64.b32encode(os.urandom(20)).decode().lower()


class Marks(NamedTuple):
    """What must be gone, each incompressible and unlike anything else."""

    body: str
    subject: str
    sender: str
    message_id: str
    folder: str
    recipient: str


class Story(NamedTuple):
    cluster: Cluster
    password: str
    marks: Marks
    before: str  # a moment when all was there
    content: bytes
    folder_position: int


def test_what_was_redacted_is_gone_from_every_file_of_every_node(tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster") as cluster:
        story = arrange(cluster)
        assert files_with(cluster.folder, story.marks) != {}
        what_a_position_leaves_is_said(story)
        mirror = tmp_path / "mirror"
        pulled_by_mbsync(story, mirror)
        assert set().union(*files_with(mirror, story.marks).values()) == {"body", "subject", "message_id", "sender"}
        away = next(node for node in cluster.status().nodes if node.role != "leader")
        os.kill(away.pid, signal.SIGSTOP)
        try:
            with pytest.raises(ClusterError, match=away.name):
                redact(story, "--message", digest(story))
        finally:
            os.kill(away.pid, signal.SIGCONT)
        redact(story, str(story.folder_position))
        cluster.wait_settled()
        wait_erased(cluster)
        assert files_with(cluster.folder, story.marks) == {}
        readers_see_placeholders(story)
        mbsync_sees_placeholders(story, mirror, tmp_path / "afresh")
        the_log_shows_and_proves_it(story)


def arrange(cluster: Cluster) -> Story:
    password = cluster.add_accounts("example", (ALICE, BOB))
    marks = Marks(*(marker() for _ in Marks._fields))
    content = (
        f"From: x@elsewhere.test\r\nSubject: {marks.subject}\r\nMessage-ID: <{marks.message_id}@t>\r\n\r\n"
        + f"{marks.body}\r\n" * 9000  # large enough to be stored in chunks
    ).encode()
    host, _, port = endpoint(cluster, "smtp", 0).rpartition(":")
    with smtplib.SMTP(host, int(port), timeout=30) as client:
        client.sendmail(f"{marks.sender}@elsewhere.test", [ALICE, BOB], content)
    cluster.command("queue", "suspend", "outside.test")
    host, _, port = endpoint(cluster, "submission", 1).rpartition(":")
    with smtplib.SMTP(host, int(port), timeout=30) as client:
        client.starttls()
        client.login(ALICE, password)
        client.sendmail(ALICE, [f"{marks.recipient}@outside.test"], content)
    with imap(cluster, ALICE, password) as client:
        client.create(f"Secret{marks.folder}")
        client.subscribe(f"Secret{marks.folder}")
        client.select("INBOX")
        client.copy("1", f"Secret{marks.folder}")
        client.append("Archive", "", "", content)
        client.append("INBOX", "", "", KEPT)
    cluster.wait_settled()
    created = json.loads(
        cluster.command("log", "tail", "--type", "FolderCreated", "-n", "1", "--json").splitlines()[-1]
    )
    time.sleep(1.1)
    before = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    time.sleep(1.1)
    return Story(cluster, password, marks, before, content, created["position"])


def what_a_position_leaves_is_said(story: Story) -> None:
    kept = story.cluster.command("log", "tail", "--type", "MessageAppended", "-n", "1", "--json")
    position = json.loads(kept.splitlines()[-1])["position"]
    words = ["log", "redact", str(position), "--dry-run", "--cluster", str(story.cluster.folder)]
    said = CliRunner().invoke(main, words).stderr
    assert f"the content stays: to erase that too, mailraft log redact --message {sha256(KEPT).hexdigest()}" in said


def digest(story: Story) -> str:
    return sha256(story.content).hexdigest()


def redact(story: Story, *arguments: str) -> str:
    return story.cluster.command("log", "redact", *arguments, "--reason", "court order 7", "--yes", "--json")


def wait_erased(cluster: Cluster) -> None:
    deadline = time.monotonic() + 30
    while True:
        found = json.loads(cluster.command("log", "erased", "--json"))
        if all(one and one["redacted"] and one["erased"] == one["redacted"] for one in found.values()):
            return
        assert time.monotonic() < deadline, found
        time.sleep(0.2)


def endpoint(cluster: Cluster, use: str, node: int) -> str:
    return cluster.status().nodes[node].endpoints[use]


def imap(cluster: Cluster, login: str, password: str, node: int = 0) -> imaplib.IMAP4:
    host, _, port = endpoint(cluster, "imap", node).rpartition(":")
    client = imaplib.IMAP4(host, int(port), timeout=20)
    client.starttls()
    client.login(login, password)
    return client


def files_with(folder: Path, marks: Marks) -> dict[str, set[str]]:
    """By path, which marks stand in which file: databases, temporary files, logs, whatever there is."""
    found: dict[str, set[str]] = {}
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            held = {name for name, mark in marks._asdict().items() if mark.encode() in data}
            if held:
                found[str(path.relative_to(folder))] = held
    return found


def readers_see_placeholders(story: Story) -> None:
    cluster, password = story.cluster, story.password
    for node in range(3):
        with imap(cluster, ALICE, password, node) as client:
            names = [line.decode().split()[-1].strip('"') for line in client.list()[1] if isinstance(line, bytes)]
            (left,) = [name for name in names if name.startswith("redacted-")]
            for folder in ("INBOX", left, "Archive"):
                assert texts(client, folder)[-1 if folder != "INBOX" else 1] == PLACEHOLDER
            assert b"kept" in b"".join(texts(client, "INBOX"))
    with imap(cluster, f"{ALICE}@@{story.before}", password) as client:
        assert PLACEHOLDER in texts(client, "INBOX")
    host, _, port = endpoint(cluster, "pop3", 2).rpartition(":")
    client3 = poplib.POP3(host, int(port), timeout=20)
    client3.stls()
    client3.user(BOB)
    client3.pass_(password)
    assert client3.stat() == (1, len(PLACEHOLDER))
    assert b"\r\n".join(client3.retr(1)[1]) + b"\r\n" == PLACEHOLDER
    client3.quit()
    assert '"redacted": true' in cluster.command("mailbox", "show", BOB, "--json")
    assert json.loads(cluster.command("queue", "list", "--json"))["items"] == []


def pulled_by_mbsync(story: Story, folder: Path) -> Near:
    """BOB's mailbox as mbsync has it after another run."""
    near = Near(folder)
    with near.sync(endpoint(story.cluster, "imap", 1), BOB, story.password) as program:
        said = program.communicate(timeout=60)[0]
    assert program.returncode == 0, said
    return near


def mbsync_sees_placeholders(story: Story, mirror: Path, afresh: Path) -> None:
    """Who pulls afresh gets the placeholder; who had pulled before syncs on, and nothing is doubled or comes back."""
    assert len(list(pulled_by_mbsync(story, mirror).folder.glob("INBOX/[cn]*/*"))) == 1
    (placeholder,) = pulled_by_mbsync(story, afresh).folder.glob("INBOX/[cn]*/*")
    without_its_own = re.sub(rb"X-TUID: .*\n", b"", placeholder.read_bytes())  # by which mbsync knows what it put down
    assert without_its_own == PLACEHOLDER.replace(b"\r\n", b"\n")
    assert files_with(afresh, story.marks) == {}


def texts(client: imaplib.IMAP4, folder: str) -> list[bytes]:
    """The messages of a folder, whose sizes are checked to be what was said."""
    client.select(f'"{folder}"', readonly=True)
    found = []
    for part in client.fetch("1:*", "(RFC822.SIZE ENVELOPE BODY.PEEK[])")[1]:
        if isinstance(part, tuple):
            said = int(part[0].split(b"RFC822.SIZE ")[1].split()[0])
            assert said == len(part[1])
            found.append(part[1])
    return found


def the_log_shows_and_proves_it(story: Story) -> None:
    cluster = story.cluster
    delivered = json.loads(
        cluster.command("log", "tail", "--type", "MessageDelivered", "-n", "1", "--json").splitlines()[-1]
    )
    shown = cluster.command("log", "show", str(delivered["position"]))
    assert "redacted on 20" in shown
    assert "court order 7" in shown
    report = json.loads(cluster.command("log", "verify", "--all", "--json"))
    assert report["ok"]
    for node in ("n1", "n2", "n3"):
        assert json.loads(cluster.command("log", "rebuild", "--node", node, "--json"))["equal"]
