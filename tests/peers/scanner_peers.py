"""An HTTP server that answers as an Rspamd would, or as none would; and a clamd of the same kind."""

from __future__ import annotations

import json
import re
import socket
import struct
from typing import Any

from tests.peers.filter_peer import FilterPeer, read, read_until

NO_ACTION = {"action": "no action", "score": 0.1, "required_score": 15.0, "symbols": {}, "messages": {}}


def http(body: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status.encode(), len(body), body)


class RspamdPeer(FilterPeer):
    """`answer` is what the next requests get: JSON, or octets as they are. `headers` and `body`: the last request."""

    def __init__(self) -> None:
        super().__init__(self.converse)
        self.answer: Any = NO_ACTION
        self.path = ""
        self.headers: list[tuple[str, str]] = []
        self.body = b""

    def begin(self, answer: Any = None) -> None:
        self.serve = self.converse
        self.answer = answer or NO_ACTION

    def converse(self, connection: socket.socket) -> None:
        while True:
            self.take(connection)
            octets = self.answer if isinstance(self.answer, bytes) else http(json.dumps(self.answer).encode())
            connection.sendall(octets)

    def take(self, connection: socket.socket) -> None:
        """A request, whole."""
        head = read_until(connection, b"\r\n\r\n").decode()
        first, *lines = head.strip().split("\r\n")
        self.path = first.split(" ")[1]
        self.headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
        size = re.search(r"(?i)content-length: (\d+)", head)
        self.body = read(connection, int(size[1])) if size else b""

    def told(self, name: str) -> list[str]:
        return [value for one, value in self.headers if one == name]


class ClamdPeer(FilterPeer):
    """`answer`: what it says of a stream, with the NUL. `scanned`: the last one."""

    def __init__(self) -> None:
        super().__init__(self.converse)
        self.answer = b"stream: OK\0"
        self.scanned = b""

    def begin(self, answer: bytes = b"stream: OK\0") -> None:
        self.serve, self.answer = self.converse, answer

    def converse(self, connection: socket.socket) -> None:
        command = read_until(connection, b"\0")
        if command == b"zPING\0":
            connection.sendall(b"PONG\0")
            return
        scanned = b""
        while size := struct.unpack(">I", read(connection, 4))[0]:
            scanned += read(connection, size)
        self.scanned = scanned
        connection.sendall(self.answer)
