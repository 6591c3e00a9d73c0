"""Mail goes in through every node and comes out of every node, with the clients that people have."""

import json
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.acceptance.site import ALICE, BOB, CAROL, Site, need

MESSAGES = 1000
MBSYNC = """\
IMAPStore remote
Host localhost
Port {port}
User {user}
Pass {password}
AuthMechs {mechanism}
SSLType {ssl}
CertificateFile {ca}

MaildirStore local
Path {folder}/
Inbox {folder}/INBOX
SubFolders Verbatim

Channel pull
Far :remote:
Near :local:
Patterns INBOX
Create Near
Sync Pull
SyncState *
"""


def pull(site: Site, endpoint: str, user: str, folder: Path, ssl: str) -> list[bytes]:
    """Every message that mbsync fetches from one node into a fresh Maildir."""
    folder.mkdir()
    facts = {"user": user, "password": site.password, "ca": site.ca, "folder": folder, "ssl": ssl, "mechanism": "*"}
    if ssl == "None":
        facts["mechanism"] = "LOGIN"
    config = folder / "mbsyncrc"
    config.write_text(MBSYNC.format(port=endpoint.rpartition(":")[2], **facts))
    done = subprocess.run(
        [need("mbsync"), "-c", str(config), "pull"],
        capture_output=True,
        text=True,
        timeout=100,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [path.read_bytes() for path in (folder / "INBOX").glob("[cn][ue][rw]/*")]


def message_ids(messages: list[bytes]) -> Counter[bytes]:
    found = [re.search(rb"^Message-Id: *(<[^>]*>)", message, re.IGNORECASE | re.MULTILINE) for message in messages]
    return Counter(match[1] for match in found if match)


@pytest.fixture(scope="module")
def thousand(site: Site) -> int:
    """A thousand messages to alice, sent by smtp-source through all nodes at once."""
    endpoints = site.endpoints("smtp")
    shares = [MESSAGES // len(endpoints) + (1 if i < MESSAGES % len(endpoints) else 0) for i in range(len(endpoints))]
    common = ["-s", "8", "-l", "2048", "-f", "sender@elsewhere.test", "-t", ALICE]
    sources = [
        subprocess.Popen([need("smtp-source"), *common, "-m", str(share), endpoint])
        for endpoint, share in zip(endpoints, shares, strict=True)
    ]
    assert [source.wait(timeout=100) for source in sources] == [0] * len(sources)
    return MESSAGES


@pytest.mark.parametrize(("node", "use", "ssl"), [(0, "imap", "None"), (1, "imap", "STARTTLS"), (2, "imaps", "IMAPS")])
def test_mbsync_finds_each_of_a_thousand_messages_once(
    site: Site, thousand: int, tmp_path: Path, node: int, use: str, ssl: str
) -> None:
    messages = pull(site, site.endpoints(use)[node], ALICE, tmp_path / "mail", ssl)
    ids = message_ids(messages)
    assert len(messages) == thousand
    assert len(ids) == thousand
    assert set(ids.values()) == {1}


def test_every_node_lists_the_same_thousand_messages(site: Site, thousand: int) -> None:
    site.cluster.wait_settled()
    shown = [site.cluster.command("mailbox", "show", ALICE, "--json") for _ in range(3)]
    inbox = next(folder for folder in json.loads(shown[0])["folders"] if folder["name"] == "INBOX")
    assert sorted(message["uid"] for message in inbox["messages"]) == list(range(1, thousand + 1))
    assert shown[0] == shown[1] == shown[2]


def swaks(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [need("swaks"), *arguments], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )


def test_submitted_mail_for_elsewhere_waits_in_the_queue(site: Site) -> None:
    recipient = "someone@remote.invalid"
    site.cluster.command("queue", "suspend", "remote.invalid")
    sent = swaks(
        *("--server", site.endpoints("submission")[1], "--tls", "--tls-verify", "--tls-ca-path", str(site.ca)),
        *("--auth", "PLAIN", "--auth-user", BOB, "--auth-password", site.password),
        *("--from", BOB, "--to", recipient, "--header", "Subject: for elsewhere"),
    )
    assert sent.returncode == 0, sent.stdout
    assert recipient in site.cluster.command("queue", "list", "--json")
    waiting = json.loads(site.cluster.command("queue", "list", "--json"))["items"]
    shown = site.cluster.command("queue", "list").splitlines()
    assert {line.split()[-1] for line in shown[1:]} == {item["id"] for item in waiting}


def test_submission_without_a_log_in_is_refused(site: Site) -> None:
    refused = swaks("--server", site.endpoints("submission")[0], "--from", BOB, "--to", "someone@remote.invalid")
    assert "530" in refused.stdout
    assert refused.returncode != 0


def test_mail_for_elsewhere_is_not_relayed_from_the_mx_port(site: Site) -> None:
    refused = swaks("--server", site.endpoints("smtp")[0], "--from", "a@elsewhere.test", "--to", "b@remote.invalid")
    assert re.search(r"<\*\* +55[04]", refused.stdout), refused.stdout


def test_an_unknown_recipient_is_refused_while_it_is_named(site: Site) -> None:
    refused = swaks("--server", site.endpoints("smtp")[2], "--from", "a@elsewhere.test", "--to", "nobody@example.test")
    assert re.search(r"<\*\* +550 5\.1\.1", refused.stdout), refused.stdout


def test_mail_delivered_at_one_node_is_read_at_the_others_with_its_bytes(site: Site) -> None:
    line = "a line with a marker: zebra-4711"
    sent = swaks("--server", site.endpoints("smtp")[0], "--from", "a@elsewhere.test", "--to", CAROL, "--body", line)
    assert sent.returncode == 0, sent.stdout
    site.cluster.wait_settled()
    for endpoint in site.endpoints("imap"):
        assert line in curl(site, f"imap://{endpoint}/INBOX;MAILINDEX=1")
    for endpoint in site.endpoints("pop3s"):
        host_and_port = endpoint.replace("127.0.0.1", "localhost")
        assert line in curl(site, f"pop3s://{host_and_port}/1", "--cacert", str(site.ca))


def curl(site: Site, url: str, *arguments: str) -> str:
    done = subprocess.run(
        [need("curl"), "--silent", "--show-error", "--user", f"{CAROL}:{site.password}", *arguments, url],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, f"{url}: {done.stderr}"
    return done.stdout


def test_a_wrong_password_is_refused(site: Site) -> None:
    endpoint = site.endpoints("imap")[0]
    done = subprocess.run(
        [need("curl"), "--silent", "--show-error", "--user", f"{CAROL}:wrong", f"imap://{endpoint}/INBOX"],
        capture_output=True,
        timeout=30,
    )
    assert done.returncode == 67  # CURLE_LOGIN_DENIED
