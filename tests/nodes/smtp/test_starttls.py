"""STARTTLS with clients that waste no packet: the first command comes with the last message of the handshake."""

from __future__ import annotations

import socket
import ssl

import pytest

from tests.nodes.smtp.cell import Cell


class JoinedTls:
    """A TLS client over a socket that sends its Finished and what follows it in one segment."""

    def __init__(self, sock: socket.socket, version: ssl.TLSVersion) -> None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.maximum_version = version
        self._socket = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")

    def begin_with(self, command: bytes) -> bytes:
        """Shakes hands, sends `command` at once, and gives the first line of the answer."""
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._socket.sendall(self._outgoing.read())
                self._incoming.write(self._socket.recv(65536))
        self._tls.write(command)
        self._socket.sendall(self._outgoing.read())
        answer = b""
        while b"\r\n" not in answer:
            try:
                answer += self._tls.read(4096)
            except ssl.SSLWantReadError:
                data = self._socket.recv(65536)
                assert data, "closed"
                self._incoming.write(data)
        return answer.partition(b"\r\n")[0]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2], ids=["1.3", "1.2"])
@pytest.mark.parametrize(
    ("kind", "before", "ask", "command", "expected"),
    [
        ("smtp", b"EHLO c.test\r\n", b"STARTTLS\r\n", b"EHLO c.test\r\n", b"250-mx.example.test"),
        ("submission", b"EHLO c.test\r\n", b"STARTTLS\r\n", b"EHLO c.test\r\n", b"250-mx.example.test"),
        ("lmtp", b"LHLO c.test\r\n", b"STARTTLS\r\n", b"LHLO c.test\r\n", b"250-mx.example.test"),
        ("pop3", b"", b"STLS\r\n", b"CAPA\r\n", b"+OK"),
    ],
)
def test_a_command_that_comes_with_the_end_of_the_handshake_is_answered(
    cell: Cell, kind: str, before: bytes, ask: bytes, command: bytes, expected: bytes, version: ssl.TLSVersion
) -> None:
    with socket.create_connection(("127.0.0.1", cell.port(kind)), timeout=10) as sock:
        lines = sock.makefile("rb")
        lines.readline()
        if before:
            sock.sendall(before)
            while lines.readline()[3:4] == b"-":
                pass
        sock.sendall(ask)
        assert lines.readline().startswith((b"220 ", b"+OK"))
        assert JoinedTls(sock, version).begin_with(command).startswith(expected)
