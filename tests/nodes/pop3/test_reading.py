"""Reading mail over POP3 with real clients, on a real node."""

import poplib
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from actors.mailbox import Message
from tests.nodes.smtp.cell import Cell
from tests.nodes.smtp.dialogue import Dialogue

Talk = Callable[..., Dialogue]
Deliver = Callable[[bytes], None]
MESSAGE = b"Subject: one\r\n\r\n.dot\r\n..two\r\nend\r\n"


def uidl(message: Message) -> bytes:
    return f"{message.id.hex()}-{message.uid}".encode()


def test_poplib_reads_keeps_and_removes(cell: Cell, user: str, deliver: Deliver) -> None:
    for number in range(3):
        deliver(b"Subject: %d\r\n\r\n.body %d\r\n" % (number, number))
    context = ssl.create_default_context(cafile=cell.ca)
    first = poplib.POP3("localhost", cell.port("pop3"))
    first.stls(context)
    assert "STLS" not in first.capa()
    first.user(user)
    assert first.pass_("pw of it").startswith(b"+OK 3 messages")
    count, octets = first.stat()
    messages = [message for message, _ in cell.inbox(user)]
    assert (count, octets) == (3, sum(message.size for message in messages))
    assert first.uidl()[1] == [b"%d %b" % (n, uidl(m)) for n, m in enumerate(messages, 1)]
    assert first.retr(2)[1][-3:] == [b"Subject: 1", b"", b".body 1"]
    assert first.top(3, 0)[1][-2:] == [b"Subject: 2", b""]
    first.dele(2)
    assert len(cell.inbox(user)) == 3
    assert first.quit() == b"+OK Bye"
    assert [body.split(b"\r\n")[0] for _, body in cell.inbox(user)] == [b"Subject: 0", b"Subject: 2"]
    second = poplib.POP3_SSL("localhost", cell.port("pop3s"), context=context)
    second.user(user)
    second.pass_("pw of it")
    assert second.uidl()[1] == [b"1 %b" % uidl(messages[0]), b"2 %b" % uidl(messages[2])]
    second.quit()


def test_the_octets_that_are_promised_are_those_that_come(cell: Cell, user: str, talk: Talk, deliver: Deliver) -> None:
    deliver(MESSAGE)
    message, body = cell.inbox(user)[0]
    client = talk(user)
    client.send(b"RETR 1\r\n")
    assert client.line() == b"+OK %d octets\r\n" % message.size
    lines = []
    while (line := client.line()) != b".\r\n":
        lines.append(line.removeprefix(b"."))
    assert b"".join(lines) == message.trace + body
    assert body == MESSAGE


def test_a_session_sees_the_inbox_as_it_was_at_log_in(cell: Cell, user: str, talk: Talk, deliver: Deliver) -> None:
    deliver(MESSAGE)
    deliver(MESSAGE)
    early, other = talk(user), talk(user)
    deliver(MESSAGE)
    assert early.ask("STAT").startswith("+OK 2 ")
    other.ask("DELE 1")
    assert other.ask("QUIT") == "+OK Bye"
    assert len(cell.inbox(user)) == 2
    assert early.ask("STAT").startswith("+OK 2 ")
    assert early.ask("RETR 1").startswith("+OK ")


def test_a_session_that_does_not_quit_removes_nothing(cell: Cell, user: str, talk: Talk, deliver: Deliver) -> None:
    deliver(MESSAGE)
    client = talk(user)
    client.ask("DELE 1")
    client.close()
    time.sleep(0.2)
    assert len(cell.inbox(user)) == 1


def test_commands_may_be_pipelined_from_log_in_to_quit(cell: Cell, user: str, talk: Talk, deliver: Deliver) -> None:
    deliver(MESSAGE)
    client = talk()
    client.send(f"USER {user}\r\nPASS pw of it\r\nSTAT\r\nDELE 1\r\nQUIT\r\n".encode())
    answers = [client.line() for _ in range(5)]
    assert [answer[:3] for answer in answers] == [b"+OK"] * 5
    assert client.line() == b""
    assert cell.inbox(user) == []


def test_a_large_message_comes_whole(user: str, talk: Talk, deliver: Deliver) -> None:
    body = b"Subject: large\r\n\r\n" + b"".join(b".%06d a line\r\n" % n for n in range(100_000))
    deliver(body)
    client = talk(user)
    client.send(b"RETR 1\r\n")
    assert client.line().startswith(b"+OK ")
    time.sleep(0.3)
    lines = []
    while (line := client.line()) != b".\r\n":
        lines.append(line[1:] if line.startswith(b".") else line)
    assert b"".join(lines).endswith(body)
    assert client.ask("NOOP") == "+OK Ok"


def test_curl_lists_and_fetches(cell: Cell, user: str, deliver: Deliver) -> None:
    deliver(MESSAGE)
    command = ["curl", "-sS", "--cacert", str(cell.ca), "-u", f"{user}:pw of it"]
    url = f"pop3s://localhost:{cell.port('pop3s')}/"
    listed = subprocess.run([*command, url], capture_output=True, check=False)
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.startswith(b"1 ")
    fetched = subprocess.run([*command, url + "1"], capture_output=True, check=False)
    assert fetched.returncode == 0, fetched.stderr
    assert fetched.stdout.endswith(MESSAGE)


def test_wrong_passwords_are_told_and_end_the_connection(cell: Cell, user: str, talk: Talk) -> None:
    client = talk()
    for _ in range(5):
        client.ask(f"USER {user}")
        assert client.ask("PASS wrong") == "-ERR [AUTH] Wrong name or password"
    assert client.line() == b""
    assert talk().ask("USER nobody@example.test") == "+OK Send PASS"


def test_a_client_that_never_finishes_its_line_is_cut_off_from_memory_not_from_service(talk: Talk) -> None:
    client = talk()
    for _ in range(50):
        client.send(b"x" * 10_000)
    assert client.ask("") == "-ERR Line too long"
    assert client.ask("CAPA").startswith("+OK")


def test_a_failed_handshake_harms_nobody(talk: Talk) -> None:
    client = talk()
    assert client.ask("STLS") == "+OK Begin TLS"
    client.send(b"this is no TLS\r\n" * 10)
    client.close()
    assert talk().ask("AUTH") == "+OK Mechanisms follow"


def test_who_does_not_log_in_or_says_nothing_is_closed_and_removes_nothing(tmp_path: Path) -> None:
    with Cell(tmp_path, {"login_s": 0.5, "pop3_idle_s": 0.5}, plaintext="never") as cell:
        stranger = Dialogue(cell.port("pop3"))
        stranger.line()
        for _ in range(3):
            assert stranger.ask("USER alice@example.test") == "-ERR A password may not come in clear: send STLS first"
            time.sleep(0.1)
        assert stranger.line() == b"-ERR [SYS/TEMP] No command came in time\r\n"
        assert stranger.line() == b""
        client = Dialogue(cell.port("pop3s"), tls=ssl.create_default_context(cafile=cell.ca))
        client.line()
        client.send(b"USER alice@example.test\r\nPASS secret of alice\r\n")
        client.line()
        assert client.line().startswith(b"+OK 0 messages")
        assert client.line() == b"-ERR [SYS/TEMP] No command came in time\r\n"


def test_a_stopping_node_tells_its_clients(tmp_path: Path) -> None:
    with Cell(tmp_path) as cell:
        client = Dialogue(cell.port("pop3"))
        client.line()
        cell.call(cell.listeners["pop3"].stop(2.0))
        assert client.line() == b"-ERR [SYS/TEMP] The server is stopping\r\n"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", cell.port("pop3")), 5)
