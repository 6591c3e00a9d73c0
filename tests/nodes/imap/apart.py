"""A node in a process of its own, so that its memory can be seen from outside."""

import multiprocessing
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from tests.nodes.imap.client import RawClient
from tests.nodes.imap.node import PASSWORD, Node, User

MIB = 1024 * 1024
MAP_SIZE_BYTES = 1 << 30
START_S = 60
STOP_S = 60
PATIENCE_S = 300  # of a client, where the node has much to do


class Apart(NamedTuple):
    """The node, and its one account."""

    process: multiprocessing.process.BaseProcess
    port: int
    user: User

    def resident_bytes(self) -> int:
        """All of its memory, pages of the log that the system keeps for it among them."""
        return self._status_bytes("VmRSS")

    def own_bytes(self) -> int:
        """What it has for itself, without those pages."""
        return self._status_bytes("RssAnon")

    def _status_bytes(self, name: str) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)
        assert found
        return int(found[1]) * 1024

    def login(self) -> RawClient:
        client = RawClient(self.port)
        client.socket.settimeout(PATIENCE_S)
        client.ok(f'LOGIN {self.user.login} "{PASSWORD}"')
        return client


@contextmanager
def node_apart(folder: Path, map_size_bytes: int = MAP_SIZE_BYTES) -> Iterator[Apart]:
    """The node runs inside the block."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(folder, map_size_bytes, theirs))
    process.start()
    try:
        assert ours.poll(START_S)
        yield Apart(process, *ours.recv())
        ours.send("end")
        process.join(STOP_S)
    finally:
        process.kill()
        process.join()


def _serve(folder: Path, map_size_bytes: int, end: Connection) -> None:
    node = Node(folder, {"message_bytes": MIB}, map_size_bytes=map_size_bytes)
    end.send((node.port, node.add_user()))
    end.recv()
    node.stop()


def fill(client: RawClient, mailbox: str, messages: int) -> None:
    """The mailbox, which has one message and is selected, gets that many: copies of it, of the copies, and so on."""
    held = 1
    while held < messages:
        count = min(held, messages - held)
        client.ok(f"COPY 1:{count} {mailbox}")
        held += count
    client.ok("NOOP")


def unread(apart: Apart, mailbox: str) -> RawClient:
    """A client that has looked into the mailbox, and for whose socket the system keeps next to nothing."""
    client = apart.login()
    client.ok(f"EXAMINE {mailbox}")
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return client
