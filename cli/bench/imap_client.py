"""The client of `mailraft bench imap`: it does as little as it can, so that what is measured is the server.

It sends a command and counts the bytes until its tagged answer; nothing is parsed. APPENDs go without waiting for a
continuation (RFC 7888), each in one write.
"""

from __future__ import annotations

import hashlib
import selectors
import socket
import time
from collections.abc import Iterable, Sequence

TIMEOUT_S = 300.0
READ_BYTES = 1 << 18
KEPT_BYTES = 4096
NEEDLE, STRAW = "needleinhay", "strawandhay"
NEEDLE_EVERY = 100


class ImapFailed(Exception):
    """A server refused what the benchmark asks for, or hung up; the text says what."""


class ImapClient:
    """One session, logged in. Raises ImapFailed or OSError."""

    def __init__(self, endpoint: str, user: str, password: str) -> None:
        host, _, port = endpoint.rpartition(":")
        self.socket = socket.create_connection((host.strip("[]"), int(port)), TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._number = 0
        self._tail = b""
        self.until(b"* OK")
        self.do(f'LOGIN "{user}" "{password}"')

    def close(self) -> None:
        self.socket.close()

    def do(self, command: str) -> int:
        """Bytes of the answer."""
        self.send(command.encode())
        return self.answer()

    def send(self, command: bytes, literal: bytes | None = None) -> None:
        """Begins a command; `answer` or `take` has to follow."""
        self._number += 1
        self._tag = b"t%d " % self._number
        end = b"\r\n" if literal is None else b" {%d+}\r\n%b\r\n" % (len(literal), literal)
        self._tail = b"\r\n"
        self.socket.sendall(self._tag + command + end)

    def answer(self) -> int:
        """Waits for the tagged answer; bytes of all that came."""
        received = 0
        while True:
            data = self.socket.recv(READ_BYTES)
            received += len(data)
            if self.take(data):
                return received

    def take(self, data: bytes) -> bool:
        """Whether this ends the command that was sent last. Raises ImapFailed when it failed."""
        if not data:
            raise ImapFailed("the server closed the connection")
        self._tail = (self._tail + data)[-KEPT_BYTES:]
        if not self._tail.endswith(b"\r\n"):
            return False
        at = self._tail.rfind(b"\r\n" + self._tag)
        if at < 0:
            return False
        found = self._tail[at + 2 + len(self._tag) :]
        if not found.startswith(b"OK"):
            raise ImapFailed(f"the server answered {found[:200].decode('latin-1').strip()}")
        return True

    def until(self, text: bytes) -> None:
        """Reads until this has come, at the end of a line or before."""
        received = b""
        while text not in received or not received.endswith(b"\r\n"):
            data = self.socket.recv(READ_BYTES)
            if not data:
                raise ImapFailed("the server closed the connection")
            received += data


def message(number: int, size_bytes: int) -> bytes:
    """A message of about so many bytes, unlike those of other numbers; NEEDLE stands in one of NEEDLE_EVERY."""
    word = NEEDLE if number % NEEDLE_EVERY == NEEDLE_EVERY // 2 else STRAW
    head = (
        f"From: Sender {number} <s{number}@sender.test>\r\nTo: Alice <alice@bench.test>\r\n"
        f"Subject: message number {number}\r\nMessage-ID: <bench-{number}@sender.test>\r\n"
        f"Date: Fri, 20 Nov 2026 10:{number // 60 % 60:02d}:{number % 60:02d} +0000\r\n\r\n{word}\r\n"
    )
    line = hashlib.sha256(str(number).encode()).hexdigest() + "\r\n"
    return (head + line * max(0, (size_bytes - len(head)) // len(line))).encode()


def append_all(clients: Sequence[ImapClient], folder: str, messages: Iterable[bytes]) -> float:
    """Every session appends one message after the other until none is left; seconds from the first to the last."""
    command, left = f"APPEND {folder}".encode(), iter(messages)
    with selectors.DefaultSelector() as selector:
        began_s = time.perf_counter()
        for client, data in zip(clients, left, strict=False):
            selector.register(client.socket, selectors.EVENT_READ, client)
            client.send(command, data)
        while selector.get_map():
            for key, _ in selector.select(TIMEOUT_S):
                client = key.data
                if not client.take(client.socket.recv(READ_BYTES)):
                    continue
                following = next(left, None)
                if following is None:
                    selector.unregister(client.socket)
                else:
                    client.send(command, following)
        return time.perf_counter() - began_s


def fill(client: ImapClient, folder: str, messages: Iterable[bytes], at_once: int) -> None:
    """Appends them, so many in one command (RFC 3502)."""
    batch: list[bytes] = []
    for one in messages:
        batch.append(b" {%d+}\r\n%b" % (len(one), one))
        if len(batch) == at_once:
            _append_batch(client, folder, batch)
    if batch:
        _append_batch(client, folder, batch)


def _append_batch(client: ImapClient, folder: str, batch: list[bytes]) -> None:
    client.send(f"APPEND {folder}".encode() + b"".join(batch))
    client.answer()
    batch.clear()
