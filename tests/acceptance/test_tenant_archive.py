"""A tenant that is exported from one cluster and imported into another is there as it was, whoever is killed."""

from __future__ import annotations

import contextlib
import imaplib
import json
import os
import re
import signal
import smtplib
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from chaos.cluster import Cluster, ClusterError
from cli import tenant_archive
from cli.client import AdminClient
from cli.options import open_client
from cli.output import CommandError
from cli.tenant_archive_file import ArchiveFile
from nodes.tenants.archive import Manifest, Opening, pack

ALICE, BOB = "alice@example.test", "bob@example.test"
LARGE_BYTES = 700_000  # above what one record holds: it goes in chunks
MANY = 40


class Two(NamedTuple):
    """A cluster with a tenant that was exported, and one without."""

    source: Cluster
    target: Cluster
    password: str
    keys: Path
    archive: Path


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    folder = tmp_path_factory.mktemp("two")
    with Cluster(folder / "source") as source, Cluster(folder / "target", nodes=1) as target:
        password = source.add_accounts("example", (ALICE, BOB))
        found = Two(source, target, password, folder / "keys", folder / "example.tenant")
        fill(found)
        source.command("backup", "key", str(found.keys))
        source.command("tenant", "export", "example", "--to", str(found.archive), "--key-file", str(found.keys))
        yield found


def fill(two: Two) -> None:
    source = two.source
    source.command("tenant", "add", "other", "--domain", "other.test")
    source.command("tenant", "update", "example", "--title", "Example Ltd")
    source.command("alias", "add", "info@example.test", ALICE)
    source.command("group", "add", "staff@example.test", ALICE, BOB)
    source.command("quota", "set", "example", "storage_bytes=1GiB")
    source.command("dkim", "generate", "example.test", "--active")
    source.command("role", "grant", BOB, "tenant-admin")
    host, _, port = source.status().nodes[0].endpoints["smtp"].rpartition(":")
    with smtplib.SMTP(host, int(port), timeout=30) as client:
        for number in range(MANY):
            text = f"Subject: number {number}\r\n\r\nnumber {number}\r\n" + "x" * (LARGE_BYTES if number == 7 else 100)
            client.sendmail("x@remote.test", [ALICE, BOB], text + "\r\n")
    source.command("queue", "suspend", "nowhere.test")
    host, _, port = source.status().nodes[0].endpoints["submissions"].rpartition(":")
    context = ssl._create_unverified_context()
    with smtplib.SMTP_SSL(host, int(port), timeout=30, context=context) as client:
        client.login(ALICE, two.password)
        client.sendmail(ALICE, ["x@nowhere.test"], "Subject: waits\r\n\r\n" + ("x" * 70 + "\r\n") * 6000)
    session = log_in(source, ALICE, two.password)
    session.create("Work")
    session.select("INBOX")
    session.store("2:5", "+FLAGS", r"(\Flagged $Later)")
    session.copy("3:6", "Work")
    session.store("1,4", "+FLAGS", r"\Deleted")
    session.expunge()
    session.setacl("Work", BOB, "lr")
    session.append("Work", r"(\Seen)", '"01-Feb-2020 03:04:05 +0000"', b"Subject: old\r\n\r\nold\r\n")
    session.logout()


def log_in(cluster: Cluster, login: str, password: str) -> imaplib.IMAP4_SSL:
    node = next(node for node in cluster.status().nodes if node.ready)
    context = ssl.create_default_context(cafile=str(cluster.folder / "ca" / "ca.pem"))
    client = imaplib.IMAP4_SSL("localhost", int(node.endpoints["imaps"].rpartition(":")[2]), ssl_context=context)
    client.login(login, password)
    return client


def held(cluster: Cluster, address: str, password: str) -> dict[str, Any]:
    """All that an IMAP client is told of every folder, and every octet of the messages."""
    client = log_in(cluster, address, password)
    found: dict[str, Any] = {}
    for line in client.list()[1]:
        assert isinstance(line, bytes)
        name = line.rpartition(b' "/" ')[2].decode()
        found[name] = client.status(name, "(MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ UNSEEN)"), client.getacl(name)
        if client.select(name, readonly=True)[0] == "OK":
            answers = client.uid("FETCH", "1:*", "(FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])")[1]
            parts = [part for one in answers for part in (one if isinstance(one, tuple) else (one,))]
            found[name] += ([re.sub(rb" ?\\Recent", b"", part) for part in parts if part],)
    client.logout()
    return found


def shown(cluster: Cluster, *command: str) -> Any:
    return json.loads(cluster.command(*command, "--json"))


def bring_back(two: Two, target: Cluster, *options: str, archive: Path | None = None) -> str:
    file = str(archive or two.archive)
    return target.command("tenant", "import", file, "--key-file", str(two.keys), *options, timeout_s=120)


def test_a_damaged_cut_or_foreign_archive_is_refused_and_nothing_is_written(two: Two, tmp_path: Path) -> None:
    whole = two.archive.read_bytes()
    middle = len(whole) // 2
    cases = {
        "cut short": whole[:middle],
        "altered": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        "no archive of a tenant": b"PK\3\4" + whole,
        "its end is missing": whole[: -(4 + int.from_bytes(last_length(whole), "big"))],
    }
    for words, data in cases.items():
        (tmp_path / "damaged").write_bytes(data)
        with pytest.raises(ClusterError, match=words):
            bring_back(two, two.target, archive=tmp_path / "damaged")
    two.source.command("backup", "key", str(tmp_path / "other-keys"))
    with pytest.raises(ClusterError, match=r"which .* does not hold"):
        two.target.command("tenant", "import", str(two.archive), "--key-file", str(tmp_path / "other-keys"))
    assert shown(two.target, "tenant", "list")["tenants"] == []
    assert b"alice" not in whole


def last_length(data: bytes) -> bytes:
    """The length in front of the last part of an archive."""
    at = 18 + 8 + 16
    while True:
        length = int.from_bytes(data[at : at + 4], "big")
        if at + 4 + length == len(data):
            return data[at : at + 4]
        at += 4 + length


def test_an_archive_is_refused_where_a_name_of_it_is_taken(two: Two) -> None:
    with pytest.raises(ClusterError, match="in this cell already"):
        bring_back(two, two.source)
    two.target.command("tenant", "add", "holder", "--domain", "example.test")
    with pytest.raises(ClusterError, match=r"example\.test is taken"):
        bring_back(two, two.target)
    two.target.command("tenant", "remove-domain", "holder", "example.test", "--yes")
    two.target.command("tenant", "add", "example", "--domain", "else.test")
    with pytest.raises(ClusterError, match="example is taken"):
        bring_back(two, two.target, "--dry-run")
    assert {one["name"] for one in shown(two.target, "tenant", "list")["tenants"]} == {"holder", "example"}


def test_a_tenant_is_brought_back_exactly_although_its_import_is_killed(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = two.target
    bring_back(two, target, "--as", "second", "--dry-run")
    import_half(two, monkeypatch)
    assert shown(target, "tenant", "show", "second")["state"] == "suspended"
    with pytest.raises(imaplib.IMAP4.error):
        log_in(target, ALICE, two.password)
    bring_back(two, target, "--as", "second")
    for address in (ALICE, BOB):
        assert held(target, address, two.password) == held(two.source, address, two.password)
        assert shown(target, "mailbox", "show", address) == shown(two.source, "mailbox", "show", address)
    for what in (("alias", "list"), ("group", "list"), ("dkim", "show", "example.test"), ("role", "list")):
        assert mine(shown(target, *what)) == mine(shown(two.source, *what))
    found, home = shown(target, "tenant", "show", "second"), shown(two.source, "tenant", "show", "example")
    assert {**found, "name": ""} == {**home, "name": ""}
    assert found["state"] == "active"
    assert json.loads(bring_back(two, target, "--as", "second", "--json"))["whole"]  # once more: nothing is to be done
    (waiting,) = shown(target, "queue", "list")["items"]
    assert (waiting["state"], waiting["sender"]) == ("held", ALICE)
    rebuilt = shown(target, "log", "rebuild", "--node", target.names()[0])
    assert rebuilt["equal"] is True


def test_a_copy_is_brought_into_the_tenants_own_cluster_under_other_domains(two: Two) -> None:
    with pytest.raises(ClusterError, match="OLD=NEW"):
        bring_back(two, two.source, "--as", "copy", "--domain", "copy.test")
    options = ("--as", "copy", "--domain", "example.test=copy.test")
    made = json.loads(bring_back(two, two.source, *options, "--json"))
    assert (made["whole"], made["domains"]) == (True, ["copy.test"])
    for address in (ALICE, BOB):
        copied = held(two.source, address.replace("example", "copy"), two.password)
        assert repr(copied).replace("@copy.test", "@example.test") == repr(held(two.source, address, two.password))
    assert len(shown(two.source, "queue", "list")["items"]) == 1


def mine(found: Any) -> str:
    return json.dumps(found, sort_keys=True).replace("second", "example")


def import_half(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the command does it, in small parts; SIGKILL to the node with one of them under way, and no more."""
    monkeypatch.setattr(tenant_archive, "PART_BYTES", 2048)
    archive = ArchiveFile(two.archive, two.keys)
    manifest = next(frame for frame, _, _ in archive.frames() if isinstance(frame, Manifest))
    opening = pack(Opening("second", archive.keys.secrets)) + pack(manifest)
    client = open_client(two.target.folder)
    parts = [
        part for part, _ in tenant_archive._parts(archive, client.send(tenant_archive.IMPORTS, opening)["position"])
    ]
    half = len(parts) // 2
    for part in parts[:half]:
        answer = client.send(tenant_archive.IMPORTS, opening + part)
    assert 0 < answer["position"] < manifest.position
    sending = threading.Thread(target=send_whatever_comes, args=(client, opening + b"".join(parts[half:-1])))
    sending.start()
    os.kill(two.target.status().nodes[0].pid, signal.SIGKILL)
    sending.join(60)
    two.target.wait_ready(60)


def send_whatever_comes(client: AdminClient, data: bytes) -> None:
    with contextlib.suppress(CommandError):
        client.send(tenant_archive.IMPORTS, data)
