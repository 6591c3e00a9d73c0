"""Mail from programs that others wrote: Postfix as a relay, its smtp-source, swaks; over IPv4 and IPv6."""

from __future__ import annotations

import shutil
import smtplib
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chaos.cluster import free_base_port
from cli.bench.postfix_peer import PeerError, PostfixPeer
from nodes import smtp
from nodes.services import Listener
from tests.nodes.smtp.cell import Cell
from tests.nodes.smtp.dialogue import Dialogue
from tests.peers import exim

Swaks = Callable[..., subprocess.CompletedProcess[str]]


class Relay(PostfixPeer):
    """A Postfix that hands everything to one server."""

    def __init__(self, port: int, to: str, settings: str = "") -> None:
        super().__init__(port)
        self._more = f"default_transport = smtp\nrelayhost = {to}\nsmtputf8_enable = yes\n{settings}\n"

    def _configure(self) -> None:
        super()._configure()
        path = self._folder / "etc" / "main.cf"
        kept = [line for line in path.read_text().splitlines() if not line.startswith("default_transport")]
        path.write_text("\n".join([*kept, self._more]))


@pytest.fixture(scope="module")
def relay(cell: Cell) -> Iterator[Relay]:
    try:
        settings = f"smtp_tls_security_level = may\nsmtp_tls_CAfile = {cell.ca}"
        with Relay(free_base_port(1), f"[127.0.0.1]:{cell.port('smtp')}", settings) as running:
            yield running
    except PeerError as error:
        pytest.skip(str(error))


def arrived(cell: Cell, subject: bytes, address: str = "bob@example.test") -> tuple[bytes, bytes]:
    """Trace and body of the message with this subject, once it is there."""
    found: list[tuple[bytes, bytes]] = []

    def look() -> bool:
        found.extend((one.trace, body) for one, body in cell.inbox(address) if b"Subject: " + subject in body)
        return bool(found)

    cell.until(look, 30)
    return found[0]


def hand_to(relay: Relay, message: bytes, recipients: list[str], mail: list[str], rcpt: list[str]) -> None:
    host, _, port = relay.endpoint.partition(":")
    with smtplib.SMTP(host, int(port), timeout=30) as client:
        client.sendmail("sender@remote.test", recipients, message, mail, rcpt)


def test_postfix_relays_to_us_over_tls(cell: Cell, relay: Relay) -> None:
    """It never sends BDAT; that we offer it must not disturb."""
    hand_to(relay, b"Subject: relayed\r\n\r\n.dot\r\n" + b"x" * 900 + b"\r\n", ["bob@example.test"], [], [])
    trace, body = arrived(cell, b"relayed")
    assert b"from peer.example.test ([127.0.0.1])" in trace
    assert b" with ESMTPS id " in trace
    assert body.endswith(b"\r\n\r\n.dot\r\n" + b"x" * 900 + b"\r\n")


def test_postfix_hands_on_what_was_asked_of_delivery_notices(cell: Cell, relay: Relay) -> None:
    seen = cell.watch_envelopes("smtp")
    options = ["NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;Bob+2BX@Example.test"]
    hand_to(relay, b"Subject: dsn\r\n\r\nx\r\n", ["bob@example.test"], ["RET=HDRS", "ENVID=From+2BPostfix"], options)
    arrived(cell, b"dsn")
    envelope = seen[-1]
    assert (envelope.options.ret, envelope.options.envid) == ("HDRS", "From+Postfix")
    asked = envelope.recipient_options["bob@example.test"]
    assert set(asked.notify) == {"SUCCESS", "DELAY"}
    assert asked.orcpt == "rfc822;Bob+X@Example.test"


def test_postfix_sends_addresses_outside_ascii(cell: Cell, relay: Relay) -> None:
    host, _, port = relay.endpoint.partition(":")
    with smtplib.SMTP(host, int(port), timeout=30) as client:
        client.ehlo()
        assert client.docmd("MAIL", "FROM:<a@remote.test> SMTPUTF8")[0] == 250
        client.rcpt("bob@example.test")
        assert client.docmd("MAIL")[0] in (501, 503)
        client.data("Subject: umlaut ü\r\nFrom: <ü@remote.test>\r\n\r\nx\r\n".encode())
    trace, _ = arrived(cell, "umlaut ü".encode())
    assert b" with UTF8SMTPS id " in trace


@pytest.mark.skipif(bool(exim.missing()), reason=exim.missing())
def test_exim_sends_to_us_in_chunks_over_verified_tls(cell: Cell) -> None:
    """It takes CHUNKING wherever that is offered, and pipelines BDAT."""

    def chunks() -> float:
        cell.metrics.exposition()  # counts are written out when they are asked for
        labels = {"protocol": "smtp", "command": "BDAT"}
        return cell.metrics.registry.get_sample_value("mailraft_commands_total", labels) or 0.0

    before = chunks()
    text = b".\r\n..dots\r\n" + b"long line " * 90 + b"\r\n"
    head = b"From: a@remote.test\nSubject: by exim\n\n"
    recipients = ["bob@example.test", "nobody@example.test"]
    log = exim.send(cell.port("smtp"), cell.ca, "a@remote.test", recipients, head + text.replace(b"\r\n", b"\n"))
    trace, body = arrived(cell, b"by exim")
    assert b" with ESMTPS id " in trace
    assert body.endswith(b"\r\n\r\n" + text)
    assert chunks() > before, log
    assert "550 5.1.1" in log


@pytest.mark.skipif(shutil.which("smtp-source") is None, reason="smtp-source is not installed")
def test_many_sessions_of_smtp_source_are_served(cell: Cell) -> None:
    before = len(cell.inbox("alice@example.test"))
    endpoint = f"127.0.0.1:{cell.port('smtp')}"
    command = ["smtp-source", "-s", "20", "-m", "100", "-l", "2000", "-f", "a@remote.test", "-t", "alice@example.test"]
    subprocess.run([*command, endpoint], check=True, timeout=60, stdin=subprocess.DEVNULL)
    assert len(cell.inbox("alice@example.test")) == before + 100


@pytest.fixture
def swaks(cell: Cell) -> Swaks:
    if shutil.which("swaks") is None:
        pytest.skip("swaks is not installed")

    def run(*arguments: str, kind: str = "smtp") -> subprocess.CompletedProcess[str]:
        where = ["--server", "127.0.0.1", "--port", str(cell.port(kind)), "--from", "a@remote.test"]
        return subprocess.run(["swaks", *where, *arguments], capture_output=True, text=True, timeout=30)

    return run


def test_swaks_sends_over_starttls_and_over_lmtp(
    cell: Cell, swaks: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    to = ["--to", "bob@example.test"]
    for arguments, kind, subject in ((["-tls"], "smtp", "by-starttls"), (["--protocol", "LMTP"], "lmtp", "by-lmtp")):
        done = swaks(*to, *arguments, "--header", f"Subject: {subject}", kind=kind)
        assert done.returncode == 0, done.stdout + done.stderr
        arrived(cell, subject.encode())


def test_swaks_behind_a_proxy_and_on_behalf_of_others(tmp_path: Path) -> None:
    if shutil.which("swaks") is None:
        pytest.skip("swaks is not installed")
    rules = {"proxy_protocol": ["smtp"], "proxy_from": ["127.0.0.1"], "xclient_from": ["192.0.2.0/24"]}
    with Cell(tmp_path, sections={"smtp": rules}) as cell:
        where = ["--server", "127.0.0.1", "--port", str(cell.port("smtp")), "--from", "a@remote.test"]
        for version in ("1", "2"):
            proxy = ["--proxy-version", version, "--proxy-family", "TCP4" if version == "1" else "AF_INET"]
            proxy += ["--proxy-source", "192.0.2.7", "--proxy-source-port", "4000"]
            proxy += ["--proxy-dest", "192.0.2.9", "--proxy-dest-port", "25"]
            if version == "2":
                proxy += ["--proxy-command", "PROXY", "--proxy-protocol", "STREAM"]
            xclient = ["--xclient-addr", "198.51.100.1", "--xclient-name", "mx.remote.test"]
            done = subprocess.run(
                ["swaks", *where, "--to", "bob@example.test", *proxy, *xclient],
                capture_output=True,
                text=True,
                timeout=30,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            assert b"(mx.remote.test [198.51.100.1])" in cell.inbox("bob@example.test")[-1][0].trace


@pytest.fixture
def six(cell: Cell) -> Iterator[Listener]:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 on loopback")
    listener = cell.call(smtp.start(cell.services, "smtp", "[::1]:0"))
    yield listener
    cell.call(listener.stop(0.2))


def test_mail_comes_over_ipv6(cell: Cell, six: Listener) -> None:  # RFC 5321 4.1.3
    host, _, port = six.address.rpartition(":")
    assert host == "[::1]"
    with smtplib.SMTP("::1", int(port), local_hostname="[IPv6:::1]") as client:
        client.sendmail("a@[IPv6:2001:db8::1]", ["bob@example.test"], b"Subject: six\r\n\r\nx\r\n")
    trace, _ = arrived(cell, b"six")
    assert trace.startswith(b"Return-Path: <a@[IPv6:2001:db8::1]>\r\nReceived: from [IPv6:::1] ([IPv6:::1])\r\n")


def test_limits_count_ipv6_addresses_too(cell: Cell, six: Listener) -> None:
    port = int(six.address.rpartition(":")[2])
    with socket.create_connection(("::1", port), 10) as client:
        assert client.recv(200).startswith(b"220 ")
        assert cell.services.connections.admit("::1")
        cell.services.connections.release("::1")


def test_null_sender_and_source_routes(cell: Cell) -> None:  # RFC 5321 4.5.5, appendix C
    client = Dialogue(cell.port("smtp"))
    client.read()
    client.ask("EHLO x.test")
    assert client.ask("MAIL FROM:<>").startswith("250")
    assert client.ask("RCPT TO:<@relay.test:bob@example.test>").startswith("250")
    assert client.ask("RCPT TO:<>").startswith("553 5.1.3")
    assert client.ask("RCPT TO:<bob@[192.0.2.1]>").startswith("550 5.7.1")
    assert client.transfer(b"Subject: null\r\n\r\nx\r\n").startswith("250")
    trace, _ = arrived(cell, b"null")
    assert trace.startswith(b"Return-Path: <>\r\n")
    client.close()
