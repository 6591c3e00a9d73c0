"""A message as it goes over the wire: dots doubled (RFC 5321 4.5.2), an end that is an end.

A line that begins behind a bare LF has its dot doubled too: a server that takes a bare LF for a line end must not find
the end of the message, and a second message, in the middle of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nodes.delivery.attempt import Read
from nodes.mime import header
from nodes.mime.header import header_end

END = b".\r\n"
SLICE_BYTES = 64 * 1024
BLANK = (b"\r\n\r\n", b"\n\n")
HEADER_BYTES = 1024 * 1024
TLS_REQUIRED = b"tls-required"


class DotStuffing:
    """Slices in, slices out; `end` gives what comes last."""

    def __init__(self) -> None:
        self._last = b"\r\n"

    def part(self, data: bytes) -> bytes:
        """The next slice, which may begin and end anywhere."""
        if not data:
            return data
        stuffed = data.replace(b"\n.", b"\n..")
        if self._last.endswith(b"\n") and data.startswith(b"."):
            stuffed = b"." + stuffed
        self._last = (self._last + data[-2:])[-2:]
        return stuffed

    def end(self) -> bytes:
        """The line end that the message lacks, and the dot."""
        return END if self._last == b"\r\n" else b"\r\n" + END


@asynccontextmanager
async def opened(read: Read) -> AsyncIterator[AsyncIterator[bytes]]:
    """The message's parts from the first; whatever holds them is let go of at the end of the block."""
    parts = read()
    try:
        yield parts
    finally:
        close = getattr(parts, "aclose", None)
        if close is not None:
            await close()


async def in_slices(data: bytes) -> AsyncIterator[bytes]:
    """A message that is in memory, as it is read."""
    for start in range(0, len(data), SLICE_BYTES):
        yield data[start : start + SLICE_BYTES]


async def has_ascii_header(read: Read) -> bool:
    """Whether nothing before the first blank line is beyond ASCII (RFC 6532)."""
    last = b""
    async with opened(read) as parts:
        async for part in parts:
            data = last + part
            ends = [found for blank in BLANK if (found := data.find(blank)) >= 0]
            if ends:
                return data[: min(ends)].isascii()
            if not part.isascii():
                return False
            last = data[-3:]
    return True


async def waives_tls(read: Read) -> bool:
    """Whether its header says that arriving counts for more than being read by nobody (RFC 8689 5)."""
    data = b""
    async with opened(read) as parts:
        async for part in parts:
            data += part
            if len(data) > HEADER_BYTES or any(blank in data for blank in BLANK):
                break
    end = header_end(data, 0, min(len(data), HEADER_BYTES))
    values = (header.value_of(data, one) for one in header.fields(data, 0, end) if one.name.lower() == TLS_REQUIRED)
    return any(value.strip().lower() == b"no" for value in values)


async def is_ascii(read: Read) -> bool:
    """Whether no octet of it has its high bit set (RFC 6152)."""
    async with opened(read) as parts:
        async for part in parts:
            if not part.isascii():
                return False
    return True
