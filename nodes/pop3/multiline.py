"""Multi-line answers: byte-stuffing, the final dot, and the head of a message for TOP (RFC 1939 3 and 7). Pure.

A dot is stuffed after a bare LF too: a message that came through IMAP may have some, and clients that split lines
there would take the dot for the end.
"""

from __future__ import annotations

from collections.abc import Iterator

SLICE_BYTES = 64 * 1024


def sliced(*parts: bytes) -> Iterator[memoryview]:
    """The parts one after another, in pieces of at most 64 KiB, without copying."""
    for part in parts:
        view = memoryview(part)
        for at in range(0, len(view), SLICE_BYTES):
            yield view[at : at + SLICE_BYTES]


def stuffed(*parts: bytes) -> Iterator[bytes]:
    """The parts as one multi-line answer, in pieces, up to and with the line that is a dot alone."""
    last = b"\n"  # the status line before
    before = b"\r"
    for piece in sliced(*parts):
        data = bytes(piece)
        text = data.replace(b"\n.", b"\n..")
        yield b"." + text if last == b"\n" and data[:1] == b"." else text
        before, last = data[-2:-1] or last, data[-1:]
    yield b".\r\n" if (before, last) == (b"\r", b"\n") else b"\r\n.\r\n"


def top(data: bytes, lines: int) -> bytes:
    """The header, the empty line and the first `lines` lines of the body (RFC 1939 7)."""
    end = _header_end(data)
    for _ in range(lines):
        next_line = data.find(b"\n", end)
        if next_line < 0:
            return data
        end = next_line + 1
    return data[:end]


def is_utf8(header: bytes) -> bool:
    """Whether it has UTF-8 outside ASCII (RFC 6532), and not octets of an unknown charset."""
    if header.isascii():
        return False
    try:
        header.decode()
    except UnicodeDecodeError:
        return False
    return True


def _header_end(data: bytes) -> int:
    if data.startswith((b"\r\n", b"\n")):
        return data.index(b"\n") + 1
    ends = [found + len(mark) for mark in (b"\n\r\n", b"\n\n") if (found := data.find(mark)) >= 0]
    return min(ends, default=len(data))
