"""Submission by our own users (RFC 6409, RFC 4954, RFC 8314), on a real node."""

import base64
import os
import shutil
import smtplib
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.nodes.smtp.cell import Cell
from tests.nodes.smtp.dialogue import Dialogue

Talk = Callable[..., Dialogue]
MESSAGE = b"From: alice@example.test\r\nSubject: out\r\n\r\nHello\r\n"


def encode(*parts: str) -> str:
    return base64.b64encode("\0".join(parts).encode()).decode()


ALICE = encode("", "alice@example.test", "secret of alice")


def wait_until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def logged_in(talk: Talk) -> Dialogue:
    client = talk("submission")
    assert client.ask(f"AUTH PLAIN {ALICE}") == "235 2.7.0 Authentication successful"
    return client


def test_mail_without_authentication_is_refused(talk: Talk) -> None:
    assert talk("submission").ask("MAIL FROM:<alice@example.test>") == "530 5.7.0 Authentication required"


def test_local_and_remote_recipients_are_one_record_and_the_remote_ones_are_queued(cell: Cell, talk: Talk) -> None:
    client = logged_in(talk)
    recipients = ["bob@example.test", "x@Far.test", "y@far.test", "z@bücher.test"]
    assert client.ask("MAIL FROM:<alice@example.test> SMTPUTF8").startswith("250")
    assert [client.ask(f"RCPT TO:<{one}>") for one in recipients] == ["250 2.1.5 Ok"] * 4
    before = cell.log.status().applied
    assert client.transfer(MESSAGE).startswith("250 2.0.0 Ok: queued as ")
    assert cell.log.status().applied == before + 1
    assert cell.inbox("bob@example.test")[-1][1] == MESSAGE
    queued = cell.queued()
    assert [one.address for one in queued["far.test"][-1].recipients] == ["x@Far.test", "y@far.test"]
    item = queued["xn--bcher-kva.test"][-1]
    assert item.sender == "alice@example.test"
    assert item.size == len(item.trace) + len(MESSAGE)
    assert item.trace.startswith(b"Received: from client.test ([127.0.0.1])\r\n\tby mx.example.test with UTF8SMTPA id ")


def test_the_sender_is_the_account_or_an_alias_that_leads_to_it(talk: Talk) -> None:
    client = logged_in(talk)
    for sender in ("alice@example.test", "Alice@Example.Test", "info@example.test", ""):
        assert client.ask(f"MAIL FROM:<{sender}>") == "250 2.1.0 Ok"
        client.ask("RSET")
    for sender in ("bob@example.test", "nobody@example.test", "alice@remote.test"):
        reply = client.ask(f"MAIL FROM:<{sender}>")
        assert reply == "553 5.7.1 This sender address does not belong to your account"


def test_a_destination_that_no_domain_name_can_be_is_refused(talk: Talk) -> None:
    client = logged_in(talk)
    assert client.ask("MAIL FROM:<alice@example.test> SMTPUTF8") == "250 2.1.0 Ok"
    assert client.ask("RCPT TO:<a@☃.test>") == "550 5.1.2 Mail can not be sent to that domain"
    assert client.ask("RCPT TO:<a@-x-.test>") == "553 5.1.3 Malformed recipient address"


def test_login_asks_for_name_and_password(talk: Talk) -> None:
    client = talk("submission")
    assert client.ask("auth login") == "334 " + encode("Username:")
    assert client.ask(encode("alice@example.test")) == "334 " + encode("Password:")
    assert client.ask(encode("secret of alice")) == "235 2.7.0 Authentication successful"
    assert client.ask(f"AUTH PLAIN {ALICE}") == "503 5.5.1 Authenticated already"
    assert "AUTH" not in client.ask("EHLO again.test")


def test_plain_without_initial_response_is_challenged_and_may_be_pipelined(talk: Talk) -> None:
    client = talk("submission")
    client.send(f"AUTH PLAIN\r\n{ALICE}\r\nNOOP\r\n".encode())
    assert [client.read() for _ in range(3)] == ["334 ", "235 2.7.0 Authentication successful", "250 2.0.0 Ok"]


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("AUTH", "501 5.5.4 Bad syntax in the argument"),
        ("AUTH CRAM-MD5", "504 5.5.4 Authentication mechanism not supported"),
        ("AUTH PLAIN ???", "501 5.5.2 That is not a response of this mechanism"),
        ("AUTH PLAIN =", "501 5.5.2 That is not a response of this mechanism"),
        ("AUTH PLAIN " + encode("a", "b"), "501 5.5.2 That is not a response of this mechanism"),
        ("AUTH PLAIN " + encode("", "alice@example.test", "wrong"), "535 5.7.8 Authentication credentials invalid"),
        ("AUTH PLAIN " + encode("", "nobody@example.test", "x"), "535 5.7.8 Authentication credentials invalid"),
        (
            "AUTH PLAIN " + encode("bob@example.test", "alice@example.test", "secret of alice"),
            "535 5.7.8 Authentication credentials invalid",
        ),
    ],
)
def test_a_failed_authentication_has_its_answer(talk: Talk, line: str, reply: str) -> None:
    client = talk("submission")
    assert client.ask(line) == reply
    assert client.ask("NOOP") == "250 2.0.0 Ok"


def test_a_client_may_cancel_and_an_over_long_response_cancels(talk: Talk) -> None:
    client = talk("submission")
    assert client.ask("AUTH PLAIN") == "334 "
    assert client.ask("*") == "501 5.7.0 Authentication cancelled"
    assert client.ask("AUTH LOGIN").startswith("334 ")
    assert client.ask("x" * 20_000) == "501 5.7.0 Authentication cancelled"
    assert client.ask("NOOP") == "250 2.0.0 Ok"


def test_a_password_in_clear_is_refused_where_policy_says_so(small_cell: Cell) -> None:
    client = Dialogue(small_cell.port("submission"))
    client.read()
    assert "AUTH" not in client.ask("EHLO x")
    assert client.ask(f"AUTH PLAIN {ALICE}") == "538 5.7.11 Encryption required, send STARTTLS first"
    client.close()


def test_wrong_passwords_end_the_connection_at_the_limit(small_cell: Cell) -> None:
    context = ssl.create_default_context(cafile=small_cell.ca)
    client = Dialogue(small_cell.port("submissions"), tls=context)
    client.read()
    assert "AUTH SCRAM-SHA-256 PLAIN LOGIN" in client.ask("EHLO x")
    wrong = encode("", "alice@example.test", "wrong")
    assert client.ask(f"AUTH PLAIN {wrong}") == "535 5.7.8 Authentication credentials invalid"
    assert client.ask(f"AUTH PLAIN {wrong}") == "535 5.7.8 Authentication credentials invalid"
    assert client.read() == "421 4.7.0 Too many errors, closing the connection"
    assert client.line() == b""


def test_starttls_forgets_what_was_said_in_clear(cell: Cell, talk: Talk) -> None:
    context = ssl.create_default_context(cafile=cell.ca)
    client = talk("submission")
    client.send(b"STARTTLS\r\nMAIL FROM:<injected@remote.test>\r\nNOOP\r\n")
    assert client.read() == "220 2.0.0 Ready to start TLS"
    client.upgrade(context)
    assert client.ask("NOOP") == "250 2.0.0 Ok"
    assert client.ask("AUTH PLAIN") == "503 5.5.1 Send EHLO first (LHLO in LMTP)"
    assert "STARTTLS" not in client.ask("EHLO x")
    assert client.ask("STARTTLS") == "503 5.5.1 TLS is active already"
    assert client.ask(f"AUTH PLAIN {ALICE}").startswith("235")


def test_a_failed_handshake_harms_nobody(cell: Cell, talk: Talk) -> None:
    client = talk("submission")
    assert client.ask("STARTTLS").startswith("220")
    client.send(b"this is no TLS\r\n" * 10)
    client.close()
    vanishing = talk("submission")
    assert vanishing.ask("STARTTLS").startswith("220")
    vanishing.close()
    assert talk("submission").ask("NOOP") == "250 2.0.0 Ok"
    registry = cell.services.metrics.registry
    wait_until(lambda: registry.get_sample_value("mailraft_open_connections", {"protocol": "submission"}) == 1)


def test_smtplib_submits_over_starttls_and_over_implicit_tls(cell: Cell) -> None:
    context = ssl.create_default_context(cafile=cell.ca)
    with smtplib.SMTP("localhost", cell.port("submission")) as first:
        first.starttls(context=context)
        first.login("alice@example.test", "secret of alice")
        assert first.sendmail("alice@example.test", ["bob@example.test"], MESSAGE) == {}
    assert b" with ESMTPSA id " in cell.inbox("bob@example.test")[-1][0].trace
    with smtplib.SMTP_SSL("localhost", cell.port("submissions"), context=context) as second:
        second.login("alice@example.test", "secret of alice")
        assert second.sendmail("alice@example.test", ["bob@example.test", "x@far.test"], MESSAGE) == {}
    assert b" with ESMTPSA id " in cell.inbox("bob@example.test")[-1][0].trace


def test_curl_submits(cell: Cell) -> None:
    url = f"smtps://localhost:{cell.port('submissions')}/client.test"
    user = "alice@example.test:secret of alice"
    command = ["curl", "-sS", "--cacert", str(cell.ca), url, "-u", user, "-T", "-"]
    command += ["--mail-from", "alice@example.test", "--mail-rcpt", "bob@example.test"]
    done = subprocess.run(command, input=b"Subject: from curl\r\n\r\n.dot\r\n", capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert cell.inbox("bob@example.test")[-1][1] == b"Subject: from curl\r\n\r\n.dot\r\n"


def test_swaks_submits_with_login(cell: Cell) -> None:
    command = ["swaks", "--server", f"127.0.0.1:{cell.port('submission')}", "--tls", "--auth", "LOGIN"]
    command += ["-au", "alice@example.test", "-ap", "secret of alice", "-f", "info@example.test", "-t", "a@swaks.test"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout
    assert cell.queued()["swaks.test"][0].sender == "info@example.test"


def test_mutt_sends_with_what_it_chooses_from_what_is_offered(cell: Cell, tmp_path: Path) -> None:
    program = shutil.which("mutt") or pytest.skip("mutt is not installed")
    settings = tmp_path / "muttrc"
    settings.write_text(
        f"set certificate_file={cell.ca} ssl_force_tls=yes ssl_verify_host=yes copy=no from=alice@example.test\n"
        f"set smtp_url=smtps://alice%40example.test@localhost:{cell.port('submissions')} smtp_pass='secret of alice'\n"
    )
    before = len(cell.inbox("bob@example.test"))
    sent = subprocess.run(
        [program, "-n", "-F", str(settings), "-s", "by mutt", "bob@example.test"],
        input=b"Hello\n",
        capture_output=True,
        timeout=30,
        env={"HOME": str(tmp_path), "TERM": "dumb", "PATH": os.environ["PATH"]},
        cwd=tmp_path,
    )
    assert sent.returncode == 0, sent
    assert len(cell.inbox("bob@example.test")) == before + 1
