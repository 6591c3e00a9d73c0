"""A filter on loopback that does what a test tells it: `serve` has each connection to itself, in a thread of its own.

with FilterPeer(serve) as peer:
    peer.serve = another           # from the next connection on
    peer.hang_up()                 # nobody listens any more ...
    peer.listen()                  # ... and again, at the same port
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

Serve = Callable[[socket.socket], None]


class FilterPeer:
    """`address`: where it listens. `connections`: how many there were. `over` is set when it ends."""

    def __init__(self, serve: Serve) -> None:
        self.serve = serve
        self.connections = 0
        self.over = threading.Event()
        self._port = 0
        self._open: list[socket.socket] = []
        self._listening: socket.socket | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self.listen()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self.over.set()
        self.hang_up()

    def listen(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", self._port), backlog=64)
        self._port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def hang_up(self) -> None:
        """Closes what is open, too."""
        if self._listening is not None:
            with contextlib.suppress(OSError):
                self._listening.shutdown(socket.SHUT_RDWR)
            self._listening.close()
            self._listening = None
        self.drop()

    def drop(self) -> None:
        """Resets every connection."""
        while self._open:
            reset(self._open.pop())

    def stall(self, _: socket.socket) -> None:
        """For `serve`, or within it: does nothing until the peer ends."""
        self.over.wait(60)

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                self.connections += 1
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError), connection:
            self.serve(connection)


def reset(connection: socket.socket) -> None:
    """As a process that is killed closes it, with data unread."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()


def read(connection: socket.socket, size: int) -> bytes:
    """So many bytes; raises EOFError."""
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def read_until(connection: socket.socket, end: bytes) -> bytes:
    """Up to `end`, with it; raises EOFError."""
    data = b""
    while not data.endswith(end):
        data += read(connection, 1)
    return data
