"""Frames between nodes: four bytes of length, then MessagePack. Bytes in, messages out; no I/O.

Peers are authenticated, and still a frame may be damaged or hostile: lengths are limited before anything is allocated,
and nothing but MessagePack's plain types is ever built.
"""

from collections.abc import Iterator
from typing import Any

import msgpack

from eventlog.errors import FrameError

MAX_FRAME_BYTES = 16 * 1024 * 1024
LENGTH_BYTES = 4
ONE_PIECE_BYTES = 16 * 1024  # of TLS too: what is sent in two pieces is encrypted and read as two

_packb = msgpack.Packer(use_bin_type=True, autoreset=True).pack


def encode_frame(message: dict[str, Any]) -> bytes:
    """One message as bytes. Raises FrameError when it is over the limit."""
    return b"".join(frame_parts(message))


def frame_parts(message: dict[str, Any]) -> tuple[bytes, ...]:
    """The same in one piece or two: a large one is not copied to stand behind its length."""
    payload = bytes(_packb(message))
    if len(payload) > MAX_FRAME_BYTES:
        raise FrameError(f"a message of {len(payload)} bytes is over the limit of {MAX_FRAME_BYTES}")
    length = len(payload).to_bytes(LENGTH_BYTES, "big")
    return (length, payload) if len(payload) > ONE_PIECE_BYTES else (length + payload,)


class FrameReader:
    """Takes bytes as they come and gives whole messages. Raises FrameError; the connection must then be closed.

    Room for a frame is made once, when its length is known: one that grew with each piece would be copied many times.
    One that has come whole is read where it is.
    """

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max = max_frame_bytes
        self._head = b""  # of the length, while not all of it is there
        self._frame: memoryview | None = None
        self._filled = 0

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        at = 0
        while at < len(data):
            if self._frame is None and (end := self._end(data, at)) is not None:
                yield _decode(memoryview(data)[at + LENGTH_BYTES : end])
                at = end
                continue
            if self._frame is None:
                at += self._begin(data[at : at + LENGTH_BYTES - len(self._head)])
                if self._frame is None:
                    return
            at += self._fill(self._frame, data, at)
            if self._filled == len(self._frame):
                frame, self._frame = self._frame, None
                yield _decode(frame)

    def _end(self, data: bytes, at: int) -> int | None:
        """Where a frame ends that begins here and has come whole; None for any other."""
        first = at + LENGTH_BYTES
        if self._head or first > len(data):
            return None
        length = int.from_bytes(data[at:first], "big")
        return first + length if length <= self._max and first + length <= len(data) else None

    def _begin(self, piece: bytes) -> int:
        self._head += piece
        if len(self._head) == LENGTH_BYTES:
            length, self._head = int.from_bytes(self._head, "big"), b""
            if length > self._max:
                raise FrameError(f"a frame of {length} bytes is over the limit of {self._max}")
            self._frame, self._filled = memoryview(bytearray(length)), 0
        return len(piece)

    def _fill(self, frame: memoryview, data: bytes, at: int) -> int:
        size = min(len(frame) - self._filled, len(data) - at)
        frame[self._filled : self._filled + size] = memoryview(data)[at : at + size]
        self._filled += size
        return size


def _decode(payload: memoryview) -> dict[str, Any]:
    try:
        message = msgpack.unpackb(payload, use_list=False, max_str_len=MAX_FRAME_BYTES, max_bin_len=MAX_FRAME_BYTES)
    except Exception as error:
        raise FrameError(f"not MessagePack: {error}") from error
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise FrameError("a message is a map with a type")
    return message
