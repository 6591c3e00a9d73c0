"""COMPRESS=DEFLATE (RFC 4978): a connection's bytes through raw deflate, a bounded piece at a time.

What is inflated is never more than was asked for, so a small input that stands for a huge one costs no memory; the
windows are small enough for thousands of compressed sessions.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from nodes.imap.errors import Farewell, Refusal
from nodes.imap.shared import Handler
from nodes.imap.sync_commands import Compress

if TYPE_CHECKING:
    from nodes.imap.session import Session

_LEVEL = 3
_WINDOW_BITS = 13
_MEMORY_LEVEL = 6  # with that window: 64 KiB a session


class Compression:
    """Both directions of one connection."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, -_WINDOW_BITS, _MEMORY_LEVEL)
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._waiting = b""
        self._holds_more = False  # zlib has taken all that arrived, and not given all that it stands for

    def deflated(self, data: bytes) -> bytes:
        """To be sent as it is: nothing stays behind."""
        return self._deflate.compress(data) + self._deflate.flush(zlib.Z_SYNC_FLUSH)

    def feed(self, data: bytes) -> None:
        """Takes bytes as they arrived."""
        self._waiting += data

    @property
    def waits(self) -> bool:
        """Whether there are bytes that were not inflated yet."""
        return bool(self._waiting) or self._holds_more

    def inflated(self, limit_bytes: int) -> bytes:
        """The next bytes, at most so many. Raises zlib.error for what is no deflate stream."""
        if not self.waits or limit_bytes <= 0:
            return b""
        if self._inflate.eof:
            raise zlib.error("data behind the end of the stream")
        data = self._inflate.decompress(self._waiting, limit_bytes)
        self._waiting = self._inflate.unconsumed_tail or self._inflate.unused_data
        self._holds_more = len(data) == limit_bytes
        return data


async def compress(session: Session, command: Compress) -> str:
    """RFC 4978 3. What was sent behind the command must have waited for the answer."""
    if command.mechanism != "DEFLATE":
        raise Refusal("this mechanism is not supported", "CANNOT")
    if session.connection.compressed:
        raise Refusal("it is compressed already", "COMPRESSIONACTIVE")
    if session.framer.buffered or session.connection.has_input:
        raise Farewell("nothing may follow COMPRESS before its answer", error="out_of_order")

    async def begin() -> None:
        session.connection.compress(Compression())

    session.after_reply = begin
    return "DEFLATE active"


HANDLERS: dict[type, Handler] = {Compress: compress}
