"""Servers that stall, close, babble and refuse at each stage: each recipient has its outcome, and nothing hangs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvloop

from nodes.delivery import client
from nodes.delivery.attempt import RecipientOutcome
from nodes.delivery.routes import FindWay, Way, given_way_or_mx
from nodes.delivery.transport import MailTransport
from nodes.resolver import Resolver
from tests.nodes.delivery.outbound import DATA, attempt, config, only, sent
from tests.peers.dns_server import DnsServer
from tests.peers.smtp_peer import CLOSE, EXTENSIONS, STALL, Reply, SmtpPeer

ZONE = "example.test. MX 10 mx.example.test.\nmx.example.test. A 127.0.0.1"
STAGES = ("connect", "EHLO", "MAIL", "RCPT", "DATA", "end")
BABBLE = (STALL, CLOSE, "Hello, who is there?", b"250-without\r\n251 one code\r\n", b"\xff" * 99)
EARLY = (b"552 5.3.4 Too large\r\n", b"421 4.3.2 Closing\r\n", b"250 2.0.0 Taken already\r\n")
EVIL = b"550-5.1.1 \x1b[31m\x00\xff evil\r\n" + b"550-more\r\n" * 100 + b"550 " + b"y" * 1900 + b"\r\n"
PATIENCE = dict.fromkeys(("greeting", "command", "data", "block", "end"), 0.3)
WITHOUT_PIPELINING = tuple(one for one in EXTENSIONS if one != "PIPELINING")


def outcome_at(
    peer: SmtpPeer, data: bytes = DATA, find_way: FindWay = given_way_or_mx, **delivery: Any
) -> RecipientOutcome:
    patience = {f"{stage}_timeout_s": seconds for stage, seconds in PATIENCE.items()}
    with DnsServer(ZONE) as dns:
        settings = config(dns.address, port=peer.port, **{**patience, **delivery})
        return only(sent(attempt(data=data), settings, find_way=find_way))


@pytest.mark.parametrize("extensions", [EXTENSIONS, WITHOUT_PIPELINING], ids=["pipelined", "one-by-one"])
@pytest.mark.parametrize(
    "fault", [STALL, CLOSE, "Hello, who is there?", b"250-without\r\n251 one code\r\n", b"\xff" * 99]
)
@pytest.mark.parametrize("stage", STAGES)
def test_a_server_that_stalls_closes_or_babbles_delays_the_message_and_behind_its_end_leaves_it_open(
    stage: str, fault: Reply, extensions: tuple[str, ...]
) -> None:
    with SmtpPeer({stage: fault}, extensions=extensions) as peer:
        outcome = outcome_at(peer)
    assert outcome.status == ("unknown" if stage == "end" else "deferred")
    assert outcome.text
    assert outcome.text.isprintable()


@pytest.mark.parametrize("fault", [STALL, CLOSE, b"\x16\x03\x01\xff\xff garbage in place of TLS" * 9, b"250 Ok\r\n"])
def test_a_server_that_stalls_or_babbles_in_the_handshake_gets_the_mail_in_clear_or_not_at_all(fault: Reply) -> None:
    extensions = (*EXTENSIONS, "STARTTLS")
    with SmtpPeer({"handshake": fault}, extensions=extensions) as peer:
        outcome = outcome_at(peer, tls_timeout_s=0.3)
        assert (outcome.status, outcome.tls, peer.sessions) == ("delivered", "", 2)
    with SmtpPeer({"handshake": fault}, extensions=extensions) as peer:
        way = Way("127.0.0.1", peer.port, "encrypt")
        outcome = outcome_at(peer, tls_timeout_s=0.3, find_way=lambda _: way)
        assert (outcome.status, peer.taken) == ("deferred", [])


def test_a_server_that_never_says_goodbye_has_its_message_and_keeps_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "QUIT_TIMEOUT_S", 0.2)
    with SmtpPeer({"QUIT": STALL}) as peer:
        assert outcome_at(peer).status == "delivered"  # the transport is stopped then, and so comes to its end
        assert (len(peer.taken), peer.lines[-1]) == (1, "QUIT")


@pytest.mark.parametrize("extensions", [EXTENSIONS, WITHOUT_PIPELINING], ids=["pipelined", "one-by-one"])
@pytest.mark.parametrize(("code", "status"), [(421, "deferred"), (450, "deferred"), (554, "failed"), (521, "failed")])
@pytest.mark.parametrize("stage", STAGES)
def test_a_refusal_counts_as_its_first_digit_says_whatever_the_stage(
    stage: str, code: int, status: str, extensions: tuple[str, ...]
) -> None:
    replies = {stage: f"{code} {code // 100}.7.1 No"}
    if stage == "EHLO":
        replies["HELO"] = replies["EHLO"]
    with SmtpPeer(replies, extensions=extensions) as peer:
        outcome = outcome_at(peer)
    assert (outcome.status, outcome.code, outcome.enhanced) == (status, code, f"{code // 100}.7.1")
    assert "No" in outcome.text
    assert not peer.taken


def test_a_server_that_only_knows_helo_gets_the_message_without_any_extension() -> None:
    with SmtpPeer({"EHLO": "502 5.5.1 What?", "HELO": "250 old.test"}) as peer:
        assert outcome_at(peer).status == "delivered"
        assert peer.lines[2] == "MAIL FROM:<a@sender.test>"


def test_an_enhanced_code_of_another_class_than_the_reply_is_not_believed() -> None:
    with SmtpPeer({"RCPT": "550 2.1.5 Fine, really"}) as peer:
        assert outcome_at(peer).enhanced == "5.0.0"


@pytest.mark.parametrize(
    "flood", [b"250-" + b"x" * 3000 + b"\r\n", b"250-x\r\n" * 200 + b"250 x\r\n", b"250 Ok\r\n" * 50, b"2" * 100_000]
)
def test_a_flood_of_replies_ends_the_session(flood: bytes) -> None:
    with SmtpPeer({"MAIL": flood}) as peer:
        assert outcome_at(peer).status == "deferred"
        assert not peer.taken


def test_what_a_server_says_reaches_nobody_with_control_characters_in_it_or_at_any_length() -> None:
    with SmtpPeer(
        {"RCPT": b"550-5.1.1 \x1b[31m\x00\xff evil\r\n" + b"550-more\r\n" * 100 + b"550 " + b"y" * 1900 + b"\r\n"}
    ) as peer:
        outcome = outcome_at(peer)
    assert outcome.status == "failed"
    assert outcome.text.isprintable()
    assert len(outcome.text) < 1100


@pytest.mark.parametrize(
    "reply", [b"552 5.3.4 Too large\r\n", b"421 4.3.2 Closing\r\n", b"250 2.0.0 Taken already\r\n"]
)
def test_a_reply_in_the_middle_of_the_message_ends_it_there(reply: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 peer.test\r\n")
        for answer in (b"250 peer.test\r\n", b"250 Ok\r\n", b"250 Ok\r\n", b"354 Go\r\n"):
            await reader.readline()
            writer.write(answer)
        await reader.readexactly(100_000)
        writer.write(reply)
        await reader.read()
        writer.close()

    outcome = against(serve, b"x" * 98 + b"\r\n", times=200_000)
    assert outcome.status == ("failed" if reply.startswith(b"5") else "deferred")
    assert reply[:3].decode() in outcome.text


def test_a_server_that_reads_no_more_of_a_message_is_not_waited_for_longer_than_told() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 peer.test\r\n")
        for answer in (b"250 peer.test\r\n", b"250 Ok\r\n", b"250 Ok\r\n", b"354 Go\r\n"):
            await reader.readline()
            writer.write(answer)
        await asyncio.sleep(30)

    outcome = against(serve, b"x" * 98 + b"\r\n", times=400_000)
    assert (outcome.status, "reads no more" in outcome.text) == ("deferred", True)


def test_a_message_that_is_cut_off_by_the_network_was_not_taken() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 peer.test\r\n")
        for answer in (b"250 peer.test\r\n", b"250 Ok\r\n", b"250 Ok\r\n", b"354 Go\r\n"):
            await reader.readline()
            writer.write(answer)
        await reader.readexactly(1_000_000)
        writer.transport.abort()

    assert against(serve, b"x" * 98 + b"\r\n", times=200_000).status == "deferred"


def against(serve: Any, line: bytes, times: int) -> RecipientOutcome:
    """One message of so many lines to a server that is a coroutine."""

    async def scenario() -> RecipientOutcome:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**21)
        port = server.sockets[0].getsockname()[1]
        with DnsServer(ZONE) as dns:
            settings = config(dns.address, port=port, block_timeout_s=0.5, end_timeout_s=5.0)
            transport = MailTransport(settings, Resolver(settings.dns))
            outcome = only(await transport.send(attempt(data=DATA + line * times)))
        server.close()
        return outcome

    return uvloop.run(scenario())


def test_a_server_that_wants_the_message_though_it_took_no_recipient_gets_an_empty_end() -> None:
    ends: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 peer.test\r\n")
        for answer in (b"250-peer.test\r\n250 PIPELINING\r\n", b"250 Ok\r\n", b"550 5.1.1 No\r\n", b"354 Go\r\n"):
            await reader.readline()
            writer.write(answer)
        ends.append(await reader.readline())
        writer.write(b"554 5.5.1 No valid recipients\r\n")
        await reader.read()
        writer.close()

    outcome = against(serve, b"x\r\n", times=1)
    assert (outcome.status, outcome.enhanced, ends) == ("failed", "5.1.1", [b".\r\n"])
