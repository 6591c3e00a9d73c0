"""Real clients: imaplib, mbsync (isync), curl, imapflow, fetchmail, getmail and OfflineIMAP against a real node."""

import imaplib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.nodes.imap.node import PASSWORD, Node, User


def need(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


def mail(number: int) -> bytes:
    return (
        b"From: sender@example.org\r\nTo: me@example.test\r\nSubject: number %d\r\nMessage-ID: <%d@example.org>\r\n\r\n"
        b"This is message %d.\r\n" % (number, number, number)
    )


def test_imaplib_works_a_mailbox_from_log_in_to_log_out(node: Node, user: User) -> None:
    node.deliver(user, *[mail(number) for number in range(5)])
    with imaplib.IMAP4("127.0.0.1", node.port, timeout=20) as client:
        client.login(user.login, PASSWORD)
        assert client.select("INBOX") == ("OK", [b"5"])
        assert client.search(None, "SUBJECT", '"number 3"') == ("OK", [b"4"])
        status, parts = client.fetch("4", "(RFC822)")
        assert status == "OK"
        assert isinstance(parts[0], tuple)
        assert parts[0][1] == mail(3)
        assert client.store("4", "+FLAGS", "\\Deleted")[0] == "OK"
        assert client.expunge() == ("OK", [b"4"])
        assert client.append("Sent", "\\Seen", imaplib.Time2Internaldate(0), mail(9))[0] == "OK"
        assert client.copy("1", "Archive")[0] == "OK"
        assert client.create("new")[0] == "OK"
        assert client.rename("new", "newer")[0] == "OK"
        assert client.status("newer", "(MESSAGES)") == ("OK", [b'"newer" (MESSAGES 0)'])
        assert client.namespace()[0] == "OK"
        assert client.close()[0] == "OK"


def sync(node: Node, user: User, folder: Path) -> None:
    """One run of mbsync between the account and a Maildir, in both directions."""
    folder.mkdir(exist_ok=True)
    config = folder / "mbsyncrc"
    config.write_text(
        f"""
IMAPStore far
Host 127.0.0.1
Port {node.port}
User {user.login}
Pass "{PASSWORD}"
SSLType None
AuthMechs LOGIN

MaildirStore near
Path {folder}/mail/
Inbox {folder}/mail/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Expunge Both
SyncState *
"""
    )
    (folder / "mail").mkdir(exist_ok=True)
    done = subprocess.run([need("mbsync"), "-c", config, "-a"], capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr


def maildir(folder: Path, name: str) -> list[Path]:
    return sorted(path for sub in ("cur", "new") for path in (folder / "mail" / name / sub).glob("*"))


def test_mbsync_pulls_each_message_once_and_pushes_what_was_added(node: Node, user: User, tmp_path: Path) -> None:
    count = 300
    node.deliver(user, *[mail(number) for number in range(count)])
    sync(node, user, tmp_path)
    texts = [re.sub(rb"X-TUID: .*\n", b"", path.read_bytes()) for path in maildir(tmp_path, "INBOX")]
    assert sorted(texts) == sorted(mail(number).replace(b"\r\n", b"\n") for number in range(count))

    (tmp_path / "mail/INBOX/new/1.added").write_bytes(mail(1000).replace(b"\r\n", b"\n"))
    first = maildir(tmp_path, "INBOX")[0]
    first.rename(first.with_name(first.name.split(":2,")[0] + ":2,ST"))
    sync(node, user, tmp_path)
    held = [message for message in node.held(user) if message[0] == "INBOX"]
    assert len(held) == count
    sync(node, user, tmp_path)
    assert len(maildir(tmp_path, "INBOX")) == count
    assert [message for message in node.held(user) if message[0] == "INBOX"] == held


def test_curl_lists_searches_and_fetches(node: Node, user: User) -> None:
    node.deliver(user, mail(1), mail(2))

    def curl(path: str, *arguments: str) -> str:
        url = f"imap://127.0.0.1:{node.port}/{path}"
        command = [need("curl"), "-sS", "--user", f"{user.login}:{PASSWORD}", url, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout

    assert '"INBOX"' in curl("")
    assert "This is message 2." in curl("INBOX;UID=2")
    assert "* SEARCH 1" in curl("INBOX", "-X", 'SEARCH SUBJECT "number 1"')


def test_imapflow_works_a_mailbox(node: Node, user: User) -> None:
    """scripts/npm-packages brings it; NODE_PATH says where it is."""
    found = subprocess.run([need("node"), "-e", "require('imapflow')"], capture_output=True)
    if found.returncode != 0:
        pytest.skip("imapflow is not installed: scripts/npm-packages, and NODE_PATH")
    script = str(Path(__file__).with_name("imapflow.cjs"))
    arguments = [need("node"), script, str(node.port), user.login, PASSWORD]
    trusting = {**os.environ, "NODE_EXTRA_CA_CERTS": str(node.folder / "ca.pem")}  # it insists on STARTTLS
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, env=trusting)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["exists"] == 3
    assert seen["found"] == [2]
    assert seen["subjects"] == ["number 0", "number 1", "number 2"]
    assert seen["text"] == "text 1\r\n"
    assert (seen["moved"], seen["status"]["messages"]) == ("INBOX", 1)
    assert "Grüße" in seen["folders"]
    assert sorted(node.held(user)) == [("Grüße", 1, ("\\Seen", "\\Flagged")), ("INBOX", 3, ("\\Flagged",))]


def run(*command: str, home: Path) -> None:
    environment = {**os.environ, "HOME": str(home)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, cwd=home)
    assert done.returncode == 0, done.stdout + done.stderr


def test_fetchmail_takes_each_message_once(node: Node, user: User, tmp_path: Path) -> None:
    node.deliver(user, *[mail(number) for number in range(5)])
    config, taken = tmp_path / "fetchmailrc", tmp_path / "taken"
    config.write_text(
        f'poll 127.0.0.1 service {node.port} protocol IMAP auth password user "{user.login}" password "{PASSWORD}"'
        f' sslproto "" fetchall mda "/bin/sh -c \'cat >> {taken}\'"\n'
    )
    config.chmod(0o600)
    run(need("fetchmail"), "-f", str(config), "--nosyslog", "--idfile", str(tmp_path / "ids"), home=tmp_path)
    assert [b"This is message %d." % n in taken.read_bytes() for n in range(5)] == [True] * 5
    assert node.held(user) == []


def test_getmail_takes_each_message_once_and_leaves_them(node: Node, user: User, tmp_path: Path) -> None:
    node.deliver(user, *[mail(number) for number in range(5)])
    taken = tmp_path / "taken"
    (tmp_path / "getmailrc").write_text(
        f"""[retriever]
type = SimpleIMAPRetriever
server = 127.0.0.1
port = {node.port}
username = {user.login}
password = {PASSWORD}
[destination]
type = MDA_external
path = /usr/bin/tee
arguments = ("-a", "{taken}")
allow_root_commands = true
[options]
read_all = false
"""
    )
    for _ in range(2):
        run(need("getmail"), "-g", str(tmp_path), "-r", "getmailrc", home=tmp_path)
    assert taken.read_bytes().count(b"This is message") == 5
    assert len(node.held(user)) == 5


def test_offlineimap_synchronises_both_ways(node: Node, user: User, tmp_path: Path) -> None:
    node.deliver(user, *[mail(number) for number in range(5)])
    (tmp_path / "offlineimaprc").write_text(
        f"""[general]
accounts = test
metadata = {tmp_path}/state
[Account test]
localrepository = near
remoterepository = far
[Repository near]
type = Maildir
localfolders = {tmp_path}/mail
[Repository far]
type = IMAP
remotehost = 127.0.0.1
remoteport = {node.port}
remoteuser = {user.login}
remotepass = {PASSWORD}
ssl = no
starttls = no
auth_mechanisms = PLAIN
"""
    )
    command = (need("offlineimap"), "-c", str(tmp_path / "offlineimaprc"), "-u", "quiet", "-o", "-1")
    run(*command, home=tmp_path)
    assert len(maildir(tmp_path, "INBOX")) == 5
    (tmp_path / "mail/INBOX/new/1.added").write_bytes(mail(1000).replace(b"\r\n", b"\n"))
    first = maildir(tmp_path, "INBOX")[0]
    first.rename(first.parent.parent / "cur" / (first.name.split(":2,")[0] + ":2,FS"))
    run(*command, home=tmp_path)
    held = [message for message in node.held(user) if message[0] == "INBOX"]
    assert len(held) == 6
    assert sum("\\Flagged" in flags for _, _, flags in held) == 1
