"""A cluster that is gone comes back, whole or as it was at a moment: mail programs can not tell the difference."""

import imaplib
import json
import re
import shutil
import signal
import smtplib
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chaos.cluster import Cluster, ClusterError, free_base_port
from cli.supervisor import environment, program
from eventlog.backup import BackupSource
from eventlog.backup_set import BackupSet
from eventlog.segment_keys import read_keys
from eventlog.segments import SegmentRecord
from tests.acceptance.site import ALICE, BOB, need

FOLDERS = ("INBOX", "Archive", "Sent")


@dataclass
class Story:
    """A cluster that took mail, moved, flagged and expunged, and was backed up meanwhile; then it was stopped.

    `then` and `now` are what its mailboxes were at a moment `early`, and at its end.
    """

    cluster: Cluster
    password: str
    early: str
    then: dict[str, object]
    now: dict[str, object]
    backup: Path
    keys: Path
    pulled: Path  # alice's mail as mbsync pulled it at the end
    twin: Path  # a cluster restored from this one at the end, while it ran


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


def pull(cluster: Cluster, password: str, home: Path) -> dict[str, bytes]:
    """One run of mbsync from alice's account into a Maildir; every file by its path, mbsync's own state among them."""
    port = cluster.status().nodes[0].endpoints["imap"].rpartition(":")[2]
    mail = home / "mail"
    mail.mkdir(parents=True, exist_ok=True)
    (home / "rc").write_text(
        f'''
IMAPStore far
Host 127.0.0.1
Port {port}
User {ALICE}
Pass "{password}"
SSLType None
AuthMechs LOGIN

MaildirStore near
Path {mail}/
Inbox {mail}/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Near
Sync Pull
Expunge Near
SyncState *
'''
    )
    done = subprocess.run([need("mbsync"), "-c", home / "rc", "-a"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return {str(path.relative_to(mail)): path.read_bytes() for path in mail.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("story")
    backup, keys = folder / "backup", folder / "keys"
    with Cluster(folder / "old", nodes=1) as cluster:
        password = cluster.add_accounts("example", (ALICE, BOB))
        cluster.command("backup", "key", str(keys))
        deliver(cluster, *map(mail, range(4)))
        deliver(cluster, mail(5, size=700_000), to=BOB)  # comes in chunks
        create(cluster, backup, keys)
        cluster.wait_settled()
        then = held(cluster, password)
        time.sleep(1.1)
        early = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        time.sleep(1.1)
        work(cluster, password)
        cluster.command("backup", "key", str(keys))
        create(cluster, backup, keys)
        deliver(cluster, mail(6))
        create(cluster, backup, keys)
        cluster.wait_settled()
        now = held(cluster, password)
        pull(cluster, password, folder / "pulled")
        (folder / ".twin.restoring" / "n1").mkdir(parents=True)  # a run that was killed left it
        ports = ("--nodes", "1", "--base-port", str(free_base_port(1)))
        cluster.command("cluster", "restore", "--from", str(folder / "old"), "--into", str(folder / "twin"), *ports)
    assert then != now
    return Story(cluster, password, early, then, now, backup, keys, folder / "pulled", folder / "twin")


def create(cluster: Cluster, backup: Path, keys: Path, *arguments: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(
        cluster.command("backup", "create", str(backup), "--key-file", str(keys), "--json", *arguments)
    )
    return made


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


def test_a_stopped_nodes_tables_are_kept_where_that_is_wanted_and_are_what_its_log_folds_to(
    story: Story, tmp_path: Path
) -> None:
    ports = ("--nodes", "1", "--base-port", str(free_base_port(1)))
    words = ("--from", str(story.cluster.folder), "--into", str(tmp_path / "new"), "--keep-tables", *ports)
    said = json.loads(story.cluster.command("cluster", "restore", *words, "--json"))
    assert 0 < said["tables_loaded"] <= said["position"]
    folder = str(tmp_path / "new" / "n1")
    assert json.loads(story.cluster.command("log", "rehearse", "--data", folder, "--json"))["equal"] is True
    assert json.loads(story.cluster.command("log", "verify", "--data", folder, "--json"))["ok"] is True


def test_a_running_cluster_is_restored_beside_itself_also_after_a_run_that_was_killed(story: Story) -> None:
    assert not list(story.twin.parent.glob(".twin*"))
    with Cluster(story.twin, 1) as cluster:
        assert held(cluster, story.password) == story.now
        tail = json.loads("[" + ",".join(cluster.command("log", "tail", "-n", "6", "--json").splitlines()) + "]")
    assert any("restored from the cell" in str(record.get("cause")) for record in tail)


def test_a_backup_grows_by_increments_while_the_cluster_runs_and_its_key_rotates(story: Story) -> None:
    listed = json.loads(story.cluster.command("backup", "list", str(story.backup), "--json"))
    segments = listed["segments"]
    assert [one["first"] for one in segments] == [1, *(one["last"] + 1 for one in segments[:-1])]
    assert len(segments) == 3
    assert segments[0]["key"] != segments[1]["key"] == segments[2]["key"]


def test_a_backup_alone_becomes_a_cluster_that_mbsync_takes_for_the_old_one(story: Story, tmp_path: Path) -> None:
    backup = shutil.copytree(story.backup, tmp_path / "carried away")
    shutil.copytree(story.pulled, tmp_path / "pulled")
    before = pull_state(tmp_path / "pulled")
    keys = ("--key-file", str(story.keys))
    with restored(story, backup, tmp_path / "new", *keys) as cluster:
        assert held(cluster, story.password) == story.now
        after = pull(cluster, story.password, tmp_path / "pulled")
    assert after == before


def pull_state(home: Path) -> dict[str, bytes]:
    mail = home / "mail"
    return {str(path.relative_to(mail)): path.read_bytes() for path in mail.rglob("*") if path.is_file()}


def test_a_backup_is_restored_to_a_moment_in_the_past(story: Story, tmp_path: Path) -> None:
    into = tmp_path / "new"
    arguments = ("--nodes", "1", "--base-port", str(free_base_port(1)), "--as-of", story.early)
    story.cluster.command(
        "backup", "restore", str(story.backup), "--into", str(into), "--key-file", str(story.keys), *arguments
    )
    with Cluster(into, 1) as cluster:
        assert held(cluster, story.password) == story.then


def test_a_dry_run_says_what_would_be_and_writes_nothing(story: Story, tmp_path: Path) -> None:
    into = tmp_path / "new"
    command = ("backup", "restore", str(story.backup), "--into", str(into), "--key-file", str(story.keys))
    shown = json.loads(story.cluster.command(*command, "--as-of", "#5", "--dry-run", "--json"))
    assert (shown["restored"], shown["position"]) == (False, 5)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_empty_is_left_alone(story: Story, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(ClusterError, match="is not empty"):
        restored(story, story.cluster.folder, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_backup_without_its_key_is_refused_by_the_key_that_it_names(story: Story, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(story.keys.read_text().splitlines()[-1])
    old = json.loads(story.cluster.command("backup", "list", str(story.backup), "--json"))["segments"][0]["key"]
    with pytest.raises(ClusterError, match=f"encrypted under the key {old}"):
        restored(story, story.backup, tmp_path / "new", "--key-file", str(keys))
    assert not (tmp_path / "new").exists()


def test_a_damaged_segment_is_refused_by_name_and_nothing_is_left_of_the_attempt(story: Story, tmp_path: Path) -> None:
    backup = shutil.copytree(story.backup, tmp_path / "backup")
    victim = sorted(backup.glob("segment-*"))[1]
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    keys = ("--key-file", str(story.keys))
    with pytest.raises(ClusterError, match=victim.name):
        story.cluster.command("backup", "verify", str(backup), *keys)
    with pytest.raises(ClusterError, match=victim.name):
        restored(story, backup, tmp_path / "new", *keys)
    assert [path.name for path in tmp_path.iterdir()] == ["backup"]


def test_a_whole_backup_is_proven_and_compared_with_the_log_that_it_is_of(story: Story, tmp_path: Path) -> None:
    command = ("backup", "verify", str(story.backup), "--key-file", str(story.keys), "--json")
    report = json.loads(story.cluster.command(*command, "--against", str(story.cluster.folder)))
    assert (report["ok"], report["segments"], report["compared"]) == (True, 3, True)
    assert report["bodies"] > 0


def test_a_backup_that_is_killed_counts_for_what_it_finished_and_the_next_run_goes_on(
    story: Story, tmp_path: Path
) -> None:
    backup = tmp_path / "backup"
    source = ("--data", str(story.cluster.data_dir("n1")), "--unencrypted", "--segment-size", "1 KiB")
    command = program("backup", "create", str(backup), *source)
    for segments in (1, 3):
        with subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and len(list(backup.glob("segment-*"))) <= segments:
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
        listed = story.cluster.command("backup", "list", str(backup), "--json")
        assert json.loads(listed)["position"] > 0
    subprocess.run(command, env=environment(), check=True, timeout=60)
    proven = json.loads(story.cluster.command("backup", "verify", str(backup), "--against", source[1], "--json"))
    assert proven["compared"]
    assert proven["position"] == inspected(story)["applied"]
    assert {path.name for path in backup.glob("segment-*")} == listed_files(story, backup)


def inspected(story: Story) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(
        story.cluster.command("node", "inspect", "--data", str(story.cluster.data_dir("n1")), "--json")
    )
    return facts


def listed_files(story: Story, backup: Path) -> set[str]:
    shown = json.loads(story.cluster.command("backup", "list", str(backup), "--json"))
    return {one["file"] for one in shown["segments"]}


def test_what_was_redacted_is_gone_from_the_next_backup_and_from_a_cluster_out_of_it(tmp_path: Path) -> None:
    backup, keys = tmp_path / "backup", tmp_path / "keys"
    with Cluster(tmp_path / "old", nodes=1) as cluster:
        password = cluster.add_accounts("example", (ALICE, BOB))
        cluster.command("backup", "key", str(keys))
        deliver(cluster, mail(1), mail(2))
        assert create(cluster, backup, keys)["erased"] == []
        shown = json.loads(cluster.command("mailbox", "show", ALICE, "--json"))
        inbox = next(folder for folder in shown["folders"] if folder["name"] == "INBOX")
        sha256 = inbox["messages"][0]["sha256"]
        cluster.command("log", "redact", "--message", sha256, "--reason", "a test", "--yes")
        assert create(cluster, backup, keys)["erased"] != []
        proven = json.loads(cluster.command("backup", "verify", str(backup), "--key-file", str(keys), "--json"))
        now = held(cluster, password)
    kept = [data for one in everything(backup, keys) for _, data in one.bodies]
    assert not any(b"This is message 1." in data for data in kept)
    assert any(b"This is message 2." in data for data in kept)
    assert proven["ok"]
    ports = ("--nodes", "1", "--base-port", str(free_base_port(1)))
    cluster.command("backup", "restore", str(backup), "--key-file", str(keys), "--into", str(tmp_path / "new"), *ports)
    with Cluster(tmp_path / "new", 1) as again:
        assert held(again, password) == now
        assert json.loads(again.command("log", "verify", "--json"))["ok"] is True


def everything(backup: Path, keys: Path) -> list[SegmentRecord]:
    return list(BackupSource(BackupSet.open(backup, read_keys(keys))).records(1, 1 << 60))
