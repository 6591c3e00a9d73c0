"""Mail to servers that others have written: Postfix, Exim, and smtp-sink with the faults that it can be asked for."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from actors.mail_options import MailOptions, RecipientOptions
from chaos.cluster import free_base_port
from nodes.delivery.attempt import RecipientOutcome
from nodes.delivery.login import Login
from nodes.delivery.routes import Way
from nodes.delivery.transport import MailTransport
from tests.nodes.delivery.outbound import DATA, attempt, config, on_loop, only, sent
from tests.peers import certificates, exim, postfix
from tests.peers.dns_server import DnsServer
from tests.peers.exim import EximReceiver
from tests.peers.postfix import PostfixReceiver

ZONE = "example.test. MX 10 mx.example.test.\nmx.example.test. A 127.0.0.1\n"
WAIT_S = 10.0


def until_mails(peer: PostfixReceiver, user: str, count: int) -> list[bytes]:
    deadline = time.monotonic() + WAIT_S
    while len(found := peer.mails(user)) < count and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


@pytest.mark.skipif(bool(postfix.missing()), reason=postfix.missing())
def test_postfix_takes_whole_messages_of_all_kinds_over_tls(tmp_path: Path) -> None:
    shown = certificates.server("mx.example.test")
    certificates.context(tmp_path, shown)
    (chain,) = tmp_path.glob("*.pem")
    large = DATA + b"x" * 78 + b"\r\n" + b".\r\n..\r\n" + b"line of text\r\n" * 5000
    plain = attempt("bob@example.test", "ann@example.test", "nobody@example.test")
    every = [
        plain,
        attempt(data=large),
        attempt(
            data="Subject: Grüße\r\n\r\nGrüße\r\n".encode(),
            options=MailOptions(utf8=True, body="8BITMIME"),
        ),
        attempt(options=MailOptions(ret="HDRS", envid="a+b"), asked=RecipientOptions(("NEVER",), "rfc822;x@y.test")),
        attempt(data=DATA + b"y" * 300_000),
        attempt("bob@elsewhere.test"),
    ]
    with PostfixReceiver(free_base_port(1), chain) as peer, DnsServer(ZONE) as dns:
        dns.add(f"_{peer.port}._tcp.mx.example.test. TLSA {shown.tlsa(3, 1, 1)}")
        dns.secure = True

        async def scenario(transport: MailTransport) -> list[tuple[RecipientOutcome, ...]]:
            return [(await transport.send(one)).outcomes for one in every]

        outcomes = on_loop(scenario, config(dns.address, dns={"trust_ad": True}, port=peer.port))
        mails = until_mails(peer, "bob", 4)
        statuses = [[(one.status, one.enhanced) for one in those] for those in outcomes]
        assert statuses == [
            [("delivered", "2.0.0"), ("delivered", "2.0.0"), ("failed", "5.1.1")],
            [("delivered", "2.0.0")],
            [("delivered", "2.0.0")],
            [("delivered", "2.0.0")],
            [("failed", "5.3.4")],
            [("deferred", "4.7.1")],
        ], peer.log
        assert {one.tls[-16:] for those in outcomes[:2] for one in those} == {"verified by DANE"}
        bodies = [one.partition(b"\n\n")[2] for one in mails]
        assert large.replace(b"\r\n", b"\n").partition(b"\n\n")[2] in bodies
        assert "Grüße\n".encode() in bodies
        assert peer.log.count(": connect from") == 2  # one for all of it, behind the one that asked whether it listens


@pytest.mark.skipif(bool(exim.missing()), reason=exim.missing())
def test_exim_takes_whole_messages_and_knows_us_where_a_route_has_a_login(tmp_path: Path) -> None:
    certificates.context(tmp_path, certificates.server("mx.example.test"))
    (chain,) = tmp_path.glob("*.pem")
    large = DATA + b".\r\n..\r\n" + b"line of text\r\n" * 5000
    utf8 = attempt(data="Subject: Grüße\r\n\r\nGrüße\r\n".encode(), options=MailOptions(utf8=True, body="8BITMIME"))
    every = [attempt("bob@example.test", "nobody@example.test"), attempt(data=large), utf8]
    with EximReceiver(free_base_port(1), chain) as peer, DnsServer(ZONE) as dns:
        ways = iter([Way(), Way(), Way(), Way("mx.example.test", peer.port, "encrypt", "", Login("me", "s3cret"))])

        async def scenario(transport: MailTransport) -> list[list[tuple[str, str]]]:
            results = [await transport.send(one) for one in [*every, attempt("x@elsewhere.test")]]
            return [[(one.status, one.enhanced) for one in result.outcomes] for result in results]

        outcomes = on_loop(scenario, config(dns.address, port=peer.port), find_way=lambda _: next(ways))
        delivered = ("delivered", "2.0.0")
        assert outcomes == [[delivered, ("failed", "5.0.0")], [delivered], [delivered], [delivered]], peer.log
        deadline = time.monotonic() + WAIT_S
        while len(peer.mails()) < 4 and time.monotonic() < deadline:
            time.sleep(0.05)
        bodies = [one.partition(b"\n\n")[2] for one in peer.mails()]
        assert large.replace(b"\r\n", b"\n").partition(b"\n\n")[2] in bodies, peer.log
        assert "Grüße\n".encode() in bodies


@contextmanager
def sink(*options: str) -> Iterator[int]:
    """smtp-sink with these options."""
    port = free_base_port(1)
    as_user = ["-u", "nobody"] if os.geteuid() == 0 else []
    command = ["smtp-sink", *as_user, *options, f"127.0.0.1:{port}", "100"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield port
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(shutil.which("smtp-sink") is None, reason="smtp-sink (Postfix) is not installed")
@pytest.mark.parametrize(
    ("options", "status"),
    [
        ([], "delivered"),
        (["-8"], "delivered"),
        (["-e"], "delivered"),  # HELO only
        (["-p"], "delivered"),  # no PIPELINING
        (["-f", "connect"], "failed"),
        (["-f", "mail"], "failed"),
        (["-f", "rcpt"], "failed"),
        (["-f", "data"], "failed"),
        (["-f", "."], "failed"),
        (["-r", "connect"], "deferred"),
        (["-r", "ehlo"], "deferred"),
        (["-r", "mail"], "deferred"),
        (["-r", "rcpt"], "deferred"),
        (["-r", "data"], "deferred"),
        (["-r", "."], "deferred"),
        (["-q", "connect"], "deferred"),
        (["-q", "mail"], "deferred"),
        (["-q", "rcpt"], "deferred"),
        (["-q", "data"], "deferred"),
        (["-q", "."], "unknown"),
        (["-Q", "rcpt"], "deferred"),
        (["-Q", "."], "deferred"),
        (["-W", ".:9"], "unknown"),
    ],
)
def test_each_fault_of_smtp_sink_has_its_outcome(options: list[str], status: str) -> None:
    with sink(*options) as port, DnsServer(ZONE) as dns:
        outcome = only(sent(attempt(), config(dns.address, port=port, command_timeout_s=1.0, end_timeout_s=1.0)))
    assert outcome.status == status, outcome.text
