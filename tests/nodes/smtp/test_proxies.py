"""Peers that speak for others: the PROXY protocol (haproxy: proxy-protocol.txt), XCLIENT (Postfix: XCLIENT_README)."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.smtp.proxy import SIGNATURE, BadProxyHeader, Client, parse_v1, read_header
from tests.nodes.smtp.cell import Cell
from tests.nodes.smtp.dialogue import Dialogue


def v2(source: str, port: int, *, command: int = 1, extra: bytes = b"") -> bytes:
    address = ipaddress.ip_address(source)
    family = 0x11 if address.version == 4 else 0x21
    both = address.packed + address.packed + port.to_bytes(2) + (25).to_bytes(2) + extra
    return SIGNATURE + bytes([0x20 | command, family]) + len(both).to_bytes(2) + both


def read(data: bytes) -> tuple[Client, bytes]:
    """What the header says, and what is left behind it."""
    rest = [data]

    async def read_exactly(size: int) -> bytes:
        part, rest[0] = rest[0][:size], rest[0][size:]
        if len(part) < size:
            raise BadProxyHeader("closed")
        return part

    return asyncio.run(read_header(read_exactly)), rest[0]


@pytest.mark.parametrize(
    ("header", "peer"),
    [
        (b"PROXY TCP4 192.0.2.1 192.0.2.9 56324 25\r\n", ("192.0.2.1", 56324)),
        (b"PROXY TCP6 2001:db8::1 2001:db8::9 4000 25\r\n", ("2001:db8::1", 4000)),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
        (v2("192.0.2.1", 56324), ("192.0.2.1", 56324)),
        (v2("2001:db8::1", 4000, extra=b"\x04\0\x01x"), ("2001:db8::1", 4000)),
        (v2("192.0.2.1", 1, command=0), None),
    ],
)
def test_a_header_is_read_and_not_an_octet_more(header: bytes, peer: tuple[str, int] | None) -> None:
    assert read(header + b"EHLO x\r\n") == (Client(peer), b"EHLO x\r\n")


@pytest.mark.parametrize(
    "header",
    [
        b"EHLO client.test\r\n",
        b"PROXY TCP4 192.0.2.1\r\n" + b"x" * 20,
        b"PROXY TCP4 2001:db8::1 192.0.2.9 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.9 65536 25\r\n",
        b"PROXY TCP4 " + b"x" * 200,
        SIGNATURE + b"\x31\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11\x00\x04" + bytes(4),
        SIGNATURE + b"\x21\x11\xff\xff" + bytes(65535),
    ],
)
def test_anything_else_is_refused(header: bytes) -> None:
    with pytest.raises(BadProxyHeader):
        read(header)


@given(st.binary(max_size=150))
def test_arbitrary_bytes_are_a_header_or_a_refusal_and_nothing_else(data: bytes) -> None:
    for start in (b"", b"PROXY ", SIGNATURE + b"\x21"):
        with contextlib.suppress(BadProxyHeader):
            read(start + data)
    with contextlib.suppress(BadProxyHeader):
        parse_v1(b"PROXY TCP4 " + data)


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    smtp = {"proxy_protocol": ["smtp", "submissions"], "proxy_from": ["127.0.0.1/32"], "proxy_s": 0.5}
    with Cell(tmp_path_factory.mktemp("proxied"), {"connections_per_address": 2}, sections={"smtp": smtp}) as cell:
        yield cell


def deliver(client: Dialogue) -> None:
    assert client.read().startswith("220 ")
    client.ask("EHLO client.test")
    client.begin("bob@example.test")
    assert client.transfer(b"Subject: proxied\r\n\r\nx\r\n").startswith("250")


@pytest.mark.parametrize(
    ("header", "literal"),
    [
        (b"PROXY TCP4 192.0.2.1 192.0.2.9 56324 25\r\n", b"[192.0.2.1]"),
        (v2("2001:db8::1", 4000), b"[IPv6:2001:db8::1]"),
        (b"PROXY UNKNOWN\r\n", b"[127.0.0.1]"),
    ],
)
def test_the_address_that_the_proxy_tells_stands_in_the_trace(proxied: Cell, header: bytes, literal: bytes) -> None:
    client = Dialogue(proxied.port("smtp"))
    client.send(header)
    deliver(client)
    assert b"Received: from client.test (" + literal in proxied.inbox("bob@example.test")[-1][0].trace
    client.close()


def test_limits_count_the_clients_and_not_their_proxy(proxied: Cell) -> None:
    clients = [Dialogue(proxied.port("smtp")) for _ in range(4)]
    for number, client in enumerate(clients):
        client.send(b"PROXY TCP4 192.0.2.%d 192.0.2.9 1 25\r\n" % (1 if number < 3 else 2))
    assert [client.read()[:3] for client in clients] == ["220", "220", "421", "220"]
    for client in clients:
        client.close()


def test_tls_begins_behind_the_header(proxied: Cell) -> None:
    client = Dialogue(proxied.port("submissions"))
    client.send(v2("192.0.2.7", 4000))
    client.upgrade(proxied.client_context())
    assert client.read().startswith("220 ")
    assert "AUTH" in client.ask("EHLO x")
    client.close()


@pytest.mark.parametrize("sent", [b"", b"EHLO client.test\r\n\r\n", b"PROXY TCP4 "])
def test_without_a_header_in_time_the_connection_is_closed(proxied: Cell, sent: bytes) -> None:
    client = Dialogue(proxied.port("smtp"))
    client.send(sent)
    assert client.line() == b""
    client.close()


def test_who_is_no_proxy_of_ours_is_refused(proxied: Cell) -> None:
    with socket.create_connection(("127.0.0.1", proxied.port("smtp")), 10, source_address=("127.0.0.2", 0)) as stranger:
        with contextlib.suppress(OSError):
            stranger.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.9 56324 25\r\n")
            assert stranger.recv(100) == b""


def test_on_a_listener_without_proxies_the_header_is_no_command(cell: Cell) -> None:
    client = Dialogue(cell.port("smtp"))
    client.send(b"PROXY TCP4 192.0.2.1 192.0.2.9 56324 25\r\n")
    assert client.read().startswith("220 ")
    assert client.read().startswith("500 5.5.1")
    client.close()


@pytest.fixture(scope="module")
def trusting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    with Cell(tmp_path_factory.mktemp("trusting"), sections={"smtp": {"xclient_from": ["127.0.0.1"]}}) as cell:
        yield cell


@pytest.fixture
def peer(trusting: Cell) -> Iterator[Dialogue]:
    dialogue = Dialogue(trusting.port("smtp"))
    dialogue.read()
    yield dialogue
    dialogue.close()


def test_a_trusted_peer_speaks_for_another_client_and_begins_anew(trusting: Cell, peer: Dialogue) -> None:
    assert "XCLIENT NAME ADDR PORT PROTO HELO DESTADDR DESTPORT" in peer.ask("EHLO proxy.test")
    answer = peer.ask(
        "XCLIENT NAME=mx.remote.test ADDR=IPV6:2001:db8::25 PORT=2525 PROTO=ESMTP HELO=hello+2Eremote.test"
    )
    assert answer.startswith("220 mx.example.test ESMTP")
    assert peer.ask("MAIL FROM:<a@remote.test>").startswith("503 ")
    peer.ask("EHLO hello.remote.test")
    peer.begin("bob@example.test")
    assert peer.transfer(b"Subject: x\r\n\r\nx\r\n").startswith("250")
    trace = trusting.inbox("bob@example.test")[-1][0].trace
    assert b"Received: from hello.remote.test (mx.remote.test [IPv6:2001:db8::25])" in trace


@pytest.mark.parametrize(
    "attributes",
    [
        "",
        "ADDR",
        "ADDR=nowhere",
        "ADDR=IPV6:192.0.2.1",
        "PORT=99999",
        "PROTO=UUCP",
        "LOGIN=alice",
        "HELO=a+20b",
        "NAME=+",
    ],
)
def test_malformed_attributes_are_refused(peer: Dialogue, attributes: str) -> None:
    assert peer.ask(f"XCLIENT {attributes}").startswith("501 5.5.4")


def test_a_client_that_is_not_known_is_not_taken_for_this_machine(trusting: Cell, peer: Dialogue) -> None:
    peer.ask("EHLO proxy.test")
    assert peer.ask("XCLIENT ADDR=[UNAVAILABLE] NAME=[TEMPUNAVAIL]").startswith("220 ")
    deliver_after_greeting(peer)
    assert b"([127.0.0.1])" in trusting.inbox("bob@example.test")[-1][0].trace  # the proxy's own


def deliver_after_greeting(client: Dialogue) -> None:
    client.ask("EHLO client.test")
    client.begin("bob@example.test")
    assert client.transfer(b"Subject: x\r\n\r\nx\r\n").startswith("250")


def test_not_in_a_transaction_and_not_from_a_stranger(peer: Dialogue, cell: Cell) -> None:
    peer.ask("EHLO proxy.test")
    peer.begin("bob@example.test")
    assert peer.ask("XCLIENT ADDR=192.0.2.1").startswith("503 5.5.1")
    stranger = Dialogue(cell.port("smtp"))
    stranger.read()
    assert "XCLIENT" not in stranger.ask("EHLO x")
    assert stranger.ask("XCLIENT ADDR=192.0.2.1").startswith("550 5.7.0")
    stranger.close()
