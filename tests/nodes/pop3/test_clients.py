"""Programs that people fetch mail with over POP3, on a real node; and what a large maildrop does to nobody."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from actors.directory import account_of
from actors.mailbox import CopyMessages, folder_by_name
from actors.mailbox_rows import uids_in
from actors.runtime import Context
from actors.tenant_policy import SetMailPolicy
from tests.nodes.smtp.cell import ADMIN, Cell
from tests.nodes.smtp.dialogue import Dialogue

Talk = Callable[..., Dialogue]
Deliver = Callable[[bytes], None]
MANY = 50_000


def need(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed: scripts/debian-packages")
    return path


def fetch(*command: str, home: Path) -> None:
    environment = {**os.environ, "HOME": str(home)}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=environment, cwd=home, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stdout + done.stderr


def mail(number: int) -> bytes:
    return b"From: a@remote.test\r\nSubject: %d\r\n\r\nThis is message %d.\r\n.dots\r\n" % (number, number)


def numbers(taken: Path) -> list[int]:
    return sorted(int(found) for found in re.findall(rb"This is message (\d+)\.", taken.read_bytes()))


def test_fetchmail_takes_each_message_once_and_removes_it(
    cell: Cell, user: str, deliver: Deliver, tmp_path: Path
) -> None:
    for number in range(3):
        deliver(mail(number))
    config, taken = tmp_path / "fetchmailrc", tmp_path / "taken"
    config.write_text(
        f'poll localhost service {cell.port("pop3s")} protocol POP3 uidl user "{user}" password "pw of it"'
        f' ssl sslcertck sslcertfile "{cell.ca}" mda "/bin/sh -c \'cat >> {taken}\'"\n'
    )
    config.chmod(0o600)
    command = (need("fetchmail"), "-f", str(config), "--nosyslog", "--idfile", str(tmp_path / "ids"))
    fetch(*command, "--keep", home=tmp_path)
    deliver(mail(3))
    fetch(*command, home=tmp_path)
    assert numbers(taken) == [0, 1, 2, 3]


def test_getmail_takes_each_message_once_and_leaves_them(
    cell: Cell, user: str, deliver: Deliver, tmp_path: Path
) -> None:
    for number in range(3):
        deliver(mail(number))
    taken = tmp_path / "taken"
    (tmp_path / "getmailrc").write_text(
        f"""[retriever]
type = SimplePOP3Retriever
server = 127.0.0.1
port = {cell.port("pop3")}
username = {user}
password = pw of it
[destination]
type = MDA_external
path = /usr/bin/tee
arguments = ("-a", "{taken}")
allow_root_commands = true
[options]
read_all = false
"""
    )
    for number in (3, 4):
        fetch(need("getmail"), "-g", str(tmp_path), "-r", "getmailrc", home=tmp_path)
        deliver(mail(number))
    assert numbers(taken) == [0, 1, 2, 3]
    assert len(cell.inbox(user)) == 5


def test_mpop_pipelines_takes_each_message_once_and_leaves_them(
    cell: Cell, user: str, deliver: Deliver, tmp_path: Path
) -> None:
    for number in range(3):
        deliver(mail(number))
    taken = tmp_path / "taken"
    command = (
        *(need("mpop"), "--host=localhost", f"--port={cell.port('pop3')}", f"--user={user}", "--tls=on"),
        *(f"--tls-trust-file={cell.ca}", "--tls-crl-file=", "--passwordeval=echo pw of it", "--pipelining=on"),
        *(f"--uidls-file={tmp_path / 'uidls'}", f"--delivery=mbox,{taken}", "--keep=on", "--tls-starttls=on"),
    )
    for number in (3, 4):
        fetch(*command, home=tmp_path)
        deliver(mail(number))
    assert numbers(taken) == [0, 1, 2, 3]
    assert len(cell.inbox(user)) == 5


async def multiply(cell: Cell, user: str) -> None:
    """Copies of the one message inside INBOX, until there are MANY."""
    with cell.log.snapshot() as snapshot:
        target = account_of(snapshot, user)
        inbox = folder_by_name(snapshot.view(target.account), "INBOX")
    assert inbox is not None
    context: Context = ADMIN._replace(tenant=target.tenant)
    while True:
        with cell.log.snapshot() as snapshot:
            uids = uids_in(snapshot.view(target.account), inbox.id)
        if len(uids) == MANY:
            return
        command = CopyMessages(inbox.id, tuple(uids[: min(1000, MANY - len(uids))]), inbox.id)
        await cell.runtime.ask(target.account, command, context)


def test_fifty_thousand_messages_are_listed_while_others_are_served(
    cell: Cell, user: str, talk: Talk, deliver: Deliver
) -> None:
    deliver(mail(0))
    cell.call(multiply(cell, user))
    client = talk(user)
    client.send(b"LIST\r\nUIDL\r\nSTAT\r\nUIDL 50000\r\nRETR 50000\r\n")  # 3 MB, not read for now
    other = talk(user)
    assert other.ask("STAT").startswith(f"+OK {MANY} ")
    other.close()
    answers = []
    for _ in range(2):
        lines = []
        while (line := client.line()) != b".\r\n":
            lines.append(line)
        assert lines[0].startswith(b"+OK ")
        answers.append(lines[1:])
    sizes, ids = ([line.split() for line in lines] for lines in answers)
    assert [int(number) for number, _ in sizes] == [int(number) for number, _ in ids] == list(range(1, MANY + 1))
    assert len({unique_id for _, unique_id in ids}) == MANY
    assert client.line() == b"+OK %d %d\r\n" % (MANY, sum(int(size) for _, size in sizes))
    assert client.line() == b"+OK 50000 %b\r\n" % ids[-1][1]
    assert client.line().startswith(b"+OK ")


def test_mail_in_utf_8_comes_as_it_is_unless_the_tenant_refuses_it_to_who_did_not_say_utf8(
    cell: Cell, user: str, talk: Talk, deliver: Deliver
) -> None:
    deliver("Subject: Grüße\r\n\r\nüber\r\n".encode())
    deliver(b"Subject: latin \xfc\r\n\r\ntext\r\n")
    usual = talk(user)
    assert usual.ask("RETR 1").startswith("+OK ")
    usual.close()
    set_policy(cell, user, "refuse")
    try:
        old = talk(user)
        for command in ("RETR 1", "TOP 1 0"):
            assert old.ask(command) == "-ERR [UTF8] Its header is in UTF-8: say UTF8 before log-in"
        assert old.ask("RETR 2").startswith("+OK ")
        new = talk()
        assert new.ask("UTF8").startswith("+OK ")
        new.send(f"USER {user}\r\nPASS pw of it\r\nRETR 1\r\n".encode())
        assert [new.line()[:3] for _ in range(3)] == [b"+OK"] * 3
    finally:
        set_policy(cell, user, "send")


def set_policy(cell: Cell, user: str, value: str) -> None:
    with cell.log.snapshot() as snapshot:
        tenant = account_of(snapshot, user).tenant
    command = SetMailPolicy((("pop3_utf8", value),))
    cell.call(cell.runtime.ask(tenant, command, ADMIN._replace(tenant=tenant)))
