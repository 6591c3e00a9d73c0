"""A message that comes in chunks: BDAT (RFC 3030 2). Pure: octets in, replies come from the connection.

Every chunk that is announced is read, whatever becomes of its message, since nothing else tells where the next command
begins. After one chunk was refused the message is lost: later chunks are read, thrown away and answered 503.
"""

from __future__ import annotations

from typing import NamedTuple

from nodes.smtp import replies
from nodes.smtp.replies import Refused

CHUNK_BYTES = 1 << 40  # nobody means more, so it is not read to its end


class Chunk(NamedTuple):
    """The argument of BDAT."""

    size_bytes: int
    last: bool


def parse_chunk(argument: bytes) -> Chunk:
    """chunk-size [LAST]. Raises Refused; then nobody knows where the chunk ends."""
    size, _, rest = argument.strip().partition(b" ")
    rest = rest.strip().upper()
    if not size.isdigit() or int(size[:14]) > CHUNK_BYTES or len(size) > 14 or rest not in (b"", b"LAST"):
        raise Refused(replies.BAD_CHUNK)
    return Chunk(int(size), rest == b"LAST")


class ChunkedMessage:
    """What has come of one message, at most `limit_bytes`. `refusal`: why it will not be taken, if it will not."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._data = bytearray()  # no list: chunks of few octets would take many times their size
        self._left_bytes = 0  # of the present chunk
        self.chunk_bytes = 0
        self.size_bytes = 0
        self.last = False
        self.refusal: bytes | None = None

    @property
    def held_bytes(self) -> int:
        """How much memory the message takes so far."""
        return 0 if self.refusal else self.size_bytes

    def begin(self, chunk: Chunk) -> None:
        """The next chunk follows."""
        self.chunk_bytes = self._left_bytes = chunk.size_bytes
        self.last = chunk.last
        if self.refusal is not None:
            self.refusal = replies.MESSAGE_LOST
        elif self.size_bytes + chunk.size_bytes > self._limit_bytes:
            self.refuse(replies.TOO_BIG)

    def refuse(self, reply: bytes) -> None:
        """Keeps nothing of this message; the present chunk is answered with `reply`."""
        self.refusal = reply
        self._data = bytearray()

    def feed(self, data: bytes) -> bytes | None:
        """Takes what is of the chunk; returns what comes behind it, or None: more is needed."""
        part = data[: self._left_bytes]
        self._left_bytes -= len(part)
        if self.refusal is None and part:
            self.size_bytes += len(part)
            self._data += part
        return None if self._left_bytes else data[len(part) :]

    def data(self) -> bytes:
        """The message, after its last chunk."""
        return bytes(self._data)
